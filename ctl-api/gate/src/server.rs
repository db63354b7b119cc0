//! The connections of a server: by the Unix socket and, if configured, TCP with mutual
//! TLS. Every connection gets a guard, which every call of it passes.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::server::TlsStream;

use crate::accounts::{Account, LimitReached, Owner};
use crate::certificate::CertificateFacts;
use crate::first_bytes::FirstBytes;
use crate::guard::{Guard, Needs, Standing};
use crate::limits::ApiLimits;
use crate::services::Services;
use crate::tls::{self, Tls};
use crate::unproven::Unproven;
use crate::{Grant, Peer, Security, Via};

/// What HTTP/2 keeps of one stream's replies while the client's side is full,
/// bytes.
const SEND_BUFFER: usize = 64 << 10;
/// Bytes that a client may send before they are taken, on a connection and on
/// a stream of it.
const WINDOW: u32 = 1 << 20;
/// Pause after a connection could not be accepted, most often for want of
/// file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long a TCP client may take for its first byte: it has nothing to wait for.
const FIRST_BYTE: Duration = Duration::from_secs(2);
/// How long a client that is sent away has to read why.
const PARTING: Duration = Duration::from_millis(500);
/// How often certificates of clients are looked at again at least.
const VALIDITY_CHECK: Duration = Duration::from_secs(60);
/// At most one line a second is logged about clients that are sent away.
const COMPLAINT_PAUSE: u64 = 1000;

/// Everything that connections share.
pub struct Server<G> {
    services: Services,
    needs: Needs,
    security: Security<G>,
    http: http2::Builder<TokioExecutor>,
    /// Room for connections by the Unix socket and over TCP.
    on_socket: Arc<Semaphore>,
    over_tcp: Arc<Semaphore>,
    unproven: Arc<Unproven>,
    /// When the last complaint was logged, and since when.
    complained: AtomicU64,
    started: Instant,
}

impl<G: Grant> Server<G> {
    /// A server of these services, whose methods need this.
    pub fn new(services: Services, needs: Needs, security: Security<G>) -> Arc<Self> {
        let limits = security.accounts.limits();
        let http = protocol(limits);
        let room = |most| Arc::new(Semaphore::new(most));
        let (on_socket, over_tcp) = (room(limits.connections), room(limits.connections));
        let unproven = Unproven::new(limits.handshakes);
        let complained = AtomicU64::new(0);
        let started = Instant::now();
        Arc::new(Self { services, needs, security, http, on_socket, over_tcp, unproven, complained, started })
    }

    /// The services.
    pub fn services(&self) -> &Services {
        &self.services
    }

    /// Serves those who come to the Unix socket. Never ends.
    pub async fn serve_socket(self: Arc<Self>, listener: UnixListener) -> Infallible {
        let own_uid = rustix::process::geteuid().as_raw();
        loop {
            let stream = accepted(|| listener.accept()).await.0;
            let Ok(place) = Arc::clone(&self.on_socket).try_acquire_owned() else {
                self.complain("the Unix socket", &self.full());
                continue;
            };
            let server = Arc::clone(&self);
            tokio::spawn(async move {
                server.attend_socket(stream, own_uid).await;
                drop(place);
            });
        }
    }

    /// Serves those who come over TCP. Never ends.
    pub async fn serve_tcp(self: Arc<Self>, listener: TcpListener, tls: Arc<Tls>) -> Infallible {
        loop {
            let (stream, address) = accepted(|| listener.accept()).await;
            let (mut place, pushed_out) = self.unproven.enter(address.ip());
            if pushed_out {
                let value = self.limits().handshakes;
                let limit = LimitReached { key: "api.limits.handshakes", value };
                self.complain("a client that did not prove who it is", &limit);
            }
            let (server, tls) = (Arc::clone(&self), Arc::clone(&tls));
            tokio::spawn(async move {
                let stream = tokio::select! {
                    stream = server.shake_hands(stream, address, &tls) => stream,
                    () = place.lost() => None,
                };
                // Who has proved who it is makes room for the next to do so.
                drop(place);
                let Some(stream) = stream else { return };
                match Arc::clone(&server.over_tcp).try_acquire_owned() {
                    Ok(_place) => server.attend_tls(stream, address, &tls).await,
                    Err(_) => server.complain(&address.to_string(), &server.full()),
                }
            });
        }
    }

    async fn shake_hands(
        &self,
        stream: TcpStream,
        address: SocketAddr,
        tls: &Tls,
    ) -> Option<TlsStream<TcpStream>> {
        // Without it a small reply waits for the client's delayed ACK.
        let _ = stream.set_nodelay(true);
        let first = tokio::time::timeout(FIRST_BYTE.min(self.limits().handshake), stream.readable());
        if first.await.is_err() {
            self.log(|| tracing::warn!("{address} was sent away: it did not begin to speak"));
            return None;
        }
        let loaded = tls.current()?;
        let handshake = TlsAcceptor::from(Arc::clone(&loaded.config)).accept(stream).into_fallible();
        match tokio::time::timeout(self.limits().handshake, handshake).await {
            Ok(Ok(stream)) => Some(stream),
            Ok(Err((error, stream))) => {
                self.log(|| tracing::warn!("{address} was sent away: {error}"));
                let _ = tokio::time::timeout(PARTING, part_from(stream)).await;
                None
            }
            Err(_) => {
                let seconds = self.limits().handshake.as_secs();
                self.log(|| tracing::warn!("{address} was sent away: no TLS handshake within {seconds} s"));
                None
            }
        }
    }

    async fn attend_socket(&self, stream: UnixStream, own_uid: u32) {
        let Ok(credentials) = stream.peer_cred() else { return };
        let peer = Arc::new(self.security.roles.on_socket(credentials.uid(), own_uid));
        let owner = Owner::User(credentials.uid());
        self.attend(stream, owner, Standing::Known(peer), std::future::pending()).await;
    }

    async fn attend_tls(&self, stream: TlsStream<TcpStream>, address: SocketAddr, settings: &Tls) {
        let chain = stream.get_ref().1.peer_certificates().map(<[CertificateDer<'_>]>::to_vec);
        let chain = chain.unwrap_or_default();
        let facts: Vec<_> =
            chain.iter().filter_map(|certificate| CertificateFacts::read(certificate).ok()).collect();
        let end_of_validity = facts.iter().map(|facts| facts.not_after).min().unwrap_or(i64::MAX);
        let names = facts.into_iter().next().map(|facts| facts.names).unwrap_or_default();
        let peer = self.security.roles.by_certificate(&names, Via::Tls { address });
        let (owner, standing) = match peer {
            Some(peer) => (Owner::Name(peer.name.clone()), Standing::Known(Arc::new(peer))),
            None => (Owner::Strangers, Standing::Stranger(names)),
        };
        let distrusted = async {
            let mut versions = settings.versions();
            loop {
                // Also the first time: files may have changed since the
                // handshake.
                if let Some(Err(why)) = settings.current().map(|loaded| loaded.still_trusts(&chain)) {
                    self.log(|| {
                        tracing::warn!("{address} is sent away: its certificate is good no more: {why}");
                    });
                    return;
                }
                let left = end_of_validity.saturating_sub(tls::now()).saturating_add(1);
                let left = Duration::from_secs(u64::try_from(left).unwrap_or_default().max(1));
                tokio::select! {
                    changed = versions.changed() => {
                        if changed.is_err() {
                            return;
                        }
                    }
                    // Somebody may set the clock meanwhile.
                    () = tokio::time::sleep(left.min(VALIDITY_CHECK)) => {}
                }
            }
        };
        self.attend(stream, owner, standing, distrusted).await;
    }

    /// Serves one connection until its end, or until `enough`.
    async fn attend<I>(&self, io: I, owner: Owner, standing: Standing<G>, enough: impl Future<Output = ()>)
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let name = shown(&standing);
        let connected = match self.security.accounts.connect(owner, Instant::now()) {
            Ok(connected) => connected,
            Err(limit) => return self.complain(&name, &limit),
        };
        tracing::debug!(peer = %name, "connected");
        let guard = self.guard(standing, connected.account());
        let service = service_fn(move |request| {
            let guard = Arc::clone(&guard);
            async move { Ok::<_, Infallible>(guard.answer(request).await) }
        });
        let io = TokioIo::new(FirstBytes::new(io, self.limits().handshake));
        tokio::select! {
            ended = self.http.serve_connection(io, service) => match ended {
                Ok(()) => tracing::debug!(peer = %name, "disconnected"),
                Err(error) => tracing::debug!(peer = %name, "disconnected: {error:?}"),
            },
            () = enough => {}
        }
    }

    fn guard(&self, standing: Standing<G>, account: &Arc<Account>) -> Arc<Guard<G>> {
        Arc::new(Guard::new(standing, Arc::clone(account), self.services.routes(), self.needs))
    }

    fn limits(&self) -> &ApiLimits {
        self.security.accounts.limits()
    }

    fn full(&self) -> LimitReached {
        LimitReached { key: "api.limits.connections", value: self.limits().connections }
    }

    fn complain(&self, whom: &str, LimitReached { key, value }: &LimitReached) {
        self.log(|| tracing::warn!("a connection of {whom} was closed: {key} = {value} is reached"));
    }

    /// Logs, unless it has within the last second: clients cannot fill a disk.
    fn log(&self, line: impl FnOnce()) {
        let now = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let due = |last: u64| (last == 0 || now - last.min(now) >= COMPLAINT_PAUSE).then_some(now.max(1));
        if self.complained.fetch_update(Ordering::Relaxed, Ordering::Relaxed, due).is_ok() {
            line();
        }
    }
}

/// Lets a client read why it was sent away: closing while something of its own
/// is unread would take that from it.
async fn part_from(mut stream: TcpStream) -> io::Result<()> {
    stream.shutdown().await?;
    let mut rest = [0; 4096];
    while stream.read(&mut rest).await? > 0 {}
    Ok(())
}

fn shown<G>(standing: &Standing<G>) -> String {
    match standing {
        Standing::Known(peer) => <Peer<G> as ToString>::to_string(peer),
        Standing::Stranger(names) => match names.first() {
            Some(name) => format!("{name} (no role)"),
            None => "a client without a name".to_owned(),
        },
    }
}

fn protocol(limits: &ApiLimits) -> http2::Builder<TokioExecutor> {
    let mut http = http2::Builder::new(TokioExecutor::new());
    http.timer(TokioTimer::new())
        .initial_connection_window_size(WINDOW)
        .initial_stream_window_size(WINDOW)
        .max_concurrent_streams(limits.streams_per_connection)
        .max_header_list_size(limits.headers)
        .max_send_buf_size(SEND_BUFFER)
        .max_pending_accept_reset_streams(limits.resets)
        .max_local_error_reset_streams(limits.resets)
        .keep_alive_interval(limits.keepalive)
        .keep_alive_timeout(limits.keepalive_timeout);
    http
}

/// The next connection. Errors pass: most often file descriptors are short.
pub async fn accepted<S, F>(accept: impl Fn() -> F) -> S
where
    F: Future<Output = io::Result<S>>,
{
    loop {
        match accept().await {
            Ok(connection) => return connection,
            Err(error) => {
                tracing::warn!("a client could not be accepted: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

//! The control API of a daemon: its threads, whom each door leads to, and the
//! signals that end it.

use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tieline_gate::Security;
use tieline_gate::accounts::Accounts;
use tieline_gate::server::{self, Server};
use tieline_gate::signals::received;
use tieline_gate::tls::{self, Tls};
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::MissedTickBehavior;

use crate::args::say;
use crate::config::Config;
use crate::control::Control;
use crate::doors::{Doors, Servant};
use crate::problems::Problems;

use crate::rights::Grants;
use crate::service;
use crate::service::needs::needed;
use crate::service::operations::Facts;
use crate::service::session::Sessions;
use crate::upgrade::giver::Giver;

/// Threads of the API's runtime.
const API_THREADS: usize = 2;
/// How long calls that are being answered may take when the daemon stops.
const STOP_PATIENCE: Duration = Duration::from_millis(200);
/// How often the control thread looks at what happens by itself.
const TICK: Duration = Duration::from_millis(250);

/// The API, which serves nobody yet.
pub struct Api {
    runtime: Runtime,
    front: Arc<Front>,
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

/// Whoever comes in by one of the doors comes to this.
struct Front {
    server: Arc<Server<Grants>>,
    tls: Option<Arc<Tls>>,
    giver: Giver,
}

impl Servant for Front {
    async fn clients(&self, listener: tokio::net::UnixListener) -> Infallible {
        Arc::clone(&self.server).serve_socket(listener).await
    }

    async fn tcp_clients(&self, listener: tokio::net::TcpListener) -> Infallible {
        match &self.tls {
            Some(tls) => Arc::clone(&self.server).serve_tcp(listener, Arc::clone(tls)).await,
            None => std::future::pending().await,
        }
    }

    /// One after the other: there is one thing to take over.
    async fn daemons(&self, listener: tokio::net::UnixListener) -> Infallible {
        loop {
            let (stream, _) = server::accepted(|| listener.accept()).await;
            let giver = self.giver.clone();
            let conversation = tokio::task::spawn_blocking(move || match stream.into_std() {
                Ok(stream) => giver.serve(stream),
                Err(error) => tracing::warn!("a daemon that came to take over cannot be heard: {error}"),
            });
            if let Err(error) = conversation.await {
                tracing::error!("a conversation with a daemon that came to take over broke off: {error}");
            }
        }
    }
}

impl Api {
    /// Everything that serving needs.
    ///
    /// # Errors
    /// When the system gives no thread, or the description of the API makes no
    /// sense.
    pub fn new(
        config: &Config,
        sessions: Sessions,
        facts: Facts,
        problems: Problems,
        giver: Giver,
    ) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(API_THREADS)
            .thread_name("api")
            .enable_all()
            .build()
            .context("could not start the threads of the control API")?;
        let (front, [terminate, interrupt, hangup]) = runtime.block_on(async {
            let api = &config.api;
            let services = service::services(sessions, facts, problems, &api.limits).await?;
            let accounts = Arc::new(Accounts::new(api.limits.clone()));
            let server = Server::new(services, needed, Security { roles: api.roles.clone(), accounts });
            let tls = api.tcp.as_ref().map(|(_, settings)| Arc::new(Tls::start(settings.clone())));
            let kinds = [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()];
            let [terminate, interrupt, hangup] = kinds.map(signal);
            anyhow::Ok((Arc::new(Front { server, tls, giver }), [terminate?, interrupt?, hangup?]))
        })?;
        Ok(Self { runtime, front, terminate, interrupt, hangup })
    }

    /// Lets clients in and serves them until a signal says that it is enough,
    /// another daemon has taken over, or nothing can be programmed any more.
    ///
    /// # Errors
    /// In the last case.
    pub fn serve(self, socket: &Path, doors: &Doors, control: &Control) -> anyhow::Result<()> {
        let Self { runtime, front, mut terminate, mut interrupt, hangup } = self;
        let ticking = control.clone();
        let served = runtime.block_on(async {
            // The last state was brought back before the doors open.
            front.server.services().ready().await;
            doors.open(runtime.handle(), &front);
            tokio::spawn(tls::look_after(front.tls.clone(), hangup));
            tokio::spawn(async move {
                let mut interval = tokio::time::interval(TICK);
                interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
                loop {
                    interval.tick().await;
                    ticking.tick().await;
                }
            });
            if let Err(error) = say(&format!("tieline ready: control API on unix:{}", socket.display())) {
                tracing::warn!("nobody reads that this daemon is ready: {error}");
            }
            tracing::info!(socket = %socket.display(), "ready");
            tokio::select! {
                () = control.ended() => Err(anyhow::anyhow!(
                    "the control thread has ended unexpectedly: start the daemon again; the last state is in the store"
                )),
                () = received(&mut terminate) => Ok(()),
                () = received(&mut interrupt) => Ok(()),
            }
        });
        tracing::info!("stopping");
        runtime.shutdown_timeout(STOP_PATIENCE);
        served
    }
}

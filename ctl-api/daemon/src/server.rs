//! Serving the API on its Unix socket and, if configured, on TCP.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tieline_proto::v1::control_server::ControlServer;
use tieline_proto::v1::operations_server::OperationsServer;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;
use tonic::transport::server::Connected;

use crate::control::Control;
use crate::service::control::ControlService;
use crate::service::operations::{Facts, OperationsService};

/// Calls and streams of one connection at once.
const STREAMS: u32 = 128;
/// Largest request in bytes; the largest objects are far smaller.
const LARGEST_REQUEST: usize = 1 << 20;
/// How often a silent client is asked whether it is still there.
const KEEPALIVE: Duration = Duration::from_secs(30);
/// Pause after a connection could not be accepted, most often for want of
/// file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves clients that come to `socket` and `tcp`. Ends only if serving
/// fails.
///
/// # Errors
/// When it fails.
pub async fn serve(
    socket: UnixListener,
    tcp: Option<TcpListener>,
    control: Control,
    facts: Facts,
) -> Result<(), tonic::transport::Error> {
    let operations = OperationsServer::from_arc(OperationsService::new(control.clone(), facts).into())
        .max_decoding_message_size(LARGEST_REQUEST);
    let control = ControlServer::from_arc(ControlService::new(control).into())
        .max_decoding_message_size(LARGEST_REQUEST);
    let router = || {
        Server::builder()
            .max_concurrent_streams(STREAMS)
            .http2_keepalive_interval(Some(KEEPALIVE))
            .add_service(control.clone())
            .add_service(operations.clone())
    };
    let socket = Arc::new(socket);
    let accept = move || {
        let socket = Arc::clone(&socket);
        async move { socket.accept().await.map(|(stream, _)| stream) }
    };
    let unix = router().serve_with_incoming(incoming(accept));
    match tcp {
        None => unix.await,
        Some(tcp) => {
            let tcp = Arc::new(tcp);
            let accept = move || {
                let tcp = Arc::clone(&tcp);
                async move {
                    let (stream, _) = tcp.accept().await?;
                    stream.set_nodelay(true)?;
                    Ok(stream)
                }
            };
            let tcp = router().serve_with_incoming(incoming(accept));
            tokio::try_join!(unix, tcp).map(|_| ())
        }
    }
}

/// A TCP listener.
///
/// # Errors
/// When the address cannot be bound.
pub async fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(address).await
}

/// Connections, without the errors: those pass.
fn incoming<S, F>(accept: impl Fn() -> F + Send + 'static) -> ReceiverStream<io::Result<S>>
where
    S: AsyncRead + AsyncWrite + Connected + Send + 'static,
    F: Future<Output = io::Result<S>> + Send,
{
    let (connections, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        loop {
            match accept().await {
                Ok(stream) => {
                    if connections.send(Ok(stream)).await.is_err() {
                        return;
                    }
                }
                Err(error) => {
                    tracing::warn!("a client could not be accepted: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    });
    ReceiverStream::new(receiver)
}

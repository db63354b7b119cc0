//! One connection: a task that reads and one that writes.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tieline_process::essential;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use super::{Control, Received, socket};
use crate::rib::PeerId;
use crate::session::ConnectionId;
use crate::speaker::Transport;

/// Bytes read in one go: as long as the longest message.
const READ: usize = 65_536;
/// Time for what is left when a connection is closed.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// A connection. Dropped, it stops reading, sends what is left, and closes.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) peer: PeerId,
    /// The window of the session bounds what waits in here.
    writer: mpsc::UnboundedSender<Vec<u8>>,
    reader: AbortHandle,
}

impl Connection {
    pub(super) fn start(
        peer: PeerId,
        id: ConnectionId,
        stream: TcpStream,
        received: mpsc::Sender<Received>,
        control: mpsc::UnboundedSender<Control>,
    ) -> Self {
        let (read, write) = stream.into_split();
        let (writer, queue) = mpsc::unbounded_channel();
        tokio::spawn(essential::task(write_all(id, write, queue, control)));
        let reader = tokio::spawn(essential::task(read_all(id, read, received))).abort_handle();
        Self { peer, writer, reader }
    }

    pub(super) fn send(&self, bytes: Vec<u8>) {
        // A writer that has failed is reported by the reader.
        let _ = self.writer.send(bytes);
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

async fn read_all(connection: ConnectionId, mut stream: OwnedReadHalf, received: mpsc::Sender<Received>) {
    let mut buffer = vec![0; READ];
    loop {
        let bytes = match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => None,
            Ok(length) => Some(buffer[..length].to_vec()),
        };
        let end = bytes.is_none();
        if received.send(Received { connection, bytes }).await.is_err() || end {
            return;
        }
    }
}

async fn write_all(
    connection: ConnectionId,
    mut stream: OwnedWriteHalf,
    mut queue: mpsc::UnboundedReceiver<Vec<u8>>,
    control: mpsc::UnboundedSender<Control>,
) {
    while let Some(bytes) = queue.recv().await {
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let written = if queue.is_closed() {
                tokio::time::timeout(LAST_WORDS, stream.write(rest)).await.unwrap_or(Ok(0))
            } else {
                // A writer that is stuck when the connection is dropped must
                // not wait for ever.
                tokio::select! {
                    written = stream.write(rest) => written,
                    () = closed(&queue) => continue,
                }
            };
            let Ok(written @ 1..) = written else { return };
            rest = &rest[written..];
            // The driver may have ended; what is left still goes out.
            let _ = control.send(Control::Sent(connection, written));
        }
    }
    // An error here is of a connection that is gone already.
    let _ = tokio::time::timeout(LAST_WORDS, stream.shutdown()).await;
}

/// Comes back when the sender of a queue is gone.
async fn closed(queue: &mpsc::UnboundedReceiver<Vec<u8>>) {
    while !queue.is_closed() {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// Connects to a peer with the options of its transport.
pub(super) async fn connect(address: SocketAddr, transport: &Transport) -> io::Result<TcpStream> {
    let socket = socket::outgoing(address, transport)?;
    let default = match address {
        SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let local = transport.local_address.unwrap_or(default);
    socket.bind(SocketAddr::new(local, 0))?;
    socket.connect(address).await
}

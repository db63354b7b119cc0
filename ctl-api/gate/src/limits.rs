//! How much of everything clients may have: `[api.limits]`.

use std::time::Duration;

/// The limits, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiLimits {
    /// Connections at once over TCP, and as many on the Unix socket.
    pub connections: usize,
    /// Connections of one peer at once.
    pub connections_per_peer: usize,
    /// TCP clients at once that have not proved who they are.
    pub handshakes: usize,
    /// Calls of one connection at once, streams among them.
    pub streams_per_connection: u32,
    /// Calls of one peer at once, streams among them.
    pub calls_per_peer: usize,
    /// Get and List calls of one peer that are answered at once; others wait.
    pub reads_per_peer: usize,
    /// Calls that one peer may begin, a second.
    pub requests_per_second: u32,
    /// Bytes that one peer may send, a second; it is slowed down to that.
    pub bytes_per_second: u64,
    /// Largest message, bytes.
    pub message: usize,
    /// Memory for messages of one peer that have not arrived whole, bytes.
    pub receive_memory: usize,
    /// Memory for batches of all peers that wait to be carried out, bytes. One
    /// peer may have half of it.
    pub waiting: usize,
    /// Memory for acknowledgements that one peer has not read, bytes.
    pub replies: usize,
    /// Largest list of headers of a call, bytes.
    pub headers: u32,
    /// Streams that a client may reset before its connection is closed: those
    /// that are not dealt with yet, and those that it has reset by errors.
    pub resets: usize,
    /// Longest handshake, of TLS and of HTTP/2 each.
    pub handshake: Duration,
    /// How often a silent client is asked whether it is still there.
    pub keepalive: Duration,
    /// How long it may take to answer that.
    pub keepalive_timeout: Duration,
    /// Longest time for a message to arrive whole, and for a client to take
    /// the next part of a reply to Get or List, or acknowledgements.
    pub stalled: Duration,
}

impl Default for ApiLimits {
    fn default() -> Self {
        Self {
            connections: 1024,
            connections_per_peer: 256,
            handshakes: 128,
            streams_per_connection: 128,
            calls_per_peer: 1024,
            reads_per_peer: 8,
            requests_per_second: 5000,
            bytes_per_second: 256 << 20,
            message: 4 << 20,
            receive_memory: 64 << 20,
            waiting: 64 << 20,
            replies: 64 << 20,
            headers: 16 << 10,
            resets: 64,
            handshake: Duration::from_secs(5),
            keepalive: Duration::from_secs(20),
            keepalive_timeout: Duration::from_secs(10),
            stalled: Duration::from_secs(30),
        }
    }
}

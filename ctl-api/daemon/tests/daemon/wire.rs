//! HTTP/2 by hand, for clients that do not behave.

use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

/// What a client says first: the preface, and empty SETTINGS.
pub const HELLO: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// HEADERS that begin a call of `path`.
pub fn headers(stream: u32, path: &str) -> Vec<u8> {
    // Of HPACK's static table: POST, http; then literals.
    let mut block = vec![0x83, 0x86, 0x04, path.len() as u8];
    block.extend(path.as_bytes());
    block.extend([0x0f, 0x10, 16]);
    block.extend(b"application/grpc");
    frame(1, 4, stream, &block)
}

pub fn reset(stream: u32) -> Vec<u8> {
    frame(3, 0, stream, &8u32.to_be_bytes())
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// Reads until the other side closes; returns how long that took.
pub fn read_to_close(stream: &mut impl Read) -> Duration {
    let started = Instant::now();
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return started.elapsed(),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return started.elapsed(),
            Err(error) => panic!("not closed after {:?}: {error}", started.elapsed()),
        }
    }
}

/// Writes as much as the other side lets us.
pub fn write_while_open(stream: &mut impl Write, bytes: &[u8]) -> bool {
    stream.write_all(bytes).is_ok()
}

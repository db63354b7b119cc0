//! TCP: verified transfers both ways, and a counter that goes to and fro.
//!
//! A client says what it wants in its first 16 bytes: a count of bytes and a
//! seed, both big endian. A count of 0 asks for an echo.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

const CONNECT_LIMIT: Duration = Duration::from_secs(1);
/// A transfer that stands still for so long has failed.
const STALL_LIMIT: Duration = Duration::from_secs(15);
const ECHO_INTERVAL: Duration = Duration::from_millis(50);
const CHUNK: usize = 64 * 1024;

/// Serves connections until killed.
pub fn serve(socket: &str) -> Result<()> {
    let listener = TcpListener::bind(socket).with_context(|| format!("cannot listen on {socket}"))?;
    println!("ready");
    for stream in listener.incoming() {
        let stream = stream.context("cannot accept")?;
        thread::spawn(move || {
            if let Err(error) = serve_one(stream) {
                eprintln!("{error:#}");
            }
        });
    }
    Ok(())
}

fn serve_one(mut stream: TcpStream) -> Result<()> {
    let mut wish = [0; 16];
    if stream.read_exact(&mut wish).is_err() {
        // A client that only tried whether it can connect.
        return Ok(());
    }
    let (count, seed) = wish.split_at(8);
    let (count, seed) = (u64::from_be_bytes(count.try_into()?), u64::from_be_bytes(seed.try_into()?));
    if count == 0 {
        let mut number = [0; 8];
        while stream.read_exact(&mut number).is_ok() {
            stream.write_all(&number)?;
        }
        return Ok(());
    }
    receive(&mut stream, count, seed)?;
    send(&mut stream, count, seed + 1)?;
    stream.shutdown(Shutdown::Write)?;
    Ok(())
}

/// Opens a connection within a second.
pub fn connect(socket: &str) -> Result<TcpStream> {
    connect_within(CONNECT_LIMIT, socket)
}

fn connect_within(limit: Duration, socket: &str) -> Result<TcpStream> {
    let address: SocketAddr = socket.parse().with_context(|| format!("{socket} is no ADDRESS:PORT"))?;
    TcpStream::connect_timeout(&address, limit).with_context(|| format!("cannot connect to {socket}"))
}

fn open(socket: &str, count: u64, seed: u64) -> Result<TcpStream> {
    // A first packet that is lost among others comes again after a second.
    let mut stream = connect_within(STALL_LIMIT, socket)?;
    stream.set_nodelay(true)?;
    let mut wish = [0; 16];
    wish[..8].copy_from_slice(&count.to_be_bytes());
    wish[8..].copy_from_slice(&seed.to_be_bytes());
    stream.write_all(&wish)?;
    Ok(stream)
}

/// Sends `count` bytes and receives as many; every byte is compared.
pub fn exchange(socket: &str, count: u64) -> Result<()> {
    let seed = 0x7469_656c_696e_6500;
    let mut stream = open(socket, count, seed)?;
    stream.set_read_timeout(Some(STALL_LIMIT))?;
    stream.set_write_timeout(Some(STALL_LIMIT))?;
    send(&mut stream, count, seed)?;
    receive(&mut stream, count, seed + 1)
}

/// Sends a counter and prints it whenever it comes back, until killed.
pub fn echo(socket: &str) -> Result<()> {
    let mut stream = open(socket, 0, 0)?;
    println!("ready");
    for number in 1u64.. {
        stream.write_all(&number.to_be_bytes())?;
        let mut returned = [0; 8];
        stream.read_exact(&mut returned)?;
        println!("{}", u64::from_be_bytes(returned));
        thread::sleep(ECHO_INTERVAL);
    }
    Ok(())
}

fn send(stream: &mut TcpStream, count: u64, seed: u64) -> Result<()> {
    let mut pattern = Pattern::new(seed);
    let mut left = count;
    let mut chunk = vec![0; CHUNK];
    while left > 0 {
        let length = left.min(CHUNK as u64) as usize;
        pattern.fill(&mut chunk[..length]);
        stream.write_all(&chunk[..length]).with_context(|| format!("{left} bytes were not sent"))?;
        left -= length as u64;
    }
    Ok(())
}

fn receive(stream: &mut TcpStream, count: u64, seed: u64) -> Result<()> {
    let mut pattern = Pattern::new(seed);
    let mut left = count;
    let (mut chunk, mut expected) = (vec![0; CHUNK], vec![0; CHUNK]);
    while left > 0 {
        let room = left.min(CHUNK as u64) as usize;
        let length = stream.read(&mut chunk[..room]).with_context(|| format!("{left} bytes did not come"))?;
        ensure!(length > 0, "the connection ended {left} bytes early");
        pattern.fill(&mut expected[..length]);
        ensure!(chunk[..length] == expected[..length], "wrong bytes arrived, {left} before the end");
        left -= length as u64;
    }
    Ok(())
}

/// Bytes that depend on their position, so that lost, repeated and swapped
/// ones are seen.
struct Pattern {
    state: u64,
    word: [u8; 8],
    used: usize,
}

impl Pattern {
    fn new(seed: u64) -> Self {
        Self { state: seed, word: [0; 8], used: 8 }
    }

    fn fill(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            if self.used == 8 {
                self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
                self.word =
                    (self.state ^ (self.state >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9).to_ne_bytes();
                self.used = 0;
            }
            *byte = self.word[self.used];
            self.used += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_does_not_depend_on_how_it_is_cut() {
        let mut whole = [0; 100];
        Pattern::new(7).fill(&mut whole);
        let mut pattern = Pattern::new(7);
        let mut parts = [0; 100];
        for part in parts.chunks_mut(7) {
            pattern.fill(part);
        }
        assert_eq!(whole, parts);
        let mut other = [0; 100];
        Pattern::new(8).fill(&mut other);
        assert_ne!(whole, other);
    }
}

//! A BGP speaker that sends whatever bytes it is told: it opens a session for
//! VPNv4 and route target constraint, sends messages, and tells what comes back.
//!
//! ```text
//! tieline-e2e-bgp PEER:PORT OWN-AS OWN-ROUTER-ID MESSAGE...
//! ```
//!
//! Messages are hexadecimal, with their headers. It prints `established` when
//! the session stands, `sent` when all messages are on their way,
//! `notification CODE/SUBCODE` when the peer sends one, and `closed` at the end.

#![expect(clippy::print_stdout, reason = "standard output is how this tool talks to the tests")]

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};

use anyhow::{Context as _, Result, bail, ensure};

/// Marker, length and type (RFC 4271 section 4.1).
const HEADER: usize = 19;
/// Longest message (RFC 4271 section 4.1).
const LONGEST: usize = 4096;
/// Seconds; longer than any test, so that no KEEPALIVE need follow.
const HOLD_TIME: u16 = 600;

const OPEN: u8 = 1;
const NOTIFICATION: u8 = 3;
const KEEPALIVE: u8 = 4;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [peer, asn, router_id, messages @ ..] = &arguments[..] else {
        bail!("usage: tieline-e2e-bgp PEER:PORT OWN-AS OWN-ROUTER-ID MESSAGE...");
    };
    let asn: u16 = asn.parse().context("the AS number")?;
    let router_id: Ipv4Addr = router_id.parse().context("the router ID")?;
    let messages: Vec<Vec<u8>> = messages.iter().map(|text| bytes(text)).collect::<Result<_>>()?;
    let mut stream = TcpStream::connect(peer).with_context(|| format!("cannot connect to {peer}"))?;
    stream.write_all(&message(OPEN, &open(asn, router_id)))?;
    stream.write_all(&message(KEEPALIVE, &[]))?;
    let mut standing = false;
    while let Some((kind, body)) = receive(&mut stream)? {
        match kind {
            KEEPALIVE if !standing => {
                standing = true;
                println!("established");
                for bytes in &messages {
                    if stream.write_all(bytes).is_err() {
                        // The peer has closed: it says why in what is still to be read.
                        break;
                    }
                }
                println!("sent");
            }
            NOTIFICATION => {
                let code = |at: usize| body.get(at).copied().unwrap_or(0);
                println!("notification {}/{}", code(0), code(1));
            }
            _ => {}
        }
    }
    println!("closed");
    Ok(())
}

/// The body of an OPEN: VPNv4 (RFC 4760), route target constraint (RFC 4684) and
/// four-byte AS numbers (RFC 6793).
fn open(asn: u16, router_id: Ipv4Addr) -> Vec<u8> {
    let four_bytes = u32::from(asn).to_be_bytes();
    let mut capabilities = vec![1, 4, 0, 1, 0, 128, 1, 4, 0, 1, 0, 132, 65, 4];
    capabilities.extend(four_bytes);
    let length = capabilities.len() as u8;
    let mut body = vec![4];
    body.extend(asn.to_be_bytes());
    body.extend(HOLD_TIME.to_be_bytes());
    body.extend(router_id.octets());
    body.extend([length + 2, 2, length]);
    body.extend(capabilities);
    body
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut message = vec![0xff; 16];
    message.extend(((HEADER + body.len()) as u16).to_be_bytes());
    message.push(kind);
    message.extend(body);
    message
}

/// The type and body of the next message; none at the end.
fn receive(stream: &mut TcpStream) -> Result<Option<(u8, Vec<u8>)>> {
    let mut header = [0; HEADER];
    if stream.read_exact(&mut header).is_err() {
        return Ok(None);
    }
    let length = usize::from(u16::from_be_bytes([header[16], header[17]]));
    ensure!((HEADER..=LONGEST).contains(&length), "the peer sends a message of {length} bytes");
    let mut body = vec![0; length - HEADER];
    if stream.read_exact(&mut body).is_err() {
        return Ok(None);
    }
    Ok(Some((header[18], body)))
}

fn bytes(text: &str) -> Result<Vec<u8>> {
    ensure!(text.len().is_multiple_of(2) && text.is_ascii(), "{text} is not hexadecimal");
    let pairs = (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16));
    pairs.collect::<Result<_, _>>().with_context(|| format!("{text} is not hexadecimal"))
}

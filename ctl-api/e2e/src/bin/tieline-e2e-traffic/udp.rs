//! UDP: a server that sends everything back, and flows of datagrams.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result};

/// A datagram that is not back by then is lost.
const ANSWER_LIMIT: Duration = Duration::from_millis(300);

/// Sends datagrams back until killed.
pub fn serve(socket: &str) -> Result<()> {
    let socket = UdpSocket::bind(socket).with_context(|| format!("cannot bind {socket}"))?;
    println!("ready");
    let mut datagram = vec![0; 65536];
    loop {
        let (length, from) = socket.recv_from(&mut datagram).context("cannot receive")?;
        // Whether the answer can be sent is the sender's to notice.
        let _ = socket.send_to(&datagram[..length], from);
    }
}

/// Sends `each` datagrams of `size` bytes from each of `flows` sockets, one
/// after the other, and returns how many came back unchanged.
pub fn flows(socket: &str, flows: u32, each: u32, size: usize) -> Result<u32> {
    let to: SocketAddr = socket.parse().with_context(|| format!("{socket} is no ADDRESS:PORT"))?;
    let any: SocketAddr = if to.is_ipv4() { "0.0.0.0:0".parse()? } else { "[::]:0".parse()? };
    let mut returned = 0;
    let mut answer = vec![0; 65536];
    // All stay open, so that no two have the same port.
    let mut sockets = Vec::with_capacity(flows as usize);
    for flow in 0..flows {
        let socket = UdpSocket::bind(any)?;
        socket.connect(to)?;
        socket.set_read_timeout(Some(ANSWER_LIMIT))?;
        for number in 0..each {
            let datagram: Vec<u8> = (0..size).map(|at| (at as u32 + flow * 7 + number * 13) as u8).collect();
            if socket.send(&datagram).is_err() {
                // An ICMP error to an earlier one.
                continue;
            }
            if socket.recv(&mut answer).is_ok_and(|length| answer[..length] == datagram[..]) {
                returned += 1;
            }
        }
        sockets.push(socket);
    }
    Ok(returned)
}

//! Options of sockets: MD5 signatures (RFC 2385) and the TTL security
//! mechanism (RFC 5082).

use std::io;
use std::mem::size_of;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, RawFd};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::guard;
use crate::speaker::{MD5_KEY_LIMIT, Transport};

/// `struct tcp_md5sig` of `linux/tcp.h`.
#[repr(C)]
struct Md5Signature {
    address: libc::sockaddr_storage,
    flags: u8,
    prefix_length: u8,
    key_length: u16,
    interface: libc::c_int,
    key: [u8; MD5_KEY_LIMIT],
}

/// Most instructions of a filter (`BPF_MAXINSNS` of `linux/bpf_common.h`).
const FILTER_LIMIT: usize = 4096;

/// `TCP_MD5SIG` of `linux/tcp.h`.
const TCP_MD5SIG: libc::c_int = 14;

fn set_option<T>(fd: RawFd, level: libc::c_int, name: libc::c_int, value: &T) -> io::Result<()> {
    let length = libc::socklen_t::try_from(size_of::<T>()).map_err(io::Error::other)?;
    // SAFETY: the kernel reads `length` bytes at the pointer, which is a whole
    // `T` that lives until the call returns, and checks the descriptor.
    let result = unsafe { libc::setsockopt(fd, level, name, std::ptr::from_ref(value).cast(), length) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Sets the key for one peer's address; an empty key takes it away.
pub(super) fn set_md5(fd: RawFd, peer: IpAddr, key: &str) -> io::Result<()> {
    let address = socket2::SockAddr::from(SocketAddr::new(peer, 0));
    let mut signature = Md5Signature {
        // SAFETY: all zeros is a `sockaddr_storage`: plain integers.
        address: unsafe { std::mem::zeroed() },
        flags: 0,
        prefix_length: 0,
        key_length: 0,
        interface: 0,
        key: [0; MD5_KEY_LIMIT],
    };
    let bytes = key.as_bytes();
    let place = signature
        .key
        .get_mut(..bytes.len())
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "an MD5 key has at most 80 bytes"))?;
    place.copy_from_slice(bytes);
    signature.key_length = u16::try_from(bytes.len()).map_err(io::Error::other)?;
    let length =
        usize::try_from(address.len()).map_err(io::Error::other)?.min(size_of::<libc::sockaddr_storage>());
    // SAFETY: source and target are distinct, and each has at least `length`
    // bytes: `address.len()` of them are of the address, and the target is a
    // whole `sockaddr_storage`.
    unsafe {
        std::ptr::copy_nonoverlapping(
            address.as_ptr().cast::<u8>(),
            std::ptr::from_mut(&mut signature.address).cast::<u8>(),
            length,
        );
    }
    set_option(fd, libc::IPPROTO_TCP, TCP_MD5SIG, &signature)
}

/// Makes a filter look at every segment that comes, and each new connection inherit it.
pub(super) fn set_filter(fd: RawFd, program: &[libc::sock_filter]) -> io::Result<()> {
    let length = u16::try_from(program.len())
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "it is too long"))?;
    // The kernel only reads it.
    let program = libc::sock_fprog { len: length, filter: program.as_ptr().cast_mut() };
    set_option(fd, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program)
}

/// The filter of a socket; empty where it has none.
pub(super) fn filter_of(fd: RawFd) -> io::Result<Vec<libc::sock_filter>> {
    let mut program = vec![libc::sock_filter { code: 0, jt: 0, jf: 0, k: 0 }; FILTER_LIMIT];
    // This option alone counts instructions, not bytes.
    let mut length = libc::socklen_t::try_from(program.len()).map_err(io::Error::other)?;
    // SAFETY: the kernel writes at most `length` instructions to the pointer, which
    // has room for as many, and says in `length` how many.
    let result = unsafe {
        libc::getsockopt(
            fd,
            libc::SOL_SOCKET,
            libc::SO_GET_FILTER,
            program.as_mut_ptr().cast(),
            std::ptr::from_mut(&mut length),
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    program.truncate(usize::try_from(length).map_err(io::Error::other)?);
    Ok(program)
}

/// Sends with the highest TTL, so that a peer with TTL security takes it.
fn set_full_ttl(fd: RawFd, ipv4: bool) -> io::Result<()> {
    let full: libc::c_int = 255;
    if ipv4 {
        set_option(fd, libc::IPPROTO_IP, libc::IP_TTL, &full)
    } else {
        set_option(fd, libc::IPPROTO_IPV6, libc::IPV6_UNICAST_HOPS, &full)
    }
}

/// Drops what comes from further than `hops` away (RFC 5082 section 3).
fn set_ttl_security(fd: RawFd, ipv4: bool, hops: u8) -> io::Result<()> {
    set_full_ttl(fd, ipv4)?;
    let least = libc::c_int::from(guard::least_ttl(hops));
    if ipv4 {
        set_option(fd, libc::IPPROTO_IP, libc::IP_MINTTL, &least)
    } else {
        set_option(fd, libc::IPPROTO_IPV6, libc::IPV6_MINHOPCOUNT, &least)
    }
}

/// A socket that listens. It sends with the highest TTL from the start,
/// because the handshake goes out before the peer is known.
pub(super) fn listener(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    set_full_ttl(socket.as_raw_fd(), address.is_ipv4())?;
    socket.bind(&address.into())?;
    socket.listen(128)?;
    TcpListener::from_std(socket.into())
}

/// A socket to connect to a peer with.
pub(super) fn outgoing(peer: SocketAddr, transport: &Transport) -> io::Result<TcpSocket> {
    let socket = if peer.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if let Some(key) = &transport.md5 {
        set_md5(socket.as_raw_fd(), peer.ip(), key)
            .map_err(|error| io::Error::new(error.kind(), guard::md5_failure(&error)))?;
    }
    if let Some(hops) = transport.ttl_security {
        set_ttl_security(socket.as_raw_fd(), peer.is_ipv4(), hops).map_err(|error| {
            io::Error::new(error.kind(), format!("TTL security (RFC 5082) cannot be set: {error}"))
        })?;
    }
    Ok(socket)
}

/// Options of a connection that stands.
pub(super) fn prepare(stream: &TcpStream, transport: &Transport) -> io::Result<()> {
    stream.set_nodelay(true)?;
    if let Some(hops) = transport.ttl_security {
        set_ttl_security(stream.as_raw_fd(), stream.peer_addr()?.is_ipv4(), hops)?;
    }
    Ok(())
}

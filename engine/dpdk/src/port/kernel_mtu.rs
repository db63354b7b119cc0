//! The MTU of an interface of the kernel that a device stands on.

use std::ffi::{CStr, CString, c_char};
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

use libc::{c_int, ifreq};

/// Raises the MTU of the interface to `mtu` if it is lower.
pub(super) fn raise(if_index: u32, mtu: u16) -> io::Result<()> {
    // SAFETY: has no preconditions.
    let socket = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    if socket < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a descriptor that was just opened and belongs to nobody else.
    let socket = unsafe { OwnedFd::from_raw_fd(socket) };

    // SAFETY: a plain structure; zero is a value of each field.
    let mut request: ifreq = unsafe { std::mem::zeroed() };
    let name = name_of(if_index)?;
    // Both have room for a name and the zero behind it.
    for (to, from) in request.ifr_name.iter_mut().zip(name.as_bytes_with_nul()) {
        *to = *from as c_char;
    }
    // SAFETY: the request holds a terminated name; the kernel fills the rest.
    if unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFMTU, &raw mut request) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: SIOCGIFMTU has filled this field.
    if unsafe { request.ifr_ifru.ifru_mtu } >= c_int::from(mtu) {
        return Ok(());
    }
    request.ifr_ifru.ifru_mtu = c_int::from(mtu);
    // SAFETY: the request holds a terminated name and the MTU.
    if unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFMTU, &raw const request) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// The name of an interface.
pub(super) fn name_of(if_index: u32) -> io::Result<CString> {
    let mut name: [c_char; libc::IF_NAMESIZE] = [0; libc::IF_NAMESIZE];
    // SAFETY: the name has room for IF_NAMESIZE bytes.
    if unsafe { libc::if_indextoname(if_index, name.as_mut_ptr()) }.is_null() {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has left a terminated name.
    Ok(unsafe { CStr::from_ptr(name.as_ptr()) }.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Loopback has index 1 in every network namespace and an MTU of 65536.
    #[test]
    fn an_mtu_that_is_high_enough_stays() {
        raise(1, 9000).expect("needs no rights");
    }

    #[test]
    fn an_interface_that_is_not_there_is_an_error() {
        assert!(raise(u32::MAX, 9000).is_err());
    }
}

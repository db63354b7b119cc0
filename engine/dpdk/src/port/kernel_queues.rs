//! The queues of a TAP, seen from the kernel.
//!
//! The driver for TAPs has a descriptor of `/dev/net/tun` for each queue, and one
//! that only keeps the interface there. The kernel spreads what it sends over all
//! queues, whether or not somebody reads them. A process that shares the
//! interface with another, and reads no more, has to part with its queues. The
//! driver's own way, closing the port, would take the interface down for both.

use std::ffi::CStr;
use std::io;
use std::os::fd::RawFd;

use libc::{c_int, ifreq};

/// Of `linux/if_tun.h`: parts with a queue, and joins it again.
const IFF_ATTACH_QUEUE: i16 = 0x0200;
const IFF_DETACH_QUEUE: i16 = 0x0400;
/// Of `linux/if_tun.h`: _IOW('T', 217, int), and _IOR('T', 210, unsigned int).
const TUNSETQUEUE: libc::c_ulong = 0x4004_54d9;
const TUNGETIFF: libc::c_ulong = 0x8004_54d2;
/// What the driver opens.
const TUN: &str = "/dev/net/tun";

/// Queues of a TAP that the kernel does not use any more. They belong to an open
/// port, which must not be closed before they are gone.
#[derive(Debug)]
pub struct KernelQueues(Vec<RawFd>);

impl KernelQueues {
    /// Parts with the queues of this process at the interface.
    pub(super) fn part(interface: &CStr) -> io::Result<Self> {
        let mut parted = Vec::new();
        for entry in std::fs::read_dir("/proc/self/fd")? {
            let entry = entry?;
            let Some(number) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            // The list itself is closed by then.
            let Ok(target) = std::fs::read_link(entry.path()) else { continue };
            // The one that only keeps the interface has parted already, and is
            // refused.
            if target.as_os_str() == TUN && is_of(number, interface) && set(number, IFF_DETACH_QUEUE).is_ok()
            {
                parted.push(number);
            }
        }
        if parted.is_empty() {
            return Err(io::Error::other(format!("no queue of {} is found", interface.to_string_lossy())));
        }
        Ok(Self(parted))
    }

    /// Has the kernel use the queues again.
    ///
    /// # Errors
    /// When it does not take one.
    pub fn rejoin(self) -> io::Result<()> {
        self.0.into_iter().try_for_each(|number| set(number, IFF_ATTACH_QUEUE))
    }
}

fn is_of(number: RawFd, interface: &CStr) -> bool {
    // SAFETY: a plain structure; zero is a value of each field.
    let mut request: ifreq = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel fills the request; a descriptor of another kind is
    // refused.
    if unsafe { libc::ioctl(number, TUNGETIFF, &raw mut request) } < 0 {
        return false;
    }
    // SAFETY: the kernel has left a terminated name.
    let name = unsafe { CStr::from_ptr(request.ifr_name.as_ptr()) };
    name == interface
}

fn set(number: RawFd, flags: i16) -> io::Result<()> {
    // SAFETY: a plain structure; zero is a value of each field.
    let mut request: ifreq = unsafe { std::mem::zeroed() };
    request.ifr_ifru.ifru_flags = flags;
    // SAFETY: the request lives during the call.
    let status: c_int = unsafe { libc::ioctl(number, TUNSETQUEUE, &raw const request) };
    if status < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

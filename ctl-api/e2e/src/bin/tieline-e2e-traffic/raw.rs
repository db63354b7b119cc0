//! Raw Ethernet sockets (AF_PACKET).

use std::ffi::CString;
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use anyhow::{Context, Result, ensure};

/// Largest frame that is sent or received.
pub const MAX_FRAME: usize = 9216;
const ETH_P_ALL: u16 = 0x0003;
const VLAN_TAG: usize = 4;
/// Two MACs.
const MACS: usize = 12;

/// A socket on one device that sends and receives whole frames.
pub struct RawSocket {
    fd: OwnedFd,
}

impl RawSocket {
    /// Opens the device.
    pub fn open(device: &str) -> Result<Self> {
        let name = CString::new(device).context("a device's name")?;
        // SAFETY: `name` ends with a NUL and outlives the call.
        let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
        ensure!(index != 0, "there is no device {device}");
        // SAFETY: socket takes plain integers.
        let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW, i32::from(ETH_P_ALL.to_be())) };
        ensure!(fd >= 0, "cannot open a raw socket: {}", io::Error::last_os_error());
        // SAFETY: `fd` was just opened and nobody else has it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        // SAFETY: all zeroes is a valid sockaddr_ll.
        let mut address: libc::sockaddr_ll = unsafe { mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = ETH_P_ALL.to_be();
        address.sll_ifindex = index.cast_signed();
        // SAFETY: the pointer and length are those of `address`.
        let bound = unsafe {
            libc::bind(
                fd.as_raw_fd(),
                (&raw const address).cast(),
                mem::size_of_val(&address) as libc::socklen_t,
            )
        };
        ensure!(bound == 0, "cannot bind to {device}: {}", io::Error::last_os_error());
        set_option(fd.as_raw_fd(), libc::PACKET_IGNORE_OUTGOING)?;
        set_option(fd.as_raw_fd(), libc::PACKET_AUXDATA)?;
        Ok(Self { fd })
    }

    /// Its file descriptor.
    pub fn fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    /// Sends one frame. Returns whether the device took it.
    pub fn send(&self, frame: &[u8]) -> bool {
        // SAFETY: the pointer and length are those of `frame`.
        unsafe { libc::send(self.fd(), frame.as_ptr().cast(), frame.len(), 0) >= 0 }
    }

    /// Receives one frame with its VLAN tag in place, and returns its length.
    pub fn receive(&self, frame: &mut [u8; MAX_FRAME]) -> Result<usize> {
        // The kernel takes the outermost tag out of the frame and tells it
        // aside: leave room to put it back.
        let mut control = [0u64; 8];
        let mut part = libc::iovec { iov_base: frame.as_mut_ptr().cast(), iov_len: MAX_FRAME - VLAN_TAG };
        // SAFETY: all zeroes is a valid msghdr: no name, no parts, no control.
        let mut message: libc::msghdr = unsafe { mem::zeroed() };
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = mem::size_of_val(&control);
        // SAFETY: `message` points to `part` and `control`, which outlive the
        // call, with their true lengths.
        let length = unsafe { libc::recvmsg(self.fd(), &raw mut message, 0) };
        ensure!(length >= 0, "cannot receive: {}", io::Error::last_os_error());
        let mut length = length.cast_unsigned();
        // SAFETY: recvmsg has filled `message`, whose control buffer lives.
        let header = unsafe { libc::CMSG_FIRSTHDR(&raw const message) };
        if header.is_null() {
            return Ok(length);
        }
        // SAFETY: the kernel has written a control message there; the only
        // kind asked for is a tpacket_auxdata, read without regard to its
        // alignment.
        let aside: libc::tpacket_auxdata =
            unsafe { libc::CMSG_DATA(header).cast::<libc::tpacket_auxdata>().read_unaligned() };
        if aside.tp_status & libc::TP_STATUS_VLAN_VALID != 0 && length >= MACS {
            let ethertype = if aside.tp_status & libc::TP_STATUS_VLAN_TPID_VALID != 0 {
                aside.tp_vlan_tpid
            } else {
                0x8100
            };
            frame.copy_within(MACS..length, MACS + VLAN_TAG);
            frame[MACS..MACS + 2].copy_from_slice(&ethertype.to_be_bytes());
            frame[MACS + 2..MACS + 4].copy_from_slice(&aside.tp_vlan_tci.to_be_bytes());
            length += VLAN_TAG;
        }
        Ok(length)
    }
}

fn set_option(fd: RawFd, option: libc::c_int) -> Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the pointer and length are those of `on`.
    let set = unsafe {
        libc::setsockopt(
            fd,
            libc::SOL_PACKET,
            option,
            (&raw const on).cast(),
            mem::size_of_val(&on) as libc::socklen_t,
        )
    };
    ensure!(set == 0, "cannot set an option of a raw socket: {}", io::Error::last_os_error());
    Ok(())
}

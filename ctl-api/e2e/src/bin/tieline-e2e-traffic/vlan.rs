//! A TAP whose frames travel tagged on another device.
//!
//! The kernel's own VLAN devices need a module that not every kernel has.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::mem;
use std::os::fd::AsRawFd;
use std::process::Command;
use std::thread;

use anyhow::{Context, Result, ensure};

use crate::raw::{MAX_FRAME, RawSocket};

const MACS: usize = 12;
const CUSTOMER_TAG: u16 = 0x8100;
const SERVICE_TAG: u16 = 0x88a8;

/// Tags, outermost first.
#[derive(Debug, Clone)]
struct Tags(Vec<[u8; 4]>);

impl Tags {
    /// One 802.1Q tag, or an 802.1ad one with an 802.1Q one inside (`inner`
    /// other than 0).
    fn new(outer: u16, inner: u16) -> Self {
        let tag = |ethertype: u16, id: u16| {
            let ([a, b], [c, d]) = (ethertype.to_be_bytes(), id.to_be_bytes());
            [a, b, c, d]
        };
        Self(match inner {
            0 => vec![tag(CUSTOMER_TAG, outer)],
            _ => vec![tag(SERVICE_TAG, outer), tag(CUSTOMER_TAG, inner)],
        })
    }

    fn push(&self, frame: &[u8]) -> Vec<u8> {
        let mut tagged = frame[..MACS].to_vec();
        tagged.extend(self.0.iter().flatten());
        tagged.extend(&frame[MACS..]);
        tagged
    }

    /// The frame without the tags, or `None` if it has others.
    fn pop(&self, frame: &[u8]) -> Option<Vec<u8>> {
        let (macs, mut rest) = frame.split_at_checked(MACS)?;
        for tag in &self.0 {
            let (found, after) = rest.split_first_chunk::<4>()?;
            let id = |tag: &[u8; 4]| u16::from_be_bytes([tag[2] & 0x0f, tag[3]]);
            if found[..2] != tag[..2] || id(found) != id(tag) {
                return None;
            }
            rest = after;
        }
        Some([macs, rest].concat())
    }
}

/// Carries frames between the TAP, which it makes with the MAC of `device`, and
/// `device`, until killed.
pub fn run(device: &str, tap: &str, outer: u16, inner: u16) -> Result<()> {
    let tags = Tags::new(outer, inner);
    let wire = RawSocket::open(device)?;
    let file = open_tap(tap)?;
    let mac = std::fs::read_to_string(format!("/sys/class/net/{device}/address"))?;
    let status = Command::new("ip").args(["link", "set", tap, "address", mac.trim(), "up"]).status()?;
    ensure!(status.success(), "cannot set up {tap}");
    println!("ready");

    let mut to_tap = file.try_clone().context("cannot share the TAP")?;
    let wire = std::sync::Arc::new(wire);
    let (from_wire, incoming) = (wire.clone(), tags.clone());
    thread::spawn(move || {
        let mut frame = [0; MAX_FRAME];
        while let Ok(length) = from_wire.receive(&mut frame) {
            if let Some(untagged) = incoming.pop(&frame[..length]) {
                // A TAP that is going down loses frames, as a wire does.
                let _ = to_tap.write(&untagged);
            }
        }
    });
    let mut frame = [0; MAX_FRAME];
    let mut file = file;
    loop {
        let length = file.read(&mut frame).context("the TAP is gone")?;
        if length >= MACS {
            wire.send(&tags.push(&frame[..length]));
        }
    }
}

fn open_tap(name: &str) -> Result<File> {
    let file =
        OpenOptions::new().read(true).write(true).open("/dev/net/tun").context("cannot open /dev/net/tun")?;
    ensure!(name.len() < libc::IFNAMSIZ, "{name} is too long for a device");
    // SAFETY: all zeroes is a valid ifreq.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_TAP | libc::IFF_NO_PI) as libc::c_short;
    // SAFETY: TUNSETIFF reads and writes an ifreq, and `request` is one.
    let made = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
    ensure!(made == 0, "cannot make the TAP {name}: {}", io::Error::last_os_error());
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_pushed_is_popped_and_other_tags_are_left_alone() {
        let frame: Vec<u8> = (0..60).collect();
        for (outer, inner) in [(10, 0), (100, 200)] {
            let tags = Tags::new(outer, inner);
            let tagged = tags.push(&frame);
            assert_eq!(tags.pop(&tagged), Some(frame.clone()));
            assert_eq!(Tags::new(outer + 1, inner).pop(&tagged), None);
            assert_eq!(tags.pop(&frame), None);
            assert_eq!(tags.pop(&tagged[..13]), None);
        }
    }

    #[test]
    fn the_outer_of_two_tags_is_a_service_tag() {
        assert_eq!(Tags::new(100, 200).0, [[0x88, 0xa8, 0, 100], [0x81, 0, 0, 200]]);
        assert_eq!(Tags::new(10, 0).0, [[0x81, 0, 0, 10]]);
    }
}

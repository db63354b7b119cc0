//! Whether what an open device takes from the host is still there.
//!
//! Drivers do not notice: a socket on an interface that is gone receives nothing,
//! for ever. So the control thread looks, when the kernel tells of interfaces and
//! from time to time.

use std::ffi::CString;
use std::path::PathBuf;

use tieline_dpdk::{Claim, DeviceSpec, Driver, Port};

use crate::links::{Links, Seen};

/// What a device was opened on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Presence {
    /// An interface of the kernel, and the number that it had.
    Interface(String, u32),
    /// A socket that the device listens at.
    Listens(PathBuf),
    /// A socket of another process, to which the device does not connect again by
    /// itself.
    Connected(PathBuf),
    /// Something that its driver looks after.
    Driver,
}

impl Presence {
    /// Of a device that has just been opened.
    pub fn of(device: &DeviceSpec) -> Self {
        let flag = |key: &str| device.argument(key) == Some("1");
        let socket = device.claims().find_map(|claim| match claim {
            Claim::Socket(path) => Some(path.to_owned()),
            _ => None,
        });
        match (device.driver(), socket) {
            (Driver::Vhost, Some(path)) if !flag("client") => return Self::Listens(path),
            (Driver::VirtioUser, Some(path)) if flag("server") => return Self::Listens(path),
            (Driver::VirtioUser, Some(path)) => return Self::Connected(path),
            _ => {}
        }
        match interface_of(device).and_then(|name| Some((name, number_of(name)?))) {
            Some((name, number)) => Self::Interface(name.to_owned(), number),
            None => Self::Driver,
        }
    }

    /// What is missing, in words.
    pub fn missing(&self, port: &Port) -> Option<String> {
        match self {
            Self::Interface(name, number) => match number_of(name) {
                Some(now) if now == *number => None,
                Some(_) => Some(format!("interface {name} was replaced by another one")),
                None => Some(format!("interface {name} is gone")),
            },
            // While somebody is connected, nothing is missed.
            Self::Listens(path) if !port.link_up() && !path.exists() => {
                Some(format!("its socket {} is gone", path.display()))
            }
            Self::Connected(path) if !port.link_up() => {
                Some(format!("the other end of {} is gone", path.display()))
            }
            Self::Driver if port.is_removed() => Some("the device was taken out".to_owned()),
            Self::Listens(_) | Self::Connected(_) | Self::Driver => None,
        }
    }

    /// Whether the kernel says that the interface has no link.
    pub fn is_down(&self, links: &Links) -> bool {
        match self {
            Self::Interface(name, number) => {
                matches!(links.get(name), Seen::Present(link) if link.index == *number && !link.up)
            }
            Self::Listens(_) | Self::Connected(_) | Self::Driver => false,
        }
    }
}

/// The interface that has to be there before a device can be opened, if it is not.
pub(super) fn awaited(device: &DeviceSpec) -> Option<&str> {
    // A TAP is made by its driver.
    let name = interface_of(device).filter(|_| device.driver() != Driver::Tap)?;
    number_of(name).is_none().then_some(name)
}

/// Whether an interface is there.
pub(super) fn is_there(name: &str) -> bool {
    number_of(name).is_some()
}

fn interface_of(device: &DeviceSpec) -> Option<&str> {
    device.claims().find_map(|claim| match claim {
        Claim::Interface(name) => Some(name),
        _ => None,
    })
}

/// The kernel's number of an interface.
fn number_of(name: &str) -> Option<u32> {
    let name = CString::new(name).ok()?;
    // SAFETY: a terminated string; zero is no number.
    match unsafe { libc::if_nametoindex(name.as_ptr()) } {
        0 => None,
        number => Some(number),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Presence {
        Presence::of(&text.parse().expect("a device"))
    }

    #[test]
    fn devices_are_looked_after_by_what_they_take() {
        assert_eq!(of("net_af_packet0,iface=lo"), Presence::Interface("lo".into(), 1));
        assert_eq!(of("net_vhost0,iface=/run/s"), Presence::Listens("/run/s".into()));
        assert_eq!(of("net_vhost0,iface=/run/s,client=1"), Presence::Driver);
        assert_eq!(of("net_virtio_user0,path=/run/s"), Presence::Connected("/run/s".into()));
        assert_eq!(of("net_virtio_user0,path=/run/s,server=1"), Presence::Listens("/run/s".into()));
        assert_eq!(of("0000:01:00.0"), Presence::Driver);
    }

    #[test]
    fn interfaces_that_others_make_are_awaited() {
        let awaited = |text: &str| awaited(&text.parse().expect("a device")).map(str::to_owned);
        assert_eq!(awaited("net_af_packet0,iface=no-such"), Some("no-such".into()));
        assert_eq!(awaited("net_af_packet0,iface=lo"), None);
        assert_eq!(awaited("net_tap0,iface=no-such"), None);
        assert!(is_there("lo") && !is_there("no-such"));
    }
}

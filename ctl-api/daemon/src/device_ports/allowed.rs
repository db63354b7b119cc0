//! Which devices may be used, as the configuration says.
//!
//! The same check stands before a declaration is accepted, and before a device
//! is opened: at the start, in a take-over, and whenever it is tried again.

use std::fmt;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

use tieline_dpdk::{Claim, DeviceSpec, Driver};

/// Interfaces, NICs and paths that devices may have.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AllowedDevices {
    /// `None`: whatever operators declare, and nothing else.
    pub patterns: Option<Vec<Pattern>>,
    /// Drivers for tests that may be used.
    pub test_drivers: Vec<Driver>,
}

/// One entry of `dpdk.devices`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pattern {
    /// Interfaces of the kernel whose names begin and end so.
    Interface(Glob),
    /// Devices on the PCI bus whose addresses begin and end so.
    Pci(Glob),
    /// Whatever lies in a directory, and not below it.
    Directory(PathBuf),
    /// A path.
    Path(PathBuf),
}

/// A text in which one star stands for any characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glob {
    start: String,
    /// `None`: there is no star.
    end: Option<String>,
}

impl Glob {
    fn new(text: &str) -> Option<Self> {
        let (start, end) = match text.split_once('*') {
            Some((start, end)) => (start, Some(end.to_owned())),
            None => (text, None),
        };
        let once = !end.as_deref().is_some_and(|end| end.contains('*'));
        once.then(|| Self { start: start.to_owned(), end })
    }

    fn matches(&self, text: &str) -> bool {
        match (&self.end, text.strip_prefix(self.start.as_str())) {
            (_, None) => false,
            (None, Some(rest)) => rest.is_empty(),
            (Some(end), Some(rest)) => rest.ends_with(end.as_str()),
        }
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.start)?;
        self.end.as_ref().map_or(Ok(()), |end| write!(f, "*{end}"))
    }
}

impl Pattern {
    /// Reads an entry.
    ///
    /// # Errors
    /// A sentence, when nothing could ever match it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let refuse = || {
            format!(
                "{text:?} means no device: write the name of an interface (\"eth1\", \"veth-*\"), a PCI address \
                 with its domain (\"0000:01:00.*\"), or an absolute path (\"/run/vhost/\" for all sockets in it)"
            )
        };
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(refuse());
        }
        if text.starts_with('/') {
            let directory = text.len() > 1 && text.ends_with('/');
            let path = text.strip_suffix('/').unwrap_or(text);
            let plain = path.split('/').skip(1).all(|part| !matches!(part, "" | "." | ".."));
            if !plain || path.is_empty() || path.contains('*') {
                return Err(refuse());
            }
            return Ok(if directory { Self::Directory(path.into()) } else { Self::Path(path.into()) });
        }
        let glob = Glob::new(text).ok_or_else(refuse)?;
        if text.contains(':') {
            let pci = |c: char| c.is_ascii_digit() || matches!(c, 'a'..='f' | ':' | '.' | '*');
            return if text.chars().all(pci) { Ok(Self::Pci(glob)) } else { Err(refuse()) };
        }
        if text.len() > 16 || text.contains('/') {
            return Err(refuse());
        }
        Ok(Self::Interface(glob))
    }

    fn allows(&self, claim: Claim<'_>) -> bool {
        match (self, claim) {
            (Pattern::Interface(glob), Claim::Interface(name)) => glob.matches(name),
            (Pattern::Pci(glob), Claim::Pci(address)) => glob.matches(address),
            (Pattern::Directory(allowed), Claim::Socket(path) | Claim::File(path)) => {
                path.parent().is_some_and(|parent| is_same_directory(parent, allowed))
            }
            (Pattern::Path(allowed), Claim::Socket(path) | Claim::File(path)) => path == allowed,
            _ => false,
        }
    }
}

/// Whether two paths name one directory, by whatever links.
fn is_same_directory(one: &Path, other: &Path) -> bool {
    match (one.canonicalize(), other.canonicalize()) {
        (Ok(one), Ok(other)) => one == other,
        // What is not there can be reached by its name alone.
        _ => one == other,
    }
}

impl AllowedDevices {
    /// Whether a device may be used that somebody has declared; `by_operator`
    /// says whether an operator has.
    ///
    /// # Errors
    /// A sentence that says what keeps it, and where that can be changed.
    pub fn check(&self, device: &DeviceSpec, by_operator: bool) -> Result<(), String> {
        let driver = device.driver();
        if driver.is_for_tests() && !self.test_drivers.contains(&driver) {
            return Err(format!(
                "{driver} is for tests: this gateway uses it only if dpdk.test_drivers in its configuration names it"
            ));
        }
        // The one driver that writes whatever file it is told.
        let writes_files = driver == Driver::Pcap;
        let Some(patterns) = self.patterns.as_deref().or(writes_files.then_some(&[])) else {
            return if by_operator {
                Ok(())
            } else {
                Err("only operators may declare ports, until dpdk.devices in the gateway's configuration says \
                     which devices others may use"
                    .to_owned())
            };
        };
        match device.claims().find(|claim| !patterns.iter().any(|pattern| pattern.allows(*claim))) {
            None => Ok(()),
            Some(claim) => Err(format!(
                "{claim} may not be used: dpdk.devices in the gateway's configuration does not name it"
            )),
        }
    }
}

/// Whether the paths of a device lead to what its driver expects there, and not
/// somewhere else by a link that somebody has made.
///
/// # Errors
/// A sentence that says what is there instead.
pub fn check_paths(device: &DeviceSpec) -> Result<(), String> {
    for claim in device.claims() {
        let (Claim::Socket(path) | Claim::File(path)) = claim else { continue };
        // What is not there is made, or missed by the driver.
        let Ok(found) = path.symlink_metadata() else { continue };
        let kind = found.file_type();
        let (is_right, expected) = match claim {
            Claim::File(_) => (kind.is_file(), "a file"),
            _ => (kind.is_socket() || kind.is_char_device(), "a socket or a character device"),
        };
        if !is_right {
            return Err(format!("{} is not {expected}: remove it, or name another path", path.display()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(patterns: Option<&[&str]>, test_drivers: &[Driver]) -> AllowedDevices {
        let parse = |text: &&str| Pattern::parse(text).expect("a pattern");
        AllowedDevices {
            patterns: patterns.map(|all| all.iter().map(parse).collect()),
            test_drivers: test_drivers.to_vec(),
        }
    }

    fn check(allowed: &AllowedDevices, device: &str, by_operator: bool) -> Result<(), String> {
        allowed.check(&device.parse().expect("a device"), by_operator)
    }

    #[test]
    fn without_patterns_operators_decide() {
        let default = allowed(None, &[]);
        for device in ["net_af_packet0,iface=eth1", "0000:01:00.0", "net_vhost0,iface=/run/vm.sock"] {
            assert_eq!(check(&default, device, true), Ok(()));
            assert!(check(&default, device, false).expect_err("no operator").contains("only operators"));
        }
    }

    #[test]
    fn patterns_bind_operators_too() {
        let some = allowed(Some(&["eth1", "veth-*", "0000:01:00.*", "/run/vhost/", "/dev/vhost-net"]), &[]);
        for device in [
            "net_af_packet0,iface=eth1",
            "net_af_xdp0,iface=veth-a",
            "net_tap0,iface=veth-",
            "0000:01:00.1",
            "net_vhost0,iface=/run/vhost/vm1",
            "net_virtio_user0,path=/dev/vhost-net,iface=veth-t",
        ] {
            assert_eq!(check(&some, device, false), Ok(()), "{device}");
        }
        for (device, word) in [
            ("net_af_packet0,iface=eth0", "interface eth0"),
            ("net_af_packet0,iface=eth11", "interface eth11"),
            ("net_af_packet0,iface=xveth-a", "interface xveth-a"),
            ("0000:02:00.1", "PCI device 0000:02:00.1"),
            ("net_vhost0,iface=/run/vhost/sub/vm1", "socket /run/vhost/sub/vm1"),
            ("net_vhost0,iface=/run/vhost2/vm1", "socket /run/vhost2/vm1"),
            ("net_memif0,socket=/dev/vhost-vsock", "socket /dev/vhost-vsock"),
            ("net_virtio_user0,path=/dev/vhost-net,iface=eth0", "interface eth0"),
        ] {
            for by_operator in [false, true] {
                let error = check(&some, device, by_operator).expect_err(device);
                assert!(error.contains(word) && error.contains("dpdk.devices"), "{error}");
            }
        }
        assert!(check(&allowed(Some(&[]), &[]), "net_af_packet0,iface=eth1", true).is_err());
    }

    #[test]
    fn drivers_for_tests_have_to_be_named_and_files_too() {
        let none = allowed(None, &[]);
        for device in ["net_null0", "net_ring0", "net_pcap0,rx_pcap=/tmp/x"] {
            assert!(check(&none, device, true).expect_err(device).contains("dpdk.test_drivers"));
        }
        let tests = allowed(None, &[Driver::Null, Driver::Pcap]);
        assert_eq!(check(&tests, "net_null0", true), Ok(()));
        assert!(check(&tests, "net_ring0", true).is_err());
        assert!(check(&tests, "net_pcap0,rx_pcap=/tmp/x", true).expect_err("a file").contains("file /tmp/x"));
        let files = allowed(Some(&["/captures/"]), &[Driver::Pcap]);
        assert_eq!(check(&files, "net_pcap0,rx_pcap=/captures/a,tx_pcap=/captures/b", true), Ok(()));
        assert!(check(&files, "net_pcap0,rx_pcap=/captures/a,tx_pcap=/etc/passwd", true).is_err());
    }

    #[test]
    fn patterns_that_mean_nothing_are_refused() {
        for text in ["", "a b", "*a*", "/", "//", "/a/../b/", "/a*/", "seventeen-bytes-x", "00:zz", "a/b"] {
            assert!(Pattern::parse(text).is_err(), "{text}");
        }
        assert_eq!(Pattern::parse("*"), Ok(Pattern::Interface(Glob::new("*").expect("one star"))));
    }

    #[test]
    fn a_path_that_is_a_link_is_not_followed() {
        let directory = std::env::temp_dir().join(format!("tieline-allowed-{}", std::process::id()));
        let real = directory.join("real");
        std::fs::create_dir_all(&real).expect("a directory");
        let link = directory.join("link");
        std::os::unix::fs::symlink(&real, &link).expect("a link");
        let listener = std::os::unix::net::UnixListener::bind(real.join("s")).expect("a socket");
        std::fs::write(real.join("file"), "").expect("a file");
        std::os::unix::fs::symlink(real.join("s"), real.join("to-s")).expect("a link");
        let device = |path: &Path| -> DeviceSpec {
            format!("net_vhost0,iface={}", path.display()).parse().expect("a device")
        };
        // A directory may be reached by a link; it is the same one.
        let pattern = format!("{}/", real.display());
        let some = allowed(Some(&[&pattern]), &[]);
        assert_eq!(some.check(&device(&link.join("s")), false), Ok(()));
        assert_eq!(check_paths(&device(&real.join("s"))), Ok(()));
        assert_eq!(check_paths(&device(&real.join("missing"))), Ok(()));
        for name in ["file", "to-s"] {
            let error = check_paths(&device(&real.join(name))).expect_err(name);
            assert!(error.contains("is not a socket"), "{error}");
        }
        drop(listener);
        std::fs::remove_dir_all(&directory).expect("it goes");
    }
}

//! Devices as operators write them: "0000:01:00.0",
//! "net_af_packet0,iface=eth1".
//!
//! DPDK's own parser takes much more than that: drivers that run programs,
//! arguments that name files to load or to truncate, addresses in memory. So
//! nothing of a text reaches DPDK but what is known here: a driver from the list
//! in `drivers.rs`, with arguments that it may have and values of the right kind,
//! as `value.rs` knows them.
//!
//! What a device takes from the host (an interface, a socket, a NIC) is its
//! [claim](Claim). Who may have which is for the caller to decide.

mod drivers;
mod value;

use std::ffi::CString;
use std::fmt;
use std::path::Path;
use std::str::FromStr;

use thiserror::Error;

pub use drivers::Driver;
use value::Kind;

/// Bytes of a text that an error repeats.
const SHOWN: usize = 80;
/// Longest name of a device in bytes: RTE_DEV_NAME_MAX_LEN is 64, with the zero
/// behind it.
const LONGEST_NAME: usize = 63;

/// A device of a driver that is known here, with arguments that are known too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceSpec {
    driver: Driver,
    name: String,
    /// In the order in which they were written.
    arguments: Vec<Argument>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Argument {
    key: &'static str,
    kind: Kind,
    value: String,
}

/// What a device takes from the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Claim<'a> {
    /// An interface of the kernel, or the name of one that is made.
    Interface(&'a str),
    /// A device on the PCI bus, with its domain.
    Pci(&'a str),
    /// A Unix socket or a character device.
    Socket(&'a Path),
    /// A capture file.
    File(&'a Path),
}

impl fmt::Display for Claim<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Claim::Interface(name) => write!(f, "interface {name}"),
            Claim::Pci(address) => write!(f, "PCI device {address}"),
            Claim::Socket(path) => write!(f, "socket {}", path.display()),
            Claim::File(path) => write!(f, "file {}", path.display()),
        }
    }
}

/// Why a text is no device that Tieline opens.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("device {text:?}: {reason}")]
pub struct ParseDeviceError {
    text: String,
    reason: String,
}

impl DeviceSpec {
    /// What DPDK calls the device and its port.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its driver.
    pub fn driver(&self) -> Driver {
        self.driver
    }

    /// Whether it is on the PCI bus.
    pub fn is_pci(&self) -> bool {
        self.driver == Driver::Pci
    }

    /// The value of an argument that can be given once.
    pub fn argument(&self, key: &str) -> Option<&str> {
        self.arguments.iter().find(|argument| argument.key == key).map(|argument| argument.value.as_str())
    }

    /// The device with an argument that it does not have yet; as it is, if it
    /// has one.
    ///
    /// # Errors
    /// When the driver does not take it, or not this value.
    pub fn with_argument(&self, key: &str, value: &str) -> Result<Self, ParseDeviceError> {
        if self.argument(key).is_some() {
            return Ok(self.clone());
        }
        format!("{self},{key}={value}").parse()
    }

    /// All that it takes from the host.
    pub fn claims(&self) -> impl Iterator<Item = Claim<'_>> {
        let own = self.is_pci().then_some(Claim::Pci(&self.name));
        let named = self.arguments.iter().filter_map(|argument| match argument.kind {
            Kind::Interface => Some(Claim::Interface(&argument.value)),
            Kind::Socket => Some(Claim::Socket(Path::new(&argument.value))),
            Kind::File => Some(Claim::File(Path::new(&argument.value))),
            _ => None,
        });
        own.into_iter().chain(named)
    }

    /// The arguments in the form that DPDK parses: with a comma before each.
    pub(crate) fn devargs(&self) -> CString {
        CString::new(self.to_string()).expect("parsing refuses zero bytes")
    }
}

impl fmt::Display for DeviceSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        self.arguments.iter().try_for_each(|Argument { key, value, .. }| write!(f, ",{key}={value}"))
    }
}

impl FromStr for DeviceSpec {
    type Err = ParseDeviceError;

    fn from_str(text: &str) -> Result<Self, ParseDeviceError> {
        parse(text).map_err(|reason| {
            let end = text.char_indices().map(|(at, _)| at).chain([text.len()]).take_while(|at| *at <= SHOWN);
            let shown = &text[..end.last().unwrap_or(0)];
            let more = if shown.len() < text.len() { "..." } else { "" };
            ParseDeviceError { text: format!("{shown}{more}"), reason }
        })
    }
}

fn parse(text: &str) -> Result<DeviceSpec, String> {
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("it holds spaces, control characters or others that are not ASCII".to_owned());
    }
    let mut parts = text.split(',');
    let written = parts.next().unwrap_or_default();
    let (driver, name) = match pci_address(written) {
        Some(address) => (Driver::Pci, address),
        None => (virtual_driver(written)?, written.to_owned()),
    };
    let mut arguments: Vec<Argument> = Vec::new();
    for part in parts {
        let argument = argument(driver, part)?;
        let again = arguments.iter().any(|earlier| earlier.key == argument.key);
        if again && argument.kind != Kind::File {
            return Err(format!("argument {:?} stands twice", argument.key));
        }
        arguments.push(argument);
    }
    let missing = driver.required().iter().find(|key| !arguments.iter().any(|given| given.key == **key));
    if let Some(key) = missing {
        return Err(format!("{driver} needs the argument {key}="));
    }
    Ok(DeviceSpec { driver, name, arguments })
}

/// The driver of a virtual device. DPDK takes the first driver whose name the
/// device's begins with, so what follows the name must not make it another's.
fn virtual_driver(name: &str) -> Result<Driver, String> {
    let found = Driver::VIRTUAL.iter().find(|driver| {
        name.strip_prefix(driver.name()).is_some_and(|rest| {
            let word = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
            let numbered = rest.bytes().all(|byte| byte.is_ascii_digit());
            numbered || (rest.starts_with('_') && rest.bytes().all(word))
        })
    });
    let Some(driver) = found else {
        let names: Vec<&str> = Driver::VIRTUAL.iter().map(|driver| driver.name()).collect();
        return Err(format!(
            "it is neither a PCI address such as \"0000:01:00.0\" nor a virtual device of a driver that is \
             allowed, such as \"net_af_packet0,iface=eth1\"; the drivers are {}",
            names.join(", ")
        ));
    };
    if name.len() > LONGEST_NAME {
        return Err(format!("its name is longer than {LONGEST_NAME} bytes"));
    }
    Ok(*driver)
}

fn argument(driver: Driver, part: &str) -> Result<Argument, String> {
    let (key, value) =
        part.split_once('=').ok_or_else(|| format!("{part:?} is not of the form key=value"))?;
    if let Some(why) = driver.refused(key) {
        return Err(format!("argument {key:?} is not allowed: {why}"));
    }
    let Some(&(key, kind)) = driver.parameters().iter().find(|(known, _)| *known == key) else {
        let known: Vec<&str> = driver.parameters().iter().map(|(key, _)| *key).collect();
        let takes = if known.is_empty() { "no arguments".to_owned() } else { known.join(", ") };
        return Err(format!("argument {key:?} is not allowed: {driver} takes {takes}"));
    };
    kind.check(value).map_err(|expected| format!("{key}={value:?}: expected {expected}"))?;
    Ok(Argument { key, kind, value: value.to_owned() })
}

/// The address with its domain, as DPDK names the port, if it is one.
fn pci_address(text: &str) -> Option<String> {
    let (rest, function) = text.split_once('.')?;
    let parts: Vec<&str> = rest.split(':').collect();
    let (domain, bus, device) = match parts[..] {
        [bus, device] => ("0000", bus, device),
        [domain, bus, device] => (domain, bus, device),
        _ => return None,
    };
    let hex = |part: &str, longest: usize| {
        let plain = !part.is_empty() && part.len() <= longest && part.bytes().all(|b| b.is_ascii_hexdigit());
        plain.then(|| u32::from_str_radix(part, 16).ok()).flatten()
    };
    let (domain, bus) = (hex(domain, 8)?, hex(bus, 2)?);
    let (device, function) = (hex(device, 2)?, hex(function, 1)?);
    (device < 32 && function < 8).then(|| format!("{domain:04x}:{bus:02x}:{device:02x}.{function}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn device(text: &str) -> DeviceSpec {
        text.parse().unwrap_or_else(|error| panic!("{error}"))
    }

    fn refusal(text: &str) -> String {
        match text.parse::<DeviceSpec>() {
            Ok(device) => panic!("{device} is taken"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn devices_are_told_apart() {
        let packet = device("net_af_packet0,iface=eth1,qpairs=2");
        assert_eq!((packet.name(), packet.driver()), ("net_af_packet0", Driver::AfPacket));
        assert_eq!(packet.devargs().as_c_str(), c"net_af_packet0,iface=eth1,qpairs=2");
        assert_eq!(packet.claims().collect::<Vec<_>>(), [Claim::Interface("eth1")]);
        for text in ["0000:0A:00.1,mprq_en=1", "0a:00.1,mprq_en=1", "a:0.1,mprq_en=1"] {
            let nic = device(text);
            assert!(nic.is_pci());
            assert_eq!(nic.to_string(), "0000:0a:00.1,mprq_en=1");
            assert_eq!(nic.claims().collect::<Vec<_>>(), [Claim::Pci("0000:0a:00.1")]);
        }
        let vhost = device("net_vhost_vm1,iface=/run/vm/1.sock,client=1,queues=2");
        assert_eq!(vhost.claims().collect::<Vec<_>>(), [Claim::Socket(Path::new("/run/vm/1.sock"))]);
        let guest = device("net_virtio_user0,path=/dev/vhost-net,iface=tap0");
        assert_eq!(
            guest.claims().collect::<Vec<_>>(),
            [Claim::Socket(Path::new("/dev/vhost-net")), Claim::Interface("tap0")]
        );
        let capture = device("net_pcap0,rx_pcap=/a,rx_pcap=/b,infinite_rx=1");
        assert_eq!(
            capture.claims().collect::<Vec<_>>(),
            [Claim::File(Path::new("/a")), Claim::File(Path::new("/b"))]
        );
    }

    #[test]
    fn drivers_that_are_not_listed_are_refused_by_name() {
        for text in [
            "net_failsafe0,exec(/bin/sh)",
            "net_failsafe0,dev(net_tap0,iface=x)",
            "net_bonding0,mode=1",
            "net_softnic0,firmware=/x",
            "net_kni0",
            "net_tun0,iface=x",
            "net_vdev_netvsc0,iface=x",
            "eth_pcap0,rx_pcap=/x",
            "net_",
            "eth0",
            "",
            ",",
            "crypto_null0",
            "bus=vdev,name=net_tap0",
            // Nothing may follow a driver's name that could make it another's.
            "net_tapx0,iface=x",
            "net_nullify",
            "net_tap0x,iface=x",
        ] {
            let error = refusal(text);
            assert!(error.contains("net_af_packet, net_af_xdp"), "{error}");
            assert!(error.starts_with(&format!("device {text:?}: ")), "{error}");
        }
    }

    #[test]
    fn arguments_that_are_not_listed_are_refused_by_name() {
        for (text, word) in [
            ("net_tap0,iface=t,remote=eth0", "\"remote\""),
            ("net_af_xdp0,iface=x,xdp_prog=/tmp/x.o", "\"xdp_prog\""),
            ("net_memif0,socket=/run/m,zero-copy=yes", "\"zero-copy\""),
            ("net_memif0,socket=/run/m,owner-uid=0", "\"owner-uid\""),
            ("net_pcap0,iface=eth0", "\"iface\""),
            ("net_pcap0,tx_iface=eth0", "\"tx_iface\""),
            ("net_ring0,ring=0x1000", "\"ring\""),
            ("net_ring0,nodeaction=x:0:CREATE", "\"nodeaction\""),
            ("net_null0,nosuch=1", "\"nosuch\""),
            ("0000:01:00.0,ddp_pkg_file=/tmp/x", "\"ddp_pkg_file\""),
            ("0000:01:00.0,representor=[0-3]", "\"representor\""),
            ("net_tap0,iface=a,iface=b", "\"iface\" stands twice"),
            ("net_tap0", "iface="),
            ("net_vhost0", "iface="),
            ("net_tap0,iface", "\"iface\" is not of the form"),
            ("net_tap0,iface=a,", "\"\" is not of the form"),
        ] {
            let error = refusal(text);
            assert!(error.contains(word), "{text}: {error}");
        }
    }

    #[test]
    fn values_have_the_kind_that_the_driver_expects() {
        for text in [
            "net_af_packet0,iface=../../etc",
            "net_af_packet0,iface=sixteen-bytes-16",
            "net_af_packet0,iface=",
            "net_af_packet0,iface=tap%d",
            "net_af_packet0,iface=.",
            "net_af_packet0,iface=x,qpairs=0",
            "net_af_packet0,iface=x,qpairs=0x10",
            "net_af_packet0,iface=x,qdisc_bypass=2",
            "net_af_packet0,iface=x,framecnt=99999999999999999999",
            "net_vhost0,iface=relative",
            "net_vhost0,iface=/run/../etc/x",
            "net_vhost0,iface=/run//x",
            "net_vhost0,iface=/run/",
            "net_vhost0,iface=/",
            "net_vhost0,iface=/run/a(b)",
            "net_virtio_user0,path=/x,mac=1",
            "net_memif0,socket=/x,role=both",
            "net_tap0,iface=x,mac=ff",
            "net_tap 0,iface=x",
            "net_tap0\0",
            "net_täp0",
            "0000:01:00.8",
            "0000:01:20.0",
            "01:00",
        ] {
            refusal(text);
        }
        let long = format!("net_vhost0,iface=/{}", "x".repeat(107));
        refusal(&long);
        assert!(refusal(&"x".repeat(5000)).len() < 1000, "a text is not repeated whole");
    }

    #[test]
    fn an_argument_is_added_where_there_is_none() {
        let tap = device("net_tap0,iface=x");
        let with = tap.with_argument("mac", "02:00:00:00:00:07").expect("it takes one");
        assert_eq!(with.to_string(), "net_tap0,iface=x,mac=02:00:00:00:00:07");
        assert_eq!(with.with_argument("mac", "02:00:00:00:00:08").expect("as it is"), with);
        assert!(device("net_null0").with_argument("mac", "02:00:00:00:00:07").is_err());
    }

    proptest! {
        #[test]
        fn what_is_accepted_can_be_printed_and_parsed_again(
            text in "\\PC*|net_(tap|null|vhost|memif|pcap)[0-9_]{0,3}(,(iface|socket|path|mac|size|rx_pcap)=[a-z0-9/.:]{0,9}){0,3}|[0-9a-f:.,]{0,14}"
        ) {
            if let Ok(device) = text.parse::<DeviceSpec>() {
                prop_assert_eq!(device.to_string().parse::<DeviceSpec>(), Ok(device));
            }
        }
    }
}

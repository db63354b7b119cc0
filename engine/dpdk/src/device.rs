//! The name of a device as operators write it.

use std::ffi::CString;
use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// A PCI device ("0000:01:00.0") or a virtual one ("net_tap0"), with arguments
/// for its driver behind commas: "net_af_packet0,iface=eth1".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceSpec {
    name: String,
    /// With a leading comma, or empty.
    arguments: String,
    pci: bool,
}

/// Why a string names no device.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "{text:?} names no DPDK device: {reason}. Write a PCI address such as \"0000:01:00.0\" or a virtual device \
     such as \"net_af_packet0,iface=eth1\""
)]
pub struct ParseDeviceError {
    text: String,
    reason: &'static str,
}

impl DeviceSpec {
    /// What DPDK calls the device and its port.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it is on the PCI bus.
    pub fn is_pci(&self) -> bool {
        self.pci
    }

    /// The device in the form that DPDK parses.
    pub(crate) fn devargs(&self) -> CString {
        CString::new(self.to_string()).expect("parsing refuses zero bytes")
    }
}

impl fmt::Display for DeviceSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.name, self.arguments)
    }
}

impl FromStr for DeviceSpec {
    type Err = ParseDeviceError;

    fn from_str(text: &str) -> Result<Self, ParseDeviceError> {
        let refuse = |reason| Err(ParseDeviceError { text: text.to_owned(), reason });
        if text.bytes().any(|byte| byte.is_ascii_control() || byte == b' ') {
            return refuse("it holds spaces or control characters");
        }
        let (name, arguments) = text.split_at(text.find(',').unwrap_or(text.len()));
        let arguments = arguments.to_owned();
        if let Some(name) = pci_address(name) {
            return Ok(Self { name, arguments, pci: true });
        }
        if !name.starts_with("net_") {
            return refuse("a virtual device begins with \"net_\" and its driver's name");
        }
        if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')) {
            return refuse("the name of a virtual device is made of letters, digits, '-' and '_'");
        }
        // RTE_DEV_NAME_MAX_LEN is 64 with the zero behind it.
        if name.len() > 63 {
            return refuse("the name is longer than 63 bytes");
        }
        Ok(Self { name: name.to_owned(), arguments, pci: false })
    }
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

    #[test]
    fn devices_are_told_apart() {
        let device: DeviceSpec = "net_af_packet0,iface=eth1,qpairs=2".parse().expect("a device");
        assert_eq!((device.name(), device.is_pci()), ("net_af_packet0", false));
        assert_eq!(device.devargs().as_c_str(), c"net_af_packet0,iface=eth1,qpairs=2");
        for text in ["0000:0A:00.1,rx=1", "0a:00.1,rx=1", "a:0.1,rx=1"] {
            let device: DeviceSpec = text.parse().expect("a device");
            assert!(device.is_pci());
            assert_eq!(device.to_string(), "0000:0a:00.1,rx=1");
        }
    }

    #[test]
    fn others_are_refused() {
        for text in [
            "",
            ",",
            "eth0",
            "net_tap 0",
            "net_tap0\0",
            "net_täp0",
            "0000:01:00.8",
            "0000:01:20.0",
            "01:00",
            "crypto_null0",
        ] {
            let error = text.parse::<DeviceSpec>().expect_err(text).to_string();
            assert!(error.contains(&format!("{text:?}")), "{error}");
        }
    }

    proptest! {
        #[test]
        fn what_is_accepted_can_be_printed_and_parsed_again(text in "\\PC*|net_[a-z0-9_]{0,70}(,[a-z=0-9]*)?|[0-9a-f:.,]{0,14}") {
            if let Ok(device) = text.parse::<DeviceSpec>() {
                prop_assert_eq!(device.to_string().parse::<DeviceSpec>(), Ok(device));
            }
        }
    }
}

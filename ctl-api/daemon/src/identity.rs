//! What sets this gateway and this start of it apart from others.

use std::hash::{BuildHasher as _, Hasher as _};
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use tieline_engine::types::MacAddr;

/// What controllers know this gateway by: a handle on the name. It is the store's,
/// so it may come late when the store cannot be opened at the start.
#[derive(Debug, Clone)]
pub struct NodeId(Arc<RwLock<String>>);

impl NodeId {
    /// The name of a gateway whose store has said none.
    pub fn without_store(socket: &Path) -> Self {
        Self(Arc::new(RwLock::new(node_id(socket))))
    }

    /// The name.
    pub fn text(&self) -> String {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes another name on.
    pub fn set(&self, text: String) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = text;
    }

    /// Takes the name of a store on.
    pub fn set_bytes(&self, bytes: [u8; 16]) {
        self.set(bytes.iter().map(|byte| format!("{byte:02x}")).collect());
    }

    /// The name as a store has it. `None` if no store has given it.
    pub fn bytes(&self) -> Option<[u8; 16]> {
        let text = self.text();
        let number = u128::from_str_radix(&text, 16).ok();
        number.filter(|_| text.len() == 32).map(u128::to_be_bytes)
    }
}

/// A name that no other start has: 32 hexadecimal digits.
pub fn boot_id() -> String {
    let random = || std::hash::RandomState::new().build_hasher().finish();
    format!("{:016x}{:016x}", random(), random())
}

/// The router MAC of a gateway that is given none: locally administered, and
/// the same after every start on this host with this control socket.
pub fn router_mac(socket: &Path) -> MacAddr {
    mac_for(host_id().trim().as_bytes(), socket.as_os_str().as_encoded_bytes())
}

/// What names a gateway without a store, the same after every start on this host
/// with this control socket: 16 hexadecimal digits.
fn node_id(socket: &Path) -> String {
    let hash = hash_of(host_id().trim().as_bytes(), socket.as_os_str().as_encoded_bytes());
    format!("{hash:016x}")
}

/// The machine's own ID, or else its name.
fn host_id() -> String {
    ["/etc/machine-id", "/proc/sys/kernel/hostname"]
        .iter()
        .find_map(|path| std::fs::read_to_string(path).ok().filter(|text| !text.trim().is_empty()))
        .unwrap_or_default()
}

fn hash_of(host: &[u8], socket: &[u8]) -> u64 {
    // FNV-1a: the standard library's hashes may change between releases.
    host.iter().chain(b"\0").chain(socket).fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

fn mac_for(host: &[u8], socket: &[u8]) -> MacAddr {
    let hash = hash_of(host, socket);
    let [a, b, c, d, e, f, g, h] = hash.to_be_bytes();
    MacAddr([0x02, a ^ g, b ^ h, c ^ d, e, f])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn router_macs_are_stable_and_differ_by_host_and_socket() {
        let mac = mac_for(b"host", b"/run/a.sock");
        assert_eq!(mac, mac_for(b"host", b"/run/a.sock"));
        assert_eq!(mac.0[0], 2, "locally administered, unicast");
        assert_ne!(mac, mac_for(b"host", b"/run/b.sock"));
        assert_ne!(mac, mac_for(b"tsoh", b"/run/a.sock"));
    }

    #[test]
    fn the_name_is_the_stores_once_it_has_one() {
        let node = NodeId::without_store(Path::new("/run/a.sock"));
        let other_end = node.clone();
        assert_eq!((node.text().len(), node.bytes()), (16, None));
        let bytes = std::array::from_fn(|at| at as u8);
        node.set_bytes(bytes);
        assert_eq!(other_end.text(), "000102030405060708090a0b0c0d0e0f");
        assert_eq!(other_end.bytes(), Some(bytes));
        node.set("not a number, but of its length".into());
        assert_eq!(other_end.bytes(), None);
    }

    #[test]
    fn boot_ids_differ() {
        assert_eq!(boot_id().len(), 32);
        assert_ne!(boot_id(), boot_id());
    }
}

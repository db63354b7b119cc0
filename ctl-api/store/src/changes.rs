//! Changes to records: what a caller builds, and what the log holds.
//!
//! A change is written as it is added: the length of the key times two, plus
//! one if a value follows; the key; the length of the value and the value.
//! Lengths are [`varint`]s. A route to an IPv4 /24 takes 11 bytes.

use ipnet::IpNet;

use crate::record::key;
use crate::varint;

/// A change: a key, and its value from now on, or `None` if it is removed.
pub(crate) type Change<'a> = (&'a [u8], Option<&'a [u8]>);

/// Changes that are written together. Later ones go before earlier ones of
/// the same record. May be used again after it was written.
#[derive(Debug, Default, Clone)]
pub struct Changes {
    bytes: Vec<u8>,
    key: Vec<u8>,
    count: usize,
}

impl Changes {
    /// No change.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether there is no change in it.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Changes in it.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Its size in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Forgets all changes, and keeps the memory for the next ones.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.count = 0;
    }

    /// A value of the caller's under a name.
    pub fn put_meta(&mut self, name: &str, value: &[u8]) {
        self.put(value, |out| key::meta(out, name));
    }

    /// Removes the value under this name.
    pub fn remove_meta(&mut self, name: &str) {
        self.remove(|out| key::meta(out, name));
    }

    /// What is known of a controller.
    pub fn put_controller(&mut self, number: u16, value: &[u8]) {
        self.put(value, |out| key::controller(out, number));
    }

    /// Forgets a controller. Its declarations are records of their own.
    pub fn remove_controller(&mut self, number: u16) {
        self.remove(|out| key::controller(out, number));
    }

    /// What a controller has declared.
    pub fn put_declaration(&mut self, controller: u16, key: &[u8], value: &[u8]) {
        self.put(value, |out| key::declaration(out, controller, key));
    }

    /// What a controller no longer declares.
    pub fn remove_declaration(&mut self, controller: u16, key: &[u8]) {
        self.remove(|out| key::declaration(out, controller, key));
    }

    /// What routes have in common.
    pub fn put_attributes(&mut self, number: u32, value: &[u8]) {
        self.put(value, |out| key::attributes(out, number));
    }

    /// Removes attributes. Their routes are records of their own.
    pub fn remove_attributes(&mut self, number: u32) {
        self.remove(|out| key::attributes(out, number));
    }

    /// A route. Bits of the address beyond the prefix are not kept. `value` is
    /// what the route has for itself; most often nothing.
    pub fn add_route(&mut self, attributes: u32, prefix: IpNet, value: &[u8]) {
        self.put(value, |out| key::route(out, attributes, prefix));
    }

    /// Removes a route.
    pub fn remove_route(&mut self, attributes: u32, prefix: IpNet) {
        self.remove(|out| key::route(out, attributes, prefix));
    }

    /// The label that a VRF was given.
    pub fn put_label(&mut self, vrf: &str, label: u32) {
        self.put(&label.to_be_bytes(), |out| key::label(out, vrf));
    }

    /// Gives the label of a VRF up.
    pub fn remove_label(&mut self, vrf: &str) {
        self.remove(|out| key::label(out, vrf));
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Puts a record whose key is written already.
    pub(crate) fn put_raw(&mut self, key: &[u8], value: &[u8]) {
        self.put(value, |out| out.extend_from_slice(key));
    }

    fn put(&mut self, value: &[u8], write_key: impl FnOnce(&mut Vec<u8>)) {
        self.start(true, write_key);
        varint::put(&mut self.bytes, value.len());
        self.bytes.extend_from_slice(value);
    }

    fn remove(&mut self, write_key: impl FnOnce(&mut Vec<u8>)) {
        self.start(false, write_key);
    }

    fn start(&mut self, has_value: bool, write_key: impl FnOnce(&mut Vec<u8>)) {
        self.key.clear();
        write_key(&mut self.key);
        varint::put(&mut self.bytes, self.key.len() << 1 | usize::from(has_value));
        self.bytes.extend_from_slice(&self.key);
        self.count += 1;
    }
}

/// Takes the first change from `bytes`. `None` when they are no change.
pub(crate) fn take<'a>(bytes: &mut &'a [u8]) -> Option<Change<'a>> {
    let head = varint::take(bytes)?;
    let key = varint::take_bytes(bytes, head >> 1)?;
    if head & 1 == 0 {
        return Some((key, None));
    }
    let length = varint::take(bytes)?;
    Some((key, Some(varint::take_bytes(bytes, length)?)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(mut bytes: &[u8]) -> Option<Vec<Change<'_>>> {
        let mut changes = Vec::new();
        while !bytes.is_empty() {
            changes.push(take(&mut bytes)?);
        }
        Some(changes)
    }

    #[test]
    fn changes_are_read_back_in_their_order() {
        let mut changes = Changes::new();
        changes.put_label("red", 1001);
        changes.remove_controller(2);
        changes.add_route(1, "10.0.0.0/24".parse().expect("a prefix"), &[]);
        assert_eq!(changes.len(), 3);
        assert_eq!(
            all(changes.as_bytes()).expect("they were just written"),
            [
                (&b"\x03red"[..], Some(&[0, 0, 3, 0xe9][..])),
                (&[2, 0, 2][..], None),
                (&[6, 0, 0, 0, 1, 24, 10, 0, 0][..], Some(&[][..])),
            ]
        );
        changes.clear();
        assert!(changes.is_empty() && changes.as_bytes().is_empty());
    }

    #[test]
    fn a_route_takes_eleven_bytes() {
        let mut changes = Changes::new();
        changes.add_route(1, "10.0.0.0/24".parse().expect("a prefix"), &[]);
        assert_eq!(changes.bytes(), 11);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_do_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = all(&bytes);
        }
    }
}

//! Fragmentation of IPv4 packets that are too big and may be cut (RFC 791
//! section 2.3).

use crate::drop_reason::DropReason;
use crate::io::{BufferPool, Io};
use crate::packet::buffer::PacketBuf;
use crate::packet::checksum::checksum;
use crate::packet::meta::{PacketFlags, PacketMeta};
use crate::pipeline::burst::Burst;
use crate::pipeline::context::Context;

/// More fragments follow.
const MORE_FRAGMENTS: u16 = 0x2000;
/// Offset of the payload, in units of 8 bytes.
const OFFSET_MASK: u16 = 0x1fff;
/// Length of an IPv4 header without options.
const MIN_HEADER: usize = 20;

/// Cuts a packet into fragments of at most `mtu` bytes, which are routed
/// again one by one. The packet itself is consumed.
pub fn run<I: Io>(cx: &mut Context<'_, I>, burst: &mut Burst<I::Buf>, index: u8, mtu: u16) {
    let meta = *burst.meta(index);
    let Some(packet) = burst.take(index) else { return };
    let end = usize::from(meta.l3_offset) + usize::from(meta.ip_length);
    let cut = packet.bytes().get(usize::from(meta.l3_offset)..end).and_then(|bytes| Cut::new(bytes, mtu));
    let Some(cut) = cut else {
        cx.counters.drop_at(DropReason::PacketTooBig, Some(meta.ingress), Some(meta.key.vrf));
        return;
    };
    cx.counters.consumed.add(1);
    for part in 0..cut.parts() {
        let written = |mut fragment| cut.write(part, &mut fragment).then_some(fragment);
        if let Some(fragment) = cx.pool.alloc().and_then(written) {
            cx.originate(fragment, fragment_meta(&meta, part, cut.length(part)));
        } else {
            cx.counters.originated.add(1);
            cx.counters.drop_at(DropReason::NoBuffer, Some(meta.ingress), Some(meta.key.vrf));
        }
    }
}

/// The fragment goes where the packet went; its TTL is still to be taken.
fn fragment_meta(packet: &PacketMeta, part: usize, length: usize) -> PacketMeta {
    const KEPT: PacketFlags = PacketFlags::FROM_HOST
        .union(PacketFlags::DECAPSULATED)
        .union(PacketFlags::ORIGINATED)
        .union(PacketFlags::ICMP_ERROR);
    let mut meta = *packet;
    meta.l3_offset = 0;
    meta.l4_offset = packet.l4_offset.saturating_sub(packet.l3_offset);
    meta.ip_length = length as u16;
    meta.flags = PacketFlags(packet.flags.0 & KEPT.0).union(PacketFlags::ALLOWED);
    if part > 0 || packet.flags.contains(PacketFlags::LATER_FRAGMENT) {
        meta.flags.insert(PacketFlags::LATER_FRAGMENT);
    }
    meta
}

/// How one packet is cut.
struct Cut<'a> {
    header: &'a [u8],
    payload: &'a [u8],
    /// Payload bytes of every fragment but the last: a multiple of 8.
    step: usize,
    /// Flags and offset of the whole packet, which may be a fragment itself.
    flags_and_offset: u16,
}

impl<'a> Cut<'a> {
    /// `packet` is an IPv4 packet with a valid header.
    fn new(packet: &'a [u8], mtu: u16) -> Option<Self> {
        let header_length = usize::from(packet.first()? & 0x0f) * 4;
        if header_length < MIN_HEADER {
            return None;
        }
        let (header, payload) = packet.split_at_checked(header_length)?;
        let step = usize::from(mtu).checked_sub(header_length)? & !7;
        let flags_and_offset = u16::from_be_bytes([header[6], header[7]]);
        (step > 0).then_some(Self { header, payload, step, flags_and_offset })
    }

    fn parts(&self) -> usize {
        self.payload.len().div_ceil(self.step)
    }

    fn slice(&self, part: usize) -> &'a [u8] {
        let start = (part * self.step).min(self.payload.len());
        let end = (start + self.step).min(self.payload.len());
        &self.payload[start..end]
    }

    fn length(&self, part: usize) -> usize {
        self.header.len() + self.slice(part).len()
    }

    /// Writes one fragment into an empty buffer. Options are copied to every
    /// fragment: those that need not be are harmless there.
    fn write<B: PacketBuf>(&self, part: usize, fragment: &mut B) -> bool {
        let length = self.length(part);
        if !fragment.append(length) {
            return false;
        }
        let bytes = fragment.bytes_mut();
        let (header, payload) = bytes.split_at_mut(self.header.len());
        header.copy_from_slice(self.header);
        payload.copy_from_slice(self.slice(part));
        header[2..4].copy_from_slice(&(length as u16).to_be_bytes());
        let units = (part * self.step / 8) as u16;
        let offset = (self.flags_and_offset & OFFSET_MASK).wrapping_add(units) & OFFSET_MASK;
        let last = part + 1 == self.parts();
        let more = if last { self.flags_and_offset & MORE_FRAGMENTS } else { MORE_FRAGMENTS };
        header[6..8].copy_from_slice(&(offset | more).to_be_bytes());
        header[10..12].fill(0);
        let sum = checksum(header);
        header[10..12].copy_from_slice(&sum.to_be_bytes());
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::memory::MemoryPool;
    use proptest::prelude::*;

    fn packet(options: usize, payload: usize, flags_and_offset: u16) -> Vec<u8> {
        let mut bytes = vec![0u8; 20 + options * 4];
        bytes[0] = 0x40 | (5 + options as u8);
        bytes[6..8].copy_from_slice(&flags_and_offset.to_be_bytes());
        bytes[8] = 64;
        bytes[9] = 17;
        // NOP options.
        bytes[20..].fill(1);
        bytes.extend((0..payload).map(|n| (n * 7) as u8));
        let total = (bytes.len() as u16).to_be_bytes();
        bytes[2..4].copy_from_slice(&total);
        bytes
    }

    proptest! {
        #[test]
        fn fragments_fit_and_put_together_give_the_payload(
            options in 0usize..=10, payload in 1usize..4000, mtu in 68u16..1500,
            first_offset in 0u16..100, more in any::<bool>(),
        ) {
            let mut pool = MemoryPool::new(1);
            let flags = first_offset | if more { MORE_FRAGMENTS } else { 0 };
            let whole = packet(options, payload, flags);
            let header = 20 + options * 4;
            let cut = Cut::new(&whole, mtu).expect("a step");
            let mut collected = Vec::new();
            for part in 0..cut.parts() {
                let mut fragment = pool.alloc().expect("a buffer");
                prop_assert!(cut.write(part, &mut fragment));
                let bytes = fragment.bytes();
                prop_assert!(bytes.len() <= usize::from(mtu));
                prop_assert_eq!(usize::from(u16::from_be_bytes([bytes[2], bytes[3]])), bytes.len());
                prop_assert_eq!(checksum(&bytes[..header]), 0);
                let field = u16::from_be_bytes([bytes[6], bytes[7]]);
                prop_assert_eq!(usize::from(field & OFFSET_MASK), usize::from(first_offset) + collected.len() / 8);
                let is_last = part + 1 == cut.parts();
                prop_assert_eq!(field & MORE_FRAGMENTS != 0, !is_last || more);
                collected.extend_from_slice(&bytes[header..]);
            }
            prop_assert_eq!(&collected[..], &whole[header..]);
        }
    }
}

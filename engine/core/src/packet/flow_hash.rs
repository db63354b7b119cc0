//! The hash of a flow, the same for both of its directions.
//!
//! It chooses the worker that owns a session, the member of an ECMP group and
//! the source port of a tunnel. All three must agree for both directions, so
//! the two endpoints enter it in a way that does not tell them apart.
//!
//! The VRF is left out: a session may cross from one VRF to another, its two
//! directions then carry different VRFs, and still one worker must own both.
//!
//! It is not keyed. What an outsider must not be able to steer, such as the
//! bucket of a session, has to use a keyed hash.

use crate::packet::flow_key::FlowKey;

/// Odd constants without structure: fractional digits of square roots of primes.
const K: [u64; 4] =
    [0x6a09_e667_f3bc_c909, 0xbb67_ae85_84ca_a73b, 0x3c6e_f372_fe94_f82b, 0xa54f_f53a_5f1d_36f1];

/// The hash of a whole packet's flow: addresses, ports and protocol.
#[inline(always)]
pub fn flow_hash(key: &FlowKey) -> u32 {
    let [s0, s1, d0, d1, _] = key.words();
    let source = endpoint(s0, s1, key.source_port);
    let destination = endpoint(d0, d1, key.destination_port);
    // A sum, not an exclusive or: equal endpoints must not cancel out.
    finish(source.wrapping_add(destination), u64::from(key.protocol))
}

/// The hash of a fragment: addresses alone, so that all fragments of a packet
/// have the same.
///
/// Later fragments have no ports. The protocol is left out too, because an
/// IPv6 fragment states the header that follows the fragment header, which
/// only in the first fragment can be followed up to the transport protocol.
#[inline(always)]
pub fn fragment_hash(key: &FlowKey) -> u32 {
    let [s0, s1, d0, d1, _] = key.words();
    // No protocol number is this large: a fragment is no flow of protocol 0.
    finish(endpoint(s0, s1, 0).wrapping_add(endpoint(d0, d1, 0)), 1 << 8)
}

/// One end of a flow. The port goes where IPv4 addresses have zeros.
#[inline(always)]
fn endpoint(high: u64, low: u64, port: u16) -> u64 {
    fold(high ^ K[0], low ^ K[1] ^ (u64::from(port) << 24))
}

/// Mixes every bit of the sum into all 32 bits of the result.
#[inline(always)]
fn finish(ends: u64, protocol: u64) -> u32 {
    let mixed = fold(ends ^ K[2], K[3] ^ protocol);
    (mixed.wrapping_mul(K[0]) >> 32) as u32
}

/// The halves of a 128-bit product, folded together.
#[inline(always)]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product as u64) ^ ((product >> 64) as u64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::packet::flow_key::Family;
    use crate::types::VrfId;

    fn key4(source: u32, destination: u32, source_port: u16, destination_port: u16) -> FlowKey {
        let mut key = FlowKey { source_port, destination_port, protocol: 6, ..FlowKey::ZERO };
        key.source[..4].copy_from_slice(&source.to_be_bytes());
        key.destination[..4].copy_from_slice(&destination.to_be_bytes());
        key
    }

    proptest! {
        #[test]
        fn both_directions_in_any_vrf_hash_equally(
            source: [u8; 16], destination: [u8; 16],
            source_port: u16, destination_port: u16, protocol: u8, vrf: u16, other: u16,
        ) {
            let key = FlowKey {
                source, destination, source_port, destination_port, protocol,
                vrf: VrfId(vrf), family: Family::V6,
            };
            prop_assert_eq!(flow_hash(&key), flow_hash(&key.reversed(VrfId(other))));
            prop_assert_eq!(fragment_hash(&key), fragment_hash(&key.reversed(VrfId(other))));
        }

        #[test]
        fn fragments_hash_without_ports_and_protocol(
            source: [u8; 16], destination: [u8; 16], port: u16, protocol: u8,
        ) {
            let bare = FlowKey { source, destination, family: Family::V6, ..FlowKey::ZERO };
            let full = FlowKey { source_port: port, destination_port: 80, protocol, ..bare };
            prop_assert_eq!(fragment_hash(&bare), fragment_hash(&full));
        }
    }

    /// Chi-square over 64 cells of one group of bits.
    fn chi_square(hashes: &[u32], shift: u32) -> f64 {
        let mut cells = [0u32; 64];
        for hash in hashes {
            cells[(hash >> shift) as usize % 64] += 1;
        }
        let expected = hashes.len() as f64 / 64.0;
        cells.iter().map(|n| (f64::from(*n) - expected).powi(2) / expected).sum()
    }

    #[test]
    fn neighbouring_flows_spread_evenly_over_all_bits() {
        let by_port: Vec<u32> =
            (0..16384u16).map(|n| flow_hash(&key4(0x0a00_0001, 0x0a00_0002, 1024 + n, 80))).collect();
        let by_address: Vec<u32> =
            (0..16384u32).map(|n| flow_hash(&key4(0x0a00_0000 + n, 0x0a01_0002, 5000, 80))).collect();
        let by_echo: Vec<u32> =
            (0..16384u16).map(|n| flow_hash(&key4(0x0a00_0001, 0x0a00_0002, n, n))).collect();
        let pairs: Vec<u32> = (0..16384u32)
            .map(|n| flow_hash(&key4(0x0a00_0000 + (n >> 7), 0x0a00_0000 + (n & 127), 9, 9)))
            .collect();
        for (what, hashes) in [("port", &by_port), ("address", &by_address), ("echo", &by_echo)] {
            for shift in [0, 6, 13, 20, 26] {
                // 63 degrees of freedom: beyond 120 is one in 50,000.
                let chi = chi_square(hashes, shift);
                assert!(chi < 120.0, "{what}, bits from {shift}: {chi}");
            }
        }
        // Symmetric pairs collide by design, in twos; nothing else may pile up.
        for shift in [0, 26] {
            let chi = chi_square(&pairs, shift);
            assert!(chi < 240.0, "pairs, bits from {shift}: {chi}");
        }
    }
}

//! Random traffic and random changes.

use std::sync::Arc;

use tieline_engine::policy::{Direction, L4Match, Policy, Remote, Rule};
use tieline_engine::testbed::Testbed;
use tieline_engine::testbed::topology::*;
use tieline_engine::types::{PortId, SgId, SgSetId};

use super::*;

/// A small generator, seeded so that a failure can be seen again.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        // xorshift64*.
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}

pub fn valid_frame(random: &mut Random) -> (PortId, Vec<u8>) {
    let ports = (random.below(40) as u16, random.below(40) as u16);
    let payload = vec![0x55; random.below(1800)];
    let tcp = [Tcp::Syn, Tcp::SynAck, Tcp::Ack, Tcp::Rst][random.below(4)];
    match random.below(12) {
        0 => (TENANT_1, udp_from(TENANT_1, W1, FAR, ports, &payload)),
        1 => (TENANT_1, udp_from(TENANT_1, W1_V6, FAR_V6, ports, &payload)),
        2 => (TENANT_1, tcp_from(TENANT_1, W1, FAR, ports, tcp)),
        3 => (TENANT_2, udp_from(TENANT_2, W2, W1, ports, &payload)),
        4 => (TENANT_2, tcp_from(TENANT_2, W2, W1, ports, tcp)),
        5 => (TENANT_1, echo_from(TENANT_1, W1, "10.1.0.1", 64)),
        6 => (TENANT_2, echo_from(TENANT_2, W2, FAR, random.below(3) as u8)),
        7 => (FABRIC, tunnelled(LABEL, &inner_udp(FAR, W1, ports, &payload))),
        8 => (FABRIC, tunnelled(LABEL, &inner_tcp(FAR, W2, ports, tcp))),
        9 => (FABRIC, tunnelled(LABEL, &inner_udp(FAR_V6, W1_V6, ports, &payload))),
        10 => {
            let step = headers(REMOTE_MAC, own_mac(FABRIC), "198.18.0.2", "198.18.0.1", 1);
            (FABRIC, tcp_segment(step, ports, tcp, None))
        }
        _ => {
            let other = tieline_engine::types::MacAddr([2, 0, 0, 0, 0, 0xfe]);
            let to = if random.below(2) == 0 { "198.18.0.2" } else { "198.18.0.66" };
            (HOST, tcp_segment(headers(own_mac(HOST), other, "198.18.0.1", to, 1), ports, tcp, None))
        }
    }
}

pub fn frame(random: &mut Random) -> (PortId, Vec<u8>) {
    let (port, mut bytes) = valid_frame(random);
    match random.below(10) {
        0..5 => {}
        5..8 => {
            for _ in 0..=random.below(4) {
                let at = random.below(bytes.len().min(90));
                bytes[at] ^= 1 << random.below(8);
            }
        }
        8 => bytes.truncate(random.below(bytes.len() + 1)),
        _ => {
            let start = random.below(bytes.len());
            bytes[start..].iter_mut().for_each(|byte| *byte = random.next() as u8);
        }
    }
    (PortId(if random.below(50) == 0 { random.below(4) as u16 } else { port.0 }), bytes)
}

/// Another policy, other options, other groups, others who may send.
pub fn change_tables(random: &mut Random, bed: &mut Testbed) {
    let port = TENANTS[random.below(2)];
    let last = random.below(40) as u16;
    let kind = random.below(3);
    let (known, strict, own) = (random.below(16) > 0, random.below(16) == 0, random.below(16) == 0);
    bed.update(|tables| {
        let l4 = L4Match::Ports { first: 0, last };
        let rule = Rule { group: SgId(1), family: None, protocol: Some(17), l4, remote: Remote::Any };
        let both = [(Direction::Egress, rule), (Direction::Ingress, rule)];
        let policy = (kind > 0).then(|| Policy::new(SgSetId::EMPTY, both));
        set_policy(tables, port, policy);
        tables.options.clamp_mss = kind == 1;
        let remote: IpAddr = REMOTE.parse().expect("an address");
        let remotes = Arc::make_mut(&mut tables.remotes);
        remotes.remove(&remote);
        remotes.extend(known.then_some(remote));
        let vrf = tables.vrfs.get_mut(VRF.index()).expect("the VRF");
        vrf.strict_sources = strict;
        let far: IpAddr = FAR.parse().expect("an address");
        vrf.own_addresses.remove(far);
        if own {
            vrf.own_addresses.insert(far);
        }
        tables.sg_sets.insert(9, Arc::from([SgId(u32::from(last))]));
    });
}

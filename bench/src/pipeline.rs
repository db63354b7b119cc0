//! A gateway in memory that is fed the same flows again and again.

use etherparse::PacketBuilder;
use tieline_engine::policy::{Direction, L4Match, Policy, Remote, Rule};
use tieline_engine::stats::Counters;
use tieline_engine::testbed::topology::{
    FABRIC, LABEL, REMOTE_MAC, TENANT_1, gateway_of_size, own_mac, set_policy, workload_mac,
};
use tieline_engine::testbed::{Size, Testbed};
use tieline_engine::types::{PortId, SgId, SgSetId};

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Case {
    /// From a tenant into MPLS-in-UDP, no security groups, 1,000 flows.
    Stateless1k,
    /// The same with security groups, 1,000 sessions.
    Stateful1k,
    /// The same with 100,000 sessions.
    Stateful100k,
    /// Out of MPLS-in-UDP to a tenant with security groups, 1,000 sessions.
    DecapStateful1k,
}

impl Case {
    /// All of them.
    pub const ALL: [Case; 4] =
        [Case::Stateless1k, Case::Stateful1k, Case::Stateful100k, Case::DecapStateful1k];

    /// Its name on the command line and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Case::Stateless1k => "stateless_1k",
            Case::Stateful1k => "stateful_1k",
            Case::Stateful100k => "stateful_100k",
            Case::DecapStateful1k => "decap_stateful_1k",
        }
    }

    /// The case of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|case| case.name() == name)
    }

    fn flows(self) -> usize {
        match self {
            Case::Stateful100k => 100_000,
            _ => 1000,
        }
    }

    fn ports(self) -> (PortId, PortId) {
        match self {
            Case::DecapStateful1k => (FABRIC, TENANT_1),
            _ => (TENANT_1, FABRIC),
        }
    }
}

/// Frames on a wire at once.
const WINDOW: usize = 64;

/// A gateway, and the frames to feed it.
#[derive(Debug)]
pub struct Rig {
    bed: Testbed,
    case: Case,
    frames: Vec<Vec<u8>>,
    next: usize,
}

impl Rig {
    /// A gateway for a case.
    ///
    /// # Panics
    /// If a frame cannot be built, which no case leads to.
    pub fn new(case: Case) -> Self {
        let size = Size { workers: 1, buffers: 512, sessions: case.flows() * 2, counted: 16 };
        let mut bed = gateway_of_size(size);
        if case != Case::Stateless1k {
            let any =
                Rule { group: SgId(1), family: None, protocol: None, l4: L4Match::Any, remote: Remote::Any };
            let policy = Policy::new(SgSetId::EMPTY, [(Direction::Egress, any), (Direction::Ingress, any)]);
            bed.update(|tables| set_policy(tables, TENANT_1, Some(policy)));
            bed.run();
        }
        let frames = (0..case.flows()).map(|flow| frame(case, flow as u32)).collect();
        Self { bed, case, frames, next: 0 }
    }

    /// Flows that it sends.
    pub fn flows(&self) -> usize {
        self.frames.len()
    }

    /// Sends at least so many packets; returns how many came out.
    pub fn run(&mut self, packets: usize) -> usize {
        let (from, to) = self.case.ports();
        let mut out = 0;
        let mut sent = 0;
        while sent < packets {
            for _ in 0..WINDOW {
                sent += usize::from(self.bed.send(from, &self.frames[self.next]));
                self.next = (self.next + 1) % self.frames.len();
            }
            let now = self.bed.now;
            self.bed.workers[0].turn(now);
            out += self.bed.discard(to);
        }
        out
    }

    /// What the gateway's worker counts.
    pub fn counters(&self) -> &Counters {
        self.bed.counters(0)
    }

    /// Whether all packets are accounted for.
    pub fn is_balanced(&self) -> bool {
        self.bed.balance().is_exact()
    }
}

/// A 60-byte UDP packet of one flow.
fn frame(case: Case, flow: u32) -> Vec<u8> {
    let [_, high, middle, low] = flow.to_be_bytes();
    let far = [10, 2, high, middle];
    let (source, destination) = match case {
        Case::DecapStateful1k => (far, [10, 1, 0, 10]),
        _ => ([10, 1, 0, 10], far),
    };
    let ports = (1024 + u16::from(low), 53);
    let inner = PacketBuilder::ethernet2(workload_mac(TENANT_1).0, own_mac(TENANT_1).0)
        .ipv4(source, destination, 64)
        .udp(ports.0, ports.1);
    let mut bytes = Vec::new();
    const FITS: &str = "18 bytes fit a packet";
    inner.write(&mut bytes, &[0; 18]).expect(FITS);
    if case != Case::DecapStateful1k {
        return bytes;
    }
    let mut payload = (LABEL << 12 | 1 << 8 | 64).to_be_bytes().to_vec();
    payload.extend_from_slice(&bytes[14..]);
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(REMOTE_MAC.0, own_mac(FABRIC).0)
        .ipv4([198, 18, 0, 2], [198, 18, 0, 1], 64)
        .udp(50_000 + ports.0 % 1000, 6635)
        .write(&mut frame, &payload)
        .expect(FITS);
    frame
}

//! A gateway whose ports replay frames: the same flows again and again.

use etherparse::{PacketBuilder, VlanId};
use ipnet::IpNet;
use tieline_engine::io::replay::{ReplayFrames, ReplayIo, ReplayPool, ReplayRx, ReplayTx, ReplayWire};
use tieline_engine::io::{BURST, Io, PacketBurst, RxQueue, TxQueue};
use tieline_engine::packet::flow_key::Family;
use tieline_engine::policy::{Direction, L4Match, Policy, Remote, Rule};
use tieline_engine::session::Tick;
use tieline_engine::stats::Counters;
use tieline_engine::tables::Tables;
use tieline_engine::tables::interface::Interface;
use tieline_engine::tables::port::VlanTags;
use tieline_engine::tables::vrf::Vrf;
use tieline_engine::testbed::Size;
use tieline_engine::testbed::replay::ReplayBed;
use tieline_engine::testbed::topology::{
    FABRIC, HOST, LABEL, REMOTE_MAC, REMOTE_NEXT_HOP, TENANT_1, TENANT_2, add_route, own_mac, set_policy,
    tables, workload_mac,
};
use tieline_engine::types::{InterfaceId, PortId, SgId, SgSetId, VrfId};

use crate::random::Random;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Case {
    /// Its name on the command line and in reports.
    pub name: &'static str,
    /// What is done with the packets.
    pub work: Work,
    /// IP version of the tenants' packets.
    pub family: Family,
    /// Flows that the packets belong to.
    pub flows: usize,
}

/// What is done with the packets of a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// From the receive queue to the transmit queue, without an engine: what
    /// the other cases contain of the port.
    PortOnly,
    /// From a tenant into MPLS-in-UDP, no security groups.
    Stateless,
    /// The same from as many tenants as there are flows, each with a VLAN and
    /// a VRF of its own.
    Vrfs,
    /// As stateless, but with security groups: every packet has its session.
    Stateful,
    /// Out of MPLS-in-UDP to a tenant with security groups.
    Decapsulate,
    /// As stateful, but every packet is the first of its flow, and as many
    /// sessions end as begin.
    NewSessions,
}

const fn case(name: &'static str, work: Work, family: Family, flows: usize) -> Case {
    Case { name, work, family, flows }
}

impl Case {
    /// All of them.
    pub const ALL: [Case; 14] = [
        case("port_only", Work::PortOnly, Family::V4, 1000),
        case("stateless_1k", Work::Stateless, Family::V4, 1000),
        case("stateless_100k", Work::Stateless, Family::V4, 100_000),
        // Of the 4,096 VLAN IDs two are reserved.
        case("vrfs_4k", Work::Vrfs, Family::V4, 4094),
        case("stateful_1k", Work::Stateful, Family::V4, 1000),
        case("stateful_100k", Work::Stateful, Family::V4, 100_000),
        case("stateful_1m", Work::Stateful, Family::V4, 1_000_000),
        case("ipv6_stateful_1k", Work::Stateful, Family::V6, 1000),
        case("ipv6_stateful_100k", Work::Stateful, Family::V6, 100_000),
        case("decap_stateful_1k", Work::Decapsulate, Family::V4, 1000),
        case("decap_stateful_100k", Work::Decapsulate, Family::V4, 100_000),
        case("ipv6_decap_stateful_1k", Work::Decapsulate, Family::V6, 1000),
        // Twice as many flows as sessions live: when a flow comes again, its
        // session is gone.
        case("new_sessions", Work::NewSessions, Family::V4, 160_000),
        case("new_sessions_1m", Work::NewSessions, Family::V4, 2_400_000),
    ];

    /// The case of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|case| case.name == name)
    }

    /// Whether tenants have security groups.
    fn is_stateful(&self) -> bool {
        matches!(self.work, Work::Stateful | Work::Decapsulate | Work::NewSessions)
    }

    /// With new sessions, bursts between two steps of time.
    fn bursts_a_step(&self) -> u32 {
        (self.flows / FLOWS_A_BURST) as u32
    }

    /// The port that the packets come in on.
    fn ingress(&self) -> PortId {
        if self.work == Work::Decapsulate { FABRIC } else { TENANT_1 }
    }

    /// Frames of as many flows as the case has, beginning with this one.
    pub(crate) fn frames(&self, first: u32) -> ReplayFrames {
        let mut frames = ReplayFrames::default();
        (first..first + self.flows as u32).for_each(|flow| frames.push(&self.frame(flow)));
        frames
    }

    /// The tables of its gateway.
    pub(crate) fn tables(&self) -> Tables {
        let mut tables = tables();
        if self.is_stateful() {
            let any =
                Rule { group: SgId(1), family: None, protocol: None, l4: L4Match::Any, remote: Remote::Any };
            let policy = Policy::new(SgSetId::EMPTY, [(Direction::Egress, any), (Direction::Ingress, any)]);
            set_policy(&mut tables, TENANT_1, Some(policy));
        }
        if self.work == Work::Vrfs {
            (0..self.flows as u32).for_each(|flow| add_vlan(&mut tables, flow));
        }
        tables
    }

    /// Gives a worker its ports; the packets come from these queues.
    pub(crate) fn attach(&self, bed: &mut ReplayBed, rx: Vec<ReplayRx>) {
        let mut rx = Some(rx);
        for port in [FABRIC, TENANT_1, TENANT_2, HOST] {
            let rx = if port == self.ingress() { rx.take() } else { None };
            bed.attach(port, port == HOST, rx.unwrap_or_default());
        }
    }

    /// A UDP packet of one flow with 18 bytes of payload: the shortest frame
    /// that Ethernet allows, for IPv4.
    ///
    /// # Panics
    /// Never: the payload fits.
    pub fn frame(&self, flow: u32) -> Vec<u8> {
        const FITS: &str = "18 bytes fit a packet";
        let [_, high, middle, low] = flow.to_be_bytes();
        let mut bytes = Vec::new();
        let inner = PacketBuilder::ethernet2(workload_mac(TENANT_1).0, own_mac(TENANT_1).0);
        if self.work == Work::Vrfs {
            let vlan = VlanId::try_new(vlan(flow)).unwrap_or(VlanId::ZERO);
            let packet = inner.single_vlan(vlan).ipv4([10, 1, 0, 10], [10, 2, high, middle], 64);
            packet.udp(1024 + u16::from(low), 53).write(&mut bytes, &[0; 18]).expect(FITS);
            return bytes;
        }
        let reply = self.work == Work::Decapsulate;
        let inner = match self.family {
            Family::V4 => {
                let (source, destination) = ends(reply, [10, 1, 0, 10], [10, 2, high, middle]);
                inner.ipv4(source, destination, 64)
            }
            Family::V6 => {
                let near = [0x20, 1, 0xd, 0xb8, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10];
                let far = [0x20, 1, 0xd, 0xb8, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, high, middle];
                let (source, destination) = ends(reply, near, far);
                inner.ipv6(source, destination, 64)
            }
        };
        let port = 1024 + u16::from(low);
        inner.udp(port, 53).write(&mut bytes, &[0; 18]).expect(FITS);
        if !reply {
            return bytes;
        }
        let mut payload = (LABEL << 12 | 1 << 8 | 64).to_be_bytes().to_vec();
        payload.extend_from_slice(&bytes[14..]);
        let mut frame = Vec::new();
        PacketBuilder::ethernet2(REMOTE_MAC.0, own_mac(FABRIC).0)
            .ipv4([198, 18, 0, 2], [198, 18, 0, 1], 64)
            .udp(0xc000 | port, 6635)
            .write(&mut frame, &payload)
            .expect(FITS);
        // Zero is "none", which tunnel endpoints send over IPv4 (RFC 7510
        // section 3.1).
        frame[40..42].fill(0);
        frame
    }
}

/// The number of the first VRF with a VLAN of its own, and of its interface.
const FIRST_VRF: u16 = 16;

/// The VLAN of a tenant with its own.
fn vlan(flow: u32) -> u16 {
    (flow % 4094 + 1) as u16
}

/// A tenant with a VLAN and a VRF of its own.
fn add_vlan(tables: &mut Tables, flow: u32) {
    let number = FIRST_VRF + vlan(flow) - 1;
    let (id, vrf) = (InterfaceId(u32::from(number)), VrfId(number));
    let tags = VlanTags { outer: vlan(flow), inner: 0 };
    let Some(tenant) = tables.interfaces.get(TENANT_1.index()).cloned() else { return };
    tables.interfaces.insert(id.index(), Interface { tags, vrf, ..tenant });
    tables.vrfs.insert(vrf.index(), Vrf::default());
    let everything = IpNet::new_assert([10, 2, 0, 0].into(), 16);
    add_route(tables, vrf, everything, REMOTE_NEXT_HOP, SgSetId::EMPTY);
    if let Some(port) = tables.ports.get_mut(TENANT_1.index()) {
        port.tagged.insert(tags, id);
    }
}

/// Source and destination of a packet between a workload and a far host.
fn ends<A>(is_reply: bool, near: A, far: A) -> (A, A) {
    if is_reply { (far, near) } else { (near, far) }
}

/// Buffers in use: a NIC's receive ring.
const BUFFERS: usize = 512;

/// With new sessions, ticks that pass at each step: the shortest idle timeout
/// of UDP in sixteen steps.
const STEP: u32 = 30;
/// Flows for each burst of a step: sixteen steps are less than half of them.
const FLOWS_A_BURST: usize = 2500;

/// A gateway, and the frames to feed it.
pub struct Rig {
    wire: ReplayWire,
    feed: Feed,
    case: Case,
    now: Tick,
    bursts: u32,
    sent: usize,
}

impl std::fmt::Debug for Rig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rig").field("case", &self.case.name).finish_non_exhaustive()
    }
}

/// What takes the frames.
enum Feed {
    Gateway(Box<ReplayBed>),
    Port { rx: ReplayRx, burst: Box<PacketBurst<<ReplayIo as Io>::Buf>> },
}

impl Rig {
    /// A gateway for a case, warm: all sessions are made and all tables read.
    ///
    /// # Panics
    /// If a frame cannot be built, which no case leads to.
    pub fn new(case: Case) -> Self {
        let mut frames = case.frames(0);
        // Sessions lie in memory in the order of their first packets. Packets
        // come in another, as from a network.
        let (first, first_rx) = ReplayWire::new(frames.clone());
        shuffle(&mut frames, &mut Random::new(1));
        let (wire, rx) = ReplayWire::new(frames);
        let (now, bursts) = (Tick(0), 0);
        if case.work == Work::PortOnly {
            // The buffers stay with the thread.
            let _ = ReplayPool::new(BUFFERS);
            let burst = Box::default();
            return Self { wire, feed: Feed::Port { rx, burst }, case, now, bursts, sent: 0 };
        }
        let bed = Box::new(gateway(case, vec![first_rx, rx]));
        let mut rig = Self { wire: first, feed: Feed::Gateway(bed), case, now, bursts, sent: 0 };
        rig.run(case.flows);
        rig.wire = wire;
        rig.run(case.flows);
        rig
    }

    /// Sends at least so many packets; returns how many.
    pub fn run(&mut self, packets: usize) -> usize {
        let bursts = packets.div_ceil(BURST);
        match &mut self.feed {
            Feed::Port { rx, burst } => {
                for _ in 0..bursts {
                    self.wire.send(BURST);
                    self.sent += rx.rx_burst(burst);
                    ReplayTx.tx_burst(burst);
                }
            }
            Feed::Gateway(bed) => {
                for _ in 0..bursts {
                    self.wire.send(BURST);
                    bed.turn(self.now);
                    if self.case.work == Work::NewSessions {
                        // Now and then a worker has nothing to do but to end
                        // what is over.
                        bed.turn(self.now);
                        self.bursts += 1;
                        if self.bursts == self.case.bursts_a_step() {
                            self.bursts = 0;
                            self.now = self.now.after(STEP);
                        }
                    }
                }
                self.sent += bursts * BURST;
            }
        }
        bursts * BURST
    }

    /// Whether every packet has left by the transmit queue.
    pub fn is_complete(&self) -> bool {
        match &self.feed {
            Feed::Port { burst, .. } => burst.is_empty(),
            Feed::Gateway(bed) => {
                let balance = bed.balance();
                balance.is_exact()
                    && balance.received == balance.transmitted
                    && balance.received == self.sent as u64
            }
        }
    }

    /// What the gateway's worker counts; `None` without a gateway.
    pub fn counters(&self) -> Option<&Counters> {
        match &self.feed {
            Feed::Port { .. } => None,
            Feed::Gateway(bed) => Some(bed.counters()),
        }
    }
}

fn gateway(case: Case, rx: Vec<ReplayRx>) -> ReplayBed {
    let counted = if case.work == Work::Vrfs { FIRST_VRF as usize + case.flows } else { 16 };
    let size = Size { workers: 1, buffers: BUFFERS, sessions: case.flows * 2, counted };
    let mut bed = ReplayBed::new(size, case.tables());
    case.attach(&mut bed, rx);
    bed
}

pub(crate) fn shuffle(frames: &mut ReplayFrames, random: &mut Random) {
    for last in (1..frames.len()).rev() {
        frames.swap(last, random.below(last as u64 + 1) as usize);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_packet_of_every_case_goes_through() {
        for case in Case::ALL.into_iter().filter(|case| case.work != Work::NewSessions) {
            let mut rig = Rig::new(Case { flows: case.flows.min(1000), ..case });
            rig.run(5000);
            assert!(rig.is_complete(), "{}", case.name);
            if let Feed::Gateway(bed) = &rig.feed {
                let sessions = bed.balance().received.min(1000) * u64::from(case.is_stateful());
                rig.now = rig.now.after(Tick::PER_SECOND);
                rig.run(1);
                assert_eq!(sessions_of(&rig), sessions, "{}", case.name);
            }
        }
    }

    #[test]
    fn new_sessions_end_as_fast_as_they_begin() {
        let case = Case::named("new_sessions").expect("a case");
        let mut rig = Rig::new(case);
        rig.run(100_000);
        assert!(rig.is_complete());
        // Those of sixteen steps, and of the one that is going on.
        let step = u64::from(case.bursts_a_step()) * BURST as u64;
        let sessions = sessions_of(&rig);
        assert!((15 * step..=18 * step).contains(&sessions), "{sessions} sessions");
    }

    fn sessions_of(rig: &Rig) -> u64 {
        match &rig.feed {
            Feed::Gateway(bed) => bed.counters().sessions.value(),
            Feed::Port { .. } => 0,
        }
    }
}

use super::*;
use crate::tables::interface::{Interface, TunnelSources};
use crate::tables::port::VlanTags;
use crate::types::{PortId, VrfId};
use std::sync::Arc;

const IFACE: InterfaceId = InterfaceId(1);
const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 9]);

fn tables() -> Tables {
    let mut tables = Tables::default();
    let interface = Interface {
        port: PortId(0),
        tags: VlanTags::default(),
        vrf: VrfId(1),
        mac: MacAddr([2, 0, 0, 0, 0, 1]),
        mtu: 1500,
        local_addresses: Arc::from([]),
        policy: None,
        sources: None,
        tunnel_sources: TunnelSources::default(),
    };
    tables.interfaces.insert(IFACE.index(), interface);
    tables
}

fn address(last: u8) -> IpAddr {
    IpAddr::from([198, 18, 0, last])
}

struct World {
    tables: Tables,
    service: Neighbours<u32>,
    actions: Vec<Action<u32>>,
}

impl World {
    fn new(timers: NeighbourTimers) -> Self {
        Self { tables: tables(), service: Neighbours::new(timers), actions: Vec::new() }
    }

    fn packet(&mut self, packet: u32, to: u8, at: u64) -> bool {
        let now = Duration::from_millis(at);
        let meta = PacketMeta::UNKNOWN;
        let item = Unresolved { interface: IFACE, address: address(to), packet, meta };
        self.service.handle_unresolved(&mut self.tables, item, now, &mut self.actions)
    }

    fn poll(&mut self, at: u64) -> bool {
        self.service.poll(&mut self.tables, Duration::from_millis(at), &mut self.actions)
    }

    fn learned(&mut self, of: u8, mac: MacAddr, at: u64) -> bool {
        self.said(Said::Answer, of, mac, at)
    }

    fn said(&mut self, said: Said, of: u8, mac: MacAddr, at: u64) -> bool {
        let (of, now) = ((self.id(of), IFACE, address(of)), Duration::from_millis(at));
        self.service.handle_learned(&mut self.tables, of, (mac, said), now, &mut self.actions)
    }

    fn mac(&self, of: u8) -> MacAddr {
        self.tables.neighbours.get(self.id(of).index()).expect("it is known").header.destination()
    }

    fn id(&self, of: u8) -> NeighbourId {
        self.tables.neighbour_index[&(IFACE, address(of))]
    }

    fn state(&self, of: u8) -> Option<NeighbourState> {
        let id = self.tables.neighbour_index.get(&(IFACE, address(of)))?;
        self.tables.neighbours.get(id.index()).map(|neighbour| neighbour.state)
    }

    /// What happened since the last call, as short words.
    fn happened(&mut self) -> Vec<String> {
        let word = |action| match action {
            Action::Probe { last_mac: None, .. } => "ask all".to_owned(),
            Action::Probe { last_mac: Some(_), .. } => "ask one".to_owned(),
            Action::Resume(packet, _) => format!("resume {packet}"),
            Action::Drop(packet, _, reason) => format!("drop {packet} {}", reason.name()),
        };
        self.actions.drain(..).map(word).collect()
    }
}

#[test]
fn packets_wait_for_the_answer_and_go_on_in_order() {
    let mut world = World::new(NeighbourTimers::default());
    assert!(world.packet(1, 5, 0), "a new neighbour changes the tables");
    assert!(!world.packet(2, 5, 10));
    assert_eq!(world.happened(), ["ask all"]);
    assert_eq!(world.service.waiting(), 2);
    assert!(world.learned(5, MAC, 20));
    assert_eq!(world.happened(), ["resume 1", "resume 2"]);
    assert_eq!(world.state(5), Some(NeighbourState::Resolved));
    assert_eq!(world.service.waiting(), 0);
    assert!(!world.learned(5, MAC, 30), "the same again changes nothing");
    let neighbour = world.tables.neighbours.get(world.id(5).index()).expect("it is known");
    assert_eq!(neighbour.confirmed, Some(Duration::from_millis(20)), "nobody asked again");
}

#[test]
fn queues_are_bounded() {
    let timers = NeighbourTimers { queue_per_neighbour: 2, queue_total: 3, ..NeighbourTimers::default() };
    let mut world = World::new(timers);
    for (packet, to) in [(1, 5), (2, 5), (3, 5), (4, 6), (5, 6)] {
        world.packet(packet, to, 0);
    }
    let full: Vec<_> = world.happened().into_iter().filter(|word| word.starts_with("drop")).collect();
    assert_eq!(full, ["drop 3 neighbour_queue_full", "drop 5 neighbour_queue_full"]);
}

#[test]
fn a_scan_of_a_subnet_does_not_fill_the_tables() {
    let timers = NeighbourTimers { resolving_per_interface: 3, ..NeighbourTimers::default() };
    let mut world = World::new(timers);
    for to in 1..=10 {
        world.packet(u32::from(to), to, 0);
    }
    assert_eq!(world.tables.neighbours.len(), 3);
    for at in [1000, 2000, 3000, 4000] {
        world.poll(at);
    }
    assert_eq!(world.tables.neighbours.len(), 0, "those who never answer are forgotten");
    assert_eq!(world.service.waiting(), 0);
}

#[test]
fn silence_fails_what_is_needed_and_an_answer_heals_it() {
    let mut world = World::new(NeighbourTimers::default());
    let id = world.tables.intern_neighbour(IFACE, address(7)).expect("an interface");
    world.tables.neighbours.get_mut(id.index()).expect("just made").users = 1;
    world.poll(0);
    assert_eq!(world.happened(), ["ask all"], "next hops' neighbours are resolved unasked");
    world.packet(1, 7, 500);
    world.poll(1000);
    world.poll(2000);
    assert!(world.poll(3000));
    assert_eq!(world.happened(), ["ask all", "ask all", "ask all", "drop 1 neighbour_unresolved"]);
    assert_eq!(world.state(7), Some(NeighbourState::Failed));
    world.packet(2, 7, 3100);
    assert_eq!(world.happened(), ["drop 2 neighbour_unresolved"]);
    assert!(world.learned(7, MAC, 3200));
    assert_eq!(world.state(7), Some(NeighbourState::Resolved));
}

#[test]
fn the_resolved_are_confirmed_again_and_the_gone_forgotten() {
    let mut world = World::new(NeighbourTimers::default());
    world.packet(1, 5, 0);
    world.learned(5, MAC, 100);
    world.happened();
    world.poll(29_000);
    assert!(world.happened().is_empty());
    world.poll(30_100);
    assert_eq!(world.happened(), ["ask one"]);
    world.learned(5, MAC, 30_200);
    for at in [60_200, 61_200, 62_200, 63_200, 64_200, 65_200] {
        world.poll(at);
    }
    assert_eq!(world.happened(), ["ask one", "ask one", "ask one", "ask all", "ask all", "ask all"]);
    assert_eq!(world.state(5), Some(NeighbourState::Resolved), "usable until nobody answers");
    assert!(world.poll(66_200));
    assert_eq!(world.state(5), None);
}

#[test]
fn a_static_neighbour_and_a_group_address_learn_nothing() {
    let mut world = World::new(NeighbourTimers::default());
    world.packet(1, 5, 0);
    assert!(!world.learned(5, MacAddr::BROADCAST, 10));
    let id = world.id(5);
    world.tables.neighbours.get_mut(id.index()).expect("known").state = NeighbourState::Static;
    assert!(!world.learned(5, MAC, 20));
}

#[test]
fn an_interface_that_changed_makes_its_neighbours_be_asked_at_once() {
    let mut world = World::new(NeighbourTimers::default());
    world.packet(1, 5, 0);
    world.learned(5, MAC, 100);
    let id = world.id(5);
    world.tables.neighbours.get_mut(id.index()).expect("known").state = NeighbourState::Resolving;
    world.happened();
    world.poll(200);
    assert_eq!(world.happened(), ["ask all"]);
}

#[test]
fn an_id_that_means_another_interfaces_neighbour_learns_nothing() {
    let mut world = World::new(NeighbourTimers::default());
    world.packet(1, 5, 0);
    let at = (world.id(5), InterfaceId(2), address(5));
    let now = Duration::from_millis(10);
    assert!(!world.service.handle_learned(
        &mut world.tables,
        at,
        (MAC, Said::Answer),
        now,
        &mut world.actions
    ));
    assert_eq!(world.state(5), Some(NeighbourState::Resolving));
}

#[test]
fn an_interface_has_a_bounded_number_of_neighbours() {
    let timers = NeighbourTimers { per_interface: 2, ..NeighbourTimers::default() };
    let mut world = World::new(timers);
    for to in 1..=5 {
        if world.packet(u32::from(to), to, 0) {
            world.learned(to, MAC, 1);
        }
    }
    assert_eq!(world.tables.neighbours.len(), 2);
}

/// Where an attacker says that neighbours are.
const ELSEWHERE: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xbb]);

#[test]
fn nobody_turns_a_reachable_neighbour_away() {
    let mut world = World::new(NeighbourTimers::default());
    world.packet(1, 5, 0);
    world.learned(5, MAC, 100);
    world.happened();
    // Unasked, as a claim and dressed as an answer; the neighbour is asked, alone.
    for (said, at) in [(Said::Claim, 200), (Said::Answer, 2000)] {
        assert!(!world.said(said, 5, ELSEWHERE, at));
        assert_eq!(world.happened(), ["ask one"]);
        assert!(!world.said(said, 5, ELSEWHERE, at + 1), "between question and answer");
        assert!(!world.learned(5, MAC, at + 2));
        assert_eq!((world.happened().len(), world.mac(5)), (0, MAC));
    }
    // A flood of it has it asked once in a probe interval.
    for at in 10_000..20_000 {
        world.said(Said::Claim, 5, ELSEWHERE, at);
        world.learned(5, MAC, at);
    }
    assert_eq!((world.happened().len(), world.mac(5)), (10, MAC));
}

#[test]
fn a_neighbour_that_has_moved_is_found_where_it_says_it_is() {
    let mut world = World::new(NeighbourTimers::default());
    world.packet(1, 5, 0);
    world.learned(5, MAC, 100);
    world.happened();
    assert!(!world.said(Said::Claim, 5, ELSEWHERE, 5000));
    for at in [6000, 7000, 8000] {
        world.poll(at);
    }
    assert_eq!(world.happened(), ["ask one", "ask one", "ask one", "ask all"]);
    assert_eq!(world.mac(5), MAC, "usable meanwhile");
    assert!(world.learned(5, ELSEWHERE, 8001), "everybody was asked");
    assert_eq!(world.mac(5), ELSEWHERE);
}

#[test]
fn a_claim_has_a_neighbour_asked_that_is_not_known_and_is_not_believed() {
    let mut world = World::new(NeighbourTimers::default());
    let id = world.tables.intern_neighbour(IFACE, address(7)).expect("an interface");
    world.tables.neighbours.get_mut(id.index()).expect("just made").users = 1;
    for at in [0, 1000, 2000, 3000, 4000] {
        world.poll(at);
    }
    assert_eq!(world.state(7), Some(NeighbourState::Failed));
    world.happened();
    assert!(!world.said(Said::Claim, 7, ELSEWHERE, 4100));
    assert_eq!((world.happened(), world.state(7)), (vec!["ask all".into()], Some(NeighbourState::Failed)));
    assert!(world.learned(7, MAC, 4101));
    assert_eq!((world.mac(7), world.state(7)), (MAC, Some(NeighbourState::Resolved)));
}

#[test]
fn what_the_process_before_had_confirmed_is_taken_up() {
    let mut world = World::new(NeighbourTimers::default());
    let id = world.tables.intern_neighbour(IFACE, address(7)).expect("an interface");
    let neighbour = world.tables.neighbours.get_mut(id.index()).expect("just made");
    neighbour.state = NeighbourState::Resolved;
    neighbour.header.set_destination(MAC);
    assert!(!world.said(Said::Carried, 7, MAC, 100));
    world.poll(30_000);
    assert!(world.happened().is_empty(), "it counts as confirmed then");
    world.poll(30_100);
    assert_eq!(world.happened(), ["ask one"]);
}

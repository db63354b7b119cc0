//! A gateway's control side under one seed: controllers that come, declare, go,
//! are deposed and forgotten; a store; daemons that are killed, also before they
//! have stored what they did, and daemons that take over from each other. Time is
//! what the seed says.
//!
//! Beside it runs a model of a few maps. After each step both must agree: about
//! who holds what, what of it is stale, what is in force, what a restart brings
//! back, and what workers forward by.
//!
//! `TIELINE_SIMULATION_SEEDS=1000..5000` runs other seeds than the gate does.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tieline_dpdk::{DpdkIo, Eal, EalConfig, Hugepages, Pool, PoolConfig};
use tieline_engine::engine::{Engine, EngineConfig};
use tieline_engine::tables::Tables;
use tieline_proto::v1;
use tieline_proto::v1::object::Kind;
use tieline_proto::v1::operation::Operation;
use tieline_rib::{ControllerId, Key, Limits, Ranks, Rib, RibOptions};
use tokio::sync::oneshot;

use crate::batch::Work;
use crate::device_ports::DevicePorts;
use crate::device_ports::allowed::AllowedDevices;
use crate::gateway::{Gateway, NotForgotten, Shared};
use crate::identity::NodeId;
use crate::keeper::{self, Contents, Keeper, opener::StoreAt};
use crate::persist::ToStore;
use crate::problems::Problems;
use crate::rights::Rights;
use crate::sessions::{Hello, SessionId, SessionLimits, Terms};
use crate::upgrade::records;
use crate::upgrade::site::Site as _;

/// Seeds that every run of the tests goes through, and steps of each.
const SEEDS: std::ops::Range<u64> = 0..120;
const STEPS: usize = 70;

const NAMES: [&str; 3] = ["central", "site-a", "zeta"];
const VRFS: [&str; 2] = ["red", "blue"];
const TARGETS: [&[&str]; 3] = [&["64512:1"], &["64512:2"], &["64512:1", "64512:2"]];

/// Numbers that a seed brings about (SplitMix64).
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn pick<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len() as u64) as usize]
    }

    fn object(&mut self) -> Kind {
        let texts = |all: &[&str]| all.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        match self.below(5) {
            0 => {
                let targets = *self.pick(&TARGETS);
                Kind::Vrf(v1::Vrf {
                    name: (*self.pick(&VRFS)).to_owned(),
                    import_route_targets: texts(targets),
                    ..Default::default()
                })
            }
            1 => Kind::NextHop(v1::NextHop {
                name: (*self.pick(&["n1", "n2"])).to_owned(),
                target: Some(v1::next_hop::Target::Discard(v1::DiscardNextHop {})),
            }),
            2 => Kind::SecurityGroup(v1::SecurityGroup {
                id: 1 + self.below(2) as u32,
                rules: vec![v1::SecurityGroupRule {
                    direction: v1::Direction::Ingress.into(),
                    protocol: Some(self.below(3) as u32),
                    ..Default::default()
                }],
                ..Default::default()
            }),
            3 => Kind::StaticRoute(v1::StaticRoute {
                vrf: (*self.pick(&VRFS)).to_owned(),
                prefix: (*self.pick(&["10.9.0.0/16", "2001:db8::/48"])).to_owned(),
                next_hop: (*self.pick(&["n1", "n2"])).to_owned(),
                ..Default::default()
            }),
            _ => Kind::Route(v1::Route {
                rd: (*self.pick(&["64512:1", "198.18.0.1:1"])).to_owned(),
                prefix: (*self.pick(&["10.1.0.0/24", "10.1.0.7/32", "2001:db8::/64"])).to_owned(),
                route_targets: texts(&[*self.pick(&["64512:1", "64512:2"])]),
                next_hop: (*self.pick(&["n1", "n2"])).to_owned(),
                label: 100,
                med: self.below(3) as u32,
                ..Default::default()
            }),
        }
    }
}

/// What the model knows of a controller.
#[derive(Debug, Clone, Default, PartialEq)]
struct Known {
    term: u64,
    grace: u64,
    /// Seconds of the last beginning or end of a session.
    since: u64,
    /// When what is stale goes.
    expires: Option<u64>,
    is_here: bool,
}

/// A declaration in the model.
#[derive(Debug, Clone, PartialEq)]
struct Declared {
    kind: Kind,
    is_fresh: bool,
}

/// What is declared, by key and controller, and who is known.
#[derive(Debug, Clone, Default, PartialEq)]
struct Model {
    declared: BTreeMap<(String, usize), Declared>,
    known: BTreeMap<usize, Known>,
}

impl Model {
    fn held(&self, who: usize) -> usize {
        self.declared.keys().filter(|(_, by)| *by == who).count()
    }

    fn stale(&self, who: usize) -> usize {
        self.declared.iter().filter(|((_, by), one)| *by == who && !one.is_fresh).count()
    }

    /// All that a controller holds has to be declared again.
    fn begin_sync(&mut self, who: usize) {
        for ((_, by), one) in &mut self.declared {
            if *by == who {
                one.is_fresh = false;
            }
        }
    }

    /// What was not declared again goes.
    fn sweep(&mut self, who: usize) -> usize {
        let stale = self.stale(who);
        self.declared.retain(|(_, by), one| *by != who || one.is_fresh);
        stale
    }

    /// Those that hold nothing are forgotten, unless their term counts.
    fn forget(&mut self, now: u64) {
        let holds: Vec<usize> = (0..NAMES.len()).filter(|who| self.held(*who) > 0).collect();
        self.known.retain(|who, known| {
            known.is_here || holds.contains(who) || (known.term > 0 && now < known.since + known.grace)
        });
    }

    /// What another process begins with.
    fn restart(&mut self, now: u64) {
        for who in 0..NAMES.len() {
            self.begin_sync(who);
        }
        for known in self.known.values_mut() {
            *known = Known { since: now, expires: Some(now + known.grace), is_here: false, ..known.clone() };
        }
    }
}

/// One process of the daemon, as far as it controls.
struct Life {
    engine: Engine<DpdkIo>,
    gateway: Gateway,
    keeper: Keeper,
}

/// DPDK runs once in a process.
fn dpdk() -> &'static (Eal, Pool) {
    static DPDK: OnceLock<(Eal, Pool)> = OnceLock::new();
    DPDK.get_or_init(|| {
        let config = EalConfig {
            file_prefix: format!("tieline-simulation-{}", std::process::id()),
            hugepages: Hugepages::Never,
            memory_mib: Some(64),
            ..EalConfig::default()
        };
        let eal = Eal::start(config).expect("DPDK starts");
        let config = PoolConfig { name: "packets".to_owned(), count: 1023, data_room: 2048, cache: 0 };
        let pool = Pool::new(&eal, config).expect("there is room");
        (eal, pool)
    })
}

impl Life {
    fn begin(at: &StoreAt, ranks: &Ranks) -> Self {
        let (eal, pool) = dpdk();
        let config = EngineConfig {
            sessions: 16,
            fragments: 16,
            interfaces: 64,
            vrfs: 64,
            ring_depth: 16,
            ..EngineConfig::default()
        };
        let engine: Engine<DpdkIo> = Engine::start(config, pool.clone()).expect("threads");
        let rib = Rib::new(Limits::default(), RibOptions { ranks: ranks.clone(), ..RibOptions::default() });
        let devices = AllowedDevices { patterns: None, test_drivers: Vec::new() };
        let ports =
            DevicePorts::new(eal.clone(), pool.clone(), engine.clone(), Arc::new(devices)).expect("threads");
        let node = NodeId::without_store(&at.path);
        let (keeper, watch) = keeper::new(Some(at.clone()), node.clone()).expect("a thread");
        let shared = Shared { keeper: watch, problems: Problems::default(), node };
        let limits =
            SessionLimits { sessions: 16, names_per_peer: 16, longest_grace: Duration::from_secs(1_000_000) };
        let gateway = Gateway::new(rib, ports, engine.clone(), limits, shared);
        Self { engine, gateway, keeper }
    }

    fn end(self) {
        self.engine.stop();
    }
}

struct World {
    dice: Dice,
    ranks: Ranks,
    order: Vec<usize>,
    at: StoreAt,
    life: Life,
    start: Instant,
    /// Seconds since then.
    now: u64,
    model: Model,
    /// What a restart would bring back at least, and, as nothing more was stored,
    /// at most.
    stored: Model,
    live: BTreeMap<usize, (ControllerId, SessionId)>,
}

impl Drop for World {
    fn drop(&mut self) {
        self.life.engine.stop();
        let _ = std::fs::remove_dir_all(self.at.path.parent().expect("it is in a directory of its own"));
    }
}

impl World {
    fn new(seed: u64) -> Self {
        let mut dice = Dice(seed);
        let lists: [(&[&str], [usize; 3]); 3] =
            [(&[], [0, 1, 2]), (&["zeta"], [2, 0, 1]), (&["site-*", "zeta"], [1, 2, 0])];
        let (entries, order) = *dice.pick(&lists);
        let ranks = Ranks::new(&entries.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>());
        let ranks = ranks.expect("a good list");
        let directory: PathBuf =
            std::env::temp_dir().join(format!("tieline-simulation-{}-{seed}", std::process::id()));
        std::fs::create_dir_all(&directory).expect("a directory");
        let at = StoreAt { path: directory.join("store"), sync_interval: Duration::from_secs(3600) };
        let start = Instant::now();
        let mut life = Life::begin(&at, &ranks);
        let (store, found) = at.open(life.gateway.node()).expect("a new store");
        life.gateway.take_store(store, &found, start);
        let mut world = Self {
            dice,
            ranks,
            order: order.to_vec(),
            at,
            life,
            start,
            now: 0,
            model: Model::default(),
            stored: Model::default(),
            live: BTreeMap::new(),
        };
        world.store();
        world
    }

    fn time(&self) -> Instant {
        self.start + Duration::from_secs(self.now)
    }

    /// Stores what has changed, as is done before anything is acknowledged.
    fn store(&mut self) {
        let mut changes = ToStore::default();
        self.life.gateway.take_changes(&mut changes);
        self.life.keeper.keep(changes).expect("the store takes it");
        self.stored = self.model.clone();
    }

    fn step(&mut self) -> String {
        let who = self.dice.below(NAMES.len() as u64) as usize;
        match self.dice.below(20) {
            0..=2 => self.open(who),
            3..=10 => self.declare(who),
            11 | 12 => self.withdraw(who),
            13 | 14 => self.end_of_sync(who),
            15 => self.close(who),
            16 => self.pass_time(),
            17 => self.kill(),
            18 => self.take_over(),
            _ => self.forget(who),
        }
    }

    fn open(&mut self, who: usize) -> String {
        let highest = self.model.known.get(&who).map_or(0, |known| known.term);
        let term = (highest + self.dice.below(3)).saturating_sub(1);
        let grace = 10 + self.dice.below(50);
        let terms = Terms {
            term,
            grace: Duration::from_secs(grace),
            lasting: false,
            operator: true,
            owner: "uid 0".to_owned(),
        };
        let hello = Hello { terms, software: String::new(), closer: oneshot::channel().0 };
        let opened = self.life.gateway.open_session(NAMES[who], hello, self.time());
        assert_eq!(opened.is_err(), term < highest, "{opened:?}");
        if let Ok(opened) = opened {
            assert_eq!(opened.held as usize, self.model.held(who));
            self.model.begin_sync(who);
            let known = Known { term, grace, since: self.now, expires: None, is_here: true };
            self.model.known.insert(who, known);
            self.live.insert(who, (opened.by, opened.session));
        }
        self.store();
        format!("{} opens a session with term {term}", NAMES[who])
    }

    /// Carries an operation out, and perhaps is killed before it is stored.
    fn carry_out(&mut self, who: usize, operation: Operation) -> bool {
        let (by, session) = self.live[&who];
        assert!(self.life.gateway.sessions().is_live(by, session));
        let batch = v1::Batch {
            operations: vec![v1::Operation { operation: Some(operation) }],
            ..Default::default()
        };
        let (done, _) = self.life.gateway.carry_out(vec![Work { by, batch, rights: Rights::ALL }]);
        assert!(done[0].refused.is_empty(), "{done:?}");
        if self.dice.below(40) == 0 {
            self.restart();
            return false;
        }
        true
    }

    fn declare(&mut self, who: usize) -> String {
        let kind = self.dice.object();
        if !self.live.contains_key(&who) {
            return String::new();
        }
        let key = Key::of(&kind).expect("a key").to_string();
        let object = v1::Object { kind: Some(kind.clone()) };
        if self.carry_out(who, Operation::Apply(object)) {
            self.model.declared.insert((key.clone(), who), Declared { kind, is_fresh: true });
            self.store();
        }
        format!("{} declares {key}", NAMES[who])
    }

    fn withdraw(&mut self, who: usize) -> String {
        let own: Vec<_> = self.model.declared.keys().filter(|(_, by)| *by == who).cloned().collect();
        if !self.live.contains_key(&who) || own.is_empty() {
            return String::new();
        }
        let chosen = self.dice.pick(&own).clone();
        let key = Key::of(&self.model.declared[&chosen].kind).expect("a key");
        if self.carry_out(who, Operation::Delete(v1::ObjectKey::from(&key))) {
            self.model.declared.remove(&chosen);
            self.store();
        }
        format!("{} withdraws {key}", NAMES[who])
    }

    fn end_of_sync(&mut self, who: usize) -> String {
        let Some((by, session)) = self.live.get(&who).copied() else { return String::new() };
        let withdrawn = self.life.gateway.end_of_sync(by, session).map(|(withdrawn, _)| withdrawn);
        assert_eq!(withdrawn, Some(self.model.sweep(who)));
        self.store();
        format!("{} has declared all that it holds", NAMES[who])
    }

    fn close(&mut self, who: usize) -> String {
        let Some((by, session)) = self.live.remove(&who) else { return String::new() };
        self.life.gateway.close_session(by, session, self.time());
        self.model.begin_sync(who);
        let known = self.model.known.get_mut(&who).expect("it was here");
        *known =
            Known { since: self.now, expires: Some(self.now + known.grace), is_here: false, ..known.clone() };
        self.model.forget(self.now);
        self.store();
        format!("{} goes", NAMES[who])
    }

    fn pass_time(&mut self) -> String {
        self.now += self.dice.below(60);
        self.life.gateway.tick(self.time());
        for who in 0..NAMES.len() {
            let Some(known) = self.model.known.get_mut(&who) else { continue };
            if known.expires.is_some_and(|at| at <= self.now) {
                known.expires = None;
                self.model.sweep(who);
            }
        }
        self.model.forget(self.now);
        self.store();
        format!("it is {} s", self.now)
    }

    fn kill(&mut self) -> String {
        self.restart();
        "killed".to_owned()
    }

    /// The process is gone; another one begins with what is stored.
    fn restart(&mut self) {
        let next = Life::begin(&self.at, &self.ranks);
        std::mem::replace(&mut self.life, next).end();
        let (store, found) = self.at.open(self.life.gateway.node()).expect("the store");
        self.life.gateway.take_store(store, &found, self.time());
        self.live.clear();
        self.model = self.stored.clone();
        self.model.restart(self.now);
        self.store();
    }

    /// Another process takes over what is declared, and the store.
    fn take_over(&mut self) -> String {
        let mut next = Life::begin(&self.at, &self.ranks);
        let mut all = Vec::new();
        self.life
            .gateway
            .declared(&mut |record| {
                all.push(records::encode(&record));
                Ok(())
            })
            .expect("everything is said");
        let time = self.time();
        next.gateway
            .restore_from(time, |take| {
                all.iter().try_for_each(|bytes| take(records::decode(bytes).ok_or("damaged")?))
            })
            .expect("it can be declared");
        self.life.keeper.close().expect("the store has all of it");
        next.gateway.keeper().set_contents(Contents::Known);
        std::mem::replace(&mut self.life, next).end();
        let (store, found) = self.at.open(self.life.gateway.node()).expect("the store");
        self.life.gateway.take_store(store, &found, time);
        self.live.clear();
        self.model.restart(self.now);
        self.store();
        "another process takes over".to_owned()
    }

    fn forget(&mut self, who: usize) -> String {
        let withdraw = self.dice.below(2) == 0;
        let outcome =
            self.life.gateway.forget_controller(NAMES[who], withdraw).map(|(withdrawn, _)| withdrawn);
        let held = self.model.held(who);
        let expected = match self.model.known.get(&who) {
            None => Err(NotForgotten::Unknown),
            Some(known) if known.is_here => Err(NotForgotten::Connected),
            Some(_) if held > 0 && !withdraw => Err(NotForgotten::Holds(held)),
            Some(_) => Ok(held),
        };
        assert_eq!(outcome, expected);
        if outcome.is_ok() {
            self.model.known.remove(&who);
            self.model.declared.retain(|(_, by), _| *by != who);
        }
        self.store();
        format!("an operator has {} forgotten", NAMES[who])
    }

    fn check(&self) {
        let gateway = &self.life.gateway;
        let listed: BTreeMap<String, (bool, u64, u64, u64)> = gateway
            .controllers()
            .into_iter()
            .map(|one| (one.name, (one.connected, one.term, one.held, one.stale)))
            .collect();
        let expected: BTreeMap<String, (bool, u64, u64, u64)> = self
            .model
            .known
            .iter()
            .map(|(who, known)| {
                let counts = (self.model.held(*who) as u64, self.model.stale(*who) as u64);
                (NAMES[*who].to_owned(), (known.is_here, known.term, counts.0, counts.1))
            })
            .collect();
        assert_eq!(listed, expected, "here, term, held, stale");
        let mut by_key: BTreeMap<&str, Vec<(usize, &Declared)>> = BTreeMap::new();
        for who in &self.order {
            for ((key, _), one) in self.model.declared.iter().filter(|((_, by), _)| by == who) {
                by_key.entry(key).or_default().push((*who, one));
            }
        }
        for holders in by_key.values() {
            self.check_key(holders);
        }
        assert_eq!(forwarding(gateway.rib(), &gateway.engine().snapshot()), self.fresh_forwarding());
    }

    /// Holders of one key, those that count first before the others.
    fn check_key(&self, holders: &[(usize, &Declared)]) {
        let (_, first) = holders[0];
        let key = v1::ObjectKey::from(&Key::of(&first.kind).expect("a key"));
        let get = |controller: &str| {
            let item = self.life.gateway.get(&key, controller).expect("a good key").expect("it is declared");
            (item.object.and_then(|object| object.kind).expect("an object"), item.holders)
        };
        if matches!(first.kind, Kind::Route(_)) {
            for (who, one) in holders {
                assert_eq!(get(NAMES[*who]).0, one.kind);
            }
            return;
        }
        let (kind, found) = get("");
        assert_eq!(kind, first.kind, "what is in force");
        let mut found: Vec<_> =
            found.into_iter().map(|one| (one.controller, one.stale, one.differs)).collect();
        let holder =
            |(who, one): &(usize, &Declared)| (NAMES[*who].to_owned(), !one.is_fresh, one.kind != first.kind);
        let mut expected: Vec<_> = holders.iter().map(holder).collect();
        found.sort();
        expected.sort();
        assert_eq!(found, expected, "controller, stale, differs");
    }

    /// What is forwarded by where the same is declared from nothing.
    fn fresh_forwarding(&self) -> Vec<v1::RouteEntry> {
        let options = RibOptions { ranks: self.ranks.clone(), ..RibOptions::default() };
        let (mut rib, mut tables) = (Rib::new(Limits::default(), options), Tables::default());
        for is_fresh in [false, true] {
            for who in &self.order {
                let by = rib.controller(NAMES[*who]).expect("a name");
                for ((_, of), one) in &self.model.declared {
                    if of == who && one.is_fresh == is_fresh {
                        let object = v1::Object { kind: Some(one.kind.clone()) };
                        rib.apply(by, object, &mut tables).expect("it was taken before");
                    }
                }
                if !is_fresh {
                    rib.begin_sync(by, &mut tables);
                }
            }
        }
        forwarding(&rib, &tables)
    }
}

/// All that workers forward by.
fn forwarding(rib: &Rib, tables: &Tables) -> Vec<v1::RouteEntry> {
    let declared = VRFS.iter().filter(|vrf| rib.vrf_id(vrf).is_some());
    let routes = declared.flat_map(|vrf| {
        let request = v1::ListRoutesRequest { vrf: (*vrf).to_owned(), ..Default::default() };
        rib.routes(&request, tables).expect("a VRF that is there").routes
    });
    routes.collect()
}

/// The seeds that are asked for.
fn seeds() -> std::ops::Range<u64> {
    let Ok(text) = std::env::var("TIELINE_SIMULATION_SEEDS") else { return SEEDS };
    let ends = text.split_once("..").and_then(|(from, to)| Some(from.parse().ok()?..to.parse().ok()?));
    ends.unwrap_or_else(|| panic!("TIELINE_SIMULATION_SEEDS={text}: write FROM..TO"))
}

#[test]
fn whatever_happens_the_model_says_what_is_declared() {
    /// What the current seed has led to, for whoever reads a failure.
    static HISTORY: Mutex<Vec<String>> = Mutex::new(Vec::new());
    for seed in seeds() {
        let mut history = HISTORY.lock().unwrap_or_else(PoisonError::into_inner);
        *history = vec![format!("seed {seed}")];
        drop(history);
        let mut world = World::new(seed);
        for _ in 0..STEPS {
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                let what = world.step();
                let mut history = HISTORY.lock().unwrap_or_else(PoisonError::into_inner);
                history.push(what);
                drop(history);
                world.check();
            }));
            if let Err(panic) = outcome {
                let history = HISTORY.lock().unwrap_or_else(PoisonError::into_inner);
                eprintln!("{}", history.join("\n"));
                std::panic::resume_unwind(panic);
            }
        }
    }
}

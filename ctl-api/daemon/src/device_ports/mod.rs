//! The devices behind declared ports.
//!
//! What is wanted is what the RIB declares; [`DevicePorts::want`] compares, has
//! devices opened and closed by a thread of its own ([`opener`]), and
//! [`DevicePorts::news`] tells what became of each. A device that does not open
//! is tried again for as long as it is declared; one that may not be used
//! ([`allowed`]) is not tried.
//!
//! A device whose interface or socket vanishes is closed, and opened again when it
//! is back ([`presence`]).
//!
//! - [`allowed`]: which devices may be used
//! - [`opener`]: the thread that opens and closes them
//! - [`presence`]: whether what a device takes from the host is still there
//! - [`handover`]: devices that one daemon gives to another

pub mod allowed;
mod handover;
mod opener;
mod presence;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tieline_dpdk::{DeviceSpec, DpdkIo, Eal, KernelQueues, OpenPort, Pool, Port, PortCounters};
use tieline_engine::engine::Engine;
use tieline_engine::engine::ports::PortQueues;
use tieline_engine::tables::port::PortRole;
use tieline_engine::types::{MacAddr, PortId};
use tieline_rib::PortInfo;
use tieline_rib::spec::port::PortSpec;

use crate::links::Links;
use crate::other_process::Process;
use allowed::AllowedDevices;
use opener::{Opener, Opening, Ticket};
use presence::Presence;

/// Time between two attempts to open a device.
const OPEN_AGAIN: Duration = Duration::from_secs(5);
/// Time between them where whoever has it may free it at any moment.
const OPEN_SOON: Duration = Duration::from_millis(250);

/// A port that is declared.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Its number.
    pub id: PortId,
    /// What is declared.
    pub spec: PortSpec,
    /// Whether an operator has declared it.
    pub by_operator: bool,
}

/// What has become of a port's device: open, or why not.
pub type News = (PortId, Result<PortInfo, String>);

/// All devices.
pub struct DevicePorts {
    engine: Engine<DpdkIo>,
    opening: Arc<Opening>,
    opener: Opener,
    allowed: Arc<AllowedDevices>,
    links: Links,
    slots: BTreeMap<PortId, Slot>,
    /// Not told yet.
    news: Vec<News>,
    /// In a take-over: devices that are opened later.
    plan: Option<handover::Plan>,
    /// In a take-over: queues that no worker has at the moment.
    resting: BTreeMap<PortId, PortQueues<DpdkIo>>,
    /// In a take-over: devices that are closed so that another can have them.
    closed: Vec<(PortId, PortInfo)>,
    /// In a take-over: kernel queues that take no packets at the moment.
    parted: Vec<(PortId, KernelQueues)>,
    /// Until when devices that do not open are tried again soon.
    hurried_until: Option<Instant>,
}

/// A declared port.
struct Slot {
    wanted: Wanted,
    state: State,
}

/// How far its device is.
enum State {
    /// It is being opened.
    Opening(Ticket),
    /// It is open, on something that may vanish.
    Open(Port, Presence),
    /// It is not open.
    Closed {
        /// A sentence for the operator.
        why: String,
        /// When to try again, if at all.
        again: Option<Instant>,
        /// What ends the waiting before.
        awaits: Option<Awaited>,
    },
}

/// What a device that is not open waits for.
enum Awaited {
    /// An interface that comes.
    Interface(String),
    /// A process that has the device, and ends.
    End(Process),
}

impl Awaited {
    /// The interface that has to come before the device of a port can be opened.
    fn by(wanted: &Wanted) -> Option<Self> {
        let device: DeviceSpec = wanted.spec.device.parse().ok()?;
        presence::awaited(&device).map(|name| Self::Interface(name.to_owned()))
    }

    fn has_come(&self) -> bool {
        match self {
            Awaited::Interface(name) => presence::is_there(name),
            Awaited::End(process) => !process.runs(),
        }
    }
}

impl State {
    /// In a take-over: not opened yet.
    fn not_yet() -> Self {
        State::Closed { why: "it is on its way from another daemon".to_owned(), again: None, awaits: None }
    }
}

/// What a device tells about itself.
#[derive(Debug, Clone, Copy)]
pub struct DeviceView {
    /// Its own MAC.
    pub mac: MacAddr,
    /// Whether it has a link.
    pub link_up: bool,
    /// What it has counted.
    pub counters: PortCounters,
}

impl DevicePorts {
    /// No devices yet.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn new(
        eal: Eal,
        pool: Pool,
        engine: Engine<DpdkIo>,
        allowed: Arc<AllowedDevices>,
    ) -> std::io::Result<Self> {
        let workers = u16::try_from(engine.workers().len()).unwrap_or(u16::MAX);
        let opening = Arc::new(Opening { eal, pool, workers });
        Ok(Self {
            engine,
            opener: Opener::start(Arc::clone(&opening))?,
            opening,
            allowed,
            links: Links::start()?,
            slots: BTreeMap::new(),
            news: Vec::new(),
            plan: None,
            resting: BTreeMap::new(),
            closed: Vec::new(),
            parted: Vec::new(),
            hurried_until: None,
        })
    }

    /// Which devices may be used.
    pub fn allowed(&self) -> &Arc<AllowedDevices> {
        &self.allowed
    }

    /// Whom to wake when there is [news](Self::news).
    pub fn set_waker(&self, waker: Box<dyn Fn() + Send + Sync>) {
        let waker: Arc<dyn Fn() + Send + Sync> = waker.into();
        let also = Arc::clone(&waker);
        self.opener.set_waker(Box::new(move || waker()));
        self.links.set_waker(Box::new(move || also()));
    }

    /// Whether a port's device is open and has a link.
    pub fn link_up(&self, id: PortId) -> bool {
        match self.slots.get(&id).map(|slot| &slot.state) {
            Some(State::Open(port, presence)) => port.link_up() && !presence.is_down(&self.links),
            Some(State::Opening(_) | State::Closed { .. }) | None => false,
        }
    }

    /// What a port's device tells about itself; nothing while it is not open.
    pub fn view(&self, id: PortId) -> Option<DeviceView> {
        let port = self.port(id)?;
        Some(DeviceView { mac: port.mac(), link_up: self.link_up(id), counters: port.stats() })
    }

    fn port(&self, id: PortId) -> Option<&Port> {
        match &self.slots.get(&id)?.state {
            State::Open(port, _) => Some(port),
            State::Opening(_) | State::Closed { .. } => None,
        }
    }

    /// Whether a port's device is being opened.
    pub fn is_opening(&self, id: PortId) -> bool {
        self.slots.get(&id).is_some_and(|slot| matches!(slot.state, State::Opening(_)))
    }

    /// The ports whose devices are not open, why, and whether they are tried
    /// again.
    pub fn closed(&self) -> impl Iterator<Item = (&str, &str, bool)> {
        self.slots.values().filter_map(|slot| match &slot.state {
            State::Closed { why, again, .. } => {
                Some((slot.wanted.spec.name.as_str(), why.as_str(), again.is_some()))
            }
            State::Opening(_) | State::Open(..) => None,
        })
    }

    /// Why a port's device is not open.
    pub fn why_closed(&self, id: PortId) -> Option<&str> {
        match &self.slots.get(&id)?.state {
            State::Closed { why, .. } => Some(why),
            State::Opening(_) | State::Open(..) => None,
        }
    }

    /// These ports are declared, and no others: opens what is missing, and closes
    /// what is too much.
    pub fn want(&mut self, wanted: Vec<Wanted>, now: Instant) {
        let ids: Vec<PortId> = self.slots.keys().copied().collect();
        for id in ids {
            let stays = wanted.iter().any(|wanted| {
                wanted.id == id && self.slots.get(&id).is_some_and(|slot| slot.wanted.spec == wanted.spec)
            });
            if !stays {
                self.close(id);
            }
        }
        for wanted in wanted {
            let planned = self.plan.as_ref().is_some_and(|plan| plan.has(wanted.id));
            if !planned && !self.slots.contains_key(&wanted.id) {
                self.open(wanted, now);
            }
        }
    }

    /// What has become of devices since the last time.
    pub fn news(&mut self, now: Instant) -> Vec<News> {
        while let Some(answer) = self.opener.answer(Duration::ZERO) {
            self.take_answer(answer, now);
        }
        std::mem::take(&mut self.news)
    }

    /// Waits until no device is being opened, and not beyond a time.
    pub fn settle(&mut self, deadline: Instant) {
        while self.slots.values().any(|slot| matches!(slot.state, State::Opening(_))) {
            let now = Instant::now();
            match self.opener.answer(deadline.saturating_duration_since(now)) {
                Some(answer) => self.take_answer(answer, now),
                None => return,
            }
        }
    }

    /// Looks which devices have vanished, and tries again those that did not open
    /// when their time has come, or what they wait for.
    pub fn look(&mut self, now: Instant) {
        let missing = |(id, slot): (&PortId, &Slot)| match &slot.state {
            State::Open(port, presence) => Some((*id, presence.missing(port)?)),
            State::Opening(_) | State::Closed { .. } => None,
        };
        let missing: Vec<(PortId, String)> = self.slots.iter().filter_map(missing).collect();
        for (id, why) in missing {
            self.vanished(id, why, now);
        }
        let due = |slot: &&Slot| match &slot.state {
            State::Closed { again: Some(next), awaits, .. } => {
                *next <= now || awaits.as_ref().is_some_and(Awaited::has_come)
            }
            State::Closed { again: None, .. } | State::Opening(_) | State::Open(..) => false,
        };
        let due: Vec<Wanted> = self.slots.values().filter(due).map(|slot| slot.wanted.clone()).collect();
        for wanted in due {
            self.open(wanted, now);
        }
    }

    /// A device is not there any more: it is closed, and opened when it is back.
    fn vanished(&mut self, id: PortId, why: String, now: Instant) {
        let Some(Slot { wanted, .. }) = self.slots.get(&id) else { return };
        let wanted = wanted.clone();
        tracing::error!(port = %wanted.spec.name, "closed, and opened when it is back: {why}");
        self.close(id);
        let awaits = Awaited::by(&wanted);
        let state = State::Closed { why: why.clone(), again: Some(now + OPEN_AGAIN), awaits };
        self.slots.insert(id, Slot { wanted, state });
        self.news.push((id, Err(why)));
    }

    /// Asks for the device of a port, unless it may not be used.
    fn open(&mut self, wanted: Wanted, now: Instant) {
        let id = wanted.id;
        if self.plan_port(&wanted) {
            return;
        }
        let refused = |why, again| State::Closed { why, again, awaits: None };
        let state = match self.parse_allowed(&wanted) {
            Err(why) => refused(why, None),
            Ok(device) => match self.rival(&wanted) {
                Some(why) => refused(why, Some(now + OPEN_AGAIN)),
                None => State::Opening(self.opener.open(wanted.spec.clone(), device)),
            },
        };
        if let State::Closed { why, .. } = &state {
            tracing::error!(port = %wanted.spec.name, "not opened: {why}");
            self.news.push((id, Err(why.clone())));
        }
        self.slots.insert(id, Slot { wanted, state });
    }

    /// Another port that has or gets what a port's device takes from the host.
    fn rival(&self, wanted: &Wanted) -> Option<String> {
        let rivals = self.slots.values().filter(|slot| !matches!(slot.state, State::Closed { .. }));
        rivals.filter(|slot| slot.wanted.id != wanted.id).find_map(|slot| {
            let other = &slot.wanted.spec;
            let claim = wanted.spec.claims.iter().find(|claim| other.claims.contains(claim))?;
            Some(format!("port {} has {claim} already: delete one of the two", other.name))
        })
    }

    /// The device of a port, if it may be used.
    fn parse_allowed(&self, wanted: &Wanted) -> Result<DeviceSpec, String> {
        let device: DeviceSpec = wanted.spec.device.parse().map_err(|error| format!("{error}"))?;
        self.allowed.check(&device, wanted.by_operator)?;
        Ok(device)
    }

    fn take_answer(&mut self, opener::Answer { ticket, device }: opener::Answer, now: Instant) {
        let asked = |slot: &Slot| matches!(slot.state, State::Opening(asked) if asked == ticket);
        let Some(id) = self.slots.iter().find(|(_, slot)| asked(slot)).map(|(id, _)| *id) else {
            // Nobody wants it any more.
            if let Ok(OpenPort { port, rx, tx, .. }) = device {
                self.opener.close(port, PortQueues { rx, tx });
            }
            return;
        };
        let attached = device.and_then(|device| self.attach(id, device));
        if let Err(why) = attached {
            self.failed(id, why, now);
        }
    }

    /// A device did not open: it is tried again.
    fn failed(&mut self, id: PortId, why: String, now: Instant) {
        let awaits = self.slots.get(&id).and_then(|slot| Awaited::by(&slot.wanted));
        let pause = if self.hurried_until.is_some_and(|until| now < until) { OPEN_SOON } else { OPEN_AGAIN };
        self.try_again(id, why, now + pause, awaits);
    }

    /// A device did not open beside a process that may have it: it is tried again
    /// when that has ended.
    fn failed_beside(&mut self, id: PortId, why: String, other: &Process, now: Instant) {
        let latest = self.hurried_until.unwrap_or(now);
        self.try_again(id, why, latest, Some(Awaited::End(other.clone())));
    }

    fn try_again(&mut self, id: PortId, why: String, at: Instant, awaits: Option<Awaited>) {
        let Some(slot) = self.slots.get_mut(&id) else { return };
        tracing::error!(port = %slot.wanted.spec.name, "does not open, and is tried again: {why}");
        slot.state = State::Closed { why: why.clone(), again: Some(at), awaits };
        self.news.push((id, Err(why)));
    }

    /// Gives the queues of an open device to the workers.
    fn attach(&mut self, id: PortId, device: OpenPort) -> Result<(), String> {
        let Some(slot) = self.slots.get_mut(&id) else { return Err("it is not declared".to_owned()) };
        let spec = &slot.wanted.spec;
        let OpenPort { port, rx, tx, messages } = device;
        let queues = PortQueues { rx, tx };
        let counts = (queues.rx.len(), queues.tx.len());
        // When it is refused the queues are dropped, and with them and the
        // handle the device is closed.
        self.engine
            .attach_port(id, spec.role == PortRole::Host, queues)
            .map_err(|error| format!("port {}: {error}", spec.name))?;
        if !messages.is_empty() {
            tracing::debug!(port = %spec.name, "DPDK says: {messages}");
        }
        let info = PortInfo { mac: port.mac(), mtu: port.mtu() };
        tracing::info!(
            port = %spec.name, device = %spec.device, mac = %info.mac, mtu = info.mtu,
            rx_queues = counts.0, tx_queues = counts.1, "port open"
        );
        let device = spec.device.parse();
        slot.state = State::Open(port, device.as_ref().map_or(Presence::Driver, Presence::of));
        self.news.push((id, Ok(info)));
        Ok(())
    }

    /// Takes a device from the workers, and has it closed.
    fn close(&mut self, id: PortId) {
        if let Some(Slot { state: State::Open(port, _), .. }) = self.slots.remove(&id) {
            let queues = self.engine.detach_port(id).unwrap_or(PortQueues { rx: Vec::new(), tx: Vec::new() });
            self.opener.close(port, queues);
        }
    }
}

impl Drop for DevicePorts {
    fn drop(&mut self) {
        self.opener.finish();
    }
}

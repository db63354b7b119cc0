//! The daemon that comes, and takes over from the one that runs.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use tieline_dpdk::DpdkIo;
use tieline_engine::engine::Engine;
use tieline_engine::transfer::{Chunk, Names, NeighbourRecord, Numbering, Reader};
use tieline_engine::types::MacAddr;
use tieline_engine::worker::transfer::Taken;
use tieline_rib::PortInfo;

use crate::frame::{Channel, Door, FrameError, Kind, OLDEST_PROTOCOL, PROTOCOL, PortFacts, StoreWord};
use crate::other_process::Process;
use crate::upgrade::site::{Site, wait_programmed};
use crate::upgrade::socket;
use crate::upgrade::{
    CLOSE_PATIENCE, FROZEN_PATIENCE, PREPARE_PATIENCE, WORKER_PATIENCE, check_hello, hello,
};

/// How long devices that are open beside the other daemon's are left alone
/// before what they have received is thrown away again.
const DRAIN_PAUSE: Duration = Duration::from_micros(100);

/// How long the kernel may take to free the AF_XDP sockets of a process that
/// has ended. It does so on the side, and the driver tries only once.
const KERNEL_PAUSE: Duration = Duration::from_millis(100);

/// How long devices that the other daemon keeps to its end are waited for.
/// After that they are tried again by and by.
const END_PATIENCE: Duration = Duration::from_secs(5);

/// What came of it.
#[must_use]
pub enum Outcome {
    /// This daemon forwards.
    Taken(Taking),
    /// The other one has ended before it had said what is declared.
    Nobody,
}

/// This daemon forwards; what is left is how the other one goes.
#[must_use]
pub struct Taking {
    /// `None`: the other one has ended already.
    conversation: Option<(Channel, u16)>,
    other: Process,
    frozen: Instant,
}

/// What the other daemon leaves behind at last.
#[derive(Debug)]
pub struct Left {
    /// Its listening sockets.
    pub doors: Vec<(Door, OwnedFd)>,
    /// Its store.
    pub store: StoreWord,
}

/// Asks the daemon at the other end for everything that it has, and forwards
/// in its place. Until it has heard so, the other can still take everything
/// back. Should it end meanwhile, this one goes on with what it has.
///
/// # Errors
/// When something cannot be taken; then the other daemon goes on, and this one
/// must end.
pub fn take(
    meeting: &Path,
    stream: UnixStream,
    site: &mut dyn Site,
    neighbours: usize,
) -> anyhow::Result<Outcome> {
    let Some(Begun { mut channel, protocol, other }) = begin(meeting, stream)? else {
        return Ok(Outcome::Nobody);
    };
    let mut progress = Progress { other, declared: false, frozen: None };
    let taken = take_all(&mut channel, site, neighbours, &mut progress);
    let Progress { other, declared, frozen } = progress;
    let error = match taken {
        Ok(()) => {
            let frozen = frozen.unwrap_or_else(Instant::now);
            return Ok(Outcome::Taken(Taking { conversation: Some((channel, protocol)), other, frozen }));
        }
        Err(error) => error,
    };
    let is_gone = match error.downcast::<FrameError>() {
        Ok(said) => {
            let said = channel.last_word(said);
            if said.is_gone() { Ok(said.to_string()) } else { Err(said.into()) }
        }
        Err(error) => Err(error),
    };
    // What it does not hear it has ended before.
    let gone = is_gone.or_else(|error: anyhow::Error| {
        let told = channel.send(Kind::Refused, format!("{error:#}").as_bytes()).map_err(FrameError::from);
        match told.map_err(|failed| channel.last_word(failed)) {
            Err(failed) if failed.is_gone() => Ok(format!("{error:#}, and {failed}")),
            Ok(()) | Err(_) => Err(error),
        }
    })?;
    if !declared {
        tracing::warn!("the other daemon has ended before it had told everything: {gone}");
        site.devices().drop_plan();
        return Ok(Outcome::Nobody);
    }
    tracing::warn!("the other daemon has ended; this one goes on with what it has: {gone}");
    let frozen = frozen.unwrap_or_else(Instant::now);
    // What it may still hold is free when its process is.
    site.devices().open_rest(&other);
    Ok(Outcome::Taken(Taking { conversation: None, other, frozen }))
}

impl Taking {
    /// Tells the other daemon that this one forwards, and waits for what it
    /// leaves behind.
    ///
    /// # Errors
    /// When it has taken everything back: then this one must end.
    pub fn forwarding(&mut self) -> anyhow::Result<Left> {
        tracing::info!(milliseconds = self.frozen.elapsed().as_millis(), "forwarding, after a standstill");
        let mut left = Left { doors: Vec::new(), store: StoreWord::Unknown };
        let Some((channel, _)) = &mut self.conversation else { return Ok(left) };
        let told = channel
            .set_patience(FROZEN_PATIENCE + CLOSE_PATIENCE)
            .and_then(|()| channel.send(Kind::Forwarding, &[]))
            .map_err(FrameError::from);
        let heard = match told {
            Ok(()) => hear_yours(channel, &mut left),
            Err(error) => Err(channel.last_word(error)),
        };
        match heard {
            Ok(()) => Ok(left),
            Err(FrameError::Refused(why)) => bail!("the other daemon goes on itself: {why}"),
            // A daemon that took everything back would have said so.
            Err(error) => {
                tracing::warn!("the other daemon has ended without a word: {error}");
                Ok(left)
            }
        }
    }

    /// Tells the other daemon that it may end. Takes the devices that it keeps
    /// until then.
    pub fn serving(self, site: &mut dyn Site) {
        if let Some((mut channel, protocol)) = self.conversation
            && protocol >= 3
        {
            // It may have ended already.
            let _ = channel.send(Kind::Serving, &[]);
        }
        if site.devices().waits_for_an_end() {
            if self.other.wait_end(END_PATIENCE) {
                std::thread::sleep(KERNEL_PAUSE);
            } else {
                tracing::warn!("the other daemon has not ended: some of its devices will open later");
            }
        }
        site.devices().open_rest(&self.other);
        tracing::info!(milliseconds = self.frozen.elapsed().as_millis(), "took over");
    }
}

/// Takes the sockets and the word that the other daemon leaves behind.
fn hear_yours(channel: &mut Channel, left: &mut Left) -> Result<(), FrameError> {
    loop {
        match channel.receive()? {
            (Kind::Door, contents) => {
                let door = Door::parse(contents);
                left.doors.extend(door.zip(channel.take_descriptor()));
            }
            (Kind::Yours, contents) => {
                left.store = StoreWord::parse(contents);
                return Ok(());
            }
            (kind, _) => return Err(FrameError::Unexpected(format!("{kind:?} where Yours was expected"))),
        }
    }
}

/// A conversation that has begun.
struct Begun {
    channel: Channel,
    protocol: u16,
    other: Process,
}

/// Says hello, in older and older protocols, until the other daemon takes it.
/// `None`: it has ended.
fn begin(meeting: &Path, stream: UnixStream) -> anyhow::Result<Option<Begun>> {
    let mut next = Some(stream);
    let mut refused = None;
    for protocol in (OLDEST_PROTOCOL..=PROTOCOL).rev() {
        let stream = match next.take() {
            Some(stream) => stream,
            None => match socket::meet(meeting)? {
                Some(stream) => stream,
                None => return Ok(None),
            },
        };
        let other = Process::of(&stream);
        let mut channel = Channel::new(stream, PREPARE_PATIENCE)?;
        let said = channel.send(Kind::Hello, &hello(protocol).to_bytes()).map_err(FrameError::from);
        let said = said.and_then(|()| check_hello(channel.expect(Kind::Hello)?));
        match said.map_err(|error| channel.last_word(error)) {
            Ok(theirs) if theirs.protocol == protocol => {
                tracing::info!(release = theirs.release, protocol, "taking over");
                return Ok(Some(Begun { channel, protocol, other }));
            }
            Ok(theirs) => {
                bail!("the other daemon answers in protocol {}, asked for {protocol}", theirs.protocol)
            }
            Err(error) if error.is_gone() => return Ok(None),
            // It may be an older one.
            Err(error @ FrameError::Refused(_)) => refused = refused.or(Some(error)),
            Err(error) => return Err(error.into()),
        }
    }
    Err(refused.map_or_else(|| anyhow::anyhow!("no protocol is spoken here"), anyhow::Error::from))
}

/// How far it has come.
struct Progress {
    /// The other daemon's process.
    other: Process,
    /// Everything that the other daemon has declared is declared here.
    declared: bool,
    /// Since when nobody forwards.
    frozen: Option<Instant>,
}

fn take_all(
    channel: &mut Channel,
    site: &mut dyn Site,
    neighbours: usize,
    progress: &mut Progress,
) -> anyhow::Result<()> {
    let started = Instant::now();
    let version = declare(channel, site, &mut progress.other)?;
    progress.declared = true;
    wait_programmed(site, version)?;
    tracing::info!(milliseconds = started.elapsed().as_millis(), "programmed what is declared");
    let mut state = State::new(neighbours);
    state.take(channel, site, Kind::Copied)?;
    site.devices().open_beside()?;
    // While the last was opened, the first have received.
    site.devices().drain();
    channel.send(Kind::Ready, &[]).map_err(FrameError::from)?;

    channel.set_patience(FROZEN_PATIENCE)?;
    let asked = Instant::now();
    while !channel.has_news() && asked.elapsed() < FROZEN_PATIENCE {
        site.devices().drain();
        std::thread::sleep(DRAIN_PAUSE);
    }
    channel.expect(Kind::Detached)?;
    let frozen = Instant::now();
    progress.frozen = Some(frozen);
    channel.expect(Kind::Closed)?;
    site.devices().open_planned()?;
    let opened = frozen.elapsed();
    state.take(channel, site, Kind::Released)?;
    site.devices().attach_planned()?;
    tracing::info!(
        devices_milliseconds = opened.as_millis(),
        all_milliseconds = frozen.elapsed().as_millis(),
        "took the devices"
    );
    state.tell();
    Ok(())
}

/// Declares what the other daemon has declared, with ports that are planned.
fn declare(channel: &mut Channel, site: &mut dyn Site, other: &mut Process) -> anyhow::Result<u64> {
    let (mut records, mut ports) = (Vec::new(), Vec::new());
    let node = loop {
        match channel.receive()? {
            (Kind::Record, bytes) => records.push(bytes.to_vec()),
            (Kind::Port, bytes) => {
                let facts = PortFacts::parse(bytes).context("a port of the other daemon is damaged")?;
                ports.push((facts.name, PortInfo { mac: MacAddr(facts.mac), mtu: facts.mtu }));
            }
            (Kind::Declared, node) => break String::from_utf8_lossy(node).into_owned(),
            (kind, _) => bail!(FrameError::Unexpected(format!("{kind:?} among records"))),
        }
    };
    // It may have the listening socket from a daemon that is long gone, which is
    // who the socket says it is.
    if let Some(process) = channel.take_descriptor() {
        *other = Process::from_descriptor(process);
    }
    tracing::info!(records = records.len(), ports = ports.len(), "declaring");
    site.devices().plan(ports.into_iter().collect());
    site.set_node(node);
    site.declare(&records)
}

/// Live state as it comes in.
struct State {
    numbering: Option<Numbering>,
    names: Names,
    /// Most neighbours of an interface.
    limit: usize,
    /// By part: what was copied early, and what followed.
    taken: Vec<Taken>,
    /// Sessions whose VRF or interface is not here.
    unknown: u64,
    neighbours: u64,
}

impl State {
    fn new(limit: usize) -> Self {
        Self { numbering: None, names: Names::default(), limit, taken: Vec::new(), unknown: 0, neighbours: 0 }
    }

    /// Takes what comes until `last`.
    fn take(&mut self, channel: &mut Channel, site: &mut dyn Site, last: Kind) -> anyhow::Result<()> {
        let engine: Engine<DpdkIo> = site.workers().clone();
        let mut importer = engine.import_sessions(WORKER_PATIENCE);
        loop {
            let chunk = match channel.receive()? {
                (Kind::State, chunk) => chunk,
                (kind, _) if kind == last => break,
                (kind, _) => bail!(FrameError::Unexpected(format!("{kind:?} among live state"))),
            };
            let mut reader = Reader::new(chunk);
            match reader.next_chunk()? {
                Chunk::Vrfs(names) => self.names.vrfs.extend(names),
                Chunk::Interfaces(names) => self.names.interfaces.extend(names),
                Chunk::Sessions(records) => {
                    for record in records {
                        match self.numbering(site).session(&record?) {
                            Some(ours) => importer.push(ours)?,
                            None => self.unknown += 1,
                        }
                    }
                }
                Chunk::Neighbours(records) => {
                    let records: Vec<_> = records.collect::<Result<_, _>>()?;
                    let numbering = self.numbering(site);
                    let ours: Vec<NeighbourRecord> =
                        records.iter().filter_map(|record| numbering.neighbour(record)).collect();
                    self.neighbours = engine.import_neighbours(ours, self.limit).restored;
                }
                Chunk::End => {}
            }
            ensure!(reader.into_inner().is_empty(), "a message of live state holds more than a chunk");
        }
        self.taken.push(importer.finish()?);
        Ok(())
    }

    /// Made when the first record needs it: by then all names are here.
    fn numbering(&mut self, site: &dyn Site) -> &Numbering {
        let names = &self.names;
        self.numbering.get_or_insert_with(|| site.numbering(names))
    }

    fn tell(&self) {
        let parts: Vec<u64> = self.taken.iter().map(|part| part.restored).collect();
        tracing::info!(sessions_by_part = ?parts, neighbours = self.neighbours, "took the live state");
        let sum = |count: fn(&Taken) -> u64| self.taken.iter().map(count).sum::<u64>();
        let (over, quota, full) = (sum(|part| part.over), sum(|part| part.quota), sum(|part| part.full));
        let lost = quota + full + self.unknown;
        if lost + over > 0 {
            tracing::warn!(
                over_quota = quota,
                table_full = full,
                no_such_vrf_or_interface = self.unknown,
                idle_too_long = over,
                "sessions that were not taken"
            );
        }
    }
}

//! What a daemon begins with: the state of one that it takes over from, or its
//! own last one.

use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::{Duration, Instant};

use tieline_store::StoreError;

use crate::acknowledge::{Acknowledgements, Errand};
use crate::config::Config;
use crate::doors::Doors;
use crate::frame::StoreWord;
use crate::gateway::Gateway;
use crate::keeper::Contents;
use crate::process;
use crate::socket::ControlSocket;
use crate::upgrade;
use crate::upgrade::site::Site as _;
use crate::upgrade::taker::{self, Outcome};

/// How long a daemon that has just ended may keep its socket and its store: its
/// process takes as long as the kernel needs to free its devices.
const END_PATIENCE: Duration = Duration::from_secs(30);
/// How long a store that does not open is waited for before the daemon starts
/// without the last state.
const STORE_PATIENCE: Duration = Duration::from_secs(10);
/// Pause between two attempts.
const AGAIN: Duration = Duration::from_millis(100);

/// What a daemon begins with: the state of another one, or its own last one.
pub struct Begin<'a> {
    /// What the operator asks for.
    pub config: &'a Config,
    /// Where daemons meet.
    pub meeting: &'a Path,
    /// Closed as yet.
    pub doors: &'a Doors,
    /// To the thread that acknowledges.
    pub errands: &'a SyncSender<Errand>,
}

impl Begin<'_> {
    /// Takes over from a daemon that runs, or starts as usual, with the control
    /// socket.
    ///
    /// # Errors
    /// When the socket or the store is somebody else's.
    pub fn begin(
        &self,
        running: Result<UnixStream, ControlSocket>,
        gateway: &mut Gateway,
    ) -> anyhow::Result<()> {
        let mut running = match running {
            Ok(running) => Some(running),
            Err(socket) => {
                self.doors.set_control(socket);
                return self.open_store(gateway);
            }
        };
        let since = Instant::now();
        loop {
            if let Some(running) = running.take()
                && self.take_over(running, gateway)
            {
                return Ok(());
            }
            // It has ended. Another one may have come in its place.
            running = upgrade::socket::meet(self.meeting)?;
            if running.is_some() && since.elapsed() < END_PATIENCE {
                continue;
            }
            match ControlSocket::bind(&self.config.api.socket, self.config.api.permissions) {
                Ok(socket) => {
                    tracing::info!("starting as usual");
                    self.doors.set_control(socket);
                    return self.open_store(gateway);
                }
                // Its process is not gone yet, or the other is not ready yet.
                Err(error) if since.elapsed() > END_PATIENCE => return Err(error.into()),
                Err(_) => std::thread::sleep(AGAIN),
            }
        }
    }

    /// Takes everything over from a daemon that runs. False if it has ended before
    /// it had said enough.
    fn take_over(&self, running: UnixStream, gateway: &mut Gateway) -> bool {
        let taken = taker::take(self.meeting, running, gateway, self.config.neighbours.per_interface);
        let forwarding = taken.and_then(|outcome| match outcome {
            Outcome::Nobody => Ok(None),
            Outcome::Taken(mut taking) => taking.forwarding().map(|left| Some((taking, left))),
        });
        let (taking, left) = match forwarding {
            Ok(Some(taken)) => taken,
            Ok(None) => return false,
            Err(error) => {
                let _ = writeln!(std::io::stderr(), "tieline: nothing was taken over: {error:#}");
                // Nothing is closed in order: the other daemon uses some of these
                // devices.
                process::leave(1);
            }
        };
        // From here on nothing is a reason to end.
        for (door, listener) in left.doors {
            if let Err(error) = self.doors.adopt(door, listener) {
                tracing::warn!("a listening socket of the other daemon is of no use: {error:#}");
            }
        }
        let is_ours = match &left.store {
            StoreWord::Unknown => true,
            StoreWord::Left { path, missing } => {
                if !missing.is_empty() {
                    tracing::warn!(
                        "the other daemon leaves a store in which something is missing: {missing}"
                    );
                }
                self.config.store().is_some_and(|store| store.path == Path::new(path))
            }
            StoreWord::None | StoreWord::Unread(_) => false,
        };
        let contents = if is_ours { Contents::Known } else { Contents::Unread };
        gateway.keeper().set_contents(contents);
        if gateway.devices().waits_for_an_end() {
            // They stand still until the other has ended.
            taking.serving(gateway);
            self.take_store(gateway);
        } else {
            self.take_store(gateway);
            taking.serving(gateway);
        }
        true
    }

    /// Opens the store that the daemon before has left, and writes what was taken
    /// over from it. If that takes long, it goes on behind.
    fn take_store(&self, gateway: &mut Gateway) {
        let Some(path) = gateway.keeper().path().map(Path::to_owned) else { return };
        gateway.keeper().open("it is not open yet".to_owned());
        let Some((store, found)) = gateway.keeper().wait(upgrade::STORE_PATIENCE) else {
            tracing::error!(store = %path.display(), "the store does not open yet: going on without it");
            return;
        };
        gateway.take_store(store, &found, Instant::now());
        let mut all = Acknowledgements::at(0);
        gateway.take_changes(&mut all.to_store);
        let (reply, checked) = sync_channel(1);
        let errands = [Errand::Acknowledge(all), Errand::Check(reply)];
        if errands.into_iter().all(|errand| self.errands.send(errand).is_ok()) {
            // What comes of it is told like everything about the store.
            let _ = checked.recv_timeout(upgrade::STORE_PATIENCE);
        }
    }

    /// Opens the store and brings back what is in it. A store that cannot be used
    /// for now is tried again: the daemon starts without its state.
    fn open_store(&self, gateway: &mut Gateway) -> anyhow::Result<()> {
        let Some(at) = self.config.store() else {
            tracing::warn!("no store: what is declared is lost when the daemon ends");
            return Ok(());
        };
        let started = Instant::now();
        let mut said = false;
        loop {
            let error = match at.open(gateway.node()) {
                Ok((store, found)) => {
                    gateway.take_store(store, &found, started);
                    return Ok(());
                }
                Err(error) => error,
            };
            let is_in_use = matches!(error, StoreError::InUse { .. });
            let is_over = started.elapsed() > if is_in_use { END_PATIENCE } else { STORE_PATIENCE };
            // Another daemon has it, or it is something else: the operator's
            // mistake.
            if matches!(error, StoreError::NotAStore { .. }) || (is_in_use && is_over) {
                return Err(error.into());
            }
            if is_over {
                tracing::error!("the store cannot be used, and nothing is kept for now: {error}");
                gateway.read_store(&at.path, started);
                gateway.keeper().open(error.to_string());
                return Ok(());
            }
            if !said {
                tracing::warn!("the store does not open, and is tried again: {error}");
                said = true;
            }
            std::thread::sleep(AGAIN);
        }
    }
}

//! The daemon that runs, and goes.

use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use tieline_engine::engine::transfer::Marks;
use tieline_engine::transfer::stream;

use crate::acknowledge::Errand;
use crate::control::Control;
use crate::doors::Doors;
use crate::frame::{Channel, FrameError, Kind, PortFacts, StoreWord};
use crate::gateway::Gateway;
use crate::keeper::NotStored;
use crate::other_process::Process;
use crate::upgrade::site::Site;
use crate::upgrade::{
    CLOSE_PATIENCE, FROZEN_PATIENCE, PREPARE_PATIENCE, SERVING_PATIENCE, WORKER_PATIENCE, check_hello, hello,
    records, socket,
};

/// Pause after a take-over that came to nothing.
const PAUSE: Duration = Duration::from_millis(100);

/// What a daemon needs to hand everything over.
#[derive(Clone)]
pub struct Giver {
    /// The control thread.
    pub control: Control,
    /// The thread that has the store.
    pub errands: SyncSender<Errand>,
    /// The listening sockets.
    pub doors: Doors,
}

impl Giver {
    /// Speaks with a daemon that wants to take over. When it has, the control
    /// thread ends, with a gateway that is given away.
    pub fn serve(&self, stream: UnixStream) {
        if let Err(error) = self.converse(stream) {
            tracing::warn!("no take-over, everything goes on: {error:#}");
            std::thread::sleep(PAUSE);
        }
    }

    /// One conversation. Programming waits for its end.
    fn converse(&self, stream: UnixStream) -> anyhow::Result<()> {
        stream.set_nonblocking(false)?;
        socket::check_peer(&stream)?;
        let mut channel = Channel::new(stream, FROZEN_PATIENCE)?;
        let theirs = match check_hello(channel.expect(Kind::Hello)?) {
            Ok(theirs) => theirs,
            Err(error) => {
                let _ = channel.send(Kind::Refused, error.to_string().as_bytes());
                return Err(error.into());
            }
        };
        channel.send(Kind::Hello, &hello(theirs.protocol).to_bytes())?;
        tracing::info!(release = theirs.release, "another daemon takes over: programming waits until it has");
        let this = self.clone();
        self.control
            .alone(move |gateway| {
                let given = give(&mut channel, gateway)
                    .and_then(|()| this.hand_over(&mut channel, gateway, theirs.protocol));
                if let Err(error) = given {
                    // It may be gone.
                    let _ = channel.send(Kind::Refused, format!("{error:#}").as_bytes());
                    return Err(
                        error.context("the conversation with the daemon that was to take over broke off")
                    );
                }
                gateway.devices().close_last();
                gateway.workers().stop();
                gateway.give_away();
                tracing::info!("another daemon has taken over");
                Ok(())
            })
            .context("the control thread is gone")?
    }

    /// The other one forwards. Hands over all that is left; an error means that
    /// everything goes on here.
    fn hand_over(&self, channel: &mut Channel, gateway: &mut Gateway, protocol: u16) -> anyhow::Result<()> {
        gateway.devices().rest();
        self.doors.close();
        let word = self.close_store(gateway);
        // From here on it is the other's; it goes on even if it does not hear so.
        let _ = self.say_yours(channel, protocol, &word);
        if protocol < 3 {
            return Ok(());
        }
        let served = channel.set_patience(SERVING_PATIENCE).map_err(FrameError::from);
        match served.and_then(|()| channel.expect(Kind::Serving).map(drop)) {
            Ok(()) => Ok(()),
            Err(error) if error.is_silence() => {
                tracing::warn!("the other daemon forwards and does not serve clients yet: this one ends");
                Ok(())
            }
            Err(error) => {
                // First of all packets.
                gateway.devices().drain_resting();
                gateway.devices().come_back();
                gateway.open_store_again("it was closed for a daemon that then failed to take over");
                self.doors.open_again();
                bail!("the other daemon forwarded and failed before it served clients: {error}");
            }
        }
    }

    /// Closes the store, after all that is to be acknowledged was written.
    fn close_store(&self, gateway: &mut Gateway) -> StoreWord {
        let Some(path) = gateway.keeper().path() else { return StoreWord::None };
        let path = path.display().to_string();
        let unread = gateway.keeper().why_unread();
        let (reply, closed) = sync_channel(1);
        let asked = self.errands.send(Errand::Close(reply));
        let closed = match asked.is_ok().then(|| closed.recv_timeout(CLOSE_PATIENCE)) {
            Some(Ok(closed)) => closed,
            Some(Err(_)) | None => Err(NotStored("it is still being closed".to_owned())),
        };
        gateway.keeper().drop_found();
        if let Some(why) = unread {
            return StoreWord::Unread(why);
        }
        let missing = closed.err().map_or(String::new(), |NotStored(why)| why);
        if !missing.is_empty() {
            tracing::warn!("the store goes to the other daemon without all that is declared: {missing}");
        }
        StoreWord::Left { path, missing }
    }

    fn say_yours(&self, channel: &mut Channel, protocol: u16, word: &StoreWord) -> std::io::Result<()> {
        if protocol < 3 {
            self.doors.remove();
            return channel.send(Kind::Yours, &[]);
        }
        match self.doors.copies() {
            Ok(doors) => {
                for (door, listener) in doors {
                    channel.send_with(Kind::Door, &door.to_bytes(), listener.as_fd())?;
                }
            }
            Err(error) => {
                tracing::warn!("the other daemon has to make listening sockets of its own: {error}");
                self.doors.remove();
            }
        }
        channel.send(Kind::Yours, &word.to_bytes())
    }
}

/// Hands over what is declared, the live state and the devices, until the other
/// one forwards. An error means that everything goes on here.
///
/// # Errors
/// When the other end fails.
fn give(channel: &mut Channel, site: &mut dyn Site) -> anyhow::Result<()> {
    channel.set_patience(PREPARE_PATIENCE)?;
    site.declared(&mut |record| Ok(channel.write(Kind::Record, &records::encode(&record))?))?;
    for (name, info) in site.devices().facts() {
        let facts = PortFacts { mac: info.mac.0, mtu: info.mtu, name };
        channel.write(Kind::Port, &facts.to_bytes())?;
    }
    let node = site.node();
    match Process::own_descriptor() {
        Ok(process) => channel.send_with(Kind::Declared, node.as_bytes(), process.as_fd())?,
        // Then the other waits longer than it has to.
        Err(_) => channel.send(Kind::Declared, node.as_bytes())?,
    }
    let marks = send_state(channel, site, None)?;
    channel.send(Kind::Copied, &[])?;
    channel.expect(Kind::Ready)?;

    let frozen = Instant::now();
    site.devices().leave();
    let given = give_devices(channel, site, &marks);
    if given.is_err() {
        site.devices().come_back();
        tracing::warn!(milliseconds = frozen.elapsed().as_millis(), "forwarding stood still");
    }
    given
}

/// The part while nobody forwards.
fn give_devices(channel: &mut Channel, site: &mut dyn Site, marks: &Marks) -> anyhow::Result<()> {
    channel.set_patience(FROZEN_PATIENCE)?;
    channel.send(Kind::Detached, &[])?;
    site.devices().close_exclusive();
    channel.send(Kind::Closed, &[])?;
    send_state(channel, site, Some(marks))?;
    channel.send(Kind::Released, &[])?;
    channel.expect(Kind::Forwarding)?;
    Ok(())
}

/// Sends the live state: all, or what has changed since.
fn send_state(channel: &mut Channel, site: &mut dyn Site, since: Option<&Marks>) -> anyhow::Result<Marks> {
    let started = Instant::now();
    let mut sink = |chunk: &[u8]| channel.write(Kind::State, chunk);
    if since.is_none() {
        stream::write_names(&site.names(), &mut sink)?;
    }
    stream::write_neighbours(site.workers().export_neighbours(), &mut sink)?;
    let exported = site.workers().export_sessions(since, WORKER_PATIENCE, &mut sink)?;
    tracing::info!(
        sessions = exported.sessions,
        milliseconds = started.elapsed().as_millis(),
        again = since.is_some(),
        "sent the live state"
    );
    Ok(exported.marks)
}

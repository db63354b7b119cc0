//! The daemon that runs, and goes.

use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tieline_engine::engine::transfer::Marks;
use tieline_engine::transfer::stream;

use crate::control::Control;
use crate::upgrade::frame::{Channel, Kind, PortFacts};
use crate::upgrade::site::Site;
use crate::upgrade::{
    FROZEN_PATIENCE, PREPARE_PATIENCE, WORKER_PATIENCE, check_hello, hello, records, socket,
};

/// Pause after a take-over that came to nothing.
const PAUSE: Duration = Duration::from_millis(100);

/// Waits for a daemon that wants to take over. When one has, the process ends.
///
/// # Errors
/// When the system gives no thread.
pub fn start(listener: UnixListener, control: Control) -> std::io::Result<()> {
    listener.set_nonblocking(false)?;
    std::thread::Builder::new().name("upgrade".into()).spawn(move || {
        for stream in listener.incoming() {
            match stream.map_err(anyhow::Error::from).and_then(|stream| serve(stream, &control)) {
                Ok(()) => {}
                Err(error) => {
                    tracing::warn!("no take-over, everything goes on: {error:#}");
                    std::thread::sleep(PAUSE);
                }
            }
        }
    })?;
    Ok(())
}

/// One conversation. Programming waits for its end.
fn serve(stream: UnixStream, control: &Control) -> anyhow::Result<()> {
    socket::check_peer(&stream)?;
    let mut channel = Channel::new(stream, FROZEN_PATIENCE)?;
    if let Err(error) = check_hello(channel.expect(Kind::Hello)?) {
        let _ = channel.send(Kind::Refused, error.to_string().as_bytes());
        return Err(error.into());
    }
    channel.send(Kind::Hello, &hello().to_bytes())?;
    tracing::info!("another daemon takes over: programming waits until it has");
    control
        .alone(move |gateway| {
            if let Err(error) = give(&mut channel, gateway) {
                // It may be gone.
                let _ = channel.send(Kind::Refused, format!("{error:#}").as_bytes());
                return Err(error.context("the conversation with the daemon that was to take over broke off"));
            }
            gateway.devices().close_last();
            gateway.workers().stop();
            tracing::info!("another daemon has taken over");
            // The other devices are not closed: some are the other's as well.
            // With the process they go without a trace.
            std::process::exit(0);
        })
        .context("the control thread is gone")?
}

/// Hands everything over. An error means that everything goes on here.
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
    channel.send(Kind::Declared, &[])?;
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
    // From here on it is the other's; it goes on even if it does not hear so.
    let _ = channel.send(Kind::Yours, &[]);
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

//! One life of a daemon: from its configuration to its end.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tieline_dpdk::DpdkIo;
use tieline_engine::engine::Engine;
use tieline_gate::tls::Loaded;

use crate::acknowledge;
use crate::api::Api;
use crate::args::{Args, say};
use crate::begin::Begin;
use crate::control::{self, Control};
use crate::doors::{Doors, Places};
use crate::gateway::{Gateway, Shared};
use crate::identity::NodeId;
use crate::keeper;
use crate::problems::Problems;
use crate::process;
use crate::service::session::{About, Sessions};
use crate::shares::Shares;
use crate::socket::ControlSocket;
use crate::start::{NO_THREAD, start_engine};
use crate::upgrade;
use crate::upgrade::giver::Giver;

/// How long the API waits for devices of the last state when the daemon starts.
const DEVICES_PATIENCE: Duration = Duration::from_secs(5);

/// How a daemon ends that has served.
enum End {
    /// It was told to.
    Stopped,
    /// Another daemon has taken over.
    GivenAway,
}

/// Runs the daemon that the command line asks for until it is told to end, or
/// another one has taken over: then the process ends here.
///
/// # Errors
/// A sentence for the operator: what is wrong, where, and what to do.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let config = args.configuration()?;
    if args.check {
        if let Some((_, tls)) = &config.api.tcp {
            Loaded::read(tls)?;
        }
        say("the configuration is good")?;
        return Ok(());
    }
    tieline_log::start(&config.log)?;
    let started = Instant::now();
    // Threads have no more than the one that bears them: before all of them.
    let worker_filter = process::settle(&config)?;
    let meeting = upgrade::socket::path(&config.api.socket);
    let running = if args.take_over { upgrade::socket::meet(&meeting)? } else { None };
    // A daemon that runs keeps its socket until the last moment.
    let running = match running {
        Some(running) => Ok(running),
        None => Err(ControlSocket::bind(&config.api.socket, config.api.permissions)?),
    };
    if args.take_over && running.is_err() {
        tracing::info!("there is no daemon to take over from: starting as usual");
    }
    let problems = Problems::default();
    let node = NodeId::without_store(&config.api.socket);
    let (keeper, watch) = keeper::new(config.store(), node.clone()).context(NO_THREAD)?;
    let shared = Shared { keeper: watch, problems: problems.clone(), node: node.clone() };
    let (engine, mut gateway, facts) = start_engine(&config, started, shared, worker_filter)?;

    // Whatever may fail is there before anything is taken over.
    let errands = acknowledge::start(engine.clone(), keeper).context(NO_THREAD)?;
    let (control, idle) = control::start(errands.clone()).context(NO_THREAD)?;
    let about = About { node, boot_id: facts.boot_id.clone(), grace: config.grace };
    let sessions = Sessions {
        control: control.clone(),
        about: Arc::new(about),
        shares: Shares::of(config.api.limits.waiting),
    };
    let places = Places {
        control: (config.api.socket.clone(), config.api.permissions),
        meeting: (meeting.clone(), upgrade::socket::PERMISSIONS),
        tcp: config.api.tcp.as_ref().map(|(address, _)| *address),
    };
    let doors = Doors::new(places, problems.clone());
    let giver = Giver { control: control.clone(), errands: errands.clone(), doors: doors.clone() };
    let api = Api::new(&config, sessions, facts, problems, giver)?;

    let begin = Begin { config: &config, meeting: &meeting, doors: &doors, errands: &errands };
    begin.begin(running, &mut gateway)?;
    gateway.settle_devices(Instant::now() + DEVICES_PATIENCE);
    let thread = idle.begin(gateway);
    let served = api.serve(&config.api.socket, &doors, &control);
    match end(&control, thread, &doors, &engine) {
        // Nothing is closed in order: the other daemon uses some of these
        // devices. With the process they go without a trace.
        End::GivenAway => process::leave(0),
        End::Stopped => served,
    }
}

/// Ends what is left, in order; nothing of it if another daemon has taken over.
fn end(
    control: &Control,
    thread: JoinHandle<Option<Gateway>>,
    doors: &Doors,
    engine: &Engine<DpdkIo>,
) -> End {
    control.stop();
    // While another daemon takes over, this takes as long as that.
    let gateway = match thread.join() {
        Ok(Some(gateway)) if gateway.is_given_away() => {
            std::mem::forget(gateway);
            return End::GivenAway;
        }
        other => other,
    };
    doors.remove();
    // Workers give up their queues; with the gateway go the devices.
    engine.stop();
    if gateway.is_err() {
        tracing::error!("the control thread had ended early");
    }
    drop(gateway);
    tracing::info!("stopped");
    End::Stopped
}

//! The thread that opens and closes devices. Both take up to seconds, and DPDK
//! wants them one after another; nobody else waits for them.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use tieline_dpdk::{DeviceSpec, DpdkIo, Eal, OpenPort, Pool, Port, PortConfig};
use tieline_engine::engine::ports::PortQueues;
use tieline_process::essential;
use tieline_rib::spec::port::PortSpec;

use super::allowed::check_paths;

/// Descriptors of a queue: what waits while a worker is busy elsewhere.
const DESCRIPTORS: u16 = 1024;

/// A request for a device; the number says which one an answer is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ticket(pub u64);

enum Job {
    Open(Ticket, PortSpec, DeviceSpec),
    Close(Port, PortQueues<DpdkIo>),
}

/// What became of a request.
pub(super) struct Answer {
    pub ticket: Ticket,
    pub device: Result<OpenPort, String>,
}

/// What opening needs.
#[derive(Debug)]
pub(super) struct Opening {
    pub eal: Eal,
    pub pool: Pool,
    pub workers: u16,
}

impl Opening {
    /// Opens a device for a port.
    ///
    /// # Errors
    /// A sentence for the operator.
    pub fn open(&self, spec: &PortSpec, device: &DeviceSpec) -> Result<OpenPort, String> {
        check_paths(device)?;
        let config = PortConfig {
            name: spec.name.to_string(),
            device: device.clone(),
            mtu: spec.mtu,
            rx_queues: spec.rx_queues.unwrap_or(self.workers),
            tx_queues: self.workers,
            rx_descriptors: DESCRIPTORS,
            tx_descriptors: DESCRIPTORS,
        };
        Port::open(&self.eal, &self.pool, &config).map_err(|error| error.to_string())
    }
}

/// Tells the control thread that there is an answer.
pub(super) type Waker = Box<dyn Fn() + Send>;

/// The thread, and the way to it.
pub(super) struct Opener {
    jobs: Option<Sender<Job>>,
    wakers: Sender<Waker>,
    answers: Receiver<Answer>,
    thread: Option<JoinHandle<()>>,
    next: u64,
}

impl Opener {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the system gives none.
    pub fn start(opening: std::sync::Arc<Opening>) -> std::io::Result<Self> {
        let (jobs, todo) = channel();
        let (wakers, new_wakers) = channel::<Waker>();
        let (answering, answers) = channel();
        let thread = essential::spawn("devices", move || {
            let mut waker: Option<Waker> = None;
            for job in todo {
                match job {
                    Job::Open(ticket, spec, device) => {
                        let device = opening.open(&spec, &device);
                        // Without a receiver the daemon ends, and the device with it.
                        let _ = answering.send(Answer { ticket, device });
                    }
                    Job::Close(port, queues) => close(port, queues),
                }
                waker = new_wakers.try_iter().last().or(waker);
                if let Some(wake) = &waker {
                    wake();
                }
            }
        })?;
        Ok(Self { jobs: Some(jobs), wakers, answers, thread: Some(thread), next: 0 })
    }

    /// Whom to wake for an answer.
    pub fn set_waker(&self, waker: Waker) {
        // A thread that has ended answers nobody.
        let _ = self.wakers.send(waker);
    }

    /// Asks for a device.
    pub fn open(&mut self, spec: PortSpec, device: DeviceSpec) -> Ticket {
        self.next += 1;
        let ticket = Ticket(self.next);
        self.send(Job::Open(ticket, spec, device));
        ticket
    }

    /// Closes a device after all that was asked for before.
    pub fn close(&self, port: Port, queues: PortQueues<DpdkIo>) {
        self.send(Job::Close(port, queues));
    }

    /// An answer, if there is one within this time.
    pub fn answer(&self, patience: Duration) -> Option<Answer> {
        self.answers.recv_timeout(patience).ok()
    }

    /// Does all that it was asked for, and ends.
    pub fn finish(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that opens and closes devices has ended early");
        }
    }

    fn send(&self, job: Job) {
        if self.jobs.as_ref().is_none_or(|jobs| jobs.send(job).is_err()) {
            tracing::error!("the thread that opens and closes devices is gone: restart the daemon");
        }
    }
}

fn close(port: Port, PortQueues { rx, tx }: PortQueues<DpdkIo>) {
    let name = port.name().to_owned();
    match port.close(rx, tx) {
        Ok(()) => tracing::info!(port = %name, "port closed"),
        Err(error) => tracing::warn!(port = %name, "{error}"),
    }
}

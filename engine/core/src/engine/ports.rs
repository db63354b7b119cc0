//! Attaching and detaching ports while packets flow.

use std::collections::BTreeMap;

use crate::io::Io;
use crate::pipeline::outbox::MAX_PORTS;
use crate::types::{PortId, WorkerId};
use crate::worker::command::{AddPort, Command, Done};

use super::{Engine, lock, push_command};

/// Which worker owns which queue.
#[derive(Debug, Default)]
pub(super) struct PortMap {
    pub(super) ports: BTreeMap<PortId, QueueOwners>,
}

/// Owners of one port's queues, by queue number.
#[derive(Debug, Clone, Default)]
pub struct QueueOwners {
    /// Of receive queues.
    pub rx: Vec<WorkerId>,
    /// Of transmit queues.
    pub tx: Vec<WorkerId>,
}

/// A port was not attached.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AttachError {
    /// There is one already.
    #[error("port {0} is attached already")]
    InUse(u16),
    /// More ports than there can be.
    #[error("an engine has at most {MAX_PORTS} ports")]
    TooMany,
    /// It cannot send.
    #[error("the port has no transmit queue")]
    NoTxQueue,
}

/// A port's queues.
pub struct PortQueues<I: Io> {
    /// Receive queues, in the order of their numbers.
    pub rx: Vec<I::Rx>,
    /// Transmit queues, in the order of their numbers.
    pub tx: Vec<I::Tx>,
}

impl<I: Io> Engine<I> {
    /// Gives the queues of a port to workers: receive queues to those that
    /// have the fewest, transmit queues to as many as there are. Returns when
    /// all workers use it.
    ///
    /// # Errors
    /// See [`AttachError`]; the queues are dropped.
    pub fn attach_port(&self, port: PortId, is_host: bool, queues: PortQueues<I>) -> Result<(), AttachError> {
        if port.index() >= MAX_PORTS {
            return Err(AttachError::TooMany);
        }
        if queues.tx.is_empty() {
            return Err(AttachError::NoTxQueue);
        }
        let mut map = lock(&self.shared.ports);
        if map.ports.contains_key(&port) {
            return Err(AttachError::InUse(port.0));
        }
        let workers = self.shared.workers.len();
        let owners = map.assign(queues.rx.len(), queues.tx.len().min(workers), workers);
        let mut rx: Vec<Vec<(u16, I::Rx)>> = (0..workers).map(|_| Vec::new()).collect();
        for ((number, queue), owner) in queues.rx.into_iter().enumerate().zip(&owners.rx) {
            rx[owner.index()].push((number as u16, queue));
        }
        let mut tx: Vec<Option<I::Tx>> = (0..workers).map(|_| None).collect();
        for (queue, owner) in queues.tx.into_iter().zip(&owners.tx) {
            tx[owner.index()] = Some(queue);
        }
        let mut waiting = Vec::new();
        for (at, (rx, tx)) in rx.into_iter().zip(tx).enumerate() {
            let own = WorkerId(at as u16);
            let tx_owner = if tx.is_some() { own } else { owners.tx[at % owners.tx.len()] };
            let (done, receiver) = Done::new();
            let add = AddPort { port, rx, tx, tx_owner, is_host, done };
            push_command(&self.shared.workers[at], Command::AddPort(Box::new(add)));
            waiting.push(receiver);
        }
        for receiver in waiting {
            // A worker that has ended uses no port.
            let _ = receiver.recv();
        }
        map.ports.insert(port, owners);
        Ok(())
    }

    /// Takes the queues of a port back from the workers, in no particular
    /// order. Traffic of other ports goes on. `None` if it is not attached.
    pub fn detach_port(&self, port: PortId) -> Option<PortQueues<I>> {
        let mut map = lock(&self.shared.ports);
        map.ports.remove(&port)?;
        let mut queues = PortQueues { rx: Vec::new(), tx: Vec::new() };
        // First nobody sends to it any more; then what was handed over is
        // sent, and the queues are free.
        for leaving in self.ask_all(|done| Command::UnroutePort { port, done }) {
            queues.rx.extend(leaving.into_iter().map(|(_, rx)| rx));
        }
        for tx in self.ask_all(|done| Command::ReleasePort { port, done }) {
            queues.tx.extend(tx);
        }
        Some(queues)
    }

    /// Gives every worker a command and collects the answers.
    fn ask_all<T>(&self, command: impl Fn(Done<T>) -> Command<I>) -> Vec<T> {
        let waiting: Vec<_> = self
            .shared
            .workers
            .iter()
            .map(|worker| {
                let (done, receiver) = Done::new();
                push_command(worker, command(done));
                receiver
            })
            .collect();
        waiting.into_iter().filter_map(|receiver| receiver.recv().ok()).collect()
    }

    /// Which worker owns which queue, by port.
    pub fn queue_owners(&self) -> BTreeMap<PortId, QueueOwners> {
        lock(&self.shared.ports).ports.clone()
    }
}

impl PortMap {
    /// Receive queues go to the workers with the fewest; a worker that
    /// receives from a port transmits on it too, if only some can.
    fn assign(&self, rx: usize, tx: usize, workers: usize) -> QueueOwners {
        let mut load = vec![0usize; workers];
        for owner in self.ports.values().flat_map(|owners| &owners.rx) {
            load[owner.index()] += 1;
        }
        let mut owners = QueueOwners::default();
        for _ in 0..rx {
            let least = (0..workers).min_by_key(|at| load[*at]).unwrap_or(0);
            load[least] += 1;
            owners.rx.push(WorkerId(least as u16));
        }
        let mut candidates: Vec<WorkerId> = owners.rx.clone();
        candidates.extend((0..workers).map(|at| WorkerId(at as u16)));
        for candidate in candidates {
            if owners.tx.len() < tx && !owners.tx.contains(&candidate) {
                owners.tx.push(candidate);
            }
        }
        owners
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queues_spread_over_workers() {
        let mut map = PortMap::default();
        let first = map.assign(1, 1, 2);
        assert_eq!((first.rx.as_slice(), first.tx.as_slice()), (&[WorkerId(0)][..], &[WorkerId(0)][..]));
        map.ports.insert(PortId(0), first);
        let second = map.assign(1, 1, 2);
        assert_eq!((second.rx.as_slice(), second.tx.as_slice()), (&[WorkerId(1)][..], &[WorkerId(1)][..]));
        let wide = map.assign(4, 2, 2);
        assert_eq!(wide.tx.len(), 2);
        assert_eq!(wide.rx.iter().filter(|owner| **owner == WorkerId(0)).count(), 2);
    }
}

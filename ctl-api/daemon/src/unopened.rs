//! Ports of the last state whose devices did not open when it came back. The RIB
//! does not know them, and they are declared all the same: they are tried again,
//! stay in the store, and go to a daemon that takes over.

use std::time::{Duration, Instant};

use tieline_proto::v1;
use tieline_proto::v1::object::Kind;
use tieline_proto::v1::object_key::Kind as KeyKind;
use tieline_proto::v1::operation::Operation;
use tieline_rib::persist::Copy;
use tieline_rib::{ControllerId, Key};

use crate::batch::Done;
use crate::gateway::Work;

/// Time between two attempts to open a device.
const AGAIN: Duration = Duration::from_secs(5);

/// A port that is declared and whose device does not open.
#[derive(Debug)]
pub struct Unopened {
    /// Who declares it.
    pub by: ControllerId,
    /// The port.
    pub port: v1::Port,
    /// Why it does not open.
    pub why: String,
    next: Instant,
}

impl Unopened {
    /// A port that has just failed to open.
    pub fn new(by: ControllerId, port: v1::Port, why: String, now: Instant) -> Self {
        Self { by, port, why, next: now + AGAIN }
    }
}

/// All of them.
#[derive(Debug, Default)]
pub struct UnopenedPorts(Vec<Unopened>);

impl UnopenedPorts {
    /// One more.
    pub fn push(&mut self, one: Unopened) {
        self.0.push(one);
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Unopened> {
        self.0.iter()
    }

    /// Whether a controller has declared one of them.
    pub fn any_of(&self, by: ControllerId) -> bool {
        self.0.iter().any(|one| one.by == by)
    }

    /// Takes out those that are to be tried now.
    pub fn take_due(&mut self, now: Instant) -> Vec<Unopened> {
        self.0.extract_if(.., |one| one.next <= now).collect()
    }

    /// Takes out those of a controller, which has withdrawn them all.
    pub fn take_of(&mut self, by: ControllerId) -> Vec<Unopened> {
        self.0.extract_if(.., |one| one.by == by).collect()
    }

    /// What these batches say of them, each with the number of its batch.
    pub fn concerned(&self, all: &[Work]) -> Vec<(usize, Statement)> {
        let mut statements = Vec::new();
        // Nearly always.
        if self.0.is_empty() {
            return statements;
        }
        for (at, Work { by, batch }) in all.iter().enumerate() {
            for (index, operation) in batch.operations.iter().enumerate() {
                let (name, withdraws) = match &operation.operation {
                    Some(Operation::Apply(v1::Object { kind: Some(Kind::Port(port)) })) => {
                        (&port.name, false)
                    }
                    Some(Operation::Delete(v1::ObjectKey { kind: Some(KeyKind::Port(name)) })) => {
                        (name, true)
                    }
                    _ => continue,
                };
                if self.0.iter().any(|one| one.by == *by && one.port.name == *name) {
                    let is_atomic = batch.mode() == v1::BatchMode::Atomic;
                    let statement = Statement { by: *by, name: name.clone(), withdraws, index, is_atomic };
                    statements.push((at, statement));
                }
            }
        }
        statements
    }

    /// Takes out the one that this is about.
    pub fn settle(&mut self, statement: &Statement) {
        self.0.retain(|one| one.by != statement.by || one.port.name != statement.name);
    }

    /// Writes all of them as what they are: declarations.
    pub fn write_all(&self, copy: &mut dyn Copy) {
        for one in &self.0 {
            if let Some(key) = one.key() {
                copy.declaration(one.by, &key, Some(Kind::Port(one.port.clone())));
            }
        }
    }
}

impl Unopened {
    /// Its key; `None` for a name that is none, which nobody has declared.
    pub fn key(&self) -> Option<Key> {
        key(&self.port.name)
    }
}

/// An operation that withdraws one of them, or declares it anew.
#[derive(Debug)]
pub struct Statement {
    /// Whose.
    pub by: ControllerId,
    name: String,
    withdraws: bool,
    /// Its place in its batch.
    index: usize,
    /// Whether its batch is carried out as a whole or not at all.
    is_atomic: bool,
}

impl Statement {
    /// Whether it was, by what became of its batch.
    pub fn is_carried_out(&self, Done { refused, .. }: &Done) -> bool {
        match self.is_atomic {
            true => refused.is_empty(),
            false => refused.iter().all(|refused| refused.index as usize != self.index),
        }
    }

    /// The key that it withdraws.
    pub fn withdrawn(&self) -> Option<Key> {
        key(&self.name).filter(|_| self.withdraws)
    }
}

fn key(port: &str) -> Option<Key> {
    Key::parse(&v1::ObjectKey { kind: Some(KeyKind::Port(port.to_owned())) }).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: ControllerId = ControllerId(1);
    const B: ControllerId = ControllerId(2);

    fn port(name: &str) -> v1::Port {
        v1::Port { name: name.to_owned(), ..Default::default() }
    }

    fn names(ports: &UnopenedPorts) -> Vec<&str> {
        ports.iter().map(|one| one.port.name.as_str()).collect()
    }

    #[test]
    fn only_whoever_declared_one_withdraws_it() {
        let now = Instant::now();
        let mut ports = UnopenedPorts::default();
        for (by, name) in [(A, "p"), (B, "p"), (B, "q")] {
            ports.push(Unopened::new(by, port(name), String::new(), now));
        }
        let delete =
            |name: &str| Operation::Delete(v1::ObjectKey { kind: Some(KeyKind::Port(name.to_owned())) });
        let apply = |name: &str| Operation::Apply(v1::Object { kind: Some(Kind::Port(port(name))) });
        let work = |by, mode: v1::BatchMode, operations: Vec<Operation>| {
            let operations =
                operations.into_iter().map(|one| v1::Operation { operation: Some(one) }).collect();
            Work { by, batch: v1::Batch { mode: mode.into(), operations, ..Default::default() } }
        };
        let all = [
            work(A, v1::BatchMode::Each, vec![delete("q"), delete("p")]),
            work(B, v1::BatchMode::Atomic, vec![apply("x"), apply("q")]),
        ];
        let [(0, delete), (1, apply)] = &ports.concerned(&all)[..] else { panic!("two are concerned") };
        let refused = |index| Done {
            refused: vec![v1::RefusedOperation { index, refused: None }],
            ..Default::default()
        };
        assert!(delete.is_carried_out(&Done::default()) && apply.is_carried_out(&Done::default()));
        assert!(delete.is_carried_out(&refused(0)) && !delete.is_carried_out(&refused(1)));
        assert!(!apply.is_carried_out(&refused(0)), "all or nothing");
        assert_eq!((delete.withdrawn().is_some(), apply.withdrawn().is_some()), (true, false));
        ports.settle(delete);
        assert_eq!((ports.any_of(A), ports.any_of(B)), (false, true));
        ports.settle(apply);
        assert_eq!(names(&ports), ["p"]);
        assert!(ports.take_due(now).is_empty(), "it has failed just now");
        assert_eq!(ports.take_due(now + AGAIN).len(), 1);
        ports.push(Unopened::new(A, port("p"), String::new(), now));
        ports.push(Unopened::new(B, port("q"), String::new(), now));
        assert_eq!(ports.take_of(B).len(), 1);
        assert_eq!(names(&ports), ["p"]);
    }
}

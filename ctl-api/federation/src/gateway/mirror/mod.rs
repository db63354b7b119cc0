//! What should be declared on one gateway, and how far the gateway is with it.
//!
//! A mirror knows no network and no clock. Changes go in at any time; while a
//! session is open, batches come out and acknowledgements go in. What is wanted
//! and what the gateway holds are compared, so what did not change is not sent,
//! and what changed twice before it was sent is sent once.
//!
//! Changes are sent in waves. While one wave is being sent, what changes gathers
//! for the next. Inside a wave there is an order: what frees a name or a number,
//! objects before what needs them, VPN routes, and last what nothing leads to
//! any more. So nothing waits for ever behind routes that change all the time.

use std::collections::VecDeque;

use thiserror::Error;
use tieline_proto::v1;
use tieline_proto::v1::operation::Operation;

use super::key::{Change, Refusal, Revision, Subject};

mod attributes;
mod entry;
mod objects;
mod routes;
#[cfg(test)]
mod tests;

use objects::{ObjectQueue, Objects};
use routes::{RouteQueue, Routes};

/// Most operations of a batch.
const OPERATIONS: usize = 500;
/// Most VPN routes of a batch.
const ROUTES: usize = 1000;
/// A batch ends when it has so many bytes.
const BYTES: usize = 512 << 10;
/// Most bytes of an object: with a batch that has not ended it stays below the
/// 4 MiB that a gateway takes.
const LARGEST: usize = 3 << 20;
/// About how many bytes a packed prefix takes in a batch.
const PREFIX_BYTES: usize = 17;

/// An acknowledgement that answers nothing.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the gateway has {0}, which is not its turn: compare the versions of gateway and controller")]
pub struct WrongAnswer(String);

/// What came out of a queue.
enum Taken {
    /// Something to send, and what it is about.
    Operation(Operation, Subject),
    /// Something that no gateway takes.
    Unsendable(Refusal),
}

fn too_large(size: usize) -> v1::Refused {
    v1::Refused {
        code: v1::ErrorCode::InvalidField.into(),
        message: format!("it has {size} bytes, and {LARGEST} are the most that can be sent: make it smaller"),
        ..Default::default()
    }
}

/// What waits to be sent together.
#[derive(Debug, Default)]
struct Wave {
    objects: ObjectQueue,
    routes: RouteQueue,
    /// The last revision that is in it; none when that is accounted for.
    completes: Option<Revision>,
}

impl Wave {
    fn is_empty(&self) -> bool {
        self.objects.is_empty() && self.routes.is_empty()
    }
}

/// A batch under way.
#[derive(Debug)]
struct Sent {
    id: u64,
    subjects: Vec<Subject>,
    accepted: bool,
    /// With this batch the gateway has all of a revision.
    completes: Option<Revision>,
}

/// A batch in the making.
#[derive(Default)]
struct Draft {
    operations: Vec<v1::Operation>,
    subjects: Vec<Subject>,
    routes: usize,
    bytes: usize,
}

impl Draft {
    /// How many routes it still takes; none when it is full.
    fn room(&self) -> usize {
        match self.operations.len() < OPERATIONS && self.bytes < BYTES {
            true => ROUTES.saturating_sub(self.routes),
            false => 0,
        }
    }

    fn add(&mut self, operation: Operation, subject: Subject) {
        if let Subject::Routes { prefixes, .. } = &subject {
            self.routes += prefixes.len();
            self.bytes += prefixes.len() * PREFIX_BYTES;
        }
        let operation = v1::Operation { operation: Some(operation) };
        self.bytes += prost::Message::encoded_len(&operation);
        self.operations.push(operation);
        self.subjects.push(subject);
    }
}

/// An open session, as far as the mirror has to know it.
#[derive(Debug)]
struct Open {
    /// The gateway takes route sets.
    in_sets: bool,
    /// Most batches under way.
    window: usize,
    now: Wave,
    next: Wave,
    under_way: VecDeque<Sent>,
}

/// What should be declared on one gateway.
#[derive(Debug, Default)]
pub struct Mirror {
    objects: Objects,
    routes: Routes,
    revision: Revision,
    open: Option<Open>,
    last_id: u64,
    accepted: Option<Revision>,
    programmed: Option<Revision>,
    refusals: VecDeque<Refusal>,
}

/// How much a mirror holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Objects that should be there, VPN routes apart.
    pub objects: usize,
    /// VPN routes that should be there.
    pub routes: usize,
    /// Objects and VPN routes that the gateway has refused.
    pub refused: usize,
    /// Batches under way.
    pub outstanding: usize,
}

impl Mirror {
    /// Nothing is wanted, and no session is open.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes changes, in their order. Returns the revision that has them all:
    /// the last one when they change nothing.
    pub fn apply(&mut self, changes: Vec<Change>) -> Revision {
        let mut any = false;
        for change in changes {
            any |= self.apply_one(change);
        }
        if any {
            self.revision.0 += 1;
            if let Some(open) = &mut self.open {
                open.next.completes = Some(self.revision);
            }
        }
        self.revision
    }

    fn apply_one(&mut self, change: Change) -> bool {
        let (objects, routes) = match &mut self.open {
            Some(open) => (Some(&mut open.next.objects), Some(&mut open.next.routes)),
            None => (None, None),
        };
        match change {
            Change::Object(object) => match super::key::Key::of(&object) {
                Some(key) => self.objects.want(key, Some(*object), objects),
                None => false,
            },
            Change::NoObject(key) => self.objects.want(key, None, objects),
            Change::Routes { rd, attributes, prefixes } => {
                self.routes.want(rd, Some(&attributes), prefixes, routes)
            }
            Change::NoRoutes { rd, prefixes } => self.routes.want(rd, None, prefixes, routes),
        }
    }

    /// A session has begun: everything is to be declared again. `window` is the
    /// most batches under way, `in_sets` whether the gateway takes route sets.
    /// Nothing counts as programmed until it is so in this session.
    pub fn begin(&mut self, window: usize, in_sets: bool) {
        let mut now = Wave { completes: Some(self.revision), ..Default::default() };
        self.objects.begin(&mut now.objects);
        self.routes.begin(&mut now.routes);
        self.open = Some(Open { in_sets, window, now, next: Wave::default(), under_way: VecDeque::new() });
        (self.accepted, self.programmed) = (None, None);
        self.refusals.clear();
    }

    /// The session has ended. Nobody knows what became of batches under way.
    pub fn end(&mut self) {
        self.open = None;
    }

    /// The next batch to send; none when everything is sent, the window is full,
    /// or no session is open.
    pub fn poll_batch(&mut self) -> Option<v1::Batch> {
        loop {
            let open = self.open.as_mut()?;
            if open.under_way.len() >= open.window {
                return None;
            }
            if open.now.is_empty() {
                let revision = open.now.completes.take();
                self.complete(revision);
                let open = self.open.as_mut()?;
                if open.next.is_empty() && open.next.completes.is_none() {
                    return None;
                }
                open.now = std::mem::take(&mut open.next);
            }
            if let Some(batch) = self.cut() {
                return Some(batch);
            }
        }
    }

    /// The gateway has all of a revision as soon as it has what is under way.
    fn complete(&mut self, revision: Option<Revision>) {
        let (Some(revision), Some(open)) = (revision, &mut self.open) else { return };
        match open.under_way.back_mut() {
            Some(last) => {
                if last.accepted {
                    self.accepted = Some(revision);
                }
                last.completes = Some(revision);
            }
            None => (self.accepted, self.programmed) = (Some(revision), Some(revision)),
        }
    }

    /// Makes a batch of the present wave; none when nothing of it has to be sent.
    fn cut(&mut self) -> Option<v1::Batch> {
        let id = self.last_id + 1;
        let open = self.open.as_mut()?;
        let mut draft = Draft::default();
        while draft.room() > 0 {
            let Wave { objects, routes, .. } = &mut open.now;
            let taken = self.objects.take(objects, false, id);
            let taken = taken.or_else(|| self.routes.take(routes, draft.room(), open.in_sets, id));
            match taken.or_else(|| self.objects.take(objects, true, id)) {
                Some(Taken::Operation(operation, subject)) => draft.add(operation, subject),
                Some(Taken::Unsendable(refusal)) => self.refusals.push_back(refusal),
                None => break,
            }
        }
        if draft.operations.is_empty() {
            return None;
        }
        self.last_id = id;
        let Draft { operations, subjects, .. } = draft;
        open.under_way.push_back(Sent { id, subjects, accepted: false, completes: None });
        // Said with this batch already, not when the next one is asked for.
        if open.now.is_empty() {
            let revision = open.now.completes.take();
            self.complete(revision);
        }
        Some(v1::Batch { id, operations, ..Default::default() })
    }

    /// Takes a first acknowledgement.
    ///
    /// # Errors
    /// When it answers no batch that waits for one.
    pub fn handle_accepted(&mut self, accepted: v1::BatchAccepted) -> Result<(), WrongAnswer> {
        let v1::BatchAccepted { id, refused, .. } = accepted;
        let wrong = || WrongAnswer(format!("accepted batch {id}"));
        let open = self.open.as_mut().ok_or_else(wrong)?;
        // In the order of the batches, each once.
        let next = open.under_way.iter_mut().find(|sent| !sent.accepted);
        let sent = next.filter(|sent| sent.id == id).ok_or_else(wrong)?;
        sent.accepted = true;
        self.accepted = sent.completes.or(self.accepted);
        let mut objects_refused = 0;
        for v1::RefusedOperation { index, refused } in refused {
            let refused = refused.unwrap_or_default();
            let subject = sent.subjects.get(index as usize).ok_or_else(|| {
                WrongAnswer(format!("refused operation {index} of batch {id}, which it does not have"))
            })?;
            let refusal = match subject {
                Subject::Object(key) => {
                    objects_refused += 1;
                    self.objects.refuse(key.clone(), refused, id)
                }
                Subject::Routes { rd, prefixes } => {
                    let for_good = refused.code() == v1::ErrorCode::InvalidField;
                    self.routes.refuse(*rd, prefixes, for_good, id);
                    Some(Refusal { subject: subject.clone(), refused })
                }
            };
            self.refusals.extend(refusal);
        }
        // What was in the way may be gone. Without any success nothing is tried
        // again, so this ends.
        let objects = sent.subjects.iter().filter(|subject| matches!(subject, Subject::Object(_))).count();
        if objects > objects_refused {
            self.objects.retry(|code| code == v1::ErrorCode::Conflict, &mut open.next.objects);
        }
        Ok(())
    }

    /// Takes a second acknowledgement.
    ///
    /// # Errors
    /// When it is not the turn of this batch.
    pub fn handle_programmed(&mut self, id: u64) -> Result<(), WrongAnswer> {
        let wrong = || WrongAnswer(format!("programmed batch {id}"));
        let open = self.open.as_mut().ok_or_else(wrong)?;
        let first = open.under_way.front().ok_or_else(wrong)?;
        if first.id != id || !first.accepted {
            return Err(wrong());
        }
        let sent = open.under_way.pop_front().ok_or_else(wrong)?;
        for subject in &sent.subjects {
            match subject {
                Subject::Object(key) => self.objects.carried_out(key, id),
                Subject::Routes { rd, prefixes } => self.routes.carried_out(*rd, prefixes, id),
            }
        }
        self.programmed = sent.completes.or(self.programmed);
        Ok(())
    }

    /// An id for something else in the session, such as the end of the
    /// synchronisation.
    pub fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    /// What was refused, but not for good, is sent again. To be called now and
    /// then, while a session is open.
    pub fn retry_refused(&mut self) {
        if let Some(open) = &mut self.open {
            self.objects.retry(|_| true, &mut open.next.objects);
            self.routes.retry(&mut open.next.routes);
        }
    }

    /// The next refusal that nobody has heard of.
    pub fn poll_refusal(&mut self) -> Option<Refusal> {
        self.refusals.pop_front()
    }

    /// The last revision: all changes are in it.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// The last revision of which every change was carried out in the gateway's
    /// RIB, or refused, in this session.
    pub fn accepted(&self) -> Option<Revision> {
        self.accepted
    }

    /// The last revision of which every change is in the gateway's forwarding
    /// tables, or was refused, in this session or the last one.
    pub fn programmed(&self) -> Option<Revision> {
        self.programmed
    }

    /// How much it holds.
    pub fn counts(&self) -> Counts {
        Counts {
            objects: self.objects.declared,
            routes: self.routes.declared,
            refused: self.objects.refused.len() + self.routes.refused,
            outstanding: self.open.as_ref().map_or(0, |open| open.under_way.len()),
        }
    }
}

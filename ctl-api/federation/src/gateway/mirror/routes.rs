//! VPN routes: many, so each takes little memory, and they travel in sets.

use std::collections::BTreeMap;

use ipnet::IpNet;
use tieline_proto::v1;
use tieline_proto::v1::operation::Operation;

use super::attributes::{AttributeSets, Attributes};
use super::entry::{Entry, Order};
use super::{LARGEST, Taken, too_large};
use crate::gateway::key::{Refusal, Subject};
use crate::numbers::RouteDistinguisher;

/// Routes that wait, by what is to be said of them: what can travel together
/// stands together. Declarations come first, so that a route that moves to
/// another route distinguisher has its new path before it loses the old one.
pub(super) type RouteQueue = BTreeMap<(Order<Attributes>, RouteDistinguisher), Vec<IpNet>>;

/// All VPN routes.
#[derive(Debug, Default)]
pub(super) struct Routes {
    entries: BTreeMap<(RouteDistinguisher, IpNet), Entry<Attributes>>,
    sets: AttributeSets,
    /// How many are wanted.
    pub declared: usize,
    /// How many are refused.
    pub refused: usize,
}

impl Routes {
    /// Says which attributes routes should have, or that they should not be.
    /// They are queued where there is a queue. Returns whether anything is new.
    pub fn want(
        &mut self,
        rd: RouteDistinguisher,
        attributes: Option<&v1::Route>,
        prefixes: Vec<IpNet>,
        mut queue: Option<&mut RouteQueue>,
    ) -> bool {
        let attributes = attributes.map(|attributes| self.sets.intern(attributes));
        let mut any = false;
        for prefix in prefixes {
            let key = (rd, prefix.trunc());
            if attributes.is_none() && !self.entries.contains_key(&key) {
                continue;
            }
            let entry = self.entries.entry(key).or_insert_with(Entry::new);
            let (declared, refused) = counts(entry);
            any |= entry.want(attributes.clone());
            self.declared = self.declared + counts(entry).0 - declared;
            self.refused = self.refused + counts(entry).1 - refused;
            match queue.as_deref_mut() {
                Some(queue) => enqueue(key, entry, queue),
                None => entry.queued = false,
            }
            if entry.is_over() {
                self.entries.remove(&key);
            }
        }
        any
    }

    /// The next operation to send with this batch: at most `room` routes, one if
    /// they cannot travel in sets.
    pub fn take(&mut self, queue: &mut RouteQueue, room: usize, in_sets: bool, batch: u64) -> Option<Taken> {
        let room = if in_sets { room } else { room.min(1) };
        loop {
            let mut first = queue.first_entry()?;
            let (order, rd) = first.key().clone();
            let waiting = first.get_mut();
            let rest = waiting.len().saturating_sub(room);
            let candidates = waiting.split_off(rest);
            if waiting.is_empty() {
                first.remove();
            }
            let mut prefixes = self.due(&order, rd, candidates, queue);
            if prefixes.is_empty() {
                continue;
            }
            let subject = Subject::Routes { rd, prefixes: prefixes.clone() };
            match &order {
                Order::Declare(attributes) if attributes.size() > LARGEST => {
                    self.each(rd, &prefixes, |entry| entry.unsendable());
                    let refused = too_large(attributes.size());
                    return Some(Taken::Unsendable(Refusal { subject, refused }));
                }
                _ => self.each(rd, &prefixes, |entry| entry.sent(batch)),
            }
            let rd = rd.to_string();
            let operation = match order {
                Order::Declare(attributes) => {
                    let attributes = v1::Route { rd, ..attributes.route() };
                    match (in_sets, prefixes.pop()) {
                        (false, Some(prefix)) => {
                            let route = v1::Route { prefix: prefix.to_string(), ..attributes };
                            Operation::Apply(v1::Object { kind: Some(v1::object::Kind::Route(route)) })
                        }
                        (_, last) => Operation::ApplyRoutes(v1::RouteSet {
                            attributes: Some(attributes),
                            prefixes: Some(v1::RoutePrefixes::pack(prefixes.iter().copied().chain(last))),
                        }),
                    }
                }
                Order::Withdraw => match (in_sets, prefixes.pop()) {
                    (false, Some(prefix)) => {
                        let key = v1::RouteKey { rd, prefix: prefix.to_string() };
                        Operation::Delete(v1::ObjectKey { kind: Some(v1::object_key::Kind::Route(key)) })
                    }
                    (_, last) => Operation::DeleteRoutes(v1::RouteSetKey {
                        rd,
                        prefixes: Some(v1::RoutePrefixes::pack(prefixes.iter().copied().chain(last))),
                    }),
                },
            };
            return Some(Taken::Operation(operation, subject));
        }
    }

    /// Of routes that were queued with an order, those that it still holds for.
    /// The others are queued with theirs, if they have one.
    fn due(
        &mut self,
        order: &Order<Attributes>,
        rd: RouteDistinguisher,
        candidates: Vec<IpNet>,
        queue: &mut RouteQueue,
    ) -> Vec<IpNet> {
        let mut due = Vec::with_capacity(candidates.len());
        for prefix in candidates {
            let key = (rd, prefix);
            let Some(entry) = self.entries.get_mut(&key) else { continue };
            entry.queued = false;
            if entry.order().as_ref() == Some(order) {
                due.push(prefix);
            } else {
                enqueue(key, entry, queue);
                if entry.is_over() {
                    self.entries.remove(&key);
                }
            }
        }
        due
    }

    /// Does something to each of these routes, and forgets what is over then.
    fn each(&mut self, rd: RouteDistinguisher, prefixes: &[IpNet], act: impl Fn(&mut Entry<Attributes>)) {
        for prefix in prefixes {
            let key = (rd, *prefix);
            let Some(entry) = self.entries.get_mut(&key) else { continue };
            let (_, refused) = counts(entry);
            act(entry);
            self.refused = self.refused + counts(entry).1 - refused;
            if entry.is_over() {
                self.entries.remove(&key);
            }
        }
    }

    /// The gateway has refused what was sent with this batch.
    pub fn refuse(&mut self, rd: RouteDistinguisher, prefixes: &[IpNet], for_good: bool, batch: u64) {
        self.each(rd, prefixes, |entry| entry.refused(batch, for_good));
    }

    /// What was sent with this batch is carried out, or was refused.
    pub fn carried_out(&mut self, rd: RouteDistinguisher, prefixes: &[IpNet], batch: u64) {
        self.each(rd, prefixes, |entry| entry.carried_out(batch));
    }

    /// What was refused for now is queued again.
    pub fn retry(&mut self, queue: &mut RouteQueue) {
        if self.refused == 0 {
            return;
        }
        for (key, entry) in &mut self.entries {
            if entry.is_refused() {
                entry.retry();
                self.refused = self.refused + counts(entry).1 - 1;
                enqueue(*key, entry, queue);
            }
        }
    }

    /// A new session begins: everything is queued.
    pub fn begin(&mut self, queue: &mut RouteQueue) {
        self.refused = 0;
        for (key, entry) in &mut self.entries {
            entry.begin();
            enqueue(*key, entry, queue);
        }
        self.entries.retain(|_, entry| !entry.is_over());
    }
}

/// One if it is wanted, and one if it is refused.
fn counts(entry: &Entry<Attributes>) -> (usize, usize) {
    (usize::from(entry.wanted().is_some()), usize::from(entry.is_refused()))
}

/// Queues what has to be sent. What stands in the queue already is looked at
/// again when its turn comes.
fn enqueue(key: (RouteDistinguisher, IpNet), entry: &mut Entry<Attributes>, queue: &mut RouteQueue) {
    if entry.queued {
        return;
    }
    if let Some(order) = entry.order() {
        entry.queued = true;
        queue.entry((order, key.0)).or_default().push(key.1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_takes_little_memory() {
        // A B-tree of keys in order is half full: so much twice, and 18 bytes in
        // a queue that may have doubled when it grew.
        let bytes =
            2 * size_of::<((RouteDistinguisher, IpNet), Entry<Attributes>)>() + 2 * size_of::<IpNet>();
        assert!(bytes < 200, "{bytes}");
    }
}

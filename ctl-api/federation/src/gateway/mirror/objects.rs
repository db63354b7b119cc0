//! Objects other than VPN routes, and the order in which a gateway hears of
//! them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use prost::Message as _;
use tieline_proto::v1;
use tieline_proto::v1::operation::Operation;

use super::entry::{Entry, Order};
use super::{LARGEST, Taken, too_large};
use crate::gateway::key::{Key, Refusal, Subject};

/// When an operation is sent: before what needs it, and after what stands in
/// its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// Frees VLANs and addresses.
    WithdrawInterfaces,
    /// Frees labels, VNIs and devices.
    WithdrawVrfsAndPorts,
    /// Frees a name that next hops and groups share.
    WithdrawRenamed,
    Ports,
    Vrfs,
    SecurityGroups,
    Interfaces,
    NextHops,
    NextHopGroups,
    StaticRoutes,
    // VPN routes come between these.
    WithdrawStaticRoutes,
    WithdrawNextHopGroups,
    WithdrawNextHops,
    WithdrawSecurityGroups,
}

impl Phase {
    /// Whether it comes after the VPN routes: nothing leads there any more.
    fn is_late(self) -> bool {
        self >= Self::WithdrawStaticRoutes
    }
}

/// Operations that wait, in the order in which they are sent.
pub(super) type ObjectQueue = BTreeSet<(Phase, Key)>;

/// All objects but VPN routes.
#[derive(Debug, Default)]
pub(super) struct Objects {
    entries: BTreeMap<Key, Entry<Arc<v1::Object>>>,
    /// How many are wanted.
    pub declared: usize,
    /// Those that are refused, and what the caller knows of that.
    pub refused: BTreeMap<Key, v1::Refused>,
}

impl Objects {
    /// Says what should be under a key. It is queued where there is a queue.
    /// Returns whether that is new.
    pub fn want(&mut self, key: Key, want: Option<v1::Object>, queue: Option<&mut ObjectQueue>) -> bool {
        if want.is_none() && !self.entries.contains_key(&key) {
            return false;
        }
        let entry = self.entries.entry(key.clone()).or_insert_with(Entry::new);
        let before = usize::from(entry.wanted().is_some());
        let new = entry.want(want.map(Arc::new));
        self.declared = self.declared + usize::from(entry.wanted().is_some()) - before;
        if new {
            self.refused.remove(&key);
        }
        self.settle(&key, queue);
        new
    }

    /// Queues what has to be sent, and forgets what is over.
    fn settle(&mut self, key: &Key, queue: Option<&mut ObjectQueue>) {
        let Some(entry) = self.entries.get(key) else { return };
        if let (Some(queue), Some(order), false) = (queue, entry.order(), entry.queued) {
            queue.insert((self.phase(key, &order), key.clone()));
            if let Some(entry) = self.entries.get_mut(key) {
                entry.queued = true;
            }
        } else if entry.is_over() {
            self.entries.remove(key);
        }
    }

    fn phase<V>(&self, key: &Key, order: &Order<V>) -> Phase {
        let wanted = |key: Key| self.entries.get(&key).is_some_and(|entry| entry.wanted().is_some());
        match (order, key) {
            (Order::Declare(_), Key::Port(_)) => Phase::Ports,
            (Order::Declare(_), Key::Vrf(_)) => Phase::Vrfs,
            (Order::Declare(_), Key::SecurityGroup(_)) => Phase::SecurityGroups,
            (Order::Declare(_), Key::Interface(_)) => Phase::Interfaces,
            (Order::Declare(_), Key::NextHop(_)) => Phase::NextHops,
            (Order::Declare(_), Key::NextHopGroup(_)) => Phase::NextHopGroups,
            (Order::Declare(_), Key::StaticRoute { .. }) => Phase::StaticRoutes,
            (Order::Withdraw, Key::Interface(_)) => Phase::WithdrawInterfaces,
            (Order::Withdraw, Key::Vrf(_) | Key::Port(_)) => Phase::WithdrawVrfsAndPorts,
            (Order::Withdraw, Key::NextHop(name)) if wanted(Key::NextHopGroup(name.clone())) => {
                Phase::WithdrawRenamed
            }
            (Order::Withdraw, Key::NextHopGroup(name)) if wanted(Key::NextHop(name.clone())) => {
                Phase::WithdrawRenamed
            }
            (Order::Withdraw, Key::StaticRoute { .. }) => Phase::WithdrawStaticRoutes,
            (Order::Withdraw, Key::NextHopGroup(_)) => Phase::WithdrawNextHopGroups,
            (Order::Withdraw, Key::NextHop(_)) => Phase::WithdrawNextHops,
            (Order::Withdraw, Key::SecurityGroup(_)) => Phase::WithdrawSecurityGroups,
        }
    }

    /// The next operation to send with this batch; what comes after the VPN
    /// routes only when that is asked for.
    pub fn take(&mut self, queue: &mut ObjectQueue, late: bool, batch: u64) -> Option<Taken> {
        loop {
            let (phase, _) = queue.first()?;
            if phase.is_late() && !late {
                return None;
            }
            let (phase, key) = queue.pop_first()?;
            let Some(entry) = self.entries.get_mut(&key) else { continue };
            entry.queued = false;
            let Some(order) = entry.order() else {
                self.settle(&key, None);
                continue;
            };
            // Something else is wanted by now, which has its own place.
            if self.phase(&key, &order) != phase {
                self.settle(&key, Some(queue));
                continue;
            }
            let Some(entry) = self.entries.get_mut(&key) else { continue };
            let operation = match order {
                Order::Declare(object) => {
                    let size = object.encoded_len();
                    if size > LARGEST {
                        entry.unsendable();
                        let refused = too_large(size);
                        self.refused.insert(key.clone(), refused.clone());
                        return Some(Taken::Unsendable(Refusal { subject: Subject::Object(key), refused }));
                    }
                    Operation::Apply(v1::Object::clone(&object))
                }
                Order::Withdraw => Operation::Delete((&key).into()),
            };
            entry.sent(batch);
            return Some(Taken::Operation(operation, Subject::Object(key)));
        }
    }

    /// The gateway has refused what was sent with this batch. Returns the
    /// refusal, unless the caller has heard the same before.
    pub fn refuse(&mut self, key: Key, refused: v1::Refused, batch: u64) -> Option<Refusal> {
        let entry = self.entries.get_mut(&key)?;
        entry.refused(batch, refused.code() == v1::ErrorCode::InvalidField);
        if entry.is_refused() {
            let before = self.refused.insert(key.clone(), refused.clone());
            if before.is_some_and(|before| before == refused) {
                return None;
            }
        } else {
            self.settle(&key, None);
        }
        Some(Refusal { subject: Subject::Object(key), refused })
    }

    /// What was sent with this batch is carried out, or was refused.
    pub fn carried_out(&mut self, key: &Key, batch: u64) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        entry.carried_out(batch);
        if !entry.is_refused() && entry.order().is_none() {
            self.refused.remove(key);
        }
        self.settle(key, None);
    }

    /// What was refused for now, with a code that `which` picks, is queued again.
    pub fn retry(&mut self, which: impl Fn(v1::ErrorCode) -> bool, queue: &mut ObjectQueue) {
        let again = self.refused.iter().filter(|(_, refused)| which(refused.code()));
        let again: Vec<Key> = again.map(|(key, _)| key.clone()).collect();
        for key in again {
            if let Some(entry) = self.entries.get_mut(&key) {
                entry.retry();
            }
            self.settle(&key, Some(queue));
        }
    }

    /// A new session begins: everything is queued.
    pub fn begin(&mut self, queue: &mut ObjectQueue) {
        self.refused.clear();
        for entry in self.entries.values_mut() {
            entry.begin();
        }
        let keys: Vec<Key> = self.entries.keys().cloned().collect();
        for key in keys {
            self.settle(&key, Some(queue));
        }
    }
}

//! Whose number means what: VRFs and interfaces have names that both sides
//! know, and numbers that each has given by itself.

use std::collections::HashMap;

use foldhash::fast::RandomState;

use super::record::{NeighbourRecord, SessionRecord};
use crate::types::{InterfaceId, VrfId};

/// Names of the sender's VRFs and interfaces.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    /// VRFs, the underlay among them.
    pub vrfs: Vec<(VrfId, String)>,
    /// Interfaces.
    pub interfaces: Vec<(InterfaceId, String)>,
}

/// From the sender's numbers to ours.
#[derive(Debug, Clone, Default)]
pub struct Numbering {
    vrfs: HashMap<VrfId, VrfId, RandomState>,
    interfaces: HashMap<InterfaceId, InterfaceId, RandomState>,
}

impl Numbering {
    /// The sender's VRF `theirs` is `ours` here.
    pub fn add_vrf(&mut self, theirs: VrfId, ours: VrfId) {
        self.vrfs.insert(theirs, ours);
    }

    /// The sender's interface `theirs` is `ours` here.
    pub fn add_interface(&mut self, theirs: InterfaceId, ours: InterfaceId) {
        self.interfaces.insert(theirs, ours);
    }

    /// A session in our numbers. `None`: there is no such VRF here any more,
    /// or no such interface for the end that opened it, so that nothing could
    /// ever belong to it.
    pub fn session(&self, theirs: &SessionRecord) -> Option<SessionRecord> {
        let vrf = |theirs| self.vrfs.get(&theirs).copied();
        let key = crate::packet::flow_key::FlowKey { vrf: vrf(theirs.key.vrf)?, ..theirs.key };
        let reply_vrf = vrf(theirs.reply_vrf)?;
        let [forward, reverse] = theirs.ingress;
        let ingress = [self.interface(forward)?, self.interface(reverse).unwrap_or(InterfaceId::NONE)];
        Some(SessionRecord { key, reply_vrf, ingress, ..*theirs })
    }

    /// A neighbour in our numbers. `None`: there is no such interface here.
    pub fn neighbour(&self, theirs: &NeighbourRecord) -> Option<NeighbourRecord> {
        let interface = self.interfaces.get(&theirs.interface).copied()?;
        Some(NeighbourRecord { interface, ..*theirs })
    }

    fn interface(&self, theirs: InterfaceId) -> Option<InterfaceId> {
        if theirs == InterfaceId::NONE {
            return Some(InterfaceId::NONE);
        }
        self.interfaces.get(&theirs).copied()
    }
}

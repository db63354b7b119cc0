//! What has changed since it was last asked: for whoever keeps a copy.
//!
//! Entries are numbers and keys. Whoever reads them looks up what is declared
//! now, so that the last state counts, whatever led to it.

use ipnet::IpNet;

use crate::attributes::AttributesId;
use crate::controllers::ControllerId;
use crate::key::Key;
use crate::paths::PathId;
use tieline_names::Name;
use tieline_names::RouteDistinguisher;

/// One thing that may be different.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Entry {
    /// Attributes of VPN paths are there now, or gone.
    Attributes(AttributesId),
    /// A VPN path is there now.
    Path(AttributesId, RouteDistinguisher, IpNet),
    /// A VPN path is there no more.
    NoPath(AttributesId, RouteDistinguisher, IpNet),
    /// A controller declares an object, declares it otherwise, or no more.
    Declaration(ControllerId, Key),
    /// A declaration that waited came first, and was refused.
    Dropped(ControllerId, Key, String),
    /// A controller's declaration has no effect any more, as another one's
    /// differs and counts.
    Overridden { whose: ControllerId, by: ControllerId, key: Key },
    /// A VRF has an allocated label now, or no more.
    Label(Name),
    /// An object has another status, as it is declared.
    Status(Key),
}

/// Entries in the order in which things changed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Journal {
    entries: Vec<Entry>,
    is_kept: bool,
}

impl Journal {
    /// Whether entries are kept from now on.
    pub fn keep(&mut self, is_kept: bool) {
        self.is_kept = is_kept;
        self.entries = Vec::new();
    }

    fn push(&mut self, entry: Entry) {
        if self.is_kept {
            self.entries.push(entry);
        }
    }

    pub fn attributes(&mut self, id: AttributesId) {
        self.push(Entry::Attributes(id));
    }

    pub fn paths(&mut self, id: AttributesId, rd: RouteDistinguisher, paths: &[(IpNet, PathId)]) {
        if self.is_kept {
            self.entries.extend(paths.iter().map(|(prefix, _)| Entry::Path(id, rd, *prefix)));
        }
    }

    pub fn no_paths(&mut self, id: AttributesId, rd: RouteDistinguisher, paths: &[(IpNet, PathId)]) {
        if self.is_kept {
            self.entries.extend(paths.iter().map(|(prefix, _)| Entry::NoPath(id, rd, *prefix)));
        }
    }

    pub fn declaration(&mut self, by: ControllerId, key: Key) {
        self.push(Entry::Declaration(by, key));
    }

    pub fn dropped(&mut self, by: ControllerId, key: Key, why: String) {
        self.push(Entry::Dropped(by, key, why));
    }

    pub fn overridden(&mut self, whose: ControllerId, by: ControllerId, key: Key) {
        self.push(Entry::Overridden { whose, by, key });
    }

    pub fn label(&mut self, vrf: Name) {
        self.push(Entry::Label(vrf));
    }

    pub fn status(&mut self, key: Key) {
        self.push(Entry::Status(key));
    }

    /// Takes all entries.
    pub fn take(&mut self) -> Vec<Entry> {
        std::mem::take(&mut self.entries)
    }
}

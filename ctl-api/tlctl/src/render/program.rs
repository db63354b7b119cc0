//! What became of objects that were declared or withdrawn.

use std::fmt;

use tieline_proto::v1::{ErrorCode, Holder, Refused};

use super::{holders, printable};
use crate::kind::display_keys;
use crate::program::Fate;

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Declared.
    Applied,
    /// Withdrawn.
    Deleted,
}

impl Verb {
    fn word(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Deleted => "deleted",
        }
    }
}

/// How many objects met which fate; displays as the closing line.
#[derive(Debug)]
pub struct Summary {
    verb: Verb,
    done: usize,
    waiting: usize,
    /// Objects that the daemon refused.
    pub refused: usize,
    undone: usize,
    still_held: usize,
    /// Declared, and not working.
    degraded: usize,
}

impl Summary {
    /// Nothing has happened yet.
    pub fn new(verb: Verb) -> Self {
        Self { verb, done: 0, waiting: 0, refused: 0, undone: 0, still_held: 0, degraded: 0 }
    }

    /// Whether anything was done.
    pub fn changed_something(&self) -> bool {
        self.done + self.waiting > 0
    }

    /// Counts one object and returns its line.
    pub fn count(&mut self, name: &str, fate: &Fate) -> String {
        let line = match fate {
            Fate::Programmed => {
                self.done += 1;
                format!("{name} {}", self.verb.word())
            }
            Fate::Waiting(keys) => {
                self.waiting += 1;
                format!("{name} waits for {}", display_keys(keys))
            }
            Fate::Refused(refused) => {
                self.refused += 1;
                format!("{name} refused{}", reason(refused))
            }
            Fate::Undone => {
                self.undone += 1;
                format!("{name} not {}: another object was refused", self.verb.word())
            }
        };
        printable(&line)
    }

    /// Counts an object that is declared and does not work, and returns its line.
    pub fn count_degraded(&mut self, name: &str, why: &str) -> String {
        self.degraded += 1;
        printable(&format!("{name} degraded: {why}"))
    }

    /// Counts an object that is there although it was withdrawn, and returns
    /// its line.
    pub fn count_held(&mut self, name: &str, by: &[Holder]) -> String {
        self.still_held += 1;
        printable(&format!("{name} still held by {}", holders(by)))
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.done, self.verb.word())?;
        if self.waiting > 0 {
            write!(f, ", {} waiting", self.waiting)?;
        }
        if self.refused > 0 {
            write!(f, ", {} refused", self.refused)?;
        }
        if self.undone > 0 {
            write!(f, ", {} left as they were", self.undone)?;
        }
        if self.degraded > 0 {
            write!(f, ", {} of them degraded", self.degraded)?;
        }
        if self.still_held > 0 {
            write!(f, ", {} still held by others", self.still_held)?;
        }
        Ok(())
    }
}

/// What it means that the daemon has not stored what was done.
pub fn not_stored(why: &str) -> String {
    let why = why.trim_end_matches('.');
    printable(&format!("in force, but not stored: a restart of the daemon may not bring it back ({why})"))
}

/// Why something is refused: its code, field and sentence.
pub fn reason(refused: &Refused) -> String {
    let code = match refused.code() {
        ErrorCode::Unspecified => "",
        ErrorCode::InvalidField => " (invalid field)",
        ErrorCode::Conflict => " (conflict)",
        ErrorCode::LimitReached => " (limit reached)",
        ErrorCode::Device => " (device)",
        ErrorCode::MissingReference => " (missing reference)",
        ErrorCode::Permission => " (not permitted)",
    };
    let place = if refused.field.is_empty() { String::new() } else { format!(" {}:", refused.field) };
    format!("{code}:{place} {}", refused.message)
}

#[cfg(test)]
mod tests {
    use tieline_proto::v1::{ObjectKey, object_key};

    use super::*;

    #[test]
    fn lines_say_what_became_of_each() {
        let mut summary = Summary::new(Verb::Applied);
        let waits_for = ["eth0", "eth1"]
            .map(|name| ObjectKey { kind: Some(object_key::Kind::Port(name.to_owned())) })
            .to_vec();
        let refused = Refused {
            code: ErrorCode::InvalidField.into(),
            field: "vrf.label".into(),
            message: "7 is reserved; use 16 to 1048575".into(),
            limit: None,
        };
        let bare = Refused { code: ErrorCode::Conflict.into(), message: "a\nb".into(), ..Default::default() };
        assert_eq!(summary.count("vrf/red", &Fate::Programmed), "vrf/red applied");
        assert_eq!(
            summary.count("interface/a", &Fate::Waiting(waits_for)),
            "interface/a waits for port/eth0, port/eth1"
        );
        assert_eq!(
            summary.count("vrf/blue", &Fate::Refused(refused)),
            "vrf/blue refused (invalid field): vrf.label: 7 is reserved; use 16 to 1048575"
        );
        assert_eq!(summary.count("vrf/b", &Fate::Refused(bare)), "vrf/b refused (conflict): a b");
        assert_eq!(summary.to_string(), "1 applied, 1 waiting, 2 refused");
        assert_eq!(summary.count("vrf/c", &Fate::Undone), "vrf/c not applied: another object was refused");
        assert_eq!(summary.to_string(), "1 applied, 1 waiting, 2 refused, 1 left as they were");
        let mut summary = Summary::new(Verb::Deleted);
        assert_eq!(summary.to_string(), "0 deleted");
        let holder =
            |controller: &str, stale| Holder { controller: controller.into(), stale, differs: false };
        assert_eq!(summary.count("vrf/red", &Fate::Programmed), "vrf/red deleted");
        assert_eq!(
            summary.count_held("vrf/red", &[holder("cluster-a", false), holder("cluster-b", true)]),
            "vrf/red still held by cluster-a, cluster-b (stale)"
        );
        assert_eq!(summary.to_string(), "1 deleted, 1 still held by others");
    }
}

//! What a gateway's client tells its owner.

use std::fmt;
use std::time::{Duration, SystemTime};

use tieline_proto::v1;

use super::key::{Refusal, Revision};
use super::mirror::Counts;

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A session is open. Everything is being declared again.
    Up {
        /// What the gateway says of itself.
        hello: Box<v1::GatewayHello>,
    },
    /// The session is over, or none could be opened. The gateway goes on
    /// forwarding by what it has.
    Down {
        /// What happened.
        cause: Cause,
        /// A sentence that says why.
        reason: String,
        /// When it is tried again; none: when a term is told.
        retry_in: Option<Duration>,
    },
    /// The gateway has everything that is wanted, and nothing else.
    Synced {
        /// Objects and routes from before this session that nobody declared again.
        withdrawn: u64,
    },
    /// The synchronisation is not ended yet: something was refused, of which the
    /// gateway may have an older version, and that is still forwarding.
    SyncHeld {
        /// How much was refused.
        refused: usize,
    },
    /// A VRF originates this, new or in place of what it had under the VRF and
    /// prefix.
    Export(Box<v1::Export>),
    /// A VRF does not originate this any more.
    ExportGone {
        /// Name of the VRF.
        vrf: String,
        /// Prefix.
        prefix: String,
    },
    /// All that VRFs originate at this time was told.
    ExportsComplete,
    /// The gateway did not do what it was told. It is told again when that
    /// changes, in the next session, and, if the reason can pass, now and then.
    Refused(Refusal),
    /// Whether what the gateway accepts is stored there is different from before.
    Kept {
        /// Why it is not: a restart of the gateway may bring back less than it has.
        /// None: it is.
        not_stored: Option<String>,
    },
    /// Every change up to this revision is in force, or was refused.
    Programmed {
        /// The last of them.
        revision: Revision,
    },
}

/// Why there is no session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// No connection could be made.
    Unreachable,
    /// The session broke.
    Lost,
    /// The gateway closed it.
    Closed(v1::ClosingReason),
    /// It was silent for too long.
    Silent,
    /// It said what has no place in a session.
    Protocol,
    /// The owner wants another term, or none.
    Term,
    /// The owner has stopped the client.
    Stopped,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unreachable => "unreachable",
            Self::Lost => "lost",
            Self::Closed(reason) => match reason {
                v1::ClosingReason::Unspecified => "closed",
                v1::ClosingReason::Revision => "no common revision of the API",
                v1::ClosingReason::Protocol => "unexpected message",
                v1::ClosingReason::Fenced => "a higher election term is here",
                v1::ClosingReason::Replaced => "replaced by another session of this name and term",
                v1::ClosingReason::Silent => "the gateway heard nothing for too long",
                v1::ClosingReason::Limit => "a limit of sessions or controllers is reached",
            },
            Self::Silent => "silent",
            Self::Protocol => "protocol error",
            Self::Term => "term",
            Self::Stopped => "stopped",
        })
    }
}

/// How it stands with a gateway.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Status {
    /// Since when a session is open; none when none is.
    pub connected_since: Option<SystemTime>,
    /// The gateway's identity, which never changes; of the last session.
    pub node_id: String,
    /// Changes at every start of the gateway; of the last session.
    pub boot_id: String,
    /// What the gateway is, such as "tieline 0.1.0"; of the last session.
    pub software: String,
    /// The synchronisation of this session is over.
    pub synced: bool,
    /// How much is declared, refused and under way.
    pub counts: Counts,
    /// The last change that is wanted.
    pub revision: Revision,
    /// The last revision that is in force.
    pub programmed: Option<Revision>,
    /// What VRFs of the gateway originate.
    pub exports: usize,
    /// What went wrong last, and has not gone well since.
    pub last_error: Option<String>,
}

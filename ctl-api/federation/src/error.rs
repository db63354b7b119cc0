//! Errors as sentences for the operator, and the exit codes they end in.

use std::io;

use thiserror::Error;
use tieline_federation::store::StoreError;
use tonic::{Code, Status};

/// Exit codes of `tieline-federation`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// All that was asked for was done.
    Success = 0,
    /// Something was refused; with `diff` also: it differs.
    Refused = 1,
    /// Wrong usage, or a file that cannot be read; with `audit`: something could
    /// not be looked at.
    Usage = 2,
    /// The controller or the store cannot be reached.
    Unreachable = 3,
    /// What was asked for is not there.
    NotFound = 4,
}

/// Why a command ended early.
#[derive(Debug, Error)]
pub enum Error {
    /// The command line or a file makes no sense.
    #[error("{0}")]
    Usage(String),
    /// The controller or the store cannot be reached, or went away.
    #[error("{0}")]
    Unreachable(String),
    /// What was asked for is not there.
    #[error("{0}")]
    NotFound(String),
    /// It was refused.
    #[error("{0}")]
    Refused(String),
    /// Standard output cannot be written.
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
}

impl Error {
    /// The exit code that this error ends in.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Usage(_) => Exit::Usage,
            Self::Unreachable(_) => Exit::Unreachable,
            Self::NotFound(_) => Exit::NotFound,
            Self::Refused(_) | Self::Output(_) => Exit::Refused,
        }
    }

    /// Whether the reader of standard output has gone away.
    pub fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }

    /// From the status of a call; `what` names what was being done.
    pub fn from_status(status: &Status, what: &str) -> Self {
        let sentence = format!("cannot {what}: {}", status.message());
        match status.code() {
            Code::NotFound => Self::NotFound(sentence),
            Code::Unavailable => Self::Unreachable(sentence),
            Code::InvalidArgument => Self::Usage(sentence),
            Code::Unimplemented => Self::Refused(format!(
                "cannot {what}: what answers there does not know this call: it is no controller, or an older one"
            )),
            _ => Self::Refused(sentence),
        }
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable { .. } | StoreError::InUse { .. } => Self::Unreachable(error.to_string()),
            StoreError::Exposed { .. } => Self::Usage(error.to_string()),
            other => Self::Refused(other.to_string()),
        }
    }
}

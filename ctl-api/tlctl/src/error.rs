//! Errors as sentences for the operator, and the exit codes they end in.

use std::io;

use thiserror::Error;
use tonic::{Code, Status};

use crate::tls;

/// Exit codes of `tlctl`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// All that was asked for was done.
    Success = 0,
    /// The daemon refused something; with `diff` also: it differs.
    Refused = 1,
    /// Wrong usage, or a file that cannot be read.
    Usage = 2,
    /// The daemon cannot be reached, or went away.
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
    /// The daemon cannot be reached, or the connection broke.
    #[error("{0}")]
    Unreachable(String),
    /// What was asked for is not there.
    #[error("{0}")]
    NotFound(String),
    /// The daemon answered with an error.
    #[error("{0}")]
    Daemon(String),
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
            Self::Daemon(_) | Self::Output(_) => Exit::Refused,
        }
    }

    /// Whether the reader of standard output has gone away.
    pub fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }

    /// From the status of a call; `what` names what was being done, as in
    /// "read vrf/red".
    pub fn from_status(status: &Status, what: &str) -> Self {
        let message = status.message();
        if let Some(sentence) = tls::explain(status) {
            return Self::Unreachable(format!("cannot {what}: {sentence}"));
        }
        match status.code() {
            Code::NotFound if message.is_empty() => {
                Self::NotFound(format!("cannot {what}: there is no such thing"))
            }
            Code::NotFound => Self::NotFound(format!("cannot {what}: {message}")),
            Code::Unavailable => Self::Unreachable(format!(
                "lost the daemon while trying to {what}: {message}. Check that it is running, then try again"
            )),
            Code::Unimplemented => Self::Daemon(format!(
                "cannot {what}: the daemon does not know this call. Compare the versions with `tlctl version`"
            )),
            Code::PermissionDenied => Self::Daemon(format!("cannot {what}: not allowed: {message}")),
            Code::InvalidArgument | Code::ResourceExhausted => {
                Self::Daemon(format!("cannot {what}: {message}"))
            }
            code => Self::Daemon(format!("cannot {what}: {message} ({code})")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_become_sentences_with_their_exit_codes() {
        let cases = [
            (Status::not_found("no vrf red"), "cannot read vrf/red: no vrf red", Exit::NotFound),
            (
                Status::unavailable("broken"),
                "lost the daemon while trying to read vrf/red: broken. Check that it is running, then try again",
                Exit::Unreachable,
            ),
            (
                Status::permission_denied("ctl-a has no role"),
                "cannot read vrf/red: not allowed: ctl-a has no role",
                Exit::Refused,
            ),
            (Status::resource_exhausted("too fast"), "cannot read vrf/red: too fast", Exit::Refused),
            (Status::invalid_argument("bad key"), "cannot read vrf/red: bad key", Exit::Refused),
        ];
        for (status, text, exit) in cases {
            let error = Error::from_status(&status, "read vrf/red");
            assert_eq!(error.to_string(), text);
            assert_eq!(error.exit(), exit);
        }
    }
}

//! Hitless upgrade: a new daemon takes over from the one that runs, in the words
//! of [`frame`](crate::frame).
//!
//! - [`giver`]: the side that runs, and goes
//! - [`taker`]: the side that comes
//! - [`site`]: what both need of the gateway; [`records`]: what is declared, as
//!   bytes
//! - [`socket`]: where they meet, `NAME.upgrade` beside the control socket
//!
//! All that is slow happens while the old one still forwards: DPDK, memory,
//! what is declared, and a first copy of the live state. Then workers leave
//! the devices, what has changed follows, and the new one's workers take the
//! devices up. The old one closes its store, hands its listening sockets on, and
//! ends when the new one can serve clients. If the new one fails before that,
//! the old one goes on; if the old one ends at any moment, the new one does.
//!
//! How fast the process of the old one goes does not matter: what it may still
//! hold (devices, the lock of the store, a port) is tried again until it is free.

pub mod giver;
pub mod records;
pub mod site;
pub mod socket;
pub mod taker;

use std::time::Duration;

use crate::frame::{FrameError, Hello, OLDEST_PROTOCOL, PROTOCOL};
use tieline_engine::transfer::stream;

/// How long either side may take for all that is slow.
const PREPARE_PATIENCE: Duration = Duration::from_secs(300);
/// How long either side may take while nobody forwards.
const FROZEN_PATIENCE: Duration = Duration::from_secs(15);
/// How long a worker may take for a chunk of sessions.
const WORKER_PATIENCE: Duration = Duration::from_secs(5);
/// How long the daemon that goes waits for its store to close. It may be the
/// disk that holds it up.
const CLOSE_PATIENCE: Duration = Duration::from_secs(30);
/// How long the daemon that comes waits for the store to open before it lets
/// clients in without it.
pub const STORE_PATIENCE: Duration = Duration::from_secs(5);
/// How long the daemon that goes waits for the other to serve clients: longer
/// than that takes. Whoever is still there then goes on without being waited for.
const SERVING_PATIENCE: Duration = Duration::from_secs(90);

/// What is said first, to speak this protocol.
fn hello(protocol: u16) -> Hello {
    Hello { protocol, state: stream::VERSION, release: env!("CARGO_PKG_VERSION").to_owned() }
}

/// Whether what the other said first leads to a conversation: a protocol that is
/// spoken here, and the same live state.
fn check_hello(bytes: &[u8]) -> Result<Hello, FrameError> {
    let theirs = Hello::parse(bytes).ok_or_else(|| FrameError::Unexpected("no hello".to_owned()))?;
    if !(OLDEST_PROTOCOL..=PROTOCOL).contains(&theirs.protocol) || theirs.state != stream::VERSION {
        return Err(FrameError::Unexpected(format!(
            "release {} takes over by protocol {} with live state {}, this one ({}) by protocols {OLDEST_PROTOCOL} to \
             {PROTOCOL} with live state {}: restart instead",
            theirs.release,
            theirs.protocol,
            theirs.state,
            env!("CARGO_PKG_VERSION"),
            stream::VERSION
        )));
    }
    Ok(theirs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_versions_that_are_known_go_together() {
        for protocol in OLDEST_PROTOCOL..=PROTOCOL {
            assert_eq!(check_hello(&hello(protocol).to_bytes()).ok(), Some(hello(protocol)));
        }
        let strange = [
            Hello { state: stream::VERSION + 1, ..hello(PROTOCOL) },
            hello(PROTOCOL + 1),
            hello(OLDEST_PROTOCOL - 1),
        ];
        for hello in strange.map(|hello| Hello { release: "9.9".into(), ..hello }) {
            let error = check_hello(&hello.to_bytes()).expect_err("another format").to_string();
            assert!(error.contains("release 9.9") && error.contains("restart instead"), "{error}");
        }
        assert!(check_hello(b"").is_err());
    }
}

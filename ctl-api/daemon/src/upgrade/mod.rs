//! Hitless upgrade: a new daemon takes over from the one that runs.
//!
//! - [`frame`]: what they say to each other
//! - [`giver`]: the side that runs, and goes
//! - [`taker`]: the side that comes
//! - [`site`]: what both need of the gateway; [`records`]: what is declared, as
//!   bytes
//! - [`socket`]: where they meet, `NAME.upgrade` beside the control socket
//!
//! All that is slow happens while the old one still forwards: DPDK, memory,
//! what is declared, and a first copy of the live state. Then workers leave
//! the devices, what has changed follows, and the new one's workers take the
//! devices up. If anything fails before that, the old one goes on.

pub mod frame;
pub mod giver;
mod records;
pub mod site;
pub mod socket;
pub mod taker;

use std::time::Duration;

use frame::{FrameError, Hello, PROTOCOL};
use tieline_engine::transfer::stream;

/// How long either side may take for all that is slow.
const PREPARE_PATIENCE: Duration = Duration::from_secs(300);
/// How long either side may take while nobody forwards.
const FROZEN_PATIENCE: Duration = Duration::from_secs(15);
/// How long a worker may take for a chunk of sessions.
const WORKER_PATIENCE: Duration = Duration::from_secs(5);

fn hello() -> Hello {
    Hello { protocol: PROTOCOL, state: stream::VERSION, release: env!("CARGO_PKG_VERSION").to_owned() }
}

/// Whether both speak the same versions.
fn check_hello(bytes: &[u8]) -> Result<Hello, FrameError> {
    let theirs = Hello::parse(bytes).ok_or_else(|| FrameError::Unexpected("no hello".to_owned()))?;
    if theirs.protocol != PROTOCOL || theirs.state != stream::VERSION {
        return Err(FrameError::Unexpected(format!(
            "release {} takes over by protocol {} with live state {}, this one ({}) by protocol {PROTOCOL} with \
             live state {}: restart instead",
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
    fn only_the_same_versions_go_together() {
        assert_eq!(check_hello(&hello().to_bytes()).ok(), Some(hello()));
        let newer = Hello { state: stream::VERSION + 1, release: "9.9".into(), ..hello() };
        let error = check_hello(&newer.to_bytes()).expect_err("another format").to_string();
        assert!(error.contains("release 9.9") && error.contains("restart instead"), "{error}");
        assert!(check_hello(b"").is_err());
    }
}

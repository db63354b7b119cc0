//! The process of another daemon: whether it still runs.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// The process at the other end.
#[derive(Debug, Clone)]
pub struct Process(Option<Arc<OwnedFd>>);

impl Process {
    /// The process that a descriptor stands for (see pidfd_open(2)).
    pub fn from_descriptor(descriptor: OwnedFd) -> Self {
        Self(Some(Arc::new(descriptor)))
    }

    /// A descriptor that stands for this process.
    ///
    /// # Errors
    /// When the process has no more file descriptors.
    pub fn own_descriptor() -> io::Result<OwnedFd> {
        let (own, flags) = (rustix::process::getpid(), rustix::process::PidfdFlags::empty());
        Ok(rustix::process::pidfd_open(own, flags)?)
    }

    /// Whoever had the listening socket first that the other end came by. It is
    /// told apart from a later process with its number.
    pub fn of(stream: &UnixStream) -> Self {
        let held = rustix::net::sockopt::socket_peercred(stream)
            .and_then(|peer| rustix::process::pidfd_open(peer.pid, rustix::process::PidfdFlags::empty()));
        Self(held.ok().map(Arc::new))
    }

    /// Whether it is known to run.
    pub fn runs(&self) -> bool {
        self.0.is_some() && !self.wait_end(Duration::ZERO)
    }

    /// Waits until it has ended; returns whether it has, as far as can be
    /// known.
    pub fn wait_end(&self, patience: Duration) -> bool {
        let Some(process) = &self.0 else { return false };
        let deadline = Instant::now() + patience;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let timeout = Timespec::try_from(left).ok();
            match poll(&mut [PollFd::new(process, PollFlags::IN)], timeout.as_ref()) {
                Ok(ended) => return ended > 0,
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return false,
            }
        }
    }
}

//! Rate limits of what the engine answers: token buckets, one set for each
//! interface, so that one tenant cannot use up another's.

use crate::session::tick::Tick;
use crate::types::InterfaceId;

/// How fast a bucket fills and how much it holds.
#[derive(Debug, Clone, Copy)]
pub struct Rate {
    /// Tokens a second.
    pub per_second: u32,
    /// Most tokens at once.
    pub burst: u32,
}

/// ICMP errors of one interface on one worker.
pub const ERRORS: Rate = Rate { per_second: 100, burst: 50 };
/// Echo replies of one interface on one worker.
pub const ECHO: Rate = Rate { per_second: 2000, burst: 500 };
/// Packets from one interface that make one worker look for a neighbour.
pub const RESOLVES: Rate = Rate { per_second: 1000, burst: 256 };
/// ARP and ND messages of one interface on one worker.
pub const NEIGHBOUR_MESSAGES: Rate = Rate { per_second: 200, burst: 200 };

/// Tokens in thousandths, and when they were last counted.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    millitokens: u32,
    counted: Tick,
}

impl Bucket {
    fn full(rate: Rate, now: Tick) -> Self {
        Self { millitokens: rate.burst * 1000, counted: now }
    }

    fn take(&mut self, rate: Rate, now: Tick) -> bool {
        let elapsed = u64::from(now.since(self.counted));
        self.counted = now;
        let new = elapsed * u64::from(rate.per_second) * 1000 / u64::from(Tick::PER_SECOND);
        let filled = u64::from(self.millitokens) + new;
        self.millitokens = filled.min(u64::from(rate.burst) * 1000) as u32;
        let enough = self.millitokens >= 1000;
        if enough {
            self.millitokens -= 1000;
        }
        enough
    }
}

#[derive(Debug, Clone, Copy)]
struct Buckets {
    errors: Bucket,
    echo: Bucket,
    neighbour: Bucket,
    resolve: Bucket,
}

/// The rate limits of one worker.
#[derive(Debug)]
pub struct RateLimits {
    /// By interface; the last one is for all without.
    interfaces: Box<[Buckets]>,
}

impl RateLimits {
    /// Limits for so many interfaces.
    pub fn new(interfaces: usize, now: Tick) -> Self {
        let full = Buckets {
            errors: Bucket::full(ERRORS, now),
            echo: Bucket::full(ECHO, now),
            neighbour: Bucket::full(NEIGHBOUR_MESSAGES, now),
            resolve: Bucket::full(RESOLVES, now),
        };
        Self { interfaces: vec![full; interfaces + 1].into() }
    }

    fn of(&mut self, interface: InterfaceId) -> Option<&mut Buckets> {
        let at = interface.index().min(self.interfaces.len().saturating_sub(1));
        self.interfaces.get_mut(at)
    }

    /// Whether an ICMP error about a packet of this interface may be sent.
    pub fn allow_error(&mut self, interface: InterfaceId, now: Tick) -> bool {
        self.of(interface).is_some_and(|buckets| buckets.errors.take(ERRORS, now))
    }

    /// Whether an echo request from this interface is answered.
    pub fn allow_echo(&mut self, interface: InterfaceId, now: Tick) -> bool {
        self.of(interface).is_some_and(|buckets| buckets.echo.take(ECHO, now))
    }

    /// Whether a packet from this interface may wait for a neighbour.
    pub fn allow_resolve(&mut self, interface: InterfaceId, now: Tick) -> bool {
        self.of(interface).is_some_and(|buckets| buckets.resolve.take(RESOLVES, now))
    }

    /// Whether an ARP or ND message from this interface is looked at.
    pub fn allow_neighbour_message(&mut self, interface: InterfaceId, now: Tick) -> bool {
        self.of(interface).is_some_and(|buckets| buckets.neighbour.take(NEIGHBOUR_MESSAGES, now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_then_the_rate_and_interfaces_do_not_share() {
        let start = Tick(u32::MAX - 1);
        let mut limits = RateLimits::new(2, start);
        let (one, other) = (InterfaceId(0), InterfaceId(1));
        let allowed = (0..1000).filter(|_| limits.allow_error(one, start)).count();
        assert_eq!(allowed, ERRORS.burst as usize);
        assert!(limits.allow_error(other, start));
        // The clock wraps around in between.
        let later = start.after(Tick::PER_SECOND / 4);
        let allowed = (0..1000).filter(|_| limits.allow_error(one, later)).count();
        assert_eq!(allowed, (ERRORS.per_second / 4) as usize);
        assert!(limits.allow_error(InterfaceId::NONE, later), "packets without an interface have a bucket");
    }
}

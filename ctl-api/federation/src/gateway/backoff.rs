//! Pauses between attempts, which grow and are partly random.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::time::Duration;

/// Pauses that double from a first to a longest one. Half of each is random, so
/// that many who lost the same gateway do not come back at the same moment.
#[derive(Debug, Clone)]
pub(super) struct Backoff {
    first: Duration,
    longest: Duration,
    failures: u32,
}

impl Backoff {
    pub fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, failures: 0 }
    }

    /// The pause after one more failure.
    pub fn next(&mut self) -> Duration {
        let pause = self.pause(RandomState::new().build_hasher().finish());
        self.failures = self.failures.saturating_add(1);
        pause
    }

    fn pause(&self, random: u64) -> Duration {
        let doubled = 1_u32.checked_shl(self.failures).and_then(|factor| self.first.checked_mul(factor));
        let full = doubled.unwrap_or(self.longest).min(self.longest);
        full / 2 + full.mul_f64((random >> 11) as f64 / (1_u64 << 53) as f64) / 2
    }

    /// It went well.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_the_longest() {
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(30));
        let mut last = Duration::ZERO;
        for failures in 0..100 {
            let (least, most) = (backoff.pause(0), backoff.pause(u64::MAX));
            assert!(least >= last / 2 && most <= 2 * least + Duration::from_nanos(2), "{failures}");
            assert!((least..=most).contains(&backoff.next()));
            last = most;
        }
        assert_eq!(backoff.pause(0), Duration::from_secs(15));
        assert!(last <= Duration::from_secs(30));
        backoff.reset();
        assert_eq!(backoff.pause(0), Duration::from_millis(100));
    }
}

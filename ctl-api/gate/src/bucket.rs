//! A token bucket: so much a second, and a burst of one second's worth. It has
//! no clock; time comes in with each call.

use std::time::{Duration, Instant};

/// The bucket.
#[derive(Debug, Clone)]
pub struct Bucket {
    /// Tokens that come in, a second; as many fit.
    rate: f64,
    /// Below zero is a debt.
    tokens: f64,
    /// When they were counted.
    at: Instant,
}

impl Bucket {
    /// A full bucket.
    pub fn new(rate: f64, now: Instant) -> Self {
        Self { rate, tokens: rate, at: now }
    }

    /// Takes one token if there is one; else says how long until there is.
    ///
    /// # Errors
    /// The time to wait.
    pub fn take(&mut self, now: Instant) -> Result<(), Duration> {
        self.fill(now);
        if self.tokens >= 1.0 {
            self.tokens -= 1.0;
            return Ok(());
        }
        Err(self.time_for(1.0 - self.tokens))
    }

    /// Takes tokens, also those that are not there; returns how long to wait
    /// until the debt is paid.
    pub fn charge(&mut self, amount: usize, now: Instant) -> Duration {
        self.fill(now);
        self.tokens -= amount as f64;
        if self.tokens >= 0.0 { Duration::ZERO } else { self.time_for(-self.tokens) }
    }

    /// Whether nobody has taken anything for a second or more: it is like new.
    pub fn is_full(&mut self, now: Instant) -> bool {
        self.fill(now);
        self.tokens >= self.rate
    }

    fn fill(&mut self, now: Instant) {
        // A clock that was read by another thread may be a little behind.
        let passed = now.saturating_duration_since(self.at);
        self.tokens = (self.tokens + passed.as_secs_f64() * self.rate).min(self.rate);
        self.at = self.at.max(now);
    }

    fn time_for(&self, tokens: f64) -> Duration {
        Duration::try_from_secs_f64(tokens / self.rate).unwrap_or(Duration::MAX)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_second_is_a_burst_and_then_the_rate_holds() {
        let start = Instant::now();
        let mut bucket = Bucket::new(10.0, start);
        for _ in 0..10 {
            bucket.take(start).expect("a burst");
        }
        let wait = bucket.take(start).expect_err("it is empty");
        assert!(wait > Duration::from_millis(99) && wait < Duration::from_millis(101), "{wait:?}");
        bucket.take(start + wait + Duration::from_micros(1)).expect("one has come in");
        assert!(!bucket.is_full(start + Duration::from_secs(1)));
        assert!(bucket.is_full(start + Duration::from_secs(2)));
    }

    #[test]
    fn a_debt_is_waited_for() {
        let start = Instant::now();
        let mut bucket = Bucket::new(1000.0, start);
        assert_eq!(bucket.charge(1000, start), Duration::ZERO);
        assert_eq!(bucket.charge(500, start), Duration::from_millis(500));
        assert_eq!(bucket.charge(0, start + Duration::from_millis(500)), Duration::ZERO);
    }

    proptest! {
        #[test]
        fn nobody_gets_more_than_a_burst_and_the_rate(
            rate in 1u32..1000,
            steps in proptest::collection::vec((0u64..50_000, 1u32..20), 1..200),
        ) {
            let start = Instant::now();
            let mut bucket = Bucket::new(f64::from(rate), start);
            let (mut now, mut taken) = (start, 0u32);
            for (pause, tries) in steps {
                now += Duration::from_micros(pause);
                taken += (0..tries).filter(|_| bucket.take(now).is_ok()).count() as u32;
            }
            let most = f64::from(rate) * (1.0 + (now - start).as_secs_f64());
            prop_assert!(f64::from(taken) <= most + 1e-6, "{} of {}", taken, most);
        }
    }
}

//! What a worker does when there is nothing to do.

use std::time::Duration;

/// What a worker does when there is nothing to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdlePolicy {
    /// Looks again at once: lowest latency, a whole core. For appliances.
    Poll,
    /// Looks again at once for some turns, then sleeps longer and longer up
    /// to the given time. For laptops, shared machines and tests.
    Sleep {
        /// Longest sleep.
        longest: Duration,
    },
}

/// Turns without work before the first sleep.
const PATIENCE: u32 = 200;
/// The first sleep.
const SHORTEST: Duration = Duration::from_micros(20);

/// Idling of one worker.
#[derive(Debug)]
pub struct Idle {
    policy: IdlePolicy,
    empty_turns: u32,
    next_sleep: Duration,
}

impl Idle {
    /// A worker that has just had work.
    pub fn new(policy: IdlePolicy) -> Self {
        Self { policy, empty_turns: 0, next_sleep: SHORTEST }
    }

    /// Called after every turn of the loop; may sleep.
    #[inline]
    pub fn after_turn(&mut self, busy: bool) {
        if let Some(sleep) = self.pause(busy) {
            // Whoever has a command for the worker unparks it.
            std::thread::park_timeout(sleep);
        }
    }

    /// How long to sleep now.
    #[inline]
    fn pause(&mut self, busy: bool) -> Option<Duration> {
        let IdlePolicy::Sleep { longest } = self.policy else { return None };
        if busy {
            self.empty_turns = 0;
            self.next_sleep = SHORTEST;
            return None;
        }
        self.empty_turns = self.empty_turns.saturating_add(1);
        if self.empty_turns < PATIENCE {
            return None;
        }
        let sleep = self.next_sleep.min(longest);
        self.next_sleep = (sleep * 2).min(longest);
        Some(sleep)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sleeps_grow_to_the_longest_and_work_resets_them() {
        let longest = Duration::from_micros(100);
        let mut idle = Idle::new(IdlePolicy::Sleep { longest });
        assert!((1..PATIENCE).all(|_| idle.pause(false).is_none()));
        let sleeps: Vec<_> = (0..4).filter_map(|_| idle.pause(false)).map(|d| d.as_micros()).collect();
        assert_eq!(sleeps, [20, 40, 80, 100]);
        assert_eq!(idle.pause(true), None);
        assert_eq!(idle.pause(false), None);
    }

    #[test]
    fn polling_never_sleeps() {
        let mut idle = Idle::new(IdlePolicy::Poll);
        assert!((0..10 * PATIENCE).all(|_| idle.pause(false).is_none()));
    }
}

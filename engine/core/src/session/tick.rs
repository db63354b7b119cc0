//! The time of sessions: sixteenths of a second that wrap.
//!
//! Nothing here reads a clock; the worker passes the time in. The count wraps
//! after 8.5 years. Two ticks can be told apart in order while they are less
//! than half of that apart, and every live session is looked at far more
//! often, so that the wrap is never seen.

use std::time::Duration;

/// A moment, in sixteenths of a second from an arbitrary start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct Tick(pub u32);

impl Tick {
    /// Ticks in one second.
    pub const PER_SECOND: u32 = 16;
    /// The longest span that may be added to a tick: about two years. It keeps
    /// deadlines within the half of the circle that counts as the future.
    pub const MAX_SPAN: u32 = 1 << 30;

    /// The tick at `elapsed` since the arbitrary start.
    pub fn at(elapsed: Duration) -> Tick {
        // Only the position on the circle counts.
        Tick((elapsed.as_nanos() / NANOS_PER_TICK) as u32)
    }

    /// A span as a number of ticks, rounded up, at least 1 and at most
    /// [`MAX_SPAN`](Self::MAX_SPAN).
    pub fn span(duration: Duration) -> u32 {
        let ticks = duration.as_nanos().div_ceil(NANOS_PER_TICK);
        ticks.clamp(1, u128::from(Self::MAX_SPAN)) as u32
    }

    /// The tick that is `ticks` later.
    #[inline]
    #[must_use]
    pub fn after(self, ticks: u32) -> Tick {
        Tick(self.0.wrapping_add(ticks))
    }

    /// The tick that was `ticks` earlier.
    #[inline]
    #[must_use]
    pub fn before(self, ticks: u32) -> Tick {
        Tick(self.0.wrapping_sub(ticks))
    }

    /// Ticks from `earlier` to `self`, or 0 if `earlier` is in fact later.
    #[inline]
    pub fn since(self, earlier: Tick) -> u32 {
        if self.has_reached(earlier) { self.0.wrapping_sub(earlier.0) } else { 0 }
    }

    /// Whether `self` is at `moment` or past it.
    #[inline]
    pub fn has_reached(self, moment: Tick) -> bool {
        self.0.wrapping_sub(moment.0) < 1 << 31
    }
}

const NANOS_PER_TICK: u128 = 1_000_000_000 / Tick::PER_SECOND as u128;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn spans_round_up_and_stay_in_range() {
        assert_eq!(Tick::span(Duration::from_secs(30)), 480);
        assert_eq!(Tick::span(Duration::ZERO), 1);
        assert_eq!(Tick::span(Duration::from_millis(63)), 2);
        assert_eq!(Tick::span(Duration::MAX), Tick::MAX_SPAN);
        assert_eq!(Tick::at(Duration::from_millis(1062)), Tick(16));
    }

    proptest! {
        #[test]
        fn order_holds_across_the_wrap(start: u32, ahead in 0..=Tick::MAX_SPAN) {
            let (early, late) = (Tick(start), Tick(start).after(ahead));
            prop_assert!(late.has_reached(early));
            prop_assert_eq!(early.has_reached(late), ahead == 0);
            prop_assert_eq!(late.since(early), ahead);
            prop_assert_eq!(early.since(late), 0);
            prop_assert_eq!(late.before(ahead), early);
        }
    }
}

//! The timer wheel: which sessions are to be looked at when.
//!
//! One slot for each tick of the next 1024 seconds, each a doubly linked list.
//! What is due later than the wheel reaches goes into its last slot and is
//! armed again from there. Packets do not move a session in the wheel: who
//! takes a session out asks whether it has really been idle, and arms it
//! again if not.

use crate::prefetch::prefetch;
use crate::session::tick::Tick;

/// Slots; a power of two, so that the slots go on evenly where ticks wrap.
const SLOTS: u32 = 1 << 14;
/// No session.
const NONE: u32 = u32::MAX;
/// In place of a next one: not in the wheel.
const UNARMED: u32 = u32::MAX - 1;

/// Numbered timers.
pub(super) struct Wheel {
    /// By slot: the first of its list.
    heads: Box<[u32]>,
    /// A bit for each slot: whether its list has anything.
    occupied: Box<[u64]>,
    /// By number. Grows as numbers are first used, up to its capacity.
    links: Vec<Link>,
    /// The first tick whose slot has not been emptied yet.
    hand: Tick,
    armed: usize,
}

/// A timer's place in its list.
#[derive(Debug, Clone, Copy)]
pub(super) struct Link {
    next: u32,
    /// Of the first in a list it has no meaning.
    previous: u32,
    due: Tick,
}

impl Wheel {
    /// A wheel for the numbers below `capacity`.
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            heads: vec![NONE; SLOTS as usize].into(),
            occupied: vec![0; SLOTS as usize / 64].into(),
            links: Vec::with_capacity(capacity),
            hand: Tick(0),
            armed: 0,
        }
    }

    /// Starts to fetch a timer's place in its list.
    #[inline]
    pub(super) fn prefetch(&self, number: u32) {
        if let Some(link) = self.links.get(number as usize) {
            prefetch(link);
        }
    }

    /// Arms a timer that is not armed, for `deadline` or for as late before
    /// that as the wheel reaches.
    pub(super) fn arm(&mut self, number: u32, deadline: Tick, now: Tick) {
        if self.armed == 0 {
            self.hand = now;
        }
        let due = self.hand.after(deadline.since(self.hand).min(SLOTS - 1));
        let slot = slot_of(due);
        let next = self.heads[slot];
        if next != NONE {
            self.links[next as usize].previous = number;
        }
        while self.links.len() <= number as usize {
            self.links.push(Link { next: UNARMED, previous: NONE, due });
        }
        self.links[number as usize] = Link { next, previous: NONE, due };
        self.heads[slot] = number;
        self.occupied[slot / 64] |= 1 << (slot % 64);
        self.armed += 1;
    }

    /// Takes a timer out of the wheel, if it is in it.
    pub(super) fn disarm(&mut self, number: u32) {
        let Some(link) = self.links.get_mut(number as usize).filter(|link| link.next != UNARMED) else {
            return;
        };
        let Link { next, previous, due } = *link;
        link.next = UNARMED;
        let slot = slot_of(due);
        self.armed -= 1;
        if self.heads[slot] == number {
            return self.set_head(slot, next);
        }
        self.links[previous as usize].next = next;
        if next != NONE {
            self.links[next as usize].previous = previous;
        }
    }

    /// Moves an armed timer to `deadline` if it would otherwise be looked at
    /// only later than that.
    pub(super) fn advance(&mut self, number: u32, deadline: Tick, now: Tick) {
        let late = self.links.get(number as usize).is_some_and(|link| !deadline.has_reached(link.due));
        if late {
            self.disarm(number);
            self.arm(number, deadline, now);
        }
    }

    /// Takes out one timer that is due, if any is.
    pub(super) fn take_due(&mut self, now: Tick) -> Option<u32> {
        if self.armed == 0 {
            self.hand = now;
            return None;
        }
        if !now.has_reached(self.hand) {
            return None;
        }
        // After a long pause everything in the wheel is due: one turn finds it.
        if now.since(self.hand) >= SLOTS {
            self.hand = Tick(now.0.wrapping_sub(SLOTS - 1));
        }
        let mut slot = slot_of(self.hand);
        if self.heads[slot] == NONE {
            let Some(distance) = self.next_occupied(slot, now.since(self.hand)) else {
                self.hand = now;
                return None;
            };
            self.hand = self.hand.after(distance);
            slot = slot_of(self.hand);
        }
        let number = self.heads[slot];
        let next = std::mem::replace(&mut self.links[number as usize].next, UNARMED);
        self.armed -= 1;
        self.set_head(slot, next);
        self.prefetch(next);
        Some(number)
    }

    #[inline]
    fn set_head(&mut self, slot: usize, first: u32) {
        self.heads[slot] = first;
        if first == NONE {
            self.occupied[slot / 64] &= !(1 << (slot % 64));
        }
    }

    /// How far from slot `from` the next occupied slot is, at most `span`.
    fn next_occupied(&self, from: usize, span: u32) -> Option<u32> {
        let mut distance = 0;
        while distance <= span {
            let slot = (from + distance as usize) % SLOTS as usize;
            let word = self.occupied[slot / 64] >> (slot % 64);
            if word != 0 {
                let found = distance + word.trailing_zeros();
                return (found <= span).then_some(found);
            }
            distance += 64 - (slot % 64) as u32;
        }
        None
    }
}

#[inline]
fn slot_of(tick: Tick) -> usize {
    (tick.0 % SLOTS) as usize
}

/// Bytes for each number.
pub(super) const BYTES_PER_TIMER: usize = size_of::<Link>();

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[derive(Debug, Clone)]
    enum Step {
        /// Arms (or moves forward) a timer this many ticks ahead.
        Arm(u32, u32),
        Disarm(u32),
        /// Lets time pass and takes out at most so many.
        Pass(u32, usize),
    }

    fn ticks() -> impl Strategy<Value = u32> {
        prop_oneof![0u32..4, 0u32..2000, 0..3 * SLOTS, Just(SLOTS - 1), Just(SLOTS), 0..=Tick::MAX_SPAN]
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0u32..40, ticks()).prop_map(|(number, ahead)| Step::Arm(number, ahead)),
            1 => (0u32..40).prop_map(Step::Disarm),
            3 => (ticks(), prop_oneof![0usize..6, Just(usize::MAX)])
                .prop_map(|(ticks, most)| Step::Pass(ticks, most)),
        ]
    }

    /// A wheel used as sessions use it, beside a list of deadlines.
    struct Pair {
        wheel: Wheel,
        deadlines: BTreeMap<u32, Tick>,
        now: Tick,
    }

    impl Pair {
        fn take(&mut self, most: usize) -> Result<(), TestCaseError> {
            let (mut taken, mut looks) = (0, 0);
            while taken < most {
                let Some(number) = self.wheel.take_due(self.now) else { break };
                looks += 1;
                prop_assert!(looks <= 3 * 40, "a timer is looked at again and again");
                let deadline = self.deadlines[&number];
                if self.now.has_reached(deadline) {
                    self.deadlines.remove(&number);
                    taken += 1;
                } else {
                    self.wheel.arm(number, deadline, self.now);
                }
            }
            if taken < most {
                let missed = self.deadlines.iter().find(|(_, deadline)| self.now.has_reached(**deadline));
                prop_assert_eq!(missed, None, "it was due and did not come");
            }
            Ok(())
        }

        fn run(&mut self, step: Step) -> Result<(), TestCaseError> {
            match step {
                Step::Arm(number, ahead) => {
                    let deadline = self.now.after(ahead);
                    if self.deadlines.insert(number, deadline).is_some() {
                        self.wheel.advance(number, deadline, self.now);
                    } else {
                        self.wheel.arm(number, deadline, self.now);
                    }
                }
                Step::Disarm(number) => {
                    self.deadlines.remove(&number);
                    self.wheel.disarm(number);
                }
                Step::Pass(ticks, most) => {
                    self.now = self.now.after(ticks);
                    self.take(most)?;
                }
            }
            prop_assert_eq!(self.wheel.armed, self.deadlines.len());
            Ok(())
        }
    }

    proptest! {
        #[test]
        fn timers_come_when_a_list_of_deadlines_says_so(
            start in prop_oneof![any::<u32>(), u32::MAX - 5000..=u32::MAX],
            steps in proptest::collection::vec(step(), 1..120),
        ) {
            let mut pair = Pair { wheel: Wheel::new(40), deadlines: BTreeMap::new(), now: Tick(start) };
            for step in steps {
                // Half the circle without a look is outside the contract.
                if pair.now.since(pair.wheel.hand) > Tick::MAX_SPAN / 2 {
                    pair.take(usize::MAX)?;
                }
                pair.run(step)?;
            }
            pair.take(usize::MAX)?;
            let left: Vec<u32> = pair.deadlines.keys().copied().collect();
            for number in left {
                pair.wheel.disarm(number);
            }
            prop_assert!(pair.wheel.heads.iter().all(|head| *head == NONE));
            prop_assert!(pair.wheel.occupied.iter().all(|word| *word == 0));
        }
    }
}

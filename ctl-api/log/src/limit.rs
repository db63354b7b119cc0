//! How much is logged, whoever causes it.
//!
//! Many lines can be caused from outside: a peer that flaps, a client without a
//! certificate, a port that comes and goes. A disk that they have filled takes
//! more with it than the log. So lines that say the same but for numbers have a
//! rate, and so has each place in the program, whatever it says. Lines that were
//! left out are counted, and the count is told.
//!
//! Neither clock nor output are here: [`Limit::admit`] is told the time.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::time::Duration;

/// Lines of one text at once, and how long until there may be one more.
const TEXT: Rate = Rate { burst: 20, pause: Duration::from_secs(30) };
/// Lines of one place in the program, and how long until there may be one more.
const PLACE: Rate = Rate { burst: 200, pause: Duration::from_secs(1) };
/// Texts that have a rate of their own. Of others there may be as many as of
/// their place.
const MAX_TEXTS: usize = 4096;
/// How long a count of lines that were left out waits for a line that it can
/// be told with.
const SILENCE: Duration = Duration::from_secs(60);

/// Where a line comes from: a number for each place in the program.
pub type Place = u64;

/// A rate of lines.
#[derive(Debug, Clone, Copy)]
struct Rate {
    burst: u32,
    pause: Duration,
}

/// What may still be said.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    left: u32,
    /// When `left` was true.
    at: Duration,
}

impl Bucket {
    fn full(rate: Rate, now: Duration) -> Self {
        Self { left: rate.burst, at: now }
    }

    fn refill(&mut self, rate: Rate, now: Duration) {
        let more = now.saturating_sub(self.at).as_nanos() / rate.pause.as_nanos();
        let more = u32::try_from(more).unwrap_or(u32::MAX);
        self.at += rate.pause.saturating_mul(more);
        self.left = self.left.saturating_add(more).min(rate.burst);
        if self.left == rate.burst {
            self.at = now;
        }
    }
}

/// Lines of a place that were left out and not told of yet.
#[derive(Debug, Clone, Copy, Default)]
struct LeftOut {
    lines: u64,
    /// When the first of them was.
    since: Duration,
}

#[derive(Debug)]
struct OfPlace {
    bucket: Bucket,
    left_out: LeftOut,
}

/// What becomes of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is written.
    Write,
    /// It is counted only.
    LeaveOut,
}

/// The rates of all places and texts.
#[derive(Debug, Default)]
pub struct Limit {
    places: HashMap<Place, OfPlace>,
    texts: HashMap<u64, Bucket>,
    /// Nobody outside can choose texts that meet in one rate.
    keys: RandomState,
    /// Places of which lines were left out.
    left_out: u64,
    /// When it is worth while to look for texts that need no memory.
    next_sweep: Duration,
}

impl Limit {
    /// Whether a line from `place` that says `text` is written.
    pub fn admit(&mut self, place: Place, text: &str, now: Duration) -> Verdict {
        let fresh = || OfPlace { bucket: Bucket::full(PLACE, now), left_out: LeftOut::default() };
        let of_place = self.places.entry(place).or_insert_with(fresh);
        of_place.bucket.refill(PLACE, now);
        let key = gist(&self.keys, place, text);
        if self.texts.len() >= MAX_TEXTS && now >= self.next_sweep {
            // Texts that may be said as often as ever need no memory.
            self.next_sweep = now + TEXT.pause;
            self.texts.retain(|_, bucket| {
                bucket.refill(TEXT, now);
                bucket.left < TEXT.burst
            });
        }
        let has_room = self.texts.len() < MAX_TEXTS || self.texts.contains_key(&key);
        let mut unlimited = Bucket::full(TEXT, now);
        let of_text = if has_room {
            self.texts.entry(key).or_insert_with(|| Bucket::full(TEXT, now))
        } else {
            &mut unlimited
        };
        of_text.refill(TEXT, now);
        if of_text.left == 0 || of_place.bucket.left == 0 {
            let left_out = &mut of_place.left_out;
            if left_out.lines == 0 {
                left_out.since = now;
                self.left_out += 1;
            }
            left_out.lines += 1;
            return Verdict::LeaveOut;
        }
        of_text.left -= 1;
        of_place.bucket.left -= 1;
        Verdict::Write
    }

    /// The number of lines of `place` that were left out and not told of yet.
    /// From now on they are.
    pub fn take_left_out(&mut self, place: Place) -> Option<u64> {
        let of_place = self.places.get_mut(&place)?;
        let lines = std::mem::take(&mut of_place.left_out).lines;
        if lines == 0 {
            return None;
        }
        self.left_out -= 1;
        Some(lines)
    }

    /// Places of which lines were left out, and that have waited long enough to
    /// be told of.
    pub fn due(&self, now: Duration) -> Vec<Place> {
        if self.left_out == 0 {
            return Vec::new();
        }
        let is_due = |left_out: &LeftOut| left_out.lines > 0 && now.saturating_sub(left_out.since) >= SILENCE;
        self.places.iter().filter(|(_, of)| is_due(&of.left_out)).map(|(place, _)| *place).collect()
    }
}

/// What a text says but for its numbers.
fn gist(keys: &RandomState, place: Place, text: &str) -> u64 {
    let mut hasher = keys.build_hasher();
    hasher.write_u64(place);
    let mut in_number = false;
    for byte in text.bytes() {
        let is_digit = byte.is_ascii_digit();
        if !(is_digit && in_number) {
            hasher.write_u8(if is_digit { b'0' } else { byte });
        }
        in_number = is_digit;
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(limit: &mut Limit, place: Place, texts: impl Iterator<Item = String>, now: Duration) -> u32 {
        texts.map(|text| u32::from(limit.admit(place, &text, now) == Verdict::Write)).sum()
    }

    #[test]
    fn one_that_flaps_is_heard_sometimes_and_others_always() {
        let mut limit = Limit::default();
        let flaps = |from: u32| (from..from + 1000).map(|n| format!("peer red went down, attempt {n}"));
        assert_eq!(written(&mut limit, 1, flaps(0), Duration::ZERO), TEXT.burst);
        assert_eq!(limit.admit(1, "peer blue went down, attempt 1", Duration::ZERO), Verdict::Write);
        assert_eq!(written(&mut limit, 1, flaps(5000), TEXT.pause * 3), 3);
        assert_eq!(limit.take_left_out(1), Some(1000 - u64::from(TEXT.burst) + 997));
        assert_eq!(limit.take_left_out(1), None);
    }

    #[test]
    fn whatever_is_said_a_place_has_its_rate() {
        let mut limit = Limit::default();
        let name =
            |n: u32| n.to_string().replace(|c: char| c.is_ascii_digit(), "x") + &"y".repeat(n as usize % 977);
        let many = |from: u32| (from..from + 3000).map(name);
        assert_eq!(written(&mut limit, 1, many(0), Duration::ZERO), PLACE.burst);
        assert_eq!(written(&mut limit, 1, many(10_000), PLACE.pause * 7), 7);
        assert_eq!(limit.admit(2, "somewhere else", PLACE.pause * 7), Verdict::Write);
    }

    #[test]
    fn memory_is_bounded_and_comes_back() {
        let mut limit = Limit::default();
        for place in 0..100 {
            for n in 0..MAX_TEXTS {
                limit.admit(place, &"z".repeat(n), Duration::ZERO);
            }
        }
        assert!(limit.texts.len() <= MAX_TEXTS);
        let later = TEXT.pause * (TEXT.burst + 1);
        limit.admit(1, "something new", later);
        assert_eq!(limit.texts.len(), 1);
    }

    #[test]
    fn what_was_left_out_is_told_after_a_while_even_in_silence() {
        let mut limit = Limit::default();
        for _ in 0..100 {
            limit.admit(3, "again", Duration::ZERO);
        }
        assert!(limit.due(SILENCE / 2).is_empty());
        assert_eq!(limit.due(SILENCE), [3]);
        assert_eq!(limit.take_left_out(3), Some(100 - u64::from(TEXT.burst)));
        assert!(limit.due(SILENCE).is_empty());
    }
}

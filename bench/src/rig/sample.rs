//! Samples, and what they say together.
//!
//! Other work on the machine slows a core for a while, by bursts and by slow
//! drift. Figures are medians of the samples that nothing disturbed. Ratios are
//! taken round by round, of two engines' samples that follow each other, so that
//! a drift cancels out; the median of these is given. Rounds that nothing
//! disturbed count; if they are too few, those that the machine was equally slow
//! for.

use std::time::Duration;

/// How much slower than the best of a run the fixed work may be in a quiet
/// sample, and how much it may differ between the two samples of a round.
const TOLERATED: f64 = 1.07;
/// Least share of a quiet sample's time that the polling threads ran.
const LEAST_SHARE: f64 = 0.98;
/// Undisturbed rounds that are enough.
const ENOUGH_ROUNDS: usize = 3;

/// One sample of one engine.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    /// Millions a second of what is counted.
    pub mega: f64,
    /// The fixed work's time, the worse of before and after.
    pub fixed_work: Duration,
    /// Share of the time that the polling threads ran, the least of them.
    pub share: f64,
}

impl Sample {
    /// Whether nothing disturbed it; `best` is the fixed work's best time.
    pub fn is_quiet(&self, best: Duration) -> bool {
        self.fixed_work.as_secs_f64() <= best.as_secs_f64() * TOLERATED && self.share >= LEAST_SHARE
    }

    /// Whether the machine was as fast for another sample, however fast.
    fn is_like(&self, other: &Self) -> bool {
        let (ours, theirs) = (self.fixed_work.as_secs_f64(), other.fixed_work.as_secs_f64());
        ours.max(theirs) <= ours.min(theirs) * TOLERATED && self.share.min(other.share) >= LEAST_SHARE
    }
}

/// What the samples of one engine, or the rounds of two, say together.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Summary {
    /// The median: millions a second, or how many times as fast.
    pub median: f64,
    /// The least of those that count.
    pub least: f64,
    /// The most of those that count.
    pub most: f64,
    /// How many are quiet. If none is, all count.
    pub quiet: usize,
    /// How many there are.
    pub all: usize,
}

impl Summary {
    /// Figures of one engine, from its samples; `best` is the fixed work's best
    /// time. `None` if there are none.
    pub fn of_samples(samples: &[Sample], best: Duration) -> Option<Self> {
        Self::of(samples.iter().map(|sample| (sample.mega, sample.is_quiet(best))))
    }

    /// How many times as fast as another an engine is, from the samples of both
    /// in each round; `best` is the fixed work's best time. `None` if there are
    /// none.
    pub fn of_rounds(rounds: &[(Sample, Sample)], best: Duration) -> Option<Self> {
        let ratio = |(ours, theirs): &(Sample, Sample)| ours.mega / theirs.mega;
        let is_quiet = |(ours, theirs): &(Sample, Sample)| ours.is_quiet(best) && theirs.is_quiet(best);
        if rounds.iter().filter(|round| is_quiet(round)).count() >= ENOUGH_ROUNDS {
            return Self::of(rounds.iter().map(|round| (ratio(round), is_quiet(round))));
        }
        Self::of(rounds.iter().map(|round| (ratio(round), round.0.is_like(&round.1))))
    }

    /// Of values that are quiet or not.
    fn of(values: impl Iterator<Item = (f64, bool)> + Clone) -> Option<Self> {
        let all = values.clone().count();
        let mut counted: Vec<f64> =
            values.clone().filter(|(_, is_quiet)| *is_quiet).map(|(value, _)| value).collect();
        let quiet = counted.len();
        if quiet == 0 {
            counted = values.map(|(value, _)| value).collect();
        }
        counted.sort_by(f64::total_cmp);
        let (least, most) = (*counted.first()?, *counted.last()?);
        Some(Self { median: median(&counted), least, most, quiet, all })
    }
}

/// The median of sorted figures; of an even number the mean of the two in the
/// middle.
fn median(sorted: &[f64]) -> f64 {
    let middle = sorted.len() / 2;
    if sorted.len().is_multiple_of(2) { (sorted[middle - 1] + sorted[middle]) / 2.0 } else { sorted[middle] }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(mega: f64, micros: u64, share: f64) -> Sample {
        Sample { mega, fixed_work: Duration::from_micros(micros), share }
    }

    const BEST: Duration = Duration::from_micros(1000);

    #[test]
    fn disturbed_samples_do_not_count() {
        let samples = [
            sample(10.0, 1000, 1.0),
            sample(3.0, 1080, 1.0),
            sample(4.0, 1000, 0.9),
            sample(11.0, 1060, 0.99),
        ];
        let summary = Summary::of_samples(&samples, BEST);
        let expected = Summary { median: 10.5, least: 10.0, most: 11.0, quiet: 2, all: 4 };
        assert_eq!(summary, Some(expected));
    }

    #[test]
    fn all_count_when_none_is_quiet() {
        let samples = [sample(3.0, 2000, 1.0), sample(1.0, 2000, 1.0), sample(2.0, 1000, 0.5)];
        let summary = Summary::of_samples(&samples, BEST);
        assert_eq!(summary, Some(Summary { median: 2.0, least: 1.0, most: 3.0, quiet: 0, all: 3 }));
        assert_eq!(Summary::of_samples(&[], BEST), None);
        assert_eq!(Summary::of_rounds(&[], BEST), None);
    }

    #[test]
    fn a_drift_that_both_feel_leaves_the_ratio() {
        // The machine is slower by half in the second round, for both.
        let rounds = [
            (sample(30.0, 1000, 1.0), sample(10.0, 1000, 1.0)),
            (sample(20.0, 1500, 1.0), sample(6.5, 1510, 1.0)),
        ];
        let summary = Summary::of_rounds(&rounds, BEST).expect("two rounds");
        assert_eq!((summary.least, summary.quiet), (3.0, 2));
        assert!((summary.median - 3.038).abs() < 1e-3, "{summary:?}");
    }

    #[test]
    fn a_burst_that_only_one_feels_does_not_count() {
        let rounds = [
            (sample(30.0, 1000, 1.0), sample(10.0, 1000, 1.0)),
            (sample(30.0, 1000, 1.0), sample(5.0, 2000, 1.0)),
            (sample(10.0, 1000, 0.5), sample(10.0, 1000, 1.0)),
        ];
        let expected = Summary { median: 3.0, least: 3.0, most: 3.0, quiet: 1, all: 3 };
        assert_eq!(Summary::of_rounds(&rounds, BEST), Some(expected));
    }

    #[test]
    fn rounds_of_a_slower_machine_do_not_count_beside_enough_others() {
        let quiet = (sample(30.0, 1000, 1.0), sample(10.0, 1000, 1.0));
        let slow = (sample(10.0, 1500, 1.0), sample(5.0, 1500, 1.0));
        let expected = Summary { median: 3.0, least: 3.0, most: 3.0, quiet: 3, all: 4 };
        assert_eq!(Summary::of_rounds(&[quiet, slow, quiet, quiet], BEST), Some(expected));
        let expected = Summary { median: 2.5, least: 2.0, most: 3.0, quiet: 2, all: 2 };
        assert_eq!(Summary::of_rounds(&[quiet, slow], BEST), Some(expected));
    }
}

//! Samples, and what they say together.

use std::time::Duration;

/// How much slower than the best of a run the fixed work may be in a quiet
/// sample.
const TOLERATED: f64 = 1.07;
/// Least share of a quiet sample's time that the polling thread ran.
const LEAST_SHARE: f64 = 0.98;

/// One sample of one engine.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    /// Millions a second of what is counted.
    pub mega: f64,
    /// The fixed work's time, the worse of before and after.
    pub fixed_work: Duration,
    /// Share of the time that the polling thread ran.
    pub share: f64,
}

impl Sample {
    /// Whether nothing disturbed it; `best` is the fixed work's best time.
    pub fn is_quiet(&self, best: Duration) -> bool {
        self.fixed_work.as_secs_f64() <= best.as_secs_f64() * TOLERATED && self.share >= LEAST_SHARE
    }
}

/// What the samples of one engine say together.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Summary {
    /// The median, millions a second.
    pub mega: f64,
    /// The slowest of those that count.
    pub slowest: f64,
    /// The fastest of those that count.
    pub fastest: f64,
    /// Quiet samples.
    pub quiet: usize,
    /// All samples.
    pub all: usize,
}

impl Summary {
    /// Of the quiet samples; of all if none is quiet. `None` if there is none.
    pub fn of(samples: &[Sample], best: Duration) -> Option<Self> {
        let mut counted: Vec<f64> =
            samples.iter().filter(|sample| sample.is_quiet(best)).map(|sample| sample.mega).collect();
        let quiet = counted.len();
        if quiet == 0 {
            counted = samples.iter().map(|sample| sample.mega).collect();
        }
        counted.sort_by(f64::total_cmp);
        let (slowest, fastest) = (*counted.first()?, *counted.last()?);
        Some(Self { mega: median(&counted), slowest, fastest, quiet, all: samples.len() })
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
        let summary = Summary::of(&samples, BEST);
        let expected = Summary { mega: 10.5, slowest: 10.0, fastest: 11.0, quiet: 2, all: 4 };
        assert_eq!(summary, Some(expected));
    }

    #[test]
    fn all_count_when_none_is_quiet() {
        let samples = [sample(3.0, 2000, 1.0), sample(1.0, 2000, 1.0), sample(2.0, 1000, 0.5)];
        let summary = Summary::of(&samples, BEST);
        assert_eq!(summary, Some(Summary { mega: 2.0, slowest: 1.0, fastest: 3.0, quiet: 0, all: 3 }));
        assert_eq!(Summary::of(&[], BEST), None);
    }
}

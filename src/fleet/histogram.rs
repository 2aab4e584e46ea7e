//! How values are spread: how many lay within which bounds, and their sum.

use std::time::Duration;

/// Bounds for times, in seconds: from a job that costs less than its frame to one of ten minutes.
const SECONDS: &[f64] = &[
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0, 600.0,
];
/// Bounds for numbers of jobs, up to the largest batch.
const JOBS: &[f64] = &[
    1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 4096.0,
];

/// Counts of values between fixed bounds.
#[derive(Clone, Debug, PartialEq)]
pub struct Histogram {
    bounds: &'static [f64],
    /// Values above the bound before and at most at this one; the last: above all bounds.
    counts: Vec<u64>,
    sum: f64,
}

impl Histogram {
    /// Of times.
    pub fn of_seconds() -> Self {
        Histogram::with(SECONDS)
    }

    /// Of numbers of jobs.
    pub fn of_jobs() -> Self {
        Histogram::with(JOBS)
    }

    fn with(bounds: &'static [f64]) -> Self {
        Histogram {
            bounds,
            counts: vec![0; bounds.len() + 1],
            sum: 0.0,
        }
    }

    /// Takes in a value.
    pub fn record(&mut self, value: f64) {
        let at = self.bounds.partition_point(|bound| *bound < value);
        self.counts[at] += 1;
        self.sum += value;
    }

    /// Takes in a time.
    pub fn record_time(&mut self, time: Duration) {
        self.record(time.as_secs_f64());
    }

    /// Each bound with the number of values that are at most as large; without the last, which is [`Histogram::count`].
    pub fn cumulative(&self) -> impl Iterator<Item = (f64, u64)> {
        let mut below = 0;
        self.bounds.iter().zip(&self.counts).map(move |(bound, count)| {
            below += count;
            (*bound, below)
        })
    }

    /// Number of values.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Sum of all values.
    pub fn sum(&self) -> f64 {
        self.sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::BATCH_SIZE_MAX;

    #[test]
    fn a_value_counts_below_every_bound_that_it_does_not_exceed() {
        let mut jobs = Histogram::of_jobs();
        [1.0, 2.0, 3.0, 9999.0]
            .iter()
            .for_each(|value| jobs.record(*value));
        let cumulative: Vec<_> = jobs.cumulative().collect();
        assert_eq!(cumulative[..3], [(1.0, 1), (2.0, 2), (5.0, 3)]);
        assert_eq!(cumulative.last(), Some(&(4096.0, 3)), "one is above all bounds");
        assert_eq!((jobs.count(), jobs.sum()), (4, 10_005.0));
    }

    #[test]
    fn bounds_grow_and_reach_the_largest_batch() {
        for bounds in [SECONDS, JOBS] {
            assert!(bounds.is_sorted_by(|a, b| a < b), "{bounds:?}");
        }
        assert_eq!(JOBS.last(), Some(&f64::from(BATCH_SIZE_MAX)));
    }
}

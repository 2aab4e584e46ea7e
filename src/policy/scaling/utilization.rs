//! The policy `utilization`: one worker more when they are busy, one fewer when they are idle.

use super::wish::{Reason, Sample, ScalingPolicy, Term, Wish};

/// What `utilization_threshold` is by default: with so many busy workers, as many again are free for what comes.
pub const THRESHOLD: f64 = 0.5;

/// By the workers that are busy on average, over those that there are now. It has no state: the window is the meter's.
#[derive(Debug)]
pub struct Utilization {
    /// Above it one worker more, below half of it one less; in `0.0..=1.0`, above 0.
    threshold: f64,
}

impl Utilization {
    /// With this `utilization_threshold`.
    pub fn new(threshold: f64) -> Self {
        Utilization { threshold }
    }
}

impl ScalingPolicy for Utilization {
    /// One more above the threshold, one fewer below half of it. The gap between the two is why a constant load can't make
    /// the size swing: after one more, what was above `t` is still above `t * n / (n + 1) >= t / 2`. The workers are those
    /// that there are now, so a step counts at once and a load is never answered twice.
    ///
    /// The last worker is the exception: where `min` is 0, it leaves after a whole window without a job, not
    /// when it was merely little used, since the next job would start it again.
    fn period(&mut self, sample: &Sample) -> Wish {
        let Some(share) = sample.utilization() else {
            return Wish::stay(sample);
        };
        let threshold = self.threshold;
        match sample.workers {
            workers if share > threshold => {
                Wish::of(Term::OneMore, workers.saturating_add(1), Reason::Utilization)
            }
            _ if share >= threshold / 2.0 => Wish::stay(sample),
            1 if share == 0.0 && sample.waiting == 0 => Wish::of(Term::Unused, 0, Reason::Idle),
            1 => Wish::stay(sample),
            workers => Wish::of(Term::OneFewer, workers - 1, Reason::Utilization),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn wished(threshold: f64, sample: &Sample) -> u32 {
        Utilization::new(threshold).period(sample).workers
    }

    prop_compose! {
        fn any_sample()(
            workers in 0u32..50, busy_average in proptest::option::of(0.0..60.0f64), waiting in 0u64..3,
        ) -> Sample {
            Sample { workers, busy_average, waiting, ..Sample::default() }
        }
    }

    proptest! {
        #[test]
        fn without_data_nothing_changes(threshold in 0.01..=1.0f64, sample in any_sample()) {
            let unknown = Sample { busy_average: None, ..sample };
            prop_assert_eq!(wished(threshold, &unknown), sample.workers);
        }

        #[test]
        fn more_load_never_gives_fewer_workers(
            threshold in 0.01..=1.0f64, sample in any_sample(), busier in 0.0..9.0f64, longer in 0u64..9,
        ) {
            let more = Sample {
                busy_average: sample.busy_average.map(|busy| busy + busier),
                waiting: sample.waiting + longer,
                ..sample
            };
            prop_assert!(wished(threshold, &more) >= wished(threshold, &sample));
        }

        /// Its window is in the average. Nothing else that it looks at is a time.
        #[test]
        fn it_knows_no_unit_of_time(threshold in 0.01..=1.0f64, sample in any_sample(), seconds in 0u64..1000) {
            let time = Duration::from_secs(seconds);
            let slower = Sample { oldest_waiting: Some(time), work: time, ..sample };
            prop_assert_eq!(wished(threshold, &slower), wished(threshold, &sample));
        }
    }
}

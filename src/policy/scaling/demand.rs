//! The policy `demand`: late jobs bring workers at once, and a pool that has too many shrinks at once to what it needs.
//!
//! A busy pool can't say what it lacks: utilization ends at 1. What waits says it, so this policy goes by the worker time
//! that waits and by the age of the oldest job. It has no clock, no state and no random numbers.

use std::time::Duration;

use super::wish::{Candidate, Reason, Sample, ScalingPolicy, Term, Wish};

/// A quotient this little above a whole number is that number.
const ROUNDING: f64 = 1e-9;

/// What `utilization_threshold` is by default. Few workers are kept free, since a job that finds none brings more at once.
pub const THRESHOLD: f64 = 0.8;

/// Its settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `target_wait`: how long a job may wait before its pool grows at once. 0: a worker whenever a job waits and nobody is
    /// free.
    pub target_wait: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            target_wait: Duration::from_millis(200),
        }
    }
}

/// By what waits, and by the workers that are busy on average.
#[derive(Debug)]
pub struct Demand {
    /// `utilization_threshold`: above it one worker more; below half of it as few as it asks for.
    threshold: f64,
    settings: Settings,
}

impl Demand {
    /// With this `utilization_threshold`, and these settings.
    pub fn new(threshold: f64, settings: Settings) -> Self {
        Demand { threshold, settings }
    }

    /// Workers that clear what waits in time, if a job is late and nobody is free for it: never more than one for each job
    /// that waits.
    fn clears(&self, sample: &Sample) -> Option<u32> {
        // Workers that start are free.
        let free = sample.workers.saturating_sub(sample.busy);
        let target = self.settings.target_wait;
        let is_lacking = sample.waiting > u64::from(free);
        let is_old = sample.oldest_waiting.unwrap_or_default() >= target;
        let is_late = is_old || sample.work > target.saturating_mul(sample.workers);
        if !(is_lacking && is_late) {
            return None;
        }
        let clear = match target {
            Duration::ZERO => sample.waiting,
            target => quotient(sample.work.as_secs_f64(), target.as_secs_f64())
                .max(1)
                .min(sample.waiting),
        };
        Some(
            sample
                .busy
                .saturating_add(u32::try_from(clear).unwrap_or(u32::MAX)),
        )
    }

    /// What the load of the window needs: all that were busy at once, the average at the threshold, one if it was used.
    fn needed(&self, sample: &Sample, busy_average: f64) -> Vec<Candidate> {
        let average = quotient(busy_average, self.threshold);
        let average = u32::try_from(average).unwrap_or(u32::MAX);
        let candidate = |term, workers| Candidate { term, workers };
        vec![
            candidate(Term::Peak, sample.peak_busy),
            candidate(Term::Average, average),
            match busy_average > 0.0 {
                true => candidate(Term::Used, 1),
                false => candidate(Term::Unused, 0),
            },
        ]
    }

    /// As few workers as the load of the window needs.
    fn shrink(&self, sample: &Sample, busy_average: f64) -> Wish {
        let candidates = self.needed(sample, busy_average);
        // Of equals, the first one.
        let most = candidates.iter().rev().max_by_key(|candidate| candidate.workers);
        match most.copied() {
            Some(Candidate { term, workers }) if workers < sample.workers => Wish {
                workers,
                reason: if workers == 0 {
                    Reason::Idle
                } else {
                    Reason::Utilization
                },
                candidates,
                term: Some(term),
            },
            _ => Wish {
                candidates,
                ..Wish::stay(sample)
            },
        }
    }
}

impl ScalingPolicy for Demand {
    fn looks(&self) -> bool {
        true
    }

    fn look(&mut self, sample: &Sample) -> Wish {
        let wish = |workers| Wish::of(Term::Clears, workers, Reason::JobsWaiting);
        if sample.workers == 0 {
            return match sample.waiting {
                0 => Wish::stay(sample),
                _ => wish(1),
            };
        }
        let clears = self.clears(sample).filter(|workers| *workers > sample.workers);
        clears.map_or_else(|| Wish::stay(sample), wish)
    }

    /// Late jobs first. Otherwise it grows as the policy `utilization` does, and below half the threshold it shrinks at once
    /// to what the threshold asks for, but never below what was busy at once in the last period, and never while a job
    /// waits.
    fn period(&mut self, sample: &Sample) -> Wish {
        let look = self.look(sample);
        if look.workers > sample.workers {
            return look;
        }
        let Some((share, busy_average)) = sample.utilization().zip(sample.busy_average) else {
            return look;
        };
        if share > self.threshold {
            let workers = sample.workers.saturating_add(1);
            return Wish::of(Term::OneMore, workers, Reason::Utilization);
        }
        if share >= self.threshold / 2.0 || sample.waiting > 0 {
            return look;
        }
        self.shrink(sample, busy_average)
    }
}

/// How often `part` goes into `whole`, rounded up.
fn quotient(whole: f64, part: f64) -> u64 {
    // A float converts saturating.
    (whole / part - ROUNDING).ceil() as u64
}

#[cfg(test)]
mod tests;

//! The policy `utilization`: one worker more when they are busy, one less when they are idle.

use super::wish::{Reason, Sample, ScalingPolicy, Wish};

/// Its settings.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// `utilization_threshold`: above it one worker more, below half of it one less; in `0.0..=1.0`, above 0.
    pub threshold: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Settings { threshold: 0.5 }
    }
}

/// By the share of their time that workers are busy. It has no state: the window is the meter's.
#[derive(Debug)]
pub struct Utilization {
    settings: Settings,
}

impl Utilization {
    /// With these settings.
    pub fn new(settings: Settings) -> Self {
        Utilization { settings }
    }
}

impl ScalingPolicy for Utilization {
    /// One more above the threshold, one less below half of it. The gap between the two is why a constant load
    /// can't make the size swing: after one more, a share above `t` is still above `t * n / (n + 1) >= t / 2`.
    ///
    /// The last worker is the exception: where `min` is 0, it leaves after a whole window without a job, not
    /// when it was merely little used, since the next job would start it again.
    fn period(&mut self, sample: &Sample) -> Wish {
        // With nobody there, the share is that of workers that are gone.
        let Some(share) = sample.utilization.filter(|_| sample.workers > 0) else {
            return Wish::stay(sample);
        };
        let threshold = self.settings.threshold;
        let wish = |workers, reason| Wish { workers, reason };
        match sample.workers {
            workers if share > threshold => wish(workers.saturating_add(1), Reason::Utilization),
            _ if share >= threshold / 2.0 => Wish::stay(sample),
            1 if share == 0.0 && sample.waiting == 0 => wish(0, Reason::Idle),
            1 => Wish::stay(sample),
            workers => wish(workers - 1, Reason::Utilization),
        }
    }
}

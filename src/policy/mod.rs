//! Decisions as pure functions: no I/O, no clock, no state that is not an argument or a field.
//!
//! - [`meter`]: how busy workers were, exactly, over a sliding window.
//! - [`scaling`]: how many workers a pool wishes. [`limits`]: how many it may have. [`decision`]: the record of a decision.
//! - [`floors`]: fewest workers by time of day.
//! - [`schedule`]: when schedules fire, and what becomes of times that were missed. [`zone`]: time zones by name.
//! - [`share`]: limits over all pools, with a floor for each. [`permits`]: limits by what is downstream.
//! - [`throughput`]: growth that brings nothing is taken back.
//! - [`memory`]: what the pool uses, what one more worker would cost, what is left.
//! - [`retry`]: an execution's outcome becomes the job's fate.
//! - [`restart`]: when a dead template is started again, and when it is a crash loop.
//! - [`shutdown`]: how a stop escalates: drain, kill, leave.
//! - [`prefetch`]: how many jobs a worker may hold, and when it holds them too long.
//! - [`settling`]: when outcomes go to the broker, at once or together.
//! - [`recycle`]: when a worker has run long enough to be replaced.

pub mod decision;
pub mod floors;
pub mod limits;
pub mod memory;
pub mod meter;
pub mod permits;
pub mod prefetch;
pub mod recycle;
pub mod restart;
pub mod retry;
pub mod scaling;
pub mod schedule;
pub mod settling;
pub mod share;
pub mod shutdown;
pub mod throughput;
pub mod zone;

/// A random number for a jitter, put right: inside `0.0..=1.0`, 0 when it is not a number.
fn unit(jitter: f64) -> f64 {
    if jitter.is_nan() {
        0.0
    } else {
        jitter.clamp(0.0, 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::unit;

    #[test]
    fn a_jitter_is_a_number_between_nought_and_one() {
        let put_right = [f64::NAN, f64::NEG_INFINITY, -0.5, 0.25, 7.0, f64::INFINITY].map(unit);
        assert_eq!(put_right, [0.0, 0.0, 0.0, 0.25, 1.0, 1.0]);
    }
}

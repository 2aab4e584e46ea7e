//! How long the jobs of a load take.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use fastrand::Rng;

use super::{DAYS_MAX, SPAN_MAX};
use crate::time::{Human, parse_duration};

/// A distribution of service times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServiceTime {
    /// All take this long.
    Fixed(Duration),
    /// Evenly between these two.
    Between(Duration, Duration),
    /// Exponential, with this mean: many short ones and some long ones.
    Exponential(Duration),
}

impl ServiceTime {
    /// Draws one.
    pub fn draw(&self, rng: &mut Rng) -> Duration {
        match *self {
            ServiceTime::Fixed(time) => time,
            ServiceTime::Between(from, to) => from + (to - from).mul_f64(rng.f64()),
            ServiceTime::Exponential(mean) => mean.mul_f64(exponential(rng)),
        }
    }
}

/// An exponential variate of mean 1.
pub(super) fn exponential(rng: &mut Rng) -> f64 {
    // In (0, 1]: the logarithm of 0 is none.
    -(1.0 - rng.f64()).ln()
}

/// Why a text is no service time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected a time such as `1s`, a range such as `0.5s..2s`, or `exp:1s` (exponential with that mean), of at most {DAYS_MAX} days"
)]
pub struct ServiceTimeError;

impl FromStr for ServiceTime {
    type Err = ServiceTimeError;

    fn from_str(text: &str) -> Result<Self, ServiceTimeError> {
        let time = |text: &str| {
            let time = parse_duration(text).ok().filter(|time| *time <= SPAN_MAX);
            time.ok_or(ServiceTimeError)
        };
        if let Some(mean) = text.strip_prefix("exp:") {
            return Ok(ServiceTime::Exponential(time(mean)?));
        }
        match text.split_once("..") {
            Some((from, to)) => {
                let (from, to) = (time(from)?, time(to)?);
                let is_range = from <= to;
                is_range
                    .then_some(ServiceTime::Between(from, to))
                    .ok_or(ServiceTimeError)
            }
            None => Ok(ServiceTime::Fixed(time(text)?)),
        }
    }
}

impl fmt::Display for ServiceTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ServiceTime::Fixed(time) => Human(*time).fmt(f),
            ServiceTime::Between(from, to) => write!(f, "{}..{}", Human(*from), Human(*to)),
            ServiceTime::Exponential(mean) => write!(f, "exp:{}", Human(*mean)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_time_reads_as_it_prints() {
        for text in ["1s", "500ms..2s", "exp:1s", "30s"] {
            let read: ServiceTime = text.parse().unwrap();
            assert_eq!(read.to_string(), text);
        }
        for text in ["", "2s..1s", "exp:", "normal:1s", "1s..", "367d", "1s..367d"] {
            assert_eq!(text.parse::<ServiceTime>(), Err(ServiceTimeError), "{text}");
        }
    }

    #[test]
    fn an_exponential_has_its_mean() {
        let mut rng = Rng::with_seed(1);
        let time = ServiceTime::Exponential(Duration::from_secs(2));
        let all: Duration = (0..100_000).map(|_| time.draw(&mut rng)).sum();
        let mean = all.as_secs_f64() / 100_000.0;
        assert!((mean - 2.0).abs() < 0.05, "{mean}");
    }
}

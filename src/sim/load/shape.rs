//! Loads that are described in a few words.

use std::f64::consts::TAU;
use std::time::Duration;

use fastrand::Rng;

use super::service::{ServiceTime, exponential};
use super::{Arrival, Excess, JOBS_MAX, Load};

/// How jobs come. Rates are jobs a second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Shape {
    /// At even intervals.
    Steady(f64),
    /// At random instants, independent of each other.
    Poisson(f64),
    /// Random, at the first rate, in the middle third of the time at the second.
    Step(f64, f64),
    /// So many at once: at the start, and again each time that this has passed.
    Burst(u32, Option<Duration>),
    /// Random, at a rate that follows the day: the first at midnight, when the load begins, the second at noon.
    Diurnal(f64, f64),
}

/// What the jobs of a shape take.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Work {
    /// Most of them.
    pub service: ServiceTime,
    /// This share of them, which is a task of its own.
    pub long: Option<(f64, ServiceTime)>,
}

const DAY_S: f64 = 86_400.0;

impl Shape {
    /// The jobs of so much time.
    ///
    /// # Errors
    /// They would be too many.
    pub fn load(self, work: &Work, span: Duration, rng: &mut Rng) -> Result<Load, Excess> {
        if self.expected(span) > JOBS_MAX as f64 {
            return Err(Excess::Jobs);
        }
        let mut load = Load {
            span,
            ..Load::default()
        };
        let mut kind = |task| load.kind(task, None).ok_or(Excess::Kinds);
        let short = kind("job")?;
        let long = match work.long {
            Some((share, time)) => Some((share, time, kind("long")?)),
            None => None,
        };
        // When jobs come does not depend on what they take.
        let mut of_service = rng.fork();
        let drawn = |at| {
            let is_long = long.filter(|(share, ..)| of_service.f64() < *share);
            let (time, kind) = is_long.map_or((work.service, short), |(_, time, kind)| (time, kind));
            Arrival {
                at,
                service: time.draw(&mut of_service),
                kind,
            }
        };
        load.arrivals = self.instants(span, rng).into_iter().map(drawn).collect();
        Ok(load)
    }

    /// The rate at an instant; of a burst none.
    fn rate(self, at: f64, span: f64) -> f64 {
        match self {
            Shape::Steady(rate) | Shape::Poisson(rate) => rate,
            Shape::Step(low, high) => {
                let is_high = (span / 3.0..span * 2.0 / 3.0).contains(&at);
                if is_high { high } else { low }
            }
            Shape::Diurnal(night, noon) => night + (noon - night) * (1.0 - (TAU * at / DAY_S).cos()) / 2.0,
            Shape::Burst(..) => 0.0,
        }
    }

    fn highest_rate(self) -> f64 {
        match self {
            Shape::Steady(rate) | Shape::Poisson(rate) => rate,
            Shape::Step(one, other) | Shape::Diurnal(one, other) => one.max(other),
            Shape::Burst(..) => 0.0,
        }
    }

    /// At most so many jobs, about.
    pub fn expected(self, span: Duration) -> f64 {
        match self {
            Shape::Burst(count, every) => {
                let every = every.filter(|every| !every.is_zero());
                let times = every.map_or(1.0, |every| (span.as_secs_f64() / every.as_secs_f64()).ceil());
                f64::from(count) * times.max(1.0)
            }
            _ => self.highest_rate() * span.as_secs_f64(),
        }
    }

    fn instants(self, span: Duration, rng: &mut Rng) -> Vec<Duration> {
        match self {
            Shape::Steady(rate) => (0..)
                .map(|job| f64::from(job) / rate)
                .take_while(|at| rate > 0.0 && *at < span.as_secs_f64())
                .map(Duration::from_secs_f64)
                .collect(),
            Shape::Burst(count, every) => {
                let every = every.filter(|every| !every.is_zero());
                let again = every
                    .into_iter()
                    .flat_map(|every| (1..).map(move |burst| every * burst));
                let times = std::iter::once(Duration::ZERO).chain(again.take_while(|at| *at < span));
                times.flat_map(|at| (0..count).map(move |_| at)).collect()
            }
            Shape::Poisson(_) | Shape::Step(..) | Shape::Diurnal(..) => self.random_instants(span, rng),
        }
    }

    /// By thinning: candidates come at the highest rate, and each is taken with the share that the rate of its instant has of it.
    /// Source: Lewis and Shedler, "Simulation of nonhomogeneous Poisson processes by thinning", 1979.
    fn random_instants(self, span: Duration, rng: &mut Rng) -> Vec<Duration> {
        let (span, highest) = (span.as_secs_f64(), self.highest_rate());
        let (mut instants, mut at) = (Vec::new(), 0.0);
        loop {
            // At rate 0 the next one comes never: infinity.
            at += exponential(rng) / highest;
            if at >= span || !at.is_finite() {
                return instants;
            }
            if rng.f64() * highest < self.rate(at, span) {
                instants.push(Duration::from_secs_f64(at));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);
    const SECOND: Work = Work {
        service: ServiceTime::Fixed(Duration::from_secs(1)),
        long: None,
    };

    fn load(shape: Shape, span: Duration) -> Load {
        shape.load(&SECOND, span, &mut Rng::with_seed(1)).unwrap()
    }

    fn between(load: &Load, from: Duration, to: Duration) -> usize {
        let inside = |arrival: &&Arrival| (from..to).contains(&arrival.at);
        load.arrivals.iter().filter(inside).count()
    }

    #[test]
    fn each_shape_brings_the_jobs_that_its_rate_says() {
        assert_eq!(load(Shape::Steady(2.0), HOUR).arrivals.len(), 7200);
        let random = load(Shape::Poisson(2.0), HOUR).arrivals.len();
        assert!((6900..7500).contains(&random), "{random}");
        let step = load(Shape::Step(1.0, 10.0), HOUR);
        let middle = between(&step, HOUR / 3, HOUR * 2 / 3);
        assert!((11_500..12_500).contains(&middle), "{middle}");
        let day = load(Shape::Diurnal(1.0, 9.0), HOUR * 24);
        let (night, noon) = (
            between(&day, Duration::ZERO, HOUR),
            between(&day, HOUR * 12, HOUR * 13),
        );
        assert!(night < 4500 && noon > 30_000, "{night} {noon}");
    }

    #[test]
    fn a_burst_comes_once_or_again_and_again() {
        assert_eq!(load(Shape::Burst(200, None), HOUR).arrivals.len(), 200);
        assert_eq!(load(Shape::Burst(200, Some(HOUR / 6)), HOUR).arrivals.len(), 1200);
        assert_eq!(load(Shape::Burst(200, None), Duration::ZERO).arrivals.len(), 200);
    }

    #[test]
    fn long_jobs_are_a_share_of_all_and_change_no_instant() {
        let work = Work {
            long: Some((0.1, ServiceTime::Fixed(Duration::from_secs(60)))),
            ..SECOND
        };
        let mixed = Shape::Poisson(2.0)
            .load(&work, HOUR, &mut Rng::with_seed(1))
            .unwrap();
        let long = mixed.arrivals.iter().filter(|arrival| arrival.kind == 1).count();
        assert!((600..850).contains(&long), "{long}");
        let instants = |load: &Load| load.arrivals.iter().map(|arrival| arrival.at).collect::<Vec<_>>();
        assert_eq!(instants(&mixed), instants(&load(Shape::Poisson(2.0), HOUR)));
    }

    #[test]
    fn a_load_too_large_for_memory_is_refused() {
        assert_eq!(
            Shape::Poisson(1e9).load(&SECOND, HOUR, &mut Rng::with_seed(1)),
            Err(Excess::Jobs)
        );
        let every = Some(Duration::from_nanos(1));
        assert_eq!(
            Shape::Burst(1, every).load(&SECOND, HOUR, &mut Rng::with_seed(1)),
            Err(Excess::Jobs)
        );
    }
}

//! Loads rebuilt from counts: how many jobs came to each queue in short slots of time, and what they took on average.
//!
//! How many jobs come in each slot is as counted, and so is their work in each stretch, if as many ended in it as came. The
//! instants within a slot are drawn evenly. Service times are drawn from a log-normal distribution with the mean and the
//! deviation that were measured. Source: Brown et al., "Statistical analysis of a telephone call center", 2005, section 4.

use std::f64::consts::TAU;
use std::time::Duration;

use fastrand::Rng;

use super::service::ServiceTime;
use super::{Arrival, Excess, JOBS_MAX, Load};
use crate::job::QueueName;
use crate::time::seconds_to_duration;

/// A stretch of time of one queue.
#[derive(Clone, Debug, PartialEq)]
pub struct Stretch {
    /// Where the jobs wait.
    pub queue: QueueName,
    /// When it begins, in seconds since the start of the load; below 0 before it.
    pub starts_s: f64,
    /// How long a slot is, in seconds.
    pub slot_s: f64,
    /// When the counting ended, perhaps within a slot: its jobs came before.
    pub until_s: f64,
    /// Jobs that came in each slot.
    pub slots: Vec<u64>,
    /// What they took; `None`: it is not known.
    pub service: Option<Spread>,
}

/// Mean and standard deviation of service times, in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Spread {
    /// The mean.
    pub mean_s: f64,
    /// The standard deviation.
    pub deviation_s: f64,
}

impl Spread {
    /// So many service times in seconds, whose mean is exactly this one.
    fn draw(&self, count: usize, rng: &mut Rng) -> Vec<f64> {
        if self.mean_s <= 0.0 {
            return vec![0.0; count];
        }
        let variation = self.deviation_s / self.mean_s;
        let sigma = (variation * variation).ln_1p().sqrt();
        let mut times: Vec<f64> = (0..count).map(|_| (sigma * normal(rng)).exp()).collect();
        let sum: f64 = times.iter().sum();
        let scale = self.mean_s * count as f64 / sum;
        times.iter_mut().for_each(|time| *time *= scale);
        times
    }
}

/// A standard normal variate, by the method of Box and Muller.
fn normal(rng: &mut Rng) -> f64 {
    // In (0, 1]: the logarithm of 0 is none.
    let radius = (-2.0 * (1.0 - rng.f64()).ln()).sqrt();
    radius * (TAU * rng.f64()).cos()
}

/// The jobs of all stretches within `span`. `unknown`: what those take that have no measured service time.
///
/// # Errors
/// They would be too many, or of too many queues.
pub fn rebuild(
    stretches: &[Stretch],
    unknown: ServiceTime,
    span: Duration,
    rng: &mut Rng,
) -> Result<Load, Excess> {
    let jobs = stretches.iter().flat_map(|stretch| &stretch.slots).sum::<u64>();
    if jobs > JOBS_MAX as u64 {
        return Err(Excess::Jobs);
    }
    let mut load = Load {
        span,
        ..Load::default()
    };
    for stretch in stretches {
        let kind = load.kind("job", Some(&stretch.queue)).ok_or(Excess::Kinds)?;
        let count = stretch.slots.iter().sum::<u64>() as usize;
        let services = match stretch.service {
            Some(spread) => spread.draw(count, rng),
            None => (0..count).map(|_| unknown.draw(rng).as_secs_f64()).collect(),
        };
        let slots = stretch.slots.iter().enumerate();
        let slots = slots.flat_map(|(slot, jobs)| (0..*jobs).map(move |_| slot as f64));
        let jobs = slots.zip(services).filter_map(|(slot, service)| {
            let begins_s = stretch.starts_s + slot * stretch.slot_s;
            let lasts_s = (stretch.until_s - begins_s).clamp(0.0, stretch.slot_s);
            let at = begins_s + rng.f64() * lasts_s;
            let is_within = (0.0..span.as_secs_f64()).contains(&at);
            Some(Arrival {
                at: is_within.then(|| seconds_to_duration(at).ok())??,
                service: seconds_to_duration(service).ok()?,
                kind,
            })
        });
        load.arrivals.extend(jobs);
    }
    load.arrivals.sort_by_key(|arrival| arrival.at);
    Ok(load)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: ServiceTime = ServiceTime::Fixed(Duration::from_secs(1));

    fn stretch(starts_s: f64, slots: &[u64], service: Option<Spread>) -> Stretch {
        Stretch {
            queue: QueueName::new("mail").unwrap(),
            starts_s,
            slot_s: 5.0,
            until_s: f64::INFINITY,
            slots: slots.to_vec(),
            service,
        }
    }

    fn rebuilt(stretches: &[Stretch], span_s: u64) -> Load {
        let span = Duration::from_secs(span_s);
        rebuild(stretches, SECOND, span, &mut Rng::with_seed(1)).unwrap()
    }

    #[test]
    fn each_slot_has_the_jobs_that_were_counted() {
        let load = rebuilt(&[stretch(0.0, &[3, 0, 200], None)], 60);
        let in_slot = |slot: u64| {
            let of_slot = |arrival: &&Arrival| arrival.at.as_secs() / 5 == slot;
            load.arrivals.iter().filter(of_slot).count()
        };
        assert_eq!([0, 1, 2, 3].map(in_slot), [3, 0, 200, 0]);
        assert!(
            load.arrivals
                .iter()
                .all(|arrival| arrival.service == Duration::from_secs(1))
        );
    }

    #[test]
    fn work_is_exact_and_times_have_their_deviation() {
        let spread = Spread {
            mean_s: 2.0,
            deviation_s: 1.0,
        };
        let load = rebuilt(&[stretch(0.0, &[20_000], Some(spread))], 5);
        assert!((load.work().as_secs_f64() - 40_000.0).abs() < 0.01);
        let squares = load
            .arrivals
            .iter()
            .map(|job| (job.service.as_secs_f64() - 2.0).powi(2));
        let deviation = (squares.sum::<f64>() / 20_000.0).sqrt();
        assert!((deviation - 1.0).abs() < 0.05, "{deviation}");
        let same = Spread {
            deviation_s: 0.0,
            ..spread
        };
        let load = rebuilt(&[stretch(0.0, &[10], Some(same))], 5);
        assert!(
            load.arrivals
                .iter()
                .all(|job| (job.service.as_secs_f64() - 2.0).abs() < 1e-6)
        );
    }

    #[test]
    fn the_jobs_of_a_slot_that_was_not_over_came_until_then() {
        let counted = Stretch {
            until_s: 5.2,
            ..stretch(0.0, &[7, 400], None)
        };
        let load = rebuilt(&[counted], 60);
        let last = load.arrivals.last().map(|arrival| arrival.at.as_secs_f64());
        assert_eq!(load.arrivals.len(), 407);
        assert!(last.is_some_and(|last| (5.19..5.2).contains(&last)), "{last:?}");
    }

    #[test]
    fn jobs_before_the_start_and_behind_the_end_are_left_out() {
        let load = rebuilt(&[stretch(-5.0, &[7, 4, 9], None)], 5);
        assert_eq!((load.arrivals.len(), load.span), (4, Duration::from_secs(5)));
        let many = stretch(0.0, &[JOBS_MAX as u64 + 1], None);
        let span = Duration::from_secs(5);
        assert_eq!(
            rebuild(&[many], SECOND, span, &mut Rng::with_seed(1)),
            Err(Excess::Jobs)
        );
    }
}

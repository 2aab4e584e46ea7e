//! A pool under a load: the supervisor of [`super::World`] runs the jobs of a [`Load`], and what matters is written down.
//!
//! [`figures`]: a run in numbers. [`bound`]: what a pool that knows the future would need.

pub mod bound;
pub mod figures;
mod script;

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use crate::config::Config;
use crate::job::PoolName;
use crate::policy::scaling::wish::ScalingPolicy;
use crate::time::Unix;

use super::load::Load;
use super::{Conditions, Pace, World};
use script::Replay;

/// What is simulated.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The settings, with this one pool.
    pub config: Config,
    /// The pool that the load comes to.
    pub pool: PoolName,
    /// What comes.
    pub load: Arc<Load>,
    /// Jobs compute, and share so many processors; `None`: each goes on by itself, as jobs that wait do.
    pub cores: Option<u32>,
    /// Where everything that is not certain is drawn from.
    pub seed: u64,
}

/// A change of a pool's size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// When, since the start of the load.
    pub at: Duration,
    /// From so many workers.
    pub from: u32,
    /// To so many.
    pub to: u32,
}

/// A pool at one instant.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sample {
    /// Since the start of the load.
    pub at: Duration,
    /// Workers that there are to be.
    pub workers: u32,
    /// Busy workers.
    pub busy: u32,
    /// Most jobs that waited since the sample before.
    pub waiting: u64,
    /// Workers that were busy on average since the sample before.
    pub busy_average: f64,
}

/// What became of a load.
#[derive(Clone, Debug, Default)]
pub struct Run {
    /// How long each job waited until it began, by its place in the load; `None`: it did not.
    pub waits: Vec<Option<Duration>>,
    /// Workers at the start of the load.
    pub first_workers: u32,
    /// Changes of the size since then.
    pub changes: Vec<Change>,
    /// The pool from time to time.
    pub samples: Vec<Sample>,
    /// Worker time that the pool had, in worker-nanoseconds.
    pub worker_ns: u128,
    /// Of that, busy.
    pub busy_ns: u128,
    /// Workers that were started, those of the start included.
    pub forks: u64,
    /// From the start of the load until all of it was done, and not less than its span.
    pub took: Duration,
}

impl Run {
    /// Worker time between these instants since the start of the load, as far as it went.
    pub fn worker_seconds(&self, within: Range<Duration>) -> f64 {
        let sizes = std::iter::once((Duration::ZERO, self.first_workers));
        let sizes = sizes.chain(self.changes.iter().map(|change| (change.at, change.to)));
        let ends = self.changes.iter().map(|change| change.at);
        let of_size = |((since, workers), until): ((Duration, u32), Duration)| {
            let passed = until.min(within.end).saturating_sub(since.max(within.start));
            passed.as_secs_f64() * f64::from(workers)
        };
        sizes.zip(ends.chain([self.took])).map(of_size).sum()
    }
}

/// When a load begins that has no time of its own: Monday, 1 January 2024, 00:00 UTC.
pub const MONDAY: Unix = Unix(1_704_067_200_000);

/// How long things take beside the jobs on an ordinary host: estimates, of which docs/simulate.md tells how near they come.
fn ordinary(setup: &Setup) -> Conditions {
    Conditions {
        starts: setup.load.begins.unwrap_or(MONDAY),
        cores: setup.cores,
        // It costs a look at each job, and decides nothing.
        tells_begin: false,
        pace: Pace {
            message: 40..160,
            late: None,
            load: 100_000..300_000,
            start: 1_000..3_000,
            busy_turns: None,
        },
        ..Conditions::default()
    }
}

/// Runs the load through the policy of the settings.
pub fn run(setup: &Setup) -> Run {
    run_with(setup, None)
}

/// Runs it through this policy; `None`: that of the settings.
pub fn run_with(setup: &Setup, policy: Option<Box<dyn ScalingPolicy>>) -> Run {
    let script = Replay::new(setup);
    let mut world = World::new(setup.seed, setup.config.clone(), ordinary(setup), script);
    if let Some(policy) = policy {
        world.set_policy(&setup.pool, policy);
    }
    script::warm_up(&mut world);
    while !script::is_over(&world) {
        world.step();
    }
    let now = world.now().mono;
    world.script.into_run(now)
}

#[cfg(test)]
mod tests {
    use fastrand::Rng;

    use super::*;
    use crate::config::{self, RunArgs};
    use crate::sim::load::service::ServiceTime;
    use crate::sim::load::shape::{Shape, Work};

    #[test]
    fn samples_show_the_most_jobs_that_waited_since_the_last_one() {
        let work = Work {
            service: ServiceTime::Fixed(Duration::from_secs(1)),
            long: None,
        };
        let burst = Shape::Burst(200, Some(Duration::from_secs(600)));
        let load = burst.load(&work, Duration::from_secs(3600), &mut Rng::with_seed(1));
        let mut args = RunArgs::from_flags(["--broker", "memory:", "--socket", "/s"]).unwrap();
        args.lookup = config::Lookup::None;
        let run = run(&Setup {
            config: config::load(&args, |_| None).unwrap(),
            pool: PoolName::new("default").unwrap(),
            load: Arc::new(load.unwrap()),
            cores: None,
            seed: 1,
        });
        for minute in (0..60).step_by(10) {
            let of_burst = |sample: &&Sample| sample.at.as_secs() / 600 == minute / 10;
            let waiting = run.samples.iter().filter(of_burst).map(|sample| sample.waiting);
            // A few find a worker at once.
            assert!((190..=200).contains(&waiting.max().unwrap()), "minute {minute}");
        }
    }
}

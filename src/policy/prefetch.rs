//! How many jobs a worker may hold, and when it holds them for too long.
//!
//! A round trip between two short jobs costs more than the jobs; a job held behind a long one waits while
//! other workers are idle. So a worker holds what it is expected to finish within [`HORIZON`], the running
//! job included: expectation comes from measured service times, and a task without one travels alone.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use crate::time::Mono;

/// A worker holds no more than it is expected to finish within this time.
pub const HORIZON: Duration = Duration::from_millis(10);
/// Most jobs that a worker holds, the running one included: they must fit into its socket's buffer.
pub const HELD_MAX: u32 = 128;
/// Names (of tasks, of queues) whose service time is remembered. They come with jobs, so their number is bounded; past it
/// further ones count as unknown.
pub const NAMES_MAX: usize = 4096;

/// `prefetch`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prefetch {
    /// What the worker is expected to finish within ~10 ms.
    Auto,
    /// So many.
    Fixed(u32),
}

/// Measured service times, by task or by queue.
#[derive(Clone, Debug)]
pub struct ServiceTimes<K = Arc<str>> {
    by_name: HashMap<K, Estimate>,
    all: Option<Estimate>,
}

impl<K> Default for ServiceTimes<K> {
    fn default() -> Self {
        ServiceTimes {
            by_name: HashMap::new(),
            all: None,
        }
    }
}

/// Smoothed mean and mean deviation, as TCP keeps for round trips. Source: RFC 6298, section 2.
#[derive(Clone, Copy, Debug)]
struct Estimate {
    mean_ns: f64,
    deviation_ns: f64,
}

impl<K: Clone + Eq + Hash> ServiceTimes<K> {
    /// A job of this name took so long.
    pub fn record(&mut self, name: &K, took: Duration) {
        let took_ns = took.as_nanos() as f64;
        match &mut self.all {
            Some(all) => all.update(took_ns),
            None => self.all = Some(Estimate::first(took_ns)),
        }
        if let Some(estimate) = self.by_name.get_mut(name) {
            estimate.update(took_ns);
        } else if self.by_name.len() < NAMES_MAX {
            self.by_name.insert(name.clone(), Estimate::first(took_ns));
        }
    }

    /// How long the next job of this name is expected to take: mean and one mean deviation, so that a task
    /// which is only sometimes slow counts as slow. `None`: never measured.
    pub fn expected<Q: Eq + Hash + ?Sized>(&self, name: &Q) -> Option<Duration>
    where
        K: Borrow<Q>,
    {
        self.by_name.get(name).copied().map(Estimate::expected)
    }

    /// How long jobs of this name take on average. `None`: never measured.
    pub fn mean(&self, name: &K) -> Option<Duration> {
        // A float converts saturating.
        let mean = |estimate: &Estimate| Duration::from_nanos(estimate.mean_ns as u64);
        self.by_name.get(name).map(mean)
    }

    /// Names that were measured.
    pub fn names(&self) -> impl Iterator<Item = &K> {
        self.by_name.keys()
    }

    /// How long the next job of whatever task is expected to take; `None`: nothing measured yet. How
    /// many jobs to claim depends on it, before their tasks are known.
    pub fn typical(&self) -> Option<Duration> {
        self.all.map(Estimate::expected)
    }
}

impl Estimate {
    fn expected(self) -> Duration {
        // A float converts saturating.
        Duration::from_nanos((self.mean_ns + self.deviation_ns) as u64)
    }

    fn first(took_ns: f64) -> Self {
        Estimate {
            mean_ns: took_ns,
            deviation_ns: took_ns / 2.0,
        }
    }

    fn update(&mut self, took_ns: f64) {
        let error = took_ns - self.mean_ns;
        self.mean_ns += error / 8.0;
        self.deviation_ns += (error.abs() - self.deviation_ns) / 4.0;
    }
}

/// What a worker holds now, the running job included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// Jobs.
    pub jobs: u32,
    /// How long all of them are expected to take together; `None`: one of them is unknown.
    pub expected: Option<Duration>,
}

impl Held {
    /// An idle worker.
    pub const NOTHING: Held = Held {
        jobs: 0,
        expected: Some(Duration::ZERO),
    };

    /// With one more job.
    #[must_use]
    pub fn with(self, expected: Option<Duration>) -> Held {
        Held {
            jobs: self.jobs.saturating_add(1),
            expected: self
                .expected
                .zip(expected)
                .map(|(all, one)| all.saturating_add(one)),
        }
    }
}

/// How many more jobs, each `expected` to take so long (`None`: unknown), a worker may take on top of what it
/// holds. An idle worker always takes one.
pub fn room(prefetch: Prefetch, held: &Held, expected: Option<Duration>) -> u32 {
    let at_least = u32::from(held.jobs == 0);
    let by_count = match prefetch {
        Prefetch::Auto => HELD_MAX,
        Prefetch::Fixed(behind) => behind.saturating_add(1).min(HELD_MAX),
    }
    .saturating_sub(held.jobs);
    let by_time = match (prefetch, held.expected, expected) {
        (Prefetch::Fixed(_), _, _) => by_count,
        (Prefetch::Auto, Some(all), Some(one)) => {
            let left = HORIZON.saturating_sub(all);
            u32::try_from(left.as_nanos().checked_div(one.as_nanos()).unwrap_or(u128::MAX))
                .unwrap_or(u32::MAX)
        }
        (Prefetch::Auto, None, _) | (Prefetch::Auto, _, None) => 0,
    };
    by_count.min(by_time).max(at_least)
}

/// When a worker counts as stalled, so that the jobs held behind the running one are taken back for others:
/// when that one, which runs since `running_since`, takes a [`HORIZON`] more than twice what was expected.
pub fn stalled_at(running_since: Mono, expected: Option<Duration>) -> Mono {
    running_since + expected.unwrap_or_default().saturating_mul(2) + HORIZON
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: Duration = Duration::from_millis(1);

    fn held(jobs: u32, expected: Duration) -> Held {
        Held {
            jobs,
            expected: Some(expected),
        }
    }

    fn times_of(task: &Arc<str>, took: &[Duration]) -> ServiceTimes {
        let mut times: ServiceTimes = ServiceTimes::default();
        took.iter().for_each(|took| times.record(task, *took));
        times
    }

    #[test]
    fn a_worker_holds_what_it_finishes_within_the_horizon() {
        assert_eq!(room(Prefetch::Auto, &Held::NOTHING, Some(MS)), 10);
        assert_eq!(room(Prefetch::Auto, &held(4, 4 * MS), Some(MS)), 6);
        assert_eq!(room(Prefetch::Auto, &held(1, 6 * MS), Some(6 * MS)), 0);
    }

    #[test]
    fn an_idle_worker_takes_any_job() {
        for expected in [None, Some(Duration::ZERO), Some(Duration::MAX)] {
            assert!(room(Prefetch::Auto, &Held::NOTHING, expected) >= 1);
            assert!(room(Prefetch::Fixed(0), &Held::NOTHING, expected) == 1);
        }
    }

    #[test]
    fn an_unknown_task_travels_alone() {
        assert_eq!(room(Prefetch::Auto, &Held::NOTHING, None), 1);
        assert_eq!(room(Prefetch::Auto, &held(1, MS), None), 0, "behind nothing");
        let unknown = Held::NOTHING.with(None);
        assert_eq!(room(Prefetch::Auto, &unknown, Some(MS)), 0, "nothing behind it");
    }

    #[test]
    fn a_fixed_number_is_counted_behind_the_running_job() {
        assert_eq!(room(Prefetch::Fixed(0), &held(1, MS), Some(MS)), 0);
        assert_eq!(room(Prefetch::Fixed(4), &held(1, 1000 * MS), None), 4);
        assert_eq!(room(Prefetch::Fixed(9999), &held(1, MS), None), HELD_MAX - 1);
    }

    #[test]
    fn an_expectation_follows_what_was_measured() {
        let task: Arc<str> = "resize".into();
        assert_eq!(times_of(&task, &[]).expected("resize"), None);
        let expected = times_of(&task, &[MS; 50]).expected("resize").unwrap();
        assert!((MS..MS * 101 / 100).contains(&expected), "{expected:?}");
        let mut slower = vec![MS; 50];
        slower.push(100 * MS);
        let expected = times_of(&task, &slower).expected("resize").unwrap();
        assert!(
            expected > HORIZON,
            "one slow run and nothing is held behind the next: {expected:?}"
        );
        slower.extend([MS; 50]);
        let expected = times_of(&task, &slower).expected("resize").unwrap();
        assert!(expected < 2 * MS, "{expected:?}");
    }

    #[test]
    fn a_mean_leaves_the_deviation_out() {
        let task: Arc<str> = "resize".into();
        assert_eq!(times_of(&task, &[]).mean(&task), None);
        assert_eq!(times_of(&task, &[4 * MS]).mean(&task), Some(4 * MS));
        assert_eq!(times_of(&task, &[4 * MS, 12 * MS]).mean(&task), Some(5 * MS));
    }

    #[test]
    fn a_typical_job_is_that_of_all_tasks() {
        assert_eq!(<ServiceTimes>::default().typical(), None);
        let mut times = times_of(&"resize".into(), &[MS; 50]);
        (0..50).for_each(|_| times.record(&"send".into(), 3 * MS));
        let typical = times.typical().unwrap();
        assert!((2 * MS..4 * MS).contains(&typical), "{typical:?}");
    }

    #[test]
    fn the_memory_of_tasks_is_bounded() {
        let mut times: ServiceTimes = ServiceTimes::default();
        for task in 0..2 * NAMES_MAX {
            times.record(&task.to_string().into(), MS);
        }
        assert_eq!(times.by_name.len(), NAMES_MAX);
        assert_eq!(times.expected("0"), Some(MS + MS / 2));
    }

    #[test]
    fn a_worker_stalls_when_its_job_takes_far_longer_than_expected() {
        assert_eq!(stalled_at(Mono(5_000_000), Some(4 * MS)), Mono(23_000_000));
        assert_eq!(stalled_at(Mono(5_000_000), None), Mono(15_000_000));
    }

    proptest! {
        #[test]
        fn what_is_held_stays_inside_horizon_and_count(jobs in proptest::collection::vec(proptest::option::of(0u64..20_000_000), 1..300)) {
            let mut worker = Held::NOTHING;
            for expected in jobs {
                let expected = expected.map(Duration::from_nanos);
                let before = worker;
                if room(Prefetch::Auto, &worker, expected) > 0 {
                    worker = worker.with(expected);
                }
                prop_assert!(worker.jobs <= HELD_MAX);
                prop_assert!(worker.jobs <= 1 || worker.expected.is_some_and(|all| all <= HORIZON), "{before:?} {worker:?}");
            }
        }

        #[test]
        fn room_is_used_up_one_by_one(jobs in 0u32..200, all_ns in 0u64..20_000_000, one_ns in 0u64..20_000_000, fixed: Option<u32>) {
            let prefetch = fixed.map_or(Prefetch::Auto, Prefetch::Fixed);
            let one = Some(Duration::from_nanos(one_ns));
            let mut worker = held(jobs, if jobs == 0 { Duration::ZERO } else { Duration::from_nanos(all_ns) });
            let mut left = room(prefetch, &worker, one);
            while left > 0 {
                worker = worker.with(one);
                let next = room(prefetch, &worker, one);
                prop_assert_eq!(next, left - 1);
                left = next;
            }
        }
    }
}

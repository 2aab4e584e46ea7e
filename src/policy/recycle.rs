//! When a worker has run long enough, or grown large enough, to be replaced by a fresh one.

use std::fmt;
use std::time::Duration;

use super::unit;

/// A worker's age limit is shortened at random by up to this share, so that workers that were forked together are
/// not all replaced together.
pub const AGE_JITTER: f64 = 0.1;

/// The pool's limits; `None`: never for that reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// Jobs.
    pub max_jobs: Option<u32>,
    /// Age.
    pub max_age: Option<Duration>,
    /// PSS in bytes.
    pub max_worker_memory: Option<u64>,
    /// Private bytes.
    pub max_worker_private: Option<u64>,
}

/// What a worker has behind it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Wear {
    /// Jobs that it finished.
    pub jobs: u64,
    /// Since its fork.
    pub age: Duration,
    /// Its PSS in bytes, when measured after a job.
    pub pss: Option<u64>,
    /// Its private bytes, measured with them.
    pub private: Option<u64>,
    /// A random number in `0.0..=1.0`, drawn once a worker.
    pub jitter: f64,
}

/// Why a worker is to be replaced; `Display` names the setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// It ran `max_jobs` jobs.
    MaxJobs,
    /// It is `max_age` old.
    MaxAge,
    /// It is larger than `max_worker_memory`.
    MaxWorkerMemory,
    /// It has more than `max_worker_private` of its own.
    MaxWorkerPrivate,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Reason::MaxJobs => "max_jobs",
            Reason::MaxAge => "max_age",
            Reason::MaxWorkerMemory => "max_worker_memory",
            Reason::MaxWorkerPrivate => "max_worker_private",
        })
    }
}

/// Whether a worker is to be replaced, and why. A busy one is replaced after its job.
pub fn due(rules: &Rules, worker: &Wear) -> Option<Reason> {
    if rules.max_jobs.is_some_and(|max| worker.jobs >= u64::from(max)) {
        return Some(Reason::MaxJobs);
    }
    if rules
        .max_age
        .is_some_and(|max| worker.age >= age_limit(max, worker.jitter))
    {
        return Some(Reason::MaxAge);
    }
    let is_above =
        |max: Option<u64>, bytes: Option<u64>| max.zip(bytes).is_some_and(|(max, bytes)| bytes > max);
    if is_above(rules.max_worker_memory, worker.pss) {
        return Some(Reason::MaxWorkerMemory);
    }
    is_above(rules.max_worker_private, worker.private).then_some(Reason::MaxWorkerPrivate)
}

/// How many more jobs a worker may be given, held ones counted as finished.
pub fn jobs_left(rules: &Rules, jobs: u64) -> u64 {
    rules
        .max_jobs
        .map_or(u64::MAX, |max| u64::from(max).saturating_sub(jobs))
}

/// The age at which one worker is replaced: `max_age`, less its share of [`AGE_JITTER`].
pub fn age_limit(max_age: Duration, jitter: f64) -> Duration {
    max_age - max_age.mul_f64(AGE_JITTER * unit(jitter))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HOUR: Duration = Duration::from_secs(3600);
    const RULES: Rules = Rules {
        max_jobs: Some(10),
        max_age: Some(HOUR),
        max_worker_memory: Some(1000),
        max_worker_private: Some(100),
    };
    const FRESH: Wear = Wear {
        jobs: 0,
        age: Duration::ZERO,
        pss: None,
        private: None,
        jitter: 0.0,
    };

    #[test]
    fn a_worker_is_replaced_when_it_reaches_a_limit() {
        assert_eq!(due(&RULES, &FRESH), None);
        let of = |wear| due(&RULES, &wear);
        assert_eq!(of(Wear { jobs: 9, ..FRESH }), None);
        assert_eq!(of(Wear { jobs: 10, ..FRESH }), Some(Reason::MaxJobs));
        assert_eq!(of(Wear { age: HOUR, ..FRESH }), Some(Reason::MaxAge));
        assert_eq!(
            of(Wear {
                pss: Some(1000),
                ..FRESH
            }),
            None
        );
        assert_eq!(
            of(Wear {
                pss: Some(1001),
                ..FRESH
            }),
            Some(Reason::MaxWorkerMemory)
        );
        let with_own = |private| {
            of(Wear {
                private: Some(private),
                ..FRESH
            })
        };
        assert_eq!(with_own(100), None);
        assert_eq!(with_own(101), Some(Reason::MaxWorkerPrivate));
    }

    #[test]
    fn a_worker_is_given_no_more_jobs_than_it_may_run() {
        assert_eq!(jobs_left(&RULES, 8), 2);
        assert_eq!(jobs_left(&RULES, 11), 0);
        assert_eq!(jobs_left(&Rules::default(), 11), u64::MAX);
    }

    proptest! {
        #[test]
        fn without_limits_a_worker_lives_for_ever(jobs: u64, age: Duration, pss: Option<u64>, private: Option<u64>, jitter: f64) {
            prop_assert_eq!(due(&Rules::default(), &Wear { jobs, age, pss, private, jitter }), None);
        }

        #[test]
        fn no_worker_outlives_max_age_and_none_goes_much_earlier(age: Duration, jitter: f64) {
            let limit = age_limit(age, jitter);
            prop_assert!(limit <= age && limit >= age.mul_f64(0.899));
        }

        #[test]
        fn a_worker_is_due_exactly_when_no_job_is_left(jobs: u64, max: Option<u32>) {
            let rules = Rules { max_jobs: max, ..Rules::default() };
            let is_due = due(&rules, &Wear { jobs, ..FRESH }).is_some();
            prop_assert_eq!(is_due, jobs_left(&rules, jobs) == 0);
        }
    }
}

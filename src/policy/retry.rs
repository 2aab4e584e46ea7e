//! An execution's outcome becomes the job's fate: done, another run, or a dead letter.

use std::time::Duration;

use super::unit;
use crate::death::Death;
use crate::job::{Job, JobError, Loss, Outcome, Verdict};
use crate::time::{Human, Unix};

/// How failed and lost jobs are run again, where job and task say nothing else.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rules {
    /// Runs after the first that failed.
    pub retries: u32,
    /// Wait before the first retry; doubles with each.
    pub backoff: Duration,
    /// Longest wait.
    pub backoff_max: Duration,
    /// Deaths of its worker after which a job counts as poison.
    pub max_worker_losses: u32,
}

/// What becomes of `job` after `outcome`. `jitter` is a random number in `0.0..=1.0`.
///
/// - A failure or a timeout is run again after a backoff, up to `retries` (the job's own number wins), then buried.
/// - A retry that the job asked for counts as a failure too: a job can't run for
///   ever by asking. The wait is the one it asked for, else the backoff.
/// - A loss of its worker is no failure of the job: it runs again at once, ahead of what waits. The
///   `max_worker_losses`th one buries it: a job that kills its workers is poison.
///   Unless the job counts a loss as a failure ([`Loss::Fails`]).
/// - Stopped by somebody: no more runs. Settled by its runtime: nothing to do.
/// - Given back: as if it had not been claimed.
pub fn verdict(job: &Job, outcome: Outcome, rules: &Rules, now: Unix, jitter: f64) -> Verdict {
    let execution = Execution {
        job,
        rules,
        now,
        jitter,
    };
    match outcome {
        Outcome::Success(result) => Verdict::Finish { result },
        Outcome::Failure {
            error,
            retryable: true,
        } => execution.failed(error, None),
        Outcome::Failure {
            error,
            retryable: false,
        } => execution.bury(error),
        Outcome::TimedOut { after, detail } => {
            let message = format!("ran longer than its timeout of {}", Human(after));
            let error = JobError {
                detail,
                ..JobError::new("timeout", message)
            };
            execution.failed(error, None)
        }
        Outcome::Retry { after, reason } => execution.failed(JobError::new("retry", reason), after),
        Outcome::Lost { how, death } => match job.loss {
            Loss::RunsAgain => execution.lost(&how, death),
            Loss::Fails => execution.failed(worker_lost(how, death), None),
        },
        Outcome::Stopped => Verdict::Stopped,
        Outcome::Settled => Verdict::Forget,
        Outcome::GivenBack => Verdict::GiveBack,
    }
}

/// Whether a job that comes has cost so many workers already that it does not run again: those that died with their
/// supervisor are counted by the broker, which does not decide.
pub fn is_poison(job: &Job, rules: &Rules) -> bool {
    job.losses > 0 && job.losses >= rules.max_worker_losses
}

/// What becomes of such a job.
pub fn bury_poison(job: &Job) -> Verdict {
    let message = format!(
        "its worker or its supervisor died {} times while it ran",
        job.losses
    );
    Verdict::Bury {
        error: JobError::new("worker lost", message),
        failures: job.failures,
        losses: job.losses,
    }
}

/// Wait before the retry that follows the `failures`th failure (1 is the first): `backoff`, doubled with each
/// further one up to `backoff_max`, then shortened at random by up to half.
///
/// This is "equal jitter": jobs that failed together do not come back together, and none comes back at once. Source:
/// M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
pub fn backoff(rules: &Rules, failures: u32, jitter: f64) -> Duration {
    let doubled = 2u32.saturating_pow(failures.saturating_sub(1));
    let half = rules.backoff.saturating_mul(doubled).min(rules.backoff_max) / 2;
    half + half.mul_f64(unit(jitter))
}

/// One execution that has ended.
struct Execution<'a> {
    job: &'a Job,
    rules: &'a Rules,
    now: Unix,
    jitter: f64,
}

impl Execution<'_> {
    /// Another run while there are retries left, after `wait` or the backoff.
    fn failed(&self, mut error: JobError, wait: Option<Duration>) -> Verdict {
        let retries = self.job.retries.unwrap_or(self.rules.retries);
        if self.job.failures >= retries {
            if error.kind == "retry" {
                let why = match retries {
                    0 => "but has no retries; give it some with `retries`".to_owned(),
                    1 => "but its only retry is used".to_owned(),
                    _ => format!("but all {retries} retries are used"),
                };
                error.message = format!("{} (asked to run again, {why})", error.message);
            }
            return self.bury(error);
        }
        let failures = self.job.failures.saturating_add(1);
        let wait = wait
            .or(self.job.retry_after)
            .unwrap_or_else(|| backoff(self.rules, failures, self.jitter));
        Verdict::Again {
            due: (!wait.is_zero()).then(|| self.now + wait),
            at_front: false,
            failures,
            losses: self.job.losses,
            error,
        }
    }

    fn bury(&self, error: JobError) -> Verdict {
        Verdict::Bury {
            error,
            failures: self.job.failures.saturating_add(1),
            losses: self.job.losses,
        }
    }

    fn lost(&self, how: &str, death: Box<Death>) -> Verdict {
        let (failures, losses) = (self.job.failures, self.job.losses.saturating_add(1));
        if losses >= self.rules.max_worker_losses {
            let message = format!("its worker died {losses} times, the last time: {how}");
            return Verdict::Bury {
                error: worker_lost(message, death),
                failures,
                losses,
            };
        }
        Verdict::Again {
            due: None,
            at_front: true,
            failures,
            losses,
            error: worker_lost(how, death),
        }
    }
}

/// Of a job whose worker died with it.
fn worker_lost(message: impl Into<String>, death: Box<Death>) -> JobError {
    JobError {
        death: Some(death),
        ..JobError::new("worker lost", message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: Unix = Unix(1_000_000);
    const RULES: Rules = Rules {
        retries: 2,
        backoff: Duration::from_secs(10),
        backoff_max: Duration::from_secs(60),
        max_worker_losses: 3,
    };

    fn job(failures: u32, losses: u32) -> Job {
        Job {
            failures,
            losses,
            ..Job::sample("a")
        }
    }

    fn failure(retryable: bool) -> Outcome {
        Outcome::Failure {
            error: JobError::new("ValueError", "no such user"),
            retryable,
        }
    }

    fn asks(after: Option<Duration>) -> Outcome {
        Outcome::Retry {
            after,
            reason: "try later".into(),
        }
    }

    fn lost() -> Outcome {
        Outcome::Lost {
            how: "killed by signal 9".into(),
            death: Box::default(),
        }
    }

    fn decide(job: &Job, outcome: Outcome) -> Verdict {
        verdict(job, outcome, &RULES, NOW, 1.0)
    }

    fn due_s(verdict: &Verdict) -> Option<i64> {
        match verdict {
            Verdict::Again { due, .. } => due.map(|due| (due.0 - NOW.0) / 1000),
            other => panic!("{other:?}"),
        }
    }

    fn buried(verdict: Verdict) -> (String, u32, u32) {
        match verdict {
            Verdict::Bury {
                error,
                failures,
                losses,
                ..
            } => (error.to_string(), failures, losses),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_success_keeps_its_result() {
        let verdict = decide(&job(1, 1), Outcome::Success(b"42".to_vec()));
        assert_eq!(
            verdict,
            Verdict::Finish {
                result: b"42".to_vec()
            }
        );
    }

    #[test]
    fn a_failure_waits_twice_as_long_each_time_and_is_buried_after_its_retries() {
        assert_eq!(due_s(&decide(&job(0, 0), failure(true))), Some(10));
        assert_eq!(due_s(&decide(&job(1, 0), failure(true))), Some(20));
        let last = buried(decide(&job(2, 1), failure(true)));
        assert_eq!(last, ("ValueError: no such user".into(), 3, 1));
    }

    #[test]
    fn a_failure_that_another_run_cannot_help_is_buried_at_once() {
        assert_eq!(buried(decide(&job(0, 0), failure(false))).1, 1);
    }

    #[test]
    fn the_jobs_own_number_of_retries_wins() {
        let own = |retries| Job {
            retries: Some(retries),
            ..job(2, 0)
        };
        assert_eq!(due_s(&decide(&own(3), failure(true))), Some(40));
        assert_eq!(buried(decide(&own(0), failure(true))).1, 3);
    }

    #[test]
    fn a_timeout_is_a_failure() {
        let after = Duration::from_secs(90);
        let timed_out = || Outcome::TimedOut {
            after,
            detail: "in sleep".to_owned(),
        };
        let verdict = decide(&job(2, 0), timed_out());
        assert!(matches!(&verdict, Verdict::Bury { error, .. } if error.detail == "in sleep"));
        assert_eq!(buried(verdict).0, "timeout: ran longer than its timeout of 1m30s");
        assert_eq!(due_s(&decide(&job(0, 0), timed_out())), Some(10));
    }

    #[test]
    fn an_asked_for_retry_waits_as_asked_and_counts() {
        assert_eq!(
            due_s(&decide(&job(0, 0), asks(Some(Duration::from_secs(3600))))),
            Some(3600)
        );
        assert_eq!(due_s(&decide(&job(0, 0), asks(Some(Duration::ZERO)))), None);
        assert_eq!(due_s(&decide(&job(1, 0), asks(None))), Some(20));
        assert_eq!(
            buried(decide(&job(2, 0), asks(None))).0,
            "retry: try later (asked to run again, but all 2 retries are used)"
        );
    }

    #[test]
    fn a_lost_job_runs_again_at_once_until_it_is_poison() {
        let again = Verdict::Again {
            due: None,
            at_front: true,
            failures: 2,
            losses: 2,
            error: worker_lost("killed by signal 9", Box::default()),
        };
        assert_eq!(decide(&job(2, 1), lost()), again);
        let poison = "worker lost: its worker died 3 times, the last time: killed by signal 9";
        assert_eq!(buried(decide(&job(2, 2), lost())), (poison.into(), 2, 3));
    }

    #[test]
    fn a_job_that_cost_its_supervisors_does_not_begin_again() {
        assert!(!is_poison(&job(5, 2), &RULES) && is_poison(&job(0, 3), &RULES));
        let never = Rules {
            max_worker_losses: 0,
            ..RULES
        };
        assert!(!is_poison(&job(5, 0), &never), "it has cost none");
        let buried = buried(bury_poison(&job(1, 3)));
        let why = "worker lost: its worker or its supervisor died 3 times while it ran";
        assert_eq!(buried, (why.into(), 1, 3));
    }

    #[test]
    fn a_job_given_back_is_as_if_it_had_not_been_claimed() {
        assert_eq!(decide(&job(2, 2), Outcome::GivenBack), Verdict::GiveBack);
    }

    fn any_outcome() -> impl Strategy<Value = Outcome> {
        prop_oneof![
            Just(Outcome::Success(vec![])),
            any::<bool>().prop_map(failure),
            any::<Duration>().prop_map(|after| Outcome::TimedOut {
                after,
                detail: String::new()
            }),
            any::<Option<Duration>>().prop_map(asks),
            Just(lost()),
            Just(Outcome::GivenBack),
        ]
    }

    proptest! {
        #[test]
        fn a_backoff_stays_between_half_and_all_of_its_step(
            base: Duration, max: Duration, failures: u32, jitter in 0.0..=1.0,
        ) {
            let rules = Rules { backoff: base, backoff_max: max, ..RULES };
            let step = base.saturating_mul(2u32.saturating_pow(failures.saturating_sub(1))).min(max);
            let wait = backoff(&rules, failures, jitter);
            // A float has 53 bits: allow for what it rounds.
            prop_assert!(wait >= step / 2 && wait <= step.saturating_add(step / (1 << 30)), "{wait:?} of {step:?}");
        }

        #[test]
        fn no_job_runs_for_ever(
            outcomes in proptest::collection::vec(any_outcome(), 40), retries in 0u32..5, losses in 0u32..5,
        ) {
            let rules = Rules { retries, max_worker_losses: losses, ..RULES };
            let mut now = job(0, 0);
            let mut runs = 0;
            for outcome in outcomes.into_iter().filter(|outcome| *outcome != Outcome::GivenBack) {
                runs += 1;
                match verdict(&now, outcome, &rules, NOW, 0.5) {
                    Verdict::Again { failures, losses, .. } => {
                        prop_assert_eq!(failures + losses, now.failures + now.losses + 1);
                        (now.failures, now.losses) = (failures, losses);
                    }
                    Verdict::Finish { .. } | Verdict::Bury { .. } | Verdict::Forget => break,
                    other => panic!("{other:?}"),
                }
            }
            prop_assert!(runs <= retries + losses.max(1));
        }

        #[test]
        fn no_numbers_make_it_panic(
            outcome in any_outcome(), failures: u32, losses: u32, retries: Option<u32>,
            base: Duration, max: Duration, now: i64, jitter: f64,
        ) {
            let rules = Rules { backoff: base, backoff_max: max, ..RULES };
            let job = Job { retries, ..job(failures, losses) };
            verdict(&job, outcome, &rules, Unix(now), jitter);
        }
    }
}

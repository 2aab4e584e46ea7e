//! An execution's outcome becomes the job's fate: done, another run, or a dead letter.

use std::time::Duration;

use super::unit;
use crate::job::{Claimed, JobError, Outcome, Verdict};
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
/// - A retry that the job asked for counts as a failure too, as `self.retry()` does in Celery and `Retry(max=N)` in
///   RQ: a job can't run for ever by asking. The wait is the one it asked for, else the backoff.
/// - A loss of its worker is no failure of the job: it runs again at once, ahead of what waits. The
///   `max_worker_losses`th one buries it: a job that kills its workers is poison.
/// - Given back: as if it had not been claimed.
pub fn verdict(job: &Claimed, outcome: Outcome, rules: &Rules, now: Unix, jitter: f64) -> Verdict {
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
        Outcome::TimedOut { after } => {
            let message = format!("ran longer than its timeout of {}", Human(after));
            execution.failed(JobError::new("timeout", message), None)
        }
        Outcome::Retry { after, reason } => execution.failed(JobError::new("retry", reason), after),
        Outcome::Lost { how } => execution.lost(&how),
        Outcome::GivenBack => Verdict::Requeue {
            due: None,
            at_front: true,
            failures: job.failures,
            losses: job.losses,
            error: None,
        },
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
    job: &'a Claimed,
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
                error.message = format!(
                    "{} (asked to run again, but all {retries} retries are used)",
                    error.message
                );
            }
            return self.bury(error);
        }
        let failures = self.job.failures.saturating_add(1);
        let wait = wait.unwrap_or_else(|| backoff(self.rules, failures, self.jitter));
        Verdict::Requeue {
            due: (!wait.is_zero()).then(|| self.now + wait),
            at_front: false,
            failures,
            losses: self.job.losses,
            error: Some(error),
        }
    }

    fn bury(&self, error: JobError) -> Verdict {
        Verdict::Bury {
            error,
            failures: self.job.failures.saturating_add(1),
            losses: self.job.losses,
        }
    }

    fn lost(&self, how: &str) -> Verdict {
        let (failures, losses) = (self.job.failures, self.job.losses.saturating_add(1));
        if losses >= self.rules.max_worker_losses {
            let message = format!("its worker died {losses} times, the last time: {how}");
            return Verdict::Bury {
                error: JobError::new("worker lost", message),
                failures,
                losses,
            };
        }
        Verdict::Requeue {
            due: None,
            at_front: true,
            failures,
            losses,
            error: Some(JobError::new("worker lost", how)),
        }
    }
}

//! The lines of the log that tell of jobs.

use crate::fleet::{JobRun, Notice};
use crate::job::JobError;
use crate::text::tail;
use crate::time::Human;

/// Bytes of a failure's detail that the log shows, its end: the job's record has more.
const DETAIL_LEN_MAX: usize = 8 * 1024;

/// Which lines there are.
#[derive(Clone, Copy, Debug)]
pub(super) struct JobLines {
    /// Of jobs that begin or end well: `log.jobs`.
    pub of_all: bool,
    /// Failures come with their detail. Not where it is what the job printed, which is in the log already.
    pub with_detail: bool,
}

impl JobLines {
    /// Writes what a notice says of a job to the log; of nothing else.
    pub fn tell(self, notice: &Notice) {
        match notice {
            Notice::JobBegan(run) if self.of_all => tracing::debug!(
                pool = %run.pool,
                queue = %run.queue,
                job = run.job.as_str(),
                task = %run.task,
                worker = run.worker,
                wait_s = run.wait.as_secs_f64(),
                "job begins"
            ),
            Notice::JobDone(run) if self.of_all => tracing::info!(
                pool = %run.pool,
                queue = %run.queue,
                job = run.job.as_str(),
                task = %run.task,
                worker = run.worker,
                wait_s = run.wait.as_secs_f64(),
                took_s = run.took.map(|took| took.as_secs_f64()),
                "job done"
            ),
            Notice::JobFailed {
                run,
                error,
                dead,
                retry_in,
            } => self.tell_failure(run, error, *dead, retry_in.map(|wait| Human(wait).to_string())),
            Notice::JobCanceled { job, pool, task } => {
                tracing::info!(pool = %pool, job = job.as_str(), task = %task, "job canceled before it began");
            }
            _ => {}
        }
    }

    fn tell_failure(self, run: &JobRun, error: &JobError, dead: bool, retry_in: Option<String>) {
        let detail =
            (self.with_detail && !error.detail.is_empty()).then(|| tail(&error.detail, DETAIL_LEN_MAX));
        macro_rules! failed {
            ($level:ident, $message:literal) => {
                tracing::$level!(
                    pool = %run.pool,
                    queue = %run.queue,
                    job = run.job.as_str(),
                    task = %run.task,
                    worker = run.worker,
                    error = %error,
                    retry_in,
                    wait_s = run.wait.as_secs_f64(),
                    took_s = run.took.map(|took| took.as_secs_f64()),
                    detail,
                    $message
                )
            };
        }
        if dead {
            failed!(error, "job failed");
        } else {
            failed!(warn, "job will run again");
        }
    }
}

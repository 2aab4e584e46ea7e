//! What a native task gets and gives: its [`Context`], and the ways to end that are no success.

use std::error::Error;
use std::fmt::{self, Display};
use std::rc::Rc;
use std::time::Duration;

use super::executor::{Ending, timeout_of};
use super::report::{Reporter, Tell};
use crate::job::{JobError, Progress};
use crate::time::{Human, Mono};
use crate::wire::frame::Run;

/// What a task returns: a result, which becomes JSON, or why there is none.
pub type TaskResult<T> = Result<T, TaskError>;

/// Why a task has no result. Any standard error becomes one by `?`: a failure that may be retried.
///
/// Like a boxed error it is no [`std::error::Error`] itself, or that conversion could not exist.
#[derive(Clone, PartialEq)]
pub struct TaskError(Ending);

impl TaskError {
    /// The job failed; it is run again while its retries last.
    pub fn failed(message: impl Display) -> Self {
        TaskError(Ending::Failure(JobError::new("failure", message.to_string())))
    }

    /// The job can't succeed, however often it is run.
    pub fn rejected(message: impl Display) -> Self {
        TaskError(Ending::Rejected(JobError::new("rejected", message.to_string())))
    }

    /// The job is to be run again after a time, while it has retries: 49 days at the most, which 32 bits of milliseconds hold.
    pub fn retry_after(after: Duration, reason: impl Display) -> Self {
        TaskError(Ending::Retry {
            after: Some(after),
            reason: reason.to_string(),
        })
    }

    /// The job is to be run again when the retry policy says, while it has retries.
    pub fn retry(reason: impl Display) -> Self {
        TaskError(Ending::Retry {
            after: None,
            reason: reason.to_string(),
        })
    }

    pub(super) fn rejected_arguments(message: String) -> Self {
        TaskError(Ending::Rejected(JobError::new("wrong arguments", message)))
    }

    /// Another run would do all that the task does again, and its result would be of the same kind.
    pub(super) fn no_json(error: &serde_json::Error) -> Self {
        let message = format!("the result is not JSON: {error}");
        TaskError(Ending::Rejected(JobError::new("result not JSON", message)))
    }

    pub(super) fn timed_out(timeout: Duration) -> Self {
        TaskError(Ending::TimedOut(timeout_error(timeout)))
    }

    /// How the execution ends by it.
    pub(super) fn into_ending(self) -> Ending {
        self.0
    }
}

/// The error of a job that was interrupted at its timeout.
pub(super) fn timeout_error(timeout: Duration) -> JobError {
    JobError::new(
        "timeout",
        format!("ran longer than its timeout of {}", Human(timeout)),
    )
}

impl fmt::Debug for TaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<E: Error> From<E> for TaskError {
    fn from(error: E) -> Self {
        let mut detail = String::new();
        let mut cause = error.source();
        while let Some(error) = cause {
            detail.push_str(&format!("caused by: {error}\n"));
            cause = error.source();
        }
        TaskError(Ending::Failure(JobError {
            kind: std::any::type_name::<E>().to_owned(),
            message: error.to_string(),
            detail,
            death: None,
            broker: String::new(),
        }))
    }
}

/// What a task can ask about the job that it runs, and the app's state, loaded once and shared by fork.
#[derive(Debug)]
pub struct Context<S = ()> {
    state: Rc<S>,
    job_id: String,
    queue: String,
    task: String,
    attempt: u32,
    started: Mono,
    timeout: Option<Duration>,
    jobs: Vec<JobRef>,
    /// Those that run: one, or all of a batch.
    executions: Vec<u64>,
    reporter: Reporter,
}

/// A job of a batch, as its task sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobRef {
    /// Its id.
    pub id: String,
    /// The queue that it came from.
    pub queue: String,
    /// 1 for its first run.
    pub attempt: u32,
}

impl<S> Context<S> {
    /// For a worker that has not run a job yet.
    pub(super) fn new(state: Rc<S>) -> Self {
        Context {
            state,
            job_id: String::new(),
            queue: String::new(),
            task: String::new(),
            attempt: 0,
            started: Mono::default(),
            timeout: None,
            jobs: Vec::new(),
            executions: Vec::new(),
            reporter: Reporter::default(),
        }
    }

    /// Where it says how far a job is.
    pub(super) fn report_to(&mut self, tell: Tell) {
        self.reporter = Reporter::new(tell);
    }

    /// Turns to the next job.
    pub(super) fn begin(&mut self, run: &Run<'_>, started: Mono) {
        for (field, value) in [
            (&mut self.job_id, run.id),
            (&mut self.queue, run.queue),
            (&mut self.task, run.task),
        ] {
            field.clear();
            field.push_str(value);
        }
        self.jobs.clear();
        self.executions.clear();
        self.executions.push(run.execution);
        self.attempt = run.attempt;
        self.started = started;
        self.timeout = timeout_of(run);
    }

    /// Turns to the next batch, of which at least one job is there.
    pub(super) fn begin_batch(&mut self, runs: &[&Run<'_>], started: Mono) {
        if let Some(first) = runs.first() {
            self.begin(first, started);
        }
        let about = |run: &&Run<'_>| JobRef {
            id: run.id.to_owned(),
            queue: run.queue.to_owned(),
            attempt: run.attempt,
        };
        self.jobs = runs.iter().map(about).collect();
        self.executions = runs.iter().map(|run| run.execution).collect();
    }

    /// In a batch task: the jobs of this call, in the order of their arguments. There, [`Context::job_id`], `queue` and
    /// `attempt` are those of the first one. Empty in every other task.
    pub fn jobs(&self) -> &[JobRef] {
        &self.jobs
    }

    /// What the app's state loader returned. Shared with the other workers by fork: what a task changes
    /// in it is seen by later jobs of this worker alone.
    pub fn state(&self) -> &S {
        &self.state
    }

    /// The job's id.
    pub fn job_id(&self) -> &str {
        &self.job_id
    }

    /// The queue that it came from.
    pub fn queue(&self) -> &str {
        &self.queue
    }

    /// The name under which the task was asked for.
    pub fn task(&self) -> &str {
        &self.task
    }

    /// 1 for the job's first run.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// The longest that this run may take; `None`: no limit.
    pub fn timeout(&self) -> Option<Duration> {
        self.timeout
    }

    /// What is left of the timeout, zero when it is over; `None`: no limit.
    pub fn remaining(&self) -> Option<Duration> {
        let spent = Mono::now().since(self.started);
        self.timeout.map(|timeout| timeout.saturating_sub(spent))
    }

    /// Whether the timeout is over. Rust code can't be interrupted from outside: a task that looks here now and then
    /// ends in order; one that does not is killed with its worker, `kill_grace` after its timeout.
    pub fn is_overdue(&self) -> bool {
        self.remaining() == Some(Duration::ZERO)
    }

    /// Tells how far the job is, for `pool wait` and other readers: from 0 to 1 (`None`: it does not know), and what it does.
    ///
    /// Of many calls in a row some are left out. A broker without a place for it keeps nothing. In a batch task it is said of
    /// all jobs of the call.
    ///
    /// ```
    /// # use pool::{App, Context};
    /// # let app = App::new().task("load", |rows: Vec<String>, ctx: &Context| {
    /// for (number, row) in rows.iter().enumerate() {
    ///     ctx.progress(number as f64 / rows.len() as f64, format!("row {row}"));
    /// }
    /// # Ok(()) });
    /// ```
    pub fn progress(&self, fraction: impl Into<Option<f64>>, message: impl Into<String>) {
        let fraction = fraction.into().filter(|fraction| !fraction.is_nan());
        let progress = Progress {
            fraction: fraction.map(|fraction| fraction.clamp(0.0, 1.0)),
            message: message.into(),
        };
        self.reporter.report(&self.executions, &progress, Mono::now());
    }

    /// For `ctx.check()?` in a long loop: ends the job as timed out when it is overdue.
    pub fn check(&self) -> TaskResult<()> {
        match self.timeout {
            Some(timeout) if self.is_overdue() => Err(TaskError::timed_out(timeout)),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot resize")]
    struct Outer(#[source] std::num::ParseIntError);

    #[test]
    fn any_error_becomes_a_failure_with_its_causes() {
        fn task() -> TaskResult<()> {
            Err(Outer("x".parse::<i32>().unwrap_err()))?;
            Ok(())
        }
        let Ending::Failure(error) = task().unwrap_err().into_ending() else {
            panic!("not a failure");
        };
        assert!(error.kind.ends_with("Outer"), "{}", error.kind);
        assert_eq!(error.message, "cannot resize");
        assert_eq!(error.detail, "caused by: invalid digit found in string\n");
    }

    #[test]
    fn a_job_is_overdue_when_its_timeout_is_over() {
        let mut context = Context::new(Rc::new(()));
        let run = Run {
            execution: 1,
            timeout_ms: 1000,
            attempt: 2,
            ordinal: 1,
            job_kind: 0,
            id: "a",
            queue: "q",
            task: "t",
            payload: b"",
        };
        context.begin(&run, Mono::now());
        assert!(!context.is_overdue());
        context.check().unwrap();
        context.begin(&run, Mono::now().saturating_sub(Duration::from_secs(2)));
        assert_eq!(context.remaining(), Some(Duration::ZERO));
        let ending = context.check().unwrap_err().into_ending();
        let expected = "ran longer than its timeout of 1s";
        assert!(matches!(ending, Ending::TimedOut(error) if error.message == expected));
        context.begin(&Run { timeout_ms: 0, ..run }, Mono::default());
        assert!(!context.is_overdue());
    }
}

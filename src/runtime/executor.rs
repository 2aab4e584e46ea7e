//! What a worker needs from a runtime: run one job.

use std::collections::BTreeMap;
use std::time::Duration;

use super::report::Tell;
use crate::job::{JobError, UNKNOWN_TASK};
use crate::time::Mono;
use crate::wire::frame::Run;
use crate::wire::message::BatchTask;

/// How one execution ended, as the worker reports it.
#[derive(Clone, Debug, PartialEq)]
pub enum Ending {
    /// It returned; its result is in the buffer.
    Success,
    /// It failed; another run may help.
    Failure(JobError),
    /// It failed, and another run can't help: an unknown task, arguments that do not parse.
    Rejected(JobError),
    /// It was interrupted at its timeout.
    TimedOut(JobError),
    /// It asks to be run again.
    Retry {
        /// Wait this long first; `None`: as the retry policy says.
        after: Option<Duration>,
        /// Why, for the log.
        reason: String,
    },
}

/// How one job of a batch ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// How.
    pub ending: Ending,
    /// Its result, of a success.
    pub result: Vec<u8>,
    /// It is not the job's own failure, but that of the whole batch.
    pub whole_batch: bool,
}

/// A loaded app. It is loaded in the template; each worker has its own copy, by fork.
pub trait Executor {
    /// The tasks that it runs, by name.
    fn tasks(&self) -> Vec<String>;

    /// Those of them that take their jobs in batches.
    fn batches(&self) -> BTreeMap<String, BatchTask> {
        BTreeMap::new()
    }

    /// Where a worker's running jobs say how far they are. Not every runtime's can.
    fn report_to(&mut self, _tell: Tell) {}

    /// Prepares a new worker. An error ends it.
    fn after_fork(&mut self) -> Result<(), String>;

    /// Runs one job that began at `started`, and appends its result to `result`, which is empty.
    fn execute(&mut self, run: &Run<'_>, started: Mono, result: &mut Vec<u8>) -> Ending;

    /// Runs a batch, whose first job names the task, in one call that began at `started`: an answer for each job, in
    /// order. `None`: the task takes no batches; its jobs are to be run one by one.
    fn execute_batch(&mut self, _runs: &[Run<'_>], _started: Mono) -> Option<Vec<Answer>> {
        None
    }
}

/// The longest run that a frame allows; `None`: no limit.
pub fn timeout_of(run: &Run<'_>) -> Option<Duration> {
    (run.timeout_ms > 0).then(|| Duration::from_millis(run.timeout_ms))
}

/// The error of a task that is not there, with the nearest one that is.
pub fn unknown_task(name: &str, known: &[String]) -> JobError {
    let nearest = known
        .iter()
        .map(|known| (strsim::jaro_winkler(name, known), known))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|(a, _), (b, _)| a.total_cmp(b));
    let message = match nearest {
        Some((_, near)) => format!("no task is named `{name}`; did you mean `{near}`?"),
        None => format!("no task is named `{name}`"),
    };
    JobError::new(UNKNOWN_TASK, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_task_names_its_neighbour() {
        let known = ["thumbnail".to_owned(), "mail".to_owned()];
        assert_eq!(
            unknown_task("thumbnial", &known).message,
            "no task is named `thumbnial`; did you mean `thumbnail`?"
        );
        assert_eq!(unknown_task("xyz", &known).message, "no task is named `xyz`");
    }
}

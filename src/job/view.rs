//! A job as inspection shows it: where it is, and what became of its runs.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{JobError, JobId, Progress, QueueName, RunStamp, Verdict};
use crate::text::head;
use crate::time::Unix;

/// Where a job is; exactly one place at any instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JobState {
    /// In its queue.
    Waiting,
    /// Would wait in its queue, but as many jobs of its key run as may: see [`crate::job::Limit`].
    Blocked,
    /// Due later.
    Scheduled,
    /// Waits for other jobs to end: see [`crate::broker::flow`].
    Deferred,
    /// Under a lease.
    Running,
    /// Ended well.
    Finished,
    /// Dead-lettered.
    Dead,
}

impl JobState {
    /// All of them: those that have not ended first.
    pub const ALL: [JobState; 7] = [
        JobState::Running,
        JobState::Waiting,
        JobState::Blocked,
        JobState::Scheduled,
        JobState::Deferred,
        JobState::Dead,
        JobState::Finished,
    ];

    /// The word for it: a contract.
    pub fn as_str(self) -> &'static str {
        match self {
            JobState::Running => "running",
            JobState::Waiting => "waiting",
            JobState::Blocked => "blocked",
            JobState::Scheduled => "scheduled",
            JobState::Deferred => "deferred",
            JobState::Dead => "dead",
            JobState::Finished => "finished",
        }
    }

    /// Finished or dead: nothing more happens unless somebody asks.
    pub fn is_final(self) -> bool {
        matches!(self, JobState::Finished | JobState::Dead)
    }
}

/// A job as inspection shows it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct JobView {
    /// Its id.
    pub id: JobId,
    /// Its queue; `None`: the broker does not keep it.
    pub queue: Option<QueueName>,
    /// What runs.
    pub task: Arc<str>,
    /// Its arguments.
    #[serde(skip)]
    pub payload: Vec<u8>,
    /// Where it is. People and programs are told [`crate::broker::StateName`].
    #[serde(skip)]
    pub state: JobState,
    /// When it was enqueued.
    pub enqueued: Unix,
    /// When it is due, if scheduled.
    pub due: Option<Unix>,
    /// When its last run began, as far as the broker keeps it. Lists of the embedded broker do not read it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started: Option<Unix>,
    /// When it ended.
    pub ended: Option<Unix>,
    /// Failed executions; `None`: nobody counted them.
    pub failures: Option<u32>,
    /// Executions that ended with their worker's death; `None`: nobody counted them.
    pub losses: Option<u32>,
    /// What it returned, when finished.
    #[serde(skip)]
    pub result: Option<Vec<u8>>,
    /// Why it failed last.
    pub error: Option<JobError>,
    /// How far it is, as it says itself while it runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// Its last runs that did not succeed, the newest last, as far as the broker keeps them. A job that succeeds at
    /// first leaves none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub attempts: Vec<Attempt>,
}

impl JobView {
    /// A job of which no more is known than this.
    pub fn new(id: JobId, queue: impl Into<Option<QueueName>>, task: &str, state: JobState) -> Self {
        JobView {
            id,
            queue: queue.into(),
            task: task.into(),
            payload: Vec::new(),
            state,
            enqueued: Unix::default(),
            due: None,
            started: None,
            ended: None,
            failures: None,
            losses: None,
            result: None,
            error: None,
            progress: None,
            attempts: Vec::new(),
        }
    }
}

/// One run of a job that did not succeed, as it is kept with the job. In a file it is a JSON object: fields may be added,
/// and one that is not there is not known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Attempt {
    /// When it began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started: Option<Unix>,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended: Option<Unix>,
    /// The worker that ran it: its number, or its name where the broker knows it by one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worker: Option<String>,
    /// Why it did not succeed, and how its worker died if it did: without a traceback, which only the last error has.
    pub error: JobError,
}

impl Attempt {
    /// Attempts that are kept for a job: the last ones.
    pub const KEPT_MAX: usize = 10;
    /// Longest message that is kept, in bytes.
    const MESSAGE_LEN_MAX: usize = 500;

    /// The run that ended with this verdict, if it did not succeed; `run`: who ran it and when, as far as is known.
    pub fn of(verdict: &Verdict, run: Option<&RunStamp>) -> Option<Self> {
        match verdict {
            Verdict::Again { error, .. } | Verdict::Bury { error, .. } => Some(Self::new(error, run)),
            Verdict::Stopped => Some(Self::new(&JobError::stopped(), run)),
            Verdict::Finish { .. } | Verdict::GiveBack | Verdict::Canceled | Verdict::Forget => None,
        }
    }

    /// A run that ended with this error.
    pub fn new(error: &JobError, run: Option<&RunStamp>) -> Self {
        Attempt {
            started: run.map(|run| run.started),
            ended: run.map(|run| run.ended),
            worker: run.map(|run| run.worker.to_string()),
            error: JobError {
                death: error.death.clone(),
                ..JobError::new(&error.kind, head(&error.message, Self::MESSAGE_LEN_MAX))
            },
        }
    }
}

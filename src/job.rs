//! What a job is: its identity, what a producer asks for, what a claim hands out, how it ends.

mod name;
mod progress;
mod view;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::death::Death;
use crate::time::Unix;

pub use name::{GroupId, JobId, NAME_LEN_MAX, NameError, PoolName, QueueName, check_name};
pub use progress::Progress;
pub use view::{Attempt, JobState, JobView};

/// Which of a pool's queues gives the next job: a law for each single one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueOrder {
    /// The first queue that has a job.
    Strict,
    /// One job of each queue in turn: the queue that gave goes last.
    RoundRobin,
    /// Any of those that have a job, drawn anew for each.
    Random,
}

/// A job as its producer asks for it.
#[derive(Clone, Debug, PartialEq)]
pub struct NewJob {
    /// The id to give it.
    pub id: JobId,
    /// Where it waits.
    pub queue: QueueName,
    /// What runs: a registered native task, a `[tasks.NAME]` command, a dotted Python name.
    pub task: Arc<str>,
    /// Arguments, opaque to broker and supervisor; JSON for the runtimes of this crate.
    pub payload: Vec<u8>,
    /// Not before this time; `None`: at once.
    pub due: Option<Unix>,
    /// Ahead of all that wait in its queue.
    pub at_front: bool,
    /// Longest run; `None`: what task or pool say.
    pub timeout: Option<Duration>,
    /// Runs after the first one that failed; `None`: what task or pool say.
    pub retries: Option<u32>,
    /// How long the result can be read; `None`: what the broker says; zero: keep none.
    pub result_ttl: Option<Duration>,
    /// While a job with this key waits, is scheduled or runs, a second one is not enqueued.
    pub unique_key: Option<Arc<str>>,
    /// It never runs if it has not begun by this time; `None`: it waits for ever.
    pub begin_by: Option<Unix>,
    /// How many jobs with the same key run at once.
    pub limit: Option<Limit>,
}

/// How many jobs of one key run at once, over all supervisors of a broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    /// What these jobs have in common: a database, an account.
    pub key: Arc<str>,
    /// At most so many of them, 1 or more.
    pub max: u32,
}

/// As `KEY=MAX`.
impl std::str::FromStr for Limit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || "expected KEY=N, such as `db=3`, with a number of 1 or more".to_owned();
        let (key, max) = text.rsplit_once('=').ok_or_else(expected)?;
        let max = max.parse().ok().filter(|max| *max > 0).ok_or_else(expected)?;
        check_name(key).map_err(|problem| format!("the key {problem}"))?;
        Ok(Limit { key: key.into(), max })
    }
}

impl NewJob {
    /// A job of `task` for `queue` with a fresh id and every option at its default.
    pub fn new(queue: QueueName, task: &str, payload: impl Into<Vec<u8>>) -> Self {
        NewJob {
            id: JobId::generate(),
            queue,
            task: task.into(),
            payload: payload.into(),
            due: None,
            at_front: false,
            timeout: None,
            retries: None,
            result_ttl: None,
            unique_key: None,
            begin_by: None,
            limit: None,
        }
    }
}

/// A job as it is to run.
#[derive(Clone, Debug, PartialEq)]
pub struct Job {
    /// Its identity.
    pub id: JobId,
    /// The queue it came from.
    pub queue: QueueName,
    /// What runs.
    pub task: Arc<str>,
    /// Which kind of job it is to its runtime, as broker and runtime agree; 0 where there is only one kind.
    pub kind: u8,
    /// Its arguments.
    pub payload: Arc<[u8]>,
    /// Longest run, when the job says so itself.
    pub timeout: Option<Duration>,
    /// Retries that the job asks for itself.
    pub retries: Option<u32>,
    /// Wait before its next retry, when the job says so itself.
    pub retry_after: Option<Duration>,
    /// What the death of its worker means.
    pub loss: Loss,
    /// A job, or what the broker needs done after jobs.
    pub work: Work,
    /// May be taken in a batch, if its task takes batches.
    pub batches: bool,
    /// Executions that failed before this one, 0 at first. A loss is not a failure.
    pub failures: u32,
    /// Executions that ended with their worker's death before this one.
    pub losses: u32,
    /// Since when it could run: enqueued, due, or back in its queue.
    pub ready: Unix,
}

#[cfg(test)]
impl Job {
    /// A job that waits in `default` for its first run. A test changes what it is about.
    pub(crate) fn sample(id: &str) -> Self {
        Job {
            id: JobId::new(id).expect("an id"),
            queue: QueueName::new("default").expect("a name"),
            task: "noop".into(),
            kind: 0,
            payload: [].into(),
            timeout: None,
            retries: None,
            retry_after: None,
            loss: Loss::RunsAgain,
            work: Work::Job,
            batches: true,
            failures: 0,
            losses: 0,
            ready: Unix(0),
        }
    }
}

/// One delivery of a job by a source of jobs, see [`crate::broker::source`].
///
/// It grows with each delivery, and is never used twice in the source's life, whatever a broker numbers anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A job that was delivered to a supervisor. It is held under a lease until it is settled.
#[derive(Clone, Debug, PartialEq)]
pub struct Delivery {
    /// What to settle.
    pub token: Token,
    /// Its source wants to know when it begins, see [`crate::broker::Source::began`].
    pub tells_begin: bool,
    /// What is to run.
    pub job: Job,
}

/// A delivery that has begun: its worker has read all of it, so it can't come back unread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Begun {
    /// Which.
    pub token: Token,
    /// The worker's number.
    pub worker: u64,
    /// The worker's ordinal; see [`crate::broker::WorkerView`].
    pub ordinal: u16,
    /// When, as far as is known.
    pub at: Unix,
}

/// A job that was claimed from a broker that is asked, see [`crate::broker::Pull`].
#[derive(Clone, Debug, PartialEq)]
pub struct Claimed {
    /// What to settle.
    pub claim: Claim,
    /// What is to run.
    pub job: Job,
}

/// What a claim hands out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// A job of a producer.
    Job,
    /// After-work: what a broker's own code does around jobs (callbacks, housekeeping). It is no job and is not counted.
    After,
}

/// What the death of a job's worker means for the job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Loss {
    /// No failure of the job: it runs again at once, up to a limit of losses.
    #[default]
    RunsAgain,
    /// A failure like any other: retried if it has retries left.
    Fails,
}

/// The handle under which a broker that is asked knows one execution.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Claim {
    /// The job.
    pub job: JobId,
    /// The broker's own number for it (a row id); no meaning elsewhere.
    pub handle: i64,
    /// Grows with each claim of the job, so that an outcome of an earlier one is recognised as late.
    pub epoch: u32,
}

/// The kind of a [`JobError`] that says that the worker's code has no such task. Newer code may have it.
pub const UNKNOWN_TASK: &str = "unknown task";

pub(crate) const CANCELED: &str = "canceled";
pub(crate) const EXPIRED: &str = "expired";
/// The kind of a [`JobError`] of a job that somebody stopped while it ran.
pub(crate) const STOPPED: &str = "stopped";

/// Why an execution failed, as its reader meets it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobError {
    /// Its kind: an exception's type, `timeout`, `exit status`, `worker lost`, `unknown task` …
    pub kind: String,
    /// What happened, in a sentence.
    pub message: String,
    /// Traceback or the tail of standard error; may be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// How the process that ran it ended, where that is what went wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub death: Option<Box<Death>>,
    /// What the runtime tells the job's broker besides, in a text that only these two understand; may be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub broker: String,
}

impl JobError {
    /// An error without detail.
    pub fn new(kind: &str, message: impl Into<String>) -> Self {
        JobError {
            kind: kind.into(),
            message: message.into(),
            detail: String::new(),
            death: None,
            broker: String::new(),
        }
    }

    /// Of a job that somebody stopped while it ran.
    pub fn stopped() -> Self {
        Self::new(STOPPED, "somebody stopped it while it ran")
    }

    /// Of a job that had begun when its supervisor died.
    pub fn supervisor_lost() -> Self {
        Self::new("worker lost", "its supervisor died while it ran")
    }

    /// Of a job that somebody canceled before it began.
    pub fn canceled() -> Self {
        Self::new(CANCELED, "somebody canceled it before it began")
    }

    /// Of a job that had not begun by its time, see [`NewJob::begin_by`].
    pub fn expired(begin_by: Unix) -> Self {
        Self::new(EXPIRED, format!("it had not begun by {begin_by}"))
    }

    /// Whether it says that somebody, or time, called the job off: no fault of the job.
    pub fn is_cancellation(&self) -> bool {
        self.never_ran() || self.kind == STOPPED
    }

    /// Whether it says that somebody, or time, called the job off before it began.
    pub fn never_ran(&self) -> bool {
        [CANCELED, EXPIRED].contains(&self.kind.as_str())
    }
}

/// The kind of a [`JobError`] of which no more is known than that its job failed.
const FAILED: &str = "failed";

impl fmt::Display for JobError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.kind.as_str(), self.message.as_str()) {
            (FAILED, message) => f.write_str(message),
            (kind, "") => f.write_str(kind),
            (kind, message) => write!(f, "{kind}: {message}"),
        }
    }
}

/// How one execution ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// It returned; the result is opaque (JSON for the runtimes of this crate).
    Success(Vec<u8>),
    /// It raised, exited non-zero, or can't run at all.
    Failure {
        /// What happened.
        error: JobError,
        /// False when another run can't help: an unknown task, arguments that do not parse.
        retryable: bool,
    },
    /// It ran longer than its timeout.
    TimedOut {
        /// The timeout that it exceeded.
        after: Duration,
        /// Where it was, as a traceback; empty where nobody knows.
        detail: String,
    },
    /// It asked to be run again.
    Retry {
        /// Wait this long first; `None`: as the retry policy says.
        after: Option<Duration>,
        /// Why, for the log.
        reason: String,
    },
    /// Its worker died with it.
    Lost {
        /// How: `killed by signal 9`, `exit status 1` …
        how: String,
        /// The same as data.
        death: Box<Death>,
    },
    /// It did not run, or was interrupted by a shutdown: back to the front of its queue.
    GivenBack,
    /// Somebody stopped it while it ran.
    Stopped,
    /// The runtime settled it with the broker itself: nothing is left to do.
    Settled,
}

/// What becomes of a job after an execution: decided by `policy::retry`, carried out by a broker.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// Done: keep the result for its time to live.
    Finish {
        /// The result.
        result: Vec<u8>,
    },
    /// It has not run, or was interrupted: back to where it was, as if nobody had taken it. Nothing is counted.
    GiveBack,
    /// Another run, for it failed or was lost.
    Again {
        /// Not before this time; `None`: at once.
        due: Option<Unix>,
        /// Ahead of what waits.
        at_front: bool,
        /// Failures to remember, this one included.
        failures: u32,
        /// Losses to remember, this one included.
        losses: u32,
        /// Why, kept for inspection.
        error: JobError,
    },
    /// No more runs: kept with its error until somebody retries or deletes it.
    Bury {
        /// Why.
        error: JobError,
        /// Failures, this one included.
        failures: u32,
        /// Losses, this one included.
        losses: u32,
    },
    /// Somebody stopped it while it ran: no more runs, and no failure.
    Stopped,
    /// Somebody canceled it before it began: no run.
    Canceled,
    /// Its runtime settled it already: it is only forgotten.
    Forget,
}

/// What becomes of a delivery, or of a claim.
#[derive(Clone, Debug, PartialEq)]
pub struct Settlement<Of = Token> {
    /// Which.
    pub of: Of,
    /// What becomes of it.
    pub verdict: Verdict,
    /// Who ran it and when; `None`: it did not begin.
    pub run: Option<RunStamp>,
}

/// Who ran an execution, and when, as far as is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunStamp {
    /// The worker's number.
    pub worker: u64,
    /// The worker's ordinal; see [`crate::broker::WorkerView`].
    pub ordinal: u16,
    /// When it began.
    pub started: Unix,
    /// When it ended.
    pub ended: Unix,
    /// How its worker died with it: the raw wait status, where known.
    pub death: Option<i32>,
}

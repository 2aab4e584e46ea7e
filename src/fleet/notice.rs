//! What the fleet tells people: the supervisor writes it to the log.

use std::time::Duration;

use crate::death::ProcessEnd;
use crate::job::{JobError, JobId, PoolName};
use crate::policy::memory::Budget;
use crate::wire::message::LoadReport;

use super::JobRun;
use super::snapshot::Decision;

/// What is asked of a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// To load the app.
    Load,
    /// To fork a worker.
    Fork,
    /// To leave.
    Leave,
    /// To die.
    Die,
}

/// What people are told, once each.
#[derive(Clone, Debug, PartialEq)]
pub enum Notice {
    /// The size of a pool changed.
    Scaled {
        /// Which pool.
        pool: PoolName,
        /// The decision.
        decision: Decision,
    },
    /// Another size is wanted and refused, told once until the reason changes.
    Vetoed {
        /// Which pool.
        pool: PoolName,
        /// The decision.
        decision: Decision,
        /// The memory budget, when that is the reason.
        budget: Option<Budget>,
    },
    /// The app is loaded.
    AppLoaded {
        /// Which generation.
        generation: u64,
        /// What the template found.
        report: LoadReport,
    },
    /// A newer generation loaded, and its workers do not start: an older one takes over again.
    GoneBack {
        /// The newer one.
        from: u64,
        /// The older one.
        to: u64,
        /// What its template had found.
        report: LoadReport,
        /// Why the newer one's workers do not start.
        error: String,
    },
    /// No worker of an older generation can begin another job.
    Renewed {
        /// Which generation has taken over.
        generation: u64,
    },
    /// The app does not load.
    LoadFailed {
        /// Which generation.
        generation: u64,
        /// Why.
        error: String,
        /// The generation that stays, if any.
        staying: Option<u64>,
        /// Until the next try; `None`: no other try.
        retry_in: Option<Duration>,
        /// It failed so often that it counts as a crash loop.
        crash_loop: bool,
    },
    /// A template died after it had loaded.
    TemplateDied {
        /// Which generation.
        generation: u64,
        /// How.
        how: String,
        /// Until it is started again.
        retry_in: Duration,
        /// It died so often that it counts as a crash loop.
        crash_loop: bool,
    },
    /// A template did not do what it was asked in time, and is killed for it; or it did not even die, and is given up.
    TemplateHangs {
        /// Which generation.
        generation: u64,
        /// What it was asked.
        asked: Asked,
        /// For how long it was waited.
        limit: Duration,
    },
    /// A worker takes jobs.
    WorkerStarted {
        /// Which.
        worker: u64,
        /// Its pool.
        pool: PoolName,
        /// Its process id.
        pid: i32,
        /// Its generation.
        generation: u64,
    },
    /// A worker left as asked.
    WorkerLeft {
        /// Which.
        worker: u64,
        /// Its pool.
        pool: PoolName,
        /// Jobs that it ended.
        jobs: u64,
        /// Why it was asked.
        reason: String,
    },
    /// A worker died or was killed.
    WorkerLost {
        /// Which.
        worker: u64,
        /// Its pool.
        pool: PoolName,
        /// How.
        how: String,
        /// The same as data.
        end: ProcessEnd,
        /// The job that it ran.
        job: Option<JobId>,
    },
    /// A worker can't be started.
    ForkFailed {
        /// Which.
        worker: u64,
        /// Its pool.
        pool: PoolName,
        /// Why.
        error: String,
        /// Until the next try.
        retry_in: Duration,
    },
    /// A worker begins a job.
    JobBegan(JobRun),
    /// A job ended well.
    JobDone(JobRun),
    /// A job failed and will run again, or is dead-lettered.
    JobFailed {
        /// Which, and how it ran.
        run: JobRun,
        /// Why.
        error: JobError,
        /// It is dead-lettered.
        dead: bool,
        /// Until the next run, if delayed.
        retry_in: Option<Duration>,
    },
    /// A job was canceled or stopped before it began, and does not run.
    JobCanceled {
        /// Which.
        job: JobId,
        /// Its pool.
        pool: PoolName,
        /// Its task.
        task: std::sync::Arc<str>,
    },
    /// A batch failed as a whole and runs again in halves.
    BatchSplit {
        /// Its pool.
        pool: PoolName,
        /// Its task.
        task: std::sync::Arc<str>,
        /// How many jobs failed together.
        jobs: usize,
        /// Why.
        error: String,
    },
    /// A worker does not have jobs that it was sent: something else has read their frames. They run elsewhere.
    JobsStolen {
        /// Which worker.
        worker: u64,
        /// Its pool.
        pool: PoolName,
        /// How many jobs.
        jobs: usize,
    },
    /// An outcome arrived for an execution that its worker does not hold.
    StrayOutcome {
        /// Which worker.
        worker: u64,
        /// Which execution.
        execution: u64,
    },
}

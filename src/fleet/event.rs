//! What the fleet is told, and what it wants done. The supervisor's loop performs the actions and
//! knows no rule; the simulator drives the same functions.

use std::time::Duration;

use crate::broker::Backlog;
use crate::death::ProcessEnd;
use crate::job::{
    Begun, Delivery, JobError, JobId, Outcome, PoolName, Progress, QueueName, Settlement, Token,
};
use crate::policy::memory::{Budget, Occupied};
use crate::time::Mono;
use crate::wire::message::LoadReport;

use super::JobRun;
use super::snapshot::{Decision, QueueFlow};

/// What lay unread on a worker's socket and is taken from it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unread {
    /// Executions of which it had read nothing, in their order.
    pub executions: Vec<u64>,
    /// It had read a part of the job before them, and can't get the rest: that one can't begin.
    pub torn: bool,
}

impl From<Vec<u64>> for Unread {
    fn from(executions: Vec<u64>) -> Self {
        Unread {
            executions,
            torn: false,
        }
    }
}

/// A worker's answer for a job.
#[derive(Clone, Debug, PartialEq)]
pub struct Done {
    /// Which execution.
    pub execution: u64,
    /// When it began, by the worker's clock.
    pub started: Mono,
    /// When it ended.
    pub ended: Mono,
    /// How.
    pub outcome: Outcome,
    /// It is the failure of the whole batch that the job was part of.
    pub whole_batch: bool,
}

/// What happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// A template loaded the app.
    TemplateReady {
        /// Which.
        template: u64,
        /// What it found.
        report: LoadReport,
    },
    /// The app does not load.
    TemplateFailed {
        /// Which.
        template: u64,
        /// Why.
        error: String,
    },
    /// A template's process ended.
    TemplateExited {
        /// Which.
        template: u64,
        /// How.
        how: String,
    },
    /// A worker's process exists.
    Forked {
        /// Which.
        worker: u64,
        /// Its process id.
        pid: i32,
    },
    /// It could not be forked.
    ForkFailed {
        /// Which.
        worker: u64,
        /// Why.
        error: String,
    },
    /// A worker takes jobs.
    WorkerReady {
        /// Which.
        worker: u64,
    },
    /// A worker says that a job ended.
    Done {
        /// Which worker.
        worker: u64,
        /// What it says.
        done: Done,
    },
    /// Jobs that a worker had not read were taken back from its socket, in their order.
    TakenBack {
        /// Which worker.
        worker: u64,
        /// What.
        unread: Unread,
    },
    /// A worker says how far a job is.
    Progress {
        /// Which worker.
        worker: u64,
        /// Which execution.
        execution: u64,
        /// How far.
        progress: Progress,
    },
    /// A worker answered [`Action::Ping`]: it is between two jobs, and has no job that was sent before the question.
    Pong {
        /// Which worker.
        worker: u64,
        /// The execution that it was asked about.
        execution: u64,
    },
    /// It was looked what lies unread on a worker's socket; the first of it is enough.
    Peeked {
        /// Which worker.
        worker: u64,
        /// What.
        unread: Unread,
    },
    /// A job in hand is not to begin any more.
    CalledOff {
        /// Which.
        token: Token,
        /// Why, and what becomes of it.
        how: CallOff,
    },
    /// A worker sent something that is not a frame.
    Garbage {
        /// Which.
        worker: u64,
        /// What.
        error: String,
    },
    /// A worker is dead and everything that it said has been told.
    Exited {
        /// Which.
        worker: u64,
        /// What it had not read.
        unread: Unread,
        /// How, such as `killed by signal 9`.
        how: String,
        /// The same as data.
        end: ProcessEnd,
    },
    /// Jobs came.
    Delivered {
        /// For which pool.
        pool: PoolName,
        /// The jobs.
        jobs: Vec<Delivery>,
    },
    /// A job waits for a pool that wanted to know.
    Waiting {
        /// Which pool.
        pool: PoolName,
    },
    /// A scaling period ended.
    Period {
        /// Which pool's.
        pool: PoolName,
        /// What waits in its queues; `None` when the broker did not say.
        backlog: Option<Backlog>,
        /// What the whole fleet uses.
        memory: Memory,
    },
    /// A look that [`Action::Look`] asked for.
    Looked {
        /// At which pool.
        pool: PoolName,
        /// What waits in its queues; `None` when the broker did not say.
        backlog: Option<Backlog>,
        /// What the whole fleet uses.
        memory: Memory,
    },
    /// A deadline of [`super::Fleet::next_deadline`] has passed.
    Tick,
}

/// Why a job in hand is not to begin. If it has not, it does not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallOff {
    /// Somebody canceled it: if it has begun, it runs on.
    Canceled,
    /// Somebody stopped it: if it has begun, its worker is killed.
    Stopped,
    /// Its source has lost it: nothing is left to settle. If it has begun, it runs on.
    Void,
}

/// Measured memory, in bytes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Memory {
    /// PSS of templates and workers together.
    pub pss_total: u64,
    /// What each worker occupies.
    pub workers: Vec<(u64, Occupied)>,
    /// The budget of each pool that has one, resolved to bytes.
    pub limits: Vec<(PoolName, u64)>,
    /// The budget of all together, resolved to bytes.
    pub total_limit: Option<u64>,
}

/// What somebody asks of the fleet.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Change a pool's limits.
    Scale {
        /// Which pool.
        pool: PoolName,
        /// New minimum.
        min: Option<u32>,
        /// New maximum.
        max: Option<u32>,
    },
    /// A pool serves one queue more, until the next reload.
    AddQueue {
        /// Which pool.
        pool: PoolName,
        /// The queue.
        queue: QueueName,
    },
    /// A pool serves a queue no more, until the next reload.
    DropQueue {
        /// Which pool.
        pool: PoolName,
        /// The queue.
        queue: QueueName,
    },
    /// Claim no more.
    Pause {
        /// Which pool; `None`: all.
        pool: Option<PoolName>,
    },
    /// Claim again.
    Resume {
        /// Which pool; `None`: all.
        pool: Option<PoolName>,
    },
    /// Stop a running job for good: its worker is killed.
    StopJob {
        /// Which job.
        job: JobId,
    },
    /// A job that has not begun does not run; one that has runs on.
    CancelJob {
        /// Which job.
        job: JobId,
    },
    /// Let a worker finish its job, then replace it.
    ReplaceWorker {
        /// Which.
        worker: u64,
    },
    /// Kill a worker; its job counts as lost.
    KillWorker {
        /// Which.
        worker: u64,
    },
    /// Finish what runs, give back what is held, leave.
    Drain {
        /// However long it takes; else running jobs go back too when `stop_timeout` is over.
        patient: bool,
    },
    /// Give back what runs, leave.
    Stop,
}

/// What is to be done.
#[derive(Clone, Debug)]
pub enum Action {
    /// Start a template.
    StartTemplate {
        /// Its number.
        template: u64,
        /// Its generation.
        generation: u64,
    },
    /// Tell a template to leave.
    StopTemplate {
        /// Which.
        template: u64,
    },
    /// Kill it.
    KillTemplate {
        /// Which.
        template: u64,
    },
    /// Ask a template for a worker.
    Fork {
        /// Which template.
        template: u64,
        /// The worker's number.
        worker: u64,
        /// The pool that it works for.
        pool: PoolName,
    },
    /// Send a job to a worker; [`super::Fleet::execution`] has it.
    Send {
        /// Which worker.
        worker: u64,
        /// Which execution.
        execution: u64,
    },
    /// Send several jobs to an idle worker as one batch, in this order.
    SendBatch {
        /// Which worker.
        worker: u64,
        /// Which executions.
        executions: Vec<u64>,
    },
    /// Take unread jobs back from a worker's socket, then report [`Event::TakenBack`].
    TakeBack {
        /// Which worker.
        worker: u64,
    },
    /// Ask a worker whether it is between two jobs.
    Ping {
        /// Which worker.
        worker: u64,
        /// What it should be running.
        execution: u64,
    },
    /// Look what lies unread on a worker's socket, then report [`Event::Peeked`].
    Peek {
        /// Which worker.
        worker: u64,
    },
    /// A running job says how far it is.
    Progress(Token, Progress),
    /// A job has begun whose source wants to know.
    Began(Begun),
    /// A delivery that is void is not in hand any more.
    Voided(Token),
    /// Close our end of a worker's socket: it leaves.
    Retire {
        /// Which.
        worker: u64,
    },
    /// Kill a worker and its process group.
    Kill {
        /// Which.
        worker: u64,
    },
    /// Let go of a worker whose template died without a word of it, if it was forked at all: close its
    /// lifeline, which ends it, then report [`Event::Exited`].
    Abandon {
        /// Which.
        worker: u64,
    },
    /// Count what waits for a pool and weigh the processes, then report [`Event::Looked`].
    Look {
        /// Which pool.
        pool: PoolName,
    },
    /// Keep a decision in the history.
    Keep {
        /// Which pool's.
        pool: PoolName,
        /// The decision.
        decision: Box<Decision>,
        /// At the end of a period, what passed through its queues since the last one.
        queues: Vec<QueueFlow>,
    },
    /// Settle an execution.
    Settle(Settlement),
    /// Tell people.
    Notice(Notice),
    /// Everything is gone: leave.
    Leave,
}

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

/// What people are told, once each; the supervisor writes it to the log.
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

//! What the fleet is told, and what it wants done. The supervisor's loop performs the actions and
//! knows no rule; the simulator drives the same functions.

use crate::broker::Backlog;
use crate::death::ProcessEnd;
use crate::job::{Begun, Delivery, JobId, Outcome, PoolName, Progress, QueueName, Settlement, Token};
use crate::policy::memory::Occupied;
use crate::time::Mono;
use crate::wire::message::LoadReport;

use super::notice::Notice;
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
    /// Its source wants it back. If it has begun, it runs on.
    Recalled,
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

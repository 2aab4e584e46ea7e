//! The template and its workers as data: event + now → actions.
//!
//! [`Fleet`] decides everything that concerns processes and the jobs they hold: when to fork, whom
//! to send a job, whom to retire, replace or kill, when to start a template again, what becomes of
//! a job whose worker died. It does no I/O and reads no clock; the supervisor's loop performs its
//! [`Action`]s, and a simulator drives the same functions.
//!
//! - [`event`]: the vocabulary. `pool`: one pool, with its workers and the jobs that they hold.
//! - `template`: the templates. `share`: what the pools leave each other. `stop`: pause, drain, stop.
//! - [`snapshot`]: the plain picture that every reader renders. [`tally`], [`histogram`]: what is counted; [`figures`]: both, for metrics.
//! - [`death`]: why workers are killed, and what their deaths are counted as.

pub mod death;
pub mod event;
pub mod figures;
pub mod histogram;
mod picture;
mod pool;
mod share;
pub mod snapshot;
mod stop;
pub mod tally;
mod template;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use crate::config::{AppConfig, Config, Isolation, TaskConfig};
use crate::job::{Claimed, PoolName, Work};
use crate::policy::share::Totals;
use crate::policy::shutdown::{self, Stop};
use crate::time::Mono;
use crate::wire::message::{BatchTask, LoadReport};

pub use crate::time::Now;
use death::KillReason;
pub use event::{Action, Command, Event, Memory, Notice, Unread};
use pool::Pool;
use pool::worker::{Expiry, State, Worker};
pub use template::Asked;
use template::Templates;

/// From forking a worker to its first word; then it is killed.
const START_LIMIT: Duration = Duration::from_secs(60);
/// From telling a worker to leave to killing it.
const RETIRE_LIMIT: Duration = Duration::from_secs(10);
/// An idle worker that does not read its job for so long is replaced, and the job given to another.
const PICKUP_LIMIT: Duration = Duration::from_secs(2);
/// Claimed jobs that nobody could take for so long go back to the broker.
const BUFFER_LIMIT: Duration = Duration::from_secs(1);

/// A job that this supervisor holds under its lease.
#[derive(Clone, Debug)]
pub struct Execution {
    /// What was claimed.
    pub claimed: Claimed,
    /// For which pool.
    pub pool: PoolName,
    /// Longest run: the job's own, its task's or its pool's.
    pub timeout: Option<Duration>,
    /// 1 for the first run of the job.
    pub attempt: u32,
}

/// All processes and all jobs in hand.
#[derive(Debug)]
pub struct Fleet {
    app: AppConfig,
    tasks: BTreeMap<Arc<str>, TaskConfig>,
    /// Batch tasks of the newest generation, as its code declares them.
    declared_batches: BTreeMap<String, BatchTask>,
    pools: BTreeMap<PoolName, Pool>,
    templates: Templates,
    workers: BTreeMap<u64, Worker>,
    executions: HashMap<u64, Execution>,
    stop: Stop,
    /// A drain that waits for running jobs however long they take.
    patient: bool,
    /// `Action::Leave` was given.
    left: bool,
    last_worker: u64,
    last_execution: u64,
    rng: fastrand::Rng,
    /// Limits on all pools together, and what they occupy.
    totals: Totals,
}

impl Fleet {
    /// A fleet with nothing in it; `seed` makes its jitter repeatable.
    pub fn new(config: &Config, seed: u64, now: Now) -> Self {
        let pools = config
            .pools
            .iter()
            .map(|(name, config)| (name.clone(), Pool::new(config.clone(), now.mono)))
            .collect();
        Fleet {
            app: config.app.clone(),
            tasks: config.tasks.clone(),
            declared_batches: BTreeMap::new(),
            pools,
            templates: Templates::new(config.app.load_timeout),
            workers: BTreeMap::new(),
            executions: HashMap::new(),
            stop: Stop::Running,
            patient: false,
            left: false,
            last_worker: 0,
            last_execution: 0,
            rng: fastrand::Rng::with_seed(seed),
            totals: Totals {
                workers: config.supervisor.max_total_workers,
                ..Totals::default()
            },
        }
    }

    /// Loads the app for the first time.
    pub fn start(&mut self, now: Now, out: &mut Vec<Action>) {
        self.templates.next_generation(now, out);
    }

    /// Takes new settings: limits and policies at once; `new_generation` loads the app again.
    /// Pools that are gone from the settings are drained and leave; new ones start.
    pub fn reload(&mut self, config: &Config, new_generation: bool, now: Now, out: &mut Vec<Action>) {
        self.app = config.app.clone();
        self.templates.set_load_timeout(config.app.load_timeout);
        self.tasks = config.tasks.clone();
        for (name, config) in &config.pools {
            match self.pools.get_mut(name) {
                Some(pool) => pool.configure(config.clone(), now.mono),
                None => {
                    self.pools
                        .insert(name.clone(), Pool::new(config.clone(), now.mono));
                }
            }
        }
        for (name, pool) in &mut self.pools {
            pool.removed = !config.pools.contains_key(name);
        }
        self.totals.workers = config.supervisor.max_total_workers;
        self.give_way(now, out);
        if new_generation && self.running() {
            self.templates.next_generation(now, out);
        }
        self.balance_all(now, out);
    }

    /// Takes note of an event.
    pub fn on(&mut self, event: Event, now: Now, out: &mut Vec<Action>) {
        match event {
            Event::TemplateReady { template, report } => self.template_ready(template, report, now, out),
            Event::TemplateFailed { template, error } => self.templates.failed(template, error),
            Event::TemplateExited { template, how } => self.template_exited(template, &how, now, out),
            Event::Forked { worker, pid } => self.forked(worker, pid, now, out),
            Event::ForkFailed { worker, error } => self.fork_failed(worker, error, now, out),
            Event::WorkerReady { worker } => self.worker_ready(worker, now, out),
            Event::Done {
                worker,
                execution,
                started,
                ended,
                outcome,
                whole_batch,
            } => {
                let outcome = (outcome, whole_batch);
                self.done(worker, execution, (started, ended), outcome, now, out);
            }
            Event::TakenBack { worker, unread } => self.taken_back(worker, &unread, now, out),
            Event::Garbage { worker, error } => {
                self.kill(worker, KillReason::Protocol(error), now, out);
            }
            Event::Exited {
                worker,
                unread,
                how,
                status,
            } => self.exited(worker, &unread, (&how, status), now, out),
            Event::Claimed { pool, jobs } => self.claimed(&pool, jobs, now, out),
            Event::Period {
                pool,
                backlog,
                memory,
            } => self.period(&pool, backlog, &memory, now, out),
            Event::Tick => self.tick(now, out),
        }
        self.leave_if_empty(now, out);
    }

    /// The earliest instant at which something is due even if nothing happens.
    pub fn next_deadline(&self) -> Option<Mono> {
        self.workers
            .values()
            .filter_map(|worker| self.worker_deadline(worker).map(|(at, _)| at))
            .chain(self.templates.deadline())
            .chain(self.stop.deadline())
            .chain(self.pools.values().filter_map(Pool::deadline))
            .min()
    }

    /// A job in hand, as `Action::Send` names it.
    pub fn execution(&self, execution: u64) -> Option<&Execution> {
        self.executions.get(&execution)
    }

    /// The job that a worker runs now, for log lines.
    pub fn running_job(&self, worker: u64) -> Option<&Execution> {
        let held = self.workers.get(&worker)?.held.front()?;
        self.executions.get(&held.execution)
    }

    /// A worker printed a line. Returns the job that it runs, for the log.
    pub fn printed(&mut self, worker: u64) -> Option<&Execution> {
        let held = self.workers.get(&worker)?.held.front()?;
        let job = self.executions.get(&held.execution)?;
        if let Some(pool) = self.pools.get_mut(&job.pool) {
            pool.prints(&job.claimed.task);
        }
        Some(job)
    }

    /// The pool that a worker works for.
    pub fn pool_of(&self, worker: u64) -> Option<&PoolName> {
        self.workers.get(&worker).map(|worker| &worker.pool)
    }

    /// Whether jobs wait at hand that no worker of this one's pool has room for.
    pub fn is_behind(&self, worker: u64) -> bool {
        let pool = self.pool_of(worker).and_then(|name| self.pools.get(name));
        pool.is_some_and(|pool| !pool.buffer.is_empty())
    }

    /// Process ids of templates' workers that live, with their numbers.
    pub fn pids(&self) -> Vec<(u64, i32)> {
        self.workers
            .iter()
            .filter_map(|(id, worker)| Some((*id, worker.pid?)))
            .collect()
    }

    /// Changes when a worker becomes ready, is asked to leave or is gone.
    pub fn comings_and_goings(&self) -> u64 {
        let stage = |worker: &Worker| u64::from(worker.ready.is_some()) + u64::from(worker.closing);
        let each = self
            .workers
            .iter()
            .map(|(id, worker)| id.wrapping_mul(4) + stage(worker));
        each.fold(u64::from(self.running()), u64::wrapping_add)
    }

    /// Changes when a worker begins or ends a job.
    pub fn beginnings_and_ends(&self) -> u64 {
        let running = self.workers.values().filter_map(|worker| worker.held.front());
        running.fold(0, |all, job| all.wrapping_add(job.execution))
    }

    /// A worker's ordinal; 0 while it has none.
    pub fn ordinal_of(&self, worker: u64) -> u16 {
        self.workers.get(&worker).map_or(0, |worker| worker.ordinal)
    }

    /// Names of the pools.
    pub fn pool_names(&self) -> Vec<PoolName> {
        self.pools.keys().cloned().collect()
    }

    /// The settings of a pool in force.
    pub fn pool_config(&self, pool: &PoolName) -> Option<&crate::config::PoolConfig> {
        self.pools.get(pool).map(|pool| &pool.config)
    }

    /// Jobs due later, as last counted.
    pub fn scheduled(&self, pool: &PoolName) -> u64 {
        self.pools.get(pool).map_or(0, |pool| pool.backlog.scheduled)
    }

    /// A pool without workers that would run jobs if there were any.
    pub fn asleep(&self, pool: &PoolName) -> bool {
        let awake = |pool: &Pool| pool.target > 0 || pool.paused || pool.removed;
        self.running() && self.pools.get(pool).is_some_and(|pool| !awake(pool))
    }

    /// Whether any job is in hand; housekeeping is none.
    pub fn has_jobs(&self) -> bool {
        self.executions
            .values()
            .any(|execution| execution.claimed.work == Work::Job)
    }

    /// Jobs held under the lease: buffered, sent or running.
    pub fn in_hand(&self) -> usize {
        self.executions.len()
    }

    /// The first load failed before any ever succeeded: the supervisor can't do its work.
    pub fn never_loaded(&self) -> Option<&str> {
        let hopeless = self.templates.is_hopeless() && self.running();
        self.templates.load_error().filter(|_| hopeless)
    }

    fn fresh(&self) -> bool {
        self.app.isolation == Isolation::Fresh
    }

    /// A worker ends with its job.
    fn one_job_a_worker(&self) -> bool {
        self.fresh() && !self.app.worker_forks()
    }

    fn running(&self) -> bool {
        !self.stop.is_stopping()
    }

    fn template_ready(&mut self, id: u64, report: LoadReport, now: Now, out: &mut Vec<Action>) {
        if self.stop.is_stopping() {
            return;
        }
        let Some(generation) = self.templates.ready(id, now, out) else {
            return;
        };
        self.declared_batches.clone_from(&report.batches);
        out.push(Action::Notice(Notice::AppLoaded { generation, report }));
        for worker in self.workers.values_mut() {
            if worker.generation < generation {
                worker.expiring = Some(Expiry::Outdated);
            }
        }
        self.balance_all(now, out);
    }

    /// Of workers that a dead template was asked for and never told of, nobody knows the process id: most were
    /// not forked; one that was can't be watched and must not stay.
    fn template_exited(&mut self, id: u64, how: &str, now: Now, out: &mut Vec<Action>) {
        let stopping = self.stop.is_stopping();
        for worker in self.templates.exited(id, how, stopping, now, out) {
            if let Some(abandoned) = self.workers.get_mut(&worker) {
                assert!(abandoned.pid.is_none(), "worker {worker} was forked");
                abandoned.state = State::Dying;
                abandoned.since = now.mono;
                out.push(Action::Abandon { worker });
            }
        }
        self.balance_all(now, out);
    }

    /// Everything that is due by now.
    fn tick(&mut self, now: Now, out: &mut Vec<Action>) {
        self.stopping(shutdown::Event::Tick, now, out);
        for template in self.templates.tick(now, out) {
            self.template_exited(template, "did not die", now, out);
        }
        self.tick_workers(now, out);
        self.tick_pools(now, out);
    }
}

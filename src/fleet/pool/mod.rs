//! One pool's share of the fleet: its size, its buffer of claimed jobs, its measurements.
//!
//! - [`worker`]: a worker's life as a table. `workers`: they come and go. `deadlines`: what happens because nothing happened.
//! - `dispatch`: jobs in. `outcomes`: what becomes of them. `gather`, `batches`: those of batch tasks.
//! - `size`: how many workers there are, and who replaces whom. `scaling`: the decision of each period.

mod batches;
mod deadlines;
mod dispatch;
mod gather;
mod outcomes;
mod scaling;
mod size;
pub mod worker;
mod workers;

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::broker::Backlog;
use crate::config::{PoolConfig, Prefetch};
use crate::job::Claimed;
use crate::policy::prefetch::ServiceTimes;
use crate::policy::restart::Restarts;
use crate::policy::utilization::Meter;
use crate::time::Mono;

use self::gather::Batches;
use crate::fleet::snapshot::Decision;
use crate::fleet::tally::Tally;
use crate::fleet::{BUFFER_LIMIT, Now};

/// Jobs kept at hand in the supervisor: what the pool finishes in this time.
const BUFFER_SPAN: Duration = Duration::from_millis(20);
/// Never more than so many, however short the jobs are.
const BUFFER_MAX: usize = 4096;

/// Tasks remembered for printing; names come with jobs, so their number is bounded.
const PRINTING_MAX: usize = 1024;

/// One pool.
#[derive(Debug)]
pub(super) struct Pool {
    pub config: PoolConfig,
    /// Limits in force: the configured ones, or what `pool scale` said since.
    pub min: u32,
    pub max: u32,
    /// Workers wanted.
    pub target: u32,
    pub paused: bool,
    /// Gone from the settings: drains and is forgotten.
    pub removed: bool,
    pub meter: Meter,
    pub service: ServiceTimes,
    /// Tasks that have printed something, by name.
    pub printing: HashSet<Arc<str>>,
    /// Executions claimed and not sent, the next one first.
    pub buffer: VecDeque<u64>,
    /// Jobs of batch tasks, claimed and not sent.
    pub batches: Batches,
    /// When a job last left the buffer.
    pub buffer_moved: Mono,
    /// Failures of its workers to start.
    pub fork_failures: Restarts,
    /// No fork before this.
    pub fork_after: Option<Mono>,
    pub tally: Tally,
    pub backlog: Backlog,
    /// `max_memory` in bytes, as measured last.
    pub memory_limit: Option<u64>,
    pub last_decision: Option<Decision>,
    /// The veto that was told last.
    pub veto: Option<String>,
}

impl Pool {
    pub fn new(config: PoolConfig, now: Mono) -> Self {
        Pool {
            min: config.min_workers,
            max: config.max_workers,
            target: config.min_workers,
            paused: false,
            removed: false,
            meter: Meter::new(config.utilization_window),
            service: ServiceTimes::default(),
            printing: HashSet::new(),
            buffer: VecDeque::new(),
            batches: Batches::default(),
            buffer_moved: now,
            fork_failures: Restarts::default(),
            fork_after: None,
            tally: Tally::default(),
            backlog: Backlog::default(),
            memory_limit: None,
            last_decision: None,
            veto: None,
            config,
        }
    }

    /// New settings; limits that `pool scale` changed are overruled by them.
    pub fn configure(&mut self, config: PoolConfig, now: Mono) {
        self.min = config.min_workers;
        self.max = config.max_workers;
        if config.utilization_window != self.config.utilization_window {
            self.meter.set_window(config.utilization_window, now);
        }
        self.config = config;
    }

    /// Jobs that their worker did not read go first again; those of a batch, together.
    pub fn put_back(&mut self, executions: &[u64], as_batch: bool, now: Mono) {
        if as_batch {
            self.batches.put_back(executions.to_vec());
            return;
        }
        for execution in executions.iter().rev() {
            self.buffer.push_front(*execution);
        }
        self.buffer_moved = now;
    }

    /// A worker ran a job, by its own stamps.
    pub fn ran(&mut self, job: &Claimed, (started, ended): (Mono, Mono), now: Now) {
        let took = ended.since(started);
        self.service.record(&job.task, took);
        // Later runs waited for a retry, not for a worker.
        let first = job.failures + job.losses == 0;
        let waited = first.then(|| {
            let until_now = now.unix.since(job.ready);
            until_now.saturating_sub(now.mono.since(started))
        });
        self.tally.ran(&job.task, took, &job.queue, waited);
    }

    /// A job of this task printed something.
    pub fn prints(&mut self, task: &Arc<str>) {
        if self.printing.len() < PRINTING_MAX && !self.printing.contains(task) {
            self.printing.insert(task.clone());
        }
    }

    /// When jobs in the buffer go back, or forking may be tried again.
    pub fn deadline(&self) -> Option<Mono> {
        let give_back = (!self.buffer.is_empty()).then(|| self.buffer_moved + BUFFER_LIMIT);
        [give_back, self.fork_after, self.batches.deadline()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Jobs to keep in the buffer beside `workers` workers.
    pub fn buffer_wanted(&self, workers: usize) -> usize {
        match (self.config.prefetch, self.service.typical()) {
            // Every job is handed over one at a time: nothing to keep at hand.
            (Prefetch::Fixed(0), _) | (_, None) => 0,
            (Prefetch::Fixed(_) | Prefetch::Auto, Some(typical)) => {
                let span_ns = BUFFER_SPAN.as_nanos() * workers as u128;
                let jobs = span_ns / typical.as_nanos().max(1_000);
                usize::try_from(jobs).unwrap_or(BUFFER_MAX).min(BUFFER_MAX)
            }
        }
    }
}

//! One pool: its workers, the jobs that it holds, its size and its measurements.
//!
//! - `life`: a worker's life as a table. `worker`: one of them. `hand`: what it holds. `fate`: why it goes. `workers`: they come and go.
//! - `jobs`: what is held under the lease. `gather`: batches on their way. `dispatch`: jobs in. `begin`: which have begun, and
//!   which are not to. `outcomes`: what becomes of them.
//! - `size`: how many workers there should be, and why. `looks`: when its policy looks at jobs that wait. `balance`: so many
//!   there are. `starts`: when the next is forked.
//! - `renewal`: a newer generation takes over.
//! - `measures`: what is measured and counted. `flows`, `rates`: what passes through its queues. `deadlines`: what happens because nothing happened. `picture`: what readers see.

mod balance;
mod begin;
mod deadlines;
mod dispatch;
mod fate;
mod flows;
mod gather;
mod hand;
mod jobs;
mod life;
mod looks;
mod measures;
mod outcomes;
mod picture;
#[cfg(test)]
mod pooled;
mod rates;
mod renewal;
mod size;
mod standstill;
mod starts;
mod stolen;
mod worker;
mod workers;

use std::collections::BTreeMap;

use crate::broker::Backlog;
use crate::config::PoolConfig;
use crate::job::{JobId, PoolName, QueueName};
use crate::policy::memory::{Budget, Occupied, WorkerMemory, cost_of_one_more};
use crate::policy::permits::Permits;
use crate::policy::scaling::wish::ScalingPolicy;
use crate::policy::share::{Member, floor};
use crate::time::Mono;

use super::app::App;
use super::death::KillReason;
use super::permits::HeldPermits;
use super::register::Register;
use super::tally::Tally;
use super::template::Templates;
use super::{Action, Execution, Notice, Now};
use fate::{Expiry, Fate};
use jobs::Jobs;
use life::State;
use looks::Looks;
use measures::Measures;
pub(super) use outcomes::give_back;
pub(super) use size::Occasion;
use size::Size;
use standstill::Standstill;
use starts::Starts;
use worker::Worker;

/// What a pool may use of the fleet around it while something happens.
#[derive(Debug)]
pub(super) struct Context<'a> {
    pub now: Now,
    /// Nobody asked to stop.
    pub running: bool,
    /// What policies wish is told, and not done.
    pub is_dry_run: bool,
    pub app: &'a App,
    pub templates: &'a mut Templates,
    pub register: &'a mut Register,
    pub permits: &'a mut HeldPermits,
    /// What is to be done.
    pub out: &'a mut Vec<Action>,
}

impl Context<'_> {
    fn act(&mut self, action: Action) {
        self.out.push(action);
    }

    fn tell(&mut self, notice: Notice) {
        self.out.push(Action::Notice(notice));
    }
}

/// One pool.
#[derive(Debug)]
pub(super) struct Pool {
    name: PoolName,
    config: PoolConfig,
    /// Claims no jobs until it is resumed.
    paused: bool,
    /// Gone from the settings: drains and is forgotten.
    removed: bool,
    size: Size,
    looks: Looks,
    workers: BTreeMap<u64, Worker>,
    jobs: Jobs,
    measures: Measures,
    starts: Starts,
    standstill: Standstill,
    /// What waits in its queues, as last counted.
    backlog: Backlog,
    /// `max_memory` in bytes, as measured last.
    memory_limit: Option<u64>,
}

impl Pool {
    pub fn new(name: PoolName, config: PoolConfig, now: Now) -> Self {
        Pool {
            name,
            paused: false,
            removed: false,
            size: Size::new(&config, now.mono),
            looks: Looks::new(now.mono),
            workers: BTreeMap::new(),
            jobs: Jobs::new(now.mono),
            measures: Measures::new(config.utilization_window, now.unix),
            starts: Starts::default(),
            standstill: Standstill::default(),
            backlog: Backlog::default(),
            memory_limit: None,
            config,
        }
    }

    /// New settings; limits that `pool scale` changed are overruled by them. `None`: it is gone from the settings.
    pub fn configure(&mut self, config: Option<PoolConfig>, now: Mono) {
        self.removed = config.is_none();
        if let Some(config) = config {
            self.size.configure(&config, now);
            self.measures.set_window(config.utilization_window, now);
            self.config = config;
        }
    }

    /// Another policy than that of the settings.
    pub fn set_policy(&mut self, policy: Box<dyn ScalingPolicy>) {
        self.size.set_policy(policy);
    }

    /// Other queues, until the next settings.
    pub fn change_queues(&mut self, change: impl FnOnce(&mut Vec<QueueName>)) {
        change(&mut self.config.queues);
    }

    // ---- what others ask ----

    /// The settings in force.
    pub fn config(&self) -> &PoolConfig {
        &self.config
    }

    /// The limits of its settings, or what `pool scale` said since.
    pub fn limits(&self) -> (u32, u32) {
        self.size.limits()
    }

    /// Workers wanted.
    pub fn target(&self) -> u32 {
        self.size.target()
    }

    pub fn is_paused(&self) -> bool {
        self.paused
    }

    /// Gone from the settings, and its last worker has left.
    pub fn is_over(&self) -> bool {
        let over = self.removed && self.workers.is_empty() && self.jobs.waiting() == 0;
        assert!(
            !over || self.jobs.len() == 0,
            "jobs of a pool that is over: {:?}",
            self.jobs
        );
        over
    }

    /// Whether it runs jobs: nobody stops, and it is not paused and not on its way out.
    pub fn serves(&self, running: bool) -> bool {
        running && !self.paused && !self.removed
    }

    /// Has no workers, and would run jobs if it had some.
    pub fn is_asleep(&self) -> bool {
        self.size.target() == 0 && !self.paused && !self.removed
    }

    /// Nobody is there any more.
    pub fn is_empty(&self) -> bool {
        self.workers.is_empty()
    }

    /// A job in hand.
    pub fn execution(&self, execution: u64) -> Option<&Execution> {
        self.jobs.get(execution)
    }

    /// Jobs held under the lease.
    pub fn in_hand(&self) -> usize {
        self.jobs.len()
    }

    /// Whether any job is in hand; after-work is none.
    pub fn has_jobs(&self) -> bool {
        self.jobs.has_jobs()
    }

    /// Whether jobs wait at hand that no worker has room for.
    pub fn is_behind(&self) -> bool {
        self.jobs.is_behind()
    }

    /// Jobs due later, as last counted.
    pub fn scheduled(&self) -> u64 {
        self.backlog.scheduled
    }

    /// The job that a worker runs now.
    pub fn running_job(&self, worker: u64) -> Option<&Execution> {
        self.jobs.get(self.workers.get(&worker)?.running()?)
    }

    /// A worker's ordinal; 0 while it has none.
    pub fn ordinal_of(&self, worker: u64) -> u16 {
        self.workers.get(&worker).map_or(0, Worker::ordinal)
    }

    /// Its workers that have a process, with its id.
    pub fn pids(&self) -> impl Iterator<Item = (u64, i32, Occupied)> {
        let pid = |(id, worker): (&u64, &Worker)| Some((*id, worker.pid()?, *worker.occupied()));
        self.workers.iter().filter_map(pid)
    }

    /// What was counted.
    pub fn tally(&self) -> &Tally {
        self.measures.tally()
    }

    /// Workers that make up its size.
    pub fn counted(&self) -> usize {
        self.workers.values().filter(|worker| worker.counted()).count()
    }

    /// The execution of this job; of several the one that runs.
    pub fn execution_of(&self, job: &JobId) -> Option<u64> {
        let is_it = |execution: &u64| self.jobs.held(*execution).job.id == *job;
        let mut workers = self.workers.values();
        let running = workers.find_map(|worker| worker.hand()?.running().find(is_it));
        running.or_else(|| self.jobs.find(job))
    }

    /// A worker printed a line. Returns the job that it runs.
    pub fn printed(&mut self, worker: u64) -> Option<&Execution> {
        let running = self.workers.get(&worker)?.running()?;
        let job = self.jobs.get(running)?;
        self.measures.prints(&job.job.task);
        Some(job)
    }

    // ---- memory ----

    /// Workers that it may always have.
    pub fn floor(&self) -> u32 {
        if self.removed {
            return 0;
        }
        let (min, max) = self.size.limits_now();
        floor(min, max, self.config.reserve_workers)
    }

    /// Its floor if its limits were these.
    pub fn floor_with(&self, limits: (u32, u32)) -> u32 {
        let (min, max) = self.size.at_this_time(limits);
        floor(min, max, self.config.reserve_workers)
    }

    /// Permits that each of its workers takes.
    pub fn permits(&self) -> &Permits {
        &self.config.permits
    }

    /// Takes note of what one of its workers occupies.
    pub fn weigh(&mut self, worker: u64, occupied: Occupied) {
        if let Some(worker) = self.workers.get_mut(&worker) {
            worker.weigh(occupied);
        }
    }

    /// `max_memory` in bytes on this host.
    pub fn limit_memory(&mut self, limit: Option<u64>) {
        self.memory_limit = limit;
    }

    /// What its workers weigh that have run jobs: by it one more is reckoned.
    fn weighed(&self) -> impl Iterator<Item = WorkerMemory> {
        let known = |worker: &&Worker| worker.counted() && worker.occupied().private > 0;
        self.workers.values().filter(known).map(|worker| WorkerMemory {
            private: worker.occupied().private,
            jobs: worker.jobs(),
        })
    }

    /// What one more worker of these pools is thought to add, in bytes; `None`: none has run a job.
    pub fn cost_of_one_more<'a>(pools: impl Iterator<Item = &'a Pool>) -> Option<u64> {
        let weighed: Vec<WorkerMemory> = pools.flat_map(Pool::weighed).collect();
        cost_of_one_more(&weighed)
    }

    /// As it counts for the other pools; `cost`: of one more worker.
    pub fn member(&self, cost: u64) -> Member {
        let private = self
            .workers
            .values()
            .map(|worker| worker.occupied().private)
            .sum();
        Member {
            floor: self.floor(),
            target: if self.removed { 0 } else { self.size.target() },
            workers: u32::try_from(self.counted()).unwrap_or(u32::MAX),
            cost,
            private,
        }
    }

    /// What its workers occupy.
    pub fn pss(&self) -> u64 {
        self.workers.values().map(|worker| worker.occupied().pss).sum()
    }

    /// Its memory, of which `used` is taken; `cost`: of one more worker. What is wanted already and was not weighed yet
    /// counts as if it had run jobs: after a reload that is all of the pool.
    pub fn budget(&self, used: u64, cost: u64) -> Budget {
        let weighed = self.weighed().count() as u64;
        let to_come = u64::from(self.size.target()).saturating_sub(weighed);
        Budget {
            used,
            limit: self.memory_limit,
            kept: to_come.saturating_mul(cost),
            cost,
        }
    }

    // ---- commands ----

    /// Claims no jobs from now on, or claims again.
    pub fn pause(&mut self, paused: bool, cx: &mut Context) {
        self.paused = paused;
        if paused {
            self.give_back_waiting(cx);
            self.take_back_unread(cx);
        }
        self.balance(cx);
    }

    /// Nobody is to work here any more: what does not run goes back, and the idle leave.
    pub fn drain(&mut self, cx: &mut Context) {
        assert!(!cx.running, "only a stop drains");
        self.give_back_waiting(cx);
        self.take_back_unread(cx);
        let idle = |(id, worker): (&u64, &Worker)| {
            matches!(worker.state(), State::Starting | State::Idle).then_some(*id)
        };
        for id in self.workers.iter().filter_map(idle).collect::<Vec<_>>() {
            self.retire(id, "stopping", cx);
        }
    }

    /// Kills what still runs; its jobs go back to the front of their queues.
    pub fn interrupt(&mut self, cx: &mut Context) {
        for id in self.workers.keys().copied().collect::<Vec<_>>() {
            self.kill(id, KillReason::Stopping, Fate::GivenBack, cx);
        }
    }

    /// Takes back what workers hold beyond what they run.
    fn take_back_unread(&self, cx: &mut Context) {
        for (id, worker) in &self.workers {
            if worker.state() == State::Busy && worker.prefetched() > 0 {
                cx.act(Action::TakeBack { worker: *id });
            }
        }
    }

    /// Kills a worker that runs a job. Returns whether it does.
    pub fn kill_busy(&mut self, worker: u64, cx: &mut Context) -> bool {
        let is_busy = self
            .workers
            .get(&worker)
            .is_some_and(|worker| worker.state() == State::Busy);
        if is_busy {
            self.kill(worker, KillReason::Asked, Fate::Lost, cx);
        }
        is_busy
    }

    /// A worker sent what is no frame.
    pub fn broke_protocol(&mut self, worker: u64, error: String, cx: &mut Context) {
        self.kill(worker, KillReason::Protocol(error), Fate::Lost, cx);
    }

    /// Lets a worker finish its job, then replaces it.
    pub fn replace_worker(&mut self, worker: u64, cx: &mut Context) {
        self.close(worker, Expiry::Asked, cx);
        self.fell_idle(worker, cx);
        self.balance(cx);
    }

    // ---- time ----

    /// When something is due even if nothing happens.
    pub fn deadline(&self) -> Option<Mono> {
        let workers = self.workers.values();
        let workers = workers.filter_map(|worker| self.worker_deadline(worker).map(|(at, _)| at));
        workers
            .chain(self.jobs.deadline())
            .chain(self.starts.deadline())
            .chain(self.look_deadline())
            .min()
    }

    /// Everything that is due by now.
    pub fn tick(&mut self, cx: &mut Context) {
        self.tick_workers(cx);
        let stale = self.jobs.take_stale(cx.now.mono);
        self.give_back(stale, cx);
        self.dispatch(cx);
        if self.starts.may_again(cx.now.mono) {
            self.balance(cx);
        }
        self.look_if_left_waiting(cx);
    }

    /// Looks at its workers' age and size, by the rules that hold now.
    pub fn wear_out_all(&mut self, cx: &mut Context) {
        for id in self.workers.keys().copied().collect::<Vec<_>>() {
            self.wear_out(id, cx);
        }
    }

    /// Takes in what waits. At the end of a scaling period it looks at its workers' age and size too.
    pub fn measured(&mut self, occasion: Occasion, backlog: Option<Backlog>, cx: &mut Context) {
        if let Some(backlog) = backlog {
            self.backlog = backlog;
            self.looks.counted();
        }
        if occasion == Occasion::Look {
            self.looks.answered();
            return;
        }
        let is_busy = self.workers.values().any(|worker| worker.state() == State::Busy);
        let jobs_wait = self.backlog.waiting() > 0 && !self.paused;
        self.standstill
            .look(jobs_wait, is_busy, self.measures.tally().executions());
        self.wear_out_all(cx);
        // Without a worker, halves of a batch are nobody's: others may run their jobs.
        if !self.workers.values().any(Worker::takes_jobs) {
            self.give_back_waiting(cx);
        }
    }
}

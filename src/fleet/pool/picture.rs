//! One pool as readers see it: its part of the snapshot, and of the roster.

use std::sync::Arc;

use crate::broker::{RunningJob, WorkerView};
use crate::fleet::Now;
use crate::fleet::app::App;
use crate::fleet::snapshot::{PoolSnapshot, ProcessSnapshot, TaskSnapshot};
use crate::fleet::tally::{REST, TaskTally};
use crate::job::{Token, Work};
use crate::time::{Mono, Unix};

use super::Pool;
use super::fate::Expiry;
use super::hand::Hand;
use super::life::State;
use super::worker::Worker;

impl Pool {
    /// What the limit comes from, unless `pool scale` said another one since.
    fn max_from(&self, max: u32) -> Option<String> {
        let from = self
            .config
            .max_workers_from
            .filter(|_| max == self.config.max_workers);
        from.map(|from| from.to_string())
    }

    /// The picture at `now`; `kept_bytes`: memory that the others leave it.
    pub fn snapshot(&self, kept_bytes: u64, app: &App, now: Now) -> PoolSnapshot {
        let (min, max) = self.size.limits_now();
        let tally = self.measures.tally();
        let held: usize = self.workers.values().map(Worker::prefetched).sum();
        let busy = self
            .workers
            .values()
            .filter(|worker| worker.state() == State::Busy);
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        PoolSnapshot {
            queues: self.config.queues.iter().map(ToString::to_string).collect(),
            workers: number(self.counted()),
            busy: number(busy.count()),
            min,
            max,
            max_from: self.max_from(max),
            target: self.size.target(),
            floor: self.floor(),
            kept_bytes,
            paused: self.paused,
            utilization: self.utilization(now.mono),
            waiting: self.backlog.waiting(),
            oldest_waiting_s: self.backlog.oldest_age(now.unix).as_secs_f64(),
            scheduled: self.backlog.scheduled,
            standstill: self.standstill.lasts(),
            ended_last_minute: self.measures.last_minute(now.mono),
            done: tally.sum(|task| task.done),
            failed: tally.sum(|task| task.failed),
            lost: tally.lost(),
            retried: tally.sum(|task| task.retried),
            prefetched: (held + self.jobs.waiting()) as u64,
            gathering: self.jobs.gathering() as u64,
            start_error: self.starts.error().map(str::to_owned),
            taken_back: tally.taken_back.get("stalled").copied().unwrap_or(0),
            threshold: self.config.scaling.threshold(),
            tasks: self.task_snapshots(app),
            last_decision: self.size.last_decision().cloned(),
            processes: self
                .workers
                .iter()
                .map(|(id, worker)| self.process_snapshot(*id, worker, now))
                .collect(),
        }
    }

    /// What it knows of its tasks.
    fn task_snapshots(&self, app: &App) -> Vec<TaskSnapshot> {
        let expected = |task: &Arc<str>| self.measures.service().expected(task);
        let shown = |(task, tally): (Option<&Arc<str>>, &TaskTally)| TaskSnapshot {
            task: task.map_or(REST, |task| task).to_owned(),
            done: tally.done,
            failed: tally.failed,
            retried: tally.retried,
            service_s: task.and_then(|task| Some(expected(task)?.as_secs_f64())),
            depth: task.map(|task| self.depth(task, app)),
            sent_ahead: tally.sent_ahead,
            batches: tally.batches.count(),
            // Whole numbers, far below where a float skips one.
            batch_jobs: tally.batches.sum() as u64,
        };
        self.measures.tally().tasks.iter().map(shown).collect()
    }

    fn process_snapshot(&self, id: u64, worker: &Worker, now: Now) -> ProcessSnapshot {
        let job = self.running_job(id);
        let busy_since = worker.hand().filter(|_| worker.state() == State::Busy);
        let since = busy_since.map_or(worker.since(), Hand::since);
        let occupied = worker.occupied();
        ProcessSnapshot {
            worker: id,
            pid: worker.pid(),
            generation: worker.generation(),
            state: worker.state_name().into(),
            job: job.map(|job| job.job.id.to_string()),
            task: job.map(|job| job.job.task.to_string()),
            since_s: now.mono.since(since).as_secs_f64(),
            jobs: worker.jobs(),
            held: worker.prefetched() as u64,
            batch: worker.hand().map_or(0, Hand::batch) as u64,
            pss_bytes: occupied.pss,
            shared_bytes: occupied.shared,
            private_bytes: occupied.private,
            private_anonymous_bytes: occupied.parts.anonymous,
            private_heap_bytes: occupied.parts.heap,
            private_other_bytes: occupied.parts.other,
        }
    }

    /// Its workers as the broker shows them to others: all that serve, or did, and are ready.
    pub fn roster(&self, running: bool, now: Now) -> impl Iterator<Item = WorkerView> {
        let shown = move |(id, worker): (&u64, &Worker)| self.view(*id, worker, running, now);
        self.workers.iter().filter_map(shown)
    }

    fn view(&self, id: u64, worker: &Worker, running: bool, now: Now) -> Option<WorkerView> {
        if worker.is_spare() {
            return None;
        }
        let unix = |at: Mono| {
            let ago = i64::try_from(now.mono.since(at).as_millis()).unwrap_or(0);
            Unix(now.unix.0.saturating_sub(ago))
        };
        // What the broker asked for itself is nobody's job.
        let execution = worker.running();
        let job = execution.and_then(|number| Some((Token(number), self.jobs.get(number)?)));
        let job = job.filter(|(_, job)| job.job.work == Work::Job);
        let is_asked = worker.expiry() == Some(Expiry::Asked) || !running;
        Some(WorkerView {
            worker: id,
            ordinal: worker.ordinal(),
            pid: worker.pid()?,
            pool: self.name.clone(),
            queues: self.config.queues.clone(),
            asked: is_asked && job.is_some(),
            job: job.zip(worker.hand()).map(|((token, job), hand)| RunningJob {
                token,
                job: job.job.id.clone(),
                started: unix(hand.since()),
            }),
            paused: self.paused,
            leaving: worker.is_closing() || worker.state() == State::Retiring,
            born: unix(worker.ready()?),
        })
    }
}

//! The fleet as [`Snapshot`]: what `status` and the logs show.

use crate::broker::{RunningJob, WorkerView};
use crate::job::Work;
use crate::policy::shutdown::Stop;
use crate::time::{Mono, Unix};

use super::pool::worker::{Expiry, State, Worker};
use super::snapshot::{PoolSnapshot, ProcessSnapshot, Snapshot};
use super::{Fleet, Now};

impl Fleet {
    /// The picture at `now`; the supervisor adds what only it knows (its process id, the broker).
    pub fn snapshot(&self, now: Now) -> Snapshot {
        Snapshot {
            state: self.state_name().into(),
            generation: self.templates.loaded().unwrap_or(0),
            load_error: self.templates.load_error().map(str::to_owned),
            pss_bytes: self.totals.memory_used,
            max_total_bytes: self.totals.memory,
            max_total_workers: self.totals.workers,
            pools: self
                .pools
                .keys()
                .map(|name| (name.to_string(), self.pool_snapshot(name, now)))
                .collect(),
            ..Snapshot::default()
        }
    }

    /// The workers as the broker shows them to others: all that serve and are ready.
    pub fn roster(&self, now: Now) -> Vec<WorkerView> {
        let unix = |at: Mono| {
            Unix(
                now.unix
                    .0
                    .saturating_sub(i64::try_from(now.mono.since(at).as_millis()).unwrap_or(0)),
            )
        };
        let shown = self
            .workers
            .iter()
            .filter(|(_, worker)| worker.ordinal != 0)
            .filter_map(|(id, worker)| {
                let pool = self.pools.get(&worker.pool)?;
                // What the broker asked for itself is nobody's job.
                let job = self.running_job(*id).filter(|job| job.claimed.work == Work::Job);
                let asked = worker.expiring == Some(Expiry::Asked) || !self.running();
                let asked = asked && job.is_some();
                let job = job.map(|job| RunningJob {
                    claim: job.claimed.claim.clone(),
                    started: unix(worker.running_since),
                });
                Some(WorkerView {
                    worker: *id,
                    ordinal: worker.ordinal,
                    pid: worker.pid?,
                    pool: worker.pool.clone(),
                    queues: pool.config.queues.clone(),
                    job,
                    paused: pool.paused,
                    leaving: worker.closing || worker.state == State::Retiring,
                    asked,
                    born: unix(worker.ready?),
                })
            });
        shown.collect()
    }

    fn state_name(&self) -> &'static str {
        match self.stop {
            Stop::Draining { .. } => "draining",
            Stop::Killing { .. } | Stop::Leaving => "stopping",
            Stop::Running if self.templates.loaded().is_none() => "starting",
            Stop::Running if self.pools.values().all(|pool| pool.paused) => "paused",
            Stop::Running => "running",
        }
    }

    fn pool_snapshot(&self, name: &crate::job::PoolName, now: Now) -> PoolSnapshot {
        let Some(pool) = self.pools.get(name) else {
            return PoolSnapshot::default();
        };
        let workers = || self.workers.iter().filter(|(_, worker)| worker.pool == *name);
        let count = |of: &dyn Fn(&Worker) -> bool| {
            u32::try_from(workers().filter(|(_, worker)| of(worker)).count()).unwrap_or(u32::MAX)
        };
        let held: usize = workers().map(|(_, worker)| worker.prefetched()).sum();
        PoolSnapshot {
            queues: pool.config.queues.iter().map(ToString::to_string).collect(),
            workers: count(&Worker::counted),
            busy: count(&|worker| worker.state == State::Busy),
            min: pool.min,
            max: pool.max,
            target: pool.target,
            floor: pool.floor(),
            kept_bytes: self.kept_for(name, pool),
            paused: pool.paused,
            utilization: pool.meter.utilization(now.mono),
            waiting: pool.backlog.waiting,
            oldest_waiting_s: pool.backlog.oldest_age(now.unix).as_secs_f64(),
            scheduled: pool.backlog.scheduled,
            done: pool.tally.sum(|task| task.done),
            failed: pool.tally.sum(|task| task.failed),
            lost: pool.tally.lost(),
            retried: pool.tally.sum(|task| task.retried),
            prefetched: (held + pool.buffer.len() + pool.batches.jobs()) as u64,
            gathering: pool.batches.jobs() as u64,
            taken_back: pool.tally.taken_back.get("stalled").copied().unwrap_or(0),
            threshold: pool.config.utilization_threshold,
            tasks: self.task_snapshots(pool),
            last_decision: pool.last_decision.clone(),
            processes: workers()
                .map(|(id, worker)| self.process_snapshot(*id, worker, now))
                .collect(),
        }
    }

    fn process_snapshot(&self, id: u64, worker: &Worker, now: Now) -> ProcessSnapshot {
        let job = self.running_job(id);
        let since = if worker.state == State::Busy {
            worker.running_since
        } else {
            worker.since
        };
        ProcessSnapshot {
            worker: id,
            pid: worker.pid,
            generation: worker.generation,
            state: worker.state_name().into(),
            job: job.map(|job| job.claimed.claim.job.to_string()),
            task: job.map(|job| job.claimed.task.to_string()),
            since_s: now.mono.since(since).as_secs_f64(),
            jobs: worker.jobs,
            held: worker.prefetched() as u64,
            batch: worker.batch as u64,
            pss_bytes: worker.pss_bytes,
            private_bytes: worker.private_bytes,
        }
    }
}

//! Batches: which tasks have them, who gets the next one, what becomes of one that failed as a whole.
//!
//! A batch travels alone, to an idle worker, and from then on its jobs share one fate until the worker answers for
//! each of them: they begin together, they run under one deadline, and none of them is taken back without the others.

use std::time::Duration;

use crate::config::{BATCH_SIZE_MAX, RuntimeKind};
use crate::job::{Claimed, Outcome, PoolName};
use crate::policy::recycle;
use crate::time::Mono;

use super::gather::{self, Rule};
use super::outcomes::stamp;
use super::worker::{Held, Step, Worker};
use crate::fleet::{Action, Fleet, Notice, Now};

/// How long a batch waits to fill where neither code nor settings say.
const LINGER: Duration = Duration::from_millis(50);

impl Fleet {
    /// How jobs of this task are gathered; `None`: they run one by one. The settings win over the code.
    fn batch_rule(&self, job: &Claimed) -> Option<Rule> {
        if !job.batches {
            return None;
        }
        let set = self.tasks.get(&job.task);
        let declared = self.declared_batches.get(&*job.task);
        let size = self.batch_size(&job.task)?;
        let linger = set
            .and_then(|set| set.batch_linger)
            .or(declared.map(|declared| Duration::from_millis(declared.linger_ms.into())));
        Some(Rule {
            size: size as usize,
            linger: linger.unwrap_or(LINGER),
            split: set.is_some_and(|set| set.batch_split),
        })
    }

    /// Most jobs that one call of this task gets; `None`: it has no batches.
    pub(in crate::fleet) fn batch_size(&self, task: &str) -> Option<u32> {
        // A process for each job has no use for a batch, and a program runs one job.
        if self.fresh() || self.app.runtime == RuntimeKind::Command {
            return None;
        }
        let set = self.tasks.get(task).and_then(|set| set.batch_size);
        let declared = || self.declared_batches.get(task).map(|declared| declared.size);
        let size = set.or_else(declared)?;
        (size > 1).then(|| size.min(BATCH_SIZE_MAX))
    }

    /// Puts a job that was claimed where it waits for its worker.
    pub(in crate::fleet) fn line_up(&mut self, name: &PoolName, execution: u64, now: Now) {
        let Some(job) = self
            .executions
            .get(&execution)
            .map(|execution| &execution.claimed)
        else {
            return;
        };
        let (rule, task) = (self.batch_rule(job), job.task.clone());
        let failed_before = job.failures + job.losses > 0;
        let Some(pool) = self.pools.get_mut(name) else {
            return;
        };
        match rule {
            None => {
                if pool.buffer.is_empty() {
                    pool.buffer_moved = now.mono;
                }
                pool.buffer.push_back(execution);
            }
            // It was found to be at fault: alone, it costs no other job another run.
            Some(rule) if rule.split && failed_before => pool.batches.put_back(vec![execution]),
            Some(rule) => pool.batches.gather(&task, rule, execution, now.mono),
        }
    }

    /// Sends the next batch to an idle worker. Returns false when there is none.
    pub(in crate::fleet) fn send_batch(&mut self, name: &PoolName, now: Now, out: &mut Vec<Action>) -> bool {
        let Some(id) = self.idle_worker(name) else {
            return false;
        };
        let rules = self.recycle_rules(name);
        let left = recycle::jobs_left(&rules, self.workers[&id].assigned);
        let Some(pool) = self.pools.get_mut(name) else {
            return false;
        };
        let most = usize::try_from(left).unwrap_or(usize::MAX);
        let jobs = pool.batches.take(most, now.mono);
        if jobs.is_empty() || !self.step(id, Step::Assigned, now, out) {
            return false;
        }
        self.share_deadline(&jobs);
        let expected = self
            .executions
            .get(&jobs[0])
            .zip(self.pools.get(name))
            .and_then(|(job, pool)| pool.service.expected(&job.claimed.task));
        let Some(worker) = self.workers.get_mut(&id) else {
            return false;
        };
        worker.begin_holding(now.mono);
        worker.assigned += jobs.len() as u64;
        worker.batch = if jobs.len() > 1 { jobs.len() } else { 0 };
        worker.held.extend(jobs.iter().map(|execution| Held {
            execution: *execution,
            expected,
            alone: true,
        }));
        if let Some(pool) = self.pools.get_mut(name) {
            pool.meter.job_started(id, now.mono);
            if let Some(first) = self.executions.get(&jobs[0]) {
                let task = pool.tally.tasks.at(&first.claimed.task);
                task.batches.record(jobs.len() as f64);
            }
        }
        out.push(Action::SendBatch {
            worker: id,
            executions: jobs,
        });
        self.mark_expiring(id, now);
        true
    }

    /// The jobs of a batch run as long as the one of them that may run longest.
    fn share_deadline(&mut self, jobs: &[u64]) {
        let mut longest = Some(Duration::ZERO);
        for job in jobs.iter().filter_map(|job| self.executions.get(job)) {
            longest = longest
                .zip(self.timeout_of(&job.pool, &job.claimed))
                .map(|(a, b)| a.max(b));
        }
        for job in jobs {
            if let Some(execution) = self.executions.get_mut(job) {
                execution.timeout = longest;
            }
        }
    }

    /// Whether this outcome speaks of the whole batch, which is then to run again in halves.
    pub(in crate::fleet) fn fails_its_batch(
        &self,
        worker: &Worker,
        execution: u64,
        outcome: &Outcome,
        whole: bool,
    ) -> bool {
        let of_batch = match outcome {
            Outcome::Failure { .. } => whole,
            // One deadline and one process for all.
            Outcome::TimedOut { .. } | Outcome::Lost { .. } => true,
            Outcome::Success(_)
            | Outcome::Retry { .. }
            | Outcome::GivenBack
            | Outcome::Stopped
            | Outcome::Settled => false,
        };
        let task = self.executions.get(&execution).map(|job| &job.claimed.task);
        let task = task.and_then(|task| self.tasks.get(task));
        worker.batch > 0 && of_batch && task.is_some_and(|task| task.batch_split)
    }

    /// Jobs of one batch failed together: they run again in two halves, and nothing is counted against them.
    pub(in crate::fleet) fn split(
        &mut self,
        name: &PoolName,
        jobs: Vec<u64>,
        error: String,
        out: &mut Vec<Action>,
    ) {
        let Some(task) = jobs
            .first()
            .and_then(|first| self.executions.get(first))
            .map(|job| job.claimed.task.clone())
        else {
            return;
        };
        let Some(pool) = self.pools.get_mut(name) else {
            return;
        };
        out.push(Action::Notice(Notice::BatchSplit {
            pool: name.clone(),
            task,
            jobs: jobs.len(),
            error,
        }));
        pool.tally.splits += 1;
        let (first, second) = gather::halves(jobs);
        pool.batches.put_back(second);
        pool.batches.put_back(first);
    }

    /// A worker with a batch died: what it had not read goes again as it was, else all of it had begun.
    pub(in crate::fleet) fn batch_exited(
        &mut self,
        id: u64,
        mut worker: Worker,
        unread: &[u64],
        (how, status): (&str, Option<i32>),
        now: Now,
        out: &mut Vec<Action>,
    ) {
        let name = worker.pool.clone();
        let jobs: Vec<u64> = worker.held.drain(..).map(|held| held.execution).collect();
        if worker.torn || jobs.iter().any(|job| unread.contains(job)) {
            if let Some(pool) = self.pools.get_mut(&name) {
                pool.tally.took_back(jobs.len(), "death");
                pool.batches.put_back(jobs);
            }
            return;
        }
        let run = stamp(
            (id, worker.ordinal),
            (worker.running_since, now.mono),
            status,
            now,
        );
        let mut together = std::mem::take(&mut worker.failed_together);
        for job in jobs {
            let outcome = self.outcome_of_death(&worker, job, how);
            if self.fails_its_batch(&worker, job, &outcome, true) {
                together.push(job);
            } else {
                self.settle(job, outcome, Some(run), now, out);
            }
        }
        self.split(&name, together, how.to_owned(), out);
    }

    /// Jobs that no worker took for too long go back to their queue, and batches that have lingered are sent.
    pub(in crate::fleet) fn tick_batches(&mut self, name: &PoolName, now: Now, out: &mut Vec<Action>) {
        let Some(pool) = self.pools.get_mut(name) else {
            return;
        };
        let stale = pool.batches.tick(now.mono);
        let waiting = pool.batches.next().is_some();
        self.give_back_all(stale, out);
        if waiting {
            self.dispatch(name, now, out);
        }
    }

    /// Without a worker, halves of a batch are nobody's: others may run their jobs.
    pub(in crate::fleet) fn give_back_stranded(&mut self, name: &PoolName, out: &mut Vec<Action>) {
        let mut workers = self.workers.values().filter(|worker| worker.pool == *name);
        if !workers.any(Worker::takes_jobs) {
            self.give_back_buffer(name, out);
        }
    }
}

impl Worker {
    /// It is about to get its first job since it fell idle.
    pub(in crate::fleet) fn begin_holding(&mut self, now: Mono) {
        self.running_since = now;
        self.stalled = false;
        self.unread_checked = false;
        self.batch = 0;
    }
}

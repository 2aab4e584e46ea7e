//! Outcomes out: what becomes of a job that ended, and of one that did not begin.

use crate::job::{Claimed, JobError, Outcome, PoolName, RunStamp, Settlement, Verdict, Work};
use crate::policy::retry;
use crate::time::{Mono, Unix};

use super::worker::Step;
use crate::fleet::death::KillReason;
use crate::fleet::{Action, Fleet, Notice, Now, PICKUP_LIMIT, Unread};

impl Fleet {
    /// A worker says that a job ended.
    pub(in crate::fleet) fn done(
        &mut self,
        id: u64,
        execution: u64,
        (started, ended): (Mono, Mono),
        (outcome, whole_batch): (Outcome, bool),
        now: Now,
        out: &mut Vec<Action>,
    ) {
        let runs = self.workers.get(&id).and_then(|worker| worker.held.front());
        if runs.map(|held| held.execution) != Some(execution) {
            out.push(Action::Notice(Notice::StrayOutcome {
                worker: id,
                execution,
            }));
            // (Of a worker that is gone nothing is left to kill.)
            let what = "an outcome for a job that it does not run".into();
            self.kill(id, KillReason::Protocol(what), now, out);
            return;
        }
        let last = self.workers[&id].held.len() == 1;
        let step = if last { Step::FinishedLast } else { Step::Finished };
        if !self.step(id, step, now, out) {
            return;
        }
        // The worker's stamps are exact, but not trusted beyond what can be true.
        let floor = self
            .workers
            .get(&id)
            .map_or(now.mono, |worker| worker.running_since);
        let ended = ended.clamp(floor, now.mono.max(floor));
        let started = started.clamp(floor, ended);
        let (name, ordinal) = (self.workers[&id].pool.clone(), self.workers[&id].ordinal);
        // What the broker asked for itself says nothing of how long jobs take.
        let job = self
            .executions
            .get(&execution)
            .filter(|job| job.claimed.work == Work::Job);
        if let Some(pool) = self.pools.get_mut(&name) {
            pool.meter.job_ended(id, started, ended, now.mono);
            if let Some(job) = job {
                pool.ran(&job.claimed, (started, ended), now);
            }
        }
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.held.pop_front();
            worker.jobs += 1;
            worker.suspect = false;
            worker.stalled = false;
            worker.unread_checked = false;
            worker.running_since = ended;
        }
        if !last && let Some(pool) = self.pools.get_mut(&name) {
            pool.meter.job_started(id, ended);
        }
        let run = stamp((id, ordinal), (started, ended), None, now);
        self.answered(id, execution, (outcome, whole_batch), run, now, out);
        if last {
            self.fell_idle(id, now, out);
        }
        self.dispatch(&name, now, out);
    }

    /// Settles a job that its worker has answered for, unless it runs again with its batch.
    fn answered(
        &mut self,
        id: u64,
        execution: u64,
        (outcome, whole_batch): (Outcome, bool),
        run: RunStamp,
        now: Now,
        out: &mut Vec<Action>,
    ) {
        let fails = self
            .workers
            .get(&id)
            .is_some_and(|worker| self.fails_its_batch(worker, execution, &outcome, whole_batch));
        let error = match (&outcome, fails) {
            (Outcome::Failure { error, .. }, true) => error.to_string(),
            _ => "it ran past its timeout".to_owned(),
        };
        if !fails {
            self.settle(execution, outcome, Some(run), now, out);
        }
        let Some(worker) = self.workers.get_mut(&id) else {
            return;
        };
        if fails {
            worker.failed_together.push(execution);
        }
        if worker.held.is_empty() && !worker.failed_together.is_empty() {
            let (name, jobs) = (worker.pool.clone(), std::mem::take(&mut worker.failed_together));
            self.split(&name, jobs, error, out);
        }
    }

    /// Unread jobs came back from a worker: they go first again.
    pub(in crate::fleet) fn taken_back(&mut self, id: u64, unread: &Unread, now: Now, out: &mut Vec<Action>) {
        let Some(worker) = self.workers.get_mut(&id) else {
            return;
        };
        let holds = |execution: &u64| worker.held.iter().any(|held| held.execution == *execution);
        let executions: Vec<u64> = unread.executions.iter().copied().filter(holds).collect();
        let part_of_batch = worker.batch > 0 && executions.len() < worker.held.len();
        if unread.torn || part_of_batch && !executions.is_empty() {
            // It reads all of a job, and of a batch, before it begins: it never will.
            worker.torn = true;
            let what = if worker.batch > 0 { "batch" } else { "job" };
            self.kill(id, KillReason::UnreadRest(what), now, out);
            return;
        }
        if executions.is_empty() {
            return;
        }
        let whole_batch = worker.batch > 0;
        let unread = worker
            .held
            .front()
            .is_some_and(|held| executions.contains(&held.execution));
        worker.held.retain(|held| !executions.contains(&held.execution));
        worker.assigned = worker.assigned.saturating_sub(executions.len() as u64);
        let name = worker.pool.clone();
        let last = worker.held.is_empty();
        if last && let Some(pool) = self.pools.get_mut(&name) {
            pool.meter.job_withdrawn(id);
        }
        self.step(
            id,
            if last {
                Step::TakenBackLast
            } else {
                Step::TakenBack
            },
            now,
            out,
        );
        let running = self.running();
        if let Some(pool) = self.pools.get_mut(&name) {
            let reason = match (running, pool.paused) {
                (false, _) => "stop",
                (true, true) => "pause",
                (true, false) if unread => "unread",
                (true, false) => "stalled",
            };
            pool.tally.took_back(executions.len(), reason);
            pool.put_back(&executions, whole_batch, now.mono);
        }
        if unread {
            self.unread(id, now, out);
        }
        self.dispatch(&name, now, out);
        if last && !self.running() {
            self.fell_idle(id, now, out);
        }
    }

    /// A worker has not begun the job that it is thought to run. On a busy machine it may only not have had its
    /// turn: so it gets one job more, alone, and is killed when that lies unread for too long.
    fn unread(&mut self, id: u64, now: Now, out: &mut Vec<Action>) {
        let Some(worker) = self.workers.get_mut(&id) else {
            return;
        };
        if now.mono.since(worker.running_since) >= PICKUP_LIMIT {
            self.kill(id, KillReason::Unread, now, out);
        } else {
            worker.suspect = true;
        }
    }

    /// Decides what becomes of a job and forgets its execution.
    pub(in crate::fleet) fn settle(
        &mut self,
        execution: u64,
        outcome: Outcome,
        run: Option<RunStamp>,
        now: Now,
        out: &mut Vec<Action>,
    ) {
        let Some(job) = self.executions.remove(&execution) else {
            return;
        };
        let Some(pool) = self.pools.get_mut(&job.pool) else {
            out.push(Action::Settle(give_back(&job.claimed)));
            return;
        };
        let retry = &pool.config.retry;
        let task = self.tasks.get(&job.claimed.task);
        let rules = retry::Rules {
            retries: job
                .claimed
                .retries
                .or(task.and_then(|task| task.retries))
                .unwrap_or(retry.retries),
            backoff: retry.backoff,
            backoff_max: retry.backoff_max,
            max_worker_losses: retry.max_worker_losses,
        };
        pool.tally.ended(&outcome);
        let verdict = retry::verdict(&job.claimed, outcome, &rules, now.unix, self.rng.f64());
        let failed = |error: &JobError, dead: bool, due: Option<Unix>| {
            Action::Notice(Notice::JobFailed {
                job: job.claimed.claim.clone(),
                pool: job.pool.clone(),
                task: job.claimed.task.clone(),
                error: error.to_string(),
                dead,
                retry_in: due.map(|due| due.since(now.unix)),
            })
        };
        match &verdict {
            _ if job.claimed.work == Work::After => {}
            Verdict::Finish { .. } | Verdict::Forget => pool.tally.tasks.at(&job.claimed.task).done += 1,
            Verdict::Requeue {
                error: Some(error),
                due,
                ..
            } => {
                pool.tally.tasks.at(&job.claimed.task).retried += 1;
                out.push(failed(error, false, *due));
            }
            Verdict::Requeue { error: None, .. } => {}
            Verdict::Bury { error, .. } => {
                pool.tally.tasks.at(&job.claimed.task).failed += 1;
                out.push(failed(error, true, None));
            }
        }
        out.push(Action::Settle(Settlement {
            claim: job.claimed.claim,
            verdict,
            run,
        }));
    }

    /// Everything that was claimed and not sent goes back to its queue.
    pub(in crate::fleet) fn give_back_buffer(&mut self, name: &PoolName, out: &mut Vec<Action>) {
        let Some(pool) = self.pools.get_mut(name) else {
            return;
        };
        let mut jobs: Vec<u64> = std::mem::take(&mut pool.buffer).into();
        jobs.extend(pool.batches.clear());
        jobs.sort_unstable();
        self.give_back_all(jobs, out);
    }

    /// Jobs that did not begin go back to their queue, in their order.
    pub(in crate::fleet) fn give_back_all(&mut self, jobs: Vec<u64>, out: &mut Vec<Action>) {
        // Each goes to the front of its queue: the last one first keeps their order.
        for execution in jobs.into_iter().rev() {
            if let Some(job) = self.executions.remove(&execution) {
                out.push(Action::Settle(give_back(&job.claimed)));
            }
        }
    }
}

/// Back to the front of its queue, as if it had not been claimed.
pub(in crate::fleet) fn give_back(job: &Claimed) -> Settlement {
    Settlement {
        claim: job.claim.clone(),
        verdict: Verdict::Requeue {
            due: None,
            at_front: true,
            failures: job.failures,
            losses: job.losses,
            error: None,
        },
        run: None,
    }
}

/// Who ran what when, by the clock that records.
pub(in crate::fleet) fn stamp(
    (worker, ordinal): (u64, u16),
    (started, ended): (Mono, Mono),
    death: Option<i32>,
    now: Now,
) -> RunStamp {
    let ago = |at: Mono| i64::try_from(now.mono.since(at).as_millis()).unwrap_or(i64::MAX);
    RunStamp {
        worker,
        ordinal,
        death,
        started: Unix(now.unix.0.saturating_sub(ago(started))),
        ended: Unix(now.unix.0.saturating_sub(ago(ended))),
    }
}

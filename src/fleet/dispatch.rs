//! Jobs in, outcomes out: the buffer, who gets the next job, what becomes of it.

use std::time::Duration;

use crate::config::{Prefetch, TaskConfig};
use crate::job::{Claimed, JobError, Outcome, PoolName, RunStamp, Settlement, Verdict};
use crate::policy::prefetch;
use crate::policy::recycle;
use crate::policy::retry;
use crate::time::{Mono, Unix};
use crate::wire::frame::{HEADER_LEN, PACKET_LEN_MAX, Run};

use super::death::KillReason;
use super::worker::{Expiry, Held, State, Step, step};
use super::{Action, Execution, Fleet, Notice, Now, PICKUP_LIMIT, Unread};

impl Fleet {
    /// How many jobs to claim for a pool now; 0: none.
    pub fn wants(&self, name: &PoolName) -> usize {
        let Some(pool) = self.pools.get(name) else {
            return 0;
        };
        if !self.serves(name) {
            return 0;
        }
        let mut workers = 0;
        let mut idle = 0;
        let mut room = 0;
        let surplus = self.counted(name) > pool.target as usize;
        let capacity = prefetch::room(
            pool.config.prefetch,
            &prefetch::Held::NOTHING,
            pool.service.typical(),
        );
        let capacity = if surplus { 1 } else { capacity as usize };
        for worker in self
            .workers
            .values()
            .filter(|worker| worker.pool == *name && worker.takes_jobs())
        {
            workers += 1;
            idle += usize::from(worker.state == State::Idle);
            room += capacity.saturating_sub(worker.held.len());
        }
        let wanted = pool.buffer_wanted(workers);
        let ready = pool.buffer.len() + pool.batches.ready_jobs();
        let missing = pool.batches.missing();
        // Half a buffer is enough as long as nobody stands idle: claims stay few and large.
        if missing == 0 && idle <= ready && ready > wanted / 2 {
            return 0;
        }
        (room + wanted + missing).saturating_sub(ready)
    }

    /// Jobs from the broker.
    pub(super) fn claimed(&mut self, name: &PoolName, jobs: Vec<Claimed>, now: Now, out: &mut Vec<Action>) {
        if !self.pools.contains_key(name) {
            for job in jobs {
                out.push(Action::Settle(give_back(&job)));
            }
            return;
        }
        for claimed in jobs {
            self.last_execution += 1;
            let execution = self.execution_of(name, claimed);
            self.executions.insert(self.last_execution, execution);
            self.line_up(name, self.last_execution, now);
        }
        self.dispatch(name, now, out);
    }

    /// Whether a pool runs jobs: not paused, not on its way out.
    fn serves(&self, name: &PoolName) -> bool {
        let pool = self.pools.get(name);
        self.running() && pool.is_some_and(|pool| !pool.paused && !pool.removed)
    }

    fn execution_of(&self, name: &PoolName, claimed: Claimed) -> Execution {
        let timeout = self.timeout_of(name, &claimed);
        let attempt = 1 + claimed.failures + claimed.losses;
        Execution {
            claimed,
            pool: name.clone(),
            timeout,
            attempt,
        }
    }

    /// The longest run of a job: its own, its task's or its pool's.
    pub(super) fn timeout_of(&self, name: &PoolName, claimed: &Claimed) -> Option<Duration> {
        claimed
            .timeout
            .or_else(|| {
                self.tasks
                    .get(&claimed.task)
                    .and_then(|task: &TaskConfig| task.timeout)
            })
            .or_else(|| self.pools.get(name).and_then(|pool| pool.config.job_timeout))
    }

    /// Sends buffered jobs and batches, in order, as far as workers may take them. Where no more jobs are to run,
    /// they go back to their queue.
    pub(super) fn dispatch(&mut self, name: &PoolName, now: Now, out: &mut Vec<Action>) {
        if !self.serves(name) {
            self.give_back_buffer(name, out);
            return;
        }
        let surplus = self
            .pools
            .get(name)
            .is_some_and(|pool| self.counted(name) > pool.target as usize);
        while let Some(pool) = self.pools.get(name) {
            let (single, batch) = (pool.buffer.front().copied(), pool.batches.next());
            // Numbers grow with each claim: the smaller one has waited longer.
            if batch.is_some_and(|batch| single.is_none_or(|single| batch < single)) {
                if !self.send_batch(name, now, out) {
                    return;
                }
                continue;
            }
            let Some(execution) = single else {
                return;
            };
            let Some((worker, held)) = self.choose(name, execution, surplus) else {
                return;
            };
            let Some(pool) = self.pools.get_mut(name) else {
                return;
            };
            pool.buffer.pop_front();
            pool.buffer_moved = now.mono;
            self.assign(worker, held, now, out);
        }
    }

    /// The worker that takes this job: an idle one, else the one that will be free first, if its
    /// backlog allows.
    fn choose(&self, name: &PoolName, execution: u64, surplus: bool) -> Option<(u64, Held)> {
        let pool = self.pools.get(name)?;
        let job = &self.executions.get(&execution)?.claimed;
        let held = Held {
            execution,
            expected: pool.service.expected(&job.task),
            alone: fills_a_packet(job) || pool.printing.contains(&job.task),
        };
        let ready = |worker: &&super::Worker| worker.pool == *name && worker.takes_jobs();
        if let Some(id) = self.idle_worker(name) {
            return Some((id, held));
        }
        if surplus || held.alone || pool.config.prefetch == Prefetch::Fixed(0) {
            return None;
        }
        self.workers
            .iter()
            .filter(|(_, worker)| ready(worker) && !worker.stalled && !worker.suspect)
            .filter(|(_, worker)| worker.held.iter().all(|held| !held.alone))
            .filter(|(_, worker)| prefetch::room(pool.config.prefetch, &worker.load(), held.expected) > 0)
            .map(|(id, worker)| (worker.held.len(), *id))
            .min()
            .map(|(_, id)| (id, held))
    }

    /// The idle worker that is next.
    pub(super) fn idle_worker(&self, name: &PoolName) -> Option<u64> {
        self.workers
            .iter()
            .filter(|(_, worker)| worker.pool == *name && worker.takes_jobs())
            .filter(|(_, worker)| worker.state == State::Idle)
            .min_by_key(|(id, worker)| (worker.suspect, **id))
            .map(|(id, _)| *id)
    }

    fn assign(&mut self, id: u64, held: Held, now: Now, out: &mut Vec<Action>) {
        let execution = held.execution;
        if !self.step(id, Step::Assigned, now, out) {
            return;
        }
        let Some(worker) = self.workers.get_mut(&id) else {
            return;
        };
        worker.assigned += 1;
        let first = worker.held.is_empty();
        if first {
            worker.begin_holding(now.mono);
        }
        worker.held.push_back(held);
        let name = worker.pool.clone();
        if let Some(pool) = self.pools.get_mut(&name) {
            if first {
                pool.meter.job_started(id, now.mono);
            } else if let Some(job) = self.executions.get(&execution) {
                pool.tally.tasks.at(&job.claimed.task).sent_ahead += 1;
            }
        }
        out.push(Action::Send {
            worker: id,
            execution,
        });
        self.mark_expiring(id, now);
    }

    /// A worker says that a job ended.
    pub(super) fn done(
        &mut self,
        id: u64,
        execution: u64,
        (started, ended): (Mono, Mono),
        (outcome, whole_batch): (Outcome, bool),
        now: Now,
        out: &mut Vec<Action>,
    ) {
        let Some(worker) = self.workers.get(&id) else {
            out.push(Action::Notice(Notice::StrayOutcome {
                worker: id,
                execution,
            }));
            return;
        };
        if worker.held.front().map(|held| held.execution) != Some(execution) {
            out.push(Action::Notice(Notice::StrayOutcome {
                worker: id,
                execution,
            }));
            self.kill(
                id,
                KillReason::Protocol("an outcome for a job that it does not run".into()),
                now,
                out,
            );
            return;
        }
        let last = worker.held.len() == 1;
        if !self.step(
            id,
            if last { Step::FinishedLast } else { Step::Finished },
            now,
            out,
        ) {
            return;
        }
        // The worker's stamps are exact, but not trusted beyond what can be true.
        let floor = self
            .workers
            .get(&id)
            .map_or(now.mono, |worker| worker.running_since);
        let ended = ended.clamp(floor, now.mono.max(floor));
        let started = started.clamp(floor, ended);
        let (name, seat) = (self.workers[&id].pool.clone(), self.workers[&id].seat);
        // What the broker asked for itself says nothing of how long jobs take.
        let job = self.executions.get(&execution).filter(|job| !job.claimed.chore);
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
        let run = stamp((id, seat), (started, ended), None, now);
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
    pub(super) fn taken_back(&mut self, id: u64, unread: &Unread, now: Now, out: &mut Vec<Action>) {
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
    pub(super) fn settle(
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
            _ if job.claimed.chore => {}
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
    pub(super) fn give_back_buffer(&mut self, name: &PoolName, out: &mut Vec<Action>) {
        let Some(pool) = self.pools.get_mut(name) else {
            return;
        };
        let mut jobs: Vec<u64> = std::mem::take(&mut pool.buffer).into();
        jobs.extend(pool.batches.clear());
        jobs.sort_unstable();
        self.give_back_all(jobs, out);
    }

    /// Jobs that did not begin go back to their queue, in their order.
    pub(super) fn give_back_all(&mut self, jobs: Vec<u64>, out: &mut Vec<Action>) {
        // Each goes to the front of its queue: the last one first keeps their order.
        for execution in jobs.into_iter().rev() {
            if let Some(job) = self.executions.remove(&execution) {
                out.push(Action::Settle(give_back(&job.claimed)));
            }
        }
    }

    /// A worker holds nothing any more.
    pub(super) fn fell_idle(&mut self, id: u64, now: Now, out: &mut Vec<Action>) {
        let Some(worker) = self.workers.get(&id) else {
            return;
        };
        if worker.state != State::Idle {
            return;
        }
        let name = worker.pool.clone();
        if worker.closing || !self.running() {
            let reason = worker.expiring.map_or("stopping", Expiry::as_str);
            self.retire(id, reason, now, out);
        }
        self.balance(&name, now, out);
    }

    /// Looks whether a worker comes to its end, so that its replacement is forked ahead.
    pub(super) fn mark_expiring(&mut self, id: u64, now: Now) {
        let Some(name) = self.pool_of(id).cloned() else {
            return;
        };
        let rules = self.recycle_rules(&name);
        let Some(worker) = self.workers.get_mut(&id) else {
            return;
        };
        let wear = recycle::Wear {
            // Its replacement is to be ready when it has taken its last job.
            jobs: worker.assigned + rules.max_jobs.map_or(0, |max| u64::from(max.div_ceil(10))),
            age: now.mono.since(worker.ready.unwrap_or(now.mono)),
            // One that has not run a job is as large as the one that would replace it.
            pss: (worker.pss_bytes > 0 && worker.jobs > 0).then_some(worker.pss_bytes),
            jitter: worker.age_jitter,
        };
        if worker.expiring.is_none() {
            worker.expiring = recycle::due(&rules, &wear).map(Expiry::Worn);
        }
        // A limit of jobs is strict: it takes no more, replaced or not.
        if recycle::jobs_left(&rules, worker.assigned) == 0 {
            worker.closing = true;
        }
    }

    /// Takes a step of a worker's life, or kills it for speaking out of turn.
    pub(super) fn step(&mut self, id: u64, event: Step, now: Now, out: &mut Vec<Action>) -> bool {
        let Some(worker) = self.workers.get_mut(&id) else {
            return false;
        };
        match step(worker.state, event) {
            Ok(to) => {
                if to != worker.state {
                    worker.state = to;
                    worker.since = now.mono;
                }
                true
            }
            Err(super::worker::Fault::Theirs) => {
                let what = format!("{event:?} while {:?}", worker.state);
                self.kill(id, KillReason::Protocol(what), now, out);
                false
            }
            Err(super::worker::Fault::Ours) => {
                let what = format!("worker {id}: {event:?} while {:?}", worker.state);
                debug_assert!(false, "{what}");
                out.push(Action::Notice(Notice::Defect { what }));
                false
            }
        }
    }
}

/// Back to the front of its queue, as if it had not been claimed.
pub(super) fn give_back(job: &Claimed) -> Settlement {
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
pub(super) fn stamp(
    (worker, seat): (u64, u16),
    (started, ended): (Mono, Mono),
    death: Option<i32>,
    now: Now,
) -> RunStamp {
    let ago = |at: Mono| i64::try_from(now.mono.since(at).as_millis()).unwrap_or(i64::MAX);
    RunStamp {
        worker,
        seat,
        death,
        started: Unix(now.unix.0.saturating_sub(ago(started))),
        ended: Unix(now.unix.0.saturating_sub(ago(ended))),
    }
}

fn fills_a_packet(job: &Claimed) -> bool {
    let run = Run {
        execution: 0,
        timeout_ms: 0,
        attempt: 0,
        seat: 0,
        id: job.claim.job.as_str(),
        queue: job.queue.as_str(),
        task: &job.task,
        payload: &job.payload,
    };
    HEADER_LEN + run.body_len() > PACKET_LEN_MAX
}

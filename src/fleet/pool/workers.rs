//! Workers come and go: forked, ready, retired, killed, dead.

use crate::job::{Claim, Outcome, PoolName};

use super::outcomes::stamp;
use super::worker::{Held, State, Step, Worker, step};
use crate::fleet::death::{self, KillReason};
use crate::fleet::{Action, Fleet, Notice, Now, Unread};

/// How a worker ended.
struct Exit {
    /// For people.
    how: String,
    /// For counting.
    death: &'static str,
    /// The job that it ran.
    job: Option<Claim>,
}

impl Fleet {
    pub(in crate::fleet) fn forked(&mut self, id: u64, pid: i32, now: Now, out: &mut Vec<Action>) {
        let Some(worker) = self.workers.get_mut(&id).filter(|worker| worker.pid.is_none()) else {
            return;
        };
        worker.pid = Some(pid);
        out.extend(started(id, worker));
        let had_no_room = self.templates.answered(worker.template, id, now);
        if had_no_room {
            self.balance_all(now, out);
        }
    }

    pub(in crate::fleet) fn fork_failed(&mut self, id: u64, error: String, now: Now, out: &mut Vec<Action>) {
        let Some(worker) = self.workers.remove(&id) else {
            return;
        };
        self.templates.answered(worker.template, id, now);
        self.templates.worker_gone(worker.template, id, now, out);
        self.start_failed(id, worker.pool, error, now, out);
    }

    /// A worker that did not come to work: the next one is not forked at once.
    fn start_failed(&mut self, id: u64, name: PoolName, error: String, now: Now, out: &mut Vec<Action>) {
        let Some(pool) = self.pools.get_mut(&name) else {
            return;
        };
        pool.tally.start_failures += 1;
        let restart = pool.fork_failures.ended(None);
        pool.fork_after = Some(now.mono + restart.wait);
        out.push(Action::Notice(Notice::ForkFailed {
            worker: id,
            pool: name.clone(),
            error,
            retry_in: restart.wait,
        }));
        self.balance(&name, now, out);
    }

    pub(in crate::fleet) fn worker_ready(&mut self, id: u64, now: Now, out: &mut Vec<Action>) {
        if !self.step(id, Step::Ready, now, out) {
            return;
        }
        let Some(worker) = self.workers.get_mut(&id) else {
            return;
        };
        worker.ready = Some(now.mono);
        let (name, spare, state) = (worker.pool.clone(), worker.spare, worker.state);
        out.extend(started(id, worker));
        if let Some(pool) = self.pools.get_mut(&name) {
            pool.fork_failures.reset();
            pool.tally.started += 1;
            if !spare && state == State::Idle {
                pool.meter.worker_alive(id, now.mono);
            }
        }
        self.balance(&name, now, out);
        self.dispatch(&name, now, out);
    }

    /// A worker is dead: what it had not read goes first again, and what it had read is lost with it.
    pub(in crate::fleet) fn exited(
        &mut self,
        id: u64,
        unread: &Unread,
        (how, status): (&str, Option<i32>),
        now: Now,
        out: &mut Vec<Action>,
    ) {
        let Some(mut worker) = self.workers.remove(&id) else {
            return;
        };
        assert_eq!(
            step(worker.state, Step::Exited),
            Ok(State::Gone),
            "a death comes once"
        );
        let name = worker.pool.clone();
        let death = death::counted_as(worker.kill_reason.as_ref(), status);
        let how = worker
            .kill_reason
            .take()
            .map_or_else(|| how.to_owned(), |reason| format!("{how}: {reason}"));
        if let Some(pool) = self.pools.get_mut(&name) {
            if !worker.held.is_empty() {
                pool.meter.job_lost(id, now.mono);
            }
            pool.meter.worker_gone(id, now.mono);
        }
        if worker.batch > 0 {
            let job = self.claim_of_front(&worker);
            worker.torn |= unread.torn;
            self.batch_exited(id, worker.clone(), &unread.executions, (&how, status), now, out);
            return self.after_exit(id, &worker, Exit { how, death, job }, now, out);
        }
        let torn = worker.torn || unread.torn;
        let (unread, read): (Vec<Held>, Vec<Held>) = worker
            .held
            .drain(..)
            .partition(|held| torn || unread.executions.contains(&held.execution));
        if let Some(pool) = self.pools.get_mut(&name) {
            pool.tally.took_back(unread.len(), "death");
            for held in unread.iter().rev() {
                pool.buffer.push_front(held.execution);
                pool.buffer_moved = now.mono;
            }
        }
        let job = read.first().and_then(|held| self.executions.get(&held.execution));
        let job = job.map(|execution| execution.claimed.claim.clone());
        let run = stamp(
            (id, worker.ordinal),
            (worker.running_since, now.mono),
            status,
            now,
        );
        // It reads one job at a time; there are several only if it was not understood any more.
        for held in read {
            let outcome = self.outcome_of_death(&worker, held.execution, &how);
            self.settle(held.execution, outcome, Some(run), now, out);
        }
        self.after_exit(id, &worker, Exit { how, death, job }, now, out);
    }

    fn claim_of_front(&self, worker: &Worker) -> Option<Claim> {
        let front = worker.held.front()?;
        Some(self.executions.get(&front.execution)?.claimed.claim.clone())
    }

    fn after_exit(&mut self, id: u64, worker: &Worker, exit: Exit, now: Now, out: &mut Vec<Action>) {
        self.tell_exit(id, worker, exit, now, out);
        self.templates.worker_gone(worker.template, id, now, out);
        self.balance(&worker.pool, now, out);
        self.dispatch(&worker.pool, now, out);
    }

    pub(in crate::fleet) fn outcome_of_death(&self, worker: &Worker, execution: u64, how: &str) -> Outcome {
        if worker.stopped == Some(execution) {
            return Outcome::Stopped;
        }
        // Also when another job of its batch was stopped.
        if worker.interrupted || worker.stopped.is_some() {
            return Outcome::GivenBack;
        }
        match self.executions.get(&execution).and_then(|job| job.timeout) {
            Some(after) if worker.overdue => Outcome::TimedOut { after },
            _ => Outcome::Lost { how: how.to_owned() },
        }
    }

    fn tell_exit(&mut self, id: u64, worker: &Worker, exit: Exit, now: Now, out: &mut Vec<Action>) {
        let Exit { how, death, job } = exit;
        let pool = worker.pool.clone();
        let mut tally = self.pools.get_mut(&pool).map(|pool| &mut pool.tally);
        if worker.ready.is_none() && worker.state == State::Starting {
            self.start_failed(id, pool, format!("it ended before it was ready: {how}"), now, out);
        } else if let (State::Retiring, Some(reason)) = (worker.state, worker.leave_reason) {
            if let Some(tally) = &mut tally {
                *tally.retired.entry(reason).or_default() += 1;
            }
            let reason = reason.to_owned();
            out.push(Action::Notice(Notice::WorkerLeft {
                worker: id,
                pool,
                jobs: worker.jobs,
                reason,
            }));
        } else if worker.pid.is_some() || worker.ready.is_some() {
            if let Some(tally) = &mut tally {
                *tally.deaths.entry(death).or_default() += 1;
            }
            out.push(Action::Notice(Notice::WorkerLost {
                worker: id,
                pool,
                how,
                job,
            }));
        }
    }

    /// Tells a worker that is not busy to leave.
    pub(in crate::fleet) fn retire(
        &mut self,
        id: u64,
        reason: &'static str,
        now: Now,
        out: &mut Vec<Action>,
    ) {
        if !self.step(id, Step::Retire, now, out) {
            return;
        }
        let Some(worker) = self.workers.get_mut(&id) else {
            return;
        };
        if worker.state == State::Retiring && worker.leave_reason.is_none() {
            worker.leave_reason = Some(reason);
            out.push(Action::Retire { worker: id });
            if let Some(pool) = self.pools.get_mut(&worker.pool) {
                pool.meter.worker_gone(id, now.mono);
            }
        }
    }

    /// Kills a worker; what it held settles when it is dead.
    pub(in crate::fleet) fn kill(&mut self, id: u64, reason: KillReason, now: Now, out: &mut Vec<Action>) {
        let Some(worker) = self.workers.get_mut(&id) else {
            return;
        };
        if worker.state == State::Dying {
            return;
        }
        worker.state = step(worker.state, Step::Kill).expect("whoever lives can be killed");
        worker.since = now.mono;
        worker.kill_reason = Some(reason);
        out.push(Action::Kill { worker: id });
    }
}

/// Told once a worker is both known by its process id and ready: its own word may overtake its template's.
fn started(id: u64, worker: &Worker) -> Option<Action> {
    let (pid, _ready) = worker.pid.zip(worker.ready)?;
    let (pool, generation) = (worker.pool.clone(), worker.generation);
    Some(Action::Notice(Notice::WorkerStarted {
        worker: id,
        pool,
        pid,
        generation,
    }))
}

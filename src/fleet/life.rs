//! Templates and workers come and go: start, fork, promote, replace, retire, kill, bury.

use std::time::Duration;

use crate::job::{Outcome, PoolName};
use crate::policy::prefetch;
use crate::policy::recycle;
use crate::time::Mono;
use crate::wire::message::LoadReport;

use super::worker::{Expiry, State, Step, Worker};
use super::{Action, Fleet, Notice, Now, PICKUP_LIMIT, RETIRE_LIMIT, START_LIMIT, Template, TemplateState};

/// What is due for a worker when its deadline has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// It did not become ready.
    Start,
    /// It did not leave.
    Leave,
    /// Its job is overdue and the runtime's interruption did not help.
    Job,
    /// It holds jobs behind one that takes longer than expected, or does not read at all.
    Unread,
}

impl Fleet {
    // ---- templates ----

    /// Loads the app anew beside what runs; a load in progress is given up.
    pub(super) fn next_generation(&mut self, now: Now, out: &mut Vec<Action>) {
        for (id, template) in &mut self.templates {
            if template.state == TemplateState::Loading {
                template.state = TemplateState::Stopped;
                out.push(Action::KillTemplate { template: *id });
            }
        }
        self.generation += 1;
        self.restart_at = None;
        self.restarts.reset();
        self.start_template(self.generation, now, out);
    }

    pub(super) fn start_template(&mut self, generation: u64, now: Now, out: &mut Vec<Action>) {
        self.last_template += 1;
        let template = Template {
            generation,
            state: TemplateState::Loading,
            since: now.mono,
            error: None,
        };
        self.templates.insert(self.last_template, template);
        out.push(Action::StartTemplate {
            template: self.last_template,
            generation,
        });
    }

    pub(super) fn template_ready(&mut self, id: u64, report: LoadReport, now: Now, out: &mut Vec<Action>) {
        let Some(template) = self.templates.get_mut(&id) else {
            return;
        };
        if template.state != TemplateState::Loading || self.stop.is_stopping() {
            return;
        }
        template.state = TemplateState::Ready;
        template.since = now.mono;
        let generation = template.generation;
        if let Some(old) = self.current.replace(id)
            && let Some(old) = self.templates.get_mut(&old)
        {
            old.state = TemplateState::Leaving;
        }
        self.load_error = None;
        self.loaded = Some(generation);
        out.push(Action::Notice(Notice::AppLoaded { generation, report }));
        for worker in self.workers.values_mut() {
            if worker.generation < generation {
                worker.expiring = Some(Expiry::Outdated);
            }
        }
        self.stop_left_templates(out);
        self.balance_all(now, out);
    }

    pub(super) fn template_exited(&mut self, id: u64, how: &str, now: Now, out: &mut Vec<Action>) {
        let Some(template) = self.templates.remove(&id) else {
            return;
        };
        // Workers that it was asked for and never forked will not come.
        let orphans: Vec<u64> = self
            .workers
            .iter()
            .filter(|(_, worker)| worker.template == id && worker.pid.is_none())
            .map(|(id, _)| *id)
            .collect();
        for worker in orphans {
            self.workers.remove(&worker);
        }
        if self.current == Some(id) {
            self.current = None;
        }
        if self.stop.is_stopping() {
            return;
        }
        match template.state {
            TemplateState::Loading => self.load_failed(&template, how, now, out),
            TemplateState::Ready => {
                let restart = self.restarts.ended(Some(now.mono.since(template.since)));
                self.restart_at = Some(now.mono + restart.wait);
                out.push(Action::Notice(Notice::TemplateDied {
                    generation: template.generation,
                    how: how.to_owned(),
                    retry_in: restart.wait,
                    crash_loop: restart.crash_loop_begins,
                }));
            }
            TemplateState::Leaving | TemplateState::Stopped => {}
        }
        self.balance_all(now, out);
    }

    /// A load that fails leaves what runs alone. Where nothing runs but something did, it is tried again;
    /// the very first load that fails ends the supervisor, which can't do its work.
    fn load_failed(&mut self, template: &Template, how: &str, now: Now, out: &mut Vec<Action>) {
        let error = template
            .error
            .clone()
            .unwrap_or_else(|| format!("the template {how} while it loaded the app"));
        self.load_error = Some(error.clone());
        let staying = self
            .current
            .and_then(|id| self.templates.get(&id))
            .map(|current| current.generation);
        let mut notice = (None, false);
        if let Some(generation) = staying {
            self.generation = generation;
        } else if self.loaded.is_some() {
            let restart = self.restarts.ended(None);
            self.restart_at = Some(now.mono + restart.wait);
            notice = (Some(restart.wait), restart.crash_loop_begins);
        }
        let (retry_in, crash_loop) = notice;
        out.push(Action::Notice(Notice::LoadFailed {
            generation: template.generation,
            error,
            staying,
            retry_in,
            crash_loop,
        }));
    }

    /// A superseded template leaves with its last worker: until then it reaps them.
    fn stop_left_templates(&mut self, out: &mut Vec<Action>) {
        for (id, template) in &mut self.templates {
            if template.state == TemplateState::Leaving
                && !self.workers.values().any(|worker| worker.template == *id)
            {
                template.state = TemplateState::Stopped;
                out.push(Action::StopTemplate { template: *id });
            }
        }
    }

    /// Everybody is gone or given up: the templates go too.
    pub(super) fn stop_templates(&mut self, out: &mut Vec<Action>) {
        for (id, template) in &mut self.templates {
            match template.state {
                TemplateState::Loading => out.push(Action::KillTemplate { template: *id }),
                TemplateState::Ready | TemplateState::Leaving => {
                    out.push(Action::StopTemplate { template: *id });
                }
                TemplateState::Stopped => {}
            }
            template.state = TemplateState::Stopped;
        }
    }

    // ---- workers ----

    pub(super) fn forked(&mut self, id: u64, pid: i32, out: &mut Vec<Action>) {
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.pid = Some(pid);
            out.extend(started(id, worker));
        }
    }

    pub(super) fn fork_failed(&mut self, id: u64, error: String, now: Now, out: &mut Vec<Action>) {
        let Some(worker) = self.workers.remove(&id) else {
            return;
        };
        self.start_failed(id, worker.pool, error, now, out);
    }

    /// A worker that did not come to work: the next one is not forked at once.
    fn start_failed(&mut self, id: u64, name: PoolName, error: String, now: Now, out: &mut Vec<Action>) {
        let Some(pool) = self.pools.get_mut(&name) else {
            return;
        };
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

    pub(super) fn worker_ready(&mut self, id: u64, now: Now, out: &mut Vec<Action>) {
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
            if !spare && state == State::Idle {
                pool.meter.worker_alive(id, now.mono);
            }
        }
        self.balance(&name, now, out);
        self.dispatch(&name, now, out);
    }

    /// A worker is dead: what it had not read goes first again, and what else it holds ran when it died.
    pub(super) fn exited(&mut self, id: u64, unread: &[u64], how: &str, now: Now, out: &mut Vec<Action>) {
        let Some(mut worker) = self.workers.remove(&id) else {
            return;
        };
        let name = worker.pool.clone();
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
        let began = worker
            .held
            .front()
            .map(|held| held.execution)
            .filter(|first| !unread.contains(first));
        let job = began.and_then(|began| self.executions.get(&began));
        let job = job.map(|execution| execution.claimed.claim.clone());
        if began.is_some() {
            worker.held.pop_front();
        }
        for held in worker.held.iter().rev() {
            // It reads one job at a time, so these never began, whoever lost them.
            if let Some(pool) = self.pools.get_mut(&name) {
                pool.buffer.push_front(held.execution);
                pool.buffer_moved = now.mono;
            }
        }
        if let Some(execution) = began {
            let outcome = self.outcome_of_death(&worker, execution, &how);
            self.settle(execution, outcome, now, out);
        }
        self.tell_exit(id, &worker, how, job, now, out);
        if !self.running() {
            self.give_back_buffer(&name, out);
        }
        self.stop_left_templates(out);
        self.balance(&name, now, out);
        self.dispatch(&name, now, out);
    }

    fn outcome_of_death(&self, worker: &Worker, execution: u64, how: &str) -> Outcome {
        if worker.interrupted {
            return Outcome::GivenBack;
        }
        match self.executions.get(&execution).and_then(|job| job.timeout) {
            Some(after) if worker.overdue => Outcome::TimedOut { after },
            _ => Outcome::Lost { how: how.to_owned() },
        }
    }

    fn tell_exit(
        &mut self,
        id: u64,
        worker: &Worker,
        how: String,
        job: Option<crate::job::Claim>,
        now: Now,
        out: &mut Vec<Action>,
    ) {
        let pool = worker.pool.clone();
        if worker.ready.is_none() && worker.state == State::Starting {
            self.start_failed(id, pool, format!("it ended before it was ready: {how}"), now, out);
        } else if let (State::Retiring, Some(reason)) = (worker.state, &worker.leave_reason) {
            let reason = reason.clone();
            out.push(Action::Notice(Notice::WorkerLeft {
                worker: id,
                pool,
                jobs: worker.jobs,
                reason,
            }));
        } else {
            out.push(Action::Notice(Notice::WorkerLost {
                worker: id,
                pool,
                how,
                job,
            }));
        }
    }

    // ---- size ----

    /// Workers that make up the pool's size.
    pub(super) fn counted(&self, name: &PoolName) -> usize {
        self.workers
            .values()
            .filter(|worker| worker.pool == *name && worker.counted())
            .count()
    }

    pub(super) fn balance_all(&mut self, now: Now, out: &mut Vec<Action>) {
        for name in self.pool_names() {
            self.balance(&name, now, out);
            self.dispatch(&name, now, out);
        }
    }

    /// Makes a pool what it should be: its size, its replacements, its spares. Only idle workers leave.
    pub(super) fn balance(&mut self, name: &PoolName, now: Now, out: &mut Vec<Action>) {
        if !self.running() {
            return;
        }
        let Some(pool) = self.pools.get(name) else { return };
        let target = if pool.removed { 0 } else { pool.target as usize };
        while self.counted(name) < target {
            if !self.promote(name, now, out) && !self.fork(name, false, now, out) {
                break;
            }
        }
        while self.counted(name) > target {
            let Some(id) = self.superfluous(name) else { break };
            self.retire(id, "scaled down", now, out);
        }
        self.replace(name, now, out);
        self.keep_spares(name, now, out);
        self.forget_removed(name, out);
    }

    /// The idle worker that leaves first: one that would be replaced anyway, else the youngest.
    fn superfluous(&self, name: &PoolName) -> Option<u64> {
        self.workers
            .iter()
            .filter(|(_, worker)| worker.pool == *name && worker.counted() && worker.state != State::Busy)
            .max_by_key(|(id, worker)| (worker.expiring.is_some(), worker.state == State::Starting, **id))
            .map(|(id, _)| *id)
    }

    /// A spare becomes a worker that runs jobs.
    fn promote(&mut self, name: &PoolName, now: Now, out: &mut Vec<Action>) -> bool {
        let spare = self
            .workers
            .iter_mut()
            .filter(|(_, worker)| worker.pool == *name && worker.spare && worker.expiring.is_none())
            .filter(|(_, worker)| matches!(worker.state, State::Idle | State::Starting))
            .min_by_key(|(id, worker)| (worker.state == State::Starting, **id));
        let Some((id, worker)) = spare else { return false };
        worker.spare = false;
        let (id, idle) = (*id, worker.state == State::Idle);
        if idle && let Some(pool) = self.pools.get_mut(name) {
            pool.meter.worker_alive(id, now.mono);
        }
        self.dispatch(name, now, out);
        true
    }

    fn fork(&mut self, name: &PoolName, spare: bool, now: Now, out: &mut Vec<Action>) -> bool {
        let Some(template) = self.current else {
            return false;
        };
        let Some(pool) = self.pools.get_mut(name) else {
            return false;
        };
        if pool.fork_after.is_some_and(|at| now.mono < at) {
            return false;
        }
        pool.fork_after = None;
        let Some(generation) = self.templates.get(&template).map(|template| template.generation) else {
            return false;
        };
        self.last_worker += 1;
        let mut worker = Worker::new(name.clone(), template, generation, spare, now.mono);
        worker.age_jitter = self.rng.f64();
        self.workers.insert(self.last_worker, worker);
        out.push(Action::Fork {
            template,
            worker: self.last_worker,
            pool: name.clone(),
        });
        true
    }

    /// Workers that come to their end give way to spares that are ready: an idle one leaves at once,
    /// a busy one takes no further job.
    fn replace(&mut self, name: &PoolName, now: Now, out: &mut Vec<Action>) {
        let of_pool = |worker: &&mut Worker| worker.pool == *name;
        let ready = self
            .workers
            .values_mut()
            .filter(of_pool)
            .filter(|worker| worker.spare && worker.state == State::Idle && worker.expiring.is_none())
            .count();
        let mut leaving: Vec<(bool, u64)> = self
            .workers
            .iter()
            .filter(|(_, worker)| worker.pool == *name && worker.counted() && worker.state != State::Starting)
            .filter(|(_, worker)| worker.expiring.is_some())
            .map(|(id, worker)| (worker.state == State::Busy, *id))
            .collect();
        leaving.sort_unstable();
        for (busy, id) in leaving.into_iter().take(ready) {
            if busy {
                if let Some(worker) = self.workers.get_mut(&id) {
                    worker.closing = true;
                }
            } else {
                let reason = self.workers.get(&id).and_then(|worker| worker.expiring);
                self.retire(id, reason.map_or("replaced", Expiry::as_str), now, out);
                self.promote(name, now, out);
            }
        }
    }

    /// Forks ahead what will be needed: one for each worker that comes to its end, within limits.
    fn keep_spares(&mut self, name: &PoolName, now: Now, out: &mut Vec<Action>) {
        let Some(pool) = self.pools.get(name) else { return };
        let of_pool = || self.workers.iter().filter(|(_, worker)| worker.pool == *name);
        let expiring = of_pool()
            .filter(|(_, worker)| worker.counted() && worker.expiring.is_some())
            .count();
        let limit = pool.config.spare_workers.max(1) as usize;
        let wanted = match (pool.removed || pool.target == 0, self.fresh()) {
            (true, _) => 0,
            (false, true) => limit,
            (false, false) => expiring.min(limit),
        };
        let spares: Vec<(u64, bool, bool)> = of_pool()
            .filter(|(_, worker)| worker.spare && matches!(worker.state, State::Idle | State::Starting))
            .map(|(id, worker)| (*id, worker.expiring.is_some(), worker.state == State::Idle))
            .collect();
        let (stale, good): (Vec<_>, Vec<_>) = spares.into_iter().partition(|(_, expiring, _)| *expiring);
        let surplus = good.iter().skip(wanted);
        for (id, _, _) in stale.iter().chain(surplus) {
            self.retire(*id, "spare not needed", now, out);
        }
        for _ in good.len()..wanted {
            if !self.fork(name, true, now, out) {
                break;
            }
        }
    }

    fn forget_removed(&mut self, name: &PoolName, out: &mut Vec<Action>) {
        let removed = self.pools.get(name).is_some_and(|pool| pool.removed);
        if removed {
            self.give_back_buffer(name, out);
            if !self.workers.values().any(|worker| worker.pool == *name) {
                self.pools.remove(name);
            }
        }
    }

    /// Tells a worker that is not busy to leave.
    pub(super) fn retire(&mut self, id: u64, reason: &str, now: Now, out: &mut Vec<Action>) {
        if !self.step(id, Step::Retire, now, out) {
            return;
        }
        let Some(worker) = self.workers.get_mut(&id) else {
            return;
        };
        if worker.state == State::Retiring && worker.leave_reason.is_none() {
            worker.leave_reason = Some(reason.to_owned());
            out.push(Action::Retire { worker: id });
            if let Some(pool) = self.pools.get_mut(&worker.pool) {
                pool.meter.worker_gone(id, now.mono);
            }
        }
    }

    /// Kills a worker; what it held settles when it is dead.
    pub(super) fn kill(&mut self, id: u64, reason: String, now: Now, out: &mut Vec<Action>) {
        let Some(worker) = self.workers.get_mut(&id) else {
            return;
        };
        if worker.state == State::Dying {
            return;
        }
        worker.state = State::Dying;
        worker.since = now.mono;
        worker.kill_reason = Some(reason);
        out.push(Action::Kill { worker: id });
    }

    // ---- deadlines ----

    /// The next instant at which something is due for a worker, and what.
    pub(super) fn worker_deadline(&self, worker: &Worker) -> Option<(Mono, Due)> {
        match worker.state {
            State::Starting => Some((worker.since + START_LIMIT, Due::Start)),
            State::Retiring => Some((worker.since + RETIRE_LIMIT, Due::Leave)),
            State::Idle | State::Dying | State::Gone => None,
            State::Busy => {
                let running = worker.held.front()?;
                let job = self.executions.get(&running.execution)?;
                let pool = self.pools.get(&worker.pool)?;
                let limit = job.timeout.map(|timeout| timeout + pool.config.kill_grace);
                let overdue = limit.map(|limit| (worker.running_since + limit, Due::Job));
                overdue
                    .into_iter()
                    .chain(self.unread_deadline(worker, running.expected))
                    .min_by_key(|(at, _)| *at)
            }
        }
    }

    /// When jobs that a worker has not read are taken back: behind a job that takes too long, and
    /// once if it might not read at all.
    fn unread_deadline(&self, worker: &Worker, expected: Option<Duration>) -> Option<(Mono, Due)> {
        let auto = self.pools.get(&worker.pool)?.config.prefetch == prefetch::Prefetch::Auto;
        if worker.stalled {
            return None;
        }
        let at = if auto && worker.held.len() > 1 {
            prefetch::stalled_at(worker.running_since, expected)
        } else if worker.unread_checked {
            return None;
        } else {
            worker.running_since + PICKUP_LIMIT
        };
        Some((at, Due::Unread))
    }

    pub(super) fn tick_workers(&mut self, now: Now, out: &mut Vec<Action>) {
        let due: Vec<(u64, Due)> = self
            .workers
            .iter()
            .filter_map(|(id, worker)| {
                let (at, due) = self.worker_deadline(worker)?;
                (at <= now.mono).then_some((*id, due))
            })
            .collect();
        for (id, due) in due {
            match due {
                Due::Start => self.kill(id, "it did not become ready in time".into(), now, out),
                Due::Leave => self.kill(id, "it did not leave in time".into(), now, out),
                Due::Job => {
                    if let Some(worker) = self.workers.get_mut(&id) {
                        worker.overdue = true;
                    }
                    self.kill(id, "its job ran past its timeout".into(), now, out);
                }
                Due::Unread => {
                    if let Some(worker) = self.workers.get_mut(&id) {
                        worker.stalled = worker.held.len() > 1;
                        worker.unread_checked = true;
                    }
                    out.push(Action::TakeBack { worker: id });
                }
            }
        }
    }

    /// Buffers that nobody empties go back; workers are forked again after a pause.
    pub(super) fn tick_pools(&mut self, now: Now, out: &mut Vec<Action>) {
        for name in self.pool_names() {
            let Some(pool) = self.pools.get_mut(&name) else {
                continue;
            };
            if !pool.buffer.is_empty() && pool.buffer_moved + super::BUFFER_LIMIT <= now.mono {
                self.give_back_buffer(&name, out);
            }
            let Some(pool) = self.pools.get_mut(&name) else {
                continue;
            };
            if pool.fork_after.is_some_and(|at| at <= now.mono) {
                pool.fork_after = None;
                self.balance(&name, now, out);
            }
        }
    }

    /// Looks at every worker's age and size; called once a scaling period.
    pub(super) fn recycle(&mut self, name: &PoolName, now: Now) {
        let ids: Vec<u64> = self
            .workers
            .iter()
            .filter(|(_, worker)| worker.pool == *name)
            .map(|(id, _)| *id)
            .collect();
        for id in ids {
            self.mark_expiring(id, now);
        }
    }

    pub(super) fn recycle_rules(&self, name: &PoolName) -> recycle::Rules {
        let config = self.pools.get(name).map(|pool| &pool.config);
        recycle::Rules {
            max_jobs: if self.fresh() {
                Some(1)
            } else {
                config.and_then(|config| config.max_jobs)
            },
            max_age: config.and_then(|config| config.max_age),
            max_worker_memory: config.and_then(|config| config.max_worker_memory),
        }
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

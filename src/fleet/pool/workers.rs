//! Workers come and go: forked, ready, retired, killed, dead.

use std::collections::BTreeSet;

use crate::death::ProcessEnd;
use crate::fleet::death::{self, KillReason};
use crate::fleet::{Action, Notice, Unread};
use crate::job::JobId;

use super::fate::{Expiry, Fate};
use super::life::State;
use super::worker::{Remains, Worker};
use super::{Context, Pool};

impl Pool {
    /// Asks the template for a worker. Returns whether one can be asked for now.
    pub(super) fn fork(&mut self, spare: bool, cx: &mut Context) -> bool {
        if !self.starts.may_fork(cx.now.mono) || !cx.permits.are_free(&self.name, cx.register) {
            return false;
        }
        let Some(template) = cx.templates.to_fork() else {
            return false;
        };
        let ordinal = if spare { None } else { cx.register.take_ordinal() };
        if !spare && ordinal.is_none() {
            return false;
        }
        let id = cx.register.new_worker(&self.name);
        let worker = Worker::new(template, ordinal, cx.register.random(), cx.now.mono);
        cx.templates.asked(template.0, id, cx.now);
        let known = self.workers.insert(id, worker);
        assert!(known.is_none(), "worker {id} is new");
        cx.act(Action::Fork {
            template: template.0,
            worker: id,
            pool: self.name.clone(),
        });
        true
    }

    /// A worker's process exists. Returns whether others may be asked for again.
    pub fn forked(&mut self, id: u64, pid: i32, cx: &mut Context) -> bool {
        let Some(worker) = self.workers.get_mut(&id) else {
            return false;
        };
        if !worker.forked(pid) {
            return false;
        }
        let template = worker.template();
        self.tell_start(id, cx);
        cx.templates.answered(template, id, cx.now)
    }

    /// It could not be forked. Returns whether others may be asked for again.
    pub fn fork_failed(&mut self, id: u64, error: String, cx: &mut Context) -> bool {
        let Some(worker) = self.workers.get(&id).filter(|worker| worker.pid().is_none()) else {
            return false;
        };
        let template = worker.template();
        let has_room = cx.templates.answered(template, id, cx.now);
        self.remove(id, cx);
        self.start_failed((id, template), error, cx);
        has_room
    }

    /// Takes out a worker that is no more.
    fn remove(&mut self, id: u64, cx: &mut Context) -> Option<(Worker, Remains)> {
        let mut worker = self.workers.remove(&id)?;
        let remains = worker.exited(cx.now.mono);
        if let Some(free) = worker.leave_service() {
            cx.register.free_ordinal(free);
        }
        cx.register.worker_gone(id);
        cx.permits.process_gone();
        cx.templates.worker_gone(worker.template(), id, cx.now, cx.out);
        Some((worker, remains))
    }

    /// A worker that did not come to work: the next one is not forked at once.
    fn start_failed(&mut self, (id, template): (u64, u64), error: String, cx: &mut Context) {
        self.measures.tally_mut().start_failures += 1;
        let retry_in = self.starts.failed(cx.now.mono, &error);
        cx.templates.start_failed(template, &error);
        cx.tell(Notice::ForkFailed {
            worker: id,
            pool: self.name.clone(),
            error,
            retry_in,
        });
        self.balance(cx);
    }

    /// A worker takes jobs.
    pub fn worker_ready(&mut self, id: u64, cx: &mut Context) {
        let Some(worker) = self.workers.get_mut(&id) else {
            return;
        };
        if let Err(what) = worker.becomes_ready(cx.now.mono) {
            self.kill(id, KillReason::Protocol(what), Fate::Lost, cx);
            return;
        }
        if worker.counted() && worker.state() == State::Idle {
            self.measures.meter_mut().worker_alive(id, cx.now.mono);
        }
        self.measures.tally_mut().started += 1;
        self.starts.succeeded();
        cx.register.workers_changed();
        let worker = &self.workers[&id];
        let generation = worker.generation();
        cx.templates.started(worker.template());
        self.tell_start(id, cx);
        self.close_older_than(generation, cx);
        self.balance(cx);
        self.dispatch(cx);
    }

    /// Told once a worker is both known by its process id and ready: its own word may overtake its template's.
    fn tell_start(&self, id: u64, cx: &mut Context) {
        let worker = &self.workers[&id];
        if let (Some(pid), Some(_)) = (worker.pid(), worker.ready()) {
            cx.tell(Notice::WorkerStarted {
                worker: id,
                pool: self.name.clone(),
                pid,
                generation: worker.generation(),
            });
        }
    }

    /// Of these workers nobody knows the process id, and their template is dead: most were not forked; one that was
    /// can't be watched and must not stay.
    pub fn abandon(&mut self, workers: &BTreeSet<u64>, cx: &mut Context) {
        for id in workers {
            let Some(worker) = self.workers.get_mut(id) else {
                continue;
            };
            assert!(worker.pid().is_none(), "worker {id} was forked");
            worker.kill(None, Fate::Lost, cx.now.mono);
            self.leave_service(*id, cx);
            cx.act(Action::Abandon { worker: *id });
        }
    }

    /// A worker is dead: what it had not read goes first again, and what it had read is lost with it.
    pub fn exited(&mut self, id: u64, unread: &Unread, (how, end): (&str, &ProcessEnd), cx: &mut Context) {
        let Some((worker, remains)) = self.remove(id, cx) else {
            return;
        };
        let meter = self.measures.meter_mut();
        if remains.hand.is_some() {
            meter.job_lost(id, cx.now.mono);
        }
        meter.worker_gone(id, cx.now.mono);
        let how = match &remains.why {
            Some(reason) => format!("{how}: {reason}"),
            None if end.out_of_memory => format!("{how}: memory had run out"),
            None => how.to_owned(),
        };
        let job = remains.hand.as_ref().map(|hand| hand.front().execution);
        let job = job.filter(|execution| !unread.executions.contains(execution));
        let job = job.map(|execution| self.jobs.held(execution).job.id.clone());
        // An idle worker that is killed at the end of all leaves as others do.
        let is_stopped = remains.why == Some(KillReason::Stopping) && remains.hand.is_none();
        let leave_reason = remains.leave_reason.or(is_stopped.then_some("stopping"));
        let exit = (remains.state, leave_reason);
        let counted_as = death::counted_as(remains.why.as_ref(), end);
        self.bury_hand((id, worker.ordinal()), remains, unread, (&how, end), cx);
        self.tell_exit((id, &worker), exit, (how, end, counted_as), job, cx);
        self.balance(cx);
        self.dispatch(cx);
    }

    fn tell_exit(
        &mut self,
        (id, worker): (u64, &Worker),
        (state, leave_reason): (State, Option<&'static str>),
        (how, end, counted_as): (String, &ProcessEnd, &'static str),
        job: Option<JobId>,
        cx: &mut Context,
    ) {
        let (pool, tally) = (self.name.clone(), self.measures.tally_mut());
        if state == State::Starting {
            self.start_failed(
                (id, worker.template()),
                format!("it ended before it was ready: {how}"),
                cx,
            );
        } else if let Some(reason) = leave_reason {
            *tally.retired.entry(reason).or_default() += 1;
            cx.tell(Notice::WorkerLeft {
                worker: id,
                pool,
                jobs: worker.jobs(),
                reason: reason.to_owned(),
            });
        } else if worker.pid().is_some() || worker.ready().is_some() {
            *tally.deaths.entry(counted_as).or_default() += 1;
            cx.tell(Notice::WorkerLost {
                worker: id,
                pool,
                how,
                end: *end,
                job,
            });
        }
    }

    /// A worker holds nothing any more: it may be its time to leave.
    pub(super) fn fell_idle(&mut self, id: u64, cx: &mut Context) {
        let idle = self.workers.get(&id);
        let Some(worker) = idle.filter(|worker| worker.state() == State::Idle) else {
            return;
        };
        if worker.is_closing() || !cx.running {
            let reason = worker.expiry().map_or("stopping", Expiry::as_str);
            self.retire(id, reason, cx);
        }
        self.balance(cx);
    }

    /// Looks whether a worker comes to its end, so that its replacement is forked ahead.
    pub(super) fn wear_out(&mut self, id: u64, cx: &mut Context) {
        let rules = cx.app.recycle_rules(&self.config);
        let worker = self.workers.get_mut(&id);
        if worker.is_some_and(|worker| worker.wear_out(&rules, cx.now.mono)) {
            cx.register.workers_changed();
        }
    }

    /// A worker takes no more jobs, for this reason if there is none yet.
    pub(super) fn close(&mut self, id: u64, why: Expiry, cx: &mut Context) {
        if self.workers.get_mut(&id).is_some_and(|worker| worker.close(why)) {
            cx.register.workers_changed();
        }
    }

    /// Tells a worker that is not busy to leave.
    pub(super) fn retire(&mut self, id: u64, reason: &'static str, cx: &mut Context) {
        let worker = self.workers.get_mut(&id).expect("a worker that is there retires");
        if worker.retire(reason, cx.now.mono) {
            self.leave_service(id, cx);
            self.measures.meter_mut().worker_gone(id, cx.now.mono);
            cx.act(Action::Retire { worker: id });
        }
    }

    /// Kills a worker; what it held settles when it is dead.
    pub(super) fn kill(&mut self, id: u64, why: KillReason, fate: Fate, cx: &mut Context) {
        let Some(worker) = self.workers.get_mut(&id) else {
            return;
        };
        if worker.kill(Some(why), fate, cx.now.mono) {
            self.leave_service(id, cx);
            cx.act(Action::Kill { worker: id });
        }
    }

    fn leave_service(&mut self, id: u64, cx: &mut Context) {
        let worker = self.workers.get_mut(&id).expect("it leaves now");
        if let Some(free) = worker.leave_service() {
            cx.register.free_ordinal(free);
        }
        cx.register.workers_changed();
    }
}

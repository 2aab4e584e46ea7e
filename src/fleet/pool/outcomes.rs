//! Outcomes out: what becomes of a job that ended, and of one that did not begin.

use crate::death::{Death, ProcessEnd};
use crate::fleet::death::KillReason;
use crate::fleet::event::Done;
use crate::fleet::{Action, CallOff, Execution, JobRun, Notice, Now, PICKUP_LIMIT, Unread};
use crate::job::{Job, JobError, Outcome, RunStamp, Settlement, Token, UNKNOWN_TASK, Verdict, Work};
use crate::policy::retry;
use crate::time::{Mono, Unix};

use super::fate::Fate;
use super::jobs::HeldBack;
use super::worker::Remains;
use super::{Context, Pool};

impl Pool {
    /// A worker says that a job ended.
    pub fn done(&mut self, id: u64, done: Done, cx: &mut Context) {
        if !self.may_end(id, done.execution, cx) {
            return;
        }
        let Done {
            execution,
            started,
            ended,
            outcome,
            whole_batch,
        } = done;
        let outcome = match outcome {
            Outcome::TimedOut { detail, .. } => Outcome::TimedOut {
                after: self.jobs.held(execution).timeout.unwrap_or_default(),
                detail,
            },
            outcome => outcome,
        };
        let worker = self.workers.get_mut(&id).expect("it runs the job");
        let is_batch = worker.hand().is_some_and(|hand| hand.batch() > 0);
        let fails_together = is_batch && fails_as_a_whole(&outcome, whole_batch) && {
            cx.app.splits(&self.jobs.held(execution).job.task)
        };
        if fails_together {
            worker.fails_together(execution);
        }
        let finished = worker.finish(execution, (started, ended), cx.now.mono);
        let (started, ended) = finished.times;
        let run = stamp((id, worker.ordinal()), finished.times, None, cx.now);
        let meter = self.measures.meter_mut();
        let busy = meter.busy();
        meter.job_ended(id, started, ended, cx.now.mono);
        if !finished.is_last {
            meter.job_started(id, ended);
            self.tell_begin(id, cx);
        }
        let job = &self.jobs.held(execution).job;
        self.measures.ran(job, finished.times, cx.now);
        self.size.ran(job, finished.times, busy);
        cx.register.jobs_changed();
        let error = match &outcome {
            Outcome::Failure { error, .. } => error.to_string(),
            _ => "it ran past its timeout".to_owned(),
        };
        let generation = self.workers[&id].generation();
        if is_unknown(&outcome) && cx.templates.is_superseded(generation) {
            self.jobs.hold_back(HeldBack {
                execution,
                generation,
                outcome,
                run,
            });
            self.let_go_if_renewed(generation, cx);
        } else if !fails_together {
            self.settle(execution, outcome, run, cx);
        }
        self.split(finished.failed_together, error, cx);
        if finished.is_last {
            self.fell_idle(id, cx);
        }
        self.dispatch(cx);
    }

    /// Unread jobs came back from a worker: they go first again. What was called off and did not come back has begun.
    pub fn taken_back(&mut self, id: u64, unread: &Unread, cx: &mut Context) {
        self.take_unread(id, unread, cx);
        self.decide_called_off(id, cx);
    }

    fn take_unread(&mut self, id: u64, unread: &Unread, cx: &mut Context) {
        let Some(worker) = self.workers.get_mut(&id) else {
            return;
        };
        let hand = worker.hand();
        let holds =
            |execution: &u64| hand.is_some_and(|hand| hand.executions().any(|held| held == *execution));
        let executions: Vec<u64> = unread.executions.iter().copied().filter(holds).collect();
        let is_batch = hand.is_some_and(|hand| hand.batch() > 0);
        let is_part = is_batch && !executions.is_empty() && executions.len() < worker.held();
        if unread.torn || is_part {
            // It reads all of a job, and of a batch, before it begins: it never will.
            let what = if is_batch { "batch" } else { "job" };
            self.kill(id, KillReason::UnreadRest(what), Fate::Unbegun, cx);
            return;
        }
        let Some(hand) = hand.filter(|_| !executions.is_empty()) else {
            return;
        };
        hand.assert_unbegun(&executions);
        let since = hand.since();
        let first_is_unread = executions.contains(&hand.front().execution);
        let is_last = worker.taken_back(&executions, cx.now.mono);
        if is_last {
            self.measures.meter_mut().job_withdrawn(id);
            cx.register.jobs_changed();
        }
        let reason = match (cx.running, self.paused) {
            (false, _) => "stop",
            (true, true) => "pause",
            (true, false) if first_is_unread => "unread",
            (true, false) => "stalled",
        };
        self.measures.tally_mut().took_back(executions.len(), reason);
        let off = self.jobs.put_back(&executions, is_batch, cx.now.mono);
        self.drop_called_off(off, cx);
        // It has not begun the job that it is thought to run. On a busy machine it may only not have had its turn: so it
        // gets one job more, alone, and is killed when that lies unread for too long.
        if first_is_unread && cx.now.mono.since(since) >= PICKUP_LIMIT {
            self.kill(id, KillReason::Unread, Fate::Lost, cx);
        } else if first_is_unread && let Some(worker) = self.workers.get_mut(&id) {
            worker.suspect();
        }
        if is_last {
            self.fell_idle(id, cx);
        }
        self.dispatch(cx);
    }

    /// A worker died with what it held: what it had not begun goes first again, the rest is settled. Returns the execution
    /// that it ran.
    pub(super) fn bury_hand(
        &mut self,
        (id, ordinal): (u64, u16),
        remains: Remains,
        unread: &Unread,
        (how, end): (&str, &ProcessEnd),
        cx: &mut Context,
    ) {
        let Some(hand) = remains.hand else { return };
        let since = hand.since();
        let death = Death::new(end, remains.why.as_ref().map(ToString::to_string));
        let torn = unread.torn || remains.fate == Fate::Unbegun;
        let mut parted = hand.part(torn, &unread.executions);
        self.measures.tally_mut().took_back(parted.unbegun.len(), "death");
        if !parted.unbegun.is_empty() {
            let off = self.jobs.put_back(&parted.unbegun, parted.is_batch, cx.now.mono);
            self.drop_called_off(off, cx);
        }
        let run = stamp((id, ordinal), (since, cx.now.mono), end.status, cx.now);
        for execution in parted.begun {
            let job = self.jobs.held(execution);
            let outcome = outcome_of_death(remains.fate, execution, job, (how, &death));
            let fails_as_a_whole = parted.is_batch && fails_as_a_whole(&outcome, true);
            if fails_as_a_whole && cx.app.splits(&job.job.task) {
                parted.failed_together.push(execution);
            } else {
                self.settle(execution, outcome, run, cx);
            }
        }
        self.split(parted.failed_together, how.to_owned(), cx);
        cx.register.jobs_changed();
    }

    /// Jobs of one batch failed together: they run again in two halves, and nothing is counted against them.
    fn split(&mut self, jobs: Vec<u64>, error: String, cx: &mut Context) {
        let Some(first) = jobs.first() else { return };
        cx.tell(Notice::BatchSplit {
            pool: self.name.clone(),
            task: self.jobs.held(*first).job.task.clone(),
            jobs: jobs.len(),
            error,
        });
        self.measures.tally_mut().splits += 1;
        self.jobs.split(jobs);
    }

    /// Decides what becomes of a job that a worker had, and forgets its execution.
    fn settle(&mut self, execution: u64, outcome: Outcome, run: RunStamp, cx: &mut Context) {
        let job = self.jobs.settle(execution).job;
        self.conclude((execution, job), outcome, run, cx);
    }

    /// Jobs that wait for newer code fail where none comes any more.
    pub fn settle_hopeless(&mut self, cx: &mut Context) {
        let templates = &*cx.templates;
        let hopeless = self
            .jobs
            .take_hopeless(|generation| !templates.is_superseded(generation));
        for (job, held) in hopeless {
            self.conclude((held.execution, job.job), held.outcome, held.run, cx);
        }
    }

    fn conclude(&mut self, (execution, job): (u64, Job), outcome: Outcome, run: RunStamp, cx: &mut Context) {
        let rules = cx.app.retry_rules(&job, &self.config);
        self.measures.tally_mut().ended(&outcome);
        let verdict = retry::verdict(&job, outcome, &rules, cx.now.unix, cx.register.random());
        if job.work == Work::Job {
            self.tell_end(&job, &verdict, &run, cx);
        }
        cx.act(Action::Settle(Settlement {
            of: Token(execution),
            verdict,
            run: Some(run),
        }));
    }

    fn tell_end(&mut self, job: &Job, verdict: &Verdict, run: &RunStamp, cx: &mut Context) {
        let told = JobRun::ended(job, &self.name, run);
        let task = self.measures.tally_mut().tasks.at(&job.task);
        match verdict {
            Verdict::Finish { .. } | Verdict::Forget => {
                task.done += 1;
                cx.tell(Notice::JobDone(told));
            }
            Verdict::Again { error, due, .. } => {
                task.retried += 1;
                tell_failure(told, error.clone(), false, *due, cx);
            }
            Verdict::Bury { error, .. } => {
                task.failed += 1;
                tell_failure(told, error.clone(), true, None, cx);
            }
            Verdict::Stopped => {
                task.failed += 1;
                tell_failure(told, JobError::stopped(), true, None, cx);
            }
            Verdict::GiveBack | Verdict::Canceled => {}
        }
    }

    /// A job that has cost too many supervisors does not begin.
    pub(super) fn bury_poison(&mut self, of: Token, job: &Job, cx: &mut Context) {
        let verdict = retry::bury_poison(job);
        if let Verdict::Bury { error, .. } = &verdict {
            self.measures.tally_mut().tasks.at(&job.task).failed += 1;
            let told = JobRun::of(job, &self.name, None, cx.now.unix);
            tell_failure(told, error.clone(), true, None, cx);
        }
        cx.act(Action::Settle(Settlement {
            of,
            verdict,
            run: None,
        }));
    }

    /// Everything that was claimed and not sent goes back to its queue.
    pub(super) fn give_back_waiting(&mut self, cx: &mut Context) {
        let waiting = self.jobs.take_waiting();
        self.give_back(waiting, cx);
    }

    /// Jobs that did not begin go back to their queue, in their order.
    #[allow(clippy::unused_self)] // what it gives back was this pool's
    pub(super) fn give_back(&self, jobs: Vec<u64>, cx: &mut Context) {
        // Each goes to the front of its queue: the last one first keeps their order.
        for job in jobs.into_iter().rev() {
            cx.act(Action::Settle(give_back(Token(job))));
        }
    }
}

fn tell_failure(run: JobRun, error: JobError, dead: bool, due: Option<Unix>, cx: &mut Context) {
    cx.tell(Notice::JobFailed {
        run,
        error,
        dead,
        retry_in: due.map(|due| due.since(cx.now.unix)),
    });
}

/// The worker's code has no such task.
fn is_unknown(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Failure { error, .. } if error.kind == UNKNOWN_TASK)
}

/// Whether this outcome of a job speaks of the whole batch that it was in; `whole`: its worker says so of a failure.
fn fails_as_a_whole(outcome: &Outcome, whole: bool) -> bool {
    match outcome {
        Outcome::Failure { .. } => whole,
        // One deadline and one process for all.
        Outcome::TimedOut { .. } | Outcome::Lost { .. } => true,
        Outcome::Success(_)
        | Outcome::Retry { .. }
        | Outcome::GivenBack
        | Outcome::Stopped
        | Outcome::Settled => false,
    }
}

/// What the death of its worker is for a job that had begun.
fn outcome_of_death(fate: Fate, execution: u64, job: &Execution, (how, death): (&str, &Death)) -> Outcome {
    match (fate, job.timeout) {
        _ if job.called_off == Some(CallOff::Stopped) => Outcome::Stopped,
        (Fate::Stopped(stopped), _) if stopped == execution => Outcome::Stopped,
        // Another job of its batch was stopped.
        (Fate::Stopped(_) | Fate::GivenBack, _) => Outcome::GivenBack,
        (Fate::TimedOut, Some(after)) => Outcome::TimedOut {
            after,
            detail: String::new(),
        },
        (Fate::TimedOut | Fate::Lost | Fate::Unbegun, _) => Outcome::Lost {
            how: how.to_owned(),
            death: Box::new(death.clone()),
        },
    }
}

/// Back to the front of its queue, as if it had not been claimed.
pub(in crate::fleet) fn give_back(of: Token) -> Settlement {
    Settlement {
        of,
        verdict: Verdict::GiveBack,
        run: None,
    }
}

/// Who ran what when, by the clock that records.
fn stamp(
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

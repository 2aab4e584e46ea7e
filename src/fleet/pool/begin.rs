//! Which jobs have begun, and those that are not to begin any more.

use crate::fleet::death::KillReason;
use crate::fleet::{Action, CallOff, Execution, JobRun, Notice, Unread};
use crate::job::{Begun, Progress, Settlement, Token, Verdict, Work};
use crate::time::Unix;

use super::fate::Fate;
use super::life::State;
use super::{Context, Pool, give_back};

impl Pool {
    /// It was looked what lies unread on a worker's socket.
    pub fn peeked(&mut self, id: u64, unread: &Unread, cx: &mut Context) {
        let Some(worker) = self.workers.get_mut(&id) else {
            return;
        };
        let ordinal = worker.ordinal();
        let since = worker.hand().map_or(cx.now.mono, super::hand::Hand::since);
        let ago = i64::try_from(cx.now.mono.since(since).as_millis()).unwrap_or(0);
        for execution in worker.begin(unread) {
            self.jobs.begin(execution);
            cx.act(Action::Began(Begun {
                token: Token(execution),
                worker: id,
                ordinal,
                at: Unix(cx.now.unix.0.saturating_sub(ago)),
            }));
        }
    }

    /// A worker turns to the first job that it holds.
    pub(super) fn tell_begin(&self, id: u64, cx: &mut Context) {
        let Some(hand) = self.workers.get(&id).and_then(|worker| worker.hand()) else {
            return;
        };
        let job = &self.jobs.held(hand.front().execution).job;
        if job.work == Work::Job {
            let begins = JobRun::of(job, &self.name, Some(id), cx.now.unix);
            cx.tell(Notice::JobBegan(begins));
        }
    }

    /// A worker says how far a job of its own is; its source passes it on.
    pub fn progressed(&mut self, id: u64, execution: u64, progress: Progress, cx: &mut Context) {
        let hand = self.workers.get(&id).and_then(|worker| worker.hand());
        // Else it speaks of a job that it does not hold any more.
        if hand.is_some_and(|hand| hand.executions().any(|held| held == execution)) {
            cx.act(Action::Progress(Token(execution), progress));
        }
    }

    /// A job in hand is not to begin. One that a worker has is taken from its socket, if it lies there still.
    pub fn call_off(&mut self, execution: u64, how: CallOff, cx: &mut Context) {
        let Some(holder) = self.jobs.held(execution).holder else {
            self.jobs.call_off(execution, how);
            let job = self.jobs.take_out(execution);
            return self.drop_called_off(vec![(execution, job)], cx);
        };
        self.jobs.call_off(execution, how);
        // Of one that dies its death decides.
        if let Some(worker) = self.workers.get_mut(&holder)
            && worker.state() == State::Busy
        {
            // What comes back with it goes to others.
            worker.look_for_unread();
            cx.act(Action::TakeBack { worker: holder });
        }
    }

    /// What a worker has read has begun, called off or not.
    pub(super) fn decide_called_off(&mut self, id: u64, cx: &mut Context) {
        let is_busy = |worker: &&super::Worker| worker.state() == State::Busy;
        let Some(hand) = self
            .workers
            .get(&id)
            .filter(is_busy)
            .and_then(|worker| worker.hand())
        else {
            return;
        };
        let held: Vec<u64> = hand.executions().collect();
        for execution in held {
            // A cancel and a loss are for its outcome to meet.
            if self.jobs.runs_on(execution) == Some(CallOff::Stopped) {
                self.kill(id, KillReason::JobStopped, Fate::Stopped(execution), cx);
            }
        }
    }

    /// Jobs that were called off before they began do not run.
    pub(super) fn drop_called_off(&mut self, jobs: Vec<(u64, Execution)>, cx: &mut Context) {
        for (execution, Execution { job, called_off, .. }) in jobs {
            let of = Token(execution);
            if called_off == Some(CallOff::Recalled) {
                cx.act(Action::Settle(give_back(of)));
                continue;
            }
            if job.work == Work::Job {
                cx.tell(Notice::JobCanceled {
                    job: job.id,
                    pool: self.name.clone(),
                    task: job.task,
                });
            }
            cx.act(Action::Settle(Settlement {
                of,
                verdict: Verdict::Canceled,
                run: None,
            }));
        }
    }
}

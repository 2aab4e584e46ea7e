//! What happens because nothing happened: late starts, overdue jobs, unread frames.

use crate::config::Prefetch;
use crate::fleet::death::KillReason;
use crate::fleet::{Action, PICKUP_LIMIT, RETIRE_LIMIT, START_LIMIT};
use crate::time::Mono;

use super::fate::Fate;
use super::life::State;
use super::worker::Worker;
use super::{Context, Pool};

/// What is due for a worker when its deadline has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// It did not become ready.
    Start,
    /// It did not leave.
    Leave,
    /// Its job is overdue and the runtime's interruption did not help.
    Job,
    /// It may have begun a job whose source wants to know.
    Begin,
    /// It holds jobs behind one that takes longer than expected, or does not read at all.
    Unread,
    /// Its job takes so long that it is asked whether it has it.
    Ping,
}

impl Pool {
    /// The next instant at which something is due for a worker, and what.
    pub(super) fn worker_deadline(&self, worker: &Worker) -> Option<(Mono, Due)> {
        match worker.state() {
            State::Starting => Some((worker.since() + START_LIMIT, Due::Start)),
            State::Retiring => Some((worker.since() + RETIRE_LIMIT, Due::Leave)),
            State::Idle | State::Dying | State::Gone => None,
            State::Busy => {
                let hand = worker.hand()?;
                let job = self.jobs.held(hand.front().execution);
                let limit = job.timeout.map(|timeout| timeout + self.config.kill_grace);
                let overdue = limit.map(|limit| (hand.since() + limit, Due::Job));
                let auto = self.config.prefetch == Prefetch::Auto;
                let unread = hand.unread_deadline(auto, PICKUP_LIMIT);
                let unread = unread.map(|at| (at, Due::Unread));
                let ping = hand.ping_deadline(PICKUP_LIMIT).map(|at| (at, Due::Ping));
                let begin = hand.begin_deadline().map(|at| (at, Due::Begin));
                let all = overdue.into_iter().chain(unread).chain(ping).chain(begin);
                all.min_by_key(|(at, _)| *at)
            }
        }
    }

    pub(super) fn tick_workers(&mut self, cx: &mut Context) {
        let due = |(id, worker): (&u64, &Worker)| {
            let (at, due) = self.worker_deadline(worker)?;
            (at <= cx.now.mono).then_some((*id, due))
        };
        let due: Vec<(u64, Due)> = self.workers.iter().filter_map(due).collect();
        for (id, due) in due {
            match due {
                Due::Start => self.kill(id, KillReason::NotReady, Fate::Lost, cx),
                Due::Leave => self.kill(id, KillReason::NotLeaving, Fate::Lost, cx),
                Due::Job => self.kill(id, KillReason::Timeout, Fate::TimedOut, cx),
                Due::Begin => {
                    if let Some(worker) = self.workers.get_mut(&id) {
                        worker.look_for_begin(cx.now.mono);
                    }
                    cx.act(Action::Peek { worker: id });
                }
                Due::Unread => {
                    if let Some(worker) = self.workers.get_mut(&id) {
                        worker.look_for_unread();
                    }
                    cx.act(Action::TakeBack { worker: id });
                }
                Due::Ping => {
                    if let Some(execution) = self.workers.get_mut(&id).and_then(Worker::ask) {
                        cx.act(Action::Ping {
                            worker: id,
                            execution,
                        });
                    }
                }
            }
        }
    }
}

//! What happens because nothing happened: late starts, overdue jobs, unread frames.

use std::time::Duration;

use crate::policy::prefetch;
use crate::time::Mono;

use super::worker::{State, Worker};
use crate::fleet::death::KillReason;
use crate::fleet::{Action, BUFFER_LIMIT, Fleet, Now, PICKUP_LIMIT, RETIRE_LIMIT, START_LIMIT};

/// What is due for a worker when its deadline has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::fleet) enum Due {
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
    /// The next instant at which something is due for a worker, and what.
    pub(in crate::fleet) fn worker_deadline(&self, worker: &Worker) -> Option<(Mono, Due)> {
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
        let at = if auto && worker.prefetched() > 0 {
            prefetch::stalled_at(worker.running_since, expected)
        } else if worker.unread_checked {
            return None;
        } else {
            worker.running_since + PICKUP_LIMIT
        };
        Some((at, Due::Unread))
    }

    pub(in crate::fleet) fn tick_workers(&mut self, now: Now, out: &mut Vec<Action>) {
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
                Due::Start => self.kill(id, KillReason::NotReady, now, out),
                Due::Leave => self.kill(id, KillReason::NotLeaving, now, out),
                Due::Job => {
                    if let Some(worker) = self.workers.get_mut(&id) {
                        worker.overdue = true;
                    }
                    self.kill(id, KillReason::Timeout, now, out);
                }
                Due::Unread => {
                    if let Some(worker) = self.workers.get_mut(&id) {
                        worker.stalled = worker.prefetched() > 0;
                        worker.unread_checked = true;
                    }
                    out.push(Action::TakeBack { worker: id });
                }
            }
        }
    }

    /// Buffers that nobody empties go back; batches go out; workers are forked again after a pause.
    pub(in crate::fleet) fn tick_pools(&mut self, now: Now, out: &mut Vec<Action>) {
        for name in self.pool_names() {
            self.tick_batches(&name, now, out);
            let Some(pool) = self.pools.get_mut(&name) else {
                continue;
            };
            if !pool.buffer.is_empty() && pool.buffer_moved + BUFFER_LIMIT <= now.mono {
                let stale = std::mem::take(&mut pool.buffer).into();
                self.give_back_all(stale, out);
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
}

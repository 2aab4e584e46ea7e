//! Jobs in: the buffer, and who gets the next job.

use std::time::Duration;

use crate::config::{Prefetch, TaskConfig};
use crate::job::{Claimed, PoolName};
use crate::policy::prefetch;
use crate::policy::recycle;
use crate::wire::frame::{HEADER_LEN, PACKET_LEN_MAX, Run};

use super::outcomes::give_back;
use super::worker::{Expiry, Held, State, Step, step};
use crate::fleet::death::KillReason;
use crate::fleet::{Action, Execution, Fleet, Notice, Now};

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
    pub(in crate::fleet) fn claimed(
        &mut self,
        name: &PoolName,
        jobs: Vec<Claimed>,
        now: Now,
        out: &mut Vec<Action>,
    ) {
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
    pub(in crate::fleet) fn timeout_of(&self, name: &PoolName, claimed: &Claimed) -> Option<Duration> {
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
    pub(in crate::fleet) fn dispatch(&mut self, name: &PoolName, now: Now, out: &mut Vec<Action>) {
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
        let ready = |worker: &&super::worker::Worker| worker.pool == *name && worker.takes_jobs();
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
    pub(in crate::fleet) fn idle_worker(&self, name: &PoolName) -> Option<u64> {
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

    /// A worker holds nothing any more.
    pub(in crate::fleet) fn fell_idle(&mut self, id: u64, now: Now, out: &mut Vec<Action>) {
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
    pub(in crate::fleet) fn mark_expiring(&mut self, id: u64, now: Now) {
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
    pub(in crate::fleet) fn step(&mut self, id: u64, event: Step, now: Now, out: &mut Vec<Action>) -> bool {
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
            Err(crate::fleet::pool::worker::Fault::Theirs) => {
                let what = format!("{event:?} while {:?}", worker.state);
                self.kill(id, KillReason::Protocol(what), now, out);
                false
            }
            Err(crate::fleet::pool::worker::Fault::Ours) => {
                let what = format!("worker {id}: {event:?} while {:?}", worker.state);
                debug_assert!(false, "{what}");
                out.push(Action::Notice(Notice::Defect { what }));
                false
            }
        }
    }
}

fn fills_a_packet(job: &Claimed) -> bool {
    let run = Run {
        execution: 0,
        timeout_ms: 0,
        attempt: 0,
        ordinal: 0,
        job_kind: 0,
        id: job.claim.job.as_str(),
        queue: job.queue.as_str(),
        task: &job.task,
        payload: &job.payload,
    };
    HEADER_LEN + run.body_len() > PACKET_LEN_MAX
}

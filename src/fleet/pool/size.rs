//! A pool becomes what it should be: its size, its replacements, its spares.

use std::collections::BTreeSet;

use crate::job::PoolName;
use crate::policy::recycle;

use super::worker::{Expiry, State, Worker};
use crate::fleet::{Action, Fleet, Now};

impl Fleet {
    /// Workers that make up the pool's size.
    pub(in crate::fleet) fn counted(&self, name: &PoolName) -> usize {
        self.workers
            .values()
            .filter(|worker| worker.pool == *name && worker.counted())
            .count()
    }

    pub(in crate::fleet) fn balance_all(&mut self, now: Now, out: &mut Vec<Action>) {
        for name in self.pool_names() {
            self.balance(&name, now, out);
            self.dispatch(&name, now, out);
        }
    }

    /// Makes a pool what it should be: its size, its replacements, its spares. Only idle workers leave.
    pub(in crate::fleet) fn balance(&mut self, name: &PoolName, now: Now, out: &mut Vec<Action>) {
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

    /// Gives a worker that begins to serve the smallest free ordinal.
    fn give_ordinal(&mut self, id: u64) {
        let taken: BTreeSet<u16> = self
            .workers
            .values()
            .filter(|worker| worker.counted())
            .map(|worker| worker.ordinal)
            .collect();
        let free = (1..u16::MAX).find(|ordinal| !taken.contains(ordinal));
        if let (Some(worker), Some(free)) = (self.workers.get_mut(&id), free) {
            worker.ordinal = free;
        }
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
        let (id, idle) = (*id, worker.state == State::Idle);
        worker.spare = false;
        self.give_ordinal(id);
        if idle && let Some(pool) = self.pools.get_mut(name) {
            pool.meter.worker_alive(id, now.mono);
        }
        self.dispatch(name, now, out);
        true
    }

    fn fork(&mut self, name: &PoolName, spare: bool, now: Now, out: &mut Vec<Action>) -> bool {
        let Some((template, generation)) = self.templates.to_fork() else {
            return false;
        };
        let Some(pool) = self.pools.get_mut(name) else {
            return false;
        };
        if pool.fork_after.is_some_and(|at| now.mono < at) {
            return false;
        }
        pool.fork_after = None;
        self.last_worker += 1;
        self.templates.asked(template, self.last_worker, now);
        let mut worker = Worker::new(name.clone(), template, generation, spare, now.mono);
        worker.age_jitter = self.rng.f64();
        self.workers.insert(self.last_worker, worker);
        if !spare {
            self.give_ordinal(self.last_worker);
        }
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
        let wanted = match (pool.removed || pool.target == 0, self.one_job_a_worker()) {
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

    /// Looks at every worker's age and size; called once a scaling period.
    pub(in crate::fleet) fn recycle(&mut self, name: &PoolName, now: Now) {
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

    pub(in crate::fleet) fn recycle_rules(&self, name: &PoolName) -> recycle::Rules {
        let config = self.pools.get(name).map(|pool| &pool.config);
        recycle::Rules {
            max_jobs: if self.one_job_a_worker() {
                Some(1)
            } else {
                config.and_then(|config| config.max_jobs)
            },
            max_age: config.and_then(|config| config.max_age),
            max_worker_memory: config.and_then(|config| config.max_worker_memory),
        }
    }
}

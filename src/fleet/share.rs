//! What the pools share: their floors, what each may take, and who gives way when that changes.

use crate::job::PoolName;
use crate::policy::memory::{Budget, COST_UNKNOWN, WorkerMemory, cost_of_one_more};
use crate::policy::share::{Member, Share, floor, promised};

use super::pool::Pool;
use super::pool::worker::Worker;
use super::{Action, Fleet, Memory, Now};

impl Pool {
    /// Workers that the pool may always have.
    pub(super) fn floor(&self) -> u32 {
        if self.removed {
            return 0;
        }
        floor(self.min, self.max, self.config.reserve_workers)
    }
}

impl Fleet {
    /// Takes note of what the processes occupy.
    pub fn weigh(&mut self, memory: &Memory) {
        for (id, pss, private) in &memory.workers {
            if let Some(worker) = self.workers.get_mut(id) {
                (worker.pss_bytes, worker.private_bytes) = (*pss, *private);
            }
        }
        for (name, pool) in &mut self.pools {
            let limit = memory.limits.iter().find(|(limited, _)| limited == name);
            pool.memory_limit = limit.map(|(_, bytes)| *bytes);
        }
        self.totals.memory_used = memory.pss_total;
        self.totals.memory = memory.total_limit;
    }

    /// What is left for a pool of what all share.
    pub(super) fn share_of(&self, name: &PoolName) -> Share {
        let Some(pool) = self.pools.get(name) else {
            return Share::UNLIMITED;
        };
        Share::of(&self.member(name, pool), &self.others(name), &self.totals)
    }

    /// The other pools.
    fn others(&self, name: &PoolName) -> Vec<Member> {
        let others = self.pools.iter().filter(|(other, _)| *other != name);
        others.map(|(name, pool)| self.member(name, pool)).collect()
    }

    fn member(&self, name: &PoolName, pool: &Pool) -> Member {
        let workers = || self.workers.values().filter(|worker| worker.pool == *name);
        let private = workers().map(|worker| worker.private_bytes).sum();
        Member {
            floor: pool.floor(),
            target: if pool.removed { 0 } else { pool.target },
            workers: u32::try_from(self.counted(name)).unwrap_or(u32::MAX),
            cost: self.cost_of_one_more(name),
            private,
        }
    }

    /// What one more worker of the pool is thought to add, in bytes: as its own do; as those of all pools
    /// while none of its own has run a job.
    pub(super) fn cost_of_one_more(&self, name: &PoolName) -> u64 {
        let measured = |of: &dyn Fn(&Worker) -> bool| {
            let workers = self.workers.values().filter(|worker| of(worker));
            let weighed: Vec<WorkerMemory> = workers
                .filter(|worker| worker.counted() && worker.private_bytes > 0)
                .map(|worker| WorkerMemory {
                    private: worker.private_bytes,
                    jobs: worker.jobs,
                })
                .collect();
            cost_of_one_more(&weighed)
        };
        measured(&|worker| worker.pool == *name)
            .or_else(|| measured(&|_| true))
            .unwrap_or(COST_UNKNOWN)
    }

    /// The memory of a pool itself: its workers and the templates, without which there would be none.
    pub(super) fn own_budget(&self, name: &PoolName) -> Budget {
        let others = self.workers.values().filter(|worker| worker.pool != *name);
        let others: u64 = others.map(|worker| worker.pss_bytes).sum();
        Budget {
            used: self.totals.memory_used.saturating_sub(others),
            limit: self.pools.get(name).and_then(|pool| pool.memory_limit),
            kept: 0,
            cost: self.cost_of_one_more(name),
        }
    }

    /// Memory that the others leave a pool, in bytes; nothing where all memory is not limited.
    pub(super) fn kept_for(&self, name: &PoolName, pool: &Pool) -> u64 {
        let limited = self.totals.memory.is_some();
        if limited {
            self.member(name, pool).kept()
        } else {
            0
        }
    }

    /// Floors or the limit on all workers have changed: each pool in turn wants no more than it may.
    pub(super) fn give_way(&mut self, now: Now, out: &mut Vec<Action>) {
        for name in self.pool_names() {
            self.decide_limits(&name, now, out);
        }
    }

    /// Why this pool's `min` can't be raised to this: what it promises would not fit into the memory that there is.
    pub(super) fn too_little_memory(&self, name: &PoolName, min: u32, max: u32) -> Option<String> {
        let pool = self.pools.get(name)?;
        if min <= pool.min {
            return None;
        }
        let own = self.own_budget(name);
        if min > pool.target.saturating_add(own.room()).max(1) {
            return Some(format!(
                "min would be {min}, and `max_memory` of the pool has no room for so many workers: {own} \
                 (`--max` alone lets it grow as far as there is)"
            ));
        }
        let limit = self.totals.memory?;
        let mut pools = self.others(name);
        let mut member = self.member(name, pool);
        member.floor = floor(min, max, pool.config.reserve_workers);
        pools.push(member);
        let promised = promised(&pools, &self.totals);
        (member.floor > pool.floor() && promised > limit).then(|| {
            format!(
                "min would be {min}, and the workers that the pools are promised would come to about {} MiB with \
                 their application, above supervisor.max_total_memory, which is {} MiB",
                promised.div_ceil(1 << 20),
                limit >> 20
            )
        })
    }

    /// Why this pool's `min` and `max` can't be these: the floors of all would not fit below the limit on all workers.
    pub(super) fn floors_too_high(&self, name: &PoolName, min: u32, max: u32) -> Option<String> {
        let total = self.totals.workers?;
        let floor_of = |(other, pool): (&PoolName, &Pool)| {
            let changed = floor(min, max, pool.config.reserve_workers);
            let floor = if other == name { changed } else { pool.floor() };
            (other.to_string(), floor)
        };
        let floors: Vec<(String, u32)> = self.pools.iter().map(floor_of).collect();
        let sum = floors
            .iter()
            .map(|(_, floor)| *floor)
            .fold(0, u32::saturating_add);
        let each: Vec<String> = floors
            .iter()
            .map(|(name, floor)| format!("{name} {floor}"))
            .collect();
        (sum > total).then(|| {
            format!(
                "the pools would be promised {sum} workers ({}), above supervisor.max_total_workers, which is {total}",
                each.join(", ")
            )
        })
    }
}

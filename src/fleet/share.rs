//! What the pools share: their floors, what each may take, and who gives way when that changes.

use crate::config::WORKERS_MAX;
use crate::job::PoolName;
use crate::policy::memory::{Budget, COST_UNKNOWN};
use crate::policy::permits::{Holder, room};
use crate::policy::share::{Member, Share, promised};

use super::pool::Pool;
use super::{Action, Fleet, Memory, Now};

impl Fleet {
    /// Takes note of what the processes occupy.
    pub fn weigh(&mut self, memory: &Memory) {
        for (worker, occupied) in &memory.workers {
            let home = self.register.home(*worker);
            if let Some(pool) = home.and_then(|home| self.pools.get_mut(home)) {
                pool.weigh(*worker, *occupied);
            }
        }
        for (name, pool) in &mut self.pools {
            let limit = memory.limits.iter().find(|(limited, _)| limited == name);
            pool.limit_memory(limit.map(|(_, bytes)| *bytes));
        }
        self.totals.memory_used = memory.pss_total;
        self.totals.memory = memory.total_limit;
    }

    /// What is left for a pool of what all share.
    pub(super) fn share_of(&self, name: &PoolName) -> Share {
        let Some(pool) = self.pools.get(name) else {
            return Share::UNLIMITED;
        };
        let share = Share::of(&self.member(pool), &self.others(name), &self.totals);
        let kinds = pool.permits().0.keys().enumerate();
        kinds.fold(share, |share, (place, kind)| {
            let others = self.pools.iter().filter(|(other, _)| *other != name);
            let others: Vec<Holder> = others.map(|(_, other)| self.holder(other, kind)).collect();
            let total = self.totals.permits.of(kind);
            share.within(place, room(total, &self.holder(pool, kind), &others))
        })
    }

    /// A pool, as it counts for the permits of a kind.
    fn holder(&self, pool: &Pool, kind: &str) -> Holder {
        let member = self.member(pool);
        Holder {
            each: pool.permits().of(kind),
            floor: member.floor,
            claim: member.claim(),
            workers: member.workers,
        }
    }

    /// The other pools.
    fn others(&self, name: &PoolName) -> Vec<Member> {
        let others = self.pools.iter().filter(|(other, _)| *other != name);
        others.map(|(_, pool)| self.member(pool)).collect()
    }

    fn member(&self, pool: &Pool) -> Member {
        pool.member(self.cost_of_one_more(pool))
    }

    /// What one more worker of the pool is thought to add, in bytes: as its own do; as those of all pools
    /// while none of its own has run a job.
    fn cost_of_one_more(&self, pool: &Pool) -> u64 {
        Pool::cost_of_one_more(std::iter::once(pool))
            .or_else(|| Pool::cost_of_one_more(self.pools.values()))
            .unwrap_or(COST_UNKNOWN)
    }

    /// The memory of a pool itself: its workers and the templates, without which there would be none.
    pub(super) fn own_budget(&self, name: &PoolName) -> Budget {
        let Some(pool) = self.pools.get(name) else {
            return Budget::UNLIMITED;
        };
        let others = self.pools.iter().filter(|(other, _)| *other != name);
        let others: u64 = others.map(|(_, pool)| pool.pss()).sum();
        let used = self.totals.memory_used.saturating_sub(others);
        pool.budget(used, self.cost_of_one_more(pool))
    }

    /// Memory that the others leave a pool, in bytes; nothing where all memory is not limited.
    pub(super) fn kept_for(&self, pool: &Pool) -> u64 {
        let limited = self.totals.memory.is_some();
        if limited { self.member(pool).kept() } else { 0 }
    }

    /// Floors or the limit on all workers have changed: each pool in turn wants no more than it may.
    pub(super) fn give_way(&mut self, now: Now, out: &mut Vec<Action>) {
        for name in self.pool_names() {
            self.decide_limits(&name, now, out);
        }
    }

    pub(super) fn decide_limits(&mut self, name: &PoolName, now: Now, out: &mut Vec<Action>) {
        let (share, budget) = (self.share_of(name), self.own_budget(name));
        self.at(name, now, out, |pool, cx| pool.decide_limits(share, budget, cx));
    }

    /// Whether a pool may have these limits; the error says why not.
    pub(super) fn check_limits(&self, name: &PoolName, (min, max): (u32, u32)) -> Result<(), String> {
        if max == 0 {
            return Err("max must be at least 1 (pause a pool to stop its jobs)".into());
        }
        if min > max {
            return Err(format!("min would be {min}, above max, which would be {max}"));
        }
        if max > WORKERS_MAX {
            return Err(format!(
                "max would be {max}, above {WORKERS_MAX}, the most workers of one pool"
            ));
        }
        let why = self.floors_too_high(name, (min, max));
        let why = why.or_else(|| self.too_few_permits(name, (min, max)));
        why.or_else(|| self.too_little_memory(name, (min, max)))
            .map_or(Ok(()), Err)
    }

    /// Why this pool's `min` can't be raised to this: what it promises would not fit into the memory that there is.
    fn too_little_memory(&self, name: &PoolName, limits: (u32, u32)) -> Option<String> {
        let pool = self.pools.get(name)?;
        let min = limits.0;
        if min <= pool.limits().0 {
            return None;
        }
        let own = self.own_budget(name);
        if min > own.most_workers(pool.target()) {
            return Some(format!(
                "min would be {min}, and `max_memory` of the pool has no room for so many workers: {own} \
                 (`--max` alone lets it grow as far as there is)"
            ));
        }
        let limit = self.totals.memory?;
        let mut pools = self.others(name);
        let mut member = self.member(pool);
        member.floor = pool.floor_with(limits);
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

    /// The floor of each pool, if the limits of this one were these.
    fn floors_with(
        &self,
        name: &PoolName,
        limits: (u32, u32),
    ) -> impl Iterator<Item = (&PoolName, &Pool, u32)> {
        self.pools.iter().map(move |(other, pool)| {
            let floor = if other == name {
                pool.floor_with(limits)
            } else {
                pool.floor()
            };
            (other, pool, floor)
        })
    }

    /// Why this pool's `min` can't be raised to this: the floors of all would take more permits than there are.
    fn too_few_permits(&self, name: &PoolName, limits: (u32, u32)) -> Option<String> {
        let kinds = &self.pools.get(name)?.permits().0;
        kinds.keys().find_map(|kind| {
            let taken =
                |(_, pool, floor): (&PoolName, &Pool, u32)| floor.saturating_mul(pool.permits().of(kind));
            let sum = self
                .floors_with(name, limits)
                .map(taken)
                .fold(0, u32::saturating_add);
            let total = self.totals.permits.of(kind);
            (sum > total).then(|| {
                format!(
                    "the workers that the pools are promised would take {sum} permits of `{kind}`, above \
                     supervisor.permits, which has {total}"
                )
            })
        })
    }

    /// Why this pool's `min` and `max` can't be these: the floors of all would not fit below the limit on all workers.
    fn floors_too_high(&self, name: &PoolName, limits: (u32, u32)) -> Option<String> {
        let total = self.totals.workers?;
        let floors: Vec<(String, u32)> = self
            .floors_with(name, limits)
            .map(|(other, _, floor)| (other.to_string(), floor))
            .collect();
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

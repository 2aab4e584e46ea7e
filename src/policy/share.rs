//! What the pools of a supervisor share: one limit on all their workers, one on all their memory, and for each pool
//! a floor, which is room that no other pool's growth takes.
//!
//! A pool reaches its floor whatever the others do; beyond it, who comes first is served first.

use super::memory::Budget;
use super::permits::{Permits, Room};

/// The workers that a pool may always have, from its `min_workers`, `max_workers` and `reserve_workers`: at least
/// one, since a queue that nobody may serve is an outage.
pub fn floor(min: u32, max: u32, reserve: u32) -> u32 {
    min.max(reserve).max(1).min(max)
}

/// Limits on all pools together; `None`: no limit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Most workers.
    pub workers: Option<u32>,
    /// Most memory (PSS) of templates and workers, in bytes.
    pub memory: Option<u64>,
    /// What they occupy now, in bytes.
    pub memory_used: u64,
    /// Permits of each kind that there are for all.
    pub permits: Permits,
}

/// One pool, as it counts for the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Member {
    /// Workers that it may always have.
    pub floor: u32,
    /// Workers that it wants.
    pub target: u32,
    /// Workers that it has: fewer than `target` until they are forked, more until those that run a job end it.
    pub workers: u32,
    /// What one of its workers comes to when it has run jobs, in bytes.
    pub cost: u64,
    /// What its workers have to themselves now, in bytes.
    pub private: u64,
}

impl Member {
    /// Workers to count with, as a limit on the others.
    pub fn claim(&self) -> u32 {
        self.floor.max(self.target)
    }

    /// Memory that the others leave it, in bytes: for its floor, and for workers that have not run a job yet.
    pub fn kept(&self) -> u64 {
        self.growth(self.claim())
    }

    /// Bytes that so many of its workers will add to what they occupy already, once all of them have run jobs.
    fn growth(&self, workers: u32) -> u64 {
        u64::from(workers)
            .saturating_mul(self.cost)
            .saturating_sub(self.private)
    }
}

/// What all will occupy, in bytes, once each of these pools has the workers of its floor and they have run jobs.
pub fn promised(pools: &[Member], totals: &Totals) -> u64 {
    let growth = pools.iter().map(|pool| pool.growth(pool.floor));
    growth.fold(totals.memory_used, u64::saturating_add)
}

/// What a pool may take of what all share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// Workers that it may always have, whatever is left.
    pub floor: u32,
    /// Most workers that it may want beside the floors and wishes of the others: above it, it gives way.
    pub ceiling: u32,
    /// Most workers that it may grow to right now, while some of the others have more than they want.
    pub workers: u32,
    /// The memory of all; what is kept for others counts as taken.
    pub memory: Budget,
    /// The kind of permits that `workers` comes from, by its place among the pool's; `None`: it comes from the workers of all.
    pub permits: Option<usize>,
}

impl Share {
    /// Of a pool that shares nothing.
    pub const UNLIMITED: Share = Share {
        floor: 0,
        ceiling: u32::MAX,
        workers: u32::MAX,
        memory: Budget::UNLIMITED,
        permits: None,
    };

    /// What is left of `totals` for `pool` beside the `others`.
    pub fn of(pool: &Member, others: &[Member], totals: &Totals) -> Share {
        let beside = |taken: fn(&Member) -> u32| {
            let taken = others.iter().map(taken).fold(0, u32::saturating_add);
            let left = |total: u32| total.saturating_sub(taken).max(pool.floor);
            totals.workers.map_or(u32::MAX, left)
        };
        let kept_for_others = others.iter().map(Member::kept);
        let kept = kept_for_others.fold(pool.growth(pool.target), u64::saturating_add);
        Share {
            floor: pool.floor,
            ceiling: beside(Member::claim),
            workers: beside(|other| other.claim().max(other.workers)),
            memory: Budget {
                used: totals.memory_used,
                limit: totals.memory,
                kept,
                cost: pool.cost,
            },
            permits: None,
        }
    }

    /// The same, where the permits of the kind at this place leave so much room.
    pub fn within(mut self, place: usize, room: Room) -> Share {
        if room.workers < self.workers {
            (self.workers, self.permits) = (room.workers, Some(place));
        }
        self.ceiling = self.ceiling.min(room.ceiling);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MIB: u64 = 1 << 20;

    fn member(floor: u32, workers: u32) -> Member {
        Member {
            floor,
            target: workers,
            workers,
            cost: 10 * MIB,
            private: u64::from(workers) * 10 * MIB,
        }
    }

    fn share(pool: Member, others: &[Member], workers: u32, memory_mib: u64) -> Share {
        let all = others.iter().chain([&pool]);
        let totals = Totals {
            workers: Some(workers),
            memory: Some(memory_mib * MIB),
            memory_used: all.map(|member| member.private).sum(),
            ..Totals::default()
        };
        Share::of(&pool, others, &totals)
    }

    #[test]
    fn without_limits_nothing_is_shared() {
        let share = Share::of(&member(1, 1), &[member(5, 9)], &Totals::default());
        assert_eq!((share.ceiling, share.workers), (u32::MAX, u32::MAX));
        assert_eq!(share.memory.room(), u32::MAX);
    }

    #[test]
    fn growth_leaves_room_for_the_floors_of_the_others() {
        let (reports, urgent) = (member(1, 4), member(3, 1));
        let left = share(reports, &[urgent], 8, 80);
        assert_eq!((left.ceiling, left.workers, left.memory.room()), (5, 5, 1));
        let left = share(urgent, &[reports], 8, 80);
        assert_eq!((left.ceiling, left.workers, left.memory.room()), (4, 4, 3));
    }

    #[test]
    fn a_pool_reaches_its_floor_whatever_the_others_have() {
        let left = share(member(3, 1), &[member(1, 9)], 8, 80);
        assert_eq!((left.floor, left.ceiling, left.workers), (3, 3, 3));
    }

    #[test]
    fn workers_that_leave_count_until_they_are_gone() {
        let leaving = Member {
            target: 1,
            ..member(1, 4)
        };
        let left = share(member(1, 2), &[leaving], 8, 80);
        assert_eq!((left.ceiling, left.workers), (7, 4));
    }

    #[test]
    fn memory_is_kept_for_workers_that_have_not_run_a_job_yet() {
        let cold = |pool: Member| Member { private: MIB, ..pool };
        let left = share(member(1, 1), &[cold(member(1, 3))], 99, 60);
        assert_eq!(left.memory.kept, 29 * MIB, "another pool's");
        assert_eq!(left.memory.room(), 2);
        let left = share(cold(member(1, 3)), &[], 99, 60);
        assert_eq!(left.memory.room(), 3, "its own");
    }

    #[test]
    fn floors_promise_memory_beyond_what_is_occupied() {
        let totals = Totals {
            memory_used: 100 * MIB,
            ..Totals::default()
        };
        assert_eq!(promised(&[member(3, 1), member(1, 4)], &totals), 120 * MIB);
    }

    /// Pools with a floor each, and a limit that the floors fit into.
    fn pools() -> impl Strategy<Value = (Vec<u32>, u32)> {
        (proptest::collection::vec(1u32..5, 1..5), 0u32..6)
            .prop_map(|(floors, more)| (floors.clone(), floors.iter().sum::<u32>() + more))
    }

    fn beside(members: &[Member], at: usize) -> Vec<Member> {
        let others = members.iter().enumerate().filter(|(other, _)| *other != at);
        others.map(|(_, member)| *member).collect()
    }

    proptest! {
        /// However pools grow, shrink and are slow to follow, all of them fit below the limit with every floor.
        #[test]
        fn floors_always_fit(
            (floors, total) in pools(),
            wishes in proptest::collection::vec((0usize..5, 0u32..12, 0u32..4), 0..40),
        ) {
            let mut members: Vec<Member> = floors.iter().map(|floor| member(*floor, 0)).collect();
            let totals = Totals { workers: Some(total), ..Totals::default() };
            for (at, wish, late) in wishes {
                let at = at % members.len();
                let share = Share::of(&members[at], &beside(&members, at), &totals);
                let pool = &mut members[at];
                pool.target = if wish > pool.target { wish.min(share.workers).max(pool.target) } else { wish };
                // Busy workers stay for a while.
                pool.workers = pool.target.max(pool.workers.min(pool.target + late));
                let taken: u32 = members.iter().map(|member| member.claim().max(member.workers)).sum();
                prop_assert!(taken <= total, "{taken} of {total}: {members:?}");
            }
        }

        /// When a floor is raised, each pool in turn goes below its ceiling, and then all fit again.
        #[test]
        fn giving_way_in_turn_makes_room((floors, total) in pools(), targets in proptest::collection::vec(0u32..12, 5)) {
            let mut members: Vec<Member> = floors.iter().zip(targets).map(|(floor, target)| member(*floor, target)).collect();
            let totals = Totals { workers: Some(total), ..Totals::default() };
            for at in 0..members.len() {
                let share = Share::of(&members[at], &beside(&members, at), &totals);
                members[at].target = members[at].target.min(share.ceiling);
            }
            let claimed: u32 = members.iter().map(Member::claim).sum();
            prop_assert!(claimed <= total, "{claimed} of {total}: {members:?}");
        }
    }
}

//! Permits: what a pool may take of something downstream, such as the connections of a database.
//!
//! There are so many of each kind, and each worker of a pool takes a fixed number. What all pools take together never exceeds
//! what there is, and each pool keeps the permits of its floor.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

/// Permits by their kind: how many there are, or how many a worker takes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Permits(pub BTreeMap<String, NonZeroU32>);

impl Permits {
    /// How many of this kind.
    pub fn of(&self, kind: &str) -> u32 {
        self.0.get(kind).map_or(0, |count| count.get())
    }

    /// The kind at this place, in the order of their names.
    pub fn kind(&self, place: usize) -> Option<&str> {
        self.0.keys().nth(place).map(String::as_str)
    }
}

/// A pool whose workers take permits of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Holder {
    /// Permits of each worker; 0: it takes none.
    pub each: u32,
    /// Workers that the pool may always have.
    pub floor: u32,
    /// Workers that it counts with: those that it wants, and its floor at least.
    pub claim: u32,
    /// Workers to count while some leave: never fewer than `claim`.
    pub workers: u32,
}

/// Workers that a pool may have by its permits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Most workers beside the floors and wishes of the others.
    pub ceiling: u32,
    /// Most workers that it may grow to right now, while some of the others have more than they want.
    pub workers: u32,
}

/// What is left of `total` permits for a pool beside the others. Never less than its floor.
pub fn room(total: u32, pool: &Holder, others: &[Holder]) -> Room {
    let Some(each) = NonZeroU32::new(pool.each) else {
        return Room {
            ceiling: u32::MAX,
            workers: u32::MAX,
        };
    };
    let beside = |count: fn(&Holder) -> u32| {
        let taken = others.iter().map(|other| count(other).saturating_mul(other.each));
        let left = total.saturating_sub(taken.fold(0, u32::saturating_add));
        (left / each).max(pool.floor)
    };
    Room {
        ceiling: beside(|other| other.claim),
        workers: beside(|other| other.claim.max(other.workers)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn holder(each: u32, floor: u32, claim: u32, workers: u32) -> Holder {
        Holder {
            each,
            floor,
            claim,
            workers,
        }
    }

    #[test]
    fn a_pool_takes_what_the_others_leave() {
        let others = [holder(2, 1, 4, 4), holder(0, 9, 9, 9)];
        let left = room(20, &holder(3, 1, 1, 1), &others);
        assert_eq!(
            (left.ceiling, left.workers),
            (4, 4),
            "12 are left, 3 for each worker"
        );
        let leaving = [holder(2, 1, 1, 4)];
        let left = room(20, &holder(3, 1, 1, 1), &leaving);
        assert_eq!((left.ceiling, left.workers), (6, 4));
        assert_eq!(
            room(0, &holder(3, 2, 2, 2), &others).workers,
            2,
            "its floor stays"
        );
        assert_eq!(room(1, &holder(0, 0, 0, 0), &others).workers, u32::MAX);
    }

    proptest! {
        /// However pools grow, shrink and are slow to follow, what they take together is there.
        #[test]
        fn permits_never_run_out(
            pools in proptest::collection::vec((0u32..4, 1u32..4), 1..5),
            more in 0u32..12,
            wishes in proptest::collection::vec((0usize..5, 0u32..12, 0u32..4), 0..40),
        ) {
            let total = pools.iter().map(|(each, floor)| each * floor).sum::<u32>() + more;
            let mut all: Vec<Holder> = pools.iter().map(|(each, floor)| holder(*each, *floor, *floor, 0)).collect();
            for (at, wish, late) in wishes {
                let at = at % all.len();
                let others: Vec<Holder> = (0..all.len()).filter(|other| *other != at).map(|other| all[other]).collect();
                let left = room(total, &all[at], &others);
                let pool = &mut all[at];
                let claim = if wish > pool.claim { wish.min(left.workers).max(pool.claim) } else { wish };
                pool.claim = claim.max(pool.floor);
                pool.workers = pool.claim.max(pool.workers.min(pool.claim + late));
                let taken: u32 = all.iter().map(|pool| pool.each * pool.claim.max(pool.workers)).sum();
                prop_assert!(taken <= total, "{taken} of {total}: {all:?}");
            }
        }
    }
}

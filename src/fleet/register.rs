//! Numbers: which pool each worker works for, what is given next, and which ordinals are free.

use std::collections::{BTreeSet, HashMap};

use crate::job::PoolName;

/// Gives every worker and every execution a number of its own, and every serving worker an ordinal.
#[derive(Debug)]
pub(super) struct Register {
    last_worker: u64,
    /// The pool of each worker that is not gone.
    homes: HashMap<u64, PoolName>,
    ordinals: Ordinals,
    rng: fastrand::Rng,
    revision: Revision,
}

/// How often something changed that others look at; each number only grows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Revision {
    /// A worker became ready, was asked to leave or is gone; or a stop began.
    pub workers: u64,
    /// A worker began or ended a job.
    pub jobs: u64,
}

impl Register {
    /// Nobody has a number yet; `seed` makes what is random repeatable.
    pub fn new(seed: u64) -> Self {
        Register {
            last_worker: 0,
            homes: HashMap::new(),
            ordinals: Ordinals::default(),
            rng: fastrand::Rng::with_seed(seed),
            revision: Revision::default(),
        }
    }

    /// The number of a new worker of this pool.
    pub fn new_worker(&mut self, pool: &PoolName) -> u64 {
        self.last_worker += 1;
        let known = self.homes.insert(self.last_worker, pool.clone());
        assert!(known.is_none(), "a worker is in one pool");
        self.last_worker
    }

    /// How many processes there are of a pool, or are to be.
    pub fn processes(&self, pool: &PoolName) -> usize {
        self.homes.values().filter(|home| *home == pool).count()
    }

    /// The pool that a worker works for.
    pub fn home(&self, worker: u64) -> Option<&PoolName> {
        self.homes.get(&worker)
    }

    /// A worker is no more.
    pub fn worker_gone(&mut self, worker: u64) {
        let home = self.homes.remove(&worker);
        assert!(home.is_some(), "worker {worker} is gone twice");
        self.workers_changed();
    }

    /// The smallest free ordinal, for a worker that begins to serve; `None`: all are taken.
    pub fn take_ordinal(&mut self) -> Option<u16> {
        self.ordinals.take()
    }

    /// A worker serves no more.
    pub fn free_ordinal(&mut self, ordinal: u16) {
        self.ordinals.give_back(ordinal);
    }

    /// A random number in `0.0..1.0`.
    pub fn random(&mut self) -> f64 {
        self.rng.f64()
    }

    /// What changed so far.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// A worker became ready, was asked to leave, or a stop began.
    pub fn workers_changed(&mut self) {
        self.revision.workers += 1;
    }

    /// A worker began or ended a job.
    pub fn jobs_changed(&mut self) {
        self.revision.jobs += 1;
    }
}

/// Small numbers from 1; the smallest free one is given first.
#[derive(Debug, Default)]
struct Ordinals {
    /// The largest that was ever given.
    largest: u16,
    /// Those up to it that are free.
    free: BTreeSet<u16>,
}

impl Ordinals {
    fn take(&mut self) -> Option<u16> {
        if let Some(free) = self.free.pop_first() {
            return Some(free);
        }
        self.largest = self.largest.checked_add(1)?;
        Some(self.largest)
    }

    fn give_back(&mut self, ordinal: u16) {
        assert!((1..=self.largest).contains(&ordinal), "{ordinal} was never given");
        let was_taken = self.free.insert(ordinal);
        assert!(was_taken, "ordinal {ordinal} is given back twice");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_free_ordinal_is_given_first() {
        let mut ordinals = Ordinals::default();
        assert_eq!([1, 2, 3].map(|_| ordinals.take()), [Some(1), Some(2), Some(3)]);
        ordinals.give_back(3);
        ordinals.give_back(1);
        assert_eq!([1, 2, 3].map(|_| ordinals.take()), [Some(1), Some(3), Some(4)]);
    }

    #[test]
    fn ordinals_end_with_their_type() {
        let mut ordinals = Ordinals::default();
        assert!((1..=u16::MAX).all(|expected| ordinals.take() == Some(expected)));
        assert_eq!(ordinals.take(), None);
        ordinals.give_back(7);
        assert_eq!(ordinals.take(), Some(7));
    }

    #[test]
    fn a_worker_has_a_home_until_it_is_gone() {
        let pool = PoolName::new("mail").expect("a valid name");
        let mut register = Register::new(0);
        let worker = register.new_worker(&pool);
        assert_eq!(register.home(worker), Some(&pool));
        register.worker_gone(worker);
        assert_eq!(register.home(worker), None);
    }
}

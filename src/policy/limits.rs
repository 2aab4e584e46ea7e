//! Which sizes a pool may have, and the one way to a size: [`decide`].
//!
//! What a pool *wishes* is said by its policy (see [`super::scaling`]). Whatever it says, the size stays within the limits.

use super::memory::Budget;
use super::scaling::wish::{Reason, Sample, Wish};
use super::share::Share;

/// What a pool may do at the instant of a decision.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// Never fewer workers.
    pub min: u32,
    /// Never more; wins over `min` if it is lower.
    pub max: u32,
    /// Somebody paused the pool: it claims no jobs.
    pub paused: bool,
    /// A template is loaded, so that a worker could be forked.
    pub loadable: bool,
    /// Memory of the pool, used and left.
    pub memory: Budget,
    /// What is left of what all pools share.
    pub share: Share,
}

/// What to do, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Workers before.
    pub from: u32,
    /// Workers wanted; the caller forks what is missing, or retires idle ones.
    pub to: u32,
    /// Why.
    pub reason: Reason,
}

impl Decision {
    /// Whether the number of workers changes.
    pub fn is_change(&self) -> bool {
        self.from != self.to
    }
}

/// The size that a pool is to have.
///
/// A pool outside its limits goes to the limit, and one without workers starts one when a job waits. Then its policy's
/// `wish` holds, as far as nothing forbids it. Without a wish (somebody changed the limits) only the limits are put in
/// force: at once, also where the pool is paused or no worker can be forked yet.
///
/// A worker is only retired when it is idle, so going down may take the caller a while.
pub fn decide(limits: &Limits, sample: &Sample, wish: Option<Wish>) -> Decision {
    let now = sample.workers;
    let size = Size { now, limits };
    let floor = limits.min.min(limits.max);
    let max = limits.max.min(limits.share.ceiling);
    if now > max {
        return size.to(max, Reason::AboveMaximum);
    }
    let Some(wish) = wish else {
        return match now < floor {
            true => size.afford(floor, Reason::BelowMinimum),
            false => size.to(now, Reason::Steady),
        };
    };
    if now < floor {
        return size.grow(floor, Reason::BelowMinimum);
    }
    if now == 0 && sample.waiting > 0 && limits.max > 0 {
        return size.grow(1, Reason::JobsWaiting);
    }
    match wish.workers {
        more if more > now && now >= limits.max => size.to(now, Reason::AtMaximum),
        more if more > now => size.grow(more.min(limits.max), wish.reason),
        fewer if fewer.max(floor) >= now => size.to(now, Reason::Steady),
        // Nothing could bring the worker back.
        _ if !limits.loadable => size.to(now, Reason::NotLoadable),
        fewer => size.to(fewer.max(floor), wish.reason),
    }
}

/// A pool's size, and what it may become.
struct Size<'a> {
    now: u32,
    limits: &'a Limits,
}

impl Size<'_> {
    /// Growth to `wanted`, as far as nothing forbids it.
    fn grow(&self, wanted: u32, reason: Reason) -> Decision {
        if self.limits.paused {
            return self.to(self.now, Reason::Paused);
        }
        if !self.limits.loadable {
            return self.to(self.now, Reason::NotLoadable);
        }
        self.afford(wanted, reason)
    }

    /// Growth to `wanted`, as far as memory and the workers of all go. Memory never forbids the first worker: a pool that
    /// can't run a single job is no saving. What all pools share never forbids a pool to reach its floor.
    fn afford(&self, wanted: u32, reason: Reason) -> Decision {
        let share = &self.limits.share;
        let own = self.limits.memory.most_workers(self.now);
        let shared = self.now.saturating_add(share.memory.room()).max(share.floor);
        let affordable = own.min(shared);
        let seats = share.workers.max(self.now);
        if affordable.min(seats) >= wanted {
            return self.to(wanted, reason);
        }
        if affordable < seats {
            return self.to(affordable, Reason::MemoryBudget);
        }
        self.to(seats, Reason::TotalWorkers)
    }

    fn to(&self, to: u32, reason: Reason) -> Decision {
        Decision {
            from: self.now,
            to,
            reason,
        }
    }
}

#[cfg(test)]
mod tests;

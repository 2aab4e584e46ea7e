//! Which sizes a pool may have, and the one way to a size: [`decide`].
//!
//! What a pool *wishes* is said by its policy (see [`super::scaling`]). Whatever it says, the size stays within the limits.

use super::decision::{Decision, Limit};
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
    /// More workers than these brought no throughput; `None`: nothing is known of that. Never below the minimum.
    pub held: Option<u32>,
}

/// The size that a pool is to have.
///
/// A pool outside its limits goes to the limit, and one without workers starts one when a job waits. Then its policy's
/// `wish` holds, as far as nothing forbids it. Without a wish (somebody changed the limits) only the limits are put in
/// force: at once, also where the pool is paused or no worker can be forked yet.
///
/// A worker is only retired when it is idle, so going down may take the caller a while.
pub fn decide(limits: &Limits, sample: &Sample, wish: Option<Wish>) -> Decision {
    let floor = limits.min.min(limits.max);
    let held = limits.held.map(|held| held.max(floor));
    let size = Size {
        now: sample.workers,
        floor,
        max: limits.max.min(held.unwrap_or(u32::MAX)),
        limits,
    };
    let (is_asked, wish) = (wish.is_some(), wish.unwrap_or_else(|| Wish::stay(sample)));
    let put_right = size.put_right(is_asked);
    // Where a limit puts the size right, no term of the policy won.
    let term = if put_right.is_none() { wish.term } else { None };
    let Bounded { to, reason, limit } = match put_right {
        Some(bounded) => bounded,
        None if size.now == 0 && sample.waiting > 0 && limits.max > 0 && is_asked => {
            size.grow(1, Reason::JobsWaiting, None)
        }
        None => size.follow(wish.workers, wish.reason),
    };
    Decision {
        from: sample.workers,
        to,
        reason,
        sample: *sample,
        bounds: (limits.min, limits.max),
        candidates: wish.candidates,
        term,
        wished: wish.workers,
        limit,
    }
}

/// A pool's size, and what it may become.
struct Size<'a> {
    now: u32,
    floor: u32,
    /// The most of its own: `max_workers`, or what is held.
    max: u32,
    limits: &'a Limits,
}

/// A size within all limits, and the one that held.
struct Bounded {
    to: u32,
    reason: Reason,
    limit: Option<Limit>,
}

impl Bounded {
    fn to(to: u32, reason: Reason, limit: Option<Limit>) -> Self {
        Bounded { to, reason, limit }
    }
}

impl Size<'_> {
    /// Outside its limits, a pool goes to the limit. Limits that were just changed (nobody `is_asked` for a wish) hold
    /// although the pool is paused or no worker can be forked yet.
    fn put_right(&self, is_asked: bool) -> Option<Bounded> {
        let ceiling = self.limits.share.ceiling;
        if self.now > ceiling.min(self.limits.max) {
            let limit = match self.limits.max <= ceiling {
                true => Limit::Maximum,
                false => self.shared(),
            };
            return Some(Bounded::to(
                ceiling.min(self.max),
                Reason::AboveMaximum,
                Some(limit),
            ));
        }
        if self.now > self.max {
            return Some(Bounded::to(
                self.max,
                Reason::NoThroughput,
                Some(Limit::Throughput),
            ));
        }
        if self.now >= self.floor {
            return None;
        }
        let (reason, limit) = (Reason::BelowMinimum, Some(Limit::Minimum));
        Some(match is_asked {
            true => self.grow(self.floor, reason, limit),
            false => self.afford(self.floor, reason, limit),
        })
    }

    /// The wish of a pool inside its limits.
    fn follow(&self, wished: u32, reason: Reason) -> Bounded {
        let max = self.max;
        let (limit_of_own, at_most) = match max < self.limits.max {
            true => (Limit::Throughput, Reason::NoThroughput),
            false => (Limit::Maximum, Reason::AtMaximum),
        };
        match wished {
            same if same == self.now => Bounded::to(self.now, Reason::Steady, None),
            more if more > self.now && self.now >= max => Bounded::to(self.now, at_most, Some(limit_of_own)),
            more if more > self.now => {
                let limit = (more > max).then_some(limit_of_own);
                self.grow(more.min(max), reason, limit)
            }
            fewer if fewer.max(self.floor) >= self.now => {
                Bounded::to(self.now, Reason::Steady, Some(Limit::Minimum))
            }
            // Nothing could bring the worker back.
            _ if !self.limits.loadable => {
                Bounded::to(self.now, Reason::NotLoadable, Some(Limit::NotLoadable))
            }
            fewer => {
                let limit = (fewer < self.floor).then_some(Limit::Minimum);
                Bounded::to(fewer.max(self.floor), reason, limit)
            }
        }
    }

    /// Growth to `wanted`, as far as nothing forbids it; `limit`: the one that `wanted` comes from.
    fn grow(&self, wanted: u32, reason: Reason, limit: Option<Limit>) -> Bounded {
        if self.limits.paused {
            return Bounded::to(self.now, Reason::Paused, Some(Limit::Paused));
        }
        if !self.limits.loadable {
            return Bounded::to(self.now, Reason::NotLoadable, Some(Limit::NotLoadable));
        }
        self.afford(wanted, reason, limit)
    }

    /// Growth to `wanted`, as far as memory and the workers of all go. Memory never forbids the first worker: a pool that
    /// can't run a single job is no saving. What all pools share never forbids a pool to reach its floor.
    fn afford(&self, wanted: u32, reason: Reason, limit: Option<Limit>) -> Bounded {
        let share = &self.limits.share;
        let own = self.limits.memory.most_workers(self.now);
        let shared = self.now.saturating_add(share.memory.room()).max(share.floor);
        let affordable = own.min(shared);
        let seats = share.workers.max(self.now);
        if affordable.min(seats) >= wanted {
            return Bounded::to(wanted, reason, limit);
        }
        if affordable < seats {
            let limit = if own <= shared {
                Limit::Memory
            } else {
                Limit::TotalMemory
            };
            return Bounded::to(affordable, Reason::MemoryBudget, Some(limit));
        }
        let limit = self.shared();
        let reason = match limit {
            Limit::Permits => Reason::Permits,
            _ => Reason::TotalWorkers,
        };
        Bounded::to(seats, reason, Some(limit))
    }

    /// What all pools share and have least of: workers, or permits.
    fn shared(&self) -> Limit {
        match self.limits.share.permits {
            Some(_) => Limit::Permits,
            None => Limit::TotalWorkers,
        }
    }
}

#[cfg(test)]
mod tests;

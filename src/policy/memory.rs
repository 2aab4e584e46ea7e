//! The memory budget: what the pools use, what one more worker would cost, what is left.
//!
//! Memory is counted as PSS (proportional set size), where a page shared by N processes counts 1/N
//! for each: the sum over template and workers is what they really occupy.

use std::fmt;

/// What one more worker is thought to cost before any has been measured, in bytes.
pub const COST_UNKNOWN: u64 = 16 << 20;

/// `max_memory`
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum MemoryLimit {
    /// In bytes.
    Bytes(u64),
    /// A share of the host's memory, or of the cgroup's limit where that is lower; `0.0..=1.0`.
    Share(f64),
}

impl MemoryLimit {
    /// The limit in bytes on a host with `host` bytes of memory, in a cgroup limited to `cgroup` bytes.
    pub fn resolve(self, host: u64, cgroup: Option<u64>) -> u64 {
        match self {
            MemoryLimit::Bytes(bytes) => bytes,
            // A float converts saturating, and a share that is no number gives 0.
            MemoryLimit::Share(share) => {
                (share * cgroup.map_or(host, |cgroup| cgroup.min(host)) as f64) as u64
            }
        }
    }
}

/// What a worker occupies with the processes of its jobs, in bytes; all 0: not measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Occupied {
    /// Proportional set size.
    pub pss: u64,
    /// Pages that other processes map too.
    pub shared: u64,
    /// Pages that no other process maps: what its end would free.
    pub private: u64,
    /// What the private pages are.
    pub parts: Parts,
}

/// What private pages are, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    /// Memory mapped without a file: Python's heap, and large blocks that the C library maps.
    pub anonymous: u64,
    /// The heap of the C library.
    pub heap: u64,
    /// Data of programs and libraries, stacks.
    pub other: u64,
}

impl Parts {
    /// All of them.
    pub fn total(&self) -> u64 {
        self.anonymous + self.heap + self.other
    }
}

/// What one worker occupies, as far as it says what another one would cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkerMemory {
    /// Pages that no other process maps, in bytes.
    pub private: u64,
    /// Jobs that it has finished; a worker without one has hardly touched its memory yet.
    pub jobs: u64,
}

/// The state of a memory budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// PSS of template and workers, in bytes.
    pub used: u64,
    /// Most that they may use, in bytes; `None`: no limit.
    pub limit: Option<u64>,
    /// Of the limit, what is kept for others and for workers that have not run a job yet, in bytes.
    pub kept: u64,
    /// What one more worker would add, in bytes.
    pub cost: u64,
}

impl Budget {
    /// A budget without a limit.
    pub const UNLIMITED: Budget = Budget {
        used: 0,
        limit: None,
        kept: 0,
        cost: COST_UNKNOWN,
    };

    /// How many more workers fit; `u32::MAX` without a limit.
    pub fn room(&self) -> u32 {
        self.limit.map_or(u32::MAX, |limit| {
            let left = limit.saturating_sub(self.used).saturating_sub(self.kept);
            u32::try_from(left / self.cost.max(1)).unwrap_or(u32::MAX)
        })
    }

    /// Most workers that a pool of so many may grow to; 1 in any case.
    pub fn most_workers(&self, workers: u32) -> u32 {
        workers.saturating_add(self.room()).max(1)
    }
}

/// In words, for the log: `900 MiB used, one more worker costs about 80 MiB, the limit is 950 MiB`.
impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |bytes: u64| bytes.div_ceil(1 << 20);
        write!(
            f,
            "{} MiB used, one more worker costs about {} MiB, ",
            mib(self.used),
            mib(self.cost)
        )?;
        match self.limit {
            Some(limit) => write!(f, "the limit is {} MiB", limit >> 20)?,
            None => f.write_str("no limit")?,
        }
        match self.kept {
            0 => Ok(()),
            kept => write!(f, ", of which {} MiB are kept for other workers", mib(kept)),
        }
    }
}

/// What one more worker would add to the PSS of all, in bytes: the mean of the private bytes of those that
/// have run a job; `None` if none has. Shared pages are counted once whoever maps them, so another sharer adds nothing.
pub fn cost_of_one_more(workers: &[WorkerMemory]) -> Option<u64> {
    let warm = || workers.iter().filter(|worker| worker.jobs > 0);
    let count = warm().count() as u128;
    let sum: u128 = warm().map(|worker| u128::from(worker.private)).sum();
    let mean = sum.checked_div(count)?;
    Some(u64::try_from(mean).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MIB: u64 = 1 << 20;

    fn worker(private: u64, jobs: u64) -> WorkerMemory {
        WorkerMemory { private, jobs }
    }

    fn budget(used: u64, limit: Option<u64>, kept: u64, cost: u64) -> Budget {
        Budget {
            used,
            limit,
            kept,
            cost,
        }
    }

    #[test]
    fn a_share_is_of_the_host_or_of_a_lower_cgroup_limit() {
        assert_eq!(MemoryLimit::Bytes(7).resolve(1000, Some(10)), 7);
        assert_eq!(MemoryLimit::Share(0.5).resolve(1000, None), 500);
        assert_eq!(MemoryLimit::Share(0.5).resolve(1000, Some(400)), 200);
        assert_eq!(
            MemoryLimit::Share(0.5).resolve(1000, Some(u64::MAX)),
            500,
            "no cgroup limit in practice"
        );
    }

    #[test]
    fn one_more_costs_what_warm_workers_have_to_themselves() {
        assert_eq!(cost_of_one_more(&[]), None);
        assert_eq!(
            cost_of_one_more(&[worker(MIB, 0)]),
            None,
            "a fresh fork says nothing"
        );
        assert_eq!(
            cost_of_one_more(&[worker(10 * MIB, 5), worker(30 * MIB, 1), worker(MIB, 0)]),
            Some(20 * MIB)
        );
    }

    #[test]
    fn room_is_what_fits_under_the_limit() {
        assert_eq!(budget(500, None, 0, 100).room(), u32::MAX);
        assert_eq!(budget(500, Some(799), 0, 100).room(), 2);
        assert_eq!(budget(500, Some(799), 199, 100).room(), 1, "some is kept");
        assert_eq!(budget(900, Some(799), 0, 100).room(), 0, "over the limit already");
    }

    #[test]
    fn a_budget_says_its_numbers() {
        let one = budget(900 * MIB, Some(950 * MIB), 0, 80 * MIB);
        assert_eq!(
            one.to_string(),
            "900 MiB used, one more worker costs about 80 MiB, the limit is 950 MiB"
        );
        let shared = Budget {
            kept: 160 * MIB,
            ..one
        };
        assert_eq!(
            shared.to_string(),
            "900 MiB used, one more worker costs about 80 MiB, the limit is 950 MiB, \
             of which 160 MiB are kept for other workers"
        );
    }

    proptest! {
        #[test]
        fn what_has_room_fits(used: u64, limit: u64, kept: u64, cost: u64) {
            let room = u128::from(budget(used, Some(limit), kept, cost).room());
            let taken = u128::from(used) + u128::from(kept);
            prop_assert!(room == 0 || taken + room * u128::from(cost) <= u128::from(limit));
        }

        #[test]
        fn a_share_is_never_more_than_there_is(share: f64, host in 0u64..1 << 50, cgroup in proptest::option::of(0u64..1 << 50)) {
            let limit = MemoryLimit::Share(share.abs().fract()).resolve(host, cgroup);
            prop_assert!(limit <= cgroup.unwrap_or(host).min(host));
        }
    }
}

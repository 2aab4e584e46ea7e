//! Processors that this process may use.

use std::fmt;
use std::thread::available_parallelism;

use nix::sched::{CpuSet, sched_getaffinity};
use nix::unistd::{Pid, SysconfVar, sysconf};

/// Processors, and why there are no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Processors {
    /// Those that this process may keep busy at once, in whole ones; at least 1.
    pub usable: u32,
    /// Those of the machine.
    pub online: u32,
    /// What keeps it from using all of them.
    pub limit: Option<Limit>,
}

/// What keeps a process from using all processors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// The quota of its control group: `cpu.max`, or `cpu.cfs_quota_us` of the first version.
    Quota,
    /// Its affinity: `taskset`, or the `cpuset` of its control group.
    Affinity,
}

/// Asks the system. A quota is rounded down, as the standard library does: 1.5 processors count as one.
pub fn processors() -> Processors {
    let whole = |count: usize| u32::try_from(count).unwrap_or(u32::MAX).max(1);
    let usable = available_parallelism().map_or(1, |count| whole(count.get()));
    let online = sysconf(SysconfVar::_NPROCESSORS_ONLN).ok().flatten();
    let online = online
        .and_then(|count| u32::try_from(count).ok())
        .unwrap_or(usable)
        .max(usable);
    let allowed = sched_getaffinity(Pid::from_raw(0)).map_or(online, |set| {
        whole(
            (0..CpuSet::count())
                .filter(|cpu| set.is_set(*cpu).unwrap_or(false))
                .count(),
        )
    });
    let limit = match usable {
        all if all >= online => None,
        all if all < allowed => Some(Limit::Quota),
        _ => Some(Limit::Affinity),
    };
    Processors {
        usable,
        online,
        limit,
    }
}

impl fmt::Display for Processors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let s = if self.usable == 1 { "" } else { "s" };
        write!(f, "{} processor{s}", self.usable)?;
        match self.limit {
            None => Ok(()),
            Some(Limit::Quota) => write!(f, " of {}, by the quota of the control group", self.online),
            Some(Limit::Affinity) => write!(f, " of {}, by the affinity of this process", self.online),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_may_use_some() {
        let found = processors();
        assert!((1..=found.online).contains(&found.usable), "{found:?}");
        assert_eq!(found.limit.is_none(), found.usable == found.online);
    }

    #[test]
    fn the_reason_is_told() {
        let found = |usable, limit| {
            Processors {
                usable,
                online: 8,
                limit,
            }
            .to_string()
        };
        assert_eq!(found(8, None), "8 processors");
        assert_eq!(
            found(1, Some(Limit::Quota)),
            "1 processor of 8, by the quota of the control group"
        );
        assert_eq!(
            found(4, Some(Limit::Affinity)),
            "4 processors of 8, by the affinity of this process"
        );
    }
}

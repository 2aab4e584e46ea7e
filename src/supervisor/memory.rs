//! What template and workers occupy, and how much they may.

use crate::config::MemoryLimit;
use crate::fleet::{Memory, Occupied, Parts};
use crate::job::PoolName;
use crate::sys::memory::{Memory as Rollup, children_of, private_parts, smaps_rollup};

/// What the private memory of a process consists of is read again when that has changed by this many bytes: it costs
/// three times as much as all other figures.
const PARTS_STEP: u64 = 256 << 10;

/// Measures processes: the templates' ids, and `(worker, pid, as last measured)`, each with its job's process where
/// workers `fork` one. Reads `/proc`, some milliseconds for large processes: not for the loop's own thread.
pub(super) fn measure(
    templates: &[i32],
    (workers, fork): (&[(u64, i32, Occupied)], bool),
    limits: &[(PoolName, MemoryLimit)],
    total: Option<MemoryLimit>,
) -> Memory {
    let workers: Vec<(u64, Occupied)> = workers
        .iter()
        .filter_map(|(worker, pid, before)| Some((*worker, occupied(*pid, fork, before)?)))
        .collect();
    let templates: u64 = templates
        .iter()
        .filter_map(|pid| smaps_rollup(*pid))
        .map(|memory| memory.pss)
        .sum();
    let pss_total = templates + workers.iter().map(|(_, occupied)| occupied.pss).sum::<u64>();
    let resolve = resolver(limits.len() + usize::from(total.is_some()));
    Memory {
        pss_total,
        workers,
        limits: limits
            .iter()
            .filter_map(|(pool, limit)| Some((pool.clone(), resolve(*limit)?)))
            .collect(),
        total_limit: total.and_then(&resolve),
    }
}

/// What a worker occupies, with its job's process; `None` when it is gone.
fn occupied(pid: i32, forks: bool, before: &Occupied) -> Option<Occupied> {
    let own = smaps_rollup(pid)?;
    let children = if forks { children_of(pid) } else { Vec::new() };
    let all = || children.iter().copied();
    let rollups: Vec<_> = all().filter_map(smaps_rollup).chain([own]).collect();
    let sum = |of: fn(&Rollup) -> u64| rollups.iter().map(of).sum();
    let private: u64 = sum(|memory| memory.private);
    let known = before.parts.total();
    let parts = if known > 0 && private.abs_diff(known) < PARTS_STEP {
        before.parts
    } else {
        parts_of(all().chain([pid]))
    };
    Some(Occupied {
        pss: sum(|memory| memory.pss),
        shared: sum(|memory| memory.shared),
        private,
        parts,
    })
}

/// What the private pages of these processes are.
fn parts_of(pids: impl Iterator<Item = i32>) -> Parts {
    pids.filter_map(private_parts)
        .fold(Parts::default(), |sum, part| Parts {
            anonymous: sum.anonymous + part.anonymous,
            heap: sum.heap + part.heap,
            other: sum.other + part.other,
        })
}

/// Turns limits into bytes; the host is not asked when there are none.
fn resolver(limits: usize) -> impl Fn(MemoryLimit) -> Option<u64> {
    let system = (limits > 0).then(sysinfo::System::new).and_then(Result::ok);
    let known = system.map(|mut system| {
        system.refresh_memory();
        let cgroup = system.cgroup_limits().map(|limits| limits.total_memory);
        (system.total_memory(), cgroup)
    });
    move |limit| known.map(|(host, cgroup)| limit.resolve(host, cgroup))
}

/// `supervisor.max_total_memory` in bytes on this host.
pub(super) fn resolve(limit: MemoryLimit) -> Option<u64> {
    resolver(1)(limit)
}

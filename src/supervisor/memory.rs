//! What template and workers occupy, and how much they may.

use crate::config::MemoryLimit;
use crate::fleet::Memory;
use crate::job::PoolName;
use crate::sys::memory::{children_of, smaps_rollup};

/// Measures processes: the templates' ids, and `(worker, pid)`, each with its job's process where workers `fork` one.
/// Reads `/proc`, some milliseconds for large processes: not for the loop's own thread.
pub(super) fn measure(
    templates: &[i32],
    (workers, fork): (&[(u64, i32)], bool),
    limits: &[(PoolName, MemoryLimit)],
    total: Option<MemoryLimit>,
) -> Memory {
    let workers: Vec<(u64, u64, u64)> = workers
        .iter()
        .filter_map(|(worker, pid)| {
            let own = smaps_rollup(*pid)?;
            let children = if fork { children_of(*pid) } else { Vec::new() };
            let jobs: Vec<_> = children.into_iter().filter_map(smaps_rollup).collect();
            let pss = own.pss + jobs.iter().map(|memory| memory.pss).sum::<u64>();
            let private = own.private + jobs.iter().map(|memory| memory.private).sum::<u64>();
            Some((*worker, pss, private))
        })
        .collect();
    let templates: u64 = templates
        .iter()
        .filter_map(|pid| smaps_rollup(*pid))
        .map(|memory| memory.pss)
        .sum();
    let pss_total = templates + workers.iter().map(|(_, pss, _)| pss).sum::<u64>();
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

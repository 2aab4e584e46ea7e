//! What template and workers occupy, and how much they may.

use crate::config::MemoryLimit;
use crate::fleet::Memory;
use crate::job::PoolName;
use crate::sys::memory::smaps_rollup;

/// Measures processes: the templates' ids, and `(worker, pid)`. Reads `/proc`, some milliseconds for large
/// processes: not for the loop's own thread.
pub(super) fn measure(
    templates: &[i32],
    workers: &[(u64, i32)],
    limits: &[(PoolName, MemoryLimit)],
) -> Memory {
    let workers: Vec<(u64, u64, u64)> = workers
        .iter()
        .filter_map(|(worker, pid)| smaps_rollup(*pid).map(|memory| (*worker, memory.pss, memory.private)))
        .collect();
    let templates: u64 = templates
        .iter()
        .filter_map(|pid| smaps_rollup(*pid))
        .map(|memory| memory.pss)
        .sum();
    let pss_total = templates + workers.iter().map(|(_, pss, _)| pss).sum::<u64>();
    Memory {
        pss_total,
        workers,
        limits: resolve(limits),
    }
}

fn resolve(limits: &[(PoolName, MemoryLimit)]) -> Vec<(PoolName, u64)> {
    if limits.is_empty() {
        return Vec::new();
    }
    let Ok(mut system) = sysinfo::System::new() else {
        return Vec::new();
    };
    system.refresh_memory();
    let cgroup = system.cgroup_limits().map(|limits| limits.total_memory);
    limits
        .iter()
        .map(|(pool, limit)| (pool.clone(), limit.resolve(system.total_memory(), cgroup)))
        .collect()
}

//! What `[supervisor]` and the pools must be beside each other. Pure.

use std::time::Duration;

use super::pools::WORKERS_MAX;
use crate::config::findings::Rules;
use crate::config::scalars::setting::bare_or_quoted;
use crate::config::values::{Config, PoolConfig, SupervisorConfig};
use crate::policy::memory::MemoryLimit;

impl Rules<'_> {
    /// The limits on all pools together leave room for what each pool is promised.
    pub(super) fn totals(&mut self, config: &Config) {
        let SupervisorConfig {
            max_total_workers,
            max_total_memory,
            max_idle_time,
            ..
        } = config.supervisor;
        self.permits_fit(config);
        let ok = max_idle_time != Some(Duration::ZERO);
        self.value("supervisor.max_idle_time", ok, "more than 0s, or \"none\"");
        let path = "supervisor.max_total_workers";
        let ok = max_total_workers.is_none_or(|total| (1..=WORKERS_MAX).contains(&total));
        self.value(path, ok, &format!("from 1 to {WORKERS_MAX}, or \"none\""));
        if let Some(total) = max_total_workers.filter(|_| ok) {
            self.floors_fit(config, total);
        }
        for (name, pool) in &config.pools {
            let ok = match (pool.max_memory, max_total_memory) {
                (Some(MemoryLimit::Bytes(own)), Some(MemoryLimit::Bytes(total))) => own <= total,
                (Some(MemoryLimit::Share(own)), Some(MemoryLimit::Share(total))) => own <= total,
                // How a share compares with a size, only the host knows.
                _ => true,
            };
            let own = format!("pools.{}.max_memory", bare_or_quoted(name.as_str()));
            self.pair(&own, ok, "above", "supervisor.max_total_memory", "");
        }
    }

    /// Each kind of permits is there, and enough for the floors of all pools.
    fn permits_fit(&mut self, config: &Config) {
        let there = &config.supervisor.permits;
        for (name, pool) in &config.pools {
            for kind in pool.permits.0.keys().filter(|kind| !there.0.contains_key(*kind)) {
                let path = format!("pools.{}.permits", bare_or_quoted(name.as_str()));
                let message = format!(
                    "`{}` takes `{kind}`, which `supervisor.permits` does not have",
                    self.origin(&path).name(&path)
                );
                let hint = format!(
                    "say how many there are for all pools, such as `permits = {{ {} = 40 }}` in `[supervisor]`",
                    bare_or_quoted(kind)
                );
                self.add(&path, message, &hint);
            }
        }
        for (kind, total) in &there.0 {
            let taken = |pool: &PoolConfig| u64::from(pool.floor()) * u64::from(pool.permits.of(kind));
            let sum: u64 = config.pools.values().map(taken).sum();
            if sum > u64::from(total.get()) {
                let path = "supervisor.permits";
                let message = format!(
                    "`{}` has {total} of `{kind}`, below the {sum} that the pools take with the workers that they are promised",
                    self.origin(path).name(path)
                );
                self.add(
                    path,
                    message,
                    "a pool is promised the most of `min_workers`, `reserve_workers` and 1",
                );
            }
        }
    }

    fn floors_fit(&mut self, config: &Config, total: u32) {
        let floors = config.pools.iter().map(|(name, pool)| (name, pool.floor()));
        let sum: u64 = floors.clone().map(|(_, floor)| u64::from(floor)).sum();
        let keys = ["min_workers", "max_workers", "reserve_workers"];
        let unread = config.pools.keys().any(|name| {
            let table = format!("pools.{}", bare_or_quoted(name.as_str()));
            keys.iter().any(|key| self.is_bad(&format!("{table}.{key}")))
        });
        if sum <= u64::from(total) || unread {
            return;
        }
        let each: Vec<String> = floors.map(|(name, floor)| format!("{name} {floor}")).collect();
        let path = "supervisor.max_total_workers";
        let message = format!(
            "`{}` is {total}, below the {sum} workers that the pools are promised together: {}",
            self.origin(path).name(path),
            each.join(", ")
        );
        let hint = "a pool is promised the most of `min_workers`, `reserve_workers` and 1";
        self.add(path, message, hint);
    }
}

//! What `[pools.NAME]` must be. Pure.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::config::findings::Rules;
use crate::config::problem::Origin;
use crate::config::scalars::setting::bare_or_quoted;
use crate::config::values::{AppConfig, Config, Isolation, PoolConfig};
use crate::policy::prefetch::Prefetch;

/// Most workers of a pool: a bound on what a slip of the finger can start.
pub const WORKERS_MAX: u32 = 10_000;

impl Rules<'_> {
    pub(super) fn pool(&mut self, at: &str, pool: &PoolConfig, app: &AppConfig, ends_with_worker: bool) {
        let path = |key: &str| format!("{at}.{key}");
        if !self.app_names_queues {
            self.value(&path("queues"), !pool.queues.is_empty(), "at least one queue");
        }
        let distinct: BTreeSet<_> = pool.queues.iter().collect();
        let ok = distinct.len() == pool.queues.len();
        self.value(&path("queues"), ok, "each queue once");
        self.scaling(at, pool);
        self.workers_and_jobs(at, pool);
        if app.isolation == Isolation::Fresh {
            self.fresh(at, pool, ends_with_worker);
        }
    }

    fn scaling(&mut self, at: &str, pool: &PoolConfig) {
        let path = |key: &str| format!("{at}.{key}");
        let ok = (1..=WORKERS_MAX).contains(&pool.max_workers);
        self.value(&path("max_workers"), ok, &format!("from 1 to {WORKERS_MAX}"));
        if pool.max_workers > 0 {
            let ok = pool.min_workers <= pool.max_workers;
            self.pair(&path("max_workers"), ok, "below", &path("min_workers"), "");
            let ok = pool.floors.highest() <= pool.max_workers;
            self.pair(&path("max_workers"), ok, "below", &path("floors"), "");
            let ok = pool.reserve_workers <= pool.max_workers;
            self.pair(&path("max_workers"), ok, "below", &path("reserve_workers"), "");
        }
        let threshold = pool.scaling.threshold();
        let ok = threshold > 0.0 && threshold <= 1.0;
        self.value(&path("utilization_threshold"), ok, "above 0, up to 1");
        let (window, period) = (path("utilization_window"), path("scaling_period"));
        self.positive(&window, pool.utilization_window);
        if !pool.utilization_window.is_zero() {
            // Else it is 0 too, unless somebody set it.
            self.positive(&period, pool.scaling_period);
            let ok = pool.utilization_window >= pool.scaling_period;
            self.pair(&window, ok, "shorter than", &period, "");
        }
    }

    fn workers_and_jobs(&mut self, at: &str, pool: &PoolConfig) {
        let path = |key: &str| format!("{at}.{key}");
        let ok = pool.max_jobs != Some(0);
        self.value(&path("max_jobs"), ok, "1 or more, or \"none\"");
        for (key, size) in [
            ("max_worker_memory", pool.max_worker_memory),
            ("max_worker_private", pool.max_worker_private),
        ] {
            self.value(&path(key), size != Some(0), "more than 0, or \"none\"");
        }
        for (key, time) in [("max_age", pool.max_age), ("job_timeout", pool.job_timeout)] {
            let ok = time != Some(Duration::ZERO);
            self.value(&path(key), ok, "more than 0s, or \"none\"");
        }
        self.timeout(&path("job_timeout"), pool.job_timeout);
        let ok = pool.retry.backoff_max >= pool.retry.backoff;
        self.pair(&path("backoff_max"), ok, "shorter than", &path("backoff"), "");
        let ok = pool.retry.max_worker_losses > 0;
        self.value(&path("max_worker_losses"), ok, "1 or more");
    }

    /// With `isolation = "fresh"` what speaks of several jobs a worker can't hold.
    fn fresh(&mut self, at: &str, pool: &PoolConfig, ends_with_worker: bool) {
        let why = "or `app.isolation = \"warm\"`: a fresh worker runs one job";
        // The supervisor of the only worker may end with it, and so counts the jobs of its forks.
        let ok = ends_with_worker || matches!(pool.max_jobs, None | Some(0 | 1));
        self.value(&format!("{at}.max_jobs"), ok, &format!("1 {why}"));
        let ok = matches!(pool.prefetch, Prefetch::Auto | Prefetch::Fixed(0));
        self.value(&format!("{at}.prefetch"), ok, &format!("\"auto\" or 0, {why}"));
    }

    /// A flag or variable holds for every pool; the same queues for all can't be meant.
    pub(super) fn queues_of_several_pools(&mut self, config: &Config) {
        let names: Vec<String> = config.pools.keys().map(|name| format!("`{name}`")).collect();
        let path = |name: &str| format!("pools.{}.queues", bare_or_quoted(name));
        let outside = config
            .pools
            .keys()
            .map(|name| path(name.as_str()))
            .find(|path| matches!(self.origin(path), Origin::Flag(_) | Origin::Environment(_)));
        if let (2.., Some(path)) = (names.len(), outside) {
            let message = format!(
                "`{}` names no pool, and the file has {}: {}",
                self.origin(&path).name(&path),
                names.len(),
                names.join(", ")
            );
            self.add(&path, message, "set `queues` in each `[pools.NAME]` of the file");
        }
    }
}

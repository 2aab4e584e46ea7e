//! Defaults that give way to what somebody said.

use crate::config::dialect;
use crate::config::scalars::setting::bare_or_quoted;
use crate::config::values::Config;

/// A default gives way to what somebody said: `--max-workers 1` alone means one worker, not a
/// contradiction with the default `min_workers`. `is_set` tells for the path of a key.
pub(in crate::config) fn give_way(config: &mut Config, is_set: impl Fn(&str) -> bool) {
    let broker = &mut config.broker;
    if !is_set("broker.heartbeat") {
        broker.heartbeat = broker.heartbeat.min(broker.lease / 4);
    } else if !is_set("broker.lease") {
        broker.lease = broker.lease.max(broker.heartbeat.saturating_mul(4));
    }
    dialect::give_way(config, &is_set);
    let total = config.supervisor.max_total_workers;
    let share = total.map(|total| (total / config.pools.len().max(1) as u32).max(1));
    for (name, pool) in &mut config.pools {
        let unset = |key: &str| !is_set(&format!("pools.{}.{key}", bare_or_quoted(name.as_str())));
        if unset("min_workers") {
            let most = share.unwrap_or(u32::MAX).min(pool.max_workers);
            pool.min_workers = pool.min_workers.min(most);
        } else if unset("max_workers") {
            pool.max_workers = pool.max_workers.max(pool.min_workers);
        }
        if unset("max_workers") {
            pool.max_workers = pool.max_workers.max(pool.reserve_workers);
        }
        if pool.max_workers_from.is_some() {
            // On a small machine it is no contradiction.
            pool.max_workers = pool.max_workers.max(pool.least_maximum());
        }
        if unset("utilization_window") {
            pool.utilization_window = pool.utilization_window.max(pool.scaling_period);
        } else if unset("scaling_period") {
            pool.scaling_period = pool.scaling_period.min(pool.utilization_window);
        }
        if unset("backoff_max") {
            pool.retry.backoff_max = pool.retry.backoff_max.max(pool.retry.backoff);
        } else if unset("backoff") {
            pool.retry.backoff = pool.retry.backoff.min(pool.retry.backoff_max);
        }
    }
}

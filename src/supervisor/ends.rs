//! When a supervisor ends by itself: at the end of a burst, after `max_idle_time`, and where `max_jobs` ends it.

use std::time::Duration;

use super::Supervisor;
use crate::config::Config;
use crate::fleet::{Command, Now};
use crate::job::PoolName;
use crate::time::Mono;

/// How many jobs each pool may take in all, where `max_jobs` ends the supervisor.
///
/// A pool replaces a worker that ran `max_jobs`: its users want fresh processes. Where the dialect of the jobs says that such
/// a worker ends for good, the supervisor ends when nobody is left to go on: in a burst, or with its only worker.
pub(super) fn quotas(config: &Config, burst: bool) -> Vec<(PoolName, u64)> {
    if !config.supervisor.ends_after_max_jobs || !(burst || config.max_workers() == 1) {
        return Vec::new();
    }
    let quota = |(name, pool): (&PoolName, &crate::config::PoolConfig)| {
        let jobs = u64::from(pool.max_jobs?) * u64::from(pool.max_workers);
        Some((name.clone(), jobs))
    };
    config.pools.iter().filter_map(quota).collect()
}

impl Supervisor {
    /// Leaves when there is a reason to.
    pub(super) fn end_when_over(&mut self, now: Now) {
        if self.ending {
            return;
        }
        if self.options.burst && self.burst_is_over() {
            tracing::info!("the queues are empty");
        } else if self.quotas_are_spent() {
            tracing::info!("as many jobs were run as `max_jobs` says");
        } else if let Some(limit) = self.config.supervisor.max_idle_time
            && self.idle_deadline().is_some_and(|at| at <= now.mono)
        {
            tracing::info!(idle = %crate::time::Human(limit), "there was no job for as long as `max_idle_time` says");
        } else {
            return;
        }
        self.ending = true;
        let drain = Command::Drain { patient: false };
        let _ = self.fleet.command(drain, now, &mut self.actions);
        self.turn(now);
    }

    /// Takes note of when it fell idle, for `max_idle_time`: not before the queues were looked into.
    pub(super) fn mark_idle(&mut self, now: Mono) {
        if self.fleet.has_jobs() || self.config.supervisor.max_idle_time.is_none() {
            self.idle_since = None;
        } else if self.announced
            && self.idle_since.is_none()
            && self.traffic.all_empty(&self.fleet.pool_names())
        {
            self.idle_since = Some(now);
        }
    }

    /// When it has been idle for long enough; `None` while a job is in hand, or without such a limit.
    pub(super) fn idle_deadline(&self) -> Option<Mono> {
        let limit: Duration = self.config.supervisor.max_idle_time?;
        self.idle_since
            .filter(|_| !self.ending)
            .map(|since| since + limit)
    }

    fn burst_is_over(&self) -> bool {
        let pools = self.fleet.pool_names();
        self.announced && self.nothing_in_hand() && self.traffic.all_empty(&pools)
    }

    fn quotas_are_spent(&self) -> bool {
        let pools = self.fleet.pool_names();
        // After-work of the last jobs may be left.
        self.nothing_in_hand() && self.traffic.all_spent(&pools) && self.traffic.all_empty(&pools)
    }

    fn nothing_in_hand(&self) -> bool {
        self.fleet.in_hand() == 0 && self.traffic.all_settled()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::RunArgs;

    fn quota(flags: &[&str], burst: bool) -> Vec<u64> {
        let args = RunArgs::from_flags(flags.iter().chain(&["--max-jobs", "10", "--socket", "/s"])).unwrap();
        let config = crate::config::load(&args, |_| None).unwrap();
        quotas(&config, burst).into_iter().map(|(_, jobs)| jobs).collect()
    }

    #[test]
    fn a_worker_that_nobody_replaces_ends_after_its_number_of_jobs() {
        let rq = ["--runtime", "rq", "--broker", "redis://h"];
        let of = |size| [&rq[..], &["--max-workers", size]].concat();
        assert_eq!(quota(&of("1"), false), [10]);
        assert_eq!(quota(&of("1"), true), [10]);
        assert_eq!(quota(&of("4"), true), [40], "ten for each worker");
    }

    #[test]
    fn in_a_pool_that_goes_on_it_is_replaced() {
        assert!(quota(&["--runtime", "rq", "--broker", "redis://h"], false).is_empty());
        assert!(quota(&["--broker", "memory:", "--max-workers", "1"], true).is_empty());
    }
}

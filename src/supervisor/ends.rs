//! When a supervisor ends by itself: at the end of a burst, after `max_idle_time`, and where `max_jobs` ends it.

use std::time::Duration;

use tokio::sync::oneshot;

use super::SupervisorError;
use super::traffic::Traffic;
use crate::config::Config;
use crate::control::Reply;
use crate::fleet::Fleet;
use crate::job::PoolName;
use crate::time::{Human, Mono};

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

/// When and why the supervisor ends, and who waits for it.
#[derive(Debug)]
pub(super) struct Ending {
    /// It ends when nothing is left to do.
    burst: bool,
    /// `max_idle_time`
    idle_limit: Option<Duration>,
    /// The application was loaded once: what the queues hold is known from then on.
    loaded: bool,
    /// Since when no job has been in hand, if `max_idle_time` says how long that may be.
    idle_since: Option<Mono>,
    /// It was decided to leave unasked: once.
    decided: bool,
    leaving: bool,
    /// Why it can't go on.
    failure: Option<SupervisorError>,
    /// Why it ends; it is told once all has settled.
    last_word: Option<SupervisorError>,
    /// Who waits for our leaving.
    leavers: Vec<oneshot::Sender<Reply>>,
}

impl Ending {
    pub fn new(burst: bool, idle_limit: Option<Duration>) -> Self {
        Ending {
            burst,
            idle_limit,
            loaded: false,
            idle_since: None,
            decided: false,
            leaving: false,
            failure: None,
            last_word: None,
            leavers: Vec::new(),
        }
    }

    /// Another `max_idle_time`.
    pub fn limit_idleness(&mut self, limit: Option<Duration>) {
        self.idle_limit = limit;
    }

    /// The application is loaded.
    pub fn loaded(&mut self) {
        self.loaded = true;
    }

    /// Everything is gone: the loop ends after this turn.
    pub fn leave(&mut self) {
        self.leaving = true;
    }

    /// It can't go on: the loop ends after this turn.
    pub fn fail(&mut self, why: SupervisorError) {
        self.failure = Some(why);
    }

    pub fn is_leaving(&self) -> bool {
        self.leaving
    }

    /// Why it can't go on, if it can't.
    pub fn failure(&mut self) -> Option<SupervisorError> {
        self.failure.take()
    }

    /// Why it has ended, where that is an error.
    pub fn last_word(&mut self) -> Result<(), SupervisorError> {
        self.last_word.take().map_or(Ok(()), Err)
    }

    /// Somebody waits for our leaving.
    pub fn wait(&mut self, reply: oneshot::Sender<Reply>) {
        self.leavers.push(reply);
    }

    /// Tells whoever waits that we leave.
    pub fn dismiss(&mut self) {
        for waiting in self.leavers.drain(..) {
            let _ = waiting.send(Reply::done("stopped")); // who asked may be gone
        }
    }

    /// At the end of a turn: whether there is a reason to leave unasked. It is told, and found once.
    pub fn is_due(&mut self, fleet: &Fleet, traffic: &Traffic, now: Mono) -> bool {
        self.mark_idle(fleet, traffic, now);
        if self.decided {
            return false;
        }
        let pools = fleet.pool_names();
        let is_clear = fleet.in_hand() == 0 && traffic.all_settled();
        let is_empty = || is_clear && traffic.all_empty(&pools);
        if self.burst
            && let Some(error) = fleet.never_starts()
        {
            self.last_word = Some(SupervisorError::NoWorkerStarts(error.to_owned()));
        } else if self.burst && self.loaded && is_empty() {
            tracing::info!("the queues are empty");
        // After-work of the last jobs may be left.
        } else if traffic.all_spent(&pools) && is_empty() {
            tracing::info!("as many jobs were run as `max_jobs` says");
        } else if let Some(limit) = self.idle_limit
            && self.deadline().is_some_and(|at| at <= now)
        {
            tracing::info!(idle = %Human(limit), "there was no job for as long as `max_idle_time` says");
        } else {
            return false;
        }
        self.decided = true;
        true
    }

    /// Takes note of when it fell idle, for `max_idle_time`: not before the queues were looked into.
    fn mark_idle(&mut self, fleet: &Fleet, traffic: &Traffic, now: Mono) {
        if self.idle_limit.is_none() || fleet.has_jobs() {
            self.idle_since = None;
        } else if self.loaded && self.idle_since.is_none() && traffic.all_empty(&fleet.pool_names()) {
            self.idle_since = Some(now);
        }
    }

    /// When it has been idle for long enough; `None` while a job is in hand, or without such a limit.
    pub fn deadline(&self) -> Option<Mono> {
        let since = self.idle_since.filter(|_| !self.decided)?;
        Some(since + self.idle_limit?)
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

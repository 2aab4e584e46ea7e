//! The fleet as [`Snapshot`]: what `status` and the logs show.

use crate::broker::WorkerView;
use crate::job::PoolName;
use crate::policy::shutdown::Stop;

use super::figures::{BrokerCalls, Figures};
use super::pool::Pool;
use super::snapshot::Snapshot;
use super::{Fleet, Now};

impl Fleet {
    /// The picture at `now`; the supervisor adds what only it knows (its process id, the broker).
    pub fn snapshot(&self, now: Now) -> Snapshot {
        let shown = |pool: &Pool| pool.snapshot(self.kept_for(pool), &self.app, now);
        let pools = self.pools.iter();
        Snapshot {
            state: self.state_name().into(),
            generation: self.templates.loaded().unwrap_or(0),
            load_error: self.templates.load_error().map(str::to_owned),
            reload_error: self.templates.reload_error().map(str::to_owned),
            pss_bytes: self.totals.memory_used,
            max_total_bytes: self.totals.memory,
            max_total_workers: self.totals.workers,
            pools: pools
                .map(|(name, pool)| (name.to_string(), shown(pool)))
                .collect(),
            ..Snapshot::default()
        }
    }

    /// What was counted, beside a picture that was just taken and what only the supervisor knows of the broker.
    pub fn figures(&self, snapshot: Snapshot, broker: BrokerCalls) -> Figures {
        let tally = |(name, pool): (&PoolName, &Pool)| (name.to_string(), pool.tally().clone());
        Figures {
            snapshot: std::sync::Arc::new(snapshot),
            pools: self.pools.iter().map(tally).collect(),
            templates: self.templates.counted(),
            broker,
        }
    }

    /// The workers as the broker shows them to others: all that serve, or did, and are ready.
    pub fn roster(&self, now: Now) -> Vec<WorkerView> {
        let pools = self.pools.values();
        pools.flat_map(|pool| pool.roster(self.running(), now)).collect()
    }

    fn state_name(&self) -> &'static str {
        match self.shutdown.stop() {
            Stop::Draining { .. } => "draining",
            Stop::Killing { .. } | Stop::Leaving => "stopping",
            Stop::Running if self.templates.loaded().is_none() => "starting",
            Stop::Running if self.pools.values().all(Pool::is_paused) => "paused",
            Stop::Running => "running",
        }
    }
}

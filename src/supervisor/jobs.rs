//! Between the broker and the fleet: claims in, settlements out, the lease kept.
//!
//! One claim a pool and one settlement at a time are on their way; what ends meanwhile goes with the next, and on a
//! pool with more to do than it can, what ends within the next moment (`policy::settling`).
//! When the broker can't be used, outcomes are kept and tried again; nothing new is claimed until then.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;
use tokio::task::AbortHandle;

use super::input::Input;
use crate::broker::{Broker, BrokerError};
use crate::config::QueueOrder;
use crate::fleet::Fleet;
use crate::fleet::figures::BrokerCalls;
use crate::job::{Claimed, PoolName, QueueName, Settlement, Verdict, Work};
use crate::policy::settling;
use crate::time::Mono;

/// Settlements that go out in one call, and claims that come in.
const BATCH_MAX: usize = 4096;
/// Outcomes kept for a broker that can't be used; above it nothing more is claimed.
const OUTBOX_MAX: usize = 16 * BATCH_MAX;
/// First wait after the broker failed; doubles up to the longest.
const BACKOFF: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// What is known about a pool's queues.
#[derive(Debug, Default)]
struct Source {
    /// A claim is on its way.
    claim: Option<AbortHandle>,
    /// What the claim on its way will say may be out of date.
    doubtful: bool,
    /// The last claim found less than it wanted: the next one waits for the broker's word.
    empty: bool,
    /// Asks the broker for that word.
    watch: Option<AbortHandle>,
    /// The pool has no workers, and was told in this scaling period that jobs wait.
    told: bool,
    /// Turns with each claim, for `order = "round_robin"`.
    turn: usize,
    /// How many jobs it may take; `None`: any number.
    quota: Option<Quota>,
}

/// A bound on the jobs that a pool takes in all.
#[derive(Debug)]
struct Quota {
    left: u64,
    /// Claims, by the broker's numbers, that have not ended: one that is given back was not taken.
    taken: HashSet<i64>,
}

impl Source {
    /// All that may be taken was taken.
    fn is_spent(&self) -> bool {
        self.quota.as_ref().is_some_and(|quota| quota.left == 0) && self.claim.is_none()
    }
}

/// The traffic with the broker.
#[derive(Debug)]
pub(super) struct Jobs {
    broker: Arc<dyn Broker>,
    inputs: UnboundedSender<Input>,
    sources: BTreeMap<PoolName, Source>,
    outbox: Vec<Settlement>,
    settling: bool,
    /// When the broker was given outcomes last.
    settled_at: Option<Mono>,
    /// Until when those in the outbox wait for others.
    gathers_until: Option<Mono>,
    heartbeat: Duration,
    next_heartbeat: Option<Mono>,
    failures: u32,
    /// Calls that failed since the start.
    failed_calls: u64,
    /// Outcomes that came too late since the start.
    late: u64,
    retry_at: Option<Mono>,
    /// Why the broker can't be used right now.
    pub error: Option<String>,
    /// Something was settled since the last housekeeping.
    pub active: bool,
    rng: fastrand::Rng,
}

impl Jobs {
    pub fn new(broker: Arc<dyn Broker>, heartbeat: Duration, inputs: UnboundedSender<Input>) -> Self {
        Jobs {
            broker,
            inputs,
            sources: BTreeMap::new(),
            outbox: Vec::new(),
            settling: false,
            settled_at: None,
            gathers_until: None,
            heartbeat,
            next_heartbeat: None,
            failures: 0,
            failed_calls: 0,
            late: 0,
            retry_at: None,
            error: None,
            active: true,
            rng: fastrand::Rng::new(),
        }
    }

    /// From now on, at the most so many jobs are taken for this pool.
    pub fn take_no_more_than(&mut self, jobs: u64, pool: &PoolName) {
        self.sources.entry(pool.clone()).or_default().quota = Some(Quota {
            left: jobs,
            taken: HashSet::new(),
        });
    }

    /// These pools have a quota each, and took all of it.
    pub fn all_spent(&self, pools: &[PoolName]) -> bool {
        let spent = |pool| self.sources.get(pool).is_some_and(Source::is_spent);
        pools.iter().all(spent)
    }

    /// An outcome to settle.
    pub fn settle(&mut self, settlement: Settlement) {
        let given_back = matches!(settlement.verdict, Verdict::Requeue { error: None, .. });
        for quota in self
            .sources
            .values_mut()
            .filter_map(|source| source.quota.as_mut())
        {
            let was_taken = quota.taken.remove(&settlement.claim.handle);
            quota.left += u64::from(was_taken && given_back);
        }
        self.outbox.push(settlement);
    }

    /// Nothing is kept that the broker does not know.
    pub fn all_settled(&self) -> bool {
        self.outbox.is_empty() && !self.settling
    }

    /// No claim is on its way.
    pub fn is_quiet(&self) -> bool {
        self.sources.values().all(|source| source.claim.is_none())
    }

    /// Waits no longer for claims on their way. The broker finds out what they took.
    pub fn abandon_claims(&mut self) {
        for source in self.sources.values_mut() {
            if let Some(claim) = source.claim.take() {
                claim.abort();
            }
        }
    }

    /// Outcomes that the broker has not taken yet.
    pub fn unsettled(&self) -> usize {
        self.outbox.len()
    }

    /// How the broker served us since the start.
    pub fn calls(&self) -> BrokerCalls {
        BrokerCalls {
            failures: self.failed_calls,
            unsettled: self.unsettled() as u64,
            late: self.late,
        }
    }

    /// The broker was asked, and has nothing for this pool until it says so.
    pub fn is_empty(&self, pool: &PoolName) -> bool {
        self.sources
            .get(pool)
            .is_some_and(|source| source.is_spent() || source.empty && source.claim.is_none())
    }

    /// Every pool's queues are empty and no claim is on its way.
    pub fn all_empty(&self, pools: &[PoolName]) -> bool {
        pools.iter().all(|pool| self.is_empty(pool))
    }

    /// The next instant at which something is due.
    pub fn next_deadline(&self) -> Option<Mono> {
        [self.next_heartbeat, self.retry_at, self.gathers_until]
            .into_iter()
            .flatten()
            .min()
    }

    /// Starts what can be started now: a settlement, claims, a heartbeat, a watch.
    pub fn pump(&mut self, fleet: &Fleet, now: Mono) {
        self.beat(fleet, now);
        self.gathers_until = None;
        if self.retry_at.is_some_and(|at| now < at) {
            return;
        }
        self.retry_at = None;
        self.send_outbox(fleet, now);
        if self.outbox.len() < OUTBOX_MAX {
            for pool in fleet.pool_names() {
                self.feed(fleet, &pool);
            }
        }
    }

    fn send_outbox(&mut self, fleet: &Fleet, now: Mono) {
        if self.settling || self.outbox.is_empty() {
            return;
        }
        self.gathers_until = self.wait_until(fleet, now);
        if self.gathers_until.is_some() {
            return;
        }
        self.settling = true;
        self.settled_at = Some(now);
        let count = self.outbox.len().min(BATCH_MAX);
        let settlements: Vec<Settlement> = self.outbox.drain(..count).collect();
        let (broker, inputs) = (self.broker.clone(), self.inputs.clone());
        tokio::spawn(async move {
            let result = broker.settle(settlements.clone()).await;
            let _ = inputs.send(Input::Settled { settlements, result });
        });
    }

    /// Until when the outbox waits for more outcomes. What no worker ran (a job given back) waits for none.
    fn wait_until(&self, fleet: &Fleet, now: Mono) -> Option<Mono> {
        let waits = |settlement: &Settlement| settlement.run.is_some_and(|run| fleet.is_behind(run.worker));
        let is_behind = self.outbox.iter().take(settling::ENOUGH).all(waits);
        settling::wait_until(self.outbox.len(), self.settled_at, is_behind, now)
    }

    /// Claims for a pool what it has room for, or waits for the broker's word.
    fn feed(&mut self, fleet: &Fleet, pool: &PoolName) {
        let Some(config) = fleet.pool_config(pool) else {
            return;
        };
        let wanted = fleet.wants(pool).min(BATCH_MAX);
        let source = self.sources.entry(pool.clone()).or_default();
        let wanted = source.quota.as_ref().map_or(wanted, |quota| {
            wanted.min(usize::try_from(quota.left).unwrap_or(wanted))
        });
        // A pool without workers claims nothing, but a job wakes it.
        let listens = fleet.asleep(pool) && !source.told && !source.is_spent();
        if wanted == 0 && !listens || source.claim.is_some() {
            return;
        }
        let (broker, inputs, pool) = (self.broker.clone(), self.inputs.clone(), pool.clone());
        if !source.empty && wanted > 0 {
            source.turn = source.turn.wrapping_add(1);
            let queues = ordered(&config.queues, config.order, source.turn, &mut self.rng);
            let task = tokio::spawn(async move {
                let result = broker.claim(&queues, wanted).await;
                let _ = inputs.send(Input::Claimed { pool, wanted, result });
            });
            source.claim = Some(task.abort_handle());
        } else if (source.empty || listens) && source.watch.is_none() {
            let queues = config.queues.clone();
            let task = tokio::spawn(async move {
                let result = broker.ready(&queues).await;
                let _ = inputs.send(Input::Ready { pool, result });
            });
            source.watch = Some(task.abort_handle());
        }
    }

    /// A claim came back. Returns the jobs.
    pub fn claimed(
        &mut self,
        pool: &PoolName,
        wanted: usize,
        result: Result<Vec<Claimed>, BrokerError>,
        now: Mono,
    ) -> Vec<Claimed> {
        if let Some(source) = self.sources.get_mut(pool) {
            source.claim = None;
            if let (Some(quota), Ok(jobs)) = (&mut source.quota, &result) {
                for job in jobs.iter().filter(|job| job.work == Work::Job) {
                    quota.left = quota.left.saturating_sub(1);
                    quota.taken.insert(job.claim.handle);
                }
            }
            let doubtful = std::mem::take(&mut source.doubtful);
            source.empty = !doubtful && result.as_ref().is_ok_and(|jobs| jobs.len() < wanted);
        }
        self.check(result, "claim jobs", now).unwrap_or_default()
    }

    /// The broker says that there may be jobs for a pool, or that it can't be used.
    pub fn ready(&mut self, pool: &PoolName, result: Result<(), BrokerError>, now: Mono) {
        if let Some(source) = self.sources.get_mut(pool) {
            source.watch = None;
            source.empty = false;
        }
        self.check(result, "wait for jobs", now);
    }

    /// A pool without workers was told that jobs wait, and decides: it need not be told again at once.
    pub fn told(&mut self, pool: &PoolName, told: bool) {
        self.sources.entry(pool.clone()).or_default().told = told;
    }

    /// Pools may have other queues by now: those are looked into, and watched.
    pub fn look_elsewhere(&mut self) {
        for source in self.sources.values_mut() {
            if let Some(watch) = source.watch.take() {
                watch.abort();
            }
        }
        self.look_again();
    }

    /// There may be jobs by now: claims look again, without waiting for the broker's word.
    pub fn look_again(&mut self) {
        for source in self.sources.values_mut() {
            source.empty = false;
            source.doubtful = source.claim.is_some();
        }
    }

    /// Settlements came back; those that failed are tried again.
    pub fn settled(
        &mut self,
        settlements: Vec<Settlement>,
        result: Result<Vec<bool>, BrokerError>,
        now: Mono,
    ) {
        self.settling = false;
        self.active = true;
        match self.check(result, "settle outcomes", now) {
            Some(held) => {
                let late = held.iter().filter(|held| !**held).count();
                self.late += late as u64;
                if late > 0 {
                    tracing::warn!(
                        jobs = late,
                        "outcomes came too late: their lease had run out, so these jobs run again"
                    );
                }
                let again = |settlement: &Settlement| {
                    matches!(
                        settlement.verdict,
                        Verdict::Requeue { due: None, .. } | Verdict::Forget
                    )
                };
                if settlements.iter().any(again) {
                    // What was put back, or enqueued by what the runtime settled itself, can be claimed at once.
                    self.look_again();
                }
            }
            None => drop(self.outbox.splice(0..0, settlements)),
        }
    }

    /// The lease was renewed, or not.
    pub fn extended(&mut self, result: Result<(), BrokerError>, now: Mono) {
        let failed = result.is_err();
        self.check(result, "renew the lease", now);
        if failed {
            // It may run out before the next one is due.
            self.next_heartbeat = self.retry_at;
        }
    }

    /// Takes note of the broker's health. Returns what it said, if it was well.
    fn check<T>(&mut self, result: Result<T, BrokerError>, doing: &str, now: Mono) -> Option<T> {
        match result {
            Ok(value) => {
                if self.error.take().is_some() {
                    tracing::info!(broker = self.broker.url(), "the broker works again");
                }
                self.failures = 0;
                Some(value)
            }
            Err(error) => {
                self.failed_calls += 1;
                let error = error.to_string();
                if self.error.as_ref() != Some(&error) {
                    tracing::error!(%error, "cannot {doing}; running jobs go on, and their outcomes are kept");
                }
                self.error = Some(error);
                // All that was on its way when the broker failed tells of one failure.
                if self.retry_at.is_none_or(|at| at <= now) {
                    self.failures += 1;
                    let wait = BACKOFF
                        .saturating_mul(1 << self.failures.min(10))
                        .min(BACKOFF_MAX);
                    self.retry_at = Some(now + wait.mul_f64(0.5 + self.rng.f64() / 2.0));
                }
                None
            }
        }
    }

    /// Renews the lease while anything is held under it.
    fn beat(&mut self, fleet: &Fleet, now: Mono) {
        if fleet.in_hand() == 0 && self.all_settled() {
            self.next_heartbeat = None;
            return;
        }
        let due = *self.next_heartbeat.get_or_insert(now + self.heartbeat);
        if due <= now {
            self.next_heartbeat = Some(now + self.heartbeat);
            let (broker, inputs) = (self.broker.clone(), self.inputs.clone());
            tokio::spawn(async move {
                let _ = inputs.send(Input::Extended(broker.extend().await));
            });
        }
    }
}

/// The queues in the order in which this claim looks at them.
fn ordered(queues: &[QueueName], order: QueueOrder, turn: usize, rng: &mut fastrand::Rng) -> Vec<QueueName> {
    let mut queues = queues.to_vec();
    match order {
        QueueOrder::Strict => {}
        QueueOrder::RoundRobin => {
            let by = turn % queues.len().max(1);
            queues.rotate_left(by);
        }
        QueueOrder::Random => rng.shuffle(&mut queues),
    }
    queues
}

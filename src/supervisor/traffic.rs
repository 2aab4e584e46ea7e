//! Between the fleet and the source that feeds it: what the pools have room for, and what became of their jobs.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use crate::broker::BrokerError;
use crate::broker::source::{Demand, Late, Source};
use crate::config::PoolConfig;
use crate::fleet::Fleet;
use crate::fleet::figures::BrokerCalls;
use crate::job::{Begun, Delivery, PoolName, Progress, Settlement, Token, Verdict, Work};
use crate::policy::settling;
use crate::time::Mono;

/// What passed between a pool and the source.
#[derive(Debug, Default)]
struct Lane {
    /// Deliveries so far.
    seen: u64,
    /// What was said last.
    said: Option<Demand>,
    /// When it was last known to be empty: after so many deliveries, and so many settlements of all pools.
    empty: Option<(u64, u64)>,
    /// It has no workers, and was told in this scaling period that jobs wait.
    told: bool,
    /// How many jobs it may take; `None`: any number.
    quota: Option<Quota>,
}

/// A bound on the jobs that a pool takes in all.
#[derive(Debug)]
struct Quota {
    left: u64,
    /// Deliveries that have not ended: one that is given back was not taken.
    taken: HashSet<Token>,
}

impl Lane {
    /// All that may be taken was taken.
    fn is_spent(&self) -> bool {
        self.quota.as_ref().is_some_and(|quota| quota.left == 0)
    }
}

/// The traffic with the source.
#[derive(Debug)]
pub struct Traffic {
    source: Option<Box<dyn Source>>,
    /// For messages, without secrets.
    url: String,
    lanes: BTreeMap<PoolName, Lane>,
    /// Every pool wants to know for certain when nothing is left.
    tells_empty: bool,
    /// What has begun since the source was told last.
    begun: Vec<Begun>,
    /// Outcomes that wait for others to go with them.
    gathered: Vec<Settlement>,
    /// When the source was given outcomes last.
    settled_at: Option<Mono>,
    /// Until when those gathered wait.
    gathers_until: Option<Mono>,
    /// Outcomes that the source was given, and those that the broker has.
    sent: u64,
    settled: u64,
    /// Calls to the broker that failed since the start.
    failed_calls: u64,
    /// Outcomes that came too late since the start.
    late: u64,
    /// What can't be done at the broker right now, and why.
    troubles: BTreeMap<&'static str, String>,
}

impl Traffic {
    /// Without a source, and with nothing said yet. `tells_empty`: pools want to know when nothing is left.
    pub fn new(tells_empty: bool) -> Self {
        Traffic {
            source: None,
            url: String::new(),
            lanes: BTreeMap::new(),
            tells_empty,
            begun: Vec::new(),
            gathered: Vec::new(),
            settled_at: None,
            gathers_until: None,
            sent: 0,
            settled: 0,
            failed_calls: 0,
            late: 0,
            troubles: BTreeMap::new(),
        }
    }

    /// Jobs come from this source from now on. `url`: of the broker, without secrets.
    pub fn open(&mut self, source: Box<dyn Source>, url: &str) {
        assert!(self.source.is_none(), "a supervisor has one source");
        self.source = Some(source);
        url.clone_into(&mut self.url);
    }

    /// From now on, at the most so many jobs are taken for this pool.
    pub fn take_no_more_than(&mut self, jobs: u64, pool: &PoolName) {
        self.lanes.entry(pool.clone()).or_default().quota = Some(Quota {
            left: jobs,
            taken: HashSet::new(),
        });
    }

    /// These pools have a quota each, and took all of it.
    pub fn all_spent(&self, pools: &[PoolName]) -> bool {
        let spent = |pool| self.lanes.get(pool).is_some_and(Lane::is_spent);
        pools.iter().all(spent)
    }

    /// An outcome to settle.
    pub fn settle(&mut self, settlement: Settlement) {
        let did_not_run = matches!(settlement.verdict, Verdict::GiveBack | Verdict::Canceled);
        self.ends(settlement.of, did_not_run);
        self.gathered.push(settlement);
    }

    /// A delivery ends; one that did not run takes nothing of a quota.
    fn ends(&mut self, token: Token, did_not_run: bool) {
        for quota in self.lanes.values_mut().filter_map(|lane| lane.quota.as_mut()) {
            let was_taken = quota.taken.remove(&token);
            quota.left += u64::from(was_taken && did_not_run);
        }
    }

    /// A job has begun whose source wants to know.
    pub fn began(&mut self, begun: Begun) {
        self.begun.push(begun);
    }

    /// A job that runs says how far it is.
    pub fn progressed(&mut self, token: Token, progress: Progress) {
        if let Some(source) = &mut self.source {
            source.progressed(token, progress);
        }
    }

    /// Nothing is kept that the broker does not know.
    pub fn all_settled(&self) -> bool {
        self.unsettled() == 0
    }

    /// Outcomes that the broker has not taken yet.
    pub fn unsettled(&self) -> u64 {
        self.gathered.len() as u64 + (self.sent - self.settled)
    }

    /// How the broker served us since the start.
    pub fn calls(&self) -> BrokerCalls {
        BrokerCalls {
            failures: self.failed_calls,
            unsettled: self.unsettled(),
            late: self.late,
        }
    }

    /// Why the broker can't be used right now.
    pub fn error(&self) -> Option<String> {
        self.troubles.values().next().cloned()
    }

    /// The source has looked, and there is nothing for this pool until it says so.
    pub fn is_empty(&self, pool: &PoolName) -> bool {
        self.lanes
            .get(pool)
            .is_some_and(|lane| lane.empty == Some((lane.seen, self.sent)))
    }

    /// Nothing is left for any of these pools.
    pub fn all_empty(&self, pools: &[PoolName]) -> bool {
        self.gathered.is_empty() && pools.iter().all(|pool| self.is_empty(pool))
    }

    /// The next instant at which something is due.
    pub fn next_deadline(&self) -> Option<Mono> {
        self.gathers_until
    }

    /// At the end of a turn: hands over what was gathered, and says what the pools have room for now.
    pub fn pump(&mut self, fleet: &Fleet, now: Mono) {
        self.tell_begun();
        self.gathers_until = None;
        if !self.gathered.is_empty() {
            self.gathers_until = self.wait_until(fleet, now);
            if self.gathers_until.is_none() {
                self.hand_over(now);
            }
        }
        let pools = fleet.pool_names();
        for pool in &pools {
            if let Some(config) = fleet.pool_config(pool) {
                self.say(fleet, pool, config);
            }
        }
        self.leave_those_not_in(&pools);
    }

    /// Before any outcome: what has begun is told before it ends.
    fn tell_begun(&mut self) {
        if !self.begun.is_empty()
            && let Some(source) = &mut self.source
        {
            source.began(std::mem::take(&mut self.begun));
        }
    }

    fn hand_over(&mut self, now: Mono) {
        self.settled_at = Some(now);
        self.sent += self.gathered.len() as u64;
        if let Some(source) = &mut self.source {
            source.settle(std::mem::take(&mut self.gathered));
        }
    }

    /// Until when outcomes wait for more of them. What no worker ran (a job given back) waits for none.
    fn wait_until(&self, fleet: &Fleet, now: Mono) -> Option<Mono> {
        let waits = |settlement: &Settlement| settlement.run.is_some_and(|run| fleet.is_behind(run.worker));
        let is_behind = self.gathered.iter().take(settling::ENOUGH).all(waits);
        settling::wait_until(self.gathered.len(), self.settled_at, is_behind, now)
    }

    /// Says what this pool wants, if that is news.
    fn say(&mut self, fleet: &Fleet, pool: &PoolName, config: &PoolConfig) {
        let lane = self.lanes.entry(pool.clone()).or_default();
        let credit = u32::try_from(fleet.wants(pool)).unwrap_or(u32::MAX);
        let left = lane.quota.as_ref().map_or(u64::MAX, |quota| quota.left);
        let queues = lane.said.as_ref().map(|said| &said.queues);
        let demand = Demand {
            pool: pool.clone(),
            queues: match queues {
                Some(queues) if **queues == *config.queues => Arc::clone(queues),
                _ => config.queues.as_slice().into(),
            },
            order: config.order,
            credit,
            jobs: credit.min(u32::try_from(left).unwrap_or(u32::MAX)),
            runs: fleet.serves(pool) && !lane.is_spent(),
            seen: lane.seen,
            wake: (fleet.asleep(pool) && !lane.told || fleet.is_open_to_looks(pool)) && !lane.is_spent(),
            tell_empty: self.tells_empty,
        };
        // What came since takes room: where the sum is the same, nothing is new.
        let sum = |of: &Demand| of.seen + u64::from(of.credit);
        let rest = |of: &Demand| (of.order, of.runs, of.wake, of.tell_empty);
        let says_the_same = |said: &Demand| match &lane.quota {
            None => {
                sum(said) == sum(&demand)
                    && rest(said) == rest(&demand)
                    && Arc::ptr_eq(&said.queues, &demand.queues)
            }
            Some(_) => *said == demand,
        };
        let is_news = !lane.said.as_ref().is_some_and(says_the_same);
        if is_news && let Some(source) = &mut self.source {
            source.demand(demand.clone());
            lane.said = Some(demand);
        }
    }

    /// Pools that are no more want nothing.
    fn leave_those_not_in(&mut self, pools: &[PoolName]) {
        for (pool, lane) in &mut self.lanes {
            if let Some(said) = &mut lane.said
                && !said.queues.is_empty()
                && !pools.contains(pool)
            {
                *said = Demand {
                    queues: Arc::default(),
                    credit: 0,
                    jobs: 0,
                    runs: false,
                    seen: lane.seen,
                    wake: false,
                    ..said.clone()
                };
                if let Some(source) = &mut self.source {
                    source.demand(said.clone());
                }
            }
        }
    }

    /// Takes note of jobs that came for a pool.
    pub fn delivered(&mut self, pool: &PoolName, jobs: &[Delivery]) {
        let lane = self.lanes.entry(pool.clone()).or_default();
        lane.seen += jobs.len() as u64;
        if let Some(quota) = &mut lane.quota {
            for delivery in jobs.iter().filter(|delivery| delivery.job.work == Work::Job) {
                quota.left = quota.left.saturating_sub(1);
                quota.taken.insert(delivery.token);
            }
        }
    }

    /// Takes note of outcomes that the broker has.
    pub fn settled(&mut self, count: usize, late: &[(Token, Late)]) {
        self.settled += count as u64;
        assert!(self.settled <= self.sent, "each outcome is settled once");
        self.late += late.len() as u64;
        let of = |why: Late| late.iter().filter(|(_, late)| *late == why).count();
        let (lost, gone) = (of(Late::LeaseLost), of(Late::Gone));
        if lost > 0 {
            tracing::warn!(
                jobs = lost,
                "outcomes came too late: these jobs were not held any more, and run again unless somebody deleted them"
            );
        }
        if gone > 0 {
            tracing::info!(
                jobs = gone,
                "jobs were deleted while they ran: their outcomes are not kept"
            );
        }
    }

    /// The source looked, and found nothing for this pool.
    pub fn emptied(&mut self, pool: &PoolName, seen: u64, settled: u64) {
        self.lanes.entry(pool.clone()).or_default().empty = Some((seen, settled));
    }

    /// A job waits for this pool.
    pub fn filled(&mut self, pool: &PoolName) {
        self.lanes.entry(pool.clone()).or_default().empty = None;
    }

    /// A pool without workers was told that jobs wait, and decides: it need not be told again at once.
    pub fn told(&mut self, pool: &PoolName, told: bool) {
        self.lanes.entry(pool.clone()).or_default().told = told;
    }

    /// A call to the broker failed.
    pub fn trouble(&mut self, doing: &'static str, error: &BrokerError) {
        self.failed_calls += 1;
        let error = error.to_string();
        // Of one failure that all kinds of calls meet, one line.
        let is_known = self.troubles.values().any(|known| *known == error);
        if !is_known {
            tracing::error!(%error, "cannot {doing}; running jobs go on, and their outcomes are kept");
        }
        self.troubles.insert(doing, error);
    }

    /// Calls of this kind work again.
    pub fn well(&mut self, doing: &'static str) {
        if self.troubles.remove(doing).is_some() && self.troubles.is_empty() {
            tracing::info!(broker = self.url, "the broker works again");
        }
    }

    /// Hands over what is left within this time, and closes the broker.
    pub async fn close(&mut self, within: Duration, now: Mono) {
        self.tell_begun();
        self.hand_over(now);
        let Some(source) = self.source.take() else { return };
        let jobs = source.close(within).await;
        if jobs > 0 {
            tracing::error!(
                jobs,
                "these outcomes were not taken; jobs that were not acknowledged run again when their lease ends"
            );
        }
    }
}

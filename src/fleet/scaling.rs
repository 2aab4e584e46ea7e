//! The decision of each scaling period, and what people change by hand.

use crate::broker::Backlog;
use crate::job::PoolName;
use crate::policy::memory::{Budget, WorkerMemory};
use crate::policy::scaling::{Limits, Reason, Sample};

use super::snapshot::Decision;
use super::{Action, Fleet, Memory, Notice, Now};

impl Fleet {
    /// Takes note of what the processes occupy.
    pub fn weigh(&mut self, memory: &Memory) {
        for (id, pss, private) in &memory.workers {
            if let Some(worker) = self.workers.get_mut(id) {
                (worker.pss_bytes, worker.private_bytes) = (*pss, *private);
            }
        }
        self.pss_total = memory.pss_total;
    }

    /// One scaling period: take in what was measured, decide, act.
    pub(super) fn period(
        &mut self,
        name: &PoolName,
        backlog: Option<Backlog>,
        memory: &Memory,
        now: Now,
        out: &mut Vec<Action>,
    ) {
        self.weigh(memory);
        if let (Some(pool), Some(backlog)) = (self.pools.get_mut(name), backlog) {
            pool.backlog = backlog;
        }
        self.recycle(name, now);
        self.give_back_stranded(name, out);
        self.decide(name, memory, now, out);
        self.balance(name, now, out);
    }

    fn decide(&mut self, name: &PoolName, memory: &Memory, now: Now, out: &mut Vec<Action>) {
        if !self.running() {
            return;
        }
        let loadable = self.current.is_some();
        let workers: Vec<WorkerMemory> = self
            .workers
            .values()
            .filter(|worker| worker.counted() && worker.private_bytes > 0)
            .map(|worker| WorkerMemory {
                private: worker.private_bytes,
                jobs: worker.jobs,
            })
            .collect();
        let Some(pool) = self.pools.get_mut(name).filter(|pool| !pool.removed) else {
            return;
        };
        pool.meter.forget(now.mono);
        let limit = memory
            .limits
            .iter()
            .find(|(pool, _)| pool == name)
            .map(|(_, bytes)| *bytes);
        let limits = Limits {
            min: pool.min,
            max: pool.max,
            threshold: pool.config.utilization_threshold,
        };
        let sample = Sample {
            workers: pool.target,
            utilization: pool.meter.utilization(now.mono),
            waiting: pool.backlog.waiting,
            oldest_waiting: pool.backlog.oldest_age(now.unix),
            paused: pool.paused,
            loadable,
            memory: Budget::new(memory.pss_total, limit, &workers),
        };
        let decided = pool.config.policy.decide(&limits, &sample);
        let decision = Decision {
            at: now.unix,
            from: decided.from,
            to: decided.to,
            reason: decided.reason.to_string(),
            utilization: sample.utilization,
            threshold: limits.threshold,
            window_s: pool.config.utilization_window.as_secs_f64(),
            waiting: sample.waiting,
        };
        pool.target = decided.to;
        pool.last_decision = Some(decision.clone());
        let veto = decided.reason.is_veto().then(|| decision.reason.clone());
        if veto.is_some() && veto != pool.veto {
            out.push(Action::Notice(Notice::Vetoed {
                pool: name.clone(),
                decision: decision.clone(),
                budget: (decided.reason == Reason::MemoryBudget).then_some(sample.memory),
            }));
        }
        pool.veto = veto;
        if decided.is_change() {
            out.push(Action::Notice(Notice::Scaled {
                pool: name.clone(),
                decision,
            }));
        }
    }

    /// Other limits for a pool, until the next reload; in force at once.
    pub(super) fn scale(
        &mut self,
        name: &PoolName,
        min: Option<u32>,
        max: Option<u32>,
        now: Now,
        out: &mut Vec<Action>,
    ) -> Result<String, String> {
        let known = self
            .pools
            .keys()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(", ");
        let Some(pool) = self.pools.get_mut(name) else {
            return Err(format!("there is no pool `{name}` (pools: {known})"));
        };
        let (new_min, new_max) = (min.unwrap_or(pool.min), max.unwrap_or(pool.max));
        if new_max == 0 {
            return Err("max must be at least 1 (pause a pool to stop its jobs)".into());
        }
        if new_min > new_max {
            return Err(format!(
                "min would be {new_min}, above max, which would be {new_max}"
            ));
        }
        (pool.min, pool.max) = (new_min, new_max);
        self.decide_limits(name, now, out);
        self.balance(name, now, out);
        Ok(format!("pool {name}: min {new_min}, max {new_max}"))
    }

    /// Limits hold at once; utilization waits for its period.
    fn decide_limits(&mut self, name: &PoolName, now: Now, out: &mut Vec<Action>) {
        let Some(pool) = self.pools.get_mut(name) else {
            return;
        };
        let to = pool.target.clamp(pool.min, pool.max);
        if to == pool.target {
            return;
        }
        let reason = if to > pool.target {
            "below minimum"
        } else {
            "above maximum"
        };
        let decision = Decision {
            at: now.unix,
            from: pool.target,
            to,
            reason: reason.into(),
            utilization: pool.meter.utilization(now.mono),
            threshold: pool.config.utilization_threshold,
            window_s: pool.config.utilization_window.as_secs_f64(),
            waiting: pool.backlog.waiting,
        };
        pool.target = to;
        pool.last_decision = Some(decision.clone());
        out.push(Action::Notice(Notice::Scaled {
            pool: name.clone(),
            decision,
        }));
    }
}

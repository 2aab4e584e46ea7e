//! The decision of each scaling period, and what people change by hand.

use crate::broker::Backlog;
use crate::job::PoolName;
use crate::policy::scaling::{self, Limits, Reason, Sample, affordable};

use crate::fleet::snapshot::Decision;
use crate::fleet::{Action, Fleet, Memory, Notice, Now};

impl Fleet {
    /// One scaling period: take in what was measured, decide, act.
    pub(in crate::fleet) fn period(
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
        self.decide(name, now, out);
        self.balance(name, now, out);
    }

    fn decide(&mut self, name: &PoolName, now: Now, out: &mut Vec<Action>) {
        if !self.running() {
            return;
        }
        let loadable = self.templates.is_loaded();
        let share = self.share_of(name);
        let budget = self.own_budget(name);
        let Some(pool) = self.pools.get_mut(name).filter(|pool| !pool.removed) else {
            return;
        };
        pool.meter.forget(now.mono);
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
            memory: budget,
            share,
        };
        let decided = pool.config.policy.decide(&limits, &sample);
        pool.tally.decided(&decided);
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
        let scarcer = if share.memory.room() < budget.room() {
            share.memory
        } else {
            budget
        };
        let veto = decided.reason.is_veto().then(|| decision.reason.clone());
        if veto.is_some() && veto != pool.veto {
            out.push(Action::Notice(Notice::Vetoed {
                pool: name.clone(),
                decision: decision.clone(),
                budget: (decided.reason == Reason::MemoryBudget).then_some(scarcer),
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
    pub(in crate::fleet) fn scale(
        &mut self,
        name: &PoolName,
        min: Option<u32>,
        max: Option<u32>,
        now: Now,
        out: &mut Vec<Action>,
    ) -> Result<String, String> {
        let Some(pool) = self.pools.get(name) else {
            return Err(self.no_such_pool(name));
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
        let why = self.floors_too_high(name, new_min, new_max);
        if let Some(why) = why.or_else(|| self.too_little_memory(name, new_min, new_max)) {
            return Err(why);
        }
        if let Some(pool) = self.pools.get_mut(name) {
            (pool.min, pool.max) = (new_min, new_max);
        }
        self.decide_limits(name, now, out);
        self.give_way(now, out);
        self.balance_all(now, out);
        Ok(format!("pool {name}: min {new_min}, max {new_max}"))
    }

    /// Limits hold at once, a higher minimum as far as memory goes; utilization waits for its period.
    pub(in crate::fleet) fn decide_limits(&mut self, name: &PoolName, now: Now, out: &mut Vec<Action>) {
        let (budget, share) = (self.own_budget(name), self.share_of(name));
        let Some(pool) = self.pools.get_mut(name).filter(|pool| !pool.removed) else {
            return;
        };
        let most = affordable(pool.target, &budget, &share).min(share.ceiling);
        let to = pool.target.clamp(pool.min, pool.max).min(most);
        if to == pool.target {
            return;
        }
        let decided = scaling::Decision {
            from: pool.target,
            to,
            reason: if to > pool.target {
                Reason::BelowMinimum
            } else {
                Reason::AboveMaximum
            },
        };
        pool.tally.decided(&decided);
        let decision = Decision {
            at: now.unix,
            from: decided.from,
            to,
            reason: decided.reason.to_string(),
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

//! How many workers a pool should have: its limits, what was decided, and why.

use crate::config::PoolConfig;
use crate::fleet::Notice;
use crate::fleet::snapshot::Decision;
use crate::policy::limits::{self, Limits};
use crate::policy::memory::Budget;
use crate::policy::scaling::Settings;
use crate::policy::scaling::wish::{Reason, Sample, ScalingPolicy};
use crate::policy::share::Share;

use super::{Context, Pool};

/// The size of one pool.
#[derive(Debug)]
pub(super) struct Size {
    /// Limits in force: the configured ones, or what `pool scale` said since.
    min: u32,
    max: u32,
    /// Workers wanted.
    target: u32,
    /// What finds the size within the limits, and the settings that it was started with.
    policy: Box<dyn ScalingPolicy>,
    settings: Settings,
    last_decision: Option<Decision>,
    /// The veto that was told last.
    veto: Option<String>,
}

impl Size {
    pub fn new(config: &PoolConfig) -> Self {
        Size {
            min: config.min_workers,
            max: config.max_workers,
            target: config.min_workers,
            policy: config.scaling.start(),
            settings: config.scaling,
            last_decision: None,
            veto: None,
        }
    }

    /// New settings overrule what `pool scale` said. With other settings the policy learns anew.
    pub fn configure(&mut self, config: &PoolConfig) {
        self.set_limits((config.min_workers, config.max_workers));
        if config.scaling != self.settings {
            (self.policy, self.settings) = (config.scaling.start(), config.scaling);
        }
    }

    pub fn limits(&self) -> (u32, u32) {
        (self.min, self.max)
    }

    pub fn set_limits(&mut self, (min, max): (u32, u32)) {
        assert!(min <= max && max > 0, "limits were checked: {min}..{max}");
        (self.min, self.max) = (min, max);
    }

    pub fn target(&self) -> u32 {
        self.target
    }

    pub fn last_decision(&self) -> Option<&Decision> {
        self.last_decision.as_ref()
    }
}

impl Pool {
    /// The decision of a scaling period, within what it has of its own and what is left of what all share.
    pub fn decide(&mut self, share: Share, budget: Budget, cx: &mut Context) {
        if !cx.running || self.removed {
            return;
        }
        self.measures.meter_mut().forget(cx.now.mono);
        let sample = self.sample(cx);
        let wish = self.size.policy.period(&sample);
        let decided = limits::decide(&self.scaling_limits(share, budget, cx), &sample, Some(wish));
        let decision = self.carry_out(&decided, &sample, cx);
        let scarcer = if share.memory.room() < budget.room() {
            share.memory
        } else {
            budget
        };
        let veto = decided.reason.is_veto().then(|| decision.reason.clone());
        if veto.is_some() && veto != self.size.veto {
            cx.tell(Notice::Vetoed {
                pool: self.name.clone(),
                decision,
                budget: (decided.reason == Reason::MemoryBudget).then_some(scarcer),
            });
        }
        self.size.veto = veto;
    }

    /// Other limits, until the next reload; they were found to be possible.
    pub fn set_limits(&mut self, limits: (u32, u32)) {
        self.size.set_limits(limits);
    }

    /// Limits hold at once, a higher minimum as far as memory goes; what the policy wishes waits for its period.
    pub fn decide_limits(&mut self, share: Share, budget: Budget, cx: &mut Context) {
        if self.removed {
            return;
        }
        let sample = self.sample(cx);
        let decided = limits::decide(&self.scaling_limits(share, budget, cx), &sample, None);
        if decided.is_change() {
            self.carry_out(&decided, &sample, cx);
        }
    }

    fn scaling_limits(&self, share: Share, budget: Budget, cx: &Context) -> Limits {
        Limits {
            min: self.size.min,
            max: self.size.max,
            paused: self.paused,
            loadable: cx.templates.is_loaded(),
            memory: budget,
            share,
        }
    }

    fn sample(&self, cx: &Context) -> Sample {
        Sample {
            workers: self.size.target,
            utilization: self.measures.meter().utilization(cx.now.mono),
            waiting: self.backlog.waiting,
            oldest_waiting: self.backlog.oldest_age(cx.now.unix),
        }
    }

    fn carry_out(&mut self, decided: &limits::Decision, sample: &Sample, cx: &mut Context) -> Decision {
        assert_eq!(
            decided.from, self.size.target,
            "a decision is about the size that it is"
        );
        self.measures.tally_mut().decided(decided);
        let decision = Decision {
            at: cx.now.unix,
            from: decided.from,
            to: decided.to,
            reason: decided.reason.to_string(),
            utilization: sample.utilization,
            threshold: self.config.scaling.utilization.threshold,
            window_s: self.config.utilization_window.as_secs_f64(),
            waiting: sample.waiting,
        };
        self.size.target = decided.to;
        self.size.last_decision = Some(decision.clone());
        if decided.is_change() {
            cx.tell(Notice::Scaled {
                pool: self.name.clone(),
                decision: decision.clone(),
            });
        }
        decision
    }
}

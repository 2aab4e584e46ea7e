//! How many workers a pool should have: its limits, what was decided, and why.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::config::PoolConfig;
use crate::fleet::snapshot::{Candidate, Decision, QueueFlow};
use crate::fleet::{Action, Notice};
use crate::job::{Job, QueueName, Work};
use crate::policy::decision::{self, Limit};
use crate::policy::limits::{self, Limits};
use crate::policy::memory::Budget;
use crate::policy::scaling::Settings;
use crate::policy::scaling::wish::{self, Reason, Sample, ScalingPolicy, Wish};
use crate::policy::share::Share;
use crate::policy::throughput::{Guard, Verdict};
use crate::time::{Mono, Unix};

use super::flows::There;
use super::life::State;
use super::{Context, Pool};

/// The size of one pool.
#[derive(Debug)]
pub(super) struct Size {
    /// The configured limits, or what `pool scale` said since.
    min: u32,
    max: u32,
    /// Fewest workers at this time of day, see `policy::floors`; as it was at the last decision.
    time_floor: u32,
    /// Workers wanted.
    target: u32,
    /// What finds the size within the limits, and the settings that it was started with.
    policy: Box<dyn ScalingPolicy>,
    settings: Settings,
    /// Watches what growth brings, and for how long it holds what brought nothing.
    guard: Option<Guard>,
    throughput_hold: Duration,
    last_decision: Option<Decision>,
    /// The size that was told last, where it is only told.
    would: Option<u32>,
    /// The veto that was told last.
    veto: Option<String>,
}

/// What makes a pool decide about its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::fleet) enum Occasion {
    /// A scaling period ended.
    Period,
    /// The policy asked for a look at jobs that wait.
    Look,
    /// The limits were changed; the policy is not asked.
    Limits,
}

impl Occasion {
    fn as_str(self) -> &'static str {
        match self {
            Occasion::Period => "period",
            Occasion::Look => "look",
            Occasion::Limits => "limits",
        }
    }
}

impl Size {
    pub fn new(config: &PoolConfig, now: Mono) -> Self {
        Size {
            min: config.min_workers,
            max: config.max_workers,
            time_floor: 0,
            target: config.min_workers,
            policy: config.scaling.start(),
            settings: config.scaling,
            guard: Guard::new(config.throughput_hold, config.min_workers, now),
            throughput_hold: config.throughput_hold,
            last_decision: None,
            would: None,
            veto: None,
        }
    }

    /// New settings overrule what `pool scale` said. With other settings the policy learns anew.
    pub fn configure(&mut self, config: &PoolConfig, now: Mono) {
        self.set_limits((config.min_workers, config.max_workers));
        if config.scaling != self.settings {
            (self.policy, self.settings) = (config.scaling.start(), config.scaling);
        }
        if config.throughput_hold != self.throughput_hold {
            self.throughput_hold = config.throughput_hold;
            self.guard = Guard::new(config.throughput_hold, self.target, now);
        }
    }

    /// A worker ran a job by its own stamps, while so many were busy.
    pub fn ran(&mut self, job: &Job, (started, ended): (Mono, Mono), busy: u32) {
        if let Some(guard) = self.guard.as_mut().filter(|_| job.work != Work::After) {
            guard.ran(&job.task, (started, ended.since(started)), busy);
        }
    }

    /// A period ended. Of growth that is taken back, what it brought.
    fn end_period(&mut self, now: Mono) -> Option<f64> {
        match self.guard.as_mut()?.period(now) {
            Verdict::TakenBack { gain, .. } => Some(gain),
            Verdict::None | Verdict::Released => None,
        }
    }

    fn resize(&mut self, to: u32, now: Mono) {
        if let Some(guard) = self.guard.as_mut().filter(|_| to != self.target) {
            guard.resized(to, now);
        }
        self.target = to;
    }

    pub fn set_policy(&mut self, policy: Box<dyn ScalingPolicy>) {
        self.policy = policy;
    }

    /// The limits of the settings, or what `pool scale` said since.
    pub fn limits(&self) -> (u32, u32) {
        (self.min, self.max)
    }

    /// The limits in force at this time of day.
    pub fn limits_now(&self) -> (u32, u32) {
        self.at_this_time((self.min, self.max))
    }

    /// The limits in force at this time of day if the settings said these.
    pub fn at_this_time(&self, (min, max): (u32, u32)) -> (u32, u32) {
        (min.max(self.time_floor).min(max), max)
    }

    pub fn set_limits(&mut self, (min, max): (u32, u32)) {
        assert!(min <= max && max > 0, "limits were checked: {min}..{max}");
        (self.min, self.max) = (min, max);
    }

    pub fn target(&self) -> u32 {
        self.target
    }

    /// Whether the policy looks at jobs that wait, between two periods.
    pub fn looks(&self) -> bool {
        self.policy.looks()
    }

    pub fn last_decision(&self) -> Option<&Decision> {
        self.last_decision.as_ref()
    }
}

impl Pool {
    /// The decision of a scaling period or a look, within what it has of its own and what is left of what all share.
    pub fn decide(&mut self, occasion: Occasion, share: Share, budget: Budget, cx: &mut Context) {
        if !cx.running || self.removed {
            return;
        }
        self.measures.meter_mut().forget(cx.now.mono);
        self.size.time_floor = self.config.floors.at(cx.now.unix);
        let sample = self.sample(cx);
        let seen = self.seen_by_policy(&sample);
        let mut gain = None;
        let wish = match occasion {
            Occasion::Period => {
                gain = self.size.end_period(cx.now.mono);
                self.measures.meter_mut().take_peak();
                self.size.policy.period(&seen)
            }
            Occasion::Look => self.size.policy.look(&seen),
            Occasion::Limits => Wish::stay(&sample),
        };
        // A look makes it grow, or nothing.
        let wished = wish.workers;
        if occasion == Occasion::Period || wished > sample.workers {
            self.follow((occasion, gain), wish, &sample, (share, budget), cx);
        }
        let refused = wished > sample.workers && self.size.target == sample.workers;
        self.looks
            .looked(refused, self.config.scaling_period, cx.now.mono);
    }

    /// Carries out a wish as far as it goes; what forbids more of it is told once.
    fn follow(
        &mut self,
        (occasion, gain): (Occasion, Option<f64>),
        wish: Wish,
        sample: &Sample,
        (share, budget): (Share, Budget),
        cx: &mut Context,
    ) {
        let decided = limits::decide(&self.scaling_limits(share, budget, cx), sample, Some(wish));
        let decision = self.carry_out(&decided, (occasion, gain), &share, cx);
        let scarcer = if share.memory.room() < budget.room() {
            share.memory
        } else {
            budget
        };
        let is_veto = decided.reason.is_veto() && decided.to == decided.from;
        let veto = is_veto.then(|| decision.reason.clone());
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
        self.size.time_floor = self.config.floors.at(cx.now.unix);
        let sample = self.sample(cx);
        let decided = limits::decide(&self.scaling_limits(share, budget, cx), &sample, None);
        if decided.is_change() {
            self.carry_out(&decided, (Occasion::Limits, None), &share, cx);
        }
    }

    fn scaling_limits(&self, share: Share, budget: Budget, cx: &Context) -> Limits {
        let (min, max) = self.size.limits_now();
        Limits {
            min,
            max,
            paused: self.paused,
            loadable: cx.templates.is_loaded(),
            memory: budget,
            share,
            held: self.size.guard.as_ref().and_then(Guard::cap),
        }
    }

    fn sample(&self, cx: &Context) -> Sample {
        let meter = self.measures.meter();
        Sample {
            workers: self.size.target,
            busy: meter.busy(),
            peak_busy: meter.peak(),
            busy_average: meter.busy_average(cx.now.mono),
            waiting: self.known_to_wait(),
            oldest_waiting: self.oldest_waiting(cx.now.unix),
            work: self.waiting_work(cx.now.mono),
        }
    }

    /// What the policy is told. Jobs that wait for a pool to be resumed ask for no worker, and keep none.
    fn seen_by_policy(&self, sample: &Sample) -> Sample {
        if !self.paused {
            return *sample;
        }
        Sample {
            waiting: 0,
            oldest_waiting: None,
            work: Duration::ZERO,
            ..*sample
        }
    }

    /// Jobs that could run now: at the broker, as last counted, without those that came since; and at hand.
    pub(super) fn known_to_wait(&self) -> u64 {
        self.backlog.waiting() + self.jobs.ready() as u64
    }

    /// How long the oldest of them has waited, as far as that is known.
    fn oldest_waiting(&self, now: Unix) -> Option<Duration> {
        let at_broker = self.backlog.oldest.filter(|_| !self.looks.have_come());
        let at_hand = self.jobs.ready_jobs().map(|job| job.ready);
        // A broker may not know how long the jobs wait that went back to it.
        let went_back = self.jobs.went_back().filter(|_| self.backlog.waiting() > 0);
        let since = at_hand.chain(went_back).chain(at_broker).min()?;
        Some(now.since(since))
    }

    /// Worker time that they will take. Of a queue that was never measured, a job takes as long as those that run now have
    /// run.
    fn waiting_work(&self, now: Mono) -> Duration {
        let running = self
            .workers
            .values()
            .filter(|worker| worker.state() == State::Busy);
        let run_for = running.filter_map(|worker| Some(now.since(worker.hand()?.since())));
        let (jobs, sum) = run_for.fold((0, Duration::ZERO), |(jobs, sum), time| (jobs + 1, sum + time));
        let unknown = sum.checked_div(jobs).unwrap_or_default();
        let mean = |queue| self.measures.queues().mean(queue).unwrap_or(unknown);
        let at_broker = self.backlog.by_queue.iter();
        let at_broker = at_broker.map(|(queue, jobs)| {
            let jobs = u32::try_from(*jobs).unwrap_or(u32::MAX);
            mean(queue).saturating_mul(jobs)
        });
        let at_hand = self.jobs.ready_jobs().map(|job| mean(&job.queue));
        at_broker
            .chain(at_hand)
            .fold(Duration::ZERO, Duration::saturating_add)
    }

    /// Workers that were busy on average over the window, divided by the workers that it is to have.
    pub(super) fn utilization(&self, now: Mono) -> Option<f64> {
        let sample = Sample {
            workers: self.size.target,
            busy_average: self.measures.meter().busy_average(now),
            ..Sample::default()
        };
        sample.utilization()
    }

    fn carry_out(
        &mut self,
        decided: &decision::Decision,
        (occasion, gain): (Occasion, Option<f64>),
        share: &Share,
        cx: &mut Context,
    ) -> Decision {
        assert_eq!(
            decided.from, self.size.target,
            "a decision is about the size that it is"
        );
        let is_dry = cx.is_dry_run && is_wish(decided);
        let tally = self.measures.tally_mut();
        tally.decided((decided.from, decided.to), decided.reason, is_dry);
        let mut decision = self.record(decided, occasion, cx);
        decision.growth_gain = gain;
        if decided.limit == Some(Limit::Permits) {
            let kind = share.permits.and_then(|place| self.config.permits.kind(place));
            decision.limit = kind.map(|kind| format!("permits.{kind}"));
        }
        decision.dry_run = is_dry;
        self.size.last_decision = Some(decision.clone());
        if decision.dry_run {
            self.tell_what_it_would_do(&decision, cx);
        } else {
            self.size.resize(decided.to, cx.now.mono);
            if decided.is_change() {
                cx.tell(Notice::Scaled {
                    pool: self.name.clone(),
                    decision: decision.clone(),
                });
            }
        }
        let queues = match occasion {
            Occasion::Period => self.take_flows(),
            Occasion::Look | Occasion::Limits => Vec::new(),
        };
        cx.act(Action::Keep {
            pool: self.name.clone(),
            decision: Box::new(decision.clone()),
            queues,
        });
        decision
    }

    /// Told once, until it would do something else.
    fn tell_what_it_would_do(&mut self, decision: &Decision, cx: &mut Context) {
        let would = (decision.from != decision.to).then_some(decision.to);
        if self.size.would != would && would.is_some() {
            cx.tell(Notice::Scaled {
                pool: self.name.clone(),
                decision: decision.clone(),
            });
        }
        self.size.would = would;
    }

    /// What passed through its queues since the last period.
    fn take_flows(&mut self) -> Vec<QueueFlow> {
        let began = self.measures.began();
        // Of those at the broker at most the age of the oldest is known.
        let were_there = self.backlog.oldest.is_none_or(|oldest| oldest < began);
        let at_broker = self.backlog.by_queue.iter();
        let at_broker = at_broker.map(|(queue, jobs)| (queue, *jobs, were_there));
        let in_hand = self.jobs.in_hand();
        let in_hand = in_hand.map(|job| (&job.queue, 1, job.ready < began));
        let mut there: BTreeMap<QueueName, There> = BTreeMap::new();
        for (queue, jobs, were_there) in at_broker.chain(in_hand) {
            let of_queue = there.entry(queue.clone()).or_default();
            of_queue.all += jobs;
            of_queue.before += if were_there { jobs } else { 0 };
        }
        self.measures.take_flows(&there)
    }

    /// The record of a decision, for people and programs.
    fn record(&self, decided: &decision::Decision, occasion: Occasion, cx: &Context) -> Decision {
        let sample = &decided.sample;
        let candidate = |candidate: &wish::Candidate| Candidate {
            term: candidate.term.as_str().to_owned(),
            workers: candidate.workers,
        };
        let settings = &self.config.scaling;
        Decision {
            at: cx.now.unix,
            from: decided.from,
            to: decided.to,
            reason: decided.reason.to_string(),
            utilization: sample.utilization(),
            threshold: settings.threshold(),
            window_s: self.config.utilization_window.as_secs_f64(),
            waiting: sample.waiting,
            policy: settings.policy.as_str().to_owned(),
            occasion: occasion.as_str().to_owned(),
            busy: sample.busy,
            peak_busy: sample.peak_busy,
            busy_average: sample.busy_average,
            oldest_waiting_s: sample.oldest_waiting.map(|age| age.as_secs_f64()),
            work_s: sample.work.as_secs_f64(),
            target_wait_s: settings.target_wait().map(|wait| wait.as_secs_f64()),
            min: decided.bounds.0,
            max: decided.bounds.1,
            candidates: decided.candidates.iter().map(candidate).collect(),
            term: decided.term.map(|term| term.as_str().to_owned()),
            wished: decided.wished,
            limit: decided.limit.map(|limit| limit.as_str().to_owned()),
            growth_gain: None,
            dry_run: false,
        }
    }
}

/// A change that is the policy's wish; limits and the first worker are not.
fn is_wish(decided: &decision::Decision) -> bool {
    let is_limit = matches!(
        decided.reason,
        Reason::BelowMinimum | Reason::AboveMaximum | Reason::NoThroughput
    );
    decided.is_change() && !is_limit && decided.from > 0
}

//! The rules of other programs, as functions of what this pool measures, each with its published defaults and its source.
//!
//! A rule is asked once a period of its own, and its answer is kept within the limits of the pool. Rules of programs that act
//! when a job comes are asked then, too. Retired workers are those that are idle.

use std::collections::VecDeque;
use std::time::Duration;

use pool::policy::scaling::wish::{Reason, Sample, ScalingPolicy, Wish};

use crate::compare::LIMITS;

/// A rule, and how often it is asked.
pub struct Peer {
    pub name: &'static str,
    /// Time between two questions, which is the window of `busy_average` too.
    pub period: Duration,
    pub start: fn() -> Box<dyn ScalingPolicy>,
}

/// The size that a rule wishes, once a period.
type Rule = Box<dyn FnMut(&Sample) -> u32 + Send>;

struct Periodic(Rule);

/// The same, and a worker for each job that finds none free, as soon as it comes.
struct Eager(Rule);

impl std::fmt::Debug for Eager {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Eager")
    }
}

impl ScalingPolicy for Eager {
    fn looks(&self) -> bool {
        true
    }

    fn look(&mut self, sample: &Sample) -> Wish {
        Wish {
            workers: in_system(sample).max(sample.workers),
            reason: Reason::JobsWaiting,
            ..Wish::stay(sample)
        }
    }

    fn period(&mut self, sample: &Sample) -> Wish {
        Wish {
            workers: (self.0)(sample),
            reason: Reason::Utilization,
            ..Wish::stay(sample)
        }
    }
}

impl std::fmt::Debug for Periodic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Periodic")
    }
}

impl ScalingPolicy for Periodic {
    fn period(&mut self, sample: &Sample) -> Wish {
        Wish {
            workers: (self.0)(sample),
            reason: Reason::Utilization,
            ..Wish::stay(sample)
        }
    }
}

fn rule(rule: impl FnMut(&Sample) -> u32 + Send + 'static) -> Box<dyn ScalingPolicy> {
    Box::new(Periodic(Box::new(rule)))
}

fn eager(rule: impl FnMut(&Sample) -> u32 + Send + 'static) -> Box<dyn ScalingPolicy> {
    Box::new(Eager(Box::new(rule)))
}

/// Jobs that run or wait.
fn in_system(sample: &Sample) -> u32 {
    sample
        .busy
        .saturating_add(u32::try_from(sample.waiting).unwrap_or(u32::MAX))
}

/// The highest of the last values.
struct Highest {
    values: VecDeque<u32>,
    kept: usize,
}

impl Highest {
    fn of_last(kept: usize) -> Self {
        Highest {
            values: VecDeque::new(),
            kept,
        }
    }

    fn with(&mut self, value: u32) -> u32 {
        self.values.push_back(value);
        if self.values.len() > self.kept {
            self.values.pop_front();
        }
        self.values.iter().copied().max().unwrap_or(value)
    }

    fn is_full(&self) -> bool {
        self.values.len() == self.kept
    }
}

const SECOND: Duration = Duration::from_secs(1);

pub fn all() -> Vec<Peer> {
    let peer = |name, period, start| Peer { name, period, start };
    vec![
        peer("rq_orchestrator", SECOND * 10, rq_orchestrator as fn() -> _),
        peer("celery autoscale", SECOND, celery),
        peer("uwsgi busyness", SECOND, uwsgi_busyness),
        peer("uwsgi backlog", SECOND, uwsgi_backlog),
        peer("php-fpm dynamic", SECOND, php_dynamic),
        peer("php-fpm ondemand", SECOND, php_ondemand),
        peer("keda queue length", SECOND * 15, keda),
        peer("knative", SECOND * 2, knative),
        peer("dask adaptive", SECOND, dask),
        peer("spark dynamic", SECOND, spark),
    ]
}

/// Busier than 50 % over 10 s: one more. Below 25 %: one fewer, if one is idle.
///
/// The original leaves workers out of its average that did not work at all, and counts a job when it ends. Here all workers count,
/// and running jobs as they run.
/// Source: github.com/ankush/rq_orchestrator, `rq_orchestrator/frappe_worker_pool.py` at 20d1bf6, `apply_scaling`:
/// `utilization_threshold`, `scaling_period`.
fn rq_orchestrator() -> Box<dyn ScalingPolicy> {
    rule(|sample| match sample.utilization().unwrap_or(0.0) {
        share if share > 0.5 => sample.workers + 1,
        share if share < 0.25 && sample.busy < sample.workers => sample.workers - 1,
        _ => sample.workers,
    })
}

/// As many workers as jobs are reserved, as soon as one comes; fewer once none has come for 30 s.
/// Source: Celery 5.6, `celery/worker/autoscale.py`, `Autoscaler._maybe_scale`, `scale_down`; `AUTOSCALE_KEEPALIVE`.
fn celery() -> Box<dyn ScalingPolicy> {
    let (mut quiet, mut size) = (0_u32, 0);
    eager(move |sample| {
        let wanted = in_system(sample);
        // While no job begins or ends, those that run are busy all the time.
        let is_quiet = sample.waiting == 0
            && sample.peak_busy == sample.busy
            && sample
                .busy_average
                .is_some_and(|busy| busy >= f64::from(sample.busy));
        quiet = if is_quiet && sample.workers <= size {
            quiet + 1
        } else {
            0
        };
        size = sample.workers;
        match wanted < sample.workers && quiet <= 30 {
            true => sample.workers,
            false => wanted,
        }
    })
}

/// Busier than 50 % in a cycle of 3 s: one more. Below 25 % for 10 cycles: one fewer. Cycles between the two put that off; so do
/// two cycles more whenever one comes back too soon. Each second one more for more than 33 jobs that wait; such ones leave
/// after 3 cycles.
/// Source: uWSGI, `plugins/cheaper_busyness/cheaper_busyness.c`, `cheaper_busyness_algo`, `set_next_cheap_time`,
/// `spawn_emergency_worker`: `cheaper-overload`, `busyness-max`, `busyness-min`, `busyness-multiplier`, `busyness-penalty`,
/// `busyness-backlog-alert`, `-multiplier` and `-step`, `cheaper-step`; `core/master_utils.c`, `uwsgi_calc_cheaper`.
fn uwsgi_busyness() -> Box<dyn ScalingPolicy> {
    let mut busyness = Busyness::default();
    rule(move |sample| busyness.second(sample))
}

/// Seconds of a cycle: `cheaper-overload`.
const CYCLE_S: u32 = 3;
/// `busyness-multiplier`.
const MULTIPLIER: u32 = 10;

/// The state of uWSGI's `busyness`. Times are seconds since the start.
struct Busyness {
    now: u32,
    /// Worker-seconds in this cycle.
    busy: f64,
    next_fewer: u32,
    last_fewer: Option<u32>,
    multiplier: u32,
    /// Cycles in a row that were neither busy nor idle.
    between: u32,
    was_fewer: bool,
    /// Workers that were started for the jobs that waited.
    emergency: u32,
}

impl Default for Busyness {
    fn default() -> Self {
        Busyness {
            now: 0,
            busy: 0.0,
            next_fewer: CYCLE_S * MULTIPLIER,
            last_fewer: None,
            multiplier: MULTIPLIER,
            between: 0,
            was_fewer: false,
            emergency: 0,
        }
    }
}

impl Busyness {
    fn second(&mut self, sample: &Sample) -> u32 {
        self.now += 1;
        self.busy += sample.busy_average.unwrap_or(0.0);
        let (min, max) = LIMITS;
        let is_alert = sample.waiting > 33 && sample.workers < max;
        if !self.now.is_multiple_of(CYCLE_S) {
            return if is_alert {
                self.alert(sample)
            } else {
                sample.workers
            };
        }
        let busy = std::mem::take(&mut self.busy) / f64::from(CYCLE_S);
        // Whole per cents.
        let percent = (100.0 * busy / f64::from(sample.workers.max(1))).min(100.0) as u32;
        if percent > 50 {
            self.between = 0;
            if sample.workers >= max {
                return sample.workers;
            }
            let came_back_soon = self
                .last_fewer
                .is_some_and(|last| (self.now - last) / CYCLE_S <= self.multiplier);
            if came_back_soon {
                self.multiplier += 2;
            } else {
                self.decrease_multiplier();
            }
            self.was_fewer = false;
            self.put_off();
            sample.workers + 1
        } else if is_alert {
            self.alert(sample)
        } else if percent >= 25 {
            self.emergency = self.emergency.saturating_sub(1);
            self.between += 1;
            if self.between >= 3 {
                self.put_off();
            } else {
                self.next_fewer += CYCLE_S;
            }
            sample.workers
        } else {
            self.between = 0;
            if sample.workers <= min || self.now < self.next_fewer {
                return sample.workers;
            }
            if self.was_fewer {
                self.decrease_multiplier();
            }
            self.put_off();
            (self.was_fewer, self.last_fewer) = (true, Some(self.now));
            self.emergency = self.emergency.saturating_sub(1);
            sample.workers - 1
        }
    }

    fn alert(&mut self, sample: &Sample) -> u32 {
        (self.multiplier, self.was_fewer) = (MULTIPLIER, false);
        self.emergency += 1;
        self.put_off();
        sample.workers + 1
    }

    fn put_off(&mut self) {
        let cycles = if self.emergency > 0 { 3 } else { self.multiplier };
        self.next_fewer = self.now + CYCLE_S * cycles;
    }

    fn decrease_multiplier(&mut self) {
        self.multiplier = (self.multiplier - 1).max(MULTIPLIER);
    }
}

/// More than 3 wait: one more. Fewer: one fewer.
/// Source: uWSGI, `core/master_utils.c`, `uwsgi_cheaper_algo_backlog`; `cheaper-overload`, `cheaper-step`.
fn uwsgi_backlog() -> Box<dyn ScalingPolicy> {
    rule(|sample| match sample.waiting {
        0..3 => sample.workers.saturating_sub(1),
        3 => sample.workers,
        _ => sample.workers + 1,
    })
}

/// One idle worker at least, three at most: each second one more or one fewer.
///
/// It would start 2, 4 … at once while many spare ones are missing; with one spare worker never more than one is.
/// Source: PHP 8, `sapi/fpm/fpm/fpm_process_ctl.c`, `fpm_pctl_perform_idle_server_maintenance`; `www.conf`:
/// `pm.min_spare_servers`, `pm.max_spare_servers`.
fn php_dynamic() -> Box<dyn ScalingPolicy> {
    rule(|sample| match sample.workers.saturating_sub(sample.busy) {
        0 => sample.workers + 1,
        1..=3 => sample.workers,
        _ => sample.workers - 1,
    })
}

/// A worker for each request that finds none, as soon as it comes. Each second the idle worker that started first leaves, if
/// it was idle for 10 s: those above it may have been for longer. This pool gives a job to the one that started first, too,
/// so it was if no more were busy at once in that time than are now.
/// Source: PHP 8, `sapi/fpm/fpm/fpm_process_ctl.c`, `fpm_pctl_on_socket_accept`,
/// `fpm_pctl_perform_idle_server_maintenance` (`last_idle_child`); `pm.process_idle_timeout`.
fn php_ondemand() -> Box<dyn ScalingPolicy> {
    let mut used = Highest::of_last(10);
    eager(move |sample| {
        let used = used.with(sample.peak_busy);
        let wanted = in_system(sample);
        if wanted > sample.workers {
            wanted
        } else if used <= sample.busy && sample.busy < sample.workers {
            sample.workers - 1
        } else {
            sample.workers
        }
    })
}

/// One worker for five jobs that wait, if these are more than 10 % off five a worker; at most twice as many or four more each
/// 15 s; as few as were wanted at most in the last 5 minutes. Its cooldown is for the last worker, which never leaves here.
/// Source: KEDA, `pkg/scalers/redis_scaler.go`, `defaultTargetListLength`; Kubernetes,
/// `pkg/controller/podautoscaler/replica_calculator.go`, `GetExternalPerPodMetricReplicas`; `horizontal.go` there,
/// `stabilizeRecommendationWithBehaviors`, `calculateScaleUpLimitWithScalingRules`; `pkg/apis/autoscaling/v2/defaults.go`,
/// `defaultHPAScaleUpRules`, `defaultHPAScaleDownRules`; of its controller the documented defaults of
/// `--horizontal-pod-autoscaler-sync-period`, `-tolerance` and `-downscale-stabilization`.
fn keda() -> Box<dyn ScalingPolicy> {
    let mut wanted = Highest::of_last(20);
    rule(move |sample| {
        let usage = sample.waiting as f64 / 5.0;
        let desired = match (1.0 - usage / f64::from(sample.workers)).abs() > 0.1 {
            true => usage.ceil() as u32,
            false => sample.workers,
        };
        let floor = wanted.with(desired);
        let most = (sample.workers * 2).max(sample.workers + 4);
        if desired > sample.workers {
            desired.min(most)
        } else {
            floor.min(sample.workers)
        }
    })
}

/// 0.7 requests a worker over 60 s; over 6 s, without shrinking, where these ask for twice of what is there.
/// Source: Knative Serving, `pkg/autoscaler/scaling/autoscaler.go`, `Scale`; `config-autoscaler`: `container-concurrency-target-percentage` 70 %, `stable-window`,
/// `panic-window-percentage`, `panic-threshold-percentage`, `max-scale-down-rate`.
fn knative() -> Box<dyn ScalingPolicy> {
    let mut counts: VecDeque<f64> = VecDeque::new();
    let (mut panic_left, mut panic_size) = (0, 0);
    rule(move |sample| {
        counts.push_front(f64::from(in_system(sample)));
        counts.truncate(30);
        let desired = |ticks: usize| {
            let values = counts.iter().take(ticks);
            let mean = values.clone().sum::<f64>() / values.count().max(1) as f64;
            (mean / 0.7).ceil() as u32
        };
        let (stable, panic) = (desired(30), desired(3));
        if panic >= sample.workers.max(1) * 2 {
            panic_left = 30;
        }
        if panic_left > 0 {
            panic_left -= 1;
            panic_size = panic_size.max(panic).max(stable);
            return panic_size;
        }
        panic_size = 0;
        stable.max(sample.workers / 2)
    })
}

/// As many workers as finish all known work in 5 s, no more than tasks. If that is fewer than there are, those leave that were
/// idle in three looks in a row.
/// Its tasks wait at workers, too. It also grows by memory, which is left out here.
/// Source: Dask distributed 2026.8, `scheduler.py`, `Scheduler.adaptive_target`, `workers_to_close`; `deploy/adaptive_core.py`,
/// `recommendations`; `distributed.yaml`: `adaptive.interval`, `target-duration`, `wait-count`; `scheduler.unknown-task-duration`.
fn dask() -> Box<dyn ScalingPolicy> {
    let (mut mean, mut kept) = (0.5, Highest::of_last(3));
    rule(move |sample| {
        if sample.waiting > 0 && !sample.work.is_zero() {
            mean = sample.work.as_secs_f64() / sample.waiting as f64;
        }
        // A running task counts in full.
        let occupancy = sample.work.as_secs_f64() + f64::from(sample.busy) * mean;
        let target = ((occupancy / 5.0).ceil() as u32).min(in_system(sample));
        if target >= sample.workers {
            kept = Highest::of_last(3);
            return target;
        }
        let kept_in_three = kept.with(sample.busy);
        if kept.is_full() {
            kept_in_three.min(sample.workers)
        } else {
            sample.workers
        }
    })
}

/// While tasks wait for a second: one more, two, four …, no more than tasks. Executors leave after 60 s without one.
/// Source: Spark, `ExecutorAllocationManager.scala`, `addExecutors`, `onExecutorIdle`; `spark.dynamicAllocation.schedulerBacklogTimeout`,
/// `executorIdleTimeout`.
fn spark() -> Box<dyn ScalingPolicy> {
    let (mut step, mut used, mut waited) = (1, Highest::of_last(60), false);
    rule(move |sample| {
        let used = used.with(sample.peak_busy);
        if sample.waiting == 0 {
            (step, waited) = (1, false);
            return used.min(sample.workers);
        }
        if !std::mem::replace(&mut waited, true) {
            return sample.workers;
        }
        let grown = (sample.workers + step).min(in_system(sample)).max(sample.workers);
        step = if grown == sample.workers + step {
            step * 2
        } else {
            1
        };
        grown
    })
}

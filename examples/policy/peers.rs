//! The rules of other programs, as functions of what this pool measures, each with its published defaults and its source.
//!
//! A rule is asked once a period of its own, and its answer is kept within the limits of the pool. Retired workers are
//! those that are idle.

use std::collections::VecDeque;
use std::time::Duration;

use pool::policy::scaling::wish::{Reason, Sample, ScalingPolicy, Wish};

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
}

const SECOND: Duration = Duration::from_secs(1);

pub fn all() -> Vec<Peer> {
    let peer = |name, period, start| Peer { name, period, start };
    vec![
        peer("celery autoscale", SECOND, celery as fn() -> _),
        peer("uwsgi busyness", SECOND * 3, uwsgi_busyness),
        peer("uwsgi backlog", SECOND, uwsgi_backlog),
        peer("php-fpm dynamic", SECOND, php_dynamic),
        peer("php-fpm ondemand", SECOND, php_ondemand),
        peer("keda queue length", SECOND * 15, keda),
        peer("knative", SECOND * 2, knative),
        peer("dask adaptive", SECOND, dask),
        peer("spark dynamic", SECOND, spark),
    ]
}

/// As many workers as jobs are reserved, at once; fewer not before 30 s after the last growth.
/// Source: Celery 5.5, `celery/worker/autoscale.py`, `Autoscaler._maybe_scale`, `AUTOSCALE_KEEPALIVE`.
fn celery() -> Box<dyn ScalingPolicy> {
    let mut since_growth = 0_u32;
    rule(move |sample| {
        let wanted = in_system(sample);
        since_growth += 1;
        if wanted > sample.workers {
            since_growth = 0;
            wanted
        } else if wanted < sample.workers && since_growth > 30 {
            wanted
        } else {
            sample.workers
        }
    })
}

/// Busier than 50 % in a cycle of 3 s: one more. Below 25 % for 10 cycles: one fewer.
/// Source: uWSGI 2.0, `plugins/cheaper_busyness/cheaper_busyness.c`: `busyness_max`, `busyness_min`, `cheaper_overload`,
/// `busyness_multiplier`, `cheaper_step`.
fn uwsgi_busyness() -> Box<dyn ScalingPolicy> {
    let mut calm = 0;
    rule(move |sample| {
        let busyness = sample.utilization().unwrap_or(0.0);
        calm = if busyness < 0.25 { calm + 1 } else { 0 };
        if busyness > 0.5 {
            sample.workers + 1
        } else if calm >= 10 {
            calm = 0;
            sample.workers.saturating_sub(1)
        } else {
            sample.workers
        }
    })
}

/// More than 3 wait: one more. Fewer: one fewer.
/// Source: uWSGI 2.0, `core/uwsgi.c`, `uwsgi_cheaper_algo_backlog`, `cheaper_overload`.
fn uwsgi_backlog() -> Box<dyn ScalingPolicy> {
    rule(|sample| match sample.waiting {
        0..3 => sample.workers.saturating_sub(1),
        3 => sample.workers,
        _ => sample.workers + 1,
    })
}

/// One idle worker at least, three at most; growth doubles each second that it is not enough, up to 32.
/// Source: PHP 8, `sapi/fpm/fpm/fpm_process_ctl.c`, `fpm_pctl_perform_idle_server_maintenance`; `www.conf`:
/// `pm.min_spare_servers`, `pm.max_spare_servers`; `FPM_MAX_SPAWN_RATE`.
fn php_dynamic() -> Box<dyn ScalingPolicy> {
    let mut rate = 1;
    rule(move |sample| {
        let idle = sample.workers.saturating_sub(sample.busy);
        if idle < 1 {
            let growth = rate.min(1 - idle).max(1);
            rate = (rate * 2).min(32);
            sample.workers + growth
        } else {
            rate = 1;
            if idle > 3 {
                sample.workers - 1
            } else {
                sample.workers
            }
        }
    })
}

/// A worker for each request that finds none; one a second leaves that was idle for 10 s.
/// Source: PHP 8, `sapi/fpm/fpm/fpm_process_ctl.c`, `fpm_pctl_on_socket_accept`; `pm.process_idle_timeout`.
fn php_ondemand() -> Box<dyn ScalingPolicy> {
    let mut used = Highest::of_last(10);
    rule(move |sample| {
        let used = used.with(sample.peak_busy);
        let wanted = in_system(sample);
        if wanted > sample.workers {
            wanted
        } else if used < sample.workers {
            sample.workers - 1
        } else {
            sample.workers
        }
    })
}

/// One worker for five jobs that wait; at most twice as many or four more each 15 s; as few as were wanted at most in
/// the last 5 minutes.
/// Source: KEDA 2, scaler `redis` (`listLength` 5); Kubernetes, `HorizontalPodAutoscaler` `behavior`, its defaults.
fn keda() -> Box<dyn ScalingPolicy> {
    let mut wanted = Highest::of_last(20);
    rule(move |sample| {
        let desired = u32::try_from(sample.waiting.div_ceil(5)).unwrap_or(u32::MAX);
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
/// Source: Knative Serving, `config-autoscaler`: `container-concurrency-target-percentage` 70 %, `stable-window`,
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
            panic_size = panic_size.max(panic).max(sample.workers);
            return panic_size;
        }
        panic_size = 0;
        stable.max(sample.workers / 2)
    })
}

/// As many workers as finish all known work in 5 s, no more than tasks; fewer after three such answers.
/// Source: Dask distributed, `scheduler.py`, `Scheduler.adaptive_target`; `adaptive.target-duration`, `adaptive.wait-count`.
fn dask() -> Box<dyn ScalingPolicy> {
    let (mut mean, mut fewer) = (0.5, 0);
    rule(move |sample| {
        if sample.waiting > 0 && !sample.work.is_zero() {
            mean = sample.work.as_secs_f64() / sample.waiting as f64;
        }
        // A running task counts in full.
        let occupancy = sample.work.as_secs_f64() + f64::from(sample.busy) * mean;
        let target = ((occupancy / 5.0).ceil() as u32).min(in_system(sample));
        if target >= sample.workers {
            fewer = 0;
            return target;
        }
        fewer += 1;
        if fewer >= 3 {
            target.max(sample.busy)
        } else {
            sample.workers
        }
    })
}

/// While tasks wait for a second: one more, two, four …, no more than tasks. Executors leave after 60 s without one.
/// Source: Spark 3, `ExecutorAllocationManager.scala`; `spark.dynamicAllocation.schedulerBacklogTimeout`,
/// `executorIdleTimeout`.
fn spark() -> Box<dyn ScalingPolicy> {
    let (mut step, mut used) = (1, Highest::of_last(60));
    rule(move |sample| {
        let used = used.with(sample.peak_busy);
        if sample.waiting == 0 {
            step = 1;
            return used.min(sample.workers);
        }
        let grown = (sample.workers + step).min(in_system(sample)).max(sample.workers);
        step = if grown > sample.workers { step * 2 } else { 1 };
        grown
    })
}

//! Meter and policy together on a queue with virtual time: how a pool's size follows its load.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use pool::policy::limits::{Limits, decide};
use pool::policy::memory::Budget;
use pool::policy::meter::Meter;
use pool::policy::scaling::wish::{Sample, ScalingPolicy};
use pool::policy::scaling::{Settings, Threshold};
use pool::policy::share::Share;
use pool::time::Mono;

const TICK: Duration = Duration::from_millis(10);
const PERIOD: Duration = Duration::from_secs(5);
const WINDOW: Duration = Duration::from_secs(30);

/// A pool of workers on one queue. A worker is idle (`None`) or runs a job until an instant.
struct World {
    limits: Limits,
    policy: Box<dyn ScalingPolicy>,
    service: Duration,
    meter: Meter,
    workers: BTreeMap<u64, Option<(Mono, Mono)>>,
    forked: u64,
    queue: VecDeque<Mono>,
    now: Mono,
    /// Each change of size: when (in seconds) and to what.
    changes: Vec<(u64, u32)>,
}

impl World {
    fn new(min: u32, max: u32, threshold: f64, service: Duration) -> Self {
        let limits = Limits {
            min,
            max,
            paused: false,
            loadable: true,
            memory: Budget::UNLIMITED,
            share: Share::UNLIMITED,
            held: None,
        };
        let settings = Settings {
            threshold: Threshold::Share(threshold),
            ..Settings::default()
        };
        let mut world = World {
            limits,
            policy: settings.start(),
            service,
            meter: Meter::new(WINDOW),
            workers: BTreeMap::new(),
            forked: 0,
            queue: VecDeque::new(),
            now: Mono(0),
            changes: Vec::new(),
        };
        world.scale();
        world
    }

    fn size(&self) -> u32 {
        self.workers.len() as u32
    }

    fn seconds(&self) -> u64 {
        self.now.since(Mono(0)).as_secs()
    }

    /// Runs for a while with a job arriving at each multiple of `every`.
    fn run(&mut self, for_secs: u64, every: Option<Duration>) {
        let end = self.now + Duration::from_secs(for_secs);
        while self.now < end {
            if every.is_some_and(|every| self.now.0.is_multiple_of(every.as_nanos() as u64)) {
                self.queue.push_back(self.now);
            }
            self.work();
            self.now = self.now + TICK;
            if self.now.0.is_multiple_of(PERIOD.as_nanos() as u64) {
                self.work();
                self.scale();
            }
        }
    }

    fn work(&mut self) {
        for (worker, job) in &mut self.workers {
            if let Some((started, ends)) = job.filter(|(_, ends)| *ends <= self.now) {
                self.meter.job_ended(*worker, started, ends, self.now);
                *job = None;
            }
            if job.is_none() && self.queue.pop_front().is_some() {
                self.meter.job_started(*worker, self.now);
                *job = Some((self.now, self.now + self.service));
            }
        }
    }

    fn scale(&mut self) {
        let oldest = self.queue.front().map(|since| self.now.since(*since));
        let sample = Sample {
            workers: self.size(),
            busy: self.meter.busy(),
            peak_busy: self.meter.take_peak(),
            busy_average: self.meter.busy_average(self.now),
            waiting: self.queue.len() as u64,
            oldest_waiting: oldest,
            work: self.service * self.queue.len() as u32,
        };
        let wish = self.policy.period(&sample);
        let to = decide(&self.limits, &sample, Some(wish)).to;
        if to != self.size() {
            self.changes.push((self.seconds(), to));
        }
        while self.size() < to {
            self.forked += 1;
            self.workers.insert(self.forked, None);
            self.meter.worker_alive(self.forked, self.now);
        }
        while self.size() > to {
            let idle = self.workers.iter().find(|(_, job)| job.is_none());
            let Some(worker) = idle.map(|(worker, _)| *worker) else {
                break;
            };
            self.workers.remove(&worker);
            self.meter.worker_gone(worker, self.now);
        }
    }
}

fn half_second() -> Option<Duration> {
    Some(Duration::from_millis(500))
}

/// However many workers are allowed.
#[test]
fn two_jobs_a_second_of_one_second_settle_at_four_or_five_and_fall_back_to_two() {
    for max in [5, 24] {
        two_jobs_a_second_of_one_second(max);
    }
}

fn two_jobs_a_second_of_one_second(max: u32) {
    let mut world = World::new(2, max, 0.5, Duration::from_secs(1));
    world.run(60, half_second());
    let settled = world.size();
    assert!(settled == 4 || settled == 5, "{:?}", world.changes);
    world.run(600, half_second());
    let changes = &world.changes;
    assert!(
        changes.last().is_some_and(|(at, to)| *at < 60 && *to == settled),
        "it swings: {changes:?}"
    );
    assert!(world.queue.len() <= 1, "{} jobs wait", world.queue.len());
    world.run(60, None);
    assert_eq!(world.size(), 2, "{:?}", world.changes);
}

#[test]
fn a_load_below_the_threshold_changes_nothing() {
    let mut world = World::new(2, 5, 0.5, Duration::from_millis(400));
    world.run(300, half_second());
    assert_eq!(world.changes, [(0, 2)]);
}

#[test]
fn a_load_above_all_workers_stops_at_the_maximum() {
    let mut world = World::new(1, 3, 0.5, Duration::from_secs(30));
    world.run(300, half_second());
    assert_eq!(world.changes, [(0, 1), (5, 2), (10, 3)]);
}

#[test]
fn a_pool_with_no_minimum_sleeps_and_wakes() {
    let mut world = World::new(0, 5, 0.5, Duration::from_millis(100));
    world.run(20, None);
    assert_eq!(world.size(), 0);
    world.run(60, Some(Duration::from_secs(10)));
    assert_eq!(world.size(), 1, "rare jobs keep one worker: {:?}", world.changes);
    world.run(60, None);
    assert_eq!(world.size(), 0);
}

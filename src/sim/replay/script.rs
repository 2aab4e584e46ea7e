//! The script of a run: jobs come as the load says, take what it says, and are looked at.

use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;

use super::{Change, Run, Sample, Setup};
use crate::fleet::{Action, Event, Notice};
use crate::job::{Outcome, PoolName, QueueName};
use crate::sim::World;
use crate::sim::load::{Load, SPAN_MAX};
use crate::sim::process::{Call, Ends, Frame};
use crate::sim::script::{Scene, Script, Seen};
use crate::time::Mono;

/// The alarm at which the next jobs come.
const ARRIVAL: u32 = 0;
/// The alarm at which the pool is looked at.
const LOOK: u32 = 1;
/// Most samples that are kept: above it every other one goes.
const SAMPLES_MAX: usize = 4096;
/// Samples of a load's span.
const SAMPLES: u32 = 2000;
/// Shortest time between two samples.
const SAMPLE_EVERY_MIN: Duration = Duration::from_millis(50);
/// Longest time that a pool without a load takes to have its first workers.
const START_MAX: Duration = Duration::from_secs(10);
/// Who begins sooner did not wait, but was handed over.
const WAIT_MIN: Duration = Duration::from_millis(10);
/// Longest time that jobs take to their end, as a multiple of all of their work done by one worker, and of the longest load.
const PATIENCE: u32 = 2;

/// A load, and what became of it so far.
#[derive(Debug)]
pub(super) struct Replay {
    load: Arc<Load>,
    pool: PoolName,
    /// Where jobs wait that name no queue.
    queue: QueueName,
    /// The next job to come.
    next: usize,
    /// When it is given up, since its start.
    patience: Duration,
    /// When the load began; `None`: it has not.
    start: Option<Mono>,
    /// Until when there is account of worker time.
    until: Mono,
    workers: u32,
    busy: u32,
    /// The application is loaded, and so many workers are ready.
    is_loaded: bool,
    ready: u32,
    begun: u64,
    sample_every: Duration,
    /// Most jobs that waited since the last sample.
    waiting_most: u64,
    /// Busy time at the last sample.
    busy_ns_sampled: u128,
    run: Run,
}

impl Replay {
    pub fn new(setup: &Setup) -> Self {
        let pool = &setup.config.pools[&setup.pool];
        Replay {
            load: Arc::clone(&setup.load),
            pool: setup.pool.clone(),
            queue: pool.queues[0].clone(),
            next: 0,
            patience: (setup.load.span + setup.load.work() * PATIENCE + START_MAX).min(SPAN_MAX * PATIENCE),
            start: None,
            until: Mono(0),
            workers: pool.min_workers,
            busy: 0,
            is_loaded: false,
            ready: 0,
            begun: 0,
            sample_every: (setup.load.span / SAMPLES).max(SAMPLE_EVERY_MIN),
            waiting_most: 0,
            busy_ns_sampled: 0,
            run: Run {
                waits: vec![None; setup.load.arrivals.len()],
                ..Run::default()
            },
        }
    }

    pub fn into_run(mut self, now: Mono) -> Run {
        self.look(now);
        self.run.took = self.since_start(now);
        self.run
    }

    fn since_start(&self, now: Mono) -> Duration {
        self.start.map_or(Duration::ZERO, |start| now.since(start))
    }

    /// Adds up worker time to now. To be called before what it is made of changes.
    fn account(&mut self, now: Mono) {
        if self.start.is_some() {
            let passed = now.since(self.until).as_nanos();
            self.run.worker_ns += u128::from(self.workers) * passed;
            self.run.busy_ns += u128::from(self.busy) * passed;
        }
        self.until = now;
    }

    fn scaled(&mut self, now: Mono, to: u32) {
        self.account(now);
        if self.start.is_some() {
            self.run.changes.push(Change {
                at: self.since_start(now),
                from: self.workers,
                to,
            });
        }
        self.workers = to;
    }

    fn begins(&mut self, now: Mono, jobs: &[Frame]) {
        self.account(now);
        self.busy += 1;
        for frame in jobs {
            let job = place_of(frame);
            let waited = self.since_start(now).saturating_sub(self.load.arrivals[job].at);
            if self.run.waits[job].is_none() {
                if waited >= WAIT_MIN {
                    self.waiting_most = self.waiting_most.max(self.waiting());
                }
                self.begun += 1;
                self.run.waits[job] = Some(waited);
            }
        }
    }

    /// Jobs that have come and not begun.
    fn waiting(&self) -> u64 {
        self.next as u64 - self.begun
    }

    fn look(&mut self, now: Mono) {
        self.account(now);
        let at = self.since_start(now);
        let passed = self
            .run
            .samples
            .last()
            .map_or(Duration::ZERO, |last| at - last.at);
        let busy_ns = self.run.busy_ns - self.busy_ns_sampled;
        self.busy_ns_sampled = self.run.busy_ns;
        self.run.samples.push(Sample {
            at,
            workers: self.workers,
            busy: self.busy,
            waiting: self.waiting().max(std::mem::take(&mut self.waiting_most)),
            busy_average: busy_ns as f64 / passed.as_nanos().max(1) as f64,
        });
        if self.run.samples.len() > SAMPLES_MAX {
            self.thin_out();
        }
    }

    /// Keeps every other sample: a run that lasts takes no more memory.
    fn thin_out(&mut self) {
        let pairs = self.run.samples.chunks(2);
        let merged = pairs.map(|pair| {
            let last = pair[pair.len() - 1];
            let sum: f64 = pair.iter().map(|sample| sample.busy_average).sum();
            Sample {
                busy_average: sum / pair.len() as f64,
                waiting: pair.iter().map(|sample| sample.waiting).max().unwrap_or(0),
                ..last
            }
        });
        self.run.samples = merged.collect();
        self.sample_every *= 2;
    }
}

/// The place of a frame's job in the load: all that its payload says.
fn place_of(frame: &Frame) -> usize {
    let bytes = (*frame.payload)
        .try_into()
        .expect("the payload that this script wrote");
    usize::try_from(u64::from_le_bytes(bytes)).expect("the place of a job in memory")
}

impl Script for Replay {
    fn call(&mut self, jobs: &[Frame], _: &mut Rng) -> Call {
        let service = |frame| self.load.arrivals[place_of(frame)].service;
        let service: Duration = jobs.iter().map(service).sum();
        // The runtime interrupts what takes longer.
        match jobs[0].timeout.filter(|timeout| *timeout < service) {
            Some(timeout) => Call {
                takes: timeout,
                ends: Ends::Each(Outcome::TimedOut {
                    after: timeout,
                    detail: String::new(),
                }),
            },
            None => Call {
                takes: service,
                ends: Ends::Each(Outcome::Success(Vec::new())),
            },
        }
    }

    fn alarm(world: &mut World<Self>, which: u32) {
        match which {
            ARRIVAL => jobs_come(world),
            _ => {
                let is_first = world.script.run.samples.is_empty();
                world.script.look(world.now().mono);
                world.forget_ended_jobs();
                // Not in step with a load that is.
                let first = world.script.sample_every.mul_f64(0.618);
                world.alarm(
                    if is_first {
                        first
                    } else {
                        world.script.sample_every
                    },
                    LOOK,
                );
            }
        }
    }

    fn see(&mut self, scene: &Scene<'_>, what: &Seen<'_>) {
        let now = scene.now.mono;
        match what {
            Seen::Begins { jobs, .. } => self.begins(now, jobs),
            Seen::Ended { .. } => {
                self.account(now);
                self.busy -= 1;
            }
            Seen::Decided(Action::Notice(Notice::Scaled { pool, decision })) if *pool == self.pool => {
                self.scaled(now, decision.to);
            }
            Seen::Told(Event::TemplateReady { .. }) => self.is_loaded = true,
            Seen::Told(Event::WorkerReady { .. }) => self.ready += 1,
            Seen::Performs(Action::Fork { .. }) => self.run.forks += 1,
            _ => {}
        }
    }
}

/// Runs until the pool has its first workers, and then begins the load.
pub(super) fn warm_up(world: &mut World<Replay>) {
    let limit = world.now().mono + START_MAX;
    let is_up = |script: &Replay| script.is_loaded && script.ready >= script.workers;
    while world.now().mono < limit && !is_up(&world.script) {
        world.step();
    }
    let now = world.now().mono;
    let script = &mut world.script;
    script.account(now);
    (script.start, script.run.first_workers) = (Some(now), script.workers);
    world.alarm(Duration::ZERO, LOOK);
    jobs_come(world);
}

/// All jobs have ended, and the load is over; or it takes far too long.
pub(super) fn is_over(world: &World<Replay>) -> bool {
    let script = &world.script;
    let passed = script.since_start(world.now().mono);
    let all = script.load.arrivals.len() as u64;
    let is_done = world.supply().ledger().ended() == all && passed >= script.load.span;
    is_done || passed > script.patience
}

/// Enqueues the jobs whose time has come, and waits for the next ones.
fn jobs_come(world: &mut World<Replay>) {
    let load = Arc::clone(&world.script.load);
    let passed = world.script.since_start(world.now().mono);
    while let Some(arrival) = load.arrivals.get(world.script.next) {
        if arrival.at > passed {
            return world.alarm(arrival.at - passed, ARRIVAL);
        }
        let kind = &load.kinds[usize::from(arrival.kind)];
        let queue = kind.queue.as_ref().unwrap_or(&world.script.queue).clone();
        let payload = (world.script.next as u64).to_le_bytes();
        world.enqueue(queue, kind.task.clone(), payload.as_slice().into());
        world.script.next += 1;
    }
}

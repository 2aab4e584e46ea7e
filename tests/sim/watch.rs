//! The script of a test: jobs of several kinds come, and every action of the fleet is looked at.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use pool::config::{Config, Isolation};
use pool::fleet::{Action, Command, Event, Notice};
use pool::job::{JobError, Outcome, PoolName, Verdict};
use pool::sim::World;
use pool::sim::process::{Call, Ends, Frame, Process};
use pool::sim::script::{Scene, Script, Seen};
use pool::time::Mono;

use crate::faults::Mood;
use crate::permits;
use crate::settings::{POOLS, queue_name};
use crate::single_seed;

/// Steps shown when a run fails.
const TRACE_LEN: usize = 60;

/// The alarm at which jobs come.
pub const ARRIVAL: u32 = 0;
/// The alarm at which something goes wrong.
pub const FAULT: u32 = 1;

/// What a test knows of its world, to see whether an action is right.
#[derive(Debug)]
pub struct Watch {
    pub mood: Mood,
    /// Pool sizes and their maxima at the last check.
    pub sizes: BTreeMap<String, (u32, u32)>,
    pub permits: permits::Known,
    /// The generation of which it was said that no older worker gets another job.
    renewed: u64,
    /// The generation that was given up, since its workers did not start.
    given_up: Option<u64>,
    /// Until when each pool said that it forks no worker.
    no_fork_before: BTreeMap<PoolName, Mono>,
    /// `max_jobs` of each pool: the laxest that was in force.
    job_limits: BTreeMap<PoolName, u32>,
    /// Executions that were taken back from a worker while its present job runs.
    taken_back: BTreeMap<u64, BTreeSet<u64>>,
    /// Workers that said of a job that they hold that it has ended, which is not so.
    pub liars: BTreeSet<u64>,
    /// Pools that were paused when the actions of this turn began.
    paused: Vec<String>,
    stopping: bool,
    left: bool,
    small: Arc<[u8]>,
    /// More than fits into one packet.
    large: Arc<[u8]>,
    /// The last steps, in a run of one seed.
    trace: Option<VecDeque<String>>,
}

impl Watch {
    pub fn new(mood: Mood) -> Self {
        Watch {
            mood,
            sizes: BTreeMap::new(),
            permits: permits::Known::default(),
            renewed: 0,
            given_up: None,
            no_fork_before: BTreeMap::new(),
            job_limits: BTreeMap::new(),
            taken_back: BTreeMap::new(),
            liars: BTreeSet::new(),
            paused: Vec::new(),
            stopping: false,
            left: false,
            small: [].into(),
            large: vec![0; 70_000].into(),
            trace: single_seed().map(|_| VecDeque::new()),
        }
    }

    /// What a job of this task carries.
    fn payload(&self, task: &str) -> Arc<[u8]> {
        let payload = if task == "large" { &self.large } else { &self.small };
        payload.clone()
    }

    fn note(&mut self, scene: &Scene<'_>, what: impl FnOnce() -> String) {
        let Some(trace) = &mut self.trace else { return };
        if trace.len() == TRACE_LEN {
            trace.pop_front();
        }
        let at = scene.now.mono.0 as f64 / 1e9;
        trace.push_back(format!("{at:.6} {}", what()));
    }

    pub fn show_trace(&self) {
        for line in self.trace.iter().flatten() {
            eprintln!("{line}");
        }
    }

    fn note_job_limits(&mut self, config: &Config) {
        let fresh = config.app.isolation == Isolation::Fresh;
        for (name, pool) in &config.pools {
            let limit = if fresh {
                1
            } else {
                pool.max_jobs.unwrap_or(u32::MAX)
            };
            let known = self.job_limits.entry(name.clone()).or_insert(limit);
            *known = limit.max(*known);
        }
    }

    fn starts(&mut self, scene: &Scene<'_>, config: &Config) {
        self.note(scene, || "a supervisor starts".into());
        self.sizes.clear();
        self.permits = permits::Known::default();
        self.permits.configure(config);
        self.renewed = 0;
        self.given_up = None;
        self.no_fork_before.clear();
        self.taken_back.clear();
        self.liars.clear();
        self.job_limits.clear();
        self.note_job_limits(config);
    }

    fn reloads(&mut self, scene: &Scene<'_>, config: &Config) {
        self.note(scene, || format!("reload: pools {:?}", config.pools.keys()));
        self.note_job_limits(config);
        self.permits.configure(config);
        // A pool that comes anew has said nothing yet.
        let known = scene.fleet.pool_names();
        self.no_fork_before.retain(|pool, _| known.contains(pool));
    }

    fn asked(&mut self, scene: &Scene<'_>, command: &Command) {
        self.note(scene, || format!("{command:?}"));
        // What a pause took back may go where it was when it ends.
        self.taken_back.clear();
        self.stopping |= matches!(command, Command::Drain { .. } | Command::Stop);
    }

    /// A decision may be performed a little later; what it says about time counts from now.
    fn decided(&mut self, scene: &Scene<'_>, action: &Action) {
        match action {
            Action::Notice(Notice::ForkFailed { pool, retry_in, .. }) => {
                let until = scene.now.mono + *retry_in;
                self.no_fork_before.insert(pool.clone(), until);
            }
            Action::Fork { worker, pool, .. } => {
                let until = self.no_fork_before.get(pool);
                let early = until.filter(|until| scene.now.mono < **until);
                assert!(
                    early.is_none(),
                    "pool {pool} said that it waits, and forks worker {worker} at once"
                );
            }
            _ => {}
        }
    }

    fn turn(&mut self, scene: &Scene<'_>, actions: &[Action]) {
        let sends = |action: &Action| matches!(action, Action::Send { .. } | Action::SendBatch { .. });
        self.paused.clear();
        if actions.iter().any(sends) {
            let picture = scene.fleet.snapshot(scene.now);
            let paused = picture.pools.into_iter().filter(|(_, pool)| pool.paused);
            self.paused.extend(paused.map(|(name, _)| name));
        }
    }

    fn performs(&mut self, scene: &Scene<'_>, action: &Action) {
        if !matches!(action, Action::Notice(_)) {
            self.note(scene, || format!("    {}", describe_action(action)));
        }
        match action {
            Action::Send { worker, execution } => self.sends(scene, *worker, *execution),
            Action::SendBatch { worker, executions } => {
                for execution in executions {
                    self.sends(scene, *worker, *execution);
                }
            }
            Action::TakeBack { worker } => {
                // Behind a job that has ended meanwhile, they were on a worker that is free.
                if let Some(link) = scene.workers.get(worker)
                    && let Some(running) = &link.running
                {
                    let in_call: Vec<u64> = running.frames().map(|frame| frame.execution).collect();
                    let unread = link.holds().map(|frame| frame.execution);
                    let unread = unread.filter(|execution| !in_call.contains(execution));
                    self.taken_back.entry(*worker).or_default().extend(unread);
                }
            }
            // Only an idle worker is told to leave: one with a job would lose it or hold the pool up. Nobody can tell that
            // one has lied of the last job that it holds: those before it count as taken by somebody else.
            Action::Retire { worker } => {
                let link = scene.workers.get(worker);
                let link = link.filter(|link| link.process != Process::Dead);
                let busy = link.is_some_and(|link| link.holds().next().is_some());
                let is_believed = self.liars.contains(worker);
                assert!(!busy || is_believed, "worker {worker} is busy and told to leave");
            }
            Action::Notice(Notice::Renewed { generation }) => self.renewed = *generation,
            Action::Notice(Notice::GoneBack { from, .. }) => self.given_up = Some(*from),
            // Its code may be tried again, as when the older one's template dies.
            Action::Notice(Notice::AppLoaded { .. }) => self.given_up = None,
            Action::Leave => {
                assert!(self.stopping && !self.left, "it leaves once, and when told to");
                self.left = true;
            }
            _ => {}
        }
    }

    fn sends(&self, scene: &Scene<'_>, id: u64, execution: u64) {
        // Of a worker that was reaped since it was decided, nothing is left to act upon.
        let Some(worker) = scene.workers.get(&id) else {
            return;
        };
        if scene.fleet.execution(id, execution).is_none() {
            return;
        }
        assert!(!self.stopping, "job {execution} is sent although it stops");
        assert!(
            !worker.closed,
            "job {execution} is sent to worker {id}, which was told to leave"
        );
        assert!(
            worker.generation >= self.renewed,
            "job {execution} is sent to worker {id} of generation {}, and {} has taken over",
            worker.generation,
            self.renewed
        );
        assert!(
            self.given_up != Some(worker.generation),
            "job {execution} is sent to worker {id} of generation {}, which was given up",
            worker.generation
        );
        let taken_back = self.taken_back.get(&id);
        assert!(
            !taken_back.is_some_and(|taken| taken.contains(&execution)),
            "job {execution} goes back to worker {id}, which is as busy as before"
        );
        let pool = worker.pool.as_str();
        assert!(
            !self.paused.iter().any(|paused| paused == pool),
            "job {execution} is sent, pool {pool} is paused"
        );
    }

    /// It begins no more jobs than it may.
    fn begins(&self, scene: &Scene<'_>, id: u64) {
        let Some(worker) = scene.workers.get(&id) else {
            return;
        };
        let limit = self.job_limits.get(&worker.pool).copied();
        let limit = limit.unwrap_or(u32::MAX);
        assert!(
            worker.begun <= limit,
            "worker {id} begins job {} of {limit}",
            worker.begun
        );
    }
}

impl Script for Watch {
    fn call(&mut self, jobs: &[Frame], rng: &mut Rng) -> Call {
        let task = &*jobs[0].task;
        let mut between = |from, to| Duration::from_micros(rng.u64(from..to));
        let takes = match task {
            "noop" | "large" => between(5, 60),
            "short" | "fails" | "again" | "row" | "mixed" => between(500, 4_000),
            "medium" | "poison" => between(50_000, 500_000),
            "long" => between(1_000_000, 4_000_000),
            // The runtime interrupts the one and can't interrupt the other.
            _ => Duration::from_secs(3600),
        };
        let limit = jobs[0].timeout.filter(|_| task != "stubborn");
        let takes = takes.min(limit.unwrap_or(takes));
        let failure = Outcome::Failure {
            error: JobError::new("ValueError", "no such user"),
            retryable: true,
        };
        let ends = match (jobs.iter().find_map(spoils), task) {
            (Some(Spoils::Worker), _) | (None, "poison") => Ends::Death,
            (Some(Spoils::Call), _) => Ends::Whole(failure),
            (None, "fails") => Ends::Each(failure),
            (None, "again") => Ends::Each(Outcome::Retry {
                after: None,
                reason: "not yet".into(),
            }),
            (None, "endless") => Ends::Each(Outcome::TimedOut {
                after: jobs[0].timeout.unwrap_or_default(),
                detail: String::new(),
            }),
            (None, _) => Ends::Each(Outcome::Success(Vec::new())),
        };
        Call { takes, ends }
    }

    fn alarm(world: &mut World<Self>, which: u32) {
        match which {
            ARRIVAL => jobs_arrive(world),
            _ => something_goes_wrong(world),
        }
    }

    fn see(&mut self, scene: &Scene<'_>, what: &Seen<'_>) {
        match what {
            Seen::Start(config) => self.starts(scene, config),
            Seen::Reload(config) => self.reloads(scene, config),
            Seen::Asked(command) => self.asked(scene, command),
            Seen::Told(event) => self.note(scene, || describe(event)),
            Seen::Decided(action) => self.decided(scene, action),
            Seen::Turn(actions) => self.turn(scene, actions),
            Seen::Performs(action) => self.performs(scene, action),
            Seen::Begins { worker, .. } => self.begins(scene, *worker),
            Seen::Ended { worker } => _ = self.taken_back.remove(worker),
        }
    }
}

/// What a rotten job does to the batch that it is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spoils {
    /// The call fails.
    Call,
    /// The worker dies.
    Worker,
}

fn spoils(frame: &Frame) -> Option<Spoils> {
    let number = frame.id.as_str().trim_start_matches("job-").parse::<u32>();
    let number = number.expect("the broker numbers its jobs");
    match &*frame.task {
        "mixed" if number.is_multiple_of(13) => Some(Spoils::Worker),
        "mixed" if number.is_multiple_of(7) => Some(Spoils::Call),
        _ => None,
    }
}

fn jobs_arrive(world: &mut World<Watch>) {
    let (count, tasks) = (world.rng.usize(1..20), world.script.mood.tasks());
    let tasks: Vec<&str> = (0..count)
        .filter_map(|_| world.rng.choice(tasks).copied())
        .collect();
    let mut queues = (0..count).map(|_| queue_name(POOLS[world.rng.usize(..POOLS.len())]));
    let queues: Vec<_> = queues.by_ref().collect();
    let carried = |task: &&str| ((*task).into(), world.script.payload(task));
    if count.is_multiple_of(6) {
        let jobs = tasks.iter().map(carried).collect();
        world.enqueue_group(&queues[0], jobs, "noop");
    } else {
        for (task, queue) in tasks.into_iter().zip(queues) {
            let payload = world.script.payload(task);
            world.enqueue(queue, task.into(), payload);
        }
    }
    let pause = world.between(1_000, 4_000_000);
    world.alarm(pause, ARRIVAL);
}

fn something_goes_wrong(world: &mut World<Watch>) {
    let faults = world.script.mood.faults();
    if let Some(fault) = world.rng.choice(faults).copied() {
        fault(world);
    }
    let pause = world.between(1_000, 1_000_000);
    world.alarm(pause, FAULT);
}

fn describe(event: &Event) -> String {
    match event {
        Event::Delivered { pool, jobs } => {
            let ids: Vec<String> = jobs.iter().map(|job| job.job.id.to_string()).collect();
            format!("Delivered for {pool}: {}", ids.join(" "))
        }
        Event::Period { pool, backlog, .. } => format!("Period of {pool}: {backlog:?}"),
        event => format!("{event:?}"),
    }
}

fn describe_action(action: &Action) -> String {
    match action {
        Action::Settle(settlement) => {
            let (Verdict::GiveBack | Verdict::Again { .. }) = &settlement.verdict else {
                return format!("Settle {} {:?}", settlement.of, settlement.verdict);
            };
            format!("Requeue {}", settlement.of)
        }
        action => format!("{action:?}"),
    }
}

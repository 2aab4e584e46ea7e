//! The world: virtual time, what is on its way, and what the tests do with it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use fastrand::Rng;
use pool::config::Config;
use pool::fleet::{Action, Command, Event, Fleet};
use pool::job::{Delivery, PoolName};
use pool::time::{Mono, Now, Unix};

use crate::checks;
use crate::faults::Mood;
use crate::ledger::{Ledger, Place};
use crate::process::{Process, Template, Worker};
use crate::settings::{self, POOLS, queue_name};
use crate::{SEED_VARIABLE, single_seed};

/// Steps shown when a run fails.
const TRACE_LEN: usize = 60;
/// Virtual time in which a calm world finishes everything.
const PATIENCE: Duration = Duration::from_secs(1800);
/// Virtual time in which a stop ends: the longest `stop_timeout`, or for a patient drain the longest job.
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// Virtual time in which an idle pool shrinks to its minimum: the widest window and a period a worker.
const REST: Duration = Duration::from_secs(80);

/// Something that happens at an instant.
#[derive(Debug)]
pub enum Happening {
    Arrival,
    Fault,
    Period(PoolName),
    Delivered(PoolName, Vec<Delivery>),
    TemplateLoads(u64),
    TemplateActs(u64),
    HearTemplate(u64),
    WorkerActs(u64),
    JobEnds {
        worker: u64,
        execution: u64,
    },
    HearWorker(u64),
    Reap(u64),
    /// A scheduled job is due.
    Due,
}

pub struct World {
    seed: u64,
    pub mood: Mood,
    pub rng: Rng,
    pub now: Now,
    pub config: Config,
    pub fleet: Fleet,
    pub ledger: Ledger,
    pub templates: BTreeMap<u64, Template>,
    pub workers: BTreeMap<u64, Worker>,
    /// Pool sizes and their maxima at the last check.
    pub sizes: BTreeMap<String, (u32, u32)>,
    /// The generation of which it was said that no older worker gets another job.
    pub renewed: u64,
    pub app_broken: bool,
    /// The template can't fork, as a host without memory has it.
    pub forks_fail: bool,
    /// Until when each pool said that it forks no worker.
    pub no_fork_before: BTreeMap<PoolName, Mono>,
    pub broker_away: bool,
    /// `max_jobs` of each pool: the laxest that was in force.
    pub job_limits: BTreeMap<PoolName, u32>,
    pub pending: BTreeMap<(Mono, u64), Happening>,
    scheduled: u64,
    pub periods: BTreeSet<PoolName>,
    /// Bytes that a pool may use, in some worlds.
    pub budget: Option<u64>,
    pub stopping: bool,
    pub left: bool,
    ticks_in_place: u32,
    /// Decided and not performed yet.
    pub actions: Vec<Action>,
    /// What performing actions brought about.
    pub events: VecDeque<Event>,
    /// The last steps, in a run of one seed.
    trace: Option<VecDeque<String>>,
}

impl World {
    pub fn new(seed: u64, mood: Mood) -> Self {
        let mut rng = Rng::with_seed(seed);
        let config = settings::draw(&mut rng, POOLS.len());
        let now = Now {
            mono: Mono(3_600_000_000_000),
            unix: Unix(1_700_000_000_000),
        };
        let budget = (rng.u8(..4) == 0).then(|| rng.u64(50..500) << 20);
        let mut world = World {
            seed,
            mood,
            fleet: Fleet::new(&config, rng.u64(..), now),
            rng,
            now,
            config,
            ledger: Ledger::new(),
            templates: BTreeMap::new(),
            workers: BTreeMap::new(),
            sizes: BTreeMap::new(),
            renewed: 0,
            app_broken: false,
            forks_fail: false,
            no_fork_before: BTreeMap::new(),
            broker_away: false,
            job_limits: BTreeMap::new(),
            pending: BTreeMap::new(),
            scheduled: 0,
            periods: BTreeSet::new(),
            budget,
            stopping: false,
            left: false,
            ticks_in_place: 0,
            actions: Vec::new(),
            events: VecDeque::new(),
            trace: single_seed().map(|_| VecDeque::new()),
        };
        world.soon(Happening::Arrival);
        world.soon(Happening::Fault);
        world.boot();
        world
    }

    // ---- what tests do ----

    pub fn run_for(&mut self, time: Duration) {
        let end = self.now.mono + time;
        while self.now.mono < end {
            self.step();
        }
    }

    /// Nothing goes wrong any more, no jobs come, and everything works again.
    pub fn calm_down(&mut self) {
        (self.app_broken, self.forks_fail, self.broker_away) = (false, false, false);
        for template in self.templates.keys().copied().collect::<Vec<_>>() {
            self.template_thaws(template);
        }
        self.stop_faults();
    }

    /// Nothing more goes wrong and no jobs come; what hangs goes on hanging.
    pub fn stop_faults(&mut self) {
        self.mood = Mood::Calm;
        self.stop_arrivals();
        self.command(Command::Resume { pool: None });
        let config = settings::draw(&mut self.rng, POOLS.len());
        let config = Config {
            app: self.config.app.clone(),
            ..config
        };
        self.reload(config, false);
    }

    /// Every template hangs from now on.
    pub fn freeze_templates(&mut self) {
        for template in self.templates.keys().copied().collect::<Vec<_>>() {
            self.template_freezes(template);
        }
    }

    fn stop_arrivals(&mut self) {
        self.pending
            .retain(|_, happening| !matches!(happening, Happening::Arrival | Happening::Fault));
    }

    pub fn finish_all_jobs(&mut self) {
        self.stop_arrivals();
        let limit = self.now.mono + PATIENCE;
        while self.ledger.open().next().is_some() {
            if self.now.mono >= limit {
                let open: Vec<_> = self.ledger.open().take(10).collect();
                panic!(
                    "these jobs do not end: {open:#?}\n{:#?}",
                    self.fleet.snapshot(self.now)
                );
            }
            self.step();
        }
        assert_eq!(self.fleet.in_hand(), 0, "all jobs have ended");
    }

    /// Nothing happens for as long as the widest window and all steps down take.
    pub fn come_to_rest(&mut self) {
        self.budget = None;
        self.run_for(REST);
        checks::pools_are_at_rest(self);
    }

    /// Stops the supervisor in one of the ways that there are, and sees what it leaves behind.
    pub fn stop(&mut self) {
        let patient = self.rng.bool();
        match self.rng.u8(..4) {
            0 => self.command(Command::Stop),
            1 => {
                self.command(Command::Drain { patient });
                let moment = Duration::from_millis(self.pick(2_000));
                self.run_until_left(moment);
                self.command(Command::Drain { patient });
            }
            _ => self.command(Command::Drain { patient }),
        }
        self.run_until_left(STOP_LIMIT);
        assert!(
            self.left,
            "it does not leave: {:#?}",
            self.fleet.snapshot(self.now)
        );
        assert_eq!(
            self.ledger.count(Place::Running),
            0,
            "jobs that were not given back"
        );
        assert!(self.templates.is_empty(), "{:?}", self.templates);
        assert!(
            self.workers
                .values()
                .all(|worker| worker.process == Process::Dead)
        );
    }

    fn run_until_left(&mut self, time: Duration) {
        let end = self.now.mono + time;
        while !(self.left && self.claims_on_the_way() == 0) && self.now.mono < end {
            self.step();
        }
    }

    // ---- time ----

    pub fn pick(&mut self, below: u64) -> u64 {
        self.rng.u64(..below)
    }

    /// A time between so many microseconds.
    pub fn between(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_micros(self.rng.u64(from..to))
    }

    pub fn after(&mut self, time: Duration, happening: Happening) {
        self.scheduled += 1;
        let at = self.now.mono + time;
        self.pending.insert((at, self.scheduled), happening);
    }

    /// As fast as a message between two processes takes, mostly.
    pub fn soon(&mut self, happening: Happening) {
        let slow = self.rng.u8(..50) == 0;
        let time = self.between(1, if slow { 20_000 } else { 200 });
        self.after(time, happening);
    }

    /// One of the rare things that go wrong by themselves.
    pub fn unlucky(&mut self) -> bool {
        self.mood == Mood::Wild && self.rng.u8(..40) == 0
    }

    /// One turn of the supervisor's loop, as the real one: some things that happened, what is due, then the
    /// actions that all of that led to.
    fn step(&mut self) {
        let deadline = self.fleet.next_deadline().filter(|_| !self.left);
        let next = self.pending.first_key_value().map(|((at, _), _)| *at);
        let idle = self.now.mono + Duration::from_secs(1);
        self.advance(deadline.into_iter().chain(next).min().unwrap_or(idle));
        let busy = self.rng.u8(..4) == 0;
        let most = if busy { self.rng.usize(1..20) } else { 1 };
        for _ in 0..most {
            let Some(entry) = self
                .pending
                .first_entry()
                .filter(|entry| entry.key().0 <= self.now.mono)
            else {
                break;
            };
            let happening = entry.remove();
            self.happen(happening);
            if let Some(((at, _), _)) = self.pending.first_key_value().filter(|_| busy) {
                // The loop was busy: more has happened when it comes to look.
                self.advance((*at).min(self.now.mono + Duration::from_millis(1)));
            }
        }
        if self.fleet.next_deadline().is_some_and(|at| at <= self.now.mono) && !self.left {
            self.ticks_in_place += 1;
            assert!(
                self.ticks_in_place < 20,
                "the loop spins: {:?} is due for ever",
                self.fleet.next_deadline()
            );
            self.tell(Event::Tick);
        }
        self.turn();
        if self.fleet.never_loaded().is_some() {
            self.supervisor_dies();
        }
        self.claim();
        self.keep_periods();
        checks::check(self);
    }

    fn advance(&mut self, to: Mono) {
        if to > self.now.mono {
            self.ticks_in_place = 0;
            let since_boot_ms = to.0 / 1_000_000;
            self.now = Now {
                mono: to,
                unix: Unix(1_700_000_000_000 + since_boot_ms as i64),
            };
        }
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Arrival => self.jobs_arrive(),
            Happening::Fault => self.something_goes_wrong(),
            Happening::Period(pool) => self.period(pool),
            Happening::Delivered(pool, jobs) => self.tell(Event::Delivered { pool, jobs }),
            Happening::TemplateLoads(id) => self.template_loads(id),
            Happening::TemplateActs(id) => self.template_acts(id),
            Happening::HearTemplate(id) => self.hear_template(id),
            Happening::WorkerActs(id) => self.worker_acts(id),
            Happening::JobEnds { worker, execution } => self.job_ends(worker, execution),
            Happening::HearWorker(id) => self.hear_worker(id),
            Happening::Reap(id) => self.reap(id),
            Happening::Due => {}
        }
    }

    fn jobs_arrive(&mut self) {
        let count = self.rng.usize(1..20);
        let tasks: Vec<&str> = (0..count)
            .filter_map(|_| self.rng.choice(self.mood.tasks()).copied())
            .collect();
        let mut queue = || queue_name(POOLS[self.rng.usize(..POOLS.len())]);
        if count.is_multiple_of(6) {
            self.ledger.enqueue_group(&queue(), &tasks, self.now.unix);
        } else {
            for task in tasks {
                self.ledger.enqueue(queue(), task, self.now.unix);
            }
        }
        let pause = self.between(1_000, 4_000_000);
        self.after(pause, Happening::Arrival);
    }

    fn something_goes_wrong(&mut self) {
        if let Some(fault) = self.rng.choice(self.mood.faults()).copied() {
            fault(self);
        }
        let pause = self.between(1_000, 1_000_000);
        self.after(pause, Happening::Fault);
    }

    pub fn note(&mut self, what: impl FnOnce() -> String) {
        let Some(trace) = &mut self.trace else { return };
        if trace.len() == TRACE_LEN {
            trace.pop_front();
        }
        let at = self.now.mono.0 as f64 / 1e9;
        trace.push_back(format!("{at:.6} {}", what()));
    }
}

/// A run that fails says how to repeat it.
impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for line in self.trace.iter().flatten() {
                eprintln!("{line}");
            }
            let (variable, seed) = (SEED_VARIABLE, self.seed);
            eprintln!("repeat, with its last steps shown: {variable}={seed} cargo test --test sim");
        }
    }
}

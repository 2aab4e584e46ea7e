//! A world under test: what tests do with it, and what must hold after each of its steps.

use std::ops::{Deref, DerefMut};
use std::time::Duration;

use fastrand::Rng;
use pool::config::Config;
use pool::fleet::Command;
use pool::sim::broker::Place;
use pool::sim::process::Process;
use pool::sim::{Conditions, World};

use crate::SEED_VARIABLE;
use crate::checks;
use crate::faults::Mood;
use crate::settings::{self, POOLS};
use crate::watch::{ARRIVAL, FAULT, Watch};

/// Virtual time in which a calm world finishes everything.
const PATIENCE: Duration = Duration::from_secs(1800);
/// Virtual time in which a stop ends: the longest `stop_timeout`, or for a patient drain the longest job.
const STOP_LIMIT: Duration = Duration::from_secs(30);
/// Virtual time in which an idle pool shrinks to its minimum: the widest window and a period a worker.
const REST: Duration = Duration::from_secs(80);
/// Longest time in which workers that leave before their successors are all gone at once.
const MOMENT: Duration = Duration::from_secs(30);
/// One in so many things goes wrong by itself in a wild world.
const MISHAPS: u8 = 40;

/// A world, and the seed that it grew from.
pub struct Trial {
    seed: u64,
    world: World<Watch>,
}

impl Deref for Trial {
    type Target = World<Watch>;

    fn deref(&self) -> &World<Watch> {
        &self.world
    }
}

impl DerefMut for Trial {
    fn deref_mut(&mut self) -> &mut World<Watch> {
        &mut self.world
    }
}

impl Trial {
    pub fn new(seed: u64, mood: Mood) -> Self {
        let mut rng = Rng::with_seed(seed);
        let config = settings::draw(&mut rng, POOLS.len());
        let conditions = Conditions {
            mishaps: (mood == Mood::Wild).then_some(MISHAPS),
            budget: (rng.u8(..4) == 0).then(|| rng.u64(50..500) << 20),
            ..Conditions::default()
        };
        let mut world = World::new(rng.u64(..), config, conditions, Watch::new(mood));
        world.alarm(Duration::from_micros(100), ARRIVAL);
        world.alarm(Duration::from_micros(100), FAULT);
        Trial { seed, world }
    }

    fn step(&mut self) {
        self.world.step();
        checks::check(&mut self.world);
    }

    pub fn pick(&mut self, below: u64) -> u64 {
        self.rng.u64(..below)
    }

    pub fn run_for(&mut self, time: Duration) {
        let end = self.now().mono + time;
        while self.now().mono < end {
            self.step();
        }
    }

    /// Nothing goes wrong any more, no jobs come, and everything works again.
    pub fn calm_down(&mut self) {
        self.conditions.app_broken = false;
        self.conditions.forks_fail = false;
        self.set_broker_away(false);
        for template in self.templates().keys().copied().collect::<Vec<_>>() {
            self.thaw_template(template);
        }
        self.stop_faults();
    }

    /// Nothing more goes wrong and no jobs come; what hangs goes on hanging.
    pub fn stop_faults(&mut self) {
        self.script.mood = Mood::Calm;
        self.conditions.mishaps = None;
        self.forget_alarms();
        self.command(Command::Resume { pool: None });
        let config = settings::draw(&mut self.world.rng, POOLS.len());
        let config = Config {
            app: self.config().app.clone(),
            ..config
        };
        self.reload(config, false);
    }

    /// Every template hangs from now on.
    pub fn freeze_templates(&mut self) {
        for template in self.templates().keys().copied().collect::<Vec<_>>() {
            self.freeze_template(template);
        }
    }

    pub fn finish_all_jobs(&mut self) {
        self.forget_alarms();
        let limit = self.now().mono + PATIENCE;
        while self.supply().ledger().open().next().is_some() {
            if self.now().mono >= limit {
                let open: Vec<_> = self.supply().ledger().open().take(10).collect();
                panic!(
                    "these jobs do not end: {open:#?}\n{:#?}",
                    self.fleet().snapshot(self.now())
                );
            }
            self.step();
        }
        assert_eq!(self.fleet().in_hand(), 0, "all jobs have ended");
    }

    /// Nothing happens for as long as the widest window and all steps down take.
    pub fn come_to_rest(&mut self) {
        self.conditions.budget = None;
        self.run_for(REST);
        let limit = self.now().mono + MOMENT;
        while checks::one_leaves_before_its_successor(self) {
            assert!(self.now().mono < limit, "it does not leave");
            self.step();
        }
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
            self.has_left(),
            "it does not leave: {:#?}",
            self.fleet().snapshot(self.now())
        );
        let running = self.supply().ledger().count(Place::Running);
        assert_eq!(running, 0, "jobs that were not given back");
        assert!(self.supply().is_quiet(), "outcomes that were not handed over");
        assert!(self.templates().is_empty(), "{:?}", self.templates());
        let mut workers = self.workers().values();
        assert!(workers.all(|worker| worker.process == Process::Dead));
    }

    fn run_until_left(&mut self, time: Duration) {
        let end = self.now().mono + time;
        while !(self.has_left() && self.supply().is_quiet()) && self.now().mono < end {
            self.step();
        }
    }
}

/// A run that fails says how to repeat it.
impl Drop for Trial {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.script.show_trace();
            let (variable, seed) = (SEED_VARIABLE, self.seed);
            eprintln!("repeat, with its last steps shown: {variable}={seed} cargo test --test sim");
        }
    }
}

//! A supervisor simulated from a seed: the real fleet, traffic and policies among pretended processes, over a pretended broker,
//! in virtual time.
//!
//! It is a discrete-event simulation. It reads no clock and does no I/O, so the same seed, settings and script give the same
//! run. A [`Script`] says what jobs do, and looks on.
//!
//! - [`script`]: the interface to whoever simulates. `time`: what is on its way, and one turn after another.
//! - [`process`]: templates and workers. `act`: what they do by themselves, and how they die.
//! - [`broker`]: where the jobs are. [`source`]: how they come to the supervisor.
//! - [`load`]: what comes. [`replay`]: a pool under a load, in numbers.
//! - `shell`: the supervisor's loop around the fleet. `pace`: how long things take. `processors`: what calls share.

mod act;
pub mod broker;
pub mod load;
mod numbered;
mod pace;
pub mod process;
mod processors;
pub mod replay;
pub mod script;
mod shell;
pub mod source;
mod time;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;

use fastrand::Rng;

use crate::config::Config;
use crate::fleet::{Action, Event, Fleet};
use crate::job::PoolName;
use crate::policy::scaling::wish::ScalingPolicy;
use crate::supervisor::traffic::Traffic;
use crate::time::{Mono, Now, Unix};

pub use pace::Pace;
use process::{Template, Worker};
use processors::Processors;
use script::{Scene, Script, Seen};
use source::Supply;
use time::EventQueue;

/// What goes wrong of itself, and what the processes weigh.
#[derive(Clone, Debug)]
pub struct Conditions {
    /// One in so many loads, forks and long messages goes wrong; `None`: all go well.
    pub mishaps: Option<u8>,
    /// The application does not load.
    pub app_broken: bool,
    /// Templates can't fork, as on a host without memory.
    pub forks_fail: bool,
    /// What a worker has to itself, in bytes; drawn anew at each look.
    pub private_memory: Range<u64>,
    /// What it shares besides, in bytes.
    pub shared_memory: u64,
    /// Most bytes of each pool, and half of what all of them may use; `None`: no limit.
    pub budget: Option<u64>,
    /// The broker wants to know when jobs begin: when every other one does.
    pub tells_begin: bool,
    /// How long things take.
    pub pace: Pace,
    /// The time of day at which the supervisor starts.
    pub starts: Unix,
    /// Calls compute, and share so many processors; `None`: they wait, and each goes on by itself.
    pub cores: Option<u32>,
}

/// The host started an hour before the supervisor.
const STARTED: Mono = Mono(3_600_000_000_000);

impl Default for Conditions {
    fn default() -> Self {
        Conditions {
            mishaps: None,
            app_broken: false,
            forks_fail: false,
            private_memory: 5 << 20..40 << 20,
            shared_memory: 10 << 20,
            budget: None,
            tells_begin: true,
            pace: Pace::default(),
            starts: Unix(1_700_003_600_000),
            cores: None,
        }
    }
}

/// One simulated host, with its one supervisor.
#[derive(Debug)]
pub struct World<S> {
    /// Who says what jobs do, and looks on.
    pub script: S,
    /// Drawn from whenever something is not certain.
    pub rng: Rng,
    /// What goes wrong.
    pub conditions: Conditions,
    now: Now,
    pending: EventQueue,
    config: Config,
    fleet: Fleet,
    traffic: Traffic,
    supply: Supply,
    templates: BTreeMap<u64, Template>,
    workers: BTreeMap<u64, Worker>,
    processors: Option<Processors>,
    /// Pools whose next scaling period is pending.
    periods: BTreeSet<PoolName>,
    left: bool,
    /// Something was told to the supervisor since its last turn.
    told: bool,
    /// When something is due for the supervisor, as of its last turn.
    deadline: Option<Mono>,
    /// Decided and not performed yet.
    actions: Vec<Action>,
    /// What performing actions brought about.
    events: VecDeque<Event>,
}

impl<S: Script> World<S> {
    /// A world whose supervisor starts now, on a host that started an hour ago.
    pub fn new(seed: u64, config: Config, conditions: Conditions, script: S) -> Self {
        let mut rng = Rng::with_seed(seed);
        let now = Now {
            mono: STARTED,
            unix: conditions.starts,
        };
        let processors = conditions.cores.map(|cores| Processors::new(cores, now.mono));
        let mut supply = Supply::new(rng.u64(..), conditions.tells_begin);
        let traffic = shell::traffic(supply.connect());
        let mut world = World {
            fleet: Fleet::new(&config, rng.u64(..), now),
            script,
            rng,
            conditions,
            now,
            pending: EventQueue::default(),
            config,
            traffic,
            supply,
            templates: BTreeMap::new(),
            workers: BTreeMap::new(),
            processors,
            periods: BTreeSet::new(),
            left: false,
            told: true,
            deadline: None,
            actions: Vec::new(),
            events: VecDeque::new(),
        };
        world.start();
        world
    }

    /// The instant that it is.
    pub fn now(&self) -> Now {
        self.now
    }

    /// The settings in force.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// What the supervisor decides with.
    pub fn fleet(&self) -> &Fleet {
        &self.fleet
    }

    /// What passes between it and the broker.
    pub fn traffic(&self) -> &Traffic {
        &self.traffic
    }

    /// Where the jobs are.
    pub fn supply(&self) -> &Supply {
        &self.supply
    }

    /// Another policy finds the size of a pool from now on, until a reload changes the settings of the policy.
    pub fn set_policy(&mut self, pool: &PoolName, policy: Box<dyn ScalingPolicy>) {
        self.fleet.set_policy(pool, policy);
    }

    /// The broker forgets the oldest jobs, up to the first that has not ended.
    pub fn forget_ended_jobs(&mut self) {
        self.supply.ledger.forget_ended();
    }

    /// Templates that live, and those whose end the supervisor has not seen, by number.
    pub fn templates(&self) -> &BTreeMap<u64, Template> {
        &self.templates
    }

    /// Workers, likewise.
    pub fn workers(&self) -> &BTreeMap<u64, Worker> {
        &self.workers
    }

    /// The supervisor was told to leave and did.
    pub fn has_left(&self) -> bool {
        self.left
    }

    fn show(&mut self, what: &Seen<'_>) {
        let scene = Scene {
            now: self.now,
            fleet: &self.fleet,
            workers: &self.workers,
        };
        self.script.see(&scene, what);
    }
}

//! The one loop: gather what happened, ask the fleet, perform what it decides.
//!
//! It runs on one thread, never runs user code and never waits for a process or a disk: whatever takes time
//! runs as a task that answers through the one channel of [`input::Input`]s.
//!
//! - `input`, `signals`: what happens, as one stream.
//! - `output`, `lines`, `allowance`: what processes print, cut where it is a flood.
//! - `processes`: all templates and workers. `link`, `template`: our ends of one. `reader`, `unsent`: both ways of a job socket.
//! - `opened`, `opening`: the broker, where only the application knows which.
//! - `traffic`: between the fleet and the source of its jobs: room, jobs, outcomes.
//! - `take`, `perform`, `periods`: the three parts of a turn: inputs, actions, time.
//! - `ends`: when and why to leave. `reloads`: who waits for a reload.
//! - `roster`: our workers as the broker shows them to others.
//! - `schedules`, `wall_timer`: jobs that are enqueued again and again.
//! - `memory`: what the processes occupy. `notices`: what people are told.
//! - `calls`: what people ask over the control socket. `view`: what readers see.

mod allowance;
mod calls;
pub mod check;
mod ends;
mod input;
mod lines;
mod link;
mod memory;
mod notices;
mod opened;
mod opening;
mod output;
mod perform;
mod periods;
mod printed;
mod processes;
mod reader;
mod records;
mod reloads;
mod roster;
pub mod schedules;
mod signals;
mod take;
mod template;
mod told_jobs;
pub mod traffic;
mod unsent;
mod view;
mod wall_timer;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};

use crate::broker::Broker;
use crate::config::{self, Config};
use crate::control::server::Call;
use crate::fleet::{Action, Command, Event, Fleet, Now};
use crate::job::PoolName;
use crate::sys::out_of_memory::OutOfMemory;
use crate::sys::title::Title;
use crate::sys::{process, signal};
use crate::telemetry::history;
use crate::time::Mono;

use ends::Ending;
use input::Input;
use opened::Opened;
use opening::Opening;
use periods::{Periods, Watchdog};
use processes::Processes;
use reloads::Reloads;
use roster::Roster;
use schedules::Schedules;
use signals::Signals;
use traffic::Traffic;
use view::View;

pub use opening::{Jobs, Open};

/// Inputs handled in one turn.
const INPUTS_A_TURN: usize = 8192;
/// How long to try to settle the last outcomes with a broker that can't be used, before leaving them to the lease.
const FAREWELL: Duration = Duration::from_secs(10);
/// Reads the configuration again for a reload; the error is what the user is told.
pub type Reload = Arc<dyn Fn() -> Result<Config, String> + Send + Sync>;

/// How to run, beside the configuration.
pub struct Options {
    /// Leave when the queues are empty and nothing runs.
    pub burst: bool,
    /// Tell what policies wish, and do not do it.
    pub dry_run: bool,
    /// Where a reload gets its configuration.
    pub reload: Reload,
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options")
            .field("burst", &self.burst)
            .finish_non_exhaustive()
    }
}

/// Why the supervisor can't go on.
#[derive(Debug, thiserror::Error)]
pub enum SupervisorError {
    /// The app did not load at the start.
    #[error("the app does not load: {0}")]
    AppDoesNotLoad(String),
    /// No worker starts.
    #[error("no worker starts: {0}")]
    NoWorkerStarts(String),
    /// The broker does not let us begin.
    #[error(transparent)]
    Broker(#[from] crate::broker::BrokerError),
    /// The system refused something without which nothing works.
    #[error("cannot supervise: {0}")]
    System(String),
}

/// Runs pools until they are told to stop. Must be called inside a tokio runtime.
///
/// Jobs come from where `jobs` says, requests of people from `calls`. Returns when everything has stopped and every
/// outcome is settled, or with an error when the app does not load at the start.
pub async fn run(
    config: Config,
    jobs: impl Into<Jobs>,
    calls: mpsc::Receiver<Call>,
    options: Options,
) -> Result<(), SupervisorError> {
    let system = |error: &dyn std::fmt::Display| SupervisorError::System(error.to_string());
    process::set_child_subreaper().map_err(|error| system(&error))?;
    signal::survive_file_size_limit().map_err(|error| system(&error))?;
    if let Err(error) = process::raise_nofile_limit() {
        tracing::debug!(%error, "the limit of open files stays as it is");
    }
    let (sender, inputs) = mpsc::unbounded_channel();
    let (opened, open) = match jobs.into() {
        Jobs::At(broker) => (Some(Opened::begin(broker, input::events(&sender)).await?), None),
        Jobs::AsTheAppSays(open) => (None, Some(open)),
    };
    let signals = signals::listen(&sender).map_err(|error| system(&error))?;
    calls::listen(calls, sender.clone());
    let now = Now::read();
    show_title(&config);
    let config = if options.burst { awake(config) } else { config };
    let supervisor = Supervisor::new(
        config,
        (opened, Opening::by(open)),
        options,
        (sender, signals),
        now,
    );
    supervisor.run(inputs).await
}

/// In `ps` the pools stand in the place of the command line, which may hold the broker's password. A short command line
/// has no room for all of it: the kernel shows what stands where it stood.
fn show_title(config: &Config) {
    let names: Vec<&str> = config.pools.keys().map(PoolName::as_str).collect();
    if let Some(mut title) = Title::claim() {
        title.set(&["pool: supervisor ", &names.join(" ")]);
    }
}

/// A burst ends when every queue was looked into, and a pool without workers does not look.
fn awake(mut config: Config) -> Config {
    for pool in config.pools.values_mut() {
        pool.min_workers = pool.min_workers.max(1);
    }
    config
}

/// Keeps decisions, if that is wanted.
fn keeper(config: &Config, now: Now) -> Option<history::writer::Writer> {
    if config.supervisor.history == config::History::None {
        return None;
    }
    let started = history::writer::Writer::start(config.history.clone(), now.unix);
    let kept = started.inspect_err(|error| tracing::warn!(%error, "decisions are not kept in a history"));
    kept.ok()
}

struct Supervisor {
    config: Config,
    options: Options,
    /// `None`: it is opened once the application is loaded.
    broker: Option<Arc<dyn Broker>>,
    opening: Opening,
    fleet: Fleet,
    traffic: Traffic,
    roster: Roster,
    schedules: Schedules,
    processes: Processes,
    out_of_memory: OutOfMemory,
    inputs: UnboundedSender<Input>,
    signals: Signals,
    /// Events that the performing of actions brought about.
    events: VecDeque<Event>,
    actions: Vec<Action>,
    periods: Periods,
    watchdog: Watchdog,
    reloads: Reloads,
    /// Who wants to see how things are.
    view: View,
    /// Keeps decisions; `None`: nobody does.
    history: Option<history::writer::Writer>,
    started: crate::time::Unix,
    ending: Ending,
}

impl Supervisor {
    fn new(
        config: Config,
        (opened, opening): (Option<Opened>, Opening),
        options: Options,
        (inputs, signals): (UnboundedSender<Input>, Signals),
        now: Now,
    ) -> Self {
        let mut fleet = Fleet::new(&config, fastrand::u64(..), now);
        if options.dry_run {
            fleet.run_dry();
        }
        let history = keeper(&config, now);
        let tells_empty = options.burst || config.supervisor.max_idle_time.is_some();
        let mut traffic = Traffic::new(tells_empty);
        let broker = opened.map(|Opened { broker, source }| {
            traffic.open(source, broker.url());
            broker
        });
        for (pool, quota) in ends::quotas(&config, options.burst) {
            traffic.take_no_more_than(quota, &pool);
        }
        Supervisor {
            traffic,
            roster: Roster::new(broker.clone(), inputs.clone()),
            processes: Processes::new(inputs.clone()),
            out_of_memory: OutOfMemory::default(),
            schedules: Schedules::new(&config.schedules),
            ending: Ending::new(options.burst, config.supervisor.max_idle_time),
            config,
            options,
            broker,
            opening,
            fleet,
            inputs,
            signals,
            events: VecDeque::new(),
            actions: Vec::new(),
            periods: Periods::default(),
            watchdog: Watchdog::new(now.mono),
            reloads: Reloads::default(),
            view: View::default(),
            history,
            started: now.unix,
        }
    }

    async fn run(mut self, mut inputs: UnboundedReceiver<Input>) -> Result<(), SupervisorError> {
        let now = Now::read();
        self.fleet.start(now, &mut self.actions);
        self.start_schedules();
        self.turn(now);
        let mut batch = Vec::with_capacity(INPUTS_A_TURN);
        let timer = tokio::time::sleep(Duration::ZERO);
        tokio::pin!(timer);
        let mut armed: Option<Mono> = None;
        while !self.ending.is_leaving() {
            let deadline = self.next_deadline();
            if deadline != armed {
                armed = deadline;
                if let Some(at) = deadline {
                    timer.set(tokio::time::sleep(at.since(Mono::now())));
                }
            }
            tokio::select! {
                biased;
                _ = inputs.recv_many(&mut batch, INPUTS_A_TURN) => {}
                () = &mut timer, if armed.is_some() => armed = None,
            }
            let now = Now::read();
            for input in batch.drain(..) {
                self.take(input, now);
            }
            self.due(now);
            self.turn(now);
            if let Some(error) = self.fleet.never_loaded() {
                return Err(SupervisorError::AppDoesNotLoad(error.to_owned()));
            }
            if let Some(failure) = self.ending.failure() {
                return Err(failure);
            }
        }
        drop(inputs);
        self.farewell().await;
        self.ending.last_word()
    }

    /// Begins to fire schedules, once there is a broker. A burst fires none: it runs what is there.
    fn start_schedules(&mut self) {
        if let Some(broker) = self.broker.clone().filter(|_| !self.options.burst) {
            let inputs = self.inputs.clone();
            let tell = move |told| drop(inputs.send(Input::Scheduled(told)));
            self.schedules.start(broker, tell);
        }
    }

    fn next_deadline(&self) -> Option<Mono> {
        let own = [
            self.periods.deadline(),
            self.watchdog.deadline(),
            self.ending.deadline(),
            self.view.deadline(),
        ];
        let own = own.into_iter().flatten();
        own.chain(self.fleet.next_deadline())
            .chain(self.traffic.next_deadline())
            .chain(self.roster.next_deadline())
            .min()
    }

    /// Performs what was decided, feeds the broker's side, and tells whoever waits.
    fn turn(&mut self, now: Now) {
        self.act(now);
        self.traffic.pump(&self.fleet, now.mono);
        self.roster.tell(&self.fleet, now);
        if self.ending.is_due(&self.fleet, &self.traffic, now.mono) {
            let drain = Command::Drain { patient: false };
            let _ = self.fleet.command(drain, now, &mut self.actions);
            self.turn(now);
        }
    }

    /// Performs what was decided, and what that brings about.
    fn act(&mut self, now: Now) {
        loop {
            for action in std::mem::take(&mut self.actions) {
                self.perform(action, now);
            }
            let Some(event) = self.events.pop_front() else {
                return;
            };
            self.fleet.on(event, now, &mut self.actions);
        }
    }

    /// Settles what is left, gives up the lease, and leaves no child behind.
    async fn farewell(&mut self) {
        self.processes.close();
        self.roster.leave();
        self.schedules.stop();
        self.history = None;
        self.traffic.close(FAREWELL, Mono::now()).await;
        self.ending.dismiss();
        tracing::info!("stopped");
    }
}

//! The one loop: gather what happened, ask the fleet, perform what it decides.
//!
//! It runs on one thread, never runs user code and never waits for a process or a disk: whatever takes time
//! runs as a task that answers through the one channel of [`input::Input`]s.
//!
//! - `input`, `signals`, `lines`: what happens, as one stream.
//! - `link`, `template`: our ends of the processes.
//! - `jobs`: the traffic with the broker: claims, settlements, the lease.
//! - `memory`: what the processes occupy. `notices`: what people are told.
//! - `calls`: what people ask over the control socket.

mod calls;
mod input;
mod jobs;
mod lines;
mod link;
mod memory;
mod notices;
mod signals;
mod template;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};

use crate::broker::Broker;
use crate::config::{Config, MemoryLimit};
use crate::control::server::Call;
use crate::fleet::{Action, Command, Event, Fleet, Memory, Notice, Now};
use crate::job::{JobError, Outcome, PoolName};
use crate::runtime;
use crate::sys::process;
use crate::telemetry::notify;
use crate::time::Mono;
use crate::wire::frame::{Code, Packets, Run};
use crate::wire::message::{FromTemplate, ToTemplate};

use input::{Done, Input, Signal, Source};
use jobs::Jobs;
use link::Link;
use template::Template;

/// Inputs handled in one turn.
const INPUTS_A_TURN: usize = 8192;
/// How long to try to settle the last outcomes with a broker that can't be used, before leaving them to the lease.
const FAREWELL: Duration = Duration::from_secs(10);
/// Housekeeping at the broker after work, and without.
const MAINTAIN_ACTIVE: Duration = Duration::from_secs(30);
const MAINTAIN_IDLE: Duration = Duration::from_secs(600);

/// Reads the configuration again for a reload; the error is what the user is told.
pub type Reload = Box<dyn Fn() -> Result<Config, String> + Send>;

/// How to run, beside the configuration.
pub struct Options {
    /// Leave when the queues are empty and nothing runs.
    pub burst: bool,
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
    /// The system refused something without which nothing works.
    #[error("cannot supervise: {0}")]
    System(String),
}

/// Runs pools until they are told to stop. Must be called inside a tokio runtime.
///
/// Jobs come from `broker`, requests of people from `calls`. Returns when everything has stopped and every
/// outcome is settled, or with an error when the app does not load at the start.
pub async fn run(
    config: Config,
    broker: Arc<dyn Broker>,
    calls: mpsc::Receiver<Call>,
    options: Options,
) -> Result<(), SupervisorError> {
    let system = |error: &dyn std::fmt::Display| SupervisorError::System(error.to_string());
    process::set_child_subreaper().map_err(|error| system(&error))?;
    if let Err(error) = process::raise_nofile_limit() {
        tracing::debug!(%error, "the limit of open files stays as it is");
    }
    let (sender, inputs) = mpsc::unbounded_channel();
    signals::listen(&sender).map_err(|error| system(&error))?;
    calls::listen(calls, sender.clone());
    let now = Now::read();
    let supervisor = Supervisor::new(config, broker, options, sender, now);
    supervisor.run(inputs).await
}

struct Supervisor {
    config: Config,
    options: Options,
    broker: Arc<dyn Broker>,
    fleet: Fleet,
    jobs: Jobs,
    links: HashMap<u64, Link>,
    templates: HashMap<u64, Template>,
    inputs: UnboundedSender<Input>,
    /// Events that the performing of actions brought about.
    events: VecDeque<Event>,
    actions: Vec<Action>,
    packets: Packets,
    periods: BTreeMap<PoolName, Mono>,
    maintained: Mono,
    watchdog: Option<(Duration, Mono)>,
    /// Who waits for the end of a reload.
    reloads: Vec<tokio::sync::oneshot::Sender<crate::control::Reply>>,
    /// Who waits for our leaving.
    leavers: Vec<tokio::sync::oneshot::Sender<crate::control::Reply>>,
    started: crate::time::Unix,
    announced: bool,
    leaving: bool,
}

impl Supervisor {
    fn new(
        config: Config,
        broker: Arc<dyn Broker>,
        options: Options,
        inputs: UnboundedSender<Input>,
        now: Now,
    ) -> Self {
        let fleet = Fleet::new(&config, fastrand::u64(..), now);
        let watchdog = notify::watchdog_interval().map(|every| (every, now.mono + every));
        Supervisor {
            jobs: Jobs::new(broker.clone(), config.broker.heartbeat, inputs.clone()),
            config,
            options,
            broker,
            fleet,
            links: HashMap::new(),
            templates: HashMap::new(),
            inputs,
            events: VecDeque::new(),
            actions: Vec::new(),
            packets: Packets::default(),
            periods: BTreeMap::new(),
            maintained: now.mono,
            watchdog,
            reloads: Vec::new(),
            leavers: Vec::new(),
            started: now.unix,
            announced: false,
            leaving: false,
        }
    }

    async fn run(mut self, mut inputs: UnboundedReceiver<Input>) -> Result<(), SupervisorError> {
        let now = Now::read();
        self.fleet.start(now, &mut self.actions);
        self.turn(now);
        let mut batch = Vec::with_capacity(INPUTS_A_TURN);
        let timer = tokio::time::sleep(Duration::ZERO);
        tokio::pin!(timer);
        let mut armed: Option<Mono> = None;
        while !self.leaving {
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
        }
        self.farewell(inputs).await;
        Ok(())
    }

    fn next_deadline(&self) -> Option<Mono> {
        let periods = self.periods.values().copied();
        let watchdog = self.watchdog.map(|(_, at)| at);
        periods
            .chain(watchdog)
            .chain(self.fleet.next_deadline())
            .chain(self.jobs.next_deadline())
            .min()
    }

    /// Performs what was decided, feeds the broker's side, and tells whoever waits.
    fn turn(&mut self, now: Now) {
        loop {
            for action in std::mem::take(&mut self.actions) {
                self.perform(action, now);
            }
            let Some(event) = self.events.pop_front() else {
                break;
            };
            self.fleet.on(event, now, &mut self.actions);
        }
        self.jobs.pump(&self.fleet, now.mono);
        if self.options.burst && self.burst_is_over() {
            self.options.burst = false;
            tracing::info!("the queues are empty");
            let _ = self
                .fleet
                .command(Command::Drain { patient: false }, now, &mut self.actions);
            self.turn(now);
        }
    }

    fn burst_is_over(&self) -> bool {
        let pools = self.fleet.pool_names();
        self.announced && self.fleet.in_hand() == 0 && self.jobs.all_settled() && self.jobs.all_empty(&pools)
    }

    // ---- inputs ----

    fn take(&mut self, input: Input, now: Now) {
        let event = match input {
            Input::Template { template, message } => self.template_speaks(template, *message),
            Input::TemplateExited { template, how } => {
                self.templates.remove(&template);
                Some(Event::TemplateExited { template, how })
            }
            Input::WorkerReady { worker } => Some(Event::WorkerReady { worker }),
            Input::Done(done) => Some(self.done(*done)),
            Input::Garbage { worker, error } => Some(Event::Garbage { worker, error }),
            Input::WorkerExited { worker, how } => self.links.remove(&worker).map(|mut link| {
                // What its job left running in its group goes with it.
                link.kill();
                Event::Exited {
                    worker,
                    unread: link.take_back(),
                    how,
                }
            }),
            Input::Line { from, stream, line } => {
                self.line(from, stream, &line);
                None
            }
            Input::Signal(signal) => {
                self.signal(signal, now);
                None
            }
            Input::Reaped { pid, status } => {
                self.ended(pid, status);
                None
            }
            Input::Call(call) => {
                self.call(call, now);
                None
            }
            Input::Claimed { pool, wanted, result } => {
                let jobs = self.jobs.claimed(&pool, wanted, result, now.mono);
                (!jobs.is_empty()).then_some(Event::Claimed { pool, jobs })
            }
            Input::Ready { pool, result } => {
                self.jobs.ready(&pool, result, now.mono);
                if self.fleet.asleep(&pool) {
                    self.measure(&pool);
                }
                None
            }
            Input::Settled { settlements, result } => {
                self.jobs.settled(settlements, result, now.mono);
                None
            }
            Input::Extended(result) => {
                self.jobs.extended(result, now.mono);
                None
            }
            Input::Measured {
                pool,
                backlog,
                memory,
            } => Some(self.measured(pool, backlog, memory)),
            Input::Counted { reply, backlogs } => {
                self.answer_status(reply, &backlogs, now);
                None
            }
        };
        if let Some(event) = event {
            self.fleet.on(event, now, &mut self.actions);
        }
    }

    fn template_speaks(&mut self, template: u64, message: FromTemplate) -> Option<Event> {
        match message {
            FromTemplate::Ready(report) => Some(Event::TemplateReady { template, report }),
            FromTemplate::Failed { error, detail } => {
                let separator = if detail.is_empty() { "" } else { "\n" };
                Some(Event::TemplateFailed {
                    template,
                    error: format!("{error}{separator}{detail}"),
                })
            }
            FromTemplate::Forked { worker, pid } => {
                self.links.get_mut(&worker)?.forked(pid);
                Some(Event::Forked { worker, pid })
            }
            FromTemplate::ForkFailed { worker, error } => {
                self.links.remove(&worker);
                Some(Event::ForkFailed { worker, error })
            }
            FromTemplate::Exited { worker, status } => {
                self.links.get_mut(&worker)?.ended(status);
                None
            }
        }
    }

    fn done(&self, done: Done) -> Event {
        let Done {
            worker,
            execution,
            started,
            ended,
            code,
            after_ms,
            data,
        } = done;
        let outcome = match code {
            Code::Success => Outcome::Success(data),
            Code::Failure => Outcome::Failure {
                error: job_error(&data),
                retryable: true,
            },
            Code::Rejected => Outcome::Failure {
                error: job_error(&data),
                retryable: false,
            },
            Code::TimedOut => {
                let timeout = self.fleet.execution(execution).and_then(|job| job.timeout);
                Outcome::TimedOut {
                    after: timeout.unwrap_or_default(),
                }
            }
            Code::Retry => Outcome::Retry {
                after: after_ms.map(|ms| Duration::from_millis(ms.into())),
                reason: String::from_utf8_lossy(&data).into_owned(),
            },
            Code::GivenBack => Outcome::GivenBack,
        };
        Event::Done {
            worker,
            execution,
            started,
            ended,
            outcome,
        }
    }

    fn line(&mut self, from: Source, stream: input::Stream, line: &str) {
        let (pool, job) = match from {
            Source::Template(_) => (None, None),
            Source::Worker(worker) => (
                self.fleet.pool_of(worker).map(ToString::to_string),
                self.fleet
                    .printed(worker)
                    .map(|job| job.claimed.claim.job.to_string()),
            ),
        };
        notices::printed(from, stream, line, pool.as_deref(), job.as_deref());
    }

    /// A child of ours was reaped: a template, a worker whose template died, or an orphan that a job left.
    fn ended(&mut self, pid: i32, status: i32) {
        if let Some(template) = self.templates.values_mut().find(|template| template.pid() == pid) {
            template.ended(status);
        } else if let Some(link) = self.links.values_mut().find(|link| link.pid() == Some(pid)) {
            link.ended(status);
        }
    }

    fn signal(&mut self, signal: Signal, now: Now) {
        match signal {
            Signal::Stop => self.stop(Command::Drain { patient: false }, now),
            Signal::Quit => self.stop(Command::Stop, now),
            Signal::Reload => self.reload(None, now),
            Signal::Status => self.log_status(now),
            Signal::More => self.change_max(1, now),
            Signal::Less => self.change_max(-1, now),
            Signal::Child => signals::reap(&self.inputs),
        }
    }

    fn stop(&mut self, command: Command, now: Now) {
        notify::stopping();
        tracing::info!(running = self.fleet.in_hand(), "stopping");
        let _ = self.fleet.command(command, now, &mut self.actions);
    }

    // ---- time ----

    fn due(&mut self, now: Now) {
        if self.fleet.next_deadline().is_some_and(|at| at <= now.mono) {
            self.fleet.on(Event::Tick, now, &mut self.actions);
        }
        if let Some((every, at)) = self.watchdog
            && at <= now.mono
        {
            notify::watchdog();
            self.watchdog = Some((every, now.mono + every));
        }
        let pools = self.fleet.pool_names();
        self.periods.retain(|pool, _| pools.contains(pool));
        for pool in pools {
            let Some(period) = self.fleet.pool_config(&pool).map(|config| config.scaling_period) else {
                continue;
            };
            let at = *self.periods.entry(pool.clone()).or_insert(now.mono + period);
            if at <= now.mono {
                // Periods that were missed (a suspended machine) are not made up for.
                let next = at + period;
                self.periods.insert(
                    pool.clone(),
                    if next > now.mono { next } else { now.mono + period },
                );
                if self.fleet.asleep(&pool) {
                    self.jobs.watch(&pool);
                }
                self.measure(&pool);
                self.maintain(now.mono);
            }
        }
    }

    /// Gathers what a decision needs, off the loop: memory, and the backlog unless it is known to be empty.
    fn measure(&self, pool: &PoolName) {
        let Some(config) = self.fleet.pool_config(pool) else {
            return;
        };
        let empty = self.jobs.is_empty(pool);
        let templates: Vec<i32> = self.templates.values().map(Template::pid).collect();
        let workers = self.fleet.pids();
        let limits: Vec<(PoolName, MemoryLimit)> = config
            .max_memory
            .map(|limit| (pool.clone(), limit))
            .into_iter()
            .collect();
        let (broker, inputs) = (self.broker.clone(), self.inputs.clone());
        let (pool, queues) = (pool.clone(), config.queues.clone());
        tokio::spawn(async move {
            let backlog = if empty {
                None
            } else {
                Some(broker.backlog(&queues).await)
            };
            let memory =
                tokio::task::spawn_blocking(move || memory::measure(&templates, &workers, &limits)).await;
            let memory = memory.unwrap_or_default();
            let _ = inputs.send(Input::Measured {
                pool,
                backlog,
                memory,
            });
        });
    }

    fn measured(
        &mut self,
        pool: PoolName,
        backlog: Option<Result<crate::broker::Backlog, crate::broker::BrokerError>>,
        memory: Memory,
    ) -> Event {
        let backlog = match backlog {
            // Its queues are empty until the broker says something else.
            None => Some(crate::broker::Backlog {
                scheduled: self.fleet.scheduled(&pool),
                ..crate::broker::Backlog::default()
            }),
            Some(Ok(backlog)) => Some(backlog),
            Some(Err(error)) => {
                tracing::debug!(%error, pool = %pool, "the backlog is not known");
                None
            }
        };
        Event::Period {
            pool,
            backlog,
            memory,
        }
    }

    /// Housekeeping at the broker: often while there is work, seldom without.
    fn maintain(&mut self, now: Mono) {
        let every = if self.jobs.active {
            MAINTAIN_ACTIVE
        } else {
            MAINTAIN_IDLE
        };
        if now.since(self.maintained) < every {
            return;
        }
        self.maintained = now;
        self.jobs.active = false;
        let broker = self.broker.clone();
        tokio::spawn(async move {
            match broker.maintain().await {
                Ok(done) if done.recovered > 0 => {
                    tracing::warn!(
                        jobs = done.recovered,
                        "took back jobs of a supervisor that is gone"
                    );
                }
                Ok(_) => {}
                Err(error) => tracing::debug!(%error, "housekeeping at the broker failed"),
            }
        });
    }

    // ---- actions ----

    fn perform(&mut self, action: Action, now: Now) {
        match action {
            Action::StartTemplate { template, generation } => self.start_template(template, generation),
            Action::StopTemplate { template } => {
                let stopped = self
                    .templates
                    .get(&template)
                    .map(|live| live.send(&ToTemplate::Stop, &[]));
                if let Some(Err(_)) = stopped {
                    self.templates[&template].kill();
                }
            }
            Action::KillTemplate { template } => {
                if let Some(template) = self.templates.get(&template) {
                    template.kill();
                }
            }
            Action::Fork {
                template,
                worker,
                pool,
            } => {
                if let Err(error) = self.fork(template, worker, &pool) {
                    self.links.remove(&worker);
                    self.events.push_back(Event::ForkFailed { worker, error });
                }
            }
            Action::Send { worker, execution } => self.send(worker, execution),
            Action::TakeBack { worker } => {
                if let Some(link) = self.links.get(&worker) {
                    let executions = link.take_back();
                    self.events.push_back(Event::TakenBack { worker, executions });
                }
            }
            Action::Retire { worker } => {
                if let Some(link) = self.links.get(&worker) {
                    link.retire();
                }
            }
            Action::Kill { worker } => {
                if let Some(link) = self.links.get_mut(&worker) {
                    link.kill();
                }
            }
            Action::Settle(settlement) => self.jobs.settle(settlement),
            Action::Notice(notice) => self.notice(&notice, now),
            Action::Leave => self.leaving = true,
        }
    }

    fn start_template(&mut self, template: u64, generation: u64) {
        let started = runtime::template_command(&self.config, generation)
            .map_err(|error| error.to_string())
            .and_then(|(command, load)| Template::start(template, &command, load, &self.inputs));
        match started {
            Ok(started) => {
                self.templates.insert(template, started);
            }
            Err(error) => {
                self.events.push_back(Event::TemplateFailed { template, error });
                self.events.push_back(Event::TemplateExited {
                    template,
                    how: "could not be started".into(),
                });
            }
        }
    }

    fn fork(&mut self, template: u64, worker: u64, pool: &PoolName) -> Result<(), String> {
        let frame_len_max = self.config.broker.max_result.saturating_add(1 << 20);
        let live = self.templates.get(&template).ok_or("the template is gone")?;
        let (link, ends) =
            Link::open(worker, frame_len_max, &self.inputs).map_err(|error| error.to_string())?;
        let message = ToTemplate::Fork {
            worker,
            pool: pool.to_string(),
        };
        live.send(&message, &ends.descriptors())?;
        self.links.insert(worker, link);
        Ok(())
    }

    fn send(&mut self, worker: u64, execution: u64) {
        let (Some(link), Some(job)) = (self.links.get(&worker), self.fleet.execution(execution)) else {
            return;
        };
        let timeout_ms = job
            .timeout
            .map_or(0, |timeout| timeout.as_millis().clamp(1, u128::from(u32::MAX)));
        let run = Run {
            execution,
            timeout_ms: u32::try_from(timeout_ms).unwrap_or(u32::MAX),
            attempt: job.attempt,
            id: job.claimed.claim.job.as_str(),
            queue: job.claimed.queue.as_str(),
            task: &job.claimed.task,
            payload: &job.claimed.payload,
        };
        link.send(&run, &mut self.packets);
    }

    fn notice(&mut self, notice: &Notice, now: Now) {
        notices::tell(notice);
        match notice {
            Notice::AppLoaded { generation, .. } => {
                self.announced = true;
                notify::ready();
                self.reloaded(Ok(format!(
                    "generation {generation} is loaded; workers are replaced as they fall idle"
                )));
            }
            Notice::LoadFailed {
                error,
                staying: Some(staying),
                ..
            } => {
                notify::ready();
                let kept = format!("generation {staying} stays");
                self.reloaded(Err(format!("the app does not load, {kept}: {error}")));
            }
            Notice::Scaled { .. } => notify::status(&self.summary(now)),
            _ => {}
        }
    }

    // ---- the end ----

    /// Settles what is left, gives up the lease, and leaves no child behind.
    async fn farewell(&mut self, mut inputs: UnboundedReceiver<Input>) {
        let until = Mono::now() + FAREWELL;
        while !self.jobs.all_settled() && Mono::now() < until {
            self.jobs.pump(&self.fleet, Mono::now());
            let wait = until.since(Mono::now()).min(Duration::from_millis(250));
            if let Ok(Some(input)) = tokio::time::timeout(wait, inputs.recv()).await {
                self.take(input, Now::read());
            }
        }
        if !self.jobs.all_settled() {
            tracing::error!(
                jobs = self.jobs.unsettled(),
                "the broker did not take these outcomes; their jobs run again when the lease runs out"
            );
        }
        self.links.clear();
        self.templates.clear();
        if let Err(error) = self.broker.close().await {
            tracing::warn!(%error, "cannot close the broker");
        }
        self.dismiss_leavers();
        tracing::info!("stopped");
    }
}

/// The error that a worker reports: JSON, or else whatever it sent as text.
fn job_error(data: &[u8]) -> JobError {
    serde_json::from_slice(data).unwrap_or_else(|_| JobError::new("error", String::from_utf8_lossy(data)))
}

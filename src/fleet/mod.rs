//! The template and its workers as data: event + now → actions.
//!
//! [`Fleet`] decides everything that concerns processes and the jobs they hold: when to fork, whom
//! to send a job, whom to retire, replace or kill, when to start a template again, what becomes of
//! a job whose worker died. It does no I/O and reads no clock; the supervisor's loop performs its
//! [`Action`]s, and a simulator drives the same functions.
//!
//! - [`event`], `notice`: the vocabulary. `pool`: one pool, with its workers and the jobs that they hold.
//! - `template`: the templates. `app`: what holds for the application. `register`: numbers.
//! - `share`: what the pools leave each other. `command`: what people ask. `asked`: what the loop asks. `stop`: how all of it ends.
//! - [`snapshot`]: the plain picture that every reader renders. [`tally`], [`histogram`]: what is counted; [`figures`]: both, for metrics.
//! - [`death`]: why workers are killed, and what their deaths are counted as.

mod app;
mod asked;
mod command;
pub mod death;
pub mod event;
pub mod figures;
pub mod health;
pub mod histogram;
mod job_run;
mod notice;
mod permits;
mod picture;
mod pool;
mod register;
mod share;
pub mod snapshot;
mod stop;
pub mod tally;
pub mod template;

use std::collections::BTreeMap;
use std::time::Duration;

use crate::broker::Backlog;
use crate::config::{Config, PoolConfig};
use crate::job::{Delivery, Job, JobError, NAME_LEN_MAX, PoolName, Settlement, Token, Verdict};
use crate::policy::scaling::wish::ScalingPolicy;
use crate::policy::share::Totals;
use crate::policy::shutdown;
use crate::time::Mono;
use crate::wire::message::LoadReport;

pub use crate::policy::memory::{Occupied, Parts};
pub use crate::time::Now;
use app::App;
pub use event::{Action, CallOff, Command, Done, Event, Memory, Unread};
pub use job_run::JobRun;
pub use notice::{Asked, Notice};
use permits::HeldPermits;
use pool::{Context, Occasion, Pool, give_back};
use register::Register;
pub use register::Revision;
use stop::Shutdown;
use template::{GoneBack, Templates};

/// From forking a worker to its first word; then it is killed.
const START_LIMIT: Duration = Duration::from_secs(60);
/// From telling a worker to leave to killing it.
const RETIRE_LIMIT: Duration = Duration::from_secs(10);
/// An idle worker that does not read its job for so long is replaced, and the job given to another.
const PICKUP_LIMIT: Duration = Duration::from_secs(2);
/// Between two looks whether a worker has begun what its source wants to know of.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);
/// Claimed jobs that nobody could take for so long go back to the broker.
const BUFFER_LIMIT: Duration = Duration::from_secs(1);

/// A job that this supervisor holds under its lease. Its number is its token.
#[derive(Clone, Debug)]
pub struct Execution {
    /// What is to run.
    pub job: Job,
    /// Longest run: the job's own, its task's or its pool's.
    pub timeout: Option<Duration>,
    /// 1 for the first run of the job.
    pub attempt: u32,
    /// Its source wants to know when it begins, and was not told.
    pub(crate) tells_begin: bool,
    /// It is not to begin any more. Only its worker's socket knows whether it has.
    pub(crate) called_off: Option<CallOff>,
    /// The worker that has it; `None`: it waits.
    pub(crate) holder: Option<u64>,
}

/// All processes and all jobs in hand. It routes what happens to the pool or the template that it happens to.
#[derive(Debug)]
pub struct Fleet {
    app: App,
    pools: BTreeMap<PoolName, Pool>,
    templates: Templates,
    register: Register,
    shutdown: Shutdown,
    /// The generation that takes over, until no older worker can begin another job.
    renewing: Option<u64>,
    /// The last one that has.
    renewed: u64,
    /// Limits on all pools together, and what they occupy.
    totals: Totals,
    permits: HeldPermits,
    /// What policies wish is told, and not done.
    is_dry_run: bool,
}

impl Fleet {
    /// A fleet with nothing in it; `seed` makes its jitter repeatable.
    pub fn new(config: &Config, seed: u64, now: Now) -> Self {
        let pool = |(name, config): (&PoolName, &PoolConfig)| {
            (name.clone(), Pool::new(name.clone(), config.clone(), now))
        };
        let mut fleet = Fleet {
            app: App::new(config),
            pools: config.pools.iter().map(pool).collect(),
            templates: Templates::new(config.app.load_timeout),
            register: Register::new(seed),
            shutdown: Shutdown::default(),
            renewing: None,
            renewed: 0,
            totals: Totals {
                workers: config.supervisor.max_total_workers,
                permits: config.supervisor.permits.clone(),
                ..Totals::default()
            },
            permits: HeldPermits::default(),
            is_dry_run: false,
        };
        fleet.configure_permits();
        fleet
    }

    fn configure_permits(&mut self) {
        let pools = self.pools.iter().map(|(name, pool)| (name, pool.permits()));
        self.permits.configure(&self.totals.permits, pools);
    }

    /// From now on, what policies wish is told, and not done. Limits hold, and a pool without workers starts one for a job.
    pub fn run_dry(&mut self) {
        self.is_dry_run = true;
    }

    /// Loads the app for the first time.
    pub fn start(&mut self, now: Now, out: &mut Vec<Action>) {
        // The floors of this time of day.
        self.give_way(now, out);
        self.templates.next_generation(now, out);
    }

    /// Takes new settings: limits and policies at once; `new_generation` loads the app again.
    /// Pools that are gone from the settings are drained and leave; new ones start.
    pub fn reload(&mut self, config: &Config, new_generation: bool, now: Now, out: &mut Vec<Action>) {
        self.app.configure(config);
        self.templates.set_load_timeout(config.app.load_timeout);
        for (name, pool) in &mut self.pools {
            pool.configure(config.pools.get(name).cloned(), now.mono);
        }
        for (name, config) in &config.pools {
            let new = || Pool::new(name.clone(), config.clone(), now);
            self.pools.entry(name.clone()).or_insert_with(new);
        }
        self.totals.workers = config.supervisor.max_total_workers;
        self.totals.permits = config.supervisor.permits.clone();
        self.configure_permits();
        self.at_all(now, out, |pool, cx| pool.wear_out_all(cx));
        self.give_way(now, out);
        if new_generation && self.running() {
            self.templates.next_generation(now, out);
        }
        self.balance_all(now, out);
        self.forget_pools();
    }

    /// Another policy finds the size of a pool from now on, until a reload changes the settings of the policy.
    pub fn set_policy(&mut self, pool: &PoolName, policy: Box<dyn ScalingPolicy>) {
        if let Some(pool) = self.pools.get_mut(pool) {
            pool.set_policy(policy);
        }
    }

    /// Takes note of an event.
    pub fn on(&mut self, event: Event, now: Now, out: &mut Vec<Action>) {
        match event {
            Event::TemplateReady { template, report } => self.template_ready(template, report, now, out),
            Event::TemplateFailed { template, error } => self.templates.failed(template, error),
            Event::TemplateExited { template, how } => self.template_exited(template, &how, now, out),
            Event::Forked { worker, pid } => {
                let answered = |pool: &mut Pool, cx: &mut Context| pool.forked(worker, pid, cx);
                self.fork_answered(worker, answered, now, out);
            }
            Event::ForkFailed { worker, error } => {
                let answered = |pool: &mut Pool, cx: &mut Context| pool.fork_failed(worker, error, cx);
                self.fork_answered(worker, answered, now, out);
            }
            Event::WorkerReady { worker } => {
                self.at_home(worker, now, out, |pool, cx| pool.worker_ready(worker, cx));
            }
            Event::Done { worker, done } => self.done(worker, done, now, out),
            Event::TakenBack { worker, unread } => {
                self.at_home(worker, now, out, |pool, cx| pool.taken_back(worker, &unread, cx));
            }
            Event::Pong { worker, execution } => {
                self.at_home(worker, now, out, |pool, cx| pool.pong(worker, execution, cx));
            }
            Event::Progress {
                worker,
                execution,
                progress,
            } => {
                self.at_home(worker, now, out, |pool, cx| {
                    pool.progressed(worker, execution, progress, cx);
                });
            }
            Event::Peeked { worker, unread } => {
                self.at_home(worker, now, out, |pool, cx| pool.peeked(worker, &unread, cx));
            }
            Event::CalledOff { token, how } => self.called_off(token, how, now, out),
            Event::Garbage { worker, error } => {
                self.at_home(worker, now, out, |pool, cx| {
                    pool.broke_protocol(worker, error, cx)
                });
            }
            Event::Exited {
                worker,
                unread,
                how,
                end,
            } => {
                self.at_home(worker, now, out, |pool, cx| {
                    pool.exited(worker, &unread, (&how, &end), cx);
                });
            }
            Event::Delivered { pool, jobs } => self.delivered(&pool, jobs, now, out),
            Event::Waiting { pool } => _ = self.at(&pool, now, out, |pool, cx| pool.job_waits(cx)),
            Event::Period {
                pool,
                backlog,
                memory,
            } => self.decide(Occasion::Period, &pool, (backlog, &memory), now, out),
            Event::Looked {
                pool,
                backlog,
                memory,
            } => self.decide(Occasion::Look, &pool, (backlog, &memory), now, out),
            Event::Tick => self.tick(now, out),
        }
        self.look_at_what_is_known(now, out);
        if self.permits.take_due() {
            self.balance_all(now, out);
        }
        self.forget_pools();
        self.go_back(now, out);
        self.tell_renewal(out);
        self.leave_if_empty(now, out);
    }

    /// The earliest instant at which something is due even if nothing happens.
    pub fn next_deadline(&self) -> Option<Mono> {
        let pools = self.pools.values().filter_map(Pool::deadline);
        let templates = self.templates.deadline();
        pools.chain(templates).chain(self.shutdown.deadline()).min()
    }

    fn home(&self, worker: u64) -> Option<&Pool> {
        let name = self.register.home(worker)?;
        let home = self.pools.get(name);
        assert!(home.is_some(), "worker {worker} is in a pool that is gone");
        home
    }

    fn running(&self) -> bool {
        self.shutdown.is_running()
    }

    // ---- routing ----

    /// Has a pool do something.
    fn at<T>(
        &mut self,
        pool: &PoolName,
        now: Now,
        out: &mut Vec<Action>,
        act: impl FnOnce(&mut Pool, &mut Context) -> T,
    ) -> Option<T> {
        let (pools, mut cx) = self.parts(now, out);
        let pool = pools.get_mut(pool)?;
        Some(act(pool, &mut cx))
    }

    /// The pools, and what each of them needs to do something.
    fn parts<'a>(
        &'a mut self,
        now: Now,
        out: &'a mut Vec<Action>,
    ) -> (&'a mut BTreeMap<PoolName, Pool>, Context<'a>) {
        let cx = Context {
            now,
            running: self.shutdown.is_running(),
            is_dry_run: self.is_dry_run,
            app: &self.app,
            templates: &mut self.templates,
            register: &mut self.register,
            permits: &mut self.permits,
            out,
        };
        (&mut self.pools, cx)
    }

    /// Has the pool of a worker do something, if the worker is known.
    fn at_home<T>(
        &mut self,
        worker: u64,
        now: Now,
        out: &mut Vec<Action>,
        act: impl FnOnce(&mut Pool, &mut Context) -> T,
    ) -> Option<T> {
        let home = self.register.home(worker)?.clone();
        self.at(&home, now, out, act)
    }

    /// Has each pool do something.
    fn at_all(&mut self, now: Now, out: &mut Vec<Action>, mut act: impl FnMut(&mut Pool, &mut Context)) {
        let (pools, mut cx) = self.parts(now, out);
        for pool in pools.values_mut() {
            act(pool, &mut cx);
        }
    }

    fn balance_all(&mut self, now: Now, out: &mut Vec<Action>) {
        self.at_all(now, out, |pool, cx| {
            pool.balance(cx);
            pool.dispatch(cx);
        });
    }

    fn forget_pools(&mut self) {
        self.pools.retain(|_, pool| !pool.is_over());
    }

    // ---- what happens ----

    fn done(&mut self, worker: u64, done: Done, now: Now, out: &mut Vec<Action>) {
        let execution = done.execution;
        let known = self.at_home(worker, now, out, |pool, cx| pool.done(worker, done, cx));
        if known.is_none() {
            // Of a worker that is gone nothing is left to kill.
            out.push(Action::Notice(Notice::StrayOutcome { worker, execution }));
        }
    }

    /// A template has answered for a worker. Where it was asked for as many as it may be, others can be asked for now.
    fn fork_answered(
        &mut self,
        worker: u64,
        answered: impl FnOnce(&mut Pool, &mut Context) -> bool,
        now: Now,
        out: &mut Vec<Action>,
    ) {
        if self.at_home(worker, now, out, answered) == Some(true) {
            self.balance_all(now, out);
        }
    }

    fn delivered(&mut self, pool: &PoolName, jobs: Vec<Delivery>, now: Now, out: &mut Vec<Action>) {
        let (jobs, too_long): (Vec<_>, Vec<_>) = jobs
            .into_iter()
            .partition(|delivery| delivery.job.task.len() <= NAME_LEN_MAX);
        out.extend(too_long.iter().map(bury_unsendable).map(Action::Settle));
        if self.pools.contains_key(pool) {
            self.at(pool, now, out, |pool, cx| pool.delivered(jobs, cx));
            return;
        }
        let back = jobs.iter().rev().map(|delivery| give_back(delivery.token));
        out.extend(back.map(Action::Settle));
    }

    /// A job in hand is not to begin. One that is not in hand has ended already.
    fn called_off(&mut self, token: Token, how: CallOff, now: Now, out: &mut Vec<Action>) {
        let holds = |(_, pool): &(&PoolName, &Pool)| pool.execution(token.0).is_some();
        let home = self.pools.iter().find(holds).map(|(name, _)| name.clone());
        if let Some(home) = home {
            self.at(&home, now, out, |pool, cx| pool.call_off(token.0, how, cx));
        }
    }

    /// A scaling period or a look: take in what was measured, decide, act.
    fn decide(
        &mut self,
        occasion: Occasion,
        name: &PoolName,
        (backlog, memory): (Option<Backlog>, &Memory),
        now: Now,
        out: &mut Vec<Action>,
    ) {
        self.weigh(memory);
        self.at(name, now, out, |pool, cx| pool.measured(occasion, backlog, cx));
        self.resize(occasion, name, now, out);
    }

    /// Jobs were left waiting, and nobody is free: policies look at what is known of them.
    fn look_at_what_is_known(&mut self, now: Now, out: &mut Vec<Action>) {
        let due = self
            .pools
            .iter_mut()
            .filter_map(|(name, pool)| pool.take_due_look().then(|| name.clone()));
        for name in due.collect::<Vec<_>>() {
            self.resize(Occasion::Look, &name, now, out);
        }
    }

    /// A pool decides about its size, and becomes what it should be.
    fn resize(&mut self, occasion: Occasion, name: &PoolName, now: Now, out: &mut Vec<Action>) {
        let (share, budget) = (self.share_of(name), self.own_budget(name));
        self.at(name, now, out, |pool, cx| {
            pool.decide(occasion, share, budget, cx);
            pool.balance(cx);
        });
    }

    fn template_ready(&mut self, id: u64, report: LoadReport, now: Now, out: &mut Vec<Action>) {
        if !self.running() {
            return;
        }
        let Some(generation) = self.templates.ready(id, &report, now, out) else {
            return;
        };
        self.app.declare(&report.batches);
        out.push(Action::Notice(Notice::AppLoaded { generation, report }));
        self.renewing = Some(generation);
        self.at_all(now, out, |pool, cx| pool.expire_older_than(generation, cx));
        self.balance_all(now, out);
    }

    /// The older generation takes over again, if no worker of the newer one starts. Not once it was told that it has gone.
    fn go_back(&mut self, now: Now, out: &mut Vec<Action>) {
        if !self.running() || !self.is_renewing() {
            return;
        }
        let Some(GoneBack {
            from,
            to,
            report,
            error,
        }) = self.templates.go_back(self.renewed, now, out)
        else {
            return;
        };
        self.app.declare(&report.batches);
        self.renewing = None;
        out.push(Action::Notice(Notice::GoneBack {
            from,
            to,
            report,
            error,
        }));
        self.at_all(now, out, |pool, cx| {
            pool.go_back_to(to, cx);
            pool.settle_hopeless(cx);
        });
        self.balance_all(now, out);
    }

    /// Says so when no worker of an older generation can begin another job.
    fn tell_renewal(&mut self, out: &mut Vec<Action>) {
        let renewed = |generation: &mut u64| self.pools.values().all(|pool| pool.is_renewed(*generation));
        if let Some(generation) = self.renewing.take_if(renewed) {
            self.renewed = generation;
            out.push(Action::Notice(Notice::Renewed { generation }));
        }
    }

    fn template_exited(&mut self, id: u64, how: &str, now: Now, out: &mut Vec<Action>) {
        let stopping = !self.running();
        let abandoned = self
            .templates
            .exited(id, (self.app.program(), how), stopping, now, out);
        self.at_all(now, out, |pool, cx| {
            pool.abandon(&abandoned, cx);
            pool.settle_hopeless(cx);
        });
        self.balance_all(now, out);
    }

    /// Everything that is due by now.
    fn tick(&mut self, now: Now, out: &mut Vec<Action>) {
        self.stopping(shutdown::Event::Tick, now, out);
        for template in self.templates.tick(now, out) {
            self.template_exited(template, "did not die", now, out);
        }
        self.at_all(now, out, |pool, cx| pool.tick(cx));
    }
}

/// A job whose task's name no frame can carry fails for good.
fn bury_unsendable(Delivery { token, job, .. }: &Delivery) -> Settlement {
    let message = format!(
        "the task's name is {} bytes long, above the limit of {NAME_LEN_MAX}",
        job.task.len()
    );
    Settlement {
        of: *token,
        verdict: Verdict::Bury {
            error: JobError::new("bad task name", message),
            failures: job.failures + 1,
            losses: job.losses,
        },
        run: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::RunArgs;
    use crate::time::Unix;

    #[test]
    fn a_job_that_no_frame_can_carry_fails_with_the_reason() {
        let args = RunArgs::from_flags(["--broker", "memory:", "--socket", "/s"]).unwrap();
        let config = crate::config::load(&args, |_| None).unwrap();
        let now = Now {
            mono: Mono(1),
            unix: Unix(1),
        };
        let mut fleet = Fleet::new(&config, 1, now);
        let job = Job {
            task: "x".repeat(65_536).as_str().into(),
            ..Job::sample("a")
        };
        let token = Token(1);
        let jobs = vec![Delivery {
            token,
            tells_begin: false,
            job,
        }];
        let pool = config.pools.keys().next().unwrap().clone();
        let mut out = Vec::new();
        fleet.on(Event::Delivered { pool, jobs }, now, &mut out);
        let [Action::Settle(settlement)] = &*out else {
            panic!("{out:?}")
        };
        assert_eq!(settlement.of, token);
        let Verdict::Bury {
            error, failures: 1, ..
        } = &settlement.verdict
        else {
            panic!("{settlement:?}")
        };
        assert!(error.message.contains("65536 bytes"), "{error}");
        assert_eq!(fleet.in_hand(), 0);
    }
}

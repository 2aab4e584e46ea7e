//! The supervisor's loop around the real fleet and its traffic: events in, actions performed, jobs, scaling periods.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;

use super::World;
use super::process::{Frame, Process, Template, ToTemplate, Worker};
use super::script::{Scene, Script, Seen};
use super::time::Happening;
use crate::broker::source::{self, Source};
use crate::config::Config;
use crate::death::ProcessEnd;
use crate::fleet::{Action, Command, Event, Fleet, Memory, Occupied, Unread};
use crate::job::{PoolName, QueueName};
use crate::supervisor::traffic::Traffic;

/// The traffic of a supervisor that nothing but people ends.
pub(super) fn traffic(source: Box<dyn Source>) -> Traffic {
    let mut traffic = Traffic::new(false);
    traffic.open(source, "sim:");
    traffic
}

impl<S: Script> World<S> {
    // ---- what people and programs do ----

    /// A program enqueues a job.
    pub fn enqueue(&mut self, queue: QueueName, task: Arc<str>, payload: Arc<[u8]>) {
        self.supply.ledger.enqueue(queue, task, payload, self.now.unix);
        self.call_broker();
    }

    /// A program enqueues jobs, and `last`, which runs when all of them have ended, well or not.
    pub fn enqueue_group(&mut self, queue: &QueueName, jobs: Vec<(Arc<str>, Arc<[u8]>)>, last: &str) {
        let now = self.now.unix;
        self.supply.ledger.enqueue_group(queue, jobs, last.into(), now);
        self.call_broker();
    }

    /// The broker can't be reached any more, or again.
    pub fn set_broker_away(&mut self, away: bool) {
        self.supply.is_away = away;
        self.call_broker();
    }

    /// Somebody asks for this. Some ask for what is not there; the fleet tells them so.
    pub fn command(&mut self, command: Command) {
        self.told = true;
        // A job that was to be sent before a pause or a stop is sent.
        self.perform_all();
        self.show(&Seen::Asked(&command));
        let known = self.actions.len();
        _ = self.fleet.command(command, self.now, &mut self.actions);
        self.show_decided(known);
    }

    /// The settings are read again; `new_generation`: the application is loaded again.
    pub fn reload(&mut self, config: Config, new_generation: bool) {
        self.told = true;
        self.show(&Seen::Reload(&config));
        self.config = config;
        let known = self.actions.len();
        self.fleet
            .reload(&self.config, new_generation, self.now, &mut self.actions);
        self.show_decided(known);
    }

    /// `kill -9` of the supervisor, or its exit: everything goes with it, the leases end, another one starts.
    pub fn kill_supervisor(&mut self) {
        self.pending.forget_supervisor();
        self.actions.clear();
        self.events.clear();
        self.templates.clear();
        self.workers.clear();
        self.periods.clear();
        self.fleet = Fleet::new(&self.config, self.rng.u64(..), self.now);
        self.traffic = traffic(self.supply.connect());
        self.start();
    }

    pub(super) fn start(&mut self) {
        self.told = true;
        let scene = Scene {
            now: self.now,
            fleet: &self.fleet,
            workers: &self.workers,
        };
        self.script.see(&scene, &Seen::Start(&self.config));
        self.fleet.start(self.now, &mut self.actions);
        self.perform_all();
    }

    // ---- the loop ----

    pub(super) fn tell(&mut self, event: Event) {
        self.told = true;
        self.show(&Seen::Told(&event));
        let known = self.actions.len();
        self.fleet.on(event, self.now, &mut self.actions);
        self.show_decided(known);
    }

    /// Shows what was decided at this instant.
    fn show_decided(&mut self, known: usize) {
        let scene = Scene {
            now: self.now,
            fleet: &self.fleet,
            workers: &self.workers,
        };
        for action in &self.actions[known..] {
            self.script.see(&scene, &Seen::Decided(action));
        }
    }

    /// Performs what was decided, and says what there is room for.
    pub(super) fn end_turn(&mut self) {
        self.perform_all();
        if self.fleet.never_loaded().is_some() {
            return self.kill_supervisor();
        }
        self.keep_periods();
        if !self.left {
            self.traffic.pump(&self.fleet, self.now.mono);
        }
        if self.supply.has_messages() {
            self.call_broker();
        }
    }

    /// There is something for the broker to do: it looks a moment later, once for all that came until then.
    fn call_broker(&mut self) {
        if !std::mem::replace(&mut self.supply.is_called, true) {
            self.soon(Happening::BrokerActs);
        }
    }

    pub(super) fn broker_acts(&mut self) {
        self.supply.is_called = false;
        let now = self.now.unix;
        for due in self.supply.act(now) {
            self.after(due.since(now) + Duration::from_millis(1), Happening::BrokerActs);
        }
        if !self.supply.is_quiet() {
            self.soon(Happening::HearBroker);
        }
    }

    pub(super) fn hear_broker(&mut self) {
        // Who has left hears nothing.
        while !self.left
            && let Some(event) = self.supply.hear()
        {
            match event {
                source::Event::Delivered { pool, jobs } => {
                    self.traffic.delivered(&pool, &jobs);
                    self.tell(Event::Delivered { pool, jobs });
                }
                // Nothing is decided by it.
                source::Event::Settled { count, late } => self.traffic.settled(count, &late),
                source::Event::Waiting { pool } => {
                    self.traffic.filled(&pool);
                    if self.fleet.asleep(&pool) {
                        self.traffic.told(&pool, true);
                        self.measure(pool, false);
                    } else {
                        self.tell(Event::Waiting { pool });
                    }
                }
                // It says nothing else.
                _ => {}
            }
        }
    }

    // ---- scaling periods ----

    fn keep_periods(&mut self) {
        for pool in self.fleet.pool_names() {
            if self.periods.insert(pool.clone()) {
                self.next_period(pool);
            }
        }
    }

    fn next_period(&mut self, pool: PoolName) {
        match self.fleet.pool_config(&pool).map(|config| config.scaling_period) {
            Some(period) => self.after(period, Happening::Period(pool)),
            None => _ = self.periods.remove(&pool),
        }
    }

    pub(super) fn period(&mut self, pool: PoolName) {
        self.traffic.told(&pool, false);
        self.measure(pool.clone(), false);
        self.next_period(pool);
    }

    /// Counts what waits, weighs the workers, and has the fleet decide.
    pub(super) fn measure(&mut self, pool: PoolName, is_look: bool) {
        let queues = self.fleet.pool_config(&pool).map(|config| config.queues.clone());
        let queues = queues.filter(|_| !self.supply.is_away);
        let backlog = queues.map(|queues| self.supply.ledger.backlog(&queues, self.now.unix));
        let mut workers = Vec::new();
        for (worker, _, _) in self.fleet.pids() {
            let private = self.rng.u64(self.conditions.private_memory.clone());
            let occupied = Occupied {
                pss: private + self.conditions.shared_memory,
                private,
                ..Occupied::default()
            };
            workers.push((worker, occupied));
        }
        let budget = self.conditions.budget;
        let limits = self.fleet.pool_names().into_iter();
        let memory = Memory {
            pss_total: workers.iter().map(|(_, occupied)| occupied.pss).sum(),
            workers,
            limits: limits.filter_map(|pool| Some((pool, budget?))).collect(),
            total_limit: budget.map(|bytes| bytes.saturating_mul(2)),
        };
        self.tell(if is_look {
            Event::Looked {
                pool,
                backlog,
                memory,
            }
        } else {
            Event::Period {
                pool,
                backlog,
                memory,
            }
        });
    }

    // ---- actions ----

    /// Performs what was decided, and what that brought about.
    pub(super) fn perform_all(&mut self) {
        loop {
            let actions = std::mem::take(&mut self.actions);
            self.show(&Seen::Turn(&actions));
            for action in actions {
                self.show(&Seen::Performs(&action));
                self.perform(action);
            }
            let Some(event) = self.events.pop_front() else {
                return;
            };
            self.tell(event);
        }
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::StartTemplate { template, generation } => self.start_template(template, generation),
            Action::StopTemplate { template } => _ = self.ask_template(template, ToTemplate::Stop),
            Action::KillTemplate { template } => self.kill_template(template),
            Action::Fork {
                template,
                worker,
                pool,
            } => self.fork(template, worker, pool),
            Action::Send { worker, execution } => self.send(worker, execution, false),
            Action::SendBatch { worker, executions } => {
                for (at, execution) in executions.iter().enumerate() {
                    self.send(worker, *execution, at + 1 < executions.len());
                }
            }
            Action::Progress(..) => {}
            Action::TakeBack { worker } => self.take_back(worker),
            Action::Peek { worker } => {
                if let Some(link) = self.workers.get(&worker) {
                    let unread = link.unread();
                    self.events.push_back(Event::Peeked { worker, unread });
                }
            }
            Action::Began(begun) => self.traffic.began(begun),
            // Nothing here reads another one's frames.
            Action::Ping { .. } => {}
            Action::Retire { worker } => self.retire(worker),
            Action::Kill { worker } => self.kill(worker),
            Action::Abandon { worker } => self.abandon(worker),
            Action::Look { pool } => self.soon(Happening::Look(pool)),
            Action::Settle(settlement) => self.traffic.settle(settlement),
            Action::Notice(_) | Action::Keep { .. } => {}
            Action::Leave => self.leave(),
        }
    }

    /// It leaves: what is left goes to the broker, which closes.
    fn leave(&mut self) {
        self.left = true;
        // This source has no need to wait.
        let closed = self.traffic.close(Duration::ZERO, self.now.mono).now_or_never();
        assert!(closed.is_some(), "the simulated source closes at once");
        self.call_broker();
    }

    fn start_template(&mut self, id: u64, generation: u64) {
        let template = Template {
            generation,
            alive: true,
            ..Template::default()
        };
        self.templates.insert(id, template);
        let Range { start, end } = self.conditions.pace.load;
        let time = self.between(start, end);
        self.after(time, Happening::TemplateLoads(id));
    }

    /// Whether the template can be told.
    fn ask_template(&mut self, id: u64, what: ToTemplate) -> bool {
        let Some(template) = self.templates.get_mut(&id).filter(|template| template.alive) else {
            return false;
        };
        template.inbox.push_back(what);
        self.soon(Happening::TemplateActs(id));
        true
    }

    fn fork(&mut self, template: u64, worker: u64, pool: PoolName) {
        let generation = self.templates.get(&template).map(|template| template.generation);
        let asked = self.ask_template(template, ToTemplate::Fork(worker));
        match generation.filter(|_| asked) {
            Some(generation) => _ = self.workers.insert(worker, Worker::asked(pool, generation)),
            None => {
                let error = "the template is gone".into();
                self.events.push_back(Event::ForkFailed { worker, error });
            }
        }
    }

    // Of a worker that was reaped since it was decided, nothing is left to act upon.

    fn send(&mut self, id: u64, execution: u64, another_follows: bool) {
        let job = self.fleet.execution(id, execution);
        if let (Some(worker), Some(job)) = (self.workers.get_mut(&id), job) {
            let frame = Frame::new(execution, job, another_follows);
            worker.socket.push_back(frame);
            self.soon(Happening::WorkerActs(id));
        }
    }

    fn take_back(&mut self, worker: u64) {
        if let Some(link) = self.workers.get_mut(&worker) {
            let unread = link.unread();
            link.socket.clear();
            link.torn |= unread.torn;
            self.events.push_back(Event::TakenBack { worker, unread });
        }
    }

    fn retire(&mut self, id: u64) {
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.closed = true;
            self.soon(Happening::WorkerActs(id));
        }
    }

    fn kill(&mut self, id: u64) {
        let Some(worker) = self.workers.get_mut(&id) else {
            return;
        };
        worker.closed = true;
        if worker.process == Process::Alive {
            self.kill_worker(id);
        }
    }

    /// Its lifeline is closed, which kills it if it lives.
    fn abandon(&mut self, id: u64) {
        let link = self.workers.remove(&id);
        let unread = link.map_or_else(Unread::default, |link| link.unread());
        self.events.push_back(Event::Exited {
            worker: id,
            unread,
            how: "ended with its template".into(),
            end: ProcessEnd::default(),
        });
    }
}

//! The supervisor's loop around the real fleet: events in, actions performed, claims, scaling periods.

use std::time::Duration;

use pool::config::{Config, Isolation};
use pool::fleet::{Action, Command, Event, Fleet, Memory, Notice, Unread};
use pool::job::{PoolName, Verdict};

use crate::process::{Frame, Process, Template, ToTemplate, Worker};
use crate::world::{Happening, World};

impl World {
    pub fn boot(&mut self) {
        self.fleet = Fleet::new(&self.config, self.rng.u64(..), self.now);
        self.job_limits.clear();
        self.note_job_limits();
        self.note(|| "a supervisor starts".into());
        self.fleet.start(self.now, &mut self.actions);
        self.turn();
    }

    /// `kill -9` of the supervisor, or its exit: everything goes with it, the leases end, another one starts.
    pub fn supervisor_dies(&mut self) {
        self.note(|| "the supervisor dies".into());
        self.pending
            .retain(|_, happening| matches!(happening, Happening::Arrival | Happening::Fault));
        self.actions.clear();
        self.events.clear();
        self.templates.clear();
        self.workers.clear();
        self.sizes.clear();
        self.renewed = 0;
        self.no_fork_before.clear();
        self.periods.clear();
        self.ledger.lease_ends();
        self.boot();
    }

    pub fn tell(&mut self, event: Event) {
        self.note(|| describe(&event));
        let known = self.actions.len();
        self.fleet.on(event, self.now, &mut self.actions);
        self.decided_since(known);
    }

    /// Looks at what was decided at this instant, which may be performed a little later.
    fn decided_since(&mut self, known: usize) {
        for action in &self.actions[known..] {
            match action {
                Action::Notice(Notice::ForkFailed { pool, retry_in, .. }) => {
                    _ = self
                        .no_fork_before
                        .insert(pool.clone(), self.now.mono + *retry_in);
                }
                Action::Fork { worker, pool, .. } => {
                    let until = self.no_fork_before.get(pool);
                    let early = until.filter(|until| self.now.mono < **until);
                    assert!(
                        early.is_none(),
                        "pool {pool} said that it waits, and forks worker {worker} at once"
                    );
                }
                _ => {}
            }
        }
    }

    pub fn command(&mut self, command: Command) {
        // A job that was to be sent before a pause or a stop is sent.
        self.turn();
        self.note(|| format!("{command:?}"));
        // What a pause took back may go where it was when it ends.
        self.workers
            .values_mut()
            .for_each(|worker| worker.taken_back.clear());
        self.stopping |= matches!(command, Command::Drain { .. } | Command::Stop);
        let known = self.actions.len();
        // Some ask for a pool that is gone; the fleet tells them so.
        _ = self.fleet.command(command, self.now, &mut self.actions);
        self.decided_since(known);
    }

    pub fn reload(&mut self, config: Config, new_generation: bool) {
        self.note(|| {
            format!(
                "reload: pools {:?}, load again: {new_generation}",
                config.pools.keys()
            )
        });
        self.config = config;
        self.note_job_limits();
        // A pool that comes anew has said nothing yet.
        let known = self.fleet.pool_names();
        self.no_fork_before.retain(|pool, _| known.contains(pool));
        let decided = self.actions.len();
        self.fleet
            .reload(&self.config, new_generation, self.now, &mut self.actions);
        self.decided_since(decided);
    }

    fn note_job_limits(&mut self) {
        let fresh = self.config.app.isolation == Isolation::Fresh;
        for (name, pool) in &self.config.pools {
            let limit = if fresh {
                1
            } else {
                pool.max_jobs.unwrap_or(u32::MAX)
            };
            let known = self.job_limits.entry(name.clone()).or_insert(limit);
            *known = limit.max(*known);
        }
    }

    /// Jobs that this worker may begin.
    pub fn max_jobs(&self, worker: u64) -> u32 {
        self.workers
            .get(&worker)
            .and_then(|worker| self.job_limits.get(&worker.pool))
            .copied()
            .unwrap_or(u32::MAX)
    }

    pub fn claim(&mut self) {
        let on_their_way: Vec<PoolName> = self.claims().map(|(pool, _)| pool.clone()).collect();
        for pool in self.fleet.pool_names() {
            let limit = self.fleet.wants(&pool);
            if limit == 0 || self.broker_away || on_their_way.contains(&pool) {
                continue;
            }
            let queues = self
                .fleet
                .pool_config(&pool)
                .map_or(Vec::new(), |config| config.queues.clone());
            let jobs = self.ledger.claim(&queues, limit, self.now.unix);
            if !jobs.is_empty() {
                self.soon(Happening::Delivered(pool, jobs));
            }
        }
    }

    fn claims(&self) -> impl Iterator<Item = (&PoolName, usize)> {
        self.pending.values().filter_map(|happening| match happening {
            Happening::Delivered(pool, jobs) => Some((pool, jobs.len())),
            _ => None,
        })
    }

    pub fn claims_on_the_way(&self) -> usize {
        self.claims().map(|(_, jobs)| jobs).sum()
    }

    pub fn keep_periods(&mut self) {
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

    pub fn period(&mut self, pool: PoolName) {
        let queues = self.fleet.pool_config(&pool).map(|config| config.queues.clone());
        let backlog = queues.map(|queues| self.ledger.backlog(&queues, self.now.unix));
        let pids = self.fleet.pids();
        let mut workers = Vec::new();
        for (worker, _) in pids {
            let private = self.rng.u64(5..40) << 20;
            workers.push((worker, private + (10 << 20), private));
        }
        let memory = Memory {
            pss_total: workers.iter().map(|(_, pss, _)| pss).sum(),
            workers,
            limits: self.budget.map_or_else(Vec::new, |bytes| {
                let pools = self.fleet.pool_names().into_iter();
                pools.map(|pool| (pool, bytes)).collect()
            }),
            total_limit: self.budget.map(|bytes| bytes * 2),
        };
        let backlog = backlog.filter(|_| !self.broker_away);
        self.tell(Event::Period {
            pool: pool.clone(),
            backlog,
            memory,
        });
        self.next_period(pool);
    }

    /// Performs what was decided, and what that brought about.
    pub fn turn(&mut self) {
        loop {
            let paused = self.paused_pools();
            for action in std::mem::take(&mut self.actions) {
                self.perform(action, &paused);
            }
            let Some(event) = self.events.pop_front() else {
                return;
            };
            self.tell(event);
        }
    }

    fn perform(&mut self, action: Action, paused: &[String]) {
        if !matches!(action, Action::Notice(_)) {
            self.note(|| format!("    {}", describe_action(&action)));
        }
        match action {
            Action::StartTemplate { template, generation } => self.start_template(template, generation),
            Action::StopTemplate { template } => _ = self.ask_template(template, ToTemplate::Stop),
            Action::KillTemplate { template } => self.template_dies(template),
            Action::Fork {
                template,
                worker,
                pool,
            } => self.fork(template, worker, pool),
            Action::Send { worker, execution } => self.send(worker, execution, false, paused),
            Action::SendBatch { worker, executions } => {
                for (at, execution) in executions.iter().enumerate() {
                    self.send(worker, *execution, at + 1 < executions.len(), paused);
                }
            }
            Action::TakeBack { worker } => {
                if let Some(link) = self.workers.get_mut(&worker) {
                    let unread = link.unread();
                    link.socket.clear();
                    link.torn |= unread.torn;
                    // Behind a job that has ended meanwhile, they were on a worker that is free.
                    if link.running.is_some() {
                        link.taken_back.extend(&unread.executions);
                    }
                    self.events.push_back(Event::TakenBack { worker, unread });
                }
            }
            // Nothing here reads another one's frames.
            Action::Ping { .. } => {}
            Action::Retire { worker } => self.retire(worker),
            Action::Kill { worker } => self.kill(worker),
            Action::Abandon { worker } => self.abandon(worker),
            Action::Settle(settlement) => {
                if let Verdict::Again { due: Some(due), .. } = settlement.verdict {
                    self.after(
                        due.since(self.now.unix) + Duration::from_millis(1),
                        Happening::Due,
                    );
                }
                self.ledger.settle(settlement);
            }
            Action::Notice(Notice::Renewed { generation }) => self.renewed = generation,
            Action::Notice(_) => {}
            Action::Leave => {
                assert!(self.stopping && !self.left, "it leaves once, and when told to");
                self.left = true;
            }
        }
    }

    fn paused_pools(&self) -> Vec<String> {
        if !self
            .actions
            .iter()
            .any(|action| matches!(action, Action::Send { .. } | Action::SendBatch { .. }))
        {
            return Vec::new();
        }
        let picture = self.fleet.snapshot(self.now);
        let paused = picture.pools.into_iter().filter(|(_, pool)| pool.paused);
        paused.map(|(name, _)| name).collect()
    }

    fn start_template(&mut self, id: u64, generation: u64) {
        let template = Template {
            generation,
            alive: true,
            ..Template::default()
        };
        self.templates.insert(id, template);
        let time = self.between(10_000, 2_000_000);
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
        if self.ask_template(template, ToTemplate::Fork(worker)) {
            let generation = self.templates[&template].generation;
            self.workers.insert(worker, Worker::asked(pool, generation));
        } else {
            let error = "the template is gone".into();
            self.events.push_back(Event::ForkFailed { worker, error });
        }
    }

    // Of a worker that was reaped since it was decided, nothing is left to act upon.

    fn send(&mut self, id: u64, execution: u64, another_follows: bool, paused: &[String]) {
        let (Some(worker), Some(job)) = (self.workers.get_mut(&id), self.fleet.execution(id, execution))
        else {
            return;
        };
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
            !worker.taken_back.contains(&execution),
            "job {execution} goes back to worker {id}, which is as busy as before"
        );
        let pool = worker.pool.as_str();
        assert!(
            !paused.iter().any(|paused| paused == pool),
            "job {execution} is sent, pool {pool} is paused"
        );
        worker.socket.push_back(Frame {
            execution,
            another_follows,
            id: job.job.id.clone(),
            task: job.job.task.to_string(),
            timeout: job.timeout,
            fills_a_packet: job.job.payload.len() > 60_000,
        });
        self.soon(Happening::WorkerActs(id));
    }

    /// Only an idle worker is told to leave: one with a job would lose it or hold the pool up.
    fn retire(&mut self, id: u64) {
        let Some(worker) = self.workers.get_mut(&id) else {
            return;
        };
        let busy = worker.process != Process::Dead && worker.holds().next().is_some();
        assert!(!busy, "worker {id} is busy and told to leave");
        worker.closed = true;
        self.soon(Happening::WorkerActs(id));
    }

    fn kill(&mut self, id: u64) {
        let Some(worker) = self.workers.get_mut(&id) else {
            return;
        };
        worker.closed = true;
        if worker.process == Process::Alive {
            self.worker_dies(id);
        }
    }

    /// Its lifeline is closed, which kills it if it lives.
    fn abandon(&mut self, id: u64) {
        let link = self.workers.remove(&id);
        let unread = link.map_or_else(Unread::default, |link| link.unread());
        let how = "ended with its template".into();
        self.events.push_back(Event::Exited {
            worker: id,
            unread,
            how,
            status: None,
        });
    }
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

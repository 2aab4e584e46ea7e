//! A fleet of one pool with one worker, for tests.

use std::time::Duration;

use crate::broker::Backlog;
use crate::config::RunArgs;
use crate::fleet::{Action, Done, Event, Fleet, Memory, Now};
use crate::job::{Delivery, Job, Outcome, PoolName, QueueName, Token};
use crate::time::{Mono, Unix};
use crate::wire::message::LoadReport;

/// This long after the start of the clocks.
pub(super) fn now(at: Duration) -> Now {
    Now {
        mono: Mono(1_000_000_000) + at,
        unix: Unix(1_700_000_000_000),
    }
}

fn job(number: u64, queue: &QueueName) -> Delivery {
    let job = Job {
        queue: queue.clone(),
        ..Job::sample(&format!("job-{number}"))
    };
    Delivery {
        token: Token(number),
        tells_begin: false,
        job,
    }
}

/// A fleet of one pool with one worker.
pub(super) struct Pooled {
    pub fleet: Fleet,
    pub pool: PoolName,
    queue: QueueName,
    /// The first one.
    worker: u64,
    /// What was decided last.
    pub out: Vec<Action>,
}

impl Pooled {
    /// With these flags beside those that it takes to have one worker, and eight at the most.
    pub fn new(flags: &str) -> Self {
        let one_to_eight = "--broker memory: --socket /s --min-workers 1 --max-workers 8 --target-wait 0s";
        let flags: Vec<&str> = one_to_eight.split(' ').chain(flags.split(' ')).collect();
        let config = crate::config::load(&RunArgs::from_flags(flags).unwrap(), |_| None).unwrap();
        let (pool, settings) = config.pools.first_key_value().unwrap();
        let mut pooled = Pooled {
            fleet: Fleet::new(&config, 1, now(Duration::ZERO)),
            pool: pool.clone(),
            queue: settings.queues[0].clone(),
            worker: 0,
            out: Vec::new(),
        };
        pooled.start();
        pooled
    }

    fn start(&mut self) {
        self.fleet.start(now(Duration::ZERO), &mut self.out);
        let Some(Action::StartTemplate { template, .. }) = self.out.first() else {
            panic!("{:?}", self.out)
        };
        let (template, report) = (*template, LoadReport::default());
        self.on(Event::TemplateReady { template, report }, Duration::ZERO);
        let forked = self.out.iter().find_map(|action| match action {
            Action::Fork { worker, .. } => Some(*worker),
            _ => None,
        });
        let worker = forked.expect("the pool wants a worker");
        self.on(Event::Forked { worker, pid: 1000 }, Duration::ZERO);
        self.on(Event::WorkerReady { worker }, Duration::ZERO);
        self.worker = worker;
    }

    /// What follows is in `out`.
    pub fn on(&mut self, event: Event, at: Duration) {
        self.out.clear();
        self.fleet.on(event, now(at), &mut self.out);
    }

    pub fn deliver(&mut self, numbers: std::ops::Range<u64>, at: Duration) {
        let jobs = numbers.map(|number| job(number, &self.queue)).collect();
        let pool = self.pool.clone();
        self.on(Event::Delivered { pool, jobs }, at);
    }

    /// The first worker ends a job that took so long.
    pub fn done(&mut self, execution: u64, took: Duration, at: Duration) {
        let ended = now(at).mono;
        let done = Done {
            execution,
            started: Mono(ended.0 - took.as_nanos() as u64),
            ended,
            outcome: Outcome::Success(Vec::new()),
            whole_batch: false,
        };
        let worker = self.worker;
        self.on(Event::Done { worker, done }, at);
    }

    /// The broker says that so many wait.
    pub fn looked(&mut self, waiting: u64, at: Duration) {
        let backlog = Some(Backlog {
            by_queue: vec![(self.queue.clone(), waiting)],
            ..Backlog::default()
        });
        let (pool, memory) = (self.pool.clone(), Memory::default());
        self.on(
            Event::Looked {
                pool,
                backlog,
                memory,
            },
            at,
        );
    }

    pub fn source_says_that_a_job_waits(&mut self, at: Duration) {
        let pool = self.pool.clone();
        self.on(Event::Waiting { pool }, at);
    }

    /// How often the broker is asked by what was just decided.
    pub fn questions(&self) -> usize {
        let asks = |action: &&Action| matches!(action, Action::Look { pool } if *pool == self.pool);
        self.out.iter().filter(asks).count()
    }

    pub fn target(&self) -> u32 {
        self.fleet.pools[&self.pool].target()
    }

    pub fn is_open(&self) -> bool {
        self.fleet.is_open_to_looks(&self.pool)
    }
}

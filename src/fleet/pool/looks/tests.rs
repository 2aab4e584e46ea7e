//! When a policy that looks at what waits is asked.

use super::*;
use crate::broker::Backlog;
use crate::config::RunArgs;
use crate::fleet::{Event, Fleet, Memory, Now};
use crate::job::{Delivery, Job, PoolName, QueueName, Token};
use crate::time::Unix;
use crate::wire::message::LoadReport;

/// From one question to the next.
const BETWEEN: Duration = Duration::from_secs(1);

fn now(at: Duration) -> Now {
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
struct Pooled {
    fleet: Fleet,
    pool: PoolName,
    queue: QueueName,
    out: Vec<Action>,
}

impl Pooled {
    fn new(policy: &str) -> Self {
        let flags = "--broker memory: --socket /s --min-workers 1 --max-workers 8 --target-wait 0s --policy";
        let flags: Vec<&str> = flags.split(' ').chain([policy]).collect();
        let config = crate::config::load(&RunArgs::from_flags(flags).unwrap(), |_| None).unwrap();
        let (pool, settings) = config.pools.first_key_value().unwrap();
        let mut pooled = Pooled {
            fleet: Fleet::new(&config, 1, now(Duration::ZERO)),
            pool: pool.clone(),
            queue: settings.queues[0].clone(),
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
    }

    /// What follows is in `out`.
    fn on(&mut self, event: Event, at: Duration) {
        self.out.clear();
        self.fleet.on(event, now(at), &mut self.out);
    }

    fn deliver(&mut self, numbers: std::ops::Range<u64>, at: Duration) {
        let jobs = numbers.map(|number| job(number, &self.queue)).collect();
        let pool = self.pool.clone();
        self.on(Event::Delivered { pool, jobs }, at);
    }

    /// The broker says that so many wait.
    fn looked(&mut self, waiting: u64, at: Duration) {
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

    fn source_says_that_a_job_waits(&mut self, at: Duration) {
        let pool = self.pool.clone();
        self.on(Event::Waiting { pool }, at);
    }

    /// How often the broker is asked by what was just decided.
    fn questions(&self) -> usize {
        let asks = |action: &&Action| matches!(action, Action::Look { pool } if *pool == self.pool);
        self.out.iter().filter(asks).count()
    }

    fn target(&self) -> u32 {
        self.fleet.pools[&self.pool].target()
    }

    fn is_open(&self) -> bool {
        self.fleet.is_open_to_looks(&self.pool)
    }
}

#[test]
fn jobs_left_waiting_at_hand_make_the_pool_grow_at_once() {
    let mut pool = Pooled::new("demand");
    pool.deliver(1..4, Duration::ZERO);
    assert_eq!(pool.target(), 3, "one for each of the two that wait");
    let forks = pool
        .out
        .iter()
        .filter(|action| matches!(action, Action::Fork { .. }));
    assert_eq!(forks.count(), 2, "{:?}", pool.out);
}

#[test]
fn the_broker_is_asked_once_and_again_only_after_a_while() {
    let mut pool = Pooled::new("demand");
    pool.deliver(1..2, Duration::ZERO);
    assert!(pool.is_open() && pool.questions() == 0, "no job is known to wait");
    pool.source_says_that_a_job_waits(Duration::ZERO);
    assert!(!pool.is_open() && pool.questions() == 1);
    pool.source_says_that_a_job_waits(Duration::ZERO);
    assert_eq!(pool.questions(), 0, "it is being asked");

    pool.looked(0, Duration::ZERO);
    assert_eq!(pool.target(), 1);
    pool.source_says_that_a_job_waits(BETWEEN / 2);
    assert_eq!(pool.questions(), 0, "it was asked a moment ago");
    assert_eq!(
        pool.fleet.pools[&pool.pool].look_deadline(),
        Some(now(BETWEEN).mono)
    );

    pool.on(Event::Tick, BETWEEN);
    assert!(pool.is_open(), "and may be asked again");
    pool.source_says_that_a_job_waits(BETWEEN);
    assert_eq!(pool.questions(), 1);
    pool.looked(4, BETWEEN);
    assert_eq!(pool.target(), 5);
    assert!(!pool.is_open(), "those that start are free");
}

#[test]
fn what_is_known_to_wait_at_the_broker_is_enough_for_a_look() {
    let mut pool = Pooled::new("demand");
    pool.deliver(1..2, Duration::ZERO);
    pool.source_says_that_a_job_waits(Duration::ZERO);
    pool.looked(1, Duration::ZERO);
    assert_eq!(pool.target(), 2, "one waits");
    pool.deliver(2..3, BETWEEN / 10);
    assert_eq!(
        (pool.target(), pool.questions()),
        (2, 0),
        "it came: none is known to wait"
    );
}

#[test]
fn a_policy_that_does_not_look_is_told_nothing() {
    let mut pool = Pooled::new("utilization");
    pool.deliver(1..4, Duration::ZERO);
    assert!(!pool.is_open() && pool.questions() == 0);
    assert_eq!(pool.fleet.pools[&pool.pool].look_deadline(), None);
    pool.source_says_that_a_job_waits(Duration::ZERO);
    assert_eq!((pool.target(), pool.questions()), (1, 0));
}

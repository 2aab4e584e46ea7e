//! How a policy that looks at what waits is asked.

use super::*;
use crate::broker::Backlog;
use crate::config::RunArgs;
use crate::fleet::{Event, Fleet, Memory, Now};
use crate::job::{Delivery, Job, JobId, Loss, PoolName, Token, Work};
use crate::policy::scaling::wish::Term;
use crate::time::Unix;
use crate::wire::message::LoadReport;

const LOOK: Duration = Duration::from_secs(1);

/// One worker for each job that waits, if nobody is free.
#[derive(Debug)]
struct Eager;

impl ScalingPolicy for Eager {
    fn look_after(&self, load: &Load) -> Option<Duration> {
        (load.waiting > 0 && load.busy == load.workers).then_some(LOOK)
    }

    fn look(&mut self, sample: &Sample) -> Wish {
        let waiting = u32::try_from(sample.waiting).unwrap_or(u32::MAX);
        Wish::of(Term::Clears, sample.busy + waiting, Reason::JobsWaiting)
    }

    fn period(&mut self, sample: &Sample) -> Wish {
        Wish::stay(sample)
    }
}

fn now(at: Duration) -> Now {
    Now {
        mono: Mono(1_000_000_000) + at,
        unix: Unix(1_700_000_000_000),
    }
}

fn job(number: u64, queue: &crate::job::QueueName) -> Delivery {
    let job = Job {
        id: JobId::new(&format!("job-{number}")).unwrap(),
        queue: queue.clone(),
        task: "noop".into(),
        kind: 0,
        payload: Vec::new().into(),
        timeout: None,
        retries: None,
        retry_after: None,
        loss: Loss::RunsAgain,
        work: Work::Job,
        batches: true,
        failures: 0,
        losses: 0,
        ready: Unix(0),
    };
    Delivery {
        token: Token(number),
        tells_begin: false,
        job,
    }
}

/// A fleet of one worker, with a policy that is eager; its one pool.
fn fleet() -> (Fleet, PoolName, Vec<Action>) {
    let flags = [
        "--broker",
        "memory:",
        "--socket",
        "/s",
        "--min-workers",
        "1",
        "--max-workers",
        "8",
    ];
    let config = crate::config::load(&RunArgs::from_flags(flags).unwrap(), |_| None).unwrap();
    let mut fleet = Fleet::new(&config, 1, now(Duration::ZERO));
    let pool = config.pools.keys().next().unwrap().clone();
    fleet.pools.get_mut(&pool).unwrap().size.policy = Box::new(Eager);
    let (at, mut out) = (now(Duration::ZERO), Vec::new());
    fleet.start(at, &mut out);
    let Some(Action::StartTemplate { template, .. }) = out.first() else {
        panic!("{out:?}")
    };
    let (template, report) = (*template, LoadReport::default());
    fleet.on(Event::TemplateReady { template, report }, at, &mut out);
    let forked = out.iter().find_map(|action| match action {
        Action::Fork { worker, .. } => Some(*worker),
        _ => None,
    });
    let worker = forked.expect("the pool wants a worker");
    fleet.on(Event::Forked { worker, pid: 1000 }, at, &mut out);
    fleet.on(Event::WorkerReady { worker }, at, &mut out);
    out.clear();
    (fleet, pool, out)
}

#[test]
fn a_job_left_waiting_has_its_policy_look_and_grow_the_pool_at_once() {
    let (mut fleet, pool, mut out) = fleet();
    let queue = fleet.pool_config(&pool).unwrap().queues[0].clone();
    let jobs = (1..4).map(|number| job(number, &queue)).collect();
    let delivered = Event::Delivered {
        pool: pool.clone(),
        jobs,
    };
    let before = fleet.next_deadline();
    fleet.on(delivered, now(Duration::ZERO), &mut out);
    assert_ne!(fleet.next_deadline(), before);
    out.clear();
    fleet.on(Event::Tick, now(LOOK), &mut out);
    let looks = |action: &Action| matches!(action, Action::Look { pool: of } if *of == pool);
    assert_eq!(out.iter().filter(|action| looks(action)).count(), 1, "{out:?}");

    out.clear();
    let looked = Event::Looked {
        pool: pool.clone(),
        backlog: Some(Backlog {
            waiting: 4,
            ..Backlog::default()
        }),
        memory: Memory::default(),
    };
    fleet.on(looked, now(LOOK), &mut out);
    let forks = out.iter().filter(|action| matches!(action, Action::Fork { .. }));
    assert_eq!((forks.count(), fleet.pools[&pool].target()), (4, 5), "{out:?}");
}

#[test]
fn where_no_job_waits_nobody_looks() {
    let (mut fleet, pool, mut out) = fleet();
    let queue = fleet.pool_config(&pool).unwrap().queues[0].clone();
    let delivered = Event::Delivered {
        pool: pool.clone(),
        jobs: vec![job(1, &queue)],
    };
    fleet.on(delivered, now(Duration::ZERO), &mut out);
    assert_eq!(fleet.pools[&pool].size.look_deadline(), None);
}

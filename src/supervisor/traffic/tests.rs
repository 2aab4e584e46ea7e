use std::sync::Mutex;

use futures_util::future::BoxFuture;

use super::*;
use crate::broker::memory::MemoryBroker;
use crate::broker::parts::turns::Turns;
use crate::broker::{Broker, Pull};
use crate::config::{self, RunArgs};
use crate::fleet::{Done, Event, Now};
use crate::job::{Claimed, NewJob, Outcome, QueueName, RunStamp};
use crate::time::Unix;
use crate::wire::message::LoadReport;

const MS: Duration = Duration::from_millis(1);

/// What a source was told.
#[derive(Debug, Default)]
struct Heard {
    demands: Vec<Demand>,
    /// Sizes of the batches of outcomes.
    batches: Vec<usize>,
}

/// A source that only listens.
#[derive(Debug)]
struct Listener(Arc<Mutex<Heard>>);

impl Source for Listener {
    fn demand(&mut self, demand: Demand) {
        self.0.lock().unwrap().demands.push(demand);
    }

    fn began(&mut self, _begun: Vec<Begun>) {}

    fn settle(&mut self, outcomes: Vec<Settlement>) {
        self.0.lock().unwrap().batches.push(outcomes.len());
    }

    fn close(self: Box<Self>, _within: Duration) -> BoxFuture<'static, usize> {
        Box::pin(async { 0 })
    }
}

/// A fleet of one worker that was given jobs, and the traffic with their source.
struct World {
    fleet: Fleet,
    traffic: Traffic,
    heard: Arc<Mutex<Heard>>,
    deliveries: std::vec::IntoIter<Delivery>,
    pool: PoolName,
    start: Mono,
}

impl World {
    async fn with_jobs(count: usize) -> Self {
        let flags = [
            "--broker",
            "memory:",
            "--socket",
            "/s",
            "--max-workers",
            "1",
            "--min-workers",
            "1",
        ];
        let config = config::load(&RunArgs::from_flags(flags).unwrap(), |_| None).unwrap();
        let broker = MemoryBroker::new(&config.broker.memory());
        let (pool, settings) = config.pools.first_key_value().unwrap();
        let queue: &QueueName = &settings.queues[0];
        let new = (0..count)
            .map(|_| NewJob::new(queue.clone(), "noop", ""))
            .collect();
        broker.producer().unwrap().enqueue(new).await.unwrap();
        let claimed = broker
            .claim(&settings.queues, Turns::Strict, count)
            .await
            .unwrap();
        assert_eq!(claimed.len(), count);
        let delivery = |(claimed, token): (Claimed, u64)| Delivery {
            token: Token(token),
            tells_begin: false,
            job: claimed.job,
        };
        let delivered: Vec<Delivery> = claimed.into_iter().zip(1..).map(delivery).collect();

        let now = Now {
            mono: Mono(1_000_000_000),
            unix: Unix(1_700_000_000_000),
        };
        let mut fleet = Fleet::new(&config, 1, now);
        let mut out = Vec::new();
        fleet.start(now, &mut out);
        let report = LoadReport::default();
        let given = Event::Delivered {
            pool: pool.clone(),
            jobs: delivered.clone(),
        };
        let template = 1;
        for event in [
            Event::TemplateReady { template, report },
            Event::WorkerReady { worker: 1 },
            given,
        ] {
            fleet.on(event, now, &mut out);
        }
        let heard = Arc::new(Mutex::new(Heard::default()));
        let source = Box::new(Listener(heard.clone()));
        let mut traffic = Traffic::new(false);
        traffic.open(source, "memory:");
        traffic.delivered(pool, &delivered);
        traffic.pump(&fleet, now.mono);
        World {
            pool: pool.clone(),
            fleet,
            traffic,
            heard,
            deliveries: delivered.into_iter(),
            start: now.mono,
        }
    }

    /// Worker 1 has ended a job.
    fn ends(&mut self, after: Duration) {
        let run = RunStamp {
            worker: 1,
            ordinal: 1,
            started: Unix(0),
            ended: Unix(0),
            death: None,
        };
        self.settles(Verdict::Finish { result: Vec::new() }, Some(run), after);
    }

    fn settles(&mut self, verdict: Verdict, run: Option<RunStamp>, after: Duration) {
        let of = self.deliveries.next().unwrap().token;
        self.traffic.settle(Settlement { of, verdict, run });
        self.pump(after);
    }

    fn pump(&mut self, after: Duration) {
        self.traffic.pump(&self.fleet, self.start + after);
    }

    /// The batches that the source was given since this was asked last.
    fn batches(&self) -> Vec<usize> {
        std::mem::take(&mut self.heard.lock().unwrap().batches)
    }

    /// What the source was told since this was asked last.
    fn demands(&self) -> Vec<Demand> {
        std::mem::take(&mut self.heard.lock().unwrap().demands)
    }
}

#[tokio::test]
async fn under_a_backlog_outcomes_go_together_a_moment_after_the_last_ones() {
    let mut world = World::with_jobs(5).await;
    world.ends(Duration::ZERO);
    assert_eq!(world.batches(), [1], "the first one goes at once");
    world.ends(2 * MS);
    world.ends(4 * MS);
    assert_eq!((world.batches(), world.traffic.unsettled()), (vec![], 3));
    assert_eq!(
        world.traffic.next_deadline(),
        Some(world.start + settling::PATIENCE)
    );
    world.pump(settling::PATIENCE);
    assert_eq!(world.batches(), [2]);
    world.traffic.settled(3, &[]);
    assert!(world.traffic.all_settled());
}

#[tokio::test]
async fn without_a_backlog_an_outcome_waits_for_nothing() {
    let mut world = World::with_jobs(2).await;
    let now = Now {
        mono: world.start,
        unix: Unix(1_700_000_000_000),
    };
    // The worker is sent the second job then: none waits at hand.
    let done = Done {
        execution: 1,
        started: world.start,
        ended: world.start,
        outcome: Outcome::Success(Vec::new()),
        whole_batch: false,
    };
    world
        .fleet
        .on(Event::Done { worker: 1, done }, now, &mut Vec::new());
    world.ends(Duration::ZERO);
    assert_eq!(world.batches(), [1]);
    world.ends(2 * MS);
    assert_eq!(world.batches(), [1]);
}

#[tokio::test]
async fn a_job_that_is_given_back_waits_for_nothing() {
    let mut world = World::with_jobs(5).await;
    world.ends(Duration::ZERO);
    world.ends(2 * MS);
    assert_eq!(world.batches(), [1]);
    world.settles(Verdict::GiveBack, None, 3 * MS);
    assert_eq!(world.batches(), [2]);
}

#[tokio::test]
async fn a_demand_is_said_when_it_changes() {
    let mut world = World::with_jobs(0).await;
    let said = world.demands();
    assert_eq!((said.len(), said[0].credit, said[0].jobs), (1, 1, 1));
    world.pump(MS);
    assert_eq!(world.demands(), []);
    world.traffic.take_no_more_than(0, &world.pool);
    world.pump(2 * MS);
    let said = world.demands();
    assert_eq!((said.len(), said[0].credit), (1, 1));
    assert_eq!(said[0].jobs, 0, "only after-work may come");
}

#[tokio::test]
async fn emptiness_is_believed_by_its_numbers() {
    let mut world = World::with_jobs(2).await;
    let pools = [world.pool.clone()];
    world.traffic.emptied(&pools[0], 2, 0);
    assert!(world.traffic.all_empty(&pools));
    world.ends(Duration::ZERO);
    assert!(
        !world.traffic.all_empty(&pools),
        "an outcome may have let others go"
    );
    world.traffic.settled(1, &[]);
    world.traffic.emptied(&pools[0], 1, 1);
    assert!(!world.traffic.all_empty(&pools), "a delivery was on its way");
    world.traffic.emptied(&pools[0], 2, 1);
    assert!(world.traffic.all_empty(&pools));
}

#[test]
fn one_failure_is_told_once_and_over_when_all_works_again() {
    let source = Box::new(Listener(Arc::default()));
    let mut traffic = Traffic::new(false);
    traffic.open(source, "memory:");
    let error = BrokerError::Refused("no".into());
    traffic.trouble("claim jobs", &error);
    traffic.trouble("settle outcomes", &error);
    traffic.well("claim jobs");
    assert_eq!(traffic.error().as_deref(), Some("no"));
    traffic.well("settle outcomes");
    assert_eq!(traffic.error(), None);
    assert_eq!(traffic.calls().failures, 2);
}

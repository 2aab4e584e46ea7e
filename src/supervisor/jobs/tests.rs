use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::*;
use crate::broker;
use crate::config::{self, RunArgs};
use crate::fleet::{Done, Event, Now};
use crate::job::{NewJob, Outcome, RunStamp};
use crate::time::Unix;
use crate::wire::message::LoadReport;

const MS: Duration = Duration::from_millis(1);

/// A fleet of one worker that was given jobs, and the traffic with their broker.
struct World {
    fleet: Fleet,
    jobs: Jobs,
    inputs: UnboundedReceiver<Input>,
    claims: std::vec::IntoIter<Claimed>,
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
        let broker = broker::open(&config.broker).await.unwrap();
        let (pool, settings) = config.pools.first_key_value().unwrap();
        let queue = &settings.queues[0];
        let new = (0..count)
            .map(|_| NewJob::new(queue.clone(), "noop", ""))
            .collect();
        broker.producer().unwrap().enqueue(new).await.unwrap();
        let claimed = broker.claim(&settings.queues, count).await.unwrap();
        assert_eq!(claimed.len(), count);

        let now = Now {
            mono: Mono(1_000_000_000),
            unix: Unix(1_700_000_000_000),
        };
        let mut fleet = Fleet::new(&config, 1, now);
        let mut out = Vec::new();
        fleet.start(now, &mut out);
        let report = LoadReport::default();
        let given = Event::Claimed {
            pool: pool.clone(),
            jobs: claimed.clone(),
        };
        let template = 1;
        for event in [
            Event::TemplateReady { template, report },
            Event::WorkerReady { worker: 1 },
            given,
        ] {
            fleet.on(event, now, &mut out);
        }
        let (sender, inputs) = unbounded_channel();
        World {
            fleet,
            jobs: Jobs::new(broker, Duration::from_secs(10), sender),
            inputs,
            claims: claimed.into_iter(),
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
        let claim = self.claims.next().unwrap().claim;
        self.jobs.settle(Settlement { claim, verdict, run });
        self.jobs.pump(&self.fleet, self.start + after);
    }

    /// The broker has taken what went to it; returns how many outcomes.
    async fn settled(&mut self, after: Duration) -> usize {
        loop {
            if let Input::Settled { settlements, result } = self.inputs.recv().await.unwrap() {
                let count = settlements.len();
                assert!(result.as_ref().unwrap().iter().all(|held| *held));
                self.jobs.settled(settlements, result, self.start + after);
                return count;
            }
        }
    }
}

#[tokio::test]
async fn under_a_backlog_outcomes_go_together_a_moment_after_the_last_ones() {
    let mut world = World::with_jobs(5).await;
    world.ends(Duration::ZERO);
    assert_eq!(world.settled(MS).await, 1, "the first one goes at once");
    world.ends(2 * MS);
    world.ends(4 * MS);
    assert_eq!(world.jobs.unsettled(), 2);
    assert_eq!(world.jobs.next_deadline(), Some(world.start + settling::PATIENCE));
    world.jobs.pump(&world.fleet, world.start + settling::PATIENCE);
    assert_eq!(world.settled(11 * MS).await, 2);
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
    assert_eq!(world.settled(MS).await, 1);
    world.ends(2 * MS);
    assert_eq!(world.settled(3 * MS).await, 1);
}

#[tokio::test]
async fn a_job_that_is_given_back_waits_for_nothing() {
    let mut world = World::with_jobs(5).await;
    world.ends(Duration::ZERO);
    assert_eq!(world.settled(MS).await, 1);
    world.ends(2 * MS);
    let back = Verdict::Requeue {
        due: None,
        at_front: true,
        failures: 0,
        losses: 0,
        error: None,
    };
    world.settles(back, None, 3 * MS);
    assert_eq!(world.settled(4 * MS).await, 2);
}

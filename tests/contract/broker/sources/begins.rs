//! Rules of deliveries on a channel: when they are acknowledged, and what becomes of them when it is lost.

use std::collections::BTreeSet;
use std::time::Duration;

use pool::broker::source::Event;
use pool::job::{Delivery, Token};
use tokio::time::timeout;

use super::fed::{Fed, add, ids_of};
use super::store::Store;
use crate::broker::kit::{finish, give_back};

/// Jobs of the rule with a random order, and how many its supervisor has room for.
const JOBS: u32 = 20;
const ROOM: usize = 4;

fn recall(event: Event) -> Option<Token> {
    match event {
        Event::Recall { token } => Some(token),
        _ => None,
    }
}

/// A channel that breaks: what was delivered on it and has not begun goes back, and comes again.
pub async fn what_was_delivered_on_a_lost_channel_comes_again(store: &dyn Store) {
    let server = store.channels();
    let producer = store.handle().await;
    add(&producer, 0..2, "default").await;
    let mut fed = Fed::over(store.handle().await).await;
    fed.want(&["default"], 2);
    let lost = fed.jobs(2).await;
    fed.want(&["default"], 2);
    server.close_channels();
    for job in &lost {
        assert_eq!(fed.first(recall).await, job.token);
    }
    fed.settle(&lost, &give_back());
    let again = fed.jobs(2).await;
    assert_eq!(ids_of(&again), ids_of(&lost));
    assert_ne!(again[0].token, lost[0].token);
    fed.settle(&again, &finish());
    fed.empty().await;
    assert_eq!(fed.all_settled().await, [], "in time");
    assert_eq!(server.counts(), (0, 0));
    assert!(server.has_ended("00000"));
}

pub async fn an_early_ack_comes_with_the_begin(store: &dyn Store) {
    let server = store.channels();
    server.acknowledge_early();
    let producer = store.handle().await;
    add(&producer, 0..2, "default").await;
    let mut fed = Fed::over(store.handle().await).await;
    fed.want(&["default"], 2);
    let jobs = fed.jobs(2).await;
    assert_eq!(server.counts(), (0, 2), "nothing has begun");
    fed.began(&jobs[0]);
    fed.pause();
    fed.settle(&jobs[1..], &give_back());
    while !matches!(fed.next().await, Event::Settled { count: 1, .. }) {}
    assert!(server.was_acked_early("00000") && !server.was_acked_early("00001"));
    assert_eq!(
        server.counts(),
        (1, 0),
        "what was acknowledged is not the server's any more"
    );
    server.close_channels();
    fed.settle(&jobs[..1], &finish());
    assert_eq!(fed.settlement().await, (1, vec![]));
    assert!(server.has_ended("00000"));
}

pub async fn a_lost_channel_recalls_the_unbegun(store: &dyn Store) {
    let server = store.channels();
    let producer = store.handle().await;
    add(&producer, 0..2, "default").await;
    let mut fed = Fed::over(store.handle().await).await;
    fed.want(&["default"], 2);
    let lost = fed.jobs(2).await;
    fed.began(&lost[0]);
    fed.want(&["default"], 2);
    server.close_channels();
    let token = fed.first(recall).await;
    assert_eq!(token, lost[1].token, "what has begun waits for its copy");
    fed.settle(&lost[1..], &give_back());
    let again = fed.jobs(1).await;
    assert_eq!(ids_of(&again), ["00001"]);
    assert!(again[0].token > lost[1].token);
}

pub async fn a_copy_of_what_runs_waits_for_it(store: &dyn Store) {
    let server = store.channels();
    let producer = store.handle().await;
    add(&producer, 0..2, "default").await;
    let mut fed = Fed::over(store.handle().await).await;
    fed.want(&["default"], 1);
    let runs = fed.jobs(1).await;
    fed.began(&runs[0]);
    fed.want(&["default"], 1);
    server.close_channels();
    // Its copy is not delivered, and takes no room.
    let next = fed.jobs(1).await;
    assert_eq!(ids_of(&next), ["00001"]);
    fed.settle(&runs, &finish());
    fed.settle(&next, &finish());
    while !server.has_ended("00000") || !server.has_ended("00001") {
        assert_eq!(fed.settlement().await.1, []);
    }
    fed.want(&["default"], 1);
    fed.empty().await;
    assert_eq!(server.counts(), (0, 0));
}

/// A job that a supervisor has.
struct InHand {
    delivery: Delivery,
    is_recalled: bool,
    has_begun: bool,
}

/// A supervisor that does one thing after another in a random order.
struct Random {
    fed: Fed,
    jobs: Vec<InHand>,
    ended: BTreeSet<String>,
    rng: fastrand::Rng,
}

impl Random {
    /// Takes in what has come, and says what room there is.
    async fn hear(&mut self) {
        while let Ok(event) = timeout(Duration::from_millis(5), self.fed.next()).await {
            match event {
                Event::Delivered { jobs, .. } => jobs.into_iter().for_each(|job| self.take(job)),
                Event::Recall { token } => {
                    let of_it = |job: &&mut InHand| job.delivery.token == token;
                    if let Some(job) = self.jobs.iter_mut().find(of_it) {
                        assert!(!job.has_begun && !job.is_recalled);
                        job.is_recalled = true;
                    }
                }
                _ => {}
            }
        }
        let room = ROOM.saturating_sub(self.jobs.len());
        self.fed.want(&["default"], u32::try_from(room).unwrap());
    }

    fn take(&mut self, delivery: Delivery) {
        let id = delivery.job.id.as_str();
        let has = self.jobs.iter().any(|job| job.delivery.job.id == delivery.job.id);
        assert!(!has, "{id} is in hand, and comes again");
        assert!(!self.ended.contains(id), "{id} has ended, and comes again");
        self.jobs.push(InHand {
            delivery,
            is_recalled: false,
            has_begun: false,
        });
    }

    /// A worker may have read what is recalled: its begin is told, or its end, or it goes back.
    fn act(&mut self) {
        let Some(at) = (!self.jobs.is_empty()).then(|| self.rng.usize(..self.jobs.len())) else {
            return;
        };
        let job = &mut self.jobs[at];
        match self.rng.u8(0..3) {
            0 if !job.has_begun => {
                job.has_begun = true;
                self.fed.began(&job.delivery);
            }
            1 if job.is_recalled && !job.has_begun => {
                let job = self.jobs.remove(at);
                self.fed.settle(&[job.delivery], &give_back());
            }
            2 => self.end(at),
            _ => {}
        }
    }

    fn end(&mut self, at: usize) {
        let job = self.jobs.remove(at);
        self.ended.insert(job.delivery.job.id.to_string());
        self.fed.settle(&[job.delivery], &finish());
    }
}

/// Begins, ends, recalls and lost channels in a random order: no job is given out while somebody has it.
pub async fn a_job_is_in_one_hand_whenever_channels_break(store: &dyn Store) {
    let server = store.channels();
    let producer = store.handle().await;
    add(&producer, 0..JOBS, "default").await;
    let mut random = Random {
        fed: Fed::over(store.handle().await).await,
        jobs: Vec::new(),
        ended: BTreeSet::new(),
        rng: fastrand::Rng::with_seed(1),
    };
    for turn in 0..10 * JOBS {
        random.hear().await;
        random.act();
        if turn % 8 == 0 && turn < 5 * JOBS {
            server.close_channels();
        }
    }
    while random.ended.len() < JOBS as usize {
        random.hear().await;
        (0..random.jobs.len()).rev().for_each(|at| random.end(at));
    }
    assert_eq!(random.fed.all_settled().await, [], "in time");
    assert_eq!(server.counts(), (0, 0));
    for job in 0..JOBS {
        assert!(server.has_ended(&format!("{job:05}")));
    }
}

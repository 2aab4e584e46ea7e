//! Rules of demand and delivery: what comes when there is room, and what is said when nothing is left.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use pool::broker::Broker;
use pool::broker::Canceled;
use pool::broker::source::{Demand, Event, StopHow};
use pool::job::{Delivery, JobError, JobId, QueueOrder, Verdict, Work};

use super::fed::{Fed, add, demand};
use super::store::Store;
use crate::broker::kit::{self, finish, give_back, queue, soon};

pub async fn what_waits_comes_at_once(store: &dyn Store) {
    let producer = store.handle().await;
    add(&producer, 0..3, "default").await;
    let mut fed = Fed::over(store.handle().await).await;
    fed.want(&["default"], 9);
    assert_eq!(fed.ids(3).await, ["00000", "00001", "00002"]);
}

pub async fn a_later_job_comes_by_itself(store: &dyn Store) {
    let producer = store.handle().await;
    let mut fed = Fed::over(store.handle().await).await;
    fed.want(&["default"], 9);
    fed.empty().await;
    for number in 0..5 {
        add(&producer, number..number + 1, "default").await;
        assert_eq!(fed.ids(1).await, [format!("{number:05}")]);
    }
}

pub async fn no_more_than_the_credit_comes(store: &dyn Store) {
    let producer = store.handle().await;
    add(&producer, 0..5, "default").await;
    let mut fed = Fed::over(store.handle().await).await;
    fed.want(&["default"], 2);
    assert_eq!(fed.ids(2).await, ["00000", "00001"]);
    // What more came would be ahead of these.
    fed.want(&["default"], 1);
    assert_eq!(fed.ids(1).await, ["00002"]);
    assert_eq!(waiting(&producer).await, 2);
}

pub async fn credit_said_twice_counts_once(store: &dyn Store) {
    let producer = store.handle().await;
    add(&producer, 0..5, "default").await;
    let mut fed = Fed::over(store.handle().await).await;
    for _ in 0..3 {
        fed.want(&["default"], 2);
    }
    assert_eq!(fed.ids(2).await.len(), 2);
    fed.want(&["default"], 1);
    assert_eq!(fed.ids(1).await, ["00002"]);
    assert_eq!(waiting(&producer).await, 2);
}

pub async fn a_lower_credit_takes_nothing_more(store: &dyn Store) {
    let producer = store.handle().await;
    let mut fed = Fed::over(store.handle().await).await;
    fed.want(&["default"], 5);
    fed.empty().await;
    fed.want(&["default"], 0);
    let mut other = Fed::over(store.handle().await).await;
    other.want(&["default"], 9);
    other.empty().await;
    add(&producer, 0..3, "default").await;
    assert_eq!(other.ids(3).await, ["00000", "00001", "00002"]);
}

pub async fn without_credit_nothing_is_held(store: &dyn Store) {
    let producer = store.handle().await;
    add(&producer, 0..3, "default").await;
    let mut fed = Fed::over(store.handle().await).await;
    fed.want(&["default"], 0);
    let mut other = Fed::over(store.handle().await).await;
    other.want(&["default"], 9);
    assert_eq!(other.ids(3).await.len(), 3);
}

pub async fn two_pools_share_a_queue(store: &dyn Store) {
    let producer = store.handle().await;
    let mut fed = Fed::over(store.handle().await).await;
    fed.source.demand(demand("one", &["default"], 2));
    fed.source.demand(demand("other", &["default"], 2));
    fed.credit = 4;
    add(&producer, 0..5, "default").await;
    let mut of_pool = BTreeMap::new();
    let mut count = 0;
    while count < 4 {
        let event = soon(fed.events.recv()).await.unwrap();
        if let Event::Delivered { pool, jobs } = event {
            let jobs = jobs.iter().filter(|job| job.job.work == Work::Job).count();
            *of_pool.entry(pool.to_string()).or_insert(0) += jobs;
            count += jobs;
            if jobs == 0 {
                return; // after-work took the room of a pool, which is not what this is about
            }
        }
    }
    assert_eq!(of_pool.values().copied().collect::<Vec<_>>(), [2, 2]);
}

/// Strict, in turn and at random: for each job of one large take, and on from there with the next.
pub async fn each_order_holds_in_one_take(store: &dyn Store) {
    let producer = store.handle().await;
    let queues = ["a", "b", "c"];
    let mut fed = Fed::over(store.handle().await).await;
    // Its name is the queue that each job came from.
    let served = |jobs: &[Delivery]| -> String { jobs.iter().map(|job| job.job.queue.as_str()).collect() };
    for (order, first, then) in [
        (QueueOrder::Strict, "aaabbcccc", "aabc"),
        (QueueOrder::RoundRobin, "abcabcacc", "abca"),
    ] {
        fill(&producer, &[("a", 3), ("b", 2), ("c", 4)]).await;
        fed.want_in(order, &queues, 9);
        let jobs = fed.jobs(9).await;
        assert_eq!(served(&jobs), first, "{order:?}");
        fed.settle(&jobs, &finish());
        fed.want_in(order, &queues, 0);
        fill(&producer, &[("a", 2), ("b", 1), ("c", 1)]).await;
        // The last was of c: the next turn is a's. One at a time it goes on as it does at once.
        let mut one_by_one = String::new();
        for _ in 0..4 {
            fed.want_in(order, &queues, 1);
            let jobs = fed.jobs(1).await;
            one_by_one.push_str(&served(&jobs));
            fed.settle(&jobs, &finish());
        }
        assert_eq!(one_by_one, then, "{order:?}");
    }
    fed.want_in(QueueOrder::Random, &queues, 0);
    fill(&producer, &[("a", 40), ("c", 40)]).await;
    fed.want_in(QueueOrder::Random, &queues, 40);
    let jobs = fed.jobs(40).await;
    let served = served(&jobs);
    let changes = served
        .as_bytes()
        .windows(2)
        .filter(|pair| pair[0] != pair[1])
        .count();
    // 39 draws with fewer than 4 changes come once in fifty million times.
    assert!(changes >= 4, "no draw for each job: {served}");
    for queue in ["a", "c"] {
        let of_queue = jobs.iter().filter(|job| job.job.queue.as_str() == queue);
        assert!(
            of_queue.map(|job| &job.job.id).is_sorted(),
            "the oldest of a queue first"
        );
    }
}

pub async fn other_queues_replace_the_first(store: &dyn Store) {
    let producer = store.handle().await;
    let mut fed = Fed::over(store.handle().await).await;
    fed.want(&["default"], 9);
    fed.empty().await;
    fed.want(&["other"], 9);
    add(&producer, 0..1, "other").await;
    assert_eq!(fed.ids(1).await, ["00000"]);
    add(&producer, 1..2, "default").await;
    add(&producer, 2..3, "other").await;
    assert_eq!(fed.ids(1).await, ["00002"]);
    assert_eq!(waiting(&producer).await, 1);
}

pub async fn a_pool_without_workers_is_told_once(store: &dyn Store) {
    let producer = store.handle().await;
    let mut fed = Fed::over(store.handle().await).await;
    let asleep = Demand {
        wake: true,
        tell_empty: false,
        ..demand("default", &["default"], 0)
    };
    fed.source.demand(asleep);
    add(&producer, 0..2, "default").await;
    while !matches!(fed.next().await, Event::Waiting { .. }) {}
    add(&producer, 2..3, "default").await;
    fed.want(&["default"], 9);
    let mut jobs = 0;
    while jobs < 3 {
        match fed.next().await {
            Event::Delivered { jobs: came, .. } => jobs += came.len(),
            Event::Waiting { .. } => panic!("it was told before"),
            _ => {}
        }
    }
}

pub async fn a_pool_without_room_hears_that_more_came(store: &dyn Store) {
    let producer = store.handle().await;
    let mut fed = Fed::over(store.handle().await).await;
    fed.want(&["default"], 2);
    fed.empty().await;
    fed.want(&["default"], 0);
    add(&producer, 0..1, "default").await;
    loop {
        match fed.next().await {
            Event::Waiting { .. } => return,
            // It was on its way when the room fell.
            Event::Delivered { jobs, .. } => fed.settle(&jobs, &give_back()),
            _ => {}
        }
    }
}

pub async fn empty_follows_the_last_settlement(store: &dyn Store) {
    let producer = store.handle().await;
    add(&producer, 0..2, "default").await;
    let mut fed = Fed::over(store.handle().await).await;
    fed.want(&["default"], 9);
    let jobs = fed.jobs(2).await;
    fed.settle(&jobs[..1], &give_back());
    let again = fed.jobs(1).await;
    fed.settle(&jobs[1..], &finish());
    fed.settle(&again, &finish());
    fed.empty().await;
}

pub async fn what_is_given_back_comes_again_in_its_order(store: &dyn Store) {
    let producer = store.handle().await;
    add(&producer, 0..4, "default").await;
    let mut fed = Fed::over(store.handle().await).await;
    fed.want(&["default"], 3);
    let jobs = fed.jobs(3).await;
    fed.settle(&jobs, &give_back());
    while !matches!(fed.next().await, Event::Settled { count: 3, .. }) {}
    fed.want(&["default"], 9);
    assert_eq!(fed.ids(4).await, ["00000", "00001", "00002", "00003"]);
}

pub async fn a_paused_pool_holds_nothing(store: &dyn Store) {
    let producer = store.handle().await;
    add(&producer, 0..3, "default").await;
    let mut fed = Fed::over(store.handle().await).await;
    fed.want(&["default"], 3);
    let jobs = fed.jobs(3).await;
    fed.settle(&jobs, &give_back());
    fed.pause();
    let mut other = Fed::over(store.handle().await).await;
    other.want(&["default"], 9);
    assert_eq!(other.ids(3).await, ["00000", "00001", "00002"]);
}

pub async fn a_token_is_never_used_twice(store: &dyn Store) {
    let producer = store.handle().await;
    add(&producer, 0..1, "default").await;
    let mut fed = Fed::over(store.handle().await).await;
    let mut tokens = BTreeSet::new();
    for _ in 0..4 {
        fed.want(&["default"], 1);
        let jobs = fed.jobs(1).await;
        assert!(tokens.insert(jobs[0].token), "{jobs:?}");
        fed.settle(&jobs, &give_back());
    }
}

pub async fn closing_gives_back(store: &dyn Store) {
    let producer = store.handle().await;
    add(&producer, 0..4, "default").await;
    let mut fed = Fed::over(store.handle().await).await;
    fed.want(&["default"], 3);
    let jobs = fed.jobs(3).await;
    fed.settle(&jobs[..1], &finish());
    let unsettled = fed.source.close(Duration::from_secs(60)).await;
    assert_eq!(unsettled, 0);
    let mut other = Fed::over(store.handle().await).await;
    other.want(&["default"], 9);
    assert_eq!(other.ids(3).await, ["00001", "00002", "00003"]);
}

/// After-work that failed is tried again after a pause: until then nothing is said to be empty.
pub async fn empty_waits_for_after_work(store: &dyn Store) {
    store.add_with_after_work("after-fails").await;
    let mut fed = Fed::over(store.handle().await).await;
    fed.want(&["default"], 1);
    let jobs = fed.jobs(1).await;
    fed.settle(&jobs, &Verdict::Stopped);
    let again = Verdict::Again {
        due: None,
        at_front: false,
        failures: 1,
        losses: 0,
        error: JobError::new("ValueError", "no"),
    };
    let mut outcomes = [again, finish()].into_iter();
    fed.want(&["default"], 9);
    loop {
        match soon(fed.events.recv()).await.unwrap() {
            Event::Delivered { jobs, .. } => {
                fed.seen += jobs.len() as u64;
                for delivery in jobs {
                    assert_eq!(delivery.job.work, Work::After);
                    fed.settle(&[delivery], &outcomes.next().expect("no third try"));
                }
                fed.want(&["default"], 9);
            }
            Event::Empty { seen, settled, .. } if (seen, settled) == (fed.seen, fed.settled) => break,
            _ => {}
        }
    }
    assert_eq!(outcomes.next(), None, "it was tried again");
}

pub async fn a_canceled_job_neither_begins_nor_returns(store: &dyn Store) {
    let producer = store.handle().await;
    add(&producer, 0..4, "default").await;
    let mut fed = Fed::over(store.handle().await).await;
    fed.want(&["default"], 3);
    let jobs = fed.jobs(3).await;
    let ids = kit::ids(0..4);
    let canceled = producer.control().unwrap().cancel(&ids[1..]).await.unwrap();
    assert_eq!(canceled, [Canceled::Asked, Canceled::Asked, Canceled::Done]);
    for _ in 0..2 {
        let (token, how) = fed.stopped().await;
        assert!(jobs[1..].iter().any(|job| job.token == token));
        assert_eq!(how, StopHow::IfNotBegun);
    }
    fed.settle(&jobs[1..2], &Verdict::Canceled);
    // Its supervisor had given it back before it heard.
    fed.settle(&jobs[2..], &give_back());
    fed.settle(&jobs[..1], &finish());
    fed.want(&["default"], 9);
    fed.empty().await;
    let mut other = Fed::over(store.handle().await).await;
    other.want(&["default"], 9);
    other.empty().await;
}

/// So many jobs more in each of these queues, with ids that grow.
async fn fill(producer: &Arc<dyn Broker>, queues: &[(&str, u32)]) {
    for (queue, count) in queues {
        for _ in 0..*count {
            let new = kit::job(JobId::generate().as_str(), queue);
            producer.producer().unwrap().enqueue(vec![new]).await.unwrap();
        }
    }
}

async fn waiting(broker: &Arc<dyn Broker>) -> u64 {
    broker
        .queues()
        .backlog(&[queue("default")])
        .await
        .unwrap()
        .waiting()
}

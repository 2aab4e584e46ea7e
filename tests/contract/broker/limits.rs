//! Rules of how many jobs of a key run at once. RQ has them as rate limits, which count a job from when it is queued.

use std::sync::Arc;
use std::time::Duration;

use pool::broker::{Budget, Canceled, JobFilter, Pull, StateName};
use pool::job::{Claimed, JobError, JobState, Limit, NewJob, Verdict};
use pool::time::Unix;

use super::kit::*;

super::rules! {
    so_many_of_a_key_run_at_once,
    one_over_its_limit_is_in_nobodys_way,
    one_that_is_canceled_takes_no_place,
    those_over_their_limit_are_listed,
    those_over_their_limit_are_counted,
    a_queue_is_emptied_with_those_over_their_limit,
    a_limit_of_none_is_refused,
}

/// Jobs with ids from `from` to `to`, of which so many run at once.
pub fn limited(of: std::ops::Range<u32>, in_queue: &str, key: &str, max: u32) -> Vec<NewJob> {
    let limit = Limit { key: key.into(), max };
    let jobs = jobs(of, in_queue).into_iter();
    jobs.map(|job| NewJob {
        limit: Some(limit.clone()),
        ..job
    })
    .collect()
}

async fn so_many_of_a_key_run_at_once(kit: &Kit) {
    let (broker, other) = (kit.handle().await, kit.handle().await);
    enqueue(&broker, limited(0..5, "default", "db", 2)).await;
    let first = claim(&broker, &["default"], 1).await;
    let second = claim(&other, &["default"], 9).await;
    assert_eq!(
        (ids_of(&first), ids_of(&second)),
        (vec!["00000".into()], vec!["00001".into()])
    );
    assert!(claim_ids(&broker, 9).await.is_empty());
    // One that ends makes place for the next, whose turn is in order.
    assert!(settle(&other, &second[0], finish()).await);
    soon(broker.ready(&[queue("default")])).await.unwrap();
    assert_eq!(claim_ids(&broker, 9).await, ["00002"]);
    assert!(settle(&broker, &first[0], bury("no")).await);
    assert_eq!(claim_ids(&other, 9).await, ["00003"]);
    assert!(claim_ids(&other, 9).await.is_empty());
}

async fn one_over_its_limit_is_in_nobodys_way(kit: &Kit) {
    let broker = kit.handle().await;
    enqueue(&broker, limited(0..20, "default", "db", 1)).await;
    enqueue(&broker, limited(20..22, "default", "other", 1)).await;
    enqueue(&broker, jobs(22..24, "default")).await;
    assert_eq!(claim_ids(&broker, 3).await, ["00000", "00020", "00022"]);
    assert_eq!(claim_ids(&broker, 3).await, ["00023"]);
    // Nothing is left that could run: nobody is told that there is.
    let queues = [queue("default")];
    let mut ready = broker.ready(&queues);
    assert!(waits(&mut ready).await);
    drop(ready);
    assert_eq!(broker.backlog(&queues).await.unwrap().waiting(), 0);
    assert_eq!(state(&broker, "00001").await, Some(JobState::Blocked));
}

async fn cancel(broker: &Arc<dyn Pull>, of: &str) {
    let canceled = broker.control().unwrap().cancel(&[id(of)]).await;
    assert_eq!(canceled.unwrap(), [Canceled::Done], "{of}");
    assert_eq!(state(broker, of).await, Some(JobState::Dead));
}

async fn one_that_is_canceled_takes_no_place(kit: &Kit) {
    let broker = kit.handle().await;
    enqueue(&broker, limited(0..4, "default", "db", 1)).await;
    cancel(&broker, "00000").await;
    assert_eq!(claim_ids(&broker, 9).await, ["00001"]);
    // Nor does it free one that another has.
    cancel(&broker, "00002").await;
    assert!(claim_ids(&broker, 9).await.is_empty());
}

async fn those_over_their_limit_are_listed(kit: &Kit) {
    let broker = kit.handle().await;
    enqueue(&broker, limited(0..3, "default", "db", 1)).await;
    enqueue(&broker, limited(3..6, "mail", "smtp", 1)).await;
    enqueue(&broker, jobs(6..7, "default")).await;
    assert_eq!(ids_of(&claim(&broker, &["default", "mail"], 9).await).len(), 3);
    let blocked = |queue: Option<&str>| JobFilter {
        states: vec![StateName::Blocked],
        queue: queue.map(|name| name.parse().unwrap()),
        ..JobFilter::default()
    };
    let (all, mail) = (blocked(None), blocked(Some("mail")));
    // A row a look: the second begins where the first ended, within a key and between two.
    let (mut found, mut after) = (Vec::new(), None);
    for _ in 0..9 {
        let budget = Budget {
            jobs: 1,
            ..Budget::default()
        };
        let search = broker.search().unwrap();
        let page = search.search(&all, after.as_ref(), budget).await.unwrap();
        assert!(page.jobs.iter().all(|job| job.state == JobState::Blocked));
        found.extend(page.jobs.into_iter().map(|job| job.id.to_string()));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    found.sort();
    assert_eq!(found, ["00001", "00002", "00004", "00005"]);
    let search = broker.search().unwrap();
    let page = search.search(&mail, None, Budget::default()).await.unwrap();
    let mut found: Vec<String> = page.jobs.iter().map(|job| job.id.to_string()).collect();
    found.sort();
    assert_eq!(found, ["00004", "00005"]);
}

async fn those_over_their_limit_are_counted(kit: &Kit) {
    let broker = kit.handle().await;
    let queues = ["default", "mail", "none"].map(queue);
    assert_eq!(broker.queues().blocked(&queues).await.unwrap(), [0; 3]);
    enqueue(&broker, limited(0..4, "default", "db", 1)).await;
    enqueue(&broker, limited(4..6, "mail", "db", 1)).await;
    enqueue(&broker, limited(6..9, "mail", "smtp", 1)).await;
    enqueue(&broker, jobs(9..10, "default")).await;
    let held = claim(&broker, &["default", "mail"], 9).await;
    assert_eq!(held.len(), 3);
    assert_eq!(broker.queues().blocked(&queues).await.unwrap(), [3, 4, 0]);
    cancel(&broker, "00008").await;
    assert_eq!(broker.queues().blocked(&queues).await.unwrap(), [3, 3, 0]);
    // They are no backlog.
    assert_eq!(broker.backlog(&queues).await.unwrap().waiting(), 0);
}

async fn a_queue_is_emptied_with_those_over_their_limit(kit: &Kit) {
    let broker = kit.handle().await;
    let later = NewJob {
        due: Some(Unix::now() + Duration::from_secs(3600)),
        ..job("later", "default")
    };
    enqueue(&broker, limited(0..9, "default", "db", 2)).await;
    enqueue(&broker, limited(9..11, "mail", "db", 2)).await;
    enqueue(&broker, vec![job("plain", "default"), later]).await;
    let held = claim(&broker, &["default"], 1).await;
    assert_eq!(ids_of(&held), ["00000"]);
    let purge = broker.purge().unwrap();
    let mut gone = 0;
    for _ in 0..9 {
        let step = purge.purge_waiting(&queue("default"), 3).await.unwrap();
        gone += step;
        if step < 3 {
            break;
        }
    }
    assert_eq!(gone, 9, "all but the one that runs");
    assert_eq!(state(&broker, "00008").await, None, "without a record");
    assert_eq!(state(&broker, "later").await, Some(JobState::Scheduled));
    assert_eq!(purge.purge_scheduled(&queue("default"), 3).await.unwrap(), 1);
    assert!(claim_ids(&broker, 9).await.is_empty());
    // One of another queue has its turn.
    assert_eq!(ids_of(&claim(&broker, &["mail"], 9).await), ["00009"]);
}

async fn a_limit_of_none_is_refused(kit: &Kit) {
    let broker = kit.handle().await;
    for odd in [limited(0..1, "default", "db", 0), limited(0..1, "default", "", 1)] {
        assert!(broker.producer().unwrap().enqueue(odd).await.is_err());
    }
}

/// Stores that keep limits themselves.
fn embedded() -> [Kit; 2] {
    [Kit::memory(), Kit::sqlite()]
}

fn again(at_front: bool) -> Verdict {
    Verdict::Again {
        due: None,
        at_front,
        failures: 1,
        losses: 0,
        error: JobError::new("ValueError", "no"),
    }
}

#[tokio::test]
async fn whatever_ends_a_claim_frees_its_place() {
    for kit in embedded() {
        let broker = kit.handle().await;
        enqueue(&broker, limited(0..9, "default", "db", 1)).await;
        let mut held: Claimed = claim(&broker, &["default"], 9).await.remove(0);
        for (verdict, next) in [
            (Verdict::GiveBack, "00000"),
            (again(true), "00000"),
            (again(false), "00001"),
            (Verdict::Stopped, "00002"),
            (Verdict::Canceled, "00003"),
            (bury("no"), "00004"),
            (finish(), "00005"),
            (Verdict::Forget, "00006"),
        ] {
            assert!(settle(&broker, &held, verdict.clone()).await);
            let mut claimed = claim(&broker, &["default"], 9).await;
            assert_eq!(ids_of(&claimed), [next], "{verdict:?}");
            held = claimed.remove(0);
        }
        broker.close().await.unwrap();
        assert_eq!(claim_ids(&kit.handle().await, 9).await, ["00006"]);
    }
}

#[tokio::test]
async fn who_leaves_the_queue_before_its_claim_lets_the_next_have_its_place() {
    for kit in embedded() {
        let broker = kit.handle().await;
        enqueue(&broker, limited(0..3, "default", "db", 1)).await;
        let first = claim(&broker, &["default"], 9).await;
        assert!(settle(&broker, &first[0], finish()).await);
        cancel(&broker, "00001").await;
        assert_eq!(claim_ids(&broker, 9).await, ["00002"]);
    }
}

#[tokio::test]
async fn a_lease_that_runs_out_frees_its_places() {
    for kit in embedded() {
        let (dying, other) = (kit.short_lived().await, kit.handle().await);
        enqueue(&other, limited(0..4, "default", "db", 2)).await;
        assert_eq!(claim_ids(&dying, 9).await, ["00000", "00001"]);
        assert!(claim_ids(&other, 9).await.is_empty());
        soon(other.ready(&[queue("default")])).await.unwrap();
        assert_eq!(claim_ids(&other, 9).await, ["00000", "00001"]);
        assert!(claim_ids(&other, 9).await.is_empty());
    }
}

#[tokio::test]
async fn the_place_goes_to_a_queue_that_is_served() {
    for kit in embedded() {
        let broker = kit.handle().await;
        enqueue(&broker, limited(0..1, "served", "db", 1)).await;
        let first = claim(&broker, &["served"], 9).await;
        // Older, and in a queue that nobody serves any more.
        enqueue(&broker, limited(1..3, "left", "db", 1)).await;
        assert!(claim(&broker, &["left"], 9).await.is_empty());
        enqueue(&broker, limited(3..5, "served", "db", 1)).await;
        assert!(claim(&broker, &["served"], 9).await.is_empty());
        assert!(settle(&broker, &first[0], finish()).await);
        let second = claim(&broker, &["served"], 9).await;
        assert_eq!(ids_of(&second), ["00003"]);
        assert!(claim(&broker, &["left"], 9).await.is_empty());
        assert!(settle(&broker, &second[0], finish()).await);
        assert_eq!(ids_of(&claim(&broker, &["left", "served"], 9).await), ["00001"]);
    }
}

#[tokio::test]
async fn more_than_a_claim_moves_at_once_block_nobody_for_long() {
    for kit in embedded() {
        let broker: Arc<dyn Pull> = kit.handle().await;
        enqueue(&broker, limited(0..3000, "default", "db", 1)).await;
        enqueue(&broker, jobs(3000..3001, "default")).await;
        let mut taken = Vec::new();
        for _ in 0..9 {
            taken.extend(claim_ids(&broker, 8).await);
        }
        assert_eq!(taken, ["00000", "03000"]);
    }
}

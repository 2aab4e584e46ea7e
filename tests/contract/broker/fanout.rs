//! Rules of waiting for many: each as it ended, no more questions than answers.

use std::sync::Arc;
use std::time::Duration;

use pool::broker::{Broker, Pull, wait_all};
use pool::job::{JobState, JobView, Settlement};

use super::counting::Counting;
use super::kit::*;

super::rules! {
    a_watch_returns_each_job_once_and_then_nothing,
    a_look_that_is_dropped_loses_nothing,
    wait_all_returns_each_as_it_ended,
    wait_all_of_nothing_is_nothing,
    wait_all_gives_up_when_its_time_is_up,
    wait_all_asks_at_most_once_for_each_job_that_ends,
    more_jobs_than_are_watched_at_once_all_come,
}

fn states(views: &[Option<JobView>]) -> Vec<Option<JobState>> {
    views
        .iter()
        .map(|view| view.as_ref().map(|view| view.state))
        .collect()
}

async fn a_watch_returns_each_job_once_and_then_nothing(kit: &Kit) {
    let (worker, client) = (kit.handle().await, kit.handle().await);
    enqueue(&worker, jobs(0..3, "default")).await;
    let claimed = claim(&worker, &["default"], 3).await;
    let mut asked = ids(0..3);
    asked.push(id("unknown"));
    let mut watch = client.reader().unwrap().watch(asked.clone());
    let mut seen = Vec::new();
    for claimed in claimed.iter().rev() {
        let before = seen.len();
        settle(&worker, claimed, finish()).await;
        while seen.len() <= before {
            let ended = soon(watch.next()).await.unwrap();
            assert!(!ended.is_empty());
            seen.extend(ended.into_iter().map(|ended| {
                assert_eq!(ended.id, asked[ended.at]);
                ended.at
            }));
        }
    }
    while seen.len() < asked.len() {
        seen.extend(
            soon(watch.next())
                .await
                .unwrap()
                .into_iter()
                .map(|ended| ended.at),
        );
    }
    seen.sort_unstable();
    assert_eq!(seen, [0, 1, 2, 3]);
    assert_eq!(soon(watch.next()).await.unwrap(), []);
    assert_eq!(soon(watch.next()).await.unwrap(), [], "and again");
}

async fn a_look_that_is_dropped_loses_nothing(kit: &Kit) {
    let (worker, client) = (kit.handle().await, kit.handle().await);
    enqueue(&worker, jobs(0..2, "default")).await;
    let claimed = claim(&worker, &["default"], 2).await;
    let mut watch = client.reader().unwrap().watch(ids(0..2));
    for claimed in &claimed {
        for _ in 0..2 {
            assert!(waits(&mut watch.next()).await);
        }
        settle(&worker, claimed, finish()).await;
        let ended = soon(watch.next()).await.unwrap();
        assert_eq!((ended.len(), &ended[0].id), (1, &claimed.claim.job));
    }
}

async fn wait_all_returns_each_as_it_ended(kit: &Kit) {
    let broker = kit.handle().await;
    enqueue(&broker, jobs(0..2, "default")).await;
    let claimed = claim(&broker, &["default"], 2).await;
    settle(&broker, &claimed[0], bury("no")).await;
    settle(&broker, &claimed[1], finish()).await;
    let asked = [id("00001"), id("unknown"), id("00000"), id("00001")];
    let views = soon(wait_all(broker.reader().unwrap(), &asked, None))
        .await
        .unwrap();
    let expected = [
        Some(JobState::Finished),
        None,
        Some(JobState::Dead),
        Some(JobState::Finished),
    ];
    assert_eq!(states(&views), expected, "one asked for twice is answered twice");
}

async fn wait_all_of_nothing_is_nothing(kit: &Kit) {
    let broker = kit.handle().await;
    assert_eq!(
        soon(wait_all(broker.reader().unwrap(), &[], None)).await.unwrap(),
        []
    );
}

async fn wait_all_gives_up_when_its_time_is_up(kit: &Kit) {
    let broker = kit.handle().await;
    enqueue(&broker, jobs(0..2, "default")).await;
    let claimed = claim(&broker, &["default"], 1).await.remove(0);
    settle(&broker, &claimed, finish()).await;
    let within = Some(Duration::from_millis(50));
    let views = soon(wait_all(broker.reader().unwrap(), &ids(0..2), within))
        .await
        .unwrap();
    assert_eq!(
        states(&views),
        [Some(JobState::Finished), Some(JobState::Waiting)]
    );
}

async fn wait_all_asks_at_most_once_for_each_job_that_ends(kit: &Kit) {
    let (worker, client) = (kit.handle().await, Arc::new(Counting::new(kit.handle().await)));
    enqueue(&worker, jobs(0..10, "default")).await;
    let claimed = claim(&worker, &["default"], 10).await;
    let waiting = {
        let client = Arc::clone(&client);
        tokio::spawn(async move { wait_all(client.reader().unwrap(), &ids(0..10), None).await })
    };
    for (ended, claimed) in claimed.iter().enumerate() {
        // Time in which one that polls would ask again and again.
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(
            client.asked() <= ended as u64 + 1,
            "one question, then silence until it is answered"
        );
        settle(&worker, claimed, finish()).await;
    }
    let views = soon(waiting).await.unwrap().unwrap();
    assert_eq!(states(&views), [Some(JobState::Finished); 10]);
    assert!(client.asked() <= 10, "{} questions for ten jobs", client.asked());
}

async fn more_jobs_than_are_watched_at_once_all_come(kit: &Kit) {
    let broker = kit.handle().await;
    enqueue(&broker, jobs(0..2100, "default")).await;
    let claimed = claim(&broker, &["default"], 2100).await;
    let waiting = {
        let broker: Arc<dyn Pull> = kit.handle().await;
        tokio::spawn(async move { wait_all(broker.reader().unwrap(), &ids(0..2100), None).await })
    };
    for batch in claimed.rchunks(300) {
        let settled = batch.iter().map(|claimed| Settlement {
            of: claimed.claim.clone(),
            verdict: finish(),
            run: None,
        });
        broker.settle(settled.collect()).await.unwrap();
    }
    let views = soon(waiting).await.unwrap().unwrap();
    assert!(
        views.iter().flatten().map(|view| &view.id).eq(&ids(0..2100)),
        "in their order"
    );
}

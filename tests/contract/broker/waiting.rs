//! Rules of waiting: for jobs to claim, for jobs to end.

use std::sync::Arc;
use std::time::Duration;

use pool::broker::Pull;
use pool::job::{JobState, JobView, NewJob};
use pool::time::Unix;

use super::kit::*;

super::rules! {
    ready_returns_at_once_when_something_waits,
    ready_wakes_when_another_enqueues,
    ready_wakes_when_the_same_handle_enqueues,
    ready_wakes_when_a_job_comes_due,
    ready_wakes_when_a_scheduled_job_is_added_before_the_others,
    ready_wakes_when_a_job_comes_back,
    ready_wakes_when_a_dead_letter_is_retried,
    ready_is_only_for_the_queues_asked_for,
    all_who_wait_are_woken,
    a_dropped_wait_does_no_harm,
    wait_any_returns_at_once_for_jobs_that_ended,
    wait_any_returns_at_once_for_unknown_jobs,
    wait_any_of_nothing_is_nothing,
    wait_any_wakes_when_a_job_ends,
    wait_any_sees_jobs_that_leave_no_result,
    wait_any_sleeps_through_retries,
    many_waits_end_as_their_jobs_do,
}

async fn ready_returns_at_once_when_something_waits(kit: &Kit) {
    let broker = kit.handle().await;
    enqueue(&broker, vec![job("1", "b")]).await;
    soon(broker.ready(&[queue("a"), queue("b")])).await.unwrap();
    soon(kit.handle().await.ready(&[queue("b")])).await.unwrap();
}

async fn ready_wakes_when_another_enqueues(kit: &Kit) {
    let (consumer, producer) = (kit.handle().await, kit.handle().await);
    let queues = [queue("default")];
    for round in 0..20 {
        let mut ready = consumer.ready(&queues);
        if round == 0 {
            assert!(waits(&mut ready).await);
        }
        let (woken, _) = tokio::join!(soon(ready), producer.enqueue(jobs(round..round + 1, "default")));
        woken.unwrap();
        assert_eq!(claim_ids(&consumer, 9).await.len(), 1);
    }
}

async fn ready_wakes_when_the_same_handle_enqueues(kit: &Kit) {
    let broker = kit.handle().await;
    let queues = [queue("default")];
    let mut ready = broker.ready(&queues);
    assert!(waits(&mut ready).await);
    enqueue(&broker, jobs(0..1, "default")).await;
    soon(ready).await.unwrap();
}

fn due_in(millis: u64, name: &str) -> NewJob {
    NewJob {
        due: Some(Unix::now() + Duration::from_millis(millis)),
        ..job(name, "default")
    }
}

async fn ready_wakes_when_a_job_comes_due(kit: &Kit) {
    let (consumer, producer) = (kit.handle().await, kit.handle().await);
    let job = due_in(150, "1");
    let due = job.due.unwrap();
    enqueue(&producer, vec![job]).await;
    soon(consumer.ready(&[queue("default")])).await.unwrap();
    assert!(Unix::now() >= due);
    assert_eq!(claim_ids(&consumer, 9).await, ["1"]);
}

async fn ready_wakes_when_a_scheduled_job_is_added_before_the_others(kit: &Kit) {
    let (consumer, producer) = (kit.handle().await, kit.handle().await);
    enqueue(&producer, vec![due_in(3_600_000, "late")]).await;
    let queues = [queue("default")];
    let mut ready = consumer.ready(&queues);
    assert!(waits(&mut ready).await);
    enqueue(&producer, vec![due_in(100, "early")]).await;
    soon(ready).await.unwrap();
    assert_eq!(claim_ids(&consumer, 9).await, ["early"]);
}

async fn ready_wakes_when_a_job_comes_back(kit: &Kit) {
    let (one, other) = (kit.handle().await, kit.handle().await);
    enqueue(&one, jobs(0..1, "default")).await;
    let claimed = claim(&one, &["default"], 1).await.remove(0);
    let queues = [queue("default")];
    let (mut own, mut others) = (one.ready(&queues), other.ready(&queues));
    assert!(waits(&mut own).await && waits(&mut others).await);
    settle(&one, &claimed, give_back()).await;
    soon(own).await.unwrap();
    soon(others).await.unwrap();
}

async fn ready_wakes_when_a_dead_letter_is_retried(kit: &Kit) {
    let (consumer, other) = (kit.handle().await, kit.handle().await);
    enqueue(&other, jobs(0..1, "default")).await;
    let claimed = claim(&other, &["default"], 1).await.remove(0);
    settle(&other, &claimed, bury("no")).await;
    let queues = [queue("default")];
    let mut ready = consumer.ready(&queues);
    assert!(waits(&mut ready).await);
    other.retry_dead(&ids(0..1)).await.unwrap();
    soon(ready).await.unwrap();
}

async fn ready_is_only_for_the_queues_asked_for(kit: &Kit) {
    let (consumer, producer) = (kit.handle().await, kit.handle().await);
    enqueue(&producer, jobs(0..1, "other")).await;
    let queues = [queue("default")];
    let mut ready = consumer.ready(&queues);
    assert!(waits(&mut ready).await);
    enqueue(&producer, jobs(1..2, "other")).await;
    assert!(waits(&mut ready).await);
    enqueue(&producer, jobs(2..3, "default")).await;
    soon(ready).await.unwrap();
}

async fn all_who_wait_are_woken(kit: &Kit) {
    let (one, other, producer) = (kit.handle().await, kit.handle().await, kit.handle().await);
    let queues = [queue("default")];
    let mut waiting = [one.ready(&queues), one.ready(&queues), other.ready(&queues)];
    for ready in &mut waiting {
        assert!(waits(ready).await);
    }
    enqueue(&producer, jobs(0..1, "default")).await;
    for ready in waiting {
        soon(ready).await.unwrap();
    }
}

async fn a_dropped_wait_does_no_harm(kit: &Kit) {
    let (consumer, producer) = (kit.handle().await, kit.handle().await);
    enqueue(&producer, jobs(0..1, "default")).await;
    let claimed = claim(&producer, &["default"], 1).await.remove(0);
    let queues = [queue("default")];
    for _ in 0..3 {
        assert!(waits(&mut consumer.ready(&queues)).await);
        assert!(waits(&mut consumer.wait_any(&ids(0..1))).await);
    }
    let mut kept = consumer.ready(&queues);
    assert!(waits(&mut kept).await);
    settle(&producer, &claimed, give_back()).await;
    soon(kept).await.unwrap();
    assert_eq!(claim_ids(&consumer, 9).await, ["00000"]);
}

/// Claims the next job of `default` and finishes it.
async fn finish_next(broker: &Arc<dyn Pull>) {
    let claimed = claim(broker, &["default"], 1).await.remove(0);
    assert!(settle(broker, &claimed, finish()).await);
}

async fn wait_any_returns_at_once_for_jobs_that_ended(kit: &Kit) {
    let broker = kit.handle().await;
    enqueue(&broker, jobs(0..4, "default")).await;
    finish_next(&broker).await;
    let claimed = claim(&broker, &["default"], 1).await.remove(0);
    settle(&broker, &claimed, bury("no")).await;
    let ended = soon(broker.wait_any(&ids(0..4))).await.unwrap();
    let seen: Vec<_> = ended
        .iter()
        .map(|(at, view)| (*at, view.as_ref().unwrap().state))
        .collect();
    assert_eq!(seen, [(0, JobState::Finished), (1, JobState::Dead)]);
    let without_runs = |view: Option<JobView>| {
        view.map(|view| JobView {
            attempts: Vec::new(),
            ..view
        })
    };
    let found = broker.find(&ids(0..2)).await.unwrap();
    let found: Vec<_> = found.into_iter().map(without_runs).collect();
    let ended: Vec<_> = ended.into_iter().map(|(_, view)| without_runs(view)).collect();
    assert_eq!(ended, found);
}

async fn wait_any_returns_at_once_for_unknown_jobs(kit: &Kit) {
    let broker = kit.handle().await;
    enqueue(&broker, jobs(0..1, "default")).await;
    let ended = soon(broker.wait_any(&[id("00000"), id("unknown")]))
        .await
        .unwrap();
    assert_eq!(ended, [(1, None)]);
}

async fn wait_any_of_nothing_is_nothing(kit: &Kit) {
    let broker = kit.handle().await;
    assert!(soon(broker.wait_any(&[])).await.unwrap().is_empty());
}

async fn wait_any_wakes_when_a_job_ends(kit: &Kit) {
    let (client, worker) = (kit.handle().await, kit.handle().await);
    enqueue(&client, jobs(0..3, "default")).await;
    let all = ids(0..3);
    let mut ended = client.wait_any(&all);
    assert!(waits(&mut ended).await);
    let claimed = claim(&worker, &["default"], 3).await;
    assert!(waits(&mut ended).await);
    settle(&worker, &claimed[1], finish()).await;
    let ended = soon(ended).await.unwrap();
    assert_eq!((ended.len(), ended[0].0), (1, 1));
    let view = ended[0].1.as_ref().unwrap();
    assert_eq!(view.result.as_deref(), Some(b"42".as_slice()));
    let mut ended = client.wait_any(&all[..1]);
    assert!(waits(&mut ended).await);
    settle(&worker, &claimed[0], bury("no")).await;
    assert_eq!(
        soon(ended).await.unwrap()[0].1.as_ref().unwrap().state,
        JobState::Dead
    );
}

async fn wait_any_sees_jobs_that_leave_no_result(kit: &Kit) {
    let (client, worker) = (kit.handle().await, kit.handle().await);
    let new = NewJob {
        result_ttl: Some(Duration::ZERO),
        ..job("1", "default")
    };
    enqueue(&client, vec![new]).await;
    let ids = [id("1")];
    let mut ended = client.wait_any(&ids);
    assert!(waits(&mut ended).await);
    finish_next(&worker).await;
    assert_eq!(soon(ended).await.unwrap(), [(0, None)]);
}

async fn wait_any_sleeps_through_retries(kit: &Kit) {
    let (client, worker) = (kit.handle().await, kit.handle().await);
    enqueue(&client, jobs(0..1, "default")).await;
    let ids = ids(0..1);
    let mut ended = client.wait_any(&ids);
    for _ in 0..3 {
        let claimed = claim(&worker, &["default"], 1).await.remove(0);
        settle(&worker, &claimed, give_back()).await;
        assert!(waits(&mut ended).await);
    }
    finish_next(&worker).await;
    assert_eq!(soon(ended).await.unwrap().len(), 1);
}

async fn many_waits_end_as_their_jobs_do(kit: &Kit) {
    let (client, worker) = (kit.handle().await, kit.handle().await);
    enqueue(&client, jobs(0..200, "default")).await;
    let working = async {
        for _ in 0..20 {
            for claimed in claim(&worker, &["default"], 10).await {
                assert!(settle(&worker, &claimed, finish()).await);
            }
        }
    };
    let waiting = async {
        let mut left = ids(0..200);
        while !left.is_empty() {
            let ended = client.wait_any(&left).await.unwrap();
            assert!(!ended.is_empty());
            for (at, view) in ended.into_iter().rev() {
                assert_eq!(view.unwrap().id, left.remove(at));
            }
        }
    };
    soon(async { tokio::join!(working, waiting) }).await;
}

//! Rules of groups and chains.

use std::sync::Arc;
use std::time::Duration;

use pool::broker::{BrokerError, GroupView, NewGroup, Pull};
use pool::config::BrokerConfig;
use pool::job::{Claimed, GroupId, JobState, JobView, NewJob, Verdict};
use serde_json::{Value, json};

use super::kit::*;

super::rules! {
    a_group_calls_back_once_when_all_have_ended,
    the_first_failure_of_a_group_calls_at_once_and_no_other_does,
    a_group_without_failures_forgets_its_callback_for_them,
    a_member_that_is_given_back_or_retried_is_counted_when_it_ends,
    a_late_outcome_of_a_member_counts_for_nothing,
    a_dead_letter_retried_in_time_is_counted_again,
    a_group_calls_back_when_what_was_retried_in_time_has_ended,
    a_dead_letter_of_an_ended_group_calls_nobody,
    an_empty_group_has_ended,
    results_of_members_are_kept_until_their_group_has_expired,
    a_group_is_added_as_a_whole_or_not_at_all,
    wait_group_wakes_as_members_end,
    a_group_shows_its_members_in_their_order,
    a_chain_hands_each_result_on,
    a_deferred_job_is_in_no_queue,
    a_failure_ends_the_chain_and_is_named,
    a_chain_goes_on_when_what_failed_is_retried,
    a_follower_is_not_retried_alone,
    jobs_that_cannot_wait_for_others_are_refused,
}

pub fn gid(text: &str) -> GroupId {
    GroupId::new(text).unwrap()
}

/// A group `g` of these jobs with the callbacks `done` and `failure`, in a queue of their own.
pub fn group(jobs: Vec<NewJob>) -> NewGroup {
    let callback = |name| NewJob {
        payload: Vec::new(),
        ..job(name, "callbacks")
    };
    NewGroup {
        id: gid("g"),
        jobs,
        on_done: Some(callback("done")),
        on_failure: Some(callback("failure")),
    }
}

/// A group `g` of these jobs, with the callback `done` alone.
pub fn group_with_end(jobs: Vec<NewJob>) -> NewGroup {
    NewGroup {
        on_failure: None,
        ..group(jobs)
    }
}

/// A group `g` of these jobs, without callbacks.
pub fn counted(jobs: Vec<NewJob>) -> NewGroup {
    NewGroup {
        on_done: None,
        on_failure: None,
        ..group(jobs)
    }
}

/// What a claim of callbacks takes: id and arguments.
async fn called(kit: &Kit, broker: &Arc<dyn Pull>) -> Vec<(String, Value)> {
    let claimed = claim(broker, &["callbacks"], 9).await;
    let call = |job: &Claimed| {
        let arguments = serde_json::from_slice(&kit.arguments(job)).unwrap();
        (job.claim.job.to_string(), arguments)
    };
    claimed.iter().map(call).collect()
}

/// The callback `done`, as it is called with these counts.
fn done(kit: &Kit, total: u64, finished: u64, failed: u64) -> (String, Value) {
    let summary = json!({"group": "g", "total": total, "finished": finished, "failed": failed});
    ("done".to_owned(), kit.told(summary, None))
}

/// The callback `failure`, as it is called with these counts when this member has failed.
fn failure(kit: &Kit, member: &str, total: u64, finished: u64, failed: u64) -> (String, Value) {
    let summary = json!({"group": "g", "total": total, "finished": finished, "failed": failed});
    ("failure".to_owned(), kit.told(summary, Some(member)))
}

pub async fn counts(broker: &Arc<dyn Pull>) -> (u64, u64, u64, bool) {
    let GroupView {
        total,
        finished,
        failed,
        ended,
        ..
    } = broker.group(&gid("g")).await.unwrap().unwrap();
    (total, finished, failed, ended.is_some())
}

async fn view(broker: &Arc<dyn Pull>, of: &str) -> JobView {
    broker.find(&[id(of)]).await.unwrap().remove(0).unwrap()
}

fn succeed(result: &str) -> Verdict {
    Verdict::Finish {
        result: result.into(),
    }
}

async fn a_group_calls_back_once_when_all_have_ended(kit: &Kit) {
    let broker = kit.handle().await;
    broker.enqueue_group(group(jobs(0..3, "default"))).await.unwrap();
    assert_eq!(state(&broker, "done").await, Some(JobState::Deferred));
    let claimed = claim(&broker, &["default"], 9).await;
    for (at, verdict) in [finish(), bury("no"), finish()].into_iter().enumerate() {
        assert_ne!(state(&broker, "done").await, Some(JobState::Waiting));
        assert!(settle(&broker, &claimed[at], verdict).await);
    }
    assert_eq!(counts(&broker).await, (3, 2, 1, true));
    let expected = [failure(kit, "00001", 3, 1, 1), done(kit, 3, 2, 1)];
    assert_eq!(called(kit, &broker).await, expected);
}

async fn the_first_failure_of_a_group_calls_at_once_and_no_other_does(kit: &Kit) {
    let broker = kit.handle().await;
    broker.enqueue_group(group(jobs(0..3, "default"))).await.unwrap();
    let claimed = claim(&broker, &["default"], 2).await;
    settle(&broker, &claimed[0], bury("no")).await;
    assert_eq!(called(kit, &broker).await, [failure(kit, "00000", 3, 0, 1)]);
    settle(&broker, &claimed[1], bury("no")).await;
    assert_eq!(called(kit, &broker).await, []);
    assert_eq!(counts(&broker).await, (3, 0, 2, false));
}

async fn a_group_without_failures_forgets_its_callback_for_them(kit: &Kit) {
    let broker = kit.handle().await;
    broker.enqueue_group(group(jobs(0..1, "default"))).await.unwrap();
    let claimed = claim(&broker, &["default"], 1).await.remove(0);
    settle(&broker, &claimed, finish()).await;
    assert_eq!(state(&broker, "failure").await, None);
    assert_eq!(called(kit, &broker).await, [done(kit, 1, 1, 0)]);
}

async fn a_member_that_is_given_back_or_retried_is_counted_when_it_ends(kit: &Kit) {
    let broker = kit.handle().await;
    broker
        .enqueue_group(counted(jobs(0..1, "default")))
        .await
        .unwrap();
    for _ in 0..3 {
        let claimed = claim(&broker, &["default"], 1).await.remove(0);
        settle(&broker, &claimed, give_back()).await;
        assert_eq!(counts(&broker).await, (1, 0, 0, false));
    }
    let claimed = claim(&broker, &["default"], 1).await.remove(0);
    settle(&broker, &claimed, finish()).await;
    assert_eq!(counts(&broker).await, (1, 1, 0, true));
}

async fn a_late_outcome_of_a_member_counts_for_nothing(kit: &Kit) {
    let (one, other) = (kit.handle().await, kit.handle().await);
    one.enqueue_group(counted(jobs(0..2, "default"))).await.unwrap();
    let late = claim(&one, &["default"], 1).await.remove(0);
    settle(&one, &late, give_back()).await;
    let claimed = claim(&other, &["default"], 1).await.remove(0);
    assert!(!settle(&one, &late, finish()).await);
    assert!(settle(&other, &claimed, finish()).await);
    assert!(!settle(&other, &claimed, finish()).await, "settled before");
    assert_eq!(counts(&other).await, (2, 1, 0, false));
}

async fn a_dead_letter_retried_in_time_is_counted_again(kit: &Kit) {
    let broker = kit.handle().await;
    broker
        .enqueue_group(counted(jobs(0..2, "default")))
        .await
        .unwrap();
    let claimed = claim(&broker, &["default"], 2).await;
    settle(&broker, &claimed[0], bury("no")).await;
    assert_eq!(counts(&broker).await, (2, 0, 1, false));
    broker.retry_dead(&ids(0..1)).await.unwrap();
    assert_eq!(counts(&broker).await, (2, 0, 0, false));
    settle(&broker, &claimed[1], finish()).await;
    assert_eq!(counts(&broker).await, (2, 1, 0, false), "one runs again");
    let again = claim(&broker, &["default"], 1).await.remove(0);
    settle(&broker, &again, finish()).await;
    assert_eq!(counts(&broker).await, (2, 2, 0, true));
}

async fn a_group_calls_back_when_what_was_retried_in_time_has_ended(kit: &Kit) {
    let broker = kit.handle().await;
    broker.enqueue_group(group(jobs(0..2, "default"))).await.unwrap();
    let claimed = claim(&broker, &["default"], 2).await;
    settle(&broker, &claimed[0], bury("no")).await;
    assert_eq!(called(kit, &broker).await.len(), 1, "the failure is told");
    broker.retry_dead(&ids(0..1)).await.unwrap();
    settle(&broker, &claimed[1], finish()).await;
    assert_eq!(called(kit, &broker).await, [], "one runs again");
    let again = claim(&broker, &["default"], 1).await.remove(0);
    settle(&broker, &again, bury("no")).await;
    assert_eq!(called(kit, &broker).await, [done(kit, 2, 1, 1)]);
}

async fn a_dead_letter_of_an_ended_group_calls_nobody(kit: &Kit) {
    let broker = kit.handle().await;
    broker.enqueue_group(group(jobs(0..1, "default"))).await.unwrap();
    let claimed = claim(&broker, &["default"], 1).await.remove(0);
    settle(&broker, &claimed, bury("no")).await;
    assert_eq!(called(kit, &broker).await.len(), 2);
    broker.retry_dead(&ids(0..1)).await.unwrap();
    let again = claim(&broker, &["default"], 1).await.remove(0);
    settle(&broker, &again, finish()).await;
    assert_eq!(called(kit, &broker).await, []);
    assert_eq!(counts(&broker).await, (1, 0, 1, true));
}

async fn an_empty_group_has_ended(kit: &Kit) {
    let broker = kit.handle().await;
    broker.enqueue_group(group(Vec::new())).await.unwrap();
    assert_eq!(counts(&broker).await, (0, 0, 0, true));
    assert_eq!(called(kit, &broker).await, [done(kit, 0, 0, 0)]);
}

async fn results_of_members_are_kept_until_their_group_has_expired(kit: &Kit) {
    let settings = BrokerConfig {
        result_ttl: Duration::from_millis(1),
        ..config()
    };
    let broker = kit.handle_with(settings).await;
    let mut members = jobs(0..3, "default");
    members[1].result_ttl = Some(Duration::ZERO);
    broker.enqueue_group(group(members)).await.unwrap();
    let claimed = claim(&broker, &["default"], 3).await;
    settle(&broker, &claimed[0], finish()).await;
    settle(&broker, &claimed[1], finish()).await;
    tokio::time::sleep(Duration::from_millis(10)).await;
    broker.maintain().await.unwrap();
    assert_eq!(state(&broker, "00000").await, Some(JobState::Finished));
    assert_eq!(state(&broker, "00001").await, None, "it was to leave no result");
    settle(&broker, &claimed[2], bury("no")).await;
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert_eq!(broker.group(&gid("g")).await.unwrap(), None);
    broker.maintain().await.unwrap();
    assert_eq!(state(&broker, "00000").await, None);
    assert_eq!(
        state(&broker, "00002").await,
        Some(JobState::Dead),
        "dead letters stay"
    );
    broker.retry_dead(&ids(2..3)).await.unwrap();
    let again = claim(&broker, &["default"], 1).await.remove(0);
    settle(&broker, &again, finish()).await;
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert_eq!(
        state(&broker, "00002").await,
        None,
        "it expires as a plain job does"
    );
}

async fn a_group_is_added_as_a_whole_or_not_at_all(kit: &Kit) {
    let broker = kit.handle().await;
    enqueue(&broker, jobs(2..3, "other")).await;
    let refused = broker.enqueue_group(group_with_end(jobs(0..3, "default"))).await;
    assert!(
        matches!(&refused, Err(BrokerError::IdTaken(taken)) if *taken == id("00002")),
        "{refused:?}"
    );
    assert_eq!(claim_ids(&broker, 9).await.len(), 0);
    assert_eq!(broker.group(&gid("g")).await.unwrap(), None);
    assert_eq!(state(&broker, "done").await, None);
    broker
        .enqueue_group(group_with_end(jobs(0..2, "default")))
        .await
        .unwrap();
    let twice = NewGroup {
        id: gid("g"),
        ..NewGroup::new(jobs(5..6, "default"))
    };
    let refused = broker.enqueue_group(twice).await;
    assert!(
        matches!(&refused, Err(BrokerError::GroupTaken(taken)) if *taken == gid("g")),
        "{refused:?}"
    );
    assert_eq!(claim_ids(&broker, 9).await.len(), 2);
}

async fn wait_group_wakes_as_members_end(kit: &Kit) {
    let (worker, client) = (kit.handle().await, kit.handle().await);
    let unknown = soon(client.wait_group(&gid("unknown"), 0)).await.unwrap();
    assert_eq!(unknown, None);
    worker
        .enqueue_group(counted(jobs(0..2, "default")))
        .await
        .unwrap();
    let claimed = claim(&worker, &["default"], 2).await;
    let g = gid("g");
    let mut first = client.wait_group(&g, 0);
    let mut second = client.wait_group(&g, 1);
    assert!(waits(&mut first).await && waits(&mut second).await);
    settle(&worker, &claimed[0], finish()).await;
    let view = soon(first).await.unwrap().unwrap();
    assert_eq!((view.ended_jobs(), view.ended), (1, None));
    assert!(waits(&mut second).await);
    settle(&worker, &claimed[1], bury("no")).await;
    assert!(soon(second).await.unwrap().unwrap().ended.is_some());
    let over = soon(client.wait_group(&g, 99)).await.unwrap();
    assert!(over.unwrap().ended.is_some(), "nothing more will end");
}

async fn a_group_shows_its_members_in_their_order(kit: &Kit) {
    let broker = kit.handle().await;
    broker
        .enqueue_group(counted(jobs(0..5, "default")))
        .await
        .unwrap();
    enqueue(&broker, jobs(5..6, "default")).await;
    let members = broker.group_jobs(&gid("g")).await.unwrap();
    assert_eq!(members, ids(0..5));
    assert_eq!(broker.group_jobs(&gid("unknown")).await.unwrap(), []);
}

/// A chain of jobs with these ids and arguments.
async fn chain(broker: &Arc<dyn Pull>, of: &[(&str, &str)]) {
    let jobs = of.iter().map(|&(name, payload)| NewJob {
        payload: payload.into(),
        ..job(name, "default")
    });
    broker.enqueue_chain(jobs.collect()).await.unwrap();
}

async fn a_chain_hands_each_result_on(kit: &Kit) {
    let broker = kit.handle().await;
    chain(
        &broker,
        &[("a", "1"), ("b", ""), ("c", "[3]"), ("d", r#"{"x":4}"#)],
    )
    .await;
    let mut seen = Vec::new();
    for result in [r#"{"n":1}"#, "[2]", "three", "4"] {
        let claimed = claim(&broker, &["default"], 9).await;
        assert_eq!(claimed.len(), 1, "one after the other");
        seen.push(String::from_utf8(claimed[0].job.payload.to_vec()).unwrap());
        settle(&broker, &claimed[0], succeed(result)).await;
    }
    assert_eq!(
        seen,
        ["1", r#"{"n":1}"#, "[[2],3]", r#"{"previous":"three","x":4}"#]
    );
    assert!(claim(&broker, &["default"], 9).await.is_empty());
}

async fn a_deferred_job_is_in_no_queue(kit: &Kit) {
    let (broker, other) = (kit.handle().await, kit.handle().await);
    chain(&broker, &[("a", ""), ("b", "")]).await;
    let claimed = claim(&broker, &["default"], 9).await.remove(0);
    assert_eq!(state(&broker, "b").await, Some(JobState::Deferred));
    assert_eq!(broker.backlog(&[queue("default")]).await.unwrap().waiting(), 0);
    let queues = [queue("default")];
    let mut ready = other.ready(&queues);
    let followed = [id("b")];
    let mut ended = other.wait_any(&followed);
    assert!(waits(&mut ready).await && waits(&mut ended).await);
    settle(&broker, &claimed, finish()).await;
    soon(ready).await.unwrap();
    assert_eq!(broker.backlog(&[queue("default")]).await.unwrap().waiting(), 1);
    let claimed = claim(&broker, &["default"], 9).await.remove(0);
    settle(&broker, &claimed, finish()).await;
    assert_eq!(soon(ended).await.unwrap().len(), 1);
}

async fn a_failure_ends_the_chain_and_is_named(kit: &Kit) {
    let broker = kit.handle().await;
    chain(&broker, &[("a", ""), ("b", ""), ("c", "")]).await;
    let claimed = claim(&broker, &["default"], 9).await.remove(0);
    settle(&broker, &claimed, bury("no such file")).await;
    for name in ["b", "c"] {
        let follower = view(&broker, name).await;
        let error = follower.error.unwrap();
        assert_eq!(
            (follower.state, &*error.kind),
            (JobState::Dead, "earlier job failed")
        );
        for part in [
            "job a of task `work`",
            "ValueError: no such file",
            "pool dead retry a",
        ] {
            assert!(error.message.contains(part), "{error}");
        }
    }
    assert!(claim(&broker, &["default"], 9).await.is_empty());
}

async fn a_chain_goes_on_when_what_failed_is_retried(kit: &Kit) {
    let broker = kit.handle().await;
    chain(&broker, &[("a", ""), ("b", ""), ("c", "")]).await;
    let claimed = claim(&broker, &["default"], 9).await.remove(0);
    settle(&broker, &claimed, bury("no")).await;
    assert_eq!(broker.retry_dead(&[id("a")]).await.unwrap(), [id("a")]);
    for name in ["b", "c"] {
        let follower = view(&broker, name).await;
        assert_eq!((follower.state, follower.error), (JobState::Deferred, None));
    }
    for name in ["a", "b", "c"] {
        let claimed = claim(&broker, &["default"], 9).await;
        assert_eq!(ids_of(&claimed), [name]);
        settle(&broker, &claimed[0], finish()).await;
    }
}

async fn a_follower_is_not_retried_alone(kit: &Kit) {
    let broker = kit.handle().await;
    chain(&broker, &[("a", ""), ("b", "")]).await;
    let claimed = claim(&broker, &["default"], 9).await.remove(0);
    settle(&broker, &claimed, bury("no")).await;
    assert_eq!(broker.retry_dead(&[id("b")]).await.unwrap(), []);
    assert_eq!(broker.retry_dead(&[id("b"), id("a")]).await.unwrap(), [id("a")]);
    assert_eq!(state(&broker, "b").await, Some(JobState::Deferred));
}

async fn jobs_that_cannot_wait_for_others_are_refused(kit: &Kit) {
    let broker = kit.handle().await;
    let keyed = NewJob {
        unique_key: Some("key".into()),
        ..job("keyed", "default")
    };
    let front = NewJob {
        at_front: true,
        payload: Vec::new(),
        ..job("front", "default")
    };
    let one_number = NewJob {
        payload: b"1".to_vec(),
        ..job("number", "default")
    };
    for refused in [keyed, front, one_number] {
        let chain = vec![job("first", "default"), refused];
        let answer = broker.enqueue_chain(chain).await;
        assert!(matches!(answer, Err(BrokerError::Refused(_))), "{answer:?}");
    }
    assert!(claim(&broker, &["default"], 9).await.is_empty());
}

//! Rules of jobs that are not to begin after a time of their own. RQ counts whole seconds and deletes such a job, and Celery
//! ends it when its turn has come.

use std::time::Duration;

use pool::broker::NewGroup;
use pool::broker::source::StopHow;
use pool::config::BrokerConfig;
use pool::job::{GroupId, JobState, JobView, NewJob, Settlement, Verdict};
use pool::time::Unix;

use super::kit::*;

super::rules! {
    a_job_that_did_not_begin_by_its_time_never_runs,
    a_job_that_has_begun_by_its_time_runs_on,
    a_job_that_expires_before_it_is_due_is_refused,
}

/// What a time of this broker has at the least, and a little more than it.
const SHORT: Duration = Duration::from_millis(300);

fn expiring(of: &str, after: Duration) -> NewJob {
    NewJob {
        begin_by: Some(Unix::now() + after),
        ..job(of, "default")
    }
}

async fn a_job_that_did_not_begin_by_its_time_never_runs(kit: &Kit) {
    let broker = kit.handle().await;
    enqueue(&broker, vec![expiring("1", SHORT), job("2", "default")]).await;
    tokio::time::sleep(kit.kept(SHORT) + SHORT).await;
    assert_eq!(claim_ids(&broker, 9).await, ["2"]);
    // Celery's task stores that itself, in a worker.
    let is_over = state(&broker, "1").await.is_none_or(JobState::is_final);
    assert!(is_over || matches!(kit, Kit::Celery(_)));
}

async fn a_job_that_has_begun_by_its_time_runs_on(kit: &Kit) {
    let broker = kit.handle().await;
    enqueue(&broker, vec![expiring("1", Duration::from_secs(3))]).await;
    let claimed = claim(&broker, &["default"], 9).await;
    assert_eq!(ids_of(&claimed), ["1"]);
    broker.note_begun(vec![claimed[0].claim.clone()]).await.unwrap();
    let left = claimed[0].job.ready + Duration::from_millis(3500);
    tokio::time::sleep(left.since(Unix::now())).await;
    broker.maintain().await.unwrap();
    assert_eq!(state(&broker, "1").await, Some(JobState::Running));
    assert!(settle(&broker, &claimed[0], finish()).await);
    assert_eq!(state(&broker, "1").await, Some(JobState::Finished));
}

async fn a_job_that_expires_before_it_is_due_is_refused(kit: &Kit) {
    let broker = kit.handle().await;
    let odd = NewJob {
        due: Some(Unix::now() + Duration::from_secs(60)),
        ..expiring("1", Duration::from_secs(30))
    };
    let refused = broker.producer().unwrap().enqueue(vec![odd]).await.unwrap_err();
    assert!(refused.to_string().contains("expired"), "{refused}");
}

/// Stores that keep what has expired, with the reason.
fn embedded() -> [Kit; 2] {
    [Kit::memory(), Kit::sqlite()]
}

fn kind(view: &Option<JobView>) -> &str {
    let view = view.as_ref().unwrap();
    assert_eq!(view.state, JobState::Dead, "{view:?}");
    &view.error.as_ref().unwrap().kind
}

#[tokio::test]
async fn wherever_it_waits_it_expires_at_its_time_and_says_so() {
    for kit in embedded() {
        let broker = kit.handle().await;
        let due = Some(Unix::now() + Duration::from_millis(1));
        let later = NewJob {
            due,
            queue: queue("left"),
            ..expiring("later", SHORT)
        };
        let follower = NewJob {
            payload: Vec::new(),
            ..expiring("follower", SHORT)
        };
        let first = job("first", "default");
        broker.enqueue_chain(vec![first, follower]).await.unwrap();
        enqueue(&broker, vec![later]).await;
        let claimed = claim(&broker, &["default"], 1).await;
        let begun = vec![claimed[0].claim.clone()];
        broker.note_begun(begun).await.unwrap();
        enqueue(&broker, vec![expiring("waiting", SHORT)]).await;
        // Nobody claims: whoever waits here for jobs of any queue sees to it.
        let queues = [queue("other")];
        let mut ready = broker.ready(&queues);
        let ids = [id("later"), id("follower"), id("waiting")];
        let wait = pool::broker::wait_all(broker.reader().unwrap(), &ids, None);
        let views = tokio::select! {
            views = soon(wait) => views.unwrap(),
            _ = &mut ready => panic!("nothing could run"),
        };
        for view in &views {
            assert_eq!(kind(view), "expired");
        }
        assert!(settle(&broker, &claimed[0], finish()).await);
        assert!(claim(&broker, &["default", "left"], 9).await.is_empty());
    }
}

#[tokio::test]
async fn a_claim_that_has_not_begun_is_called_off_at_its_time() {
    for kit in embedded() {
        let broker = kit.handle().await;
        enqueue(&broker, vec![expiring("1", SHORT), expiring("2", SHORT)]).await;
        let claimed = claim(&broker, &["default"], 9).await;
        let claims: Vec<_> = claimed.iter().map(|claimed| claimed.claim.clone()).collect();
        broker.note_begun(claims[1..].to_vec()).await.unwrap();
        let other = kit.handle().await;
        let queues = [queue("other")];
        let mut ready = other.ready(&queues);
        let called_off = tokio::select! {
            called_off = soon(broker.called_off(&claims)) => called_off.unwrap(),
            _ = &mut ready => panic!("nothing could run"),
        };
        assert_eq!(called_off, [(0, StopHow::IfNotBegun)]);
        let canceled = Settlement {
            of: claims[0].clone(),
            verdict: Verdict::Canceled,
            run: None,
        };
        assert_eq!(broker.settle(vec![canceled]).await.unwrap(), [true]);
        assert_eq!(kind(&broker.find(&[id("1")]).await.unwrap()[0]), "expired");
        assert!(settle(&broker, &claimed[1], finish()).await);
    }
}

#[tokio::test]
async fn an_expired_member_counts_as_failed_and_a_key_is_free_again() {
    for kit in embedded() {
        let broker = kit.handle().await;
        let group = NewGroup {
            id: GroupId::new("group").unwrap(),
            on_failure: Some(NewJob {
                payload: Vec::new(),
                ..job("alarm", "default")
            }),
            ..NewGroup::new(vec![expiring("member", SHORT)])
        };
        broker.enqueue_group(group).await.unwrap();
        let keyed = |of: &str| NewJob {
            unique_key: Some("key".into()),
            ..expiring(of, SHORT)
        };
        enqueue(&broker, vec![keyed("holder")]).await;
        tokio::time::sleep(SHORT).await;
        broker.maintain().await.unwrap();
        let group = broker
            .group(&GroupId::new("group").unwrap())
            .await
            .unwrap()
            .unwrap();
        assert_eq!((group.failed, group.ended.is_some()), (1, true));
        assert!(enqueue(&broker, vec![keyed("next")]).await[0].id() == &id("next"));
        assert_eq!(claim_ids(&broker, 9).await, ["alarm", "next"]);
    }
}

#[tokio::test]
async fn dead_letters_are_deleted_after_their_time() {
    for kit in embedded() {
        let dead_ttl = Some(SHORT);
        let broker = kit.handle_with(BrokerConfig { dead_ttl, ..config() }).await;
        let keeping = kit.handle().await;
        enqueue(&broker, jobs(0..2, "default")).await;
        let claimed = claim(&broker, &["default"], 2).await;
        assert!(settle(&broker, &claimed[0], bury("no")).await);
        tokio::time::sleep(SHORT).await;
        assert!(settle(&broker, &claimed[1], bury("no")).await);
        assert_eq!(keeping.maintain().await.unwrap().expired, 0);
        assert_eq!(broker.maintain().await.unwrap().expired, 1);
        assert_eq!(state(&broker, "00000").await, None);
        assert_eq!(state(&broker, "00001").await, Some(JobState::Dead));
    }
}

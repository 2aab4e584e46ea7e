//! Rules of settling: verdicts, late outcomes, results.

use std::time::Duration;

use pool::config::BrokerConfig;
use pool::job::{JobError, JobState, NewJob, Settlement, Verdict};
use pool::time::Unix;

use super::kit::*;

super::rules! {
    a_finished_job_shows_its_result,
    a_job_without_time_to_live_keeps_no_result,
    the_time_to_live_is_the_jobs_own_before_the_brokers,
    an_expired_result_is_invisible_and_then_deleted,
    an_id_is_free_again_once_its_result_expired,
    a_requeued_job_waits_behind_the_others,
    a_requeued_job_remembers_what_went_wrong,
    a_job_put_off_waits_for_its_time,
    jobs_given_back_stand_in_their_old_order,
    a_claim_settles_once,
    an_outcome_of_an_earlier_claim_is_late,
    an_outcome_from_another_handle_is_late,
    verdicts_of_one_call_are_independent,
}

async fn a_finished_job_shows_its_result(kit: &Kit) {
    let broker = kit.handle().await;
    let new = job("1", "default");
    enqueue(&broker, vec![new.clone()]).await;
    let claimed = claim(&broker, &["default"], 1).await.remove(0);
    assert!(settle(&broker, &claimed, finish()).await);
    let view = kit
        .handle()
        .await
        .find(&[id("1")])
        .await
        .unwrap()
        .remove(0)
        .unwrap();
    assert_eq!(view.state, JobState::Finished);
    assert_eq!(view.result.as_deref(), Some(b"42".as_slice()));
    assert_eq!(
        (view.id, view.queue, view.task, view.payload),
        (new.id, Some(new.queue), new.task, new.payload)
    );
    assert!(view.ended.is_some_and(|ended| ended >= view.enqueued));
    assert_eq!(
        (
            view.failures.unwrap_or(0),
            view.losses.unwrap_or(0),
            view.error,
            view.due
        ),
        (0, 0, None, None)
    );
    assert!(claim_ids(&broker, 9).await.is_empty());
}

async fn a_job_without_time_to_live_keeps_no_result(kit: &Kit) {
    let broker = kit.handle().await;
    let new = NewJob {
        result_ttl: Some(Duration::ZERO),
        unique_key: Some("key".into()),
        ..job("1", "default")
    };
    enqueue(&broker, vec![new.clone()]).await;
    let claimed = claim(&broker, &["default"], 1).await.remove(0);
    assert!(settle(&broker, &claimed, finish()).await);
    let known = kit.name_of("1", "key");
    assert_eq!(state(&broker, known).await, None);
    enqueue(&broker, vec![new]).await;
    assert_eq!(claim_ids(&broker, 9).await, [known], "its id and key are free");
}

async fn the_time_to_live_is_the_jobs_own_before_the_brokers(kit: &Kit) {
    let broker = kit
        .handle_with(BrokerConfig {
            result_ttl: Duration::ZERO,
            ..config()
        })
        .await;
    let keep = NewJob {
        result_ttl: Some(Duration::from_secs(3600)),
        ..job("keep", "default")
    };
    enqueue(&broker, vec![keep, job("drop", "default")]).await;
    for claimed in claim(&broker, &["default"], 9).await {
        assert!(settle(&broker, &claimed, finish()).await);
    }
    assert_eq!(state(&broker, "keep").await, Some(JobState::Finished));
    assert_eq!(state(&broker, "drop").await, None);
}

async fn an_expired_result_is_invisible_and_then_deleted(kit: &Kit) {
    let broker = expired(kit).await;
    assert_eq!(state(&broker, "1").await, None);
    let ended = soon(broker.wait_any(&[id("1")])).await.unwrap();
    assert_eq!(ended, [(0, None)]);
    assert_eq!(
        broker.maintain().await.unwrap().expired,
        kit.deleted_by_maintenance(1)
    );
    assert_eq!(broker.maintain().await.unwrap().expired, 0);
    assert_eq!(state(&broker, "kept").await, Some(JobState::Finished));
}

async fn an_id_is_free_again_once_its_result_expired(kit: &Kit) {
    let broker = expired(kit).await;
    enqueue(&broker, vec![job("1", "default")]).await;
    assert_eq!(claim_ids(&broker, 9).await, ["1"]);
    assert_eq!(broker.maintain().await.unwrap().expired, 0);
}

/// A handle on a store where job `1` has expired and `kept` has not.
async fn expired(kit: &Kit) -> std::sync::Arc<dyn pool::broker::Pull> {
    let broker = kit.handle().await;
    let short = NewJob {
        result_ttl: Some(Duration::from_millis(1)),
        ..job("1", "default")
    };
    enqueue(&broker, vec![short, job("kept", "default")]).await;
    for claimed in claim(&broker, &["default"], 9).await {
        assert!(settle(&broker, &claimed, finish()).await);
    }
    tokio::time::sleep(kit.kept(Duration::from_millis(1)) + Duration::from_millis(5)).await;
    broker
}

fn no() -> JobError {
    JobError::new("ValueError", "no")
}

fn again(due: Option<Unix>, error: JobError) -> Verdict {
    Verdict::Again {
        due,
        at_front: false,
        failures: 1,
        losses: 2,
        error,
    }
}

async fn a_requeued_job_waits_behind_the_others(kit: &Kit) {
    let broker = kit.handle().await;
    enqueue(&broker, jobs(0..3, "default")).await;
    let first = claim(&broker, &["default"], 1).await.remove(0);
    assert!(settle(&broker, &first, again(None, no())).await);
    assert_eq!(claim_ids(&broker, 9).await, ["00001", "00002", "00000"]);
}

async fn a_requeued_job_remembers_what_went_wrong(kit: &Kit) {
    let broker = kit.handle().await;
    enqueue(&broker, vec![job("1", "default")]).await;
    let first = claim(&broker, &["default"], 1).await.remove(0);
    let error = JobError {
        detail: "line 1\nline 2 — \"quoted\"".into(),
        ..JobError::new("ValueError", "no")
    };
    settle(&broker, &first, again(None, error.clone())).await;
    let view = broker.find(&[id("1")]).await.unwrap().remove(0).unwrap();
    assert_eq!(
        (view.state, view.failures, view.losses),
        (JobState::Waiting, Some(1), Some(2))
    );
    assert_eq!(view.error, Some(error.clone()));
    let second = claim(&broker, &["default"], 1).await.remove(0);
    assert_eq!((second.job.failures, second.job.losses), (1, 2));
    assert!(second.claim.epoch > first.claim.epoch);
    settle(&broker, &second, give_back()).await;
    let view = broker.find(&[id("1")]).await.unwrap().remove(0).unwrap();
    assert_eq!(view.error, Some(error), "given back, it keeps the last one");
}

async fn a_job_put_off_waits_for_its_time(kit: &Kit) {
    let broker = kit.handle().await;
    enqueue(&broker, jobs(0..2, "default")).await;
    let claimed = claim(&broker, &["default"], 2).await;
    let due = Unix::now() + Duration::from_millis(300);
    settle(&broker, &claimed[0], again(Some(due), no())).await;
    settle(&broker, &claimed[1], again(Some(Unix(1)), no())).await;
    let due = kit.kept_at(due);
    let view = broker.find(&[id("00000")]).await.unwrap().remove(0).unwrap();
    if Unix::now() < due {
        assert_eq!((view.state, view.due), (JobState::Scheduled, Some(due)));
    }
    assert_eq!(claim(&broker, &["default"], 1).await[0].claim.job, id("00001"));
    soon(broker.ready(&[queue("default")])).await.unwrap();
    assert!(Unix::now() >= due);
    assert_eq!(claim_ids(&broker, 9).await, ["00000"]);
}

async fn jobs_given_back_stand_in_their_old_order(kit: &Kit) {
    let broker = kit.handle().await;
    enqueue(&broker, jobs(0..5, "default")).await;
    let claimed = claim(&broker, &["default"], 4).await;
    settle(&broker, &claimed[1], give_back()).await;
    let both = [&claimed[3], &claimed[0]].map(|claimed| Settlement {
        of: claimed.claim.clone(),
        verdict: give_back(),
        run: None,
    });
    assert_eq!(broker.settle(both.to_vec()).await.unwrap(), [true, true]);
    assert_eq!(claim_ids(&broker, 9).await, ["00000", "00001", "00003", "00004"]);
}

async fn a_claim_settles_once(kit: &Kit) {
    let broker = kit.handle().await;
    enqueue(&broker, jobs(0..3, "default")).await;
    for (claimed, verdict) in
        claim(&broker, &["default"], 3)
            .await
            .iter()
            .zip([finish(), bury("no"), again(None, no())])
    {
        assert!(settle(&broker, claimed, verdict.clone()).await);
        for again in [verdict, finish(), bury("again"), give_back()] {
            assert!(!settle(&broker, claimed, again).await);
        }
    }
    assert_eq!(state(&broker, "00000").await, Some(JobState::Finished));
    assert_eq!(state(&broker, "00001").await, Some(JobState::Dead));
    assert_eq!(state(&broker, "00002").await, Some(JobState::Waiting));
    assert_eq!(broker.backlog(&[queue("default")]).await.unwrap().waiting(), 1);
}

async fn an_outcome_of_an_earlier_claim_is_late(kit: &Kit) {
    let broker = kit.handle().await;
    enqueue(&broker, jobs(0..1, "default")).await;
    let first = claim(&broker, &["default"], 1).await.remove(0);
    settle(&broker, &first, give_back()).await;
    let second = claim(&broker, &["default"], 1).await.remove(0);
    assert_eq!(second.claim.job, first.claim.job);
    assert!(!settle(&broker, &first, finish()).await);
    assert_eq!(state(&broker, "00000").await, Some(JobState::Running));
    settle(&broker, &second, bury("no")).await;
    broker.retry_dead(&[id("00000")]).await.unwrap();
    let third = claim(&broker, &["default"], 1).await.remove(0);
    assert!(
        !settle(&broker, &second, finish()).await,
        "a retried dead letter is claimed anew"
    );
    assert!(settle(&broker, &third, finish()).await);
}

async fn an_outcome_from_another_handle_is_late(kit: &Kit) {
    let (one, other) = (kit.handle().await, kit.handle().await);
    enqueue(&one, jobs(0..2, "default")).await;
    let mine = claim(&one, &["default"], 1).await.remove(0);
    claim(&other, &["default"], 1).await;
    assert!(!settle(&other, &mine, finish()).await);
    assert!(settle(&one, &mine, finish()).await);
}

async fn verdicts_of_one_call_are_independent(kit: &Kit) {
    let broker = kit.handle().await;
    enqueue(&broker, jobs(0..4, "default")).await;
    let claimed = claim(&broker, &["default"], 4).await;
    settle(&broker, &claimed[1], finish()).await;
    let verdicts = [finish(), finish(), bury("no"), give_back()];
    let settlements = claimed.iter().zip(verdicts).map(|(claimed, verdict)| Settlement {
        of: claimed.claim.clone(),
        verdict,
        run: None,
    });
    let done = broker.settle(settlements.collect()).await.unwrap();
    assert_eq!(done, [true, false, true, true]);
    let states = [
        JobState::Finished,
        JobState::Finished,
        JobState::Dead,
        JobState::Waiting,
    ];
    let views = broker.find(&ids(0..4)).await.unwrap();
    assert_eq!(
        views
            .iter()
            .map(|view| view.as_ref().unwrap().state)
            .collect::<Vec<_>>(),
        states
    );
}

//! Rules of dead letters.

use std::sync::Arc;
use std::time::Duration;

use pool::broker::{DeadFilter, Pull};
use pool::job::{JobError, JobState, NewJob, Verdict};

use super::kit::*;

super::rules! {
    a_buried_job_is_kept_with_its_error,
    dead_letters_are_listed_the_newest_first,
    dead_letters_are_filtered_by_queue_and_task,
    dead_letters_are_filtered_by_their_time_of_death,
    a_retried_dead_letter_runs_anew,
    only_dead_letters_are_retried_or_deleted,
    a_deleted_dead_letter_is_gone,
    a_dead_letter_is_not_retried_while_its_key_is_held,
}

/// Enqueues jobs and buries them, one after the other.
async fn buried(broker: &Arc<dyn Pull>, jobs: Vec<NewJob>) {
    for new in jobs {
        let name = new.queue.to_string();
        let message = format!("no {}", new.id);
        enqueue(broker, vec![new]).await;
        let claimed = claim(broker, &[&name], 1).await.remove(0);
        assert!(settle(broker, &claimed, bury(&message)).await);
        tokio::time::sleep(Duration::from_millis(2)).await; // told apart by their time of death
    }
}

async fn listed(broker: &Arc<dyn Pull>, filter: DeadFilter) -> Vec<String> {
    let dead = broker.dead(&filter).await.unwrap();
    assert!(dead.iter().all(|view| view.state == JobState::Dead));
    dead.iter().map(|view| view.id.to_string()).collect()
}

fn all() -> DeadFilter {
    DeadFilter {
        limit: 100,
        ..DeadFilter::default()
    }
}

async fn a_buried_job_is_kept_with_its_error(kit: &Kit) {
    let broker = kit.handle().await;
    enqueue(&broker, vec![job("1", "default")]).await;
    let claimed = claim(&broker, &["default"], 1).await.remove(0);
    let error = JobError {
        detail: "Traceback".into(),
        ..JobError::new("ValueError", "no")
    };
    let verdict = Verdict::Bury {
        error: error.clone(),
        failures: 3,
        losses: 1,
    };
    assert!(settle(&broker, &claimed, verdict).await);
    let dead = broker.dead(&all()).await.unwrap();
    assert_eq!(dead.len(), 1);
    assert_eq!(dead[0].error, Some(error));
    assert_eq!((dead[0].failures, dead[0].losses), (Some(3), Some(1)));
    assert!(dead[0].ended.is_some());
    assert_eq!(dead[0].payload, arguments_of("1").as_bytes());
    assert_eq!(broker.find(&[id("1")]).await.unwrap(), [Some(dead[0].clone())]);
    assert!(claim_ids(&broker, 9).await.is_empty());
}

async fn dead_letters_are_listed_the_newest_first(kit: &Kit) {
    let broker = kit.handle().await;
    assert!(listed(&broker, all()).await.is_empty());
    buried(
        &broker,
        vec![job("z", "default"), job("a", "default"), job("m", "default")],
    )
    .await;
    assert_eq!(listed(&broker, all()).await, ["m", "a", "z"]);
    assert_eq!(
        listed(&broker, DeadFilter { limit: 2, ..all() }).await,
        ["m", "a"]
    );
    assert!(listed(&broker, DeadFilter { limit: 0, ..all() }).await.is_empty());
}

async fn dead_letters_are_filtered_by_queue_and_task(kit: &Kit) {
    let broker = kit.handle().await;
    let other_task = NewJob {
        task: "other".into(),
        ..job("3", "mail")
    };
    buried(&broker, vec![job("1", "mail"), job("2", "default"), other_task]).await;
    let mail = Some(queue("mail"));
    let of_queue = DeadFilter {
        queue: mail.clone(),
        ..all()
    };
    assert_eq!(listed(&broker, of_queue).await, ["3", "1"]);
    let of_task = DeadFilter {
        task: Some("work".into()),
        ..all()
    };
    assert_eq!(listed(&broker, of_task).await, ["2", "1"]);
    let of_both = DeadFilter {
        queue: mail,
        task: Some("work".into()),
        limit: 1,
        ..all()
    };
    assert_eq!(listed(&broker, of_both).await, ["1"]);
    let of_nothing = DeadFilter {
        queue: Some(queue("unknown")),
        ..all()
    };
    assert!(listed(&broker, of_nothing).await.is_empty());
}

async fn dead_letters_are_filtered_by_their_time_of_death(kit: &Kit) {
    let broker = kit.handle().await;
    buried(&broker, jobs(0..3, "default")).await;
    let second = broker.find(&ids(1..2)).await.unwrap().remove(0).unwrap();
    let up_to_second = DeadFilter {
        ended_by: second.ended,
        ..all()
    };
    assert_eq!(listed(&broker, up_to_second).await, ["00001", "00000"]);
}

async fn a_retried_dead_letter_runs_anew(kit: &Kit) {
    let broker = kit.handle().await;
    buried(&broker, jobs(0..2, "default")).await;
    enqueue(&broker, jobs(2..3, "default")).await;
    assert_eq!(broker.retry_dead(&ids(0..1)).await.unwrap(), ids(0..1));
    let view = broker.find(&ids(0..1)).await.unwrap().remove(0).unwrap();
    assert_eq!(view.state, JobState::Waiting);
    assert_eq!(
        (
            view.failures.unwrap_or(0),
            view.losses.unwrap_or(0),
            view.error,
            view.ended
        ),
        (0, 0, None, None)
    );
    assert_eq!(listed(&broker, all()).await, ["00001"]);
    assert_eq!(broker.backlog(&[queue("default")]).await.unwrap().waiting(), 2);
    let claimed = claim(&broker, &["default"], 9).await;
    assert_eq!(ids_of(&claimed), ["00002", "00000"]);
    assert_eq!(claimed[1].job.failures, 0);
    assert_eq!(kit.arguments(&claimed[1]), arguments_of("00000").as_bytes());
    assert!(settle(&broker, &claimed[1], finish()).await);
}

async fn only_dead_letters_are_retried_or_deleted(kit: &Kit) {
    let broker = kit.handle().await;
    buried(&broker, vec![job("dead", "default")]).await;
    enqueue(
        &broker,
        vec![
            job("done", "default"),
            job("runs", "default"),
            job("waits", "default"),
        ],
    )
    .await;
    let claimed = claim(&broker, &["default"], 2).await;
    settle(&broker, &claimed[0], finish()).await;
    let all_ids = ["unknown", "done", "runs", "waits", "dead", "dead"].map(id);
    assert_eq!(broker.retry_dead(&all_ids).await.unwrap(), [id("dead")]);
    assert!(broker.delete_dead(&all_ids).await.unwrap().is_empty());
    assert_eq!(state(&broker, "done").await, Some(JobState::Finished));
    assert_eq!(state(&broker, "runs").await, Some(JobState::Running));
    assert_eq!(claim_ids(&broker, 9).await, ["waits", "dead"]);
}

async fn a_deleted_dead_letter_is_gone(kit: &Kit) {
    let broker = kit.handle().await;
    buried(&broker, jobs(0..3, "default")).await;
    assert_eq!(broker.delete_dead(&ids(1..3)).await.unwrap(), ids(1..3));
    assert_eq!(listed(&broker, all()).await, ["00000"]);
    assert_eq!(state(&broker, "00001").await, None);
    assert!(broker.delete_dead(&ids(1..2)).await.unwrap().is_empty());
    enqueue(&broker, jobs(1..2, "default")).await;
}

async fn a_dead_letter_is_not_retried_while_its_key_is_held(kit: &Kit) {
    let broker = kit.handle().await;
    let keyed = |name| NewJob {
        unique_key: Some("key".into()),
        ..job(name, "default")
    };
    buried(&broker, vec![keyed("dead")]).await;
    enqueue(&broker, vec![keyed("live")]).await;
    assert!(broker.retry_dead(&[id("dead")]).await.unwrap().is_empty());
    let live = claim(&broker, &["default"], 9).await.remove(0);
    settle(&broker, &live, finish()).await;
    assert_eq!(broker.retry_dead(&[id("dead")]).await.unwrap(), [id("dead")]);
    let held = enqueue(&broker, vec![keyed("new")]).await;
    assert_eq!(held[0].id(), &id("dead"), "it holds its key again");
}

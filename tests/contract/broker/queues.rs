//! Rules of enqueueing, of order, and of what is seen of it.

use std::collections::BTreeSet;
use std::time::Duration;

use pool::broker::{BrokerError, Enqueued};
use pool::config::BrokerConfig;
use pool::job::{JobState, NewJob};
use pool::time::Unix;

use super::kit::*;

super::rules! {
    a_claim_hands_out_what_was_enqueued,
    jobs_of_a_queue_come_in_the_order_of_their_enqueueing,
    a_job_at_the_front_goes_ahead_of_all_that_wait,
    queues_are_claimed_in_strict_order,
    a_claim_takes_no_more_than_its_limit,
    a_claimed_job_is_not_claimed_twice,
    concurrent_claimers_never_share_a_job,
    a_scheduled_job_is_claimed_once_it_is_due,
    jobs_that_came_due_go_by_the_time_they_were_due,
    a_job_due_in_the_past_waits_at_once,
    a_unique_key_is_held_until_the_job_ends,
    a_unique_key_holds_within_one_call,
    an_id_that_is_taken_is_refused_and_nothing_is_enqueued,
    a_payload_over_the_limit_is_refused_with_the_figures,
    a_bad_task_name_is_refused,
    the_backlog_counts_what_stands_in_the_queues,
    the_backlog_knows_when_the_oldest_became_ready,
    queues_are_listed_once_they_were_used,
    nothing_enqueued_is_nothing_done,
}

async fn a_claim_hands_out_what_was_enqueued(kit: &Kit) {
    let broker = kit.handle().await;
    let new = NewJob {
        timeout: Some(Duration::from_millis(1500)),
        retries: Some(7),
        ..NewJob::new(queue("mail"), "send", kit.any_arguments())
    };
    let before = Unix::now();
    let answers = enqueue(&broker, vec![new.clone()]).await;
    assert_eq!(answers, [Enqueued::New(new.id.clone())]);
    let claimed = claim(&broker, &["mail"], 10).await.remove(0);
    assert_eq!(claimed.claim.job, new.id);
    assert_eq!(claimed.job.queue, new.queue);
    assert_eq!(claimed.job.task, new.task);
    assert_eq!(kit.arguments(&claimed), new.payload);
    assert_eq!(claimed.job.timeout, new.timeout.map(|timeout| kit.kept(timeout)));
    assert_eq!(claimed.job.retries, new.retries);
    assert_eq!((claimed.job.failures, claimed.job.losses), (0, 0));
    assert!(claimed.job.ready >= before && claimed.job.ready <= Unix::now());
    assert_eq!(state(&broker, new.id.as_str()).await, Some(JobState::Running));
}

async fn jobs_of_a_queue_come_in_the_order_of_their_enqueueing(kit: &Kit) {
    let broker = kit.handle().await;
    enqueue(&broker, jobs(0..3, "default")).await;
    kit.handle().await.enqueue(jobs(3..5, "default")).await.unwrap();
    assert_eq!(claim_ids(&broker, 2).await, ["00000", "00001"]);
    assert_eq!(claim_ids(&broker, 9).await, ["00002", "00003", "00004"]);
}

async fn a_job_at_the_front_goes_ahead_of_all_that_wait(kit: &Kit) {
    let broker = kit.handle().await;
    let front = |name| NewJob {
        at_front: true,
        ..job(name, "default")
    };
    enqueue(&broker, vec![job("back", "default"), front("front")]).await;
    enqueue(&broker, vec![front("newest")]).await;
    assert_eq!(claim_ids(&broker, 9).await, ["newest", "front", "back"]);
}

async fn queues_are_claimed_in_strict_order(kit: &Kit) {
    let broker = kit.handle().await;
    enqueue(
        &broker,
        vec![
            job("a", "low"),
            job("b", "high"),
            job("c", "low"),
            job("d", "high"),
        ],
    )
    .await;
    let claimed = claim(&broker, &["high", "unknown", "low"], 3).await;
    assert_eq!(ids_of(&claimed), ["b", "d", "a"]);
    assert_eq!(claimed[2].job.queue, queue("low"));
    assert_eq!(ids_of(&claim(&broker, &["high", "low", "low"], 3).await), ["c"]);
}

async fn a_claim_takes_no_more_than_its_limit(kit: &Kit) {
    let broker = kit.handle().await;
    enqueue(&broker, jobs(0..3, "default")).await;
    assert!(claim_ids(&broker, 0).await.is_empty());
    assert!(claim(&broker, &[], 9).await.is_empty());
    assert!(claim(&broker, &["other"], 9).await.is_empty());
    assert_eq!(claim_ids(&broker, 2).await.len(), 2);
}

async fn a_claimed_job_is_not_claimed_twice(kit: &Kit) {
    let (one, other) = (kit.handle().await, kit.handle().await);
    enqueue(&one, jobs(0..1, "default")).await;
    assert_eq!(claim_ids(&one, 9).await.len(), 1);
    assert!(claim_ids(&one, 9).await.is_empty());
    assert!(claim_ids(&other, 9).await.is_empty());
}

async fn concurrent_claimers_never_share_a_job(kit: &Kit) {
    enqueue(&kit.handle().await, jobs(0..500, "default")).await;
    let mut claimers = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let broker = kit.handle().await;
        claimers.spawn(async move {
            let mut mine = Vec::new();
            loop {
                let claimed = claim_ids(&broker, 7).await;
                if claimed.is_empty() {
                    return (broker, mine); // open until all are done, lest its claims return
                }
                mine.extend(claimed);
            }
        });
    }
    let done = soon(claimers.join_all()).await;
    let mut seen = BTreeSet::new();
    for id in done.iter().flat_map(|(_, mine)| mine) {
        assert!(seen.insert(id), "{id} was claimed twice");
    }
    assert_eq!(seen.len(), 500, "each was claimed");
}

async fn a_scheduled_job_is_claimed_once_it_is_due(kit: &Kit) {
    let broker = kit.handle().await;
    let due = Unix::now() + Duration::from_millis(300);
    let later = NewJob {
        due: Some(due),
        ..job("later", "default")
    };
    enqueue(&broker, vec![later]).await;
    let due = kit.kept_at(due);
    let view = broker.find(&[id("later")]).await.unwrap().remove(0).unwrap();
    assert_eq!((view.state, view.due), (JobState::Scheduled, Some(due)));
    let early = claim_ids(&broker, 9).await;
    assert!(
        early.is_empty() || Unix::now() >= due,
        "claimed before it was due"
    );
    if early.is_empty() {
        soon(broker.ready(&[queue("default")])).await.unwrap();
        assert!(Unix::now() >= due, "ready before it was due");
        let claimed = claim(&broker, &["default"], 9).await.remove(0);
        assert_eq!(claimed.claim.job, id("later"));
        assert!(claimed.job.ready >= due, "it could run before it was due");
    }
    assert_eq!(state(&broker, "later").await, Some(JobState::Running));
}

async fn jobs_that_came_due_go_by_the_time_they_were_due(kit: &Kit) {
    let broker = kit.handle().await;
    let now = Unix::now();
    let soon_due = |name, units| NewJob {
        due: Some(now + kit.kept(Duration::from_millis(80)) * units),
        ..job(name, "default")
    };
    let jobs = vec![soon_due("third", 3), soon_due("first", 1), soon_due("second", 2)];
    let (first_due, last_due) = (jobs[1].due.unwrap(), jobs[0].due.unwrap());
    enqueue(&broker, jobs).await;
    if Unix::now() >= first_due {
        eprintln!("this machine stalled: nothing is proved");
        return;
    }
    tokio::time::sleep((last_due + Duration::from_millis(1)).since(Unix::now())).await;
    kit.let_due_jobs_be_seen(&broker).await;
    enqueue(&broker, vec![job("fourth", "default")]).await;
    assert_eq!(
        claim_ids(&broker, 9).await,
        ["first", "second", "third", "fourth"]
    );
}

async fn a_job_due_in_the_past_waits_at_once(kit: &Kit) {
    let broker = kit.handle().await;
    let past = NewJob {
        due: Some(Unix(1)),
        ..job("past", "default")
    };
    enqueue(&broker, vec![past]).await;
    assert_eq!(state(&broker, "past").await, Some(JobState::Waiting));
    assert_eq!(claim_ids(&broker, 9).await, ["past"]);
}

async fn a_unique_key_is_held_until_the_job_ends(kit: &Kit) {
    let broker = kit.handle().await;
    let keyed = |name: &str, due| NewJob {
        unique_key: Some("nightly".into()),
        due,
        ..job(name, "default")
    };
    let known = |name| id(kit.name_of(name, "nightly"));
    let held = [Enqueued::Duplicate(known("1"))];
    assert_eq!(
        enqueue(&broker, vec![keyed("1", None)]).await,
        [Enqueued::New(known("1"))]
    );
    assert_eq!(
        enqueue(&broker, vec![keyed("2", None)]).await,
        held,
        "while it waits"
    );
    let first = claim(&broker, &["default"], 9).await.remove(0);
    assert_eq!(
        enqueue(&broker, vec![keyed("2", None)]).await,
        held,
        "while it runs"
    );
    settle(&broker, &first, give_back()).await;
    assert_eq!(
        enqueue(&broker, vec![keyed("2", None)]).await,
        held,
        "while it waits again"
    );
    let first = claim(&broker, &["default"], 9).await.remove(0);
    settle(&broker, &first, finish()).await;
    let far = Some(Unix::now() + Duration::from_secs(3600));
    assert_eq!(
        enqueue(&broker, vec![keyed("2", far)]).await,
        [Enqueued::New(known("2"))],
        "free at its end"
    );
    assert_eq!(
        enqueue(&broker, vec![keyed("3", None)]).await,
        [Enqueued::Duplicate(known("2"))],
        "scheduled"
    );
    assert_eq!(state(&broker, "3").await, None, "a duplicate is not kept");
    assert!(claim_ids(&broker, 9).await.is_empty());
}

async fn a_unique_key_holds_within_one_call(kit: &Kit) {
    let broker = kit.handle().await;
    let keyed = |name: &str| NewJob {
        unique_key: Some("nightly".into()),
        ..job(name, "default")
    };
    let answers = enqueue(&broker, vec![keyed("1"), keyed("2"), job("3", "default")]).await;
    let known = |name| id(kit.name_of(name, "nightly"));
    let expected = [
        Enqueued::New(known("1")),
        Enqueued::Duplicate(known("1")),
        Enqueued::New(id("3")),
    ];
    assert_eq!(answers, expected);
    assert_eq!(broker.backlog(&[queue("default")]).await.unwrap().waiting(), 2);
    let first = claim(&broker, &["default"], 1).await.remove(0);
    settle(&broker, &first, bury("no")).await;
    assert_eq!(
        enqueue(&broker, vec![keyed("4")]).await,
        [Enqueued::New(known("4"))],
        "free at a burial"
    );
}

async fn an_id_that_is_taken_is_refused_and_nothing_is_enqueued(kit: &Kit) {
    let broker = kit.handle().await;
    enqueue(&broker, vec![job("taken", "default")]).await;
    for batch in [
        vec![job("new", "other"), job("taken", "other")],
        vec![job("new", "other"), job("new", "other")],
    ] {
        let id = batch[1].id.clone();
        let refused = broker.enqueue(batch).await.unwrap_err();
        assert!(refused.to_string().contains(&format!("`{id}`")), "{refused}");
        assert!(
            matches!(&refused, BrokerError::IdTaken(taken) if *taken == id),
            "{refused:?}"
        );
        assert_eq!(state(&broker, "new").await, None);
        assert_eq!(broker.backlog(&[queue("other")]).await.unwrap().waiting(), 0);
    }
    enqueue(&broker, vec![job("new", "other")]).await;
    assert_eq!(
        ids_of(&claim(&broker, &["default", "other"], 9).await),
        ["taken", "new"]
    );
}

async fn a_payload_over_the_limit_is_refused_with_the_figures(kit: &Kit) {
    let broker = kit
        .handle_with(BrokerConfig {
            max_payload: 1000,
            ..config()
        })
        .await;
    let big = |len: usize| NewJob {
        payload: arguments_of(&"x".repeat(len - arguments_of("").len())).into(),
        ..job("big", "default")
    };
    let refused = broker.enqueue(vec![big(1001)]).await.unwrap_err();
    assert!(matches!(&refused, BrokerError::Refused(_)), "{refused:?}");
    for part in ["`big`", "`work`", "1001", "1000", "broker.max_payload"] {
        assert!(refused.to_string().contains(part), "{refused}");
    }
    enqueue(&broker, vec![big(1000)]).await;
    let claimed = claim(&broker, &["default"], 1).await.remove(0);
    assert_eq!(kit.arguments(&claimed).len(), 1000);
}

async fn a_bad_task_name_is_refused(kit: &Kit) {
    let broker = kit.handle().await;
    for task in ["", "a\nb", &"x".repeat(256)] {
        let job = NewJob::new(queue("default"), task, "");
        let refused = broker.enqueue(vec![job]).await.unwrap_err();
        assert!(
            matches!(refused, BrokerError::Refused(_)),
            "{task:?}: {refused:?}"
        );
    }
}

async fn the_backlog_counts_what_stands_in_the_queues(kit: &Kit) {
    let broker = kit.handle().await;
    let counts = async |names: &[&str]| {
        let names: Vec<_> = names.iter().map(|name| queue(name)).collect();
        let backlog = broker.backlog(&names).await.unwrap();
        (backlog.waiting(), backlog.scheduled)
    };
    assert_eq!(counts(&["a", "b"]).await, (0, 0));
    enqueue(&broker, jobs(0..3, "a")).await;
    enqueue(&broker, jobs(3..5, "b")).await;
    let later = NewJob {
        due: Some(Unix::now() + Duration::from_secs(3600)),
        ..job("later", "b")
    };
    enqueue(&broker, vec![later]).await;
    assert_eq!((counts(&["a"]).await, counts(&["b"]).await), ((3, 0), (2, 1)));
    assert_eq!(counts(&["a", "b", "unknown"]).await, (5, 1));
    let both = broker.backlog(&[queue("b"), queue("a")]).await.unwrap().by_queue;
    assert!(
        both.contains(&(queue("a"), 3)) && both.contains(&(queue("b"), 2)),
        "{both:?}"
    );
    let claimed = claim(&broker, &["a"], 2).await;
    assert_eq!(counts(&["a"]).await, (1, 0), "what runs does not wait");
    settle(&broker, &claimed[0], finish()).await;
    settle(&broker, &claimed[1], give_back()).await;
    assert_eq!(counts(&["a"]).await, (2, 0));
}

async fn the_backlog_knows_when_the_oldest_became_ready(kit: &Kit) {
    let broker = kit.handle().await;
    let oldest = async || broker.backlog(&[queue("default")]).await.unwrap().oldest;
    assert_eq!(oldest().await, None);
    let before = Unix::now();
    enqueue(&broker, vec![job("old", "default")]).await;
    let first = oldest().await.expect("one waits");
    assert!(before <= first && first <= Unix::now());
    tokio::time::sleep(Duration::from_millis(20)).await;
    let front = NewJob {
        at_front: true,
        ..job("new", "default")
    };
    enqueue(&broker, vec![front]).await;
    assert_eq!(
        oldest().await,
        Some(first),
        "a newer one ahead of it hides it not"
    );
    assert_eq!(claim_ids(&broker, 1).await, ["new"]);
    assert_eq!(oldest().await, Some(first));
    assert_eq!(claim_ids(&broker, 1).await, ["old"]);
    assert_eq!(oldest().await, None);
}

async fn queues_are_listed_once_they_were_used(kit: &Kit) {
    let broker = kit.handle().await;
    assert!(broker.queue_names().await.unwrap().is_empty());
    claim(&broker, &["asked for only"], 1).await;
    enqueue(&broker, vec![job("1", "b"), job("2", "a"), job("3", "b")]).await;
    claim(&broker, &["a"], 1).await;
    assert_eq!(broker.queue_names().await.unwrap(), [queue("a"), queue("b")]);
}

async fn nothing_enqueued_is_nothing_done(kit: &Kit) {
    let broker = kit.handle().await;
    assert!(enqueue(&broker, vec![]).await.is_empty());
    assert!(broker.settle(vec![]).await.unwrap().is_empty());
    assert!(broker.find(&[]).await.unwrap().is_empty());
}

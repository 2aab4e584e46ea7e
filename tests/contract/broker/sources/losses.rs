//! Rules of what is lost on the way: answers, servers, supervisors, leases.

use pool::broker::source::Late;
use pool::job::NewJob;

use super::fed::{Fed, add, ids_of};
use super::store::Store;
use crate::broker::kit::{bury, finish, give_back, job, waits};

/// It is sent again, and takes effect once.
pub async fn an_unanswered_outcome_is_taken_once(store: &dyn Store) {
    let producer = store.handle().await;
    add(&producer, 0..4, "default").await;
    let mut fed = Fed::over(store.handle().await).await;
    fed.want(&["default"], 4);
    let mut jobs = fed.jobs(4).await;
    jobs.iter().for_each(|job| fed.began(job));
    // Before its first use a server does not know the script that settles: that would be all that is lost.
    fed.settle(&jobs.split_off(3), &finish());
    assert_eq!(fed.all_settled().await, []);
    fed.want(&["default"], 9);
    store.remote().lose_answers();
    fed.settle(&jobs[..1], &finish());
    fed.settle(&jobs[1..2], &bury("no"));
    fed.settle(&jobs[2..], &give_back());
    assert_eq!(fed.all_settled().await, []);
    let again = fed.jobs(1).await;
    assert_eq!(ids_of(&again), ["00002"]);
    fed.settle(&again, &finish());
    assert_eq!(fed.all_settled().await, []);
    fed.want(&["default"], 9);
    fed.empty().await;
    for job in ["00000", "00001", "00002", "00003"] {
        assert_eq!(store.remote().ends(job), 1, "{job}");
    }
}

/// Those that were handed over while it was away are settled afterwards, and jobs come again.
pub async fn outcomes_outlive_the_server(store: &dyn Store) {
    let producer = store.handle().await;
    add(&producer, 0..2, "default").await;
    let mut fed = Fed::over(store.handle().await).await;
    fed.want(&["default"], 2);
    let jobs = fed.jobs(2).await;
    jobs.iter().for_each(|job| fed.began(job));
    fed.want(&["default"], 9);
    store.remote().go_away();
    fed.settle(&jobs[..1], &finish());
    fed.settle(&jobs[1..], &bury("no"));
    let mut settled = Box::pin(fed.settlement());
    assert!(waits(&mut settled).await, "nobody is there to take them");
    drop(settled);
    store.remote().come_back();
    assert_eq!(fed.all_settled().await, []);
    for job in ["00000", "00001"] {
        assert_eq!(store.remote().ends(job), 1, "{job}");
    }
    let producer = store.handle().await;
    add(&producer, 2..3, "default").await;
    assert_eq!(fed.ids(1).await, ["00002"]);
}

/// They come to another one, in their order.
pub async fn jobs_of_a_dead_source_come_back(store: &dyn Store) {
    let producer = store.handle().await;
    add(&producer, 0..4, "default").await;
    let mut dying = Fed::over(store.short_lived().await).await;
    dying.want(&["default"], 3);
    assert_eq!(dying.jobs(3).await.len(), 3);
    drop(dying);
    store.let_leases_run_out();
    let mut fed = Fed::over(store.housekeeper().await).await;
    let mut came = Vec::new();
    while came.len() < 4 {
        fed.want(&["default"], 9);
        let jobs = fed.jobs(1).await;
        came.extend(ids_of(&jobs));
        fed.settle(&jobs, &finish());
    }
    // One that was never taken may come before those that have to be missed first.
    came.retain(|id| id != "00003");
    assert_eq!(came, ["00000", "00001", "00002"]);
    fed.want(&["default"], 9);
    fed.empty().await;
}

/// A job that runs again elsewhere, and one that is no more.
pub async fn late_and_gone_differ(store: &dyn Store) {
    let producer = store.handle().await;
    let forgotten = NewJob {
        result_ttl: Some(std::time::Duration::ZERO),
        ..job("gone", "default")
    };
    let new = vec![forgotten, job("late", "default")];
    producer.producer().unwrap().enqueue(new).await.unwrap();
    let mut fed = Fed::over(store.short_lived().await).await;
    fed.want(&["default"], 2);
    let jobs = fed.jobs(2).await;
    fed.want(&[], 0);
    store.let_leases_run_out();
    let mut other = Fed::over(store.housekeeper().await).await;
    other.want(&["default"], 1);
    let again = other.jobs(1).await;
    assert_eq!(ids_of(&again), ["gone"]);
    other.settle(&again, &finish());
    other.all_settled().await;
    other.want(&["default"], 1);
    assert_eq!(other.ids(1).await, ["late"]);
    fed.settle(&jobs, &finish());
    let expected = [(jobs[0].token, Late::Gone), (jobs[1].token, Late::LeaseLost)];
    assert_eq!(fed.all_settled().await, expected);
}

//! Rules of deliveries on a channel: when they are acknowledged, and what becomes of them when it is lost.

use pool::broker::source::Event;

use super::fed::{Fed, add, ids_of};
use super::store::Store;
use crate::broker::kit::{finish, give_back};

/// A channel that breaks: what was delivered on it comes again, and the outcomes of the first deliveries are late.
pub async fn what_was_delivered_on_a_lost_channel_comes_again(store: &dyn Store) {
    let server = store.channels();
    let producer = store.handle().await;
    add(&producer, 0..2, "default").await;
    let mut fed = Fed::over(store.handle().await).await;
    fed.want(&["default"], 2);
    let lost = fed.jobs(2).await;
    fed.want(&["default"], 2);
    server.close_channels();
    let again = fed.jobs(2).await;
    assert_ne!(again[0].token, lost[0].token);
    fed.settle(&lost, &finish());
    let (count, late) = fed.settlement().await;
    assert_eq!((count, late.len()), (2, 2));
    fed.settle(&again, &finish());
    fed.empty().await;
    assert_eq!(server.counts(), (0, 0));
    assert!(server.has_ended("00000"));
}

pub async fn an_early_ack_comes_with_the_begin(store: &dyn Store) {
    let server = store.channels();
    server.acknowledge_early();
    let producer = store.handle().await;
    add(&producer, 0..2, "default").await;
    let mut fed = Fed::over(store.handle().await).await;
    fed.want(&["default"], 2);
    let jobs = fed.jobs(2).await;
    assert_eq!(server.counts(), (0, 2), "nothing has begun");
    fed.began(&jobs[0]);
    fed.pause();
    fed.settle(&jobs[1..], &give_back());
    while !matches!(fed.next().await, Event::Settled { count: 1, .. }) {}
    assert!(server.was_acked_early("00000") && !server.was_acked_early("00001"));
    assert_eq!(
        server.counts(),
        (1, 0),
        "what was acknowledged is not the server's any more"
    );
    server.close_channels();
    fed.settle(&jobs[..1], &finish());
    assert_eq!(fed.settlement().await, (1, vec![]));
    assert!(server.has_ended("00000"));
}

pub async fn a_lost_channel_voids_the_unbegun(store: &dyn Store) {
    let server = store.channels();
    let producer = store.handle().await;
    add(&producer, 0..2, "default").await;
    let mut fed = Fed::over(store.handle().await).await;
    fed.want(&["default"], 2);
    let lost = fed.jobs(2).await;
    fed.began(&lost[0]);
    fed.want(&["default"], 2);
    server.close_channels();
    let void = |event| match event {
        Event::Void { token } => Some(token),
        _ => None,
    };
    let token = fed.first(void).await;
    assert_eq!(token, lost[1].token, "what has begun waits for its copy");
    let again = fed.jobs(1).await;
    assert_eq!(ids_of(&again), ["00001"]);
    assert!(again[0].token > lost[1].token);
}

pub async fn a_copy_of_what_runs_waits_for_it(store: &dyn Store) {
    let server = store.channels();
    let producer = store.handle().await;
    add(&producer, 0..2, "default").await;
    let mut fed = Fed::over(store.handle().await).await;
    fed.want(&["default"], 1);
    let runs = fed.jobs(1).await;
    fed.began(&runs[0]);
    fed.want(&["default"], 1);
    server.close_channels();
    // Its copy is not delivered, and takes no room.
    let next = fed.jobs(1).await;
    assert_eq!(ids_of(&next), ["00001"]);
    fed.settle(&runs, &finish());
    fed.settle(&next, &finish());
    while !server.has_ended("00000") || !server.has_ended("00001") {
        assert_eq!(fed.settlement().await.1, []);
    }
    fed.want(&["default"], 1);
    fed.empty().await;
    assert_eq!(server.counts(), (0, 0));
}

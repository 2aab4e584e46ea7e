//! How long this program holds Celery's messages over Redis, and what becomes of them when it loses them.

use std::sync::Arc;
use std::time::Duration;

use pool::broker::parts::turns::Turns;
use pool::broker::{Broker, BrokerError, Pull};
use pool::config::BrokerConfig;
use pool::job::{Settlement, Verdict};
use pool::time::Unix;
use redis::Commands;
use serde_json::{Value, json};

use super::celery::meta;
use super::celery_messages::{World, claim, done, ids, message, settle};
use super::kit::{config, queue, soon};
use crate::support::proxy::Proxy;
use crate::support::wait_for;

#[tokio::test]
async fn leases_are_renewed_and_a_lost_one_is_noticed() {
    let mut world = World::new();
    world.facts["broker"]["options"]["visibility_timeout"] = json!(0.3);
    for id in ["1", "2", "3"] {
        world.send("default", "work", id, &json!({}));
    }
    let far = Unix::now() + Duration::from_secs(3600);
    world.send("default", "work", "far", &json!({"eta": far.to_string()}));
    let broker = world.open().await;
    let claimed = claim(&broker, &["default"], 9).await;
    assert!(broker.holds_more(), "one waits for its time");
    let before = world.scores();
    assert!((before[3] - far.0 as f64 / 1000.0).abs() < 0.002, "{before:?}");
    tokio::time::sleep(Duration::from_millis(120)).await; // a third of the timeout
    // A stock worker gave one back.
    let tag = world
        .unacked()
        .into_iter()
        .find(|(_, entry)| entry.contains("\"2\""))
        .unwrap()
        .0;
    let _: i64 = world.redis.zrem("unacked_index", &tag).unwrap();
    let _: i64 = world.redis.hdel("unacked", &tag).unwrap();
    let claims: Vec<_> = claimed.iter().map(|claimed| claimed.claim.clone()).collect();
    let (called_off, renewed) = tokio::join!(soon(broker.called_off(&claims)), broker.extend());
    renewed.unwrap();
    assert_eq!(
        called_off.unwrap().iter().map(|(at, _)| *at).collect::<Vec<_>>(),
        [1]
    );
    let after = world.scores();
    assert_eq!(after.len(), 3, "what was lost is not made anew");
    assert!(
        after[0] > before[2] && (after[2] - before[3]).abs() < 0.001,
        "{before:?} {after:?}"
    );
    assert!(!settle(&broker, &claimed[1], Verdict::Canceled).await);
    assert!(settle(&broker, &claimed[0], done(&claimed[0])).await);
    // One that ran although its lease was lost: late, and its result stands.
    let tag = world
        .unacked()
        .into_iter()
        .find(|(_, entry)| entry.contains("\"3\""))
        .unwrap()
        .0;
    let _: i64 = world.redis.zrem("unacked_index", &tag).unwrap();
    let _: i64 = world.redis.hdel("unacked", &tag).unwrap();
    assert!(!settle(&broker, &claimed[2], done(&claimed[2])).await);
    assert_eq!(world.result("3").unwrap()["status"], "SUCCESS");
}

#[tokio::test]
async fn what_a_dead_process_held_comes_back_when_its_lease_ends() {
    let mut world = World::new();
    for id in ["1", "2", "3"] {
        world.send("default", "work", id, &json!({}));
    }
    let eta = (Unix::now() + Duration::from_secs(3600)).to_string();
    world.send("default", "work", "far", &json!({"eta": eta}));
    let lease = |seconds| BrokerConfig {
        lease: Duration::from_secs(seconds),
        ..config()
    };
    let (dying, other) = (world.open_with(lease(1)).await, world.open_with(lease(2)).await);
    assert_eq!(claim(&dying, &["default"], 9).await.len(), 3);
    drop(dying);
    world.send("default", "work", "4", &json!({}));
    // A stock worker that was killed while it gave back what was lost.
    let _: () = world.redis.set("unacked_mutex", "its").unwrap();
    let mut came = Vec::new();
    while came.len() < 4 {
        soon(other.ready(&[queue("default")])).await.unwrap();
        for claimed in claim(&other, &["default"], 9).await {
            let marked = meta(&claimed.job.payload)["headers"]["redelivered"] == true;
            assert_eq!(marked, claimed.job.id.as_str() != "4");
            came.push(claimed.job.id.to_string());
        }
    }
    assert_eq!(came, ["4", "1", "2", "3"]);
    assert_eq!(
        other
            .queues()
            .backlog(&[queue("default")])
            .await
            .unwrap()
            .scheduled,
        1
    );
    assert_eq!(world.unacked().len(), 5);
    let handles: Vec<String> = world.redis.zrange("pool_celery_handles", 0, -1).unwrap();
    assert_eq!(handles.len(), 1, "the dead one is forgotten");
}

#[tokio::test]
async fn fifteen_thousand_etas_take_no_room_and_go_back_in_their_order() {
    const COUNT: usize = 15_000;
    let mut world = World::new();
    let eta = (Unix::now() + Duration::from_secs(3600)).to_string();
    for chunk in 0..COUNT / 1000 {
        let mut send = redis::pipe();
        for at in 0..1000 {
            send.lpush(
                "default",
                message("work", &format!("{:05}", chunk * 1000 + at), &json!({"eta": eta})),
            )
            .ignore();
        }
        send.exec(&mut world.redis).unwrap();
    }
    world.send("default", "work", "due", &json!({}));
    let broker = world.open().await;
    assert_eq!(ids(&claim(&broker, &["default"], 1).await), ["due"]);
    let backlog = broker.queues().backlog(&[queue("default")]).await.unwrap();
    assert_eq!((backlog.waiting(), backlog.scheduled), (0, COUNT as u64));
    let late: f64 = world.scores()[1];
    assert!(
        late > Unix::now().0 as f64 / 1000.0 + 3000.0,
        "stock workers leave them until then"
    );
    broker.close().await.unwrap();
    let list = world.list("default");
    assert_eq!(list.len(), COUNT + 1);
    let sent: Vec<String> = list
        .iter()
        .rev()
        .map(|raw| {
            serde_json::from_str::<Value>(raw).unwrap()["headers"]["id"]
                .as_str()
                .unwrap()
                .to_owned()
        })
        .collect();
    assert!(sent[..COUNT].is_sorted() && sent[COUNT] == "due");
    assert_eq!(world.unacked(), []);
}

#[tokio::test]
async fn a_limit_of_etas_holds() {
    let mut world = World::new();
    world.facts["settings"] = json!({"eta_task_limit": 2});
    let eta = (Unix::now() + Duration::from_secs(3600)).to_string();
    for id in ["1", "2"] {
        world.send("default", "work", id, &json!({"eta": eta}));
    }
    let broker = world.open().await;
    assert!(claim(&broker, &["default"], 1).await.is_empty());
    world.send("default", "work", "behind", &json!({}));
    assert!(
        claim(&broker, &["default"], 1).await.is_empty(),
        "as in a stock worker"
    );
    assert!(
        super::kit::waits(&mut broker.ready(&[queue("default")])).await,
        "and nothing spins"
    );
}

#[tokio::test]
async fn what_a_claim_took_whose_answer_is_lost_is_found() {
    let mut world = World::new();
    let proxy = Proxy::start(world.server.port(), fastrand::Rng::new());
    let url = proxy.url();
    world.facts["broker"]["urls"] = json!([url]);
    world.facts["results"] = json!(null);
    let broker = world.open().await;
    assert!(claim(&broker, &["default"], 9).await.is_empty());
    proxy.lose_answers();
    for id in ["1", "2"] {
        world.send("default", "work", id, &json!({}));
    }
    let lost = tokio::spawn({
        let broker = Arc::clone(&broker);
        async move { broker.claim(&[queue("default")], Turns::Strict, 9).await }
    });
    let mut look = world.server.connection();
    let held = tokio::task::spawn_blocking(move || {
        wait_for("both to be taken", String::new, || {
            (look.zcard::<_, i64>("unacked_index").unwrap() == 2).then_some(())
        });
    });
    held.await.unwrap();
    lost.abort();
    let _ = lost.await;
    soon(broker.close()).await.unwrap();
    assert_eq!(world.unacked(), []);
    let list = world.list("default");
    assert!(
        list.len() == 2 && list[1].contains("\"1\"") && list[0].contains("\"2\""),
        "{list:?}"
    );
}

#[tokio::test]
async fn an_outcome_that_is_said_twice_counts_once() {
    let mut world = World::new();
    let proxy = Proxy::start(world.server.port(), fastrand::Rng::new());
    for id in ["0", "1"] {
        world.send("default", "work", id, &json!({}));
    }
    world.facts["broker"]["urls"] = json!([proxy.url()]);
    world.facts["results"]["url"] = json!(proxy.url().replace("/0", "/1"));
    let broker = world.open().await;
    let mut claimed = claim(&broker, &["default"], 2).await;
    let first = claimed.remove(0);
    assert!(
        settle(&broker, &first, done(&first)).await,
        "the server knows the script"
    );
    proxy.lose_answers();
    let settlement = Settlement {
        of: claimed[0].claim.clone(),
        verdict: done(&claimed[0]),
        run: None,
    };
    let lost = soon(broker.settle(vec![settlement.clone()])).await.unwrap_err();
    assert!(matches!(lost, BrokerError::Unreachable { .. }), "{lost}");
    assert_eq!(world.unacked(), [], "it was carried out");
    let answers = soon(broker.settle(vec![settlement])).await.unwrap();
    assert_eq!(answers, [true]);
    assert_eq!(world.result("1").unwrap()["result"], 3);
    assert_eq!(world.unacked(), []);
}

#[tokio::test]
async fn a_user_without_rights_is_told_before_anything_is_taken() {
    let mut world = World::new();
    let acl = ["ACL", "SETUSER", "app", "on", ">pw", "~*", "&*", "+@all", "-hset"];
    redis::cmd(acl[0]).arg(&acl[1..]).exec(&mut world.redis).unwrap();
    world.facts["broker"]["urls"] = json!([world.server.url_for("app:pw")]);
    world.facts["queues"] = json!([{"name": "default"}]);
    world.send("default", "work", "1", &json!({}));
    let broker = world.open().await;
    let refused = broker.begin().await.unwrap_err().to_string();
    assert!(refused.contains("HSET unacked"), "{refused}");
    assert!(!refused.contains("pw"), "{refused}");
    assert_eq!(world.list("default").len(), 1);
}

//! What this program does with Celery's messages over Redis, look by look: what stock workers would find there.

use std::sync::Arc;
use std::time::Duration;

use pool::broker::celery::RedisBroker;
use pool::broker::parts::turns::Turns;
use pool::broker::{Broker, Pull};
use pool::config::BrokerConfig;
use pool::job::{Claimed, JobError, Loss, QueueName, RunStamp, Settlement, Verdict, Work};
use pool::time::Unix;
use redis::{Commands, Connection};
use serde_json::{Value, json};

use super::celery::{body, facts, meta, options, outcome};
use super::kit::{config, queue, soon};
use crate::support::server::Server;

/// A server, an application's facts, and a connection to look with.
pub(super) struct World {
    pub server: Server,
    pub facts: Value,
    pub redis: Connection,
}

impl World {
    pub(super) fn new() -> Self {
        let server = Server::start(&[]);
        let mut facts = facts(server.port());
        facts["tasks"]["early"] = json!({"capture": true});
        facts["tasks"]["fragile"] =
            json!({"acks_late": true, "reject_on_worker_lost": true, "time_limit": 2.5});
        let redis = server.connection();
        World { server, facts, redis }
    }

    pub(super) async fn open(&self) -> Arc<RedisBroker> {
        self.open_with(config()).await
    }

    pub(super) async fn open_with(&self, config: BrokerConfig) -> Arc<RedisBroker> {
        Arc::new(
            pool::broker::celery::open_pulled(&options(&self.facts, &config))
                .await
                .unwrap(),
        )
    }

    /// Sends a task as a stock producer does; `headers` and `properties` come on top.
    pub(super) fn send(&mut self, list: &str, task: &str, id: &str, headers: &Value) -> String {
        let raw = message(task, id, headers);
        let _: i64 = self.redis.lpush(list, &raw).unwrap();
        raw
    }

    pub(super) fn list(&mut self, list: &str) -> Vec<String> {
        self.redis.lrange(list, 0, -1).unwrap()
    }

    pub(super) fn unacked(&mut self) -> Vec<(String, String)> {
        let mut all: Vec<(String, String)> = self
            .redis
            .hgetall::<_, std::collections::HashMap<_, _>>("unacked")
            .unwrap()
            .into_iter()
            .collect();
        all.sort();
        all
    }

    pub(super) fn scores(&mut self) -> Vec<f64> {
        let all: Vec<(String, f64)> = self.redis.zrange_withscores("unacked_index", 0, -1).unwrap();
        all.into_iter().map(|(_, score)| score).collect()
    }

    pub(super) fn result(&mut self, id: &str) -> Option<Value> {
        let url = format!("redis://127.0.0.1:{}/1", self.server.port());
        let mut results = redis::Client::open(url).unwrap().get_connection().unwrap();
        let stored: Option<String> = results.get(format!("celery-task-meta-{id}")).unwrap();
        stored.map(|stored| serde_json::from_str(&stored).unwrap())
    }
}

pub(super) fn message(task: &str, id: &str, headers: &Value) -> String {
    let mut all = json!({"lang": "py", "task": task, "id": id, "eta": null, "expires": null, "timelimit": [null, null]});
    all.as_object_mut()
        .unwrap()
        .extend(headers.as_object().unwrap().clone());
    json!({"body": "W1sxLCAyXSwge30sIHt9XQ==", "content-encoding": "utf-8", "content-type": "application/json",
        "headers": all,
        "properties": {"correlation_id": id, "reply_to": "r", "delivery_mode": 2, "priority": 0,
            "delivery_info": {"exchange": "", "routing_key": "default"}, "body_encoding": "base64", "delivery_tag": id}})
    .to_string()
}

pub(super) async fn claim(broker: &RedisBroker, names: &[&str], limit: usize) -> Vec<Claimed> {
    let queues: Vec<QueueName> = names.iter().map(|name| queue(name)).collect();
    broker.claim(&queues, Turns::Strict, limit).await.unwrap()
}

pub(super) fn ids(claimed: &[Claimed]) -> Vec<&str> {
    claimed.iter().map(|claimed| claimed.job.id.as_str()).collect()
}

pub(super) async fn settle(broker: &RedisBroker, claimed: &Claimed, verdict: Verdict) -> bool {
    settle_by(broker, claimed, verdict, None).await
}

async fn settle_by(broker: &RedisBroker, claimed: &Claimed, verdict: Verdict, run: Option<RunStamp>) -> bool {
    let of = claimed.claim.clone();
    broker
        .settle(vec![Settlement { of, verdict, run }])
        .await
        .unwrap()[0]
}

pub(super) fn done(claimed: &Claimed) -> Verdict {
    let result = outcome(&claimed.job.id, "SUCCESS", &json!(3)).into_bytes();
    Verdict::Finish { result }
}

fn said(text: &str) -> Verdict {
    Verdict::Finish {
        result: text.as_bytes().to_vec(),
    }
}

fn lost() -> (Verdict, Option<RunStamp>) {
    let verdict = Verdict::Bury {
        error: JobError::new("worker lost", "killed by signal 9"),
        failures: 1,
        losses: 0,
    };
    let run = RunStamp {
        worker: 1,
        ordinal: 1,
        started: Unix(0),
        ended: Unix(1),
        death: Some(9),
    };
    (verdict, Some(run))
}

#[tokio::test]
async fn what_is_taken_stands_in_unacked_as_kombu_writes_it() {
    let mut world = World::new();
    world.facts["broker"]["options"] =
        json!({"global_keyprefix": "app:", "unacked_key": "un", "unacked_index_key": "ix"});
    let raw = world.send("app:mail \"x\"", "work", "1", &json!({}));
    let broker = world.open().await;
    broker.begin().await.unwrap();
    let claimed = claim(&broker, &["mail \"x\""], 9).await;
    assert_eq!(ids(&claimed), ["1"]);
    assert_eq!(
        (claimed[0].job.kind, body(&claimed[0].job.payload)),
        (1, json!([[1, 2], {}, {}]))
    );
    let (tag, entry): (String, String) = world
        .redis
        .hgetall::<_, std::collections::HashMap<_, _>>("app:un")
        .unwrap()
        .into_iter()
        .next()
        .unwrap();
    assert_eq!(entry, format!(r#"[{raw}, "", "mail \"x\""]"#));
    let score: f64 = world.redis.zscore("app:ix", &tag).unwrap();
    assert!((score - Unix::now().0 as f64 / 1000.0).abs() < 60.0, "{score}");
    assert!(tag.starts_with("pool:") && tag.ends_with(":1"), "{tag}");
    let handle: Vec<String> = world.redis.zrange("app:pool_celery_handles", 0, -1).unwrap();
    assert_eq!(tag, format!("pool:{}:1", handle[0]));
    assert!(settle(&broker, &claimed[0], done(&claimed[0])).await);
    let keys: Vec<String> = world.redis.keys("*").unwrap();
    assert_eq!(keys, ["app:pool_celery_handles"], "all else is gone");
    broker.close().await.unwrap();
    assert_eq!(world.redis.keys::<_, Vec<String>>("*").unwrap(), [""; 0]);
}

#[tokio::test]
async fn priorities_and_queues_come_in_the_order_of_kombu() {
    let mut world = World::new();
    world.facts["broker"]["options"] = json!({});
    for (list, id) in [
        ("a\x06\x169", "a9"),
        ("b\x06\x163", "b3"),
        ("a", "a1"),
        ("a", "a2"),
        ("a", "a3"),
        ("b", "b1"),
        ("a\x06\x163", "a4"),
    ] {
        world.send(list, "work", id, &json!({}));
    }
    let broker = world.open().await;
    // All of a priority before all of the next; the queue that gave goes last.
    assert_eq!(ids(&claim(&broker, &["a", "b"], 3).await), ["a1", "b1", "a2"]);
    assert_eq!(
        ids(&claim(&broker, &["a", "b"], 9).await),
        ["a3", "b3", "a4", "a9"]
    );
    let returned = |priority: Value| {
        let mut raw: Value = serde_json::from_str(&message("work", "p", &json!({}))).unwrap();
        raw["properties"]["priority"] = priority;
        raw.to_string()
    };
    for (priority, list) in [
        (json!(5), "q\x06\x163"),
        (json!("9"), "q\x06\x169"),
        (json!(null), "q"),
        (json!(-3), "q"),
    ] {
        let _: i64 = world.redis.lpush("q", returned(priority)).unwrap();
        let claimed = claim(&broker, &["q"], 1).await;
        settle(&broker, &claimed[0], Verdict::GiveBack).await;
        assert_eq!(world.redis.llen::<_, i64>(list).unwrap(), 1, "{list:?}");
        let _: i64 = world.redis.del(list).unwrap();
    }
}

#[tokio::test]
async fn what_nobody_can_read_is_put_aside_and_stops_nothing() {
    let mut world = World::new();
    let aside = ["no json", "[1]", "", "{\"body\": 1", "{\"no\": \"properties\"}"];
    let mut odd: Vec<String> = aside.map(str::to_owned).into();
    odd.push(message("work", "x", &json!({"eta": "soon"})));
    for raw in &odd {
        let _: i64 = world.redis.lpush("default", raw).unwrap();
    }
    let _: i64 = world.redis.lpush("default", b"\xff\xfe").unwrap();
    let _: () = world.redis.set("broken", "of another type").unwrap();
    world.send("default", "work", "1", &json!({}));
    let broker = world.open().await;
    assert_eq!(ids(&claim(&broker, &["broken", "default"], 99).await), ["1"]);
    assert!(claim(&broker, &["default"], 99).await.is_empty());
    assert_eq!(world.unacked().len(), 1, "only what runs");
    let kept: Vec<Vec<u8>> = world.redis.lrange("pool_celery_unreadable", 0, -1).unwrap();
    assert_eq!(kept.len(), odd.len() + 1);
    for raw in odd {
        assert!(
            kept.iter()
                .any(|kept| String::from_utf8_lossy(kept).contains(&raw)),
            "{raw}"
        );
    }
}

#[tokio::test]
async fn a_key_of_another_type_costs_no_message() {
    let mut world = World::new();
    world.send("default", "work", "1", &json!({}));
    let broker = world.open().await;
    for key in ["unacked", "unacked_index", "pool_celery_handles"] {
        let _: () = world.redis.set(key, "of another type").unwrap();
        let refused = broker.claim(&[queue("default")], Turns::Strict, 9).await;
        assert!(refused.unwrap_err().to_string().contains("WRONGTYPE"), "{key}");
        assert_eq!(world.list("default").len(), 1, "{key}");
        let _: () = world.redis.del(key).unwrap();
    }
    let claimed = claim(&broker, &["default"], 9).await;
    let _: () = world.redis.set("default", "of another type").unwrap();
    assert!(settle(&broker, &claimed[0], Verdict::GiveBack).await);
    assert_eq!(world.list("pool_celery_unreadable").len(), 1);
}

#[tokio::test]
async fn messages_of_other_kinds_are_for_celerys_own_code() {
    let mut world = World::new();
    let old = json!({"body": "eyJ0YXNrIjogIndvcmsiLCAiaWQiOiAib2xkIiwgImFyZ3MiOiBbXSwgImt3YXJncyI6IHt9fQ==",
        "content-encoding": "utf-8", "content-type": "application/json", "headers": {},
        "properties": {"body_encoding": "base64", "delivery_tag": "t", "delivery_info": {}}});
    let mut nameless = old.clone();
    nameless["body"] = json!("");
    let _: i64 = world.redis.lpush("default", old.to_string()).unwrap();
    let _: i64 = world.redis.lpush("default", nameless.to_string()).unwrap();
    world.send("default", "who knows", "unknown", &json!({}));
    let broker = world.open().await;
    let claimed = claim(&broker, &["default"], 9).await;
    let kinds: Vec<_> = claimed.iter().map(|claimed| claimed.job.kind).collect();
    assert_eq!(kinds, [2, 2, 2]);
    assert_eq!((ids(&claimed)[0], ids(&claimed)[2]), ("old", "unknown"));
    assert!(ids(&claimed)[1].starts_with("pool:"), "{:?}", ids(&claimed));
    // Its body said that it is not due, to whoever decoded it.
    let later = format!(
        r#"{{"state": "LATER", "then": null, "eta": {}}}"#,
        Unix::now().0 as f64 / 1000.0 + 0.2
    );
    assert!(settle(&broker, &claimed[0], said(&later)).await);
    assert_eq!(
        broker
            .queues()
            .backlog(&[queue("default")])
            .await
            .unwrap()
            .scheduled,
        1
    );
    soon(broker.ready(&[queue("default")])).await.unwrap();
    let again = claim(&broker, &["default"], 9).await;
    assert_eq!(ids(&again), ["old"]);
    assert_eq!(meta(&again[0].job.payload)["due"], true);
    // What Celery's code says becomes of them.
    assert!(
        settle(
            &broker,
            &claimed[1],
            said(r#"{"state": "REJECTED", "then": "reject"}"#)
        )
        .await
    );
    assert!(
        settle(
            &broker,
            &claimed[2],
            said(r#"{"state": "REJECTED", "then": "requeue"}"#)
        )
        .await
    );
    assert_eq!(world.list("default").len(), 1);
    assert_eq!(world.unacked().len(), 1);
}

#[tokio::test]
async fn an_early_task_is_acknowledged_when_it_begins_and_never_comes_back() {
    let mut world = World::new();
    for id in ["begun", "waits"] {
        world.send("default", "early", id, &json!({}));
    }
    world.send("default", "work", "late", &json!({}));
    let broker = world.open().await;
    let claimed = claim(&broker, &["default"], 9).await;
    let begun = vec![claimed[0].claim.clone(), claimed[2].claim.clone()];
    broker.note_begun(begun).await.unwrap();
    let left: Vec<_> = world.unacked().into_iter().map(|(_, entry)| entry).collect();
    assert_eq!(left.len(), 2);
    assert!(
        left.iter().any(|entry| entry.contains("\"waits\""))
            && left.iter().any(|entry| entry.contains("\"late\""))
    );
    // A renewal makes no entry of it again.
    broker.extend().await.unwrap();
    assert_eq!(world.scores().len(), 2);
    assert!(
        settle(&broker, &claimed[0], done(&claimed[0])).await,
        "its outcome is not late"
    );
    assert_eq!(world.result("begun").unwrap()["result"], 3);
    assert!(
        settle(
            &broker,
            &claimed[1],
            said(r#"{"state": "REJECTED", "then": "requeue"}"#)
        )
        .await
    );
    assert_eq!(
        world.list("default"),
        [""; 0],
        "an early one is gone, whatever it says"
    );
    broker.close().await.unwrap();
    assert_eq!(world.list("default").len(), 1);
    assert_eq!(world.unacked(), []);
}

#[tokio::test]
async fn a_lost_or_killed_task_is_ended_by_a_chore() {
    let mut world = World::new();
    world.send("default", "work", "lost", &json!({}));
    world.send("default", "fragile", "slow", &json!({"timelimit": [null, 1]}));
    world.send("default", "early", "early", &json!({}));
    let broker = world.open().await;
    let claimed = claim(&broker, &["default"], 9).await;
    assert_eq!(claimed[0].job.loss, Loss::Fails);
    assert_eq!(
        (claimed[1].job.loss, claimed[1].job.timeout),
        (Loss::RunsAgain, Some(Duration::from_millis(2500)))
    );
    let (verdict, run) = lost();
    assert!(settle_by(&broker, &claimed[0], verdict.clone(), run).await);
    let slow = Verdict::Bury {
        error: JobError::new("timeout", "ran longer than its timeout of 2.5 s"),
        failures: 1,
        losses: 0,
    };
    assert!(settle(&broker, &claimed[1], slow).await);
    assert!(settle_by(&broker, &claimed[2], verdict, run).await);
    assert_eq!(world.unacked().len(), 3, "a chore ends them");
    assert!(broker.has_after_work());
    soon(broker.ready(&[queue("default")])).await.unwrap();
    let chores = claim(&broker, &["default"], 9).await;
    let told: Vec<_> = chores
        .iter()
        .map(|chore| meta(&chore.job.payload)["chore"].clone())
        .collect();
    assert_eq!(
        told[0],
        json!({"do": "worker_lost", "status": -9, "acked": false, "final": true})
    );
    assert_eq!(told[1], json!({"do": "timeout", "seconds": 2.5, "acked": false}));
    assert_eq!(
        told[2],
        json!({"do": "worker_lost", "status": -9, "acked": true, "final": true})
    );
    assert!(
        chores
            .iter()
            .all(|chore| (chore.job.kind, chore.job.work) == (3, Work::After))
    );
    assert_eq!(meta(&chores[0].job.payload)["headers"]["id"], "lost");
    // The first try fails, for its store is away.
    let again = Verdict::Again {
        due: None,
        at_front: false,
        failures: 1,
        losses: 0,
        error: JobError::new("ConnectionError", "no"),
    };
    assert!(settle(&broker, &chores[0], again).await);
    assert!(broker.has_after_work());
    assert!(
        settle(
            &broker,
            &chores[1],
            said(r#"{"state": "FAILURE", "then": "ack"}"#)
        )
        .await
    );
    assert!(settle(&broker, &chores[2], said(r#"{"state": "FAILURE", "then": null}"#)).await);
    soon(broker.ready(&[queue("default")])).await.unwrap();
    let chores = broker.claim_after_work(&[queue("default")], 9).await.unwrap();
    assert_eq!((chores.len(), chores[0].job.failures), (1, 1));
    assert!(
        settle(
            &broker,
            &chores[0],
            said(r#"{"state": "FAILURE", "then": "ack"}"#)
        )
        .await
    );
    assert_eq!(world.unacked(), []);
    assert!(!broker.has_after_work());
}

#[tokio::test]
async fn a_chore_that_was_not_done_leaves_its_message() {
    let mut world = World::new();
    world.send("default", "work", "1", &json!({}));
    let broker = world.open().await;
    let claimed = claim(&broker, &["default"], 1).await;
    let (verdict, run) = lost();
    settle_by(&broker, &claimed[0], verdict, run).await;
    broker.close().await.unwrap();
    assert_eq!(world.list("default").len(), 1);
    assert_eq!(world.unacked(), []);
}

#[tokio::test]
async fn a_task_that_came_too_late_is_revoked_by_a_chore() {
    let mut world = World::new();
    let now = Unix::now();
    let soon_over = (now + Duration::from_millis(100)).to_string();
    world.send("default", "work", "over", &json!({"expires": now.to_string()}));
    world.send(
        "default",
        "work",
        "waits",
        &json!({"expires": soon_over, "eta": (now + Duration::from_millis(150)).to_string()}),
    );
    world.send(
        "default",
        "work",
        "fresh",
        &json!({"expires": (now + Duration::from_secs(3600)).to_string()}),
    );
    let broker = world.open().await;
    let (mut jobs, mut chores) = (Vec::new(), Vec::new());
    while jobs.len() + chores.len() < 3 {
        soon(broker.ready(&[queue("default")])).await.unwrap();
        for claimed in claim(&broker, &["default"], 9).await {
            match claimed.job.work {
                Work::Job => jobs.push(claimed),
                Work::After => chores.push(claimed),
            }
        }
    }
    assert_eq!(ids(&jobs), ["fresh"]);
    for chore in &chores {
        assert_eq!(
            meta(&chore.job.payload)["chore"],
            json!({"do": "revoked", "expired": true})
        );
        assert!(settle(&broker, chore, said(r#"{"state": "REVOKED", "then": "ack"}"#)).await);
    }
    assert_eq!(world.unacked().len(), 1);
}

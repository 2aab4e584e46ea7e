//! What other programs may leave in the stores of brokers that are asked for jobs.

use std::fmt::Write;

use pool::broker::DeadFilter;
use pool::job::{JobState, NewJob};
use redis::{Commands, Connection};
use serde_json::json;

use crate::broker::celery_messages::message;
use crate::broker::kit::{Kit, RedisServer, Verbs, id, job};

/// Ways to spoil a row of the embedded broker.
const COLUMNS: [&str; 3] = ["retries = -1", "timeout_ms = -1", "task = CAST(x'63ff' AS TEXT)"];
/// Fields of a job of RQ's that RQ itself could not read.
const FIELDS: [[&str; 2]; 3] = [
    ["timeout", "soon"],
    ["retries_left", "1.5"],
    ["retry_intervals", "[Infinity]"],
];

/// See [`super::store::Store::add_unreadable`].
pub async fn add_unreadable(kit: &Kit, name: &str) -> Vec<String> {
    match kit {
        Kit::Memory(_) => unreachable!("nothing is read"),
        Kit::Sqlite(_) => spoilt_rows(kit, name).await,
        Kit::Redis(server) => spoilt_hashes(kit, server, name).await,
        Kit::Celery(server) => {
            let odd = vec![
                format!("no json {name}"),
                json!([name]).to_string(),
                json!({ "no": name }).to_string(),
                message("work", &format!("{name}-0"), &json!({"eta": "soon"})),
            ];
            let _: i64 = server.lock().connection().lpush("default", &odd).unwrap();
            odd
        }
    }
}

fn named(name: &str, count: usize) -> Vec<String> {
    (0..count).map(|at| format!("{name}-{at}")).collect()
}

/// They are spoilt as they are written, before anybody takes them.
async fn spoilt_rows(kit: &Kit, name: &str) -> Vec<String> {
    let names = named(name, COLUMNS.len());
    let producer = kit.handle().await;
    let (mut spoil, mut stop) = (String::new(), String::new());
    for (at, (name, column)) in names.iter().zip(COLUMNS).enumerate() {
        let update = format!("UPDATE jobs SET {column} WHERE handle = NEW.handle");
        write!(
            spoil,
            "CREATE TRIGGER spoil{at} AFTER INSERT ON jobs WHEN NEW.id = '{name}' BEGIN {update}; END;"
        )
        .unwrap();
        write!(stop, "DROP TRIGGER spoil{at};").unwrap();
    }
    let file = rusqlite::Connection::open(kit.path()).unwrap();
    file.execute_batch(&spoil).unwrap();
    let new: Vec<NewJob> = names.iter().map(|name| job(name, "default")).collect();
    producer.enqueue(new).await.unwrap();
    file.execute_batch(&stop).unwrap();
    names
}

/// Of three a field can't be read; where a key of the fourth should be stands another one.
async fn spoilt_hashes(kit: &Kit, server: &RedisServer, name: &str) -> Vec<String> {
    let names = named(name, FIELDS.len() + 1);
    let producer = kit.handle().await;
    let new: Vec<NewJob> = names.iter().map(|name| job(name, "aside")).collect();
    producer.enqueue(new).await.unwrap();
    let mut redis = server.lock().connection();
    for (name, [field, value]) in names.iter().zip(FIELDS) {
        let _: () = redis.hset(format!("rq:job:{name}"), field, value).unwrap();
    }
    let key = format!("rq:executions:{}", names[FIELDS.len()]);
    let _: () = redis.set(key, "of another type").unwrap();
    for name in &names {
        let _: () = redis.hset(format!("rq:job:{name}"), "origin", "default").unwrap();
    }
    let _: i64 = redis.del("rq:queue:aside").unwrap();
    let _: i64 = redis.rpush("rq:queue:default", &names).unwrap();
    names
}

/// See [`super::store::Store::reason`].
pub async fn reason(kit: &Kit, unreadable: &str) -> Option<String> {
    if let Kit::Celery(server) = kit {
        let mut redis = server.lock().connection();
        let kept: Vec<Vec<u8>> = redis.lrange("pool_celery_unreadable", 0, -1).unwrap();
        let mut kept = kept.iter().map(|kept| String::from_utf8_lossy(kept).into_owned());
        return kept.find(|kept| kept.contains(unreadable));
    }
    let filter = DeadFilter {
        limit: 99,
        ..DeadFilter::default()
    };
    let dead = kit.handle().await.dead(&filter).await.unwrap();
    let view = dead.into_iter().find(|view| view.id == id(unreadable))?;
    let error = view.error.expect("it says why");
    Some(format!("{}{}", error.message, error.detail))
}

/// See [`super::store::Store::add_with_after_work`].
pub async fn add_with_after_work(kit: &Kit, id: &str) {
    let producer = kit.handle().await;
    producer.enqueue(vec![job(id, "default")]).await.unwrap();
    if let Kit::Redis(server) = kit {
        let mut redis = server.lock().connection();
        let callback = ("stopped_callback_name", "jobs.stopped");
        let _: () = redis
            .hset(format!("rq:job:{id}"), callback.0, callback.1)
            .unwrap();
    }
}

/// See [`super::store::Store::has_ended`].
pub async fn has_ended(kit: &Kit, of: &str) -> bool {
    if let Kit::Celery(server) = kit {
        return !is_left(&mut server.lock().connection(), of);
    }
    let found = kit.handle().await.find(&[id(of)]).await.unwrap();
    let view = found[0].as_ref().expect("it is kept");
    let error = view.error.as_ref().expect("it says why");
    view.state == JobState::Dead && error.message.contains("own code failed after this job had ended")
}

/// Whether a message of this task waits or is held.
fn is_left(redis: &mut Connection, of: &str) -> bool {
    let waiting: Vec<String> = redis.lrange("default", 0, -1).unwrap();
    let held: Vec<String> = redis.hvals("unacked").unwrap();
    waiting.iter().chain(&held).any(|message| message.contains(of))
}

//! Jobs as RQ's producers write them (with the JSON serializer), and what became of them.

use std::path::Path;

use redis::{Connection, RedisResult};
use serde_json::json;

/// A job to enqueue: its name is its id and its line in the ledger.
#[derive(Clone, Debug)]
pub struct Job {
    pub name: String,
    function: &'static str,
    arguments: Vec<serde_json::Value>,
    fields: Vec<(&'static str, String)>,
}

impl Job {
    /// Writes its line and ends.
    pub fn mark(name: &str) -> Job {
        Job {
            name: name.to_owned(),
            function: "app.mark",
            arguments: vec![json!(name)],
            fields: Vec::new(),
        }
    }

    /// Takes so many seconds.
    pub fn nap(name: &str, seconds: f64) -> Job {
        Job {
            function: "app.nap",
            arguments: vec![json!(name), json!(seconds)],
            ..Job::mark(name)
        }
    }

    /// Goes on until somebody opens this named pipe for writing.
    pub fn hold(name: &str, gate: &Path) -> Job {
        Job {
            function: "app.hold",
            arguments: vec![json!(name), json!(gate)],
            ..Job::mark(name)
        }
    }

    /// Fails.
    pub fn fail(name: &str) -> Job {
        Job {
            function: "app.fail",
            ..Job::mark(name)
        }
    }

    /// With a success callback, which its worker calls.
    pub fn with_callback(mut self) -> Job {
        self.fields
            .push(("success_callback_name", "app.succeeded".to_owned()));
        self
    }

    /// With a callback and a list of webhooks, which is empty: RQ's own code ends it.
    pub fn whole(mut self) -> Job {
        self.fields.push(("webhooks", "[]".to_owned()));
        self.with_callback()
    }
}

/// Adds jobs to a queue, all or none.
pub fn enqueue(connection: &mut Connection, queue: &str, jobs: &[Job]) {
    try_to_enqueue(connection, queue, jobs).unwrap();
}

/// The same at a server that may refuse. Source: `rq/queue.py`, `Queue.enqueue_job`.
pub fn try_to_enqueue(connection: &mut Connection, queue: &str, jobs: &[Job]) -> RedisResult<()> {
    let mut pipeline = redis::pipe();
    pipeline.atomic();
    pipeline.sadd("rq:queues", format!("rq:queue:{queue}")).ignore();
    for job in jobs {
        let key = format!("rq:job:{}", job.name);
        let data = json!([job.function, null, job.arguments, {}]).to_string();
        let at = "2026-01-01T00:00:00.000000Z";
        let mut fields = vec![
            ("status", "queued".to_owned()),
            ("origin", queue.to_owned()),
            ("data", data),
            ("description", format!("{}()", job.function)),
            ("timeout", "180".to_owned()),
            ("created_at", at.to_owned()),
            ("enqueued_at", at.to_owned()),
            ("started_at", String::new()),
            ("ended_at", String::new()),
            ("last_heartbeat", String::new()),
            ("worker_name", String::new()),
        ];
        fields.extend(job.fields.iter().cloned());
        pipeline.hset_multiple(&key, &fields).ignore();
        pipeline.rpush(format!("rq:queue:{queue}"), &job.name).ignore();
    }
    pipeline.query(connection)
}

/// The status of each job; empty for one that is not there.
pub fn statuses(connection: &mut Connection, names: &[String]) -> Vec<String> {
    let mut pipeline = redis::pipe();
    for name in names {
        pipeline.hget(format!("rq:job:{name}"), "status");
    }
    let found: Vec<Option<String>> = pipeline.query(connection).unwrap_or_default();
    found.into_iter().map(Option::unwrap_or_default).collect()
}

/// All that Redis knows of a job of the queue `default`, for a failed test.
pub fn known_of(connection: &mut Connection, name: &str) -> String {
    let script = "
        local all = redis.call('HGETALL', 'rq:job:' .. ARGV[1])
        all[#all + 1] = 'place in the queue: ' .. tostring(redis.call('LPOS', 'rq:queue:default', ARGV[1]))
        for _, key in ipairs({'rq:wip:default', 'rq:executions:' .. ARGV[1], 'rq:scheduled:default', 'rq:deferred:default'}) do
          local found = redis.call('ZRANGE', key, 0, 10, 'WITHSCORES')
          all[#all + 1] = key .. ': ' .. table.concat(found, ' ')
        end
        return all";
    let known: Vec<Vec<u8>> = redis::cmd("EVAL")
        .arg(script)
        .arg(0)
        .arg(name)
        .query(connection)
        .unwrap_or_default();
    let texts = known.iter().map(|text| String::from_utf8_lossy(text));
    texts.collect::<Vec<_>>().join(" | ")
}

/// Ids of the failed jobs of a queue, each with its reason.
pub fn failed(connection: &mut Connection, queue: &str) -> Vec<(String, String)> {
    let names: Vec<String> = redis::cmd("ZRANGE")
        .arg(format!("rq:failed:{queue}"))
        .arg(0)
        .arg(-1)
        .query(connection)
        .unwrap();
    let mut with_reason = Vec::new();
    for name in names {
        let mut read = redis::cmd("XREVRANGE");
        read.arg(format!("rq:results:{name}")).arg("+").arg("-");
        let entries: Vec<(String, std::collections::HashMap<String, String>)> =
            read.query(connection).unwrap();
        let reason = entries.iter().find_map(|(_, fields)| fields.get("exc_string"));
        with_reason.push((name, reason.cloned().unwrap_or_default()));
    }
    with_reason
}

/// The state of Redis some minutes after a supervisor died, or lost sight of what it had taken: its executions are over, and
/// the lock of a housekeeping that was begun has expired.
pub fn let_time_pass(connection: &mut Connection) {
    let script = "
        local past = redis.call('TIME')[1] - 100
        local claims = redis.call('ZRANGE', 'rq:wip:default', 0, -1, 'WITHSCORES')
        for at = 1, #claims, 2 do
          redis.call('ZADD', 'rq:wip:default', past + claims[at + 1] % 1, claims[at])
        end
        redis.call('DEL', 'rq:clean_registries:default')";
    let () = redis::cmd("EVAL").arg(script).arg(0).query(connection).unwrap();
}

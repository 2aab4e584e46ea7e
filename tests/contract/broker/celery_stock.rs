//! Beside stock workers: they read what we write, we read what they write, and each leaves alone what the other holds.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use pool::broker::Pull;
use pool::broker::parts::turns::Turns;
use pool::job::{JobState, NewJob, Settlement, Verdict};
use pool::time::Unix;
use serde_json::json;

use super::celery::{facts, meta, options, outcome};
use super::kit::{Verbs, config, id, queue, soon};
use crate::support::server::Server;

/// A stock worker's own timeout; in seconds.
const VISIBILITY: u64 = 3;
const APP: &str = r#"
import os, celery
app = celery.Celery("app", broker=os.environ["BROKER"], backend=os.environ["BACKEND"])
app.conf.broker_transport_options = {"visibility_timeout": 3, "unacked_restore_interval": 1, "unacked_restore_throttle": 1}
app.conf.task_acks_late = True
app.conf.worker_prefetch_multiplier = 1

@app.task(name="work", bind=True)
def work(self, *args):
    return {"args": args, "redelivered": bool(self.request.delivery_info.get("redelivered"))}
"#;

/// The interpreter that has Celery.
fn python() -> &'static str {
    static PYTHON: OnceLock<String> = OnceLock::new();
    PYTHON.get_or_init(|| {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/celery-venv");
        let output = Command::new(script).output().unwrap();
        assert!(output.status.success(), "{script}: {output:?}");
        format!("{}/bin/python", String::from_utf8(output.stdout).unwrap().trim())
    })
}

fn stock(server: &Server, dir: &Path, arguments: &[&str]) -> Command {
    std::fs::write(dir.join("app.py"), APP).unwrap();
    // Should this process die, it does too.
    let mut command = Command::new("setpriv");
    command
        .args(["--pdeathsig", "KILL", python()])
        .args(arguments)
        .current_dir(dir);
    command
        .env("BROKER", server.url())
        .env("BACKEND", server.url().replace("/0", "/1"));
    command
}

struct Worker(Child);

impl Worker {
    fn start(server: &Server, dir: &Path) -> Self {
        let words = "-m celery -A app worker -P solo -Q default --without-gossip --without-mingle -l WARNING";
        let words: Vec<&str> = words.split(' ').collect();
        let log = std::fs::File::create(dir.join("log")).unwrap();
        let mut command = stock(server, dir, &words);
        Worker(
            command
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(log)
                .spawn()
                .unwrap(),
        )
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[tokio::test]
async fn a_stock_worker_runs_what_we_send_and_leaves_alone_what_we_hold() {
    let (server, dir) = (Server::start(&[]), tempfile::tempdir().unwrap());
    let mut facts = facts(server.port());
    facts["broker"]["options"]["visibility_timeout"] = json!(VISIBILITY);
    let broker = Arc::new(
        pool::broker::celery::open_pulled(&options(&facts, &config()))
            .await
            .unwrap(),
    );
    broker.begin().await.unwrap();
    let enqueue = async |name: &str| {
        let job = NewJob {
            id: id(name),
            ..NewJob::new(queue("default"), "work", json!([name]).to_string())
        };
        broker.enqueue(vec![job]).await.unwrap();
    };
    let take = async || {
        let claimed = broker.claim(&[queue("default")], Turns::Strict, 1).await.unwrap();
        claimed.into_iter().next().expect("one waits")
    };
    enqueue("held").await;
    let held = take().await;
    let renewing = tokio::spawn({
        let broker = Arc::clone(&broker);
        async move {
            loop {
                broker.extend().await.unwrap();
                tokio::time::sleep(Duration::from_secs(VISIBILITY) / 6).await;
            }
        }
    });
    let _worker = Worker::start(&server, dir.path());
    // It runs what we send, and we read what it stores.
    enqueue("sent").await;
    let ended = soon(broker.wait_any(&[id("sent")])).await.unwrap();
    let view = ended[0].1.clone().unwrap();
    assert_eq!(view.state, JobState::Finished);
    let result: serde_json::Value = serde_json::from_slice(&view.result.unwrap()).unwrap();
    assert_eq!(result, json!({"args": ["sent"], "redelivered": false}));
    // Longer than it waits before it gives messages back.
    tokio::time::sleep(Duration::from_secs(3 * VISIBILITY)).await;
    let result = outcome(&held.job.id, "SUCCESS", &json!("ours")).into_bytes();
    let settlement = Settlement {
        of: held.claim.clone(),
        verdict: Verdict::Finish { result },
        run: None,
    };
    assert_eq!(
        broker.settle(vec![settlement]).await.unwrap(),
        [true],
        "it was ours all the time"
    );
    // What nobody renews it gives back, and runs.
    renewing.abort();
    let mut tries = 0;
    let lost = loop {
        tries += 1;
        enqueue(&format!("lost{tries}")).await;
        let claimed = broker.claim(&[queue("default")], Turns::Strict, 1).await.unwrap();
        if let Some(claimed) = claimed.into_iter().next() {
            break claimed;
        }
        // It was faster.
    };
    let name = lost.job.id.to_string();
    let stored = async |field: &str| {
        let view = broker.find(&[id(&name)]).await.unwrap().remove(0)?;
        let result: serde_json::Value = serde_json::from_slice(&view.result?).unwrap();
        Some(result[field].clone())
    };
    soon(async {
        while stored("redelivered").await != Some(json!(true)) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    assert_eq!(stored("args").await, Some(json!([name])));
    let late = Settlement {
        of: lost.claim,
        verdict: Verdict::GiveBack,
        run: None,
    };
    assert_eq!(broker.settle(vec![late]).await.unwrap(), [false]);
    assert_eq!(broker.backlog(&[queue("default")]).await.unwrap().waiting(), 0);
}

#[tokio::test]
async fn we_run_what_stock_producers_send_in_their_order() {
    let (server, dir) = (Server::start(&[]), tempfile::tempdir().unwrap());
    let send = "from app import app
for id, priority in [('low', 9), ('middle', 5), ('high', 0), ('none', None)]:
    app.send_task('work', [id], {'é': 1}, queue='default', task_id=id, priority=priority, time_limit=7, compression='zlib')
app.send_task('work', queue='default', task_id='later', countdown=1)
app.send_task('work', queue='default', task_id='over', expires=-1)";
    let output = stock(&server, dir.path(), &["-c", send]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let broker = pool::broker::celery::open_pulled(&options(&facts(server.port()), &config()))
        .await
        .unwrap();
    let (mut came, mut later_came) = (Vec::new(), false);
    while came.len() < 5 || !later_came {
        soon(broker.ready(&[queue("default")])).await.unwrap();
        for claimed in broker.claim(&[queue("default")], Turns::Strict, 9).await.unwrap() {
            let meta = meta(&claimed.job.payload);
            let id = meta["headers"]["id"].as_str().unwrap().to_owned();
            if id == "later" {
                // Both are times by ISO 8601 in UTC. On a slow machine it may be due before the first claim.
                let (now, eta) = (Unix::now().to_string(), meta["headers"]["eta"].as_str().unwrap());
                assert!(eta[..23] <= now[..23], "at {now} what is due at {eta}");
                assert_eq!(claimed.job.kind, 1);
                later_came = true;
                continue;
            }
            if id != "over" {
                assert_eq!(claimed.job.timeout, Some(Duration::from_secs(7)), "{id}");
                assert_eq!(meta["headers"]["compression"], "application/x-gzip");
            }
            came.push((id, claimed.job.kind));
        }
    }
    let came: Vec<(&str, u8)> = came.iter().map(|(id, kind)| (id.as_str(), *kind)).collect();
    assert_eq!(
        came,
        [("over", 3), ("high", 1), ("none", 1), ("middle", 1), ("low", 1),]
    );
}

//! A supervisor that is fed by a broker that pushes: nothing in it knows which kind it has.
//!
//! It runs in this process, which therefore has no other test.

#![allow(clippy::unwrap_used)] // a test says what is wrong by failing

#[path = "contract/broker/push.rs"]
#[allow(dead_code)] // some of it is for the rules of sources
mod push;

use std::sync::Arc;
use std::time::Duration;

use pool::config::RunArgs;
use pool::control::server::Call;
use pool::control::{Reply, Request};
use pool::job::{NewJob, QueueName, Verdict};
use pool::supervisor::{self, Options};
use tokio::sync::{mpsc, oneshot};

/// Far longer than anything takes.
const DEADLINE: Duration = Duration::from_secs(120);

#[tokio::test]
async fn jobs_that_are_pushed_run_and_are_acknowledged() {
    runs_what_is_pushed(push::Server::default()).await;
    let server = push::Server::with_early_acks();
    let long = QueueName::new("default").unwrap();
    let long = NewJob::new(long, "sleep", "1");
    let id = long.id.to_string();
    let producer = server.handle();
    producer.producer().unwrap().enqueue(vec![long]).await.unwrap();
    let acked = async {
        while !server.was_acked_early(&id) {
            assert_eq!(server.ended(&id), None, "it is acknowledged when it begins");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::join!(runs_what_is_pushed(server.clone()), acked);
}

/// A supervisor runs two hundred jobs, and some that come while it waits.
async fn runs_what_is_pushed(server: push::Server) {
    let dir = tempfile::tempdir().unwrap();
    let text = format!(
        "socket = \"{0}/socket\"\n[broker]\nurl = \"memory:\"\n[app]\nruntime = \"native\"\nprogram = \"{1}\"\n\
         [defaults]\nmin_workers = 2\nmax_workers = 2\n",
        dir.path().display(),
        env!("CARGO_BIN_EXE_pool")
    );
    let file = dir.path().join("pool.toml");
    std::fs::write(&file, text).unwrap();
    let args = RunArgs::from_flags(["--config", file.to_str().unwrap()]).unwrap();
    let config = pool::config::load(&args, |_| None).unwrap();
    let producer = server.handle();
    let queue = QueueName::new("default").unwrap();
    let new = |_| NewJob::new(queue.clone(), "noop", "[]");
    let first: Vec<NewJob> = (0..200).map(new).collect();
    let mut ids: Vec<String> = first.iter().map(|job| job.id.to_string()).collect();
    producer.producer().unwrap().enqueue(first).await.unwrap();
    let (calls, requests) = mpsc::channel(1);
    let options = Options {
        burst: false,
        reload: Arc::new(|| Err("there is nothing to reload".to_owned())),
    };
    let run = supervisor::run(config, server.handle(), requests, options);
    let driven = async {
        wait_for_end(&server, &ids).await;
        // It waits by now, and hears of each by itself.
        let later: Vec<NewJob> = (0..20).map(new).collect();
        ids.extend(later.iter().map(|job| job.id.to_string()));
        for job in later {
            producer.producer().unwrap().enqueue(vec![job]).await.unwrap();
        }
        wait_for_end(&server, &ids).await;
        let (reply, answer) = oneshot::channel();
        let request = Request::Stop { now: false };
        calls.send(Call { request, reply }).await.unwrap();
        assert!(matches!(answer.await.unwrap(), Reply::Done { .. }));
    };
    let both = async { tokio::join!(run, driven).0 };
    tokio::time::timeout(DEADLINE, both).await.unwrap().unwrap();
    assert_eq!(server.counts(), (0, 0), "all are acknowledged");
}

/// Waits until all of these have finished well.
async fn wait_for_end(server: &push::Server, ids: &[String]) {
    loop {
        let ended: Vec<_> = ids.iter().filter_map(|id| server.ended(id)).collect();
        for verdict in &ended {
            assert!(matches!(verdict, Verdict::Finish { .. }), "{verdict:?}");
        }
        if ended.len() == ids.len() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

//! A supervisor that is fed by a broker that pushes: nothing in it knows which kind it has.
//!
//! It runs in this process, which therefore has no other test.

#![allow(clippy::unwrap_used)] // a test says what is wrong by failing

#[path = "contract/broker/push.rs"]
#[allow(dead_code)] // some of it is for the rules of sources
mod push;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use pool::broker::{Broker, BrokerError};
use pool::config::{Config, RunArgs};
use pool::control::server::Call;
use pool::control::{Reply, Request};
use pool::job::{NewJob, QueueName, Verdict};
use pool::supervisor::{self, Jobs, Options, SupervisorError};
use tokio::sync::{mpsc, oneshot};

/// Far longer than anything takes.
const DEADLINE: Duration = Duration::from_secs(120);

#[tokio::test]
async fn jobs_that_are_pushed_run_and_are_acknowledged() {
    let server = push::Server::default();
    runs_what_is_pushed(server.clone(), server.handle().into()).await;
    let server = push::Server::default();
    server.acknowledge_early();
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
    let (jobs, opened) = as_the_app_says(&server);
    tokio::join!(runs_what_is_pushed(server.clone(), jobs), acked);
    assert_eq!(opened.load(Ordering::Relaxed), 1, "opened once, after the load");
    a_broker_that_is_away_ends_it().await;
}

/// Jobs at a broker that is opened with what the loaded application says, and how often it was.
fn as_the_app_says(server: &push::Server) -> (Jobs, Arc<AtomicUsize>) {
    let opened = Arc::new(AtomicUsize::new(0));
    let (server, count) = (server.clone(), opened.clone());
    let open = move |facts: String| {
        assert_eq!(facts, "", "the native template says nothing");
        count.fetch_add(1, Ordering::Relaxed);
        let broker: Arc<dyn Broker> = server.handle();
        Box::pin(std::future::ready(Ok(broker))) as BoxFuture<'static, _>
    };
    (Jobs::AsTheAppSays(Arc::new(open)), opened)
}

/// Where the broker that the application names can't be reached, the supervisor ends with that.
async fn a_broker_that_is_away_ends_it() {
    let away = |_| {
        let away = BrokerError::Unreachable {
            url: "app:".to_owned(),
            reason: "nobody answers".to_owned(),
            hint: "start it",
        };
        Box::pin(std::future::ready(Err(away))) as BoxFuture<'static, _>
    };
    let (_calls, requests) = mpsc::channel(1);
    let dir = tempfile::tempdir().unwrap();
    let run = supervisor::run(
        config(dir.path()),
        Jobs::AsTheAppSays(Arc::new(away)),
        requests,
        options(),
    );
    let ended = tokio::time::timeout(DEADLINE, run).await.unwrap();
    assert!(
        matches!(
            ended,
            Err(SupervisorError::Broker(BrokerError::Unreachable { .. }))
        ),
        "{ended:?}"
    );
}

/// A supervisor runs two hundred jobs, and some that come while it waits.
async fn runs_what_is_pushed(server: push::Server, jobs: Jobs) {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let producer = server.handle();
    let queue = QueueName::new("default").unwrap();
    let new = |_| NewJob::new(queue.clone(), "noop", "[]");
    let first: Vec<NewJob> = (0..200).map(new).collect();
    let mut ids: Vec<String> = first.iter().map(|job| job.id.to_string()).collect();
    producer.producer().unwrap().enqueue(first).await.unwrap();
    let (calls, requests) = mpsc::channel(1);
    let run = supervisor::run(config, jobs, requests, options());
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

fn config(dir: &Path) -> Config {
    let text = format!(
        "socket = \"{0}/socket\"\n[broker]\nurl = \"memory:\"\n[app]\nruntime = \"native\"\nprogram = \"{1}\"\n\
         [defaults]\nmin_workers = 2\nmax_workers = 2\n",
        dir.display(),
        env!("CARGO_BIN_EXE_pool")
    );
    let file = dir.join("pool.toml");
    std::fs::write(&file, text).unwrap();
    let args = RunArgs::from_flags(["--config", file.to_str().unwrap()]).unwrap();
    pool::config::load(&args, |_| None).unwrap()
}

fn options() -> Options {
    Options {
        burst: false,
        dry_run: false,
        reload: Arc::new(|| Err("there is nothing to reload".to_owned())),
    }
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

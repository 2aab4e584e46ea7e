//! Workers of a name that somebody chose: what is left of earlier ones, and others that have it.

use std::sync::Arc;
use std::time::Duration;

use pool::broker::parts::turns::Turns;
use pool::broker::{self, BrokerError, Pull, WorkerView};
use pool::config::{BrokerConfig, BrokerUrl, DialectKind, Protocol};
use pool::job::{Claim, Claimed, PoolName, QueueName, RunStamp, Settlement, Verdict, Work};
use pool::time::Unix;
use redis::Commands;

use crate::jobs::{self, Job};
use crate::server::Server;

/// A supervisor's handle, whose workers are `web.1` and `web.2`.
async fn open(server: &Server) -> Arc<dyn Pull> {
    let mut config = BrokerConfig {
        url: BrokerUrl::parse(&server.url(), std::path::Path::to_path_buf).unwrap(),
        protocol: Protocol::Dialect(DialectKind::Rq),
        ..BrokerConfig::default()
    };
    config.dialects.rq.name = Some("web".to_owned());
    config.dialects.rq.serializer = "json".to_owned();
    config.dialects.rq.workers_max = 2;
    broker::open_pulled(&config.options().unwrap()).await.unwrap()
}

fn worker(ordinal: u16) -> WorkerView {
    WorkerView {
        worker: u64::from(ordinal),
        ordinal,
        pid: 1,
        pool: PoolName::new("default").unwrap(),
        queues: vec![queue()],
        job: None,
        paused: false,
        leaving: false,
        asked: false,
        born: Unix::now(),
    }
}

fn queue() -> QueueName {
    QueueName::new("default").unwrap()
}

/// The job, done by the worker of this ordinal.
fn done(job: &Claimed, ordinal: u16) -> Settlement<Claim> {
    let now = Unix::now();
    Settlement {
        of: job.claim.clone(),
        verdict: Verdict::Finish { result: Vec::new() },
        run: Some(RunStamp {
            worker: u64::from(ordinal),
            ordinal,
            started: now,
            ended: now,
            death: None,
        }),
    }
}

/// What an earlier life left: a worker of this name, with its counts.
fn leave_behind(server: &Server, name: &str, fields: &[(&str, &str)]) {
    let record = [
        fields,
        &[
            ("birth", "2026-01-01T00:00:00.000000Z"),
            ("successful_job_count", "7"),
        ],
    ]
    .concat();
    let key = format!("rq:worker:{name}");
    let _: () = server.connection().hset_multiple(key, &record).unwrap();
}

#[tokio::test]
async fn jobs_that_end_before_their_worker_is_registered_are_counted() {
    let server = Server::start(&[]);
    for name in ["web.1", "web.2"] {
        leave_behind(&server, name, &[("death", "2026-01-01T00:00:01.000000Z")]);
    }
    let broker = open(&server).await;
    broker.begin().await.unwrap();
    let names = ["a", "b", "c"].map(Job::mark);
    jobs::enqueue(&mut server.connection(), "default", &names);
    let mut claimed = broker.claim(&[queue()], Turns::Strict, 4).await.unwrap();
    claimed.retain(|job| job.job.work == Work::Job);
    let settlements = vec![done(&claimed[0], 1), done(&claimed[1], 2), done(&claimed[2], 2)];
    assert_eq!(broker.settle(settlements).await.unwrap(), [true; 3]);
    let mut presence = Arc::clone(&broker).presence(Box::new(|_| {})).unwrap();
    presence.show(vec![worker(1), worker(2)]);
    let birth = || -> Option<String> { server.connection().hget("rq:worker:web.2", "birth").unwrap() };
    let shown = async {
        while birth().is_none() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), shown)
        .await
        .unwrap();
    let counts = ["web.1", "web.2"].map(|name| -> u32 {
        let key = format!("rq:worker:{name}");
        server.connection().hget(key, "successful_job_count").unwrap()
    });
    assert_eq!(
        counts,
        [1, 2],
        "what this life did, and nothing of the earlier one"
    );
    broker.close().await.unwrap();
}

#[tokio::test]
async fn a_name_of_which_one_number_is_in_use_elsewhere_is_refused() {
    let server = Server::start(&[]);
    leave_behind(&server, "web.2", &[("hostname", "elsewhere")]);
    let refusal = open(&server).await.begin().await.unwrap_err();
    let BrokerError::Refused(reason) = refusal else {
        panic!("{refusal:?}")
    };
    assert!(reason.contains("an active worker named 'web.2'"), "{reason}");
}

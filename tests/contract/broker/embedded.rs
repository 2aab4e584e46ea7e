//! What the embedded broker promises beyond the contract: several processes, sudden deaths, files
//! that are not what they should be.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use pool::broker::{BrokerError, NewGroup, Pull};
use pool::config::{BrokerConfig, BrokerUrl};
use pool::job::{NewJob, Settlement};
use pool::time::Unix;
use rusqlite::Connection;

use super::kit::*;
use super::model::check_file;

/// Environment variables that make this program a child of the suite: what it does, on which file.
const ROLE: &str = "POOL_CONTRACT_ROLE";
const FILE: &str = "POOL_CONTRACT_FILE";
/// What children say begins with this, since the test harness talks as well.
const SAYS: &str = "says: ";

/// This program, run again in a role, on the file of a kit. Ends when this is dropped, or with its
/// standard input when this process is killed.
struct Process {
    child: Child,
    _stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Process {
    fn start(role: &str, kit: &Kit) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["broker::embedded::child", "--exact", "--ignored", "--nocapture"])
            .env(ROLE, role)
            .env(FILE, kit.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        Process {
            _stdin: child.stdin.take().unwrap(),
            stdout: BufReader::new(child.stdout.take().unwrap()),
            child,
        }
    }

    /// What it says next; `None` when it has ended.
    fn hear(&mut self) -> Option<String> {
        let mut line = String::new();
        while self.stdout.read_line(&mut line).unwrap() > 0 {
            if let Some((_, said)) = line.split_once(SAYS) {
                return Some(said.trim_end().to_owned());
            }
            line.clear();
        }
        None
    }

    /// Kills it at once, as `kill -9` does, and returns what it had still said.
    fn kill(mut self) -> Vec<String> {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        std::iter::from_fn(|| self.hear()).collect()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn say(what: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{SAYS}{what}").unwrap();
    out.flush().unwrap();
}

/// The other processes of the tests below.
#[test]
#[ignore = "runs as a child of the other tests"]
fn child() {
    let (Ok(role), Ok(file)) = (std::env::var(ROLE), std::env::var(FILE)) else {
        return;
    };
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_line(&mut String::new());
        std::process::exit(0); // the parent is gone
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let url = BrokerUrl::Sqlite(file.into());
        let broker = open(&BrokerConfig { url, ..config() }).await;
        match role.as_str() {
            "enqueue" => enqueue_some(&broker).await,
            "claim" => claim_all(&broker).await,
            "flood" => flood(&broker).await,
            "idle" => idle(&broker).await,
            "fill" => fill(&broker).await,
            other => panic!("no such role: {other}"),
        }
    });
}

fn own_jobs(count: usize, payload_len: usize) -> Vec<NewJob> {
    let new = || NewJob::new(queue("default"), "work", vec![b'x'; payload_len]);
    (0..count).map(|_| new()).collect()
}

/// 500 jobs in calls of 25.
async fn enqueue_some(broker: &Arc<dyn Pull>) {
    for _ in 0..20 {
        for answer in enqueue(broker, own_jobs(25, 10)).await {
            say(answer.id().as_str());
        }
    }
}

/// Claims and finishes until a job `leave`; says the ids that it finished. Keeps jobs `hold`.
async fn claim_all(broker: &Arc<dyn Pull>) {
    loop {
        broker.ready(&[queue("default")]).await.unwrap();
        for claimed in claim(broker, &["default"], 7).await {
            if &*claimed.job.task == "hold" {
                say("holds");
            } else if settle(broker, &claimed, finish()).await {
                say(claimed.claim.job.as_str());
            }
            if &*claimed.job.task == "leave" {
                return broker.close().await.unwrap();
            }
        }
    }
}

/// Enqueues until killed; says the ids that were acknowledged.
async fn flood(broker: &Arc<dyn Pull>) {
    loop {
        let answers = enqueue(broker, own_jobs(20, 300)).await;
        let ids: Vec<&str> = answers.iter().map(|answer| answer.id().as_str()).collect();
        say(&ids.join(" "));
    }
}

/// Waits for jobs and for an end, and says how often its thread woke up meanwhile, at the least
/// in some windows: it may be late to fall asleep.
async fn idle(broker: &Arc<dyn Pull>) {
    enqueue(broker, vec![job("1", "other")]).await;
    let (queues, ids) = ([queue("default")], [id("1")]);
    let mut waiting = (broker.ready(&queues), broker.wait_any(&ids));
    assert!(waits(&mut waiting.0).await && waits(&mut waiting.1).await);
    let mut least = u64::MAX;
    for _ in 0..5 {
        let before = switches();
        assert!(waits(&mut waiting.0).await && waits(&mut waiting.1).await);
        least = least.min(switches() - before);
    }
    say(&least.to_string());
}

/// How often the broker's thread went to sleep so far.
fn switches() -> u64 {
    for task in std::fs::read_dir("/proc/self/task").unwrap() {
        let status = std::fs::read_to_string(task.unwrap().path().join("status")).unwrap();
        if status.starts_with("Name:\tpool-broker\n") {
            let line = status
                .lines()
                .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
            return line.unwrap().trim().parse().unwrap();
        }
    }
    panic!("the broker has no thread");
}

/// Enqueues until its files may grow no more, then on with the limit lifted.
async fn fill(broker: &Arc<dyn Pull>) {
    enqueue(broker, vec![job("before", "default")]).await;
    let (_, hard) = getrlimit(Resource::RLIMIT_FSIZE).unwrap();
    setrlimit(Resource::RLIMIT_FSIZE, 1 << 20, hard).unwrap();
    let error = loop {
        if let Err(error) = broker.enqueue(own_jobs(10, 1000)).await {
            break error;
        }
    };
    assert!(matches!(&error, BrokerError::Busy { .. }), "{error:?}");
    assert!(broker.enqueue(own_jobs(10, 1000)).await.is_err());
    assert!(
        broker.find(&[id("before")]).await.unwrap()[0].is_some(),
        "reading goes on"
    );
    setrlimit(Resource::RLIMIT_FSIZE, hard, hard).unwrap();
    enqueue(broker, vec![job("after", "default")]).await;
    say(&error.to_string());
}

fn intact(path: &Path) {
    let database = Connection::open(path).unwrap();
    let check: String = database
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .unwrap();
    assert_eq!(check, "ok");
    check_file(&database);
}

#[tokio::test]
async fn processes_share_one_file_and_each_job_runs_once() {
    let kit = Kit::sqlite();
    let consumers = [Process::start("claim", &kit), Process::start("claim", &kit)];
    let mut producers: Vec<Process> = (0..3).map(|_| Process::start("enqueue", &kit)).collect();
    let enqueued: BTreeSet<String> = producers
        .iter_mut()
        .flat_map(|producer| std::iter::from_fn(|| producer.hear()))
        .collect();
    assert_eq!(enqueued.len(), 1500);
    let broker = kit.handle().await;
    let mut left: Vec<_> = enqueued.iter().map(|text| id(text)).collect();
    while !left.is_empty() {
        for (at, view) in soon(broker.wait_any(&left)).await.unwrap().into_iter().rev() {
            assert_eq!(view.unwrap().result.as_deref(), Some(b"42".as_slice()));
            left.swap_remove(at);
        }
    }
    for name in ["leave 1", "leave 2"] {
        enqueue(&broker, vec![for_child("leave", name)]).await;
        soon(broker.wait_any(&[id(name)])).await.unwrap();
    }
    let mut finished = BTreeSet::new();
    for mut consumer in consumers {
        while let Some(said) = consumer.hear() {
            assert!(finished.insert(said.clone()), "{said} ran twice");
        }
    }
    assert_eq!(finished.difference(&enqueued).count(), 2, "those that left");
    assert!(finished.is_superset(&enqueued));
    intact(&kit.path());
}

/// A job that tells a child in the role `claim` what to do.
fn for_child(task: &str, name: &str) -> NewJob {
    NewJob {
        task: task.into(),
        ..job(name, "default")
    }
}

#[tokio::test]
async fn jobs_of_a_killed_process_come_back_at_once() {
    let kit = Kit::sqlite();
    let broker = kit.handle().await;
    let mut dying = Process::start("claim", &kit);
    enqueue(&broker, vec![for_child("hold", "1"), for_child("hold", "2")]).await;
    assert_eq!(dying.hear().as_deref(), Some("holds"));
    assert_eq!(dying.hear().as_deref(), Some("holds"));
    let queues = [queue("default")];
    let mut ready = broker.ready(&queues);
    assert!(waits(&mut ready).await, "a living process keeps its jobs");
    assert!(claim_ids(&broker, 9).await.is_empty());
    dying.kill();
    soon(ready).await.unwrap(); // long before the lease of an hour runs out
    assert_eq!(claim_ids(&broker, 9).await, ["1", "2"]);
}

#[tokio::test]
async fn a_lease_outlasts_a_clock_that_is_set() {
    let kit = Kit::sqlite();
    let (holder, other) = (kit.handle().await, kit.handle().await);
    enqueue(&other, jobs(0..1, "default")).await;
    assert_eq!(claim_ids(&holder, 1).await.len(), 1);
    let file = Connection::open(kit.path()).unwrap();
    // As it looks when the clock of the wall has been set forward.
    file.execute("UPDATE sessions SET expires = 1", []).unwrap();
    assert_eq!(other.maintain().await.unwrap().recovered, 0);
    assert!(claim_ids(&other, 9).await.is_empty());
    file.execute("UPDATE sessions SET expires_monotonic = 1", [])
        .unwrap();
    assert_eq!(other.maintain().await.unwrap().recovered, 1);
}

#[tokio::test]
async fn a_group_calls_back_once_though_its_workers_are_killed() {
    let kit = Kit::sqlite();
    let broker = kit.handle().await;
    let group = NewGroup {
        on_done: Some(NewJob::new(queue("callbacks"), "work", "")),
        ..NewGroup::new(jobs(0..400, "default"))
    };
    let id = group.id.clone();
    broker.enqueue_group(group).await.unwrap();
    for round in 1..=4 {
        let mut worker = Process::start("claim", &kit);
        for _ in 0..round * 5 {
            worker.hear().expect("it lives");
        }
        worker.kill();
    }
    let _last = Process::start("claim", &kit);
    let mut ended = 0;
    while let view = soon(broker.wait_group(&id, ended)).await.unwrap().unwrap()
        && view.ended.is_none()
    {
        ended = view.ended_jobs();
    }
    let called = claim(&broker, &["callbacks"], 9).await;
    assert_eq!(called.len(), 1);
    let summary: serde_json::Value = serde_json::from_slice(&called[0].job.payload).unwrap();
    assert_eq!(
        (&summary["finished"], &summary["failed"]),
        (&400.into(), &0.into())
    );
}

#[tokio::test]
async fn a_handle_dropped_without_closing_is_as_good_as_killed() {
    let kit = Kit::sqlite();
    let (dropped, other) = (kit.handle().await, kit.handle().await);
    enqueue(&dropped, jobs(0..2, "default")).await;
    assert_eq!(claim_ids(&dropped, 9).await.len(), 2);
    drop(dropped);
    soon(other.ready(&[queue("default")])).await.unwrap();
    assert_eq!(claim_ids(&other, 9).await, ["00000", "00001"]);
}

#[tokio::test]
async fn nothing_acknowledged_is_lost_when_its_producer_is_killed() {
    let kit = Kit::sqlite();
    let broker = kit.handle().await;
    for round in 1..=5 {
        let mut producer = Process::start("flood", &kit);
        let mut said: Vec<String> = (0..round * 3).filter_map(|_| producer.hear()).collect();
        said.extend(producer.kill());
        let ids: Vec<_> = said.iter().flat_map(|line| line.split(' ')).map(id).collect();
        assert!(ids.len() >= round * 60);
        let views = broker.find(&ids).await.unwrap();
        assert!(views.iter().all(Option::is_some), "an acknowledged job is gone");
    }
    broker.close().await.unwrap();
    intact(&kit.path());
    assert_eq!(claim_ids(&kit.handle().await, 10).await.len(), 10);
}

#[tokio::test]
async fn jobs_survive_closing_and_opening() {
    let kit = Kit::sqlite();
    let broker = kit.handle().await;
    enqueue(&broker, jobs(0..2, "default")).await;
    broker.close().await.unwrap();
    let broker = kit.handle().await;
    assert_eq!(claim_ids(&broker, 1).await, ["00000"]);
    broker.close().await.unwrap();
    assert_eq!(claim_ids(&kit.handle().await, 9).await, ["00000", "00001"]);
}

#[test]
fn waiting_costs_nothing() {
    let mut idle = Process::start("idle", &Kit::sqlite());
    assert_eq!(idle.hear().as_deref(), Some("0"), "wake-ups of an idle broker");
}

#[test]
fn files_that_can_grow_no_more_are_said_and_survived() {
    let kit = Kit::sqlite();
    let mut filling = Process::start("fill", &kit);
    let said = filling.hear().expect("it came through");
    assert!(said.contains("refuses for now"), "{said}");
    assert_eq!(filling.hear(), None);
    intact(&kit.path());
}

#[tokio::test]
async fn no_wake_is_lost_when_commits_wait_for_the_disk() {
    let kit = Kit::sqlite();
    let fsync = || BrokerConfig {
        fsync: true,
        ..config()
    };
    let (consumer, producer) = (kit.handle_with(fsync()).await, kit.handle_with(fsync()).await);
    let queues = [queue("default")];
    for round in 0..100 {
        let ready = consumer.ready(&queues);
        let (woken, _) = tokio::join!(soon(ready), producer.enqueue(jobs(round..round + 1, "default")));
        woken.unwrap();
        assert_eq!(claim_ids(&consumer, 9).await.len(), 1);
    }
}

#[tokio::test]
async fn a_removed_bell_is_hung_up_again() {
    let kit = Kit::sqlite();
    let (consumer, producer) = (kit.handle().await, kit.handle().await);
    let queues = [queue("default")];
    let mut ready = consumer.ready(&queues);
    assert!(waits(&mut ready).await);
    std::fs::remove_file(kit.path().with_extension("db-bell")).unwrap();
    assert!(waits(&mut ready).await);
    enqueue(&producer, jobs(0..1, "default")).await;
    soon(ready).await.unwrap();
}

#[tokio::test]
async fn large_jobs_come_through_whole() {
    let kit = Kit::sqlite();
    let max_payload = 3 << 20;
    let broker = kit
        .handle_with(BrokerConfig {
            max_payload,
            ..config()
        })
        .await;
    let payload: Vec<u8> = (0..max_payload).map(|i| (i % 251) as u8).collect();
    let new = NewJob {
        payload: payload.clone(),
        ..job("big", "default")
    };
    enqueue(&broker, vec![new]).await;
    let claimed = claim(&broker, &["default"], 1).await.remove(0);
    assert!(*claimed.job.payload == *payload);
    let result = payload.clone();
    assert!(settle(&broker, &claimed, pool::job::Verdict::Finish { result }).await);
    let view = broker.find(&[id("big")]).await.unwrap().remove(0).unwrap();
    assert!(view.result == Some(payload.clone()) && view.payload == payload);
}

#[tokio::test]
async fn many_jobs_that_come_due_at_once_all_come() {
    let kit = Kit::sqlite();
    let broker = kit.handle().await;
    let due = Some(Unix::now() + Duration::from_millis(500));
    let jobs = jobs(0..5000, "default").into_iter();
    enqueue(&broker, jobs.map(|job| NewJob { due, ..job }).collect()).await;
    let mut claimed = Vec::new();
    while claimed.len() < 5000 {
        soon(broker.ready(&[queue("default")])).await.unwrap();
        claimed.extend(claim_ids(&broker, 1000).await);
    }
    assert!(claimed.is_sorted(), "in the order of their enqueueing");
    assert_eq!(broker.backlog(&[queue("default")]).await.unwrap().scheduled, 0);
}

#[tokio::test]
async fn all_expired_results_are_deleted_in_one_go() {
    let kit = Kit::sqlite();
    let result_ttl = Duration::from_millis(1);
    let broker = kit
        .handle_with(BrokerConfig {
            result_ttl,
            ..config()
        })
        .await;
    enqueue(&broker, jobs(0..2500, "default")).await;
    let settlements = claim(&broker, &["default"], 2500).await.into_iter();
    let settlements = settlements.map(|claimed| Settlement {
        of: claimed.claim,
        verdict: finish(),
        run: None,
    });
    broker.settle(settlements.collect()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(5)).await;
    assert_eq!(broker.maintain().await.unwrap().expired, 2500);
    let database = Connection::open(kit.path()).unwrap();
    let left: i64 = database
        .query_row("SELECT count(*) FROM jobs", [], |row| row.get(0))
        .unwrap();
    assert_eq!(left, 0);
}

#[tokio::test]
async fn the_files_are_for_their_user_alone() {
    let kit = Kit::sqlite();
    let broker = kit.handle().await;
    enqueue(&broker, jobs(0..1, "default")).await;
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let directory = kit.path().parent().unwrap().to_owned();
    assert_eq!(mode(&directory), 0o700);
    let mut names = BTreeSet::new();
    for file in std::fs::read_dir(&directory).unwrap() {
        let file = file.unwrap();
        assert_eq!(mode(&file.path()), 0o600, "{file:?}");
        names.insert(file.file_name().into_string().unwrap());
    }
    let expected = ["pool.db", "pool.db-bell", "pool.db-shm", "pool.db-wal"];
    assert_eq!(names, expected.map(str::to_owned).into());
}

/// The error of opening this file.
async fn refusal(path: &Path) -> BrokerError {
    let url = BrokerUrl::Sqlite(path.to_owned());
    let opened = pool::broker::open(&BrokerConfig { url, ..config() }.options().unwrap()).await;
    opened.expect_err("this is no place for a broker")
}

/// A file in a directory of its own, made by `make`.
fn file(make: impl FnOnce(&Path)) -> (tempfile::TempDir, std::path::PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pool.db");
    make(&path);
    (directory, path)
}

#[tokio::test]
async fn a_file_that_is_no_database_is_left_alone() {
    let text = "this is a text file, and quite a long one, so that it may pass for a header".repeat(9);
    let (_kept, path) = file(|path| std::fs::write(path, &text).unwrap());
    let error = refusal(&path).await;
    assert!(matches!(&error, BrokerError::Corrupt { .. }), "{error:?}");
    assert!(error.to_string().contains("not a database"), "{error}");
    assert_eq!(std::fs::read_to_string(path).unwrap(), text);
}

#[tokio::test]
async fn a_database_of_another_program_is_left_alone() {
    let make = |path: &Path| {
        let other = Connection::open(path).unwrap();
        other.execute_batch("CREATE TABLE songs (name TEXT)").unwrap();
    };
    let (_kept, path) = file(make);
    let before = std::fs::read(&path).unwrap();
    let error = refusal(&path).await;
    assert!(matches!(&error, BrokerError::Corrupt { .. }), "{error:?}");
    assert!(error.to_string().contains("another program"), "{error}");
    assert_eq!(std::fs::read(path).unwrap(), before);
}

#[tokio::test]
async fn a_newer_schema_is_refused_with_both_versions() {
    let kit = Kit::sqlite();
    kit.handle().await.close().await.unwrap();
    let newer = Connection::open(kit.path()).unwrap();
    newer.pragma_update(None, "user_version", 9000).unwrap();
    let error = refusal(&kit.path()).await;
    assert!(matches!(&error, BrokerError::Unreachable { .. }), "{error:?}");
    for part in ["version 9000", "up to 9", "newer"] {
        assert!(error.to_string().contains(part), "{error}");
    }
}

#[tokio::test]
async fn a_place_that_cannot_be_written_is_said() {
    let (_kept, plain_file) = file(|path| std::fs::write(path, "").unwrap());
    for path in [Path::new("/proc/pool/pool.db"), &plain_file.join("pool.db")] {
        let error = refusal(path).await;
        assert!(matches!(&error, BrokerError::Unreachable { .. }), "{error:?}");
        assert!(error.to_string().contains("cannot make its directory"), "{error}");
        assert!(error.to_string().contains(&path.display().to_string()), "{error}");
    }
    let directory = tempfile::tempdir().unwrap();
    let error = refusal(directory.path()).await;
    assert!(matches!(&error, BrokerError::Unreachable { .. }), "{error:?}");
}

#[tokio::test]
async fn a_deleted_file_is_said_and_its_successor_unharmed() {
    let kit = Kit::sqlite();
    let broker = kit.handle().await;
    enqueue(&broker, jobs(0..1, "other")).await;
    let queues = [queue("default")];
    let mut ready = broker.ready(&queues);
    assert!(waits(&mut ready).await);
    std::fs::remove_dir_all(kit.path().parent().unwrap()).unwrap();
    let error = soon(ready).await.unwrap_err();
    assert!(error.to_string().contains("deleted or replaced"), "{error}");
    let successor = kit.handle().await;
    enqueue(&successor, jobs(0..1, "default")).await;
    let error = broker.enqueue(jobs(1..2, "default")).await.unwrap_err();
    assert!(matches!(&error, BrokerError::Unreachable { .. }), "{error:?}");
    broker.close().await.expect_err("its claims can't be given back");
    enqueue(&successor, jobs(1..2, "default")).await;
    assert_eq!(claim_ids(&kit.handle().await, 9).await.len(), 2);
    intact(&kit.path());
}

#[tokio::test]
async fn many_who_open_a_new_file_at_once_all_can() {
    let kit = Kit::sqlite();
    let mut opening = tokio::task::JoinSet::new();
    for number in 0..8 {
        let url = BrokerUrl::Sqlite(kit.path());
        opening.spawn(async move {
            let broker = open(&BrokerConfig { url, ..config() }).await;
            enqueue(&broker, jobs(number..number + 1, "default")).await;
        });
    }
    soon(opening.join_all()).await;
    assert_eq!(claim_ids(&kit.handle().await, 9).await.len(), 8);
}

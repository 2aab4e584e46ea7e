//! Jobs of a batch task: one call, an outcome for each, and none lost whatever dies.

use std::collections::BTreeMap;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::harness::{Pool, send, wait_gone};

const ONE_WORKER: &str = "[defaults]\nmin_workers = 1\nmax_workers = 1\nbackoff = \"10ms\"\n";

/// Enqueues one job of `app.insert` for each row while the pool is paused, so that they gather to one batch.
fn insert(pool: &Pool, rows: &[Value]) -> Vec<String> {
    pool.run(&["pause"]);
    let enqueue = |row: &Value| pool.enqueue(&["app.insert", &row.to_string(), "--retries", "1"]);
    let ids = rows.iter().flat_map(enqueue).collect();
    pool.run(&["resume"]);
    ids
}

/// The rows of each call of `app.insert`.
fn calls(pool: &Pool) -> Vec<Vec<Value>> {
    let parsed = pool
        .ledger()
        .into_iter()
        .map(|line| serde_json::from_str::<Value>(&line).expect("JSON lines"));
    parsed
        .map(|call| call["rows"].as_array().expect("a list").clone())
        .collect()
}

/// What `pool wait` says of each job, in the order of `ids`.
fn ended(pool: &Pool, ids: &[String]) -> Vec<Value> {
    let mut by_id: BTreeMap<String, Value> = pool
        .wait(ids)
        .into_iter()
        .map(|job| (job["id"].as_str().expect("an id").to_owned(), job))
        .collect();
    ids.iter()
        .map(|id| by_id.remove(id).expect("each job ended once"))
        .collect()
}

#[test]
fn jobs_gather_to_one_call_and_each_has_its_own_outcome() {
    let mut pool = Pool::start(ONE_WORKER);
    let rows: Vec<Value> = (0..8).map(|row| json!(row)).collect();
    let ids = insert(&pool, &[&rows[..], &[json!("fail"), json!("again")]].concat());
    let ended = ended(&pool, &ids);
    for (row, job) in rows.iter().zip(&ended) {
        assert_eq!(
            (&job["state"], &job["result"]),
            (&json!("finished"), row),
            "{job}"
        );
    }
    assert_eq!(ended[8]["state"], "dead", "{}", ended[8]);
    assert!(
        ended[8]["error"].to_string().contains("no such user"),
        "{}",
        ended[8]
    );
    assert_eq!(
        ended[9]["result"], "again",
        "its second run succeeds: {}",
        ended[9]
    );
    assert_eq!(calls(&pool)[0].len(), 10, "{:?}", calls(&pool));
    pool.assert_clean_stop();
}

#[test]
fn what_came_within_the_linger_goes_without_the_rest() {
    let settings = format!("{ONE_WORKER}[tasks.\"app.insert\"]\nbatch_linger = \"100ms\"\n");
    let pool = Pool::start(&settings);
    let ids = insert(&pool, &[json!(1), json!(2), json!(3)]);
    pool.assert_finished(&ids);
    assert_eq!(
        calls(&pool),
        [[1, 2, 3].map(Value::from)],
        "the settings win over the code"
    );
}

#[test]
fn a_wrong_number_of_answers_fails_every_job_and_says_so() {
    let pool = Pool::start(ONE_WORKER);
    pool.run(&["pause"]);
    let ids = pool.enqueue(&["app.forgetful", "1", "--count", "5"]);
    pool.run(&["resume"]);
    for job in pool.wait(&ids) {
        assert_eq!(job["state"], "dead", "{job}");
        let said = job["error"].to_string();
        assert!(said.contains("4 answers for 5 jobs"), "{job}");
    }
}

#[test]
fn a_worker_killed_in_the_middle_of_a_batch_loses_none_of_its_jobs() {
    let mut pool = Pool::start(ONE_WORKER);
    let mut rows: Vec<Value> = (0..9).map(|row| json!(row)).collect();
    rows.push(json!("slow"));
    let ids = insert(&pool, &rows);
    pool.wait_for("the call", |pool| calls(pool).len() == 1);
    let worker = *pool.workers().first().expect("a worker");
    // The next run of the row is no slower than the others.
    let slow = pool.default_pool()["processes"][0]["batch"].clone();
    assert_eq!(slow, 10, "all of them run as one batch");
    send(worker, Signal::SIGKILL);
    wait_gone(worker);
    pool.wait_for("the second call", |pool| calls(pool).len() == 2);
    let again = &calls(&pool)[1];
    assert_eq!(*again, rows, "all of them run again, in their order");
    pool.signal(Signal::SIGQUIT);
    assert!(pool.ended().success(), "{}", pool.log());
    let waiting = |id: &String| pool.run(&["result", id]).0;
    assert_eq!(ids.iter().filter(|id| !waiting(id).is_empty()).count(), 0);
    pool.launch();
    pool.wait_for("the third call: a stop gives them all back", |pool| {
        calls(pool).len() == 3
    });
    assert_eq!(calls(&pool)[2].len(), 10);
}

#[test]
fn a_batch_is_split_down_to_the_job_at_fault() {
    let settings =
        format!("{ONE_WORKER}[tasks.\"app.insert\"]\nbatch_split = true\nbatch_linger = \"100ms\"\n");
    let pool = Pool::start(&settings);
    for (fault, word) in [("rotten", "a rotten row"), ("deadly", "signal 9")] {
        let mut rows: Vec<Value> = (0..10).map(|row| json!(row)).collect();
        rows[6] = json!(fault);
        let ids = insert(&pool, &rows);
        let ended = ended(&pool, &ids);
        for (at, job) in ended.iter().enumerate().filter(|(at, _)| *at != 6) {
            assert_eq!(job["state"], "finished", "job {at}: {job}\n{}", pool.log());
        }
        assert_eq!(ended[6]["state"], "dead", "{}", ended[6]);
        assert!(ended[6]["error"].to_string().contains(word), "{}", ended[6]);
    }
    assert_eq!(pool.default_pool()["failed"], 2, "{}", pool.log());
}

#[test]
fn a_batch_has_one_deadline() {
    let settings =
        format!("{ONE_WORKER}[tasks.\"app.insert\"]\ntimeout = \"300ms\"\nbatch_linger = \"100ms\"\n");
    let pool = Pool::start(&settings);
    let ids = insert(&pool, &[json!(1), json!("slow")]);
    for job in pool.wait(&ids) {
        assert!(job["error"].to_string().contains("timeout"), "{job}");
    }
    assert_eq!(pool.default_pool()["lost"], 0, "its worker lives on");
}

#[test]
fn a_batch_that_its_worker_does_not_read_to_the_end_goes_to_another() {
    let app = "after_fork = [\"app.stop_amid_a_batch\"]\n";
    let mut pool = Pool::start_with_app(app, ONE_WORKER);
    pool.wait_for("a worker", |pool| pool.workers().len() == 1);
    let stopped = *pool.workers().first().expect("one worker");
    let rows: Vec<Value> = (0..10).map(|row| json!(row)).collect();
    let ids = insert(&pool, &rows);
    pool.assert_finished(&ids);
    assert_eq!(calls(&pool), [rows], "none of its jobs had begun");
    wait_gone(stopped);
    assert!(
        pool.log().contains("does not read the rest of its batch"),
        "{}",
        pool.log()
    );
    assert_eq!(pool.default_pool()["lost"], 0, "nothing counts against its jobs");
    pool.assert_clean_stop();
}

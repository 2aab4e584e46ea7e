//! Chains and groups of a Python application, end to end.

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::harness::Pool;

const ONE_WORKER: &str = "[defaults]\nmin_workers = 1\nmax_workers = 1\nbackoff = \"10ms\"\n";

/// What `pool wait` says of each of these jobs.
fn ended(pool: &Pool, ids: &[String]) -> Vec<Value> {
    let said = pool.wait(ids);
    let of = |id: &String| said.iter().find(|job| job["id"] == **id);
    ids.iter()
        .map(|id| of(id).expect("each is told").clone())
        .collect()
}

#[test]
fn each_job_of_a_chain_gets_the_result_of_the_one_before_it() {
    let mut pool = Pool::start(ONE_WORKER);
    let ids = pool.enqueue(&[
        "app.add",
        "[1, 2]",
        "--then",
        "app.add [10]",
        "--then",
        "app.summary {\"of\": 1}",
    ]);
    let ended = ended(&pool, &ids);
    let results: Vec<&Value> = ended.iter().map(|job| &job["result"]).collect();
    assert_eq!(results, [&json!(3), &json!(13), &Value::Null]);
    assert_eq!(pool.ledger(), [r#"{"of": 1, "previous": 13}"#]);
    pool.assert_clean_stop();
}

#[test]
fn a_chain_stops_at_a_failure_and_goes_on_when_that_is_retried() {
    let pool = Pool::start(ONE_WORKER);
    let ids = pool.enqueue(&[
        "app.fail_until",
        r#"["once", 2]"#,
        "--retries",
        "0",
        "--then",
        "app.add [5]",
    ]);
    let failed = ended(&pool, &ids);
    assert_eq!(failed[0]["error"]["kind"], "ValueError", "{}", failed[0]);
    assert_eq!(failed[1]["error"]["kind"], "earlier job failed", "{}", failed[1]);
    assert!(pool.run(&["dead", "retry", &ids[0]]).1);
    let ended = ended(&pool, &ids);
    assert_eq!((&ended[0]["result"], &ended[1]["result"]), (&json!(2), &json!(7)));
}

#[test]
fn a_supervisor_that_is_killed_goes_on_with_a_chain() {
    let mut pool = Pool::start(ONE_WORKER);
    let gate = pool.path("gate");
    let given = json!([gate]).to_string();
    let ids = pool.enqueue(&["app.wait_for", &given, "--then", "app.summary {\"of\": 1}"]);
    pool.pid_of(&ids[0]);
    pool.signal(Signal::SIGKILL);
    pool.ended();
    std::fs::write(&gate, "").expect("the gate opens");
    pool.launch();
    pool.assert_finished(&ids);
    let told = pool.ledger().into_iter().filter(|line| line.starts_with('{'));
    assert_eq!(told.collect::<Vec<_>>(), [r#"{"of": 1, "previous": null}"#]);
}

#[test]
fn a_group_calls_back_once_with_its_counts() {
    let mut pool = Pool::start(ONE_WORKER);
    let lines = ["app.add", "app.fail", "app.mark"].map(
        |task| json!({ "task": task, "args": if task == "app.add" { json!([1, 2]) } else { json!(["m"]) } }),
    );
    let file = pool.path("group.jsonl");
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    std::fs::write(&file, text).expect("the group is written");
    let file = file.to_string_lossy();
    let options = [
        "--retries",
        "0",
        "--on-done",
        "app.summary {\"at\": \"end\"}",
        "--wait",
    ];
    let (lines, all_well) = pool.run(&[&["enqueue", "--group", &*file], &options[..]].concat());
    assert_eq!((lines.lines().count(), all_well), (3, false), "{lines}");
    let told = |pool: &Pool| {
        pool.ledger()
            .into_iter()
            .filter(|line| line.starts_with('{'))
            .collect::<Vec<_>>()
    };
    pool.wait_for("the callback", |pool| !told(pool).is_empty());
    let summary: Value = serde_json::from_str(&told(&pool)[0]).expect("JSON");
    let counts = ["total", "finished", "failed"].map(|name| summary["group"][name].as_u64());
    assert_eq!(
        (counts, &summary["at"]),
        ([Some(3), Some(2), Some(1)], &json!("end"))
    );
    pool.assert_clean_stop();
    assert_eq!(told(&pool).len(), 1);
}

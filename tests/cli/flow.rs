//! Contracts of groups and chains on the command line.

use serde_json::{Value, json};

use crate::kit::{Place, Supervisor};

fn sorted(lines: &[String]) -> Vec<Value> {
    let mut lines: Vec<Value> = lines
        .iter()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    lines.sort_by_key(|line| line["id"].to_string());
    lines
}

#[test]
fn a_chain_prints_its_ids_and_its_last_result() {
    let place = Place::new();
    let mut supervisor = Supervisor::start(&place, &[]);
    let ids = place.lines(&[
        "enqueue", "echo", "[1]", "--then", "echo [2]", "--then", "echo {}",
    ]);
    assert_eq!(ids.len(), 3);
    let lines = place.lines(&["wait", &ids[2]]);
    let expected = json!({"id": ids[2], "state": "finished", "result": {"previous": [[1], 2]}});
    assert_eq!(sorted(&lines), [expected]);
    let last = place.lines(&["enqueue", "echo", "20", "--then", "fib", "--wait"]);
    assert_eq!(last, ["6765"]);

    let failed = place.run(&["enqueue", "fib", "94", "--then", "echo", "--wait"]);
    assert_eq!(failed.status.code(), Some(1));
    let said = String::from_utf8(failed.stderr).unwrap();
    assert!(said.contains("earlier in its chain, failed"), "{said}");
    assert_eq!(place.lines(&["stop"]), ["stopped"]);
    assert_eq!(supervisor.wait(), Some(0));
}

#[test]
fn a_group_prints_its_id_and_a_line_for_each_member() {
    let place = Place::new();
    let mut supervisor = Supervisor::start(&place, &[]);
    let members = r#"{"task": "fib", "args": 10, "id": "a"}
                     {"task": "echo", "args": "b", "id": "b", "result_ttl": "1h"}"#;
    place.write("jobs.jsonl", members);
    let group = place.lines(&["enqueue", "--group", "jobs.jsonl", "--on-done", "echo"]);
    assert_eq!(group.len(), 1);
    let lines = place.lines(&["wait", "--group", &group[0]]);
    let expected = [
        json!({"id": "a", "state": "finished", "result": 55}),
        json!({"id": "b", "state": "finished", "result": "b"}),
    ];
    assert_eq!(sorted(&lines), expected);

    let failing = "{\"task\": \"fib\", \"args\": 94, \"id\": \"c\"}\n{\"task\": \"noop\", \"id\": \"d\"}";
    let output = place.run_with(&["enqueue", "--group", "-", "--wait"], failing);
    assert_eq!(output.status.code(), Some(1), "one failed");
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let states: Vec<Value> = sorted(&lines).iter().map(|line| line["state"].clone()).collect();
    assert_eq!(states, ["dead", "finished"]);

    let silent = "{\"task\": \"noop\", \"result_ttl\": 0, \"timeout\": 30}\n";
    let output = place.run_with(&["enqueue", "--group", "-", "--wait"], silent);
    assert_eq!(
        output.status.code(),
        Some(0),
        "a result that is not kept is no failure"
    );
    assert_eq!(place.lines(&["stop"]), ["stopped"]);
    assert_eq!(supervisor.wait(), Some(0));
}

#[test]
fn a_callback_gets_the_counts_of_its_group() {
    let place = Place::new();
    place.write(
        "jobs.jsonl",
        "{\"task\": \"noop\"}\n{\"task\": \"fib\", \"args\": 94}\n",
    );
    let args = [
        "enqueue",
        "--group",
        "jobs.jsonl",
        "--on-done",
        "fib {}",
        "--on-failure",
        "fib []",
    ];
    let group = place.lines(&args).remove(0);
    let mut supervisor = Supervisor::start(&place, &["--burst"]); // which outlasts the callbacks
    assert_eq!(supervisor.wait(), Some(0));
    let dead: Vec<Value> = place
        .lines(&["dead", "list", "--json"])
        .iter()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let got = |key: &str| dead.iter().find_map(|job| job["arguments"].get(key).cloned());
    let done = json!({"group": group, "total": 2, "finished": 1, "failed": 1});
    assert_eq!(got("group"), Some(done));
    assert!(
        dead.iter().any(|job| job["arguments"][0]["failed"] == 1),
        "{dead:?}"
    );
}

#[test]
fn wrong_groups_and_chains_are_refused_with_their_reasons() {
    let place = Place::new();
    place.write(
        "wrong.jsonl",
        "{\"task\": \"noop\"}\n{\"tusk\": \"noop\"}\n{\"task\": \"noop\", \"in\": \"soon\"}\n",
    );
    insta::assert_snapshot!(place.transcripts(&[
        &["enqueue", "--group", "wrong.jsonl"],
        &["enqueue", "--group", "missing.jsonl"],
        &["enqueue", "noop", "--then", "noop noop"],
        &["enqueue", "noop", "--then", "noop 1"],
        &["enqueue", "noop", "--on-done", "noop"],
        &["enqueue"],
        &["wait", "--group", "unknown"],
        &["wait"],
    ]));
}

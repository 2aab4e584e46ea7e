//! Contracts of standard output: scripts read it.

use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;
use std::sync::mpsc;

use serde_json::Value;

use crate::kit::{PATIENCE, Place, Supervisor};

fn json(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
}

#[test]
fn enqueue_prints_one_id_a_line_and_nothing_else() {
    let place = Place::new();
    let output = place.run(&["enqueue", "noop", "--count", "12000"]);
    assert!(
        output.stderr.is_empty(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout).unwrap();
    let ids: std::collections::BTreeSet<&str> = text.lines().collect();
    assert_eq!(ids.len(), 12_000);
    assert!(ids.iter().all(|id| id.len() == 36 && !id.contains(' ')));
}

#[test]
fn a_chosen_id_is_the_jobs_id() {
    let place = Place::new();
    assert_eq!(place.lines(&["enqueue", "noop", "--id", "mine"]), ["mine"]);
}

#[test]
fn a_held_key_prints_the_job_that_holds_it() {
    let place = Place::new();
    let first = place.lines(&["enqueue", "noop", "--key", "nightly"]);
    let second = place.run(&["enqueue", "noop", "--key", "nightly"]);
    assert!(second.status.success());
    assert_eq!(String::from_utf8(second.stdout).unwrap().trim_end(), first[0]);
    assert!(
        String::from_utf8(second.stderr)
            .unwrap()
            .starts_with("note: nothing was enqueued")
    );
}

#[test]
fn a_reader_that_leaves_ends_the_verb_in_silence() {
    let place = Place::new();
    let mut child = place
        .command(["enqueue", "noop", "--count", "20000"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn check_prints_toml_that_check_reads() {
    let place = Place::new();
    let lines = place.lines(&["check", "--max-workers", "7"]);
    assert!(
        lines
            .iter()
            .any(|line| line.starts_with("max_workers = 7") && line.ends_with("# flag --max-workers")),
        "{lines:?}"
    );
    place.write("printed.toml", &lines.join("\n"));
    let again = place.lines(&["check", "--config", "printed.toml"]);
    assert!(again.iter().any(|line| line.starts_with("max_workers = 7")));
}

#[test]
fn wait_prints_one_json_line_a_job_as_they_end() {
    let place = Place::new();
    let mut supervisor = Supervisor::start(&place, &[]);
    place.lines(&["pause"]);
    let slow = place.lines(&["enqueue", "sleep", "2"]).remove(0);
    let quick = place.lines(&["enqueue", "fib", r#"{"n": 20}"#]).remove(0);
    place.lines(&["resume"]);
    let lines = place.lines(&["wait", &slow, &quick]);
    assert_eq!(
        json(&lines[0]),
        serde_json::json!({"id": quick, "state": "finished", "result": 6765})
    );
    assert_eq!(
        json(&lines[1]),
        serde_json::json!({"id": slow, "state": "finished", "result": null})
    );

    let bad = place.lines(&["enqueue", "fib", "94"]).remove(0);
    let output = place.run_with(&["wait", "-"], &format!("{quick}\n{bad}\n"));
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stdout).unwrap();
    let failed = text
        .lines()
        .map(json)
        .find(|line| line["id"] == bad.as_str())
        .unwrap();
    assert_eq!(failed["state"], "dead");
    assert!(failed["error"]["message"].is_string() && failed["error"]["kind"].is_string());
    assert!(failed.get("result").is_none());

    assert_eq!(place.lines(&["stop"]), ["stopped"]);
    assert_eq!(supervisor.wait(), Some(0));
}

/// Whether a terminal would obey something in it, but for line breaks.
fn steers_terminal(text: &str) -> bool {
    text.chars().any(|c| c != '\n' && pool::text::steers_terminal(c))
}

#[test]
fn nothing_that_a_job_says_steers_the_terminal() {
    let place = Place::new();
    place.write(
        "config.toml",
        "[app]\nruntime = 'command'\n[tasks.hostile]\ncommand = ['sh', '-c', 'printf \"$1\" >&2; printf \"$1\"; exit $2', 'sh', \
         '\\033[2J\\302\\233\\342\\200\\256\\177!', '1']\n\
         [tasks.result]\ncommand = ['printf', '\"\\302\\233\\342\\200\\256\\177!\"']\n",
    );
    let supervisor = Supervisor::start(&place, &["--config", "config.toml"]);
    // Names may hold an override of direction.
    let id = "\u{202e}job";
    place.run(&["enqueue", "hostile", "--id", id, "--wait"]);
    let result = place.lines(&["enqueue", "result", "--wait"]);
    assert_eq!(json(&result[0]), "\u{9b}\u{202e}\u{7f}!");
    assert!(!steers_terminal(&result[0]), "{result:?}");
    let log = supervisor.wait_for_line("job failed");
    assert!(!steers_terminal(&log), "{log:?}");
    for args in [
        &["dead", "list"][..],
        &["dead", "list", "--json"],
        &["dead", "show", id],
        &["dead", "show", id, "--json"],
        &["wait", id],
        &["result", id],
        &["dead", "retry", "no\u{202e}such"],
    ] {
        let output = place.run(args);
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8(said).unwrap();
        assert!(said.len() > 10 && !steers_terminal(&said), "{args:?}: {said:?}");
        assert!(
            said.contains("u{202e}") || said.contains("u202e"),
            "{args:?}: {said:?}"
        );
    }
}

#[test]
fn enqueue_takes_a_job_from_each_line() {
    let place = Place::new();
    let _supervisor = Supervisor::start(&place, &[]);
    place.write("lines.jsonl", "{\"n\": 1.10}\r\n\n  \"two words\"\n[3]"); // the last line has no end
    let ids = place.lines(&["enqueue", "echo", "--jsonl", "lines.jsonl"]);
    let results: Vec<String> = ids
        .iter()
        .flat_map(|id| place.lines(&["result", id, "--wait=60s"]))
        .collect();
    assert_eq!(results, [r#"{"n": 1.10}"#, r#""two words""#, "[3]"]);

    let output = place.run_with(&["enqueue", "fib", "--jsonl", "-", "--wait"], "10\n");
    let line = json(str::from_utf8(&output.stdout).unwrap());
    assert_eq!(
        (&line["state"], &line["result"]),
        (&"finished".into(), &55.into())
    );
    assert!(
        place
            .lines(&["enqueue", "echo", "--jsonl", "/dev/null"])
            .is_empty()
    );
}

#[test]
fn lines_are_enqueued_as_they_come() {
    let place = Place::new();
    let mut producer = place
        .command(["enqueue", "echo", "--jsonl", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = producer.stdin.take().unwrap();
    let out = BufReader::new(producer.stdout.take().unwrap());
    let (id, ids) = mpsc::channel();
    let reader = std::thread::spawn(move || out.lines().try_for_each(|line| id.send(line.unwrap())));
    for line in ["1\n", "2\n"] {
        lines.write_all(line.as_bytes()).unwrap();
        let id = ids.recv_timeout(PATIENCE).expect("an id before the next line");
        assert_eq!(id.len(), 36, "{id}");
    }
    drop(lines);
    reader.join().unwrap().unwrap();
    assert!(ids.try_recv().is_err(), "no third id");
    assert!(producer.wait().unwrap().success());
}

#[test]
fn enqueue_wait_prints_the_result_alone() {
    let place = Place::new();
    let _supervisor = Supervisor::start(&place, &[]);
    assert_eq!(
        place.lines(&["enqueue", "fib", r#"{"n": 30}"#, "--wait"]),
        ["832040"]
    );
    assert_eq!(
        place.lines(&["enqueue", "echo", r#""two words""#, "--wait"]),
        [r#""two words""#]
    );
    assert_eq!(
        place.lines(&["enqueue", "echo", r#""two words""#, "--wait", "--raw"]),
        ["two words"]
    );
    let large = "123456789012345678901234567890.10";
    assert_eq!(place.lines(&["enqueue", "echo", large, "--wait"]), [large]);

    let several = place.lines(&["enqueue", "noop", "--wait", "--count", "3"]);
    assert_eq!(several.len(), 3);
    assert!(several.iter().all(|line| json(line)["state"] == "finished"));

    let id = place.lines(&["enqueue", "fib", "10"]).remove(0);
    assert_eq!(place.lines(&["result", &id, "--wait=60s"]), ["55"]);
}

#[test]
fn status_as_json_holds_what_scripts_rely_on() {
    let place = Place::new();
    let supervisor = Supervisor::start(&place, &["--min-workers", "2", "--max-workers", "4"]);
    place.lines(&["enqueue", "noop", "--wait"]);
    let status = json(&place.lines(&["status", "--json"])[0]);
    assert_eq!(status["pid"], supervisor.pid());
    assert_eq!(status["generation"], 1);
    let pool = &status["pools"]["default"];
    for (key, value) in [
        ("workers", 2),
        ("min", 2),
        ("max", 4),
        ("done", 1),
        ("failed", 0),
        ("lost", 0),
        ("waiting", 0),
    ] {
        assert_eq!(pool[key], value, "{key} in {pool}");
    }
    for key in ["busy", "utilization", "oldest_waiting_s", "last_decision"] {
        assert!(pool.get(key).is_some(), "{key} in {pool}");
    }
    let process = &pool["processes"][0];
    for key in [
        "worker",
        "pid",
        "generation",
        "state",
        "job",
        "task",
        "since_s",
        "jobs",
        "pss_bytes",
        "shared_bytes",
        "private_bytes",
        "private_anonymous_bytes",
        "private_heap_bytes",
        "private_other_bytes",
    ] {
        assert!(process.get(key).is_some(), "{key} in {process}");
    }
}

#[test]
fn each_request_to_the_supervisor_is_answered_in_a_line() {
    let place = Place::new();
    let mut supervisor = Supervisor::start(&place, &[]);
    insta::assert_snapshot!(place.transcripts(&[
        &["scale", "--max", "8"],
        &["scale", "--min", "9"],
        &["scale", "--pool", "mail", "--max", "3"],
        &["pause"],
        &["resume", "--pool", "default"],
        &["reload"],
        &["drain"],
    ]));
    assert_eq!(supervisor.wait(), Some(0));
    assert!(!place.path("pool.db.sock").exists());
}

#[test]
fn dead_letters_are_listed_retried_and_deleted() {
    let place = Place::new();
    let mut supervisor = Supervisor::start(&place, &[]);
    let id = place.lines(&["enqueue", "fib", "94"]).remove(0);
    assert_eq!(place.run(&["wait", &id]).status.code(), Some(1));
    assert_eq!(place.lines(&["stop"]), ["stopped"]);
    assert_eq!(supervisor.wait(), Some(0));

    let listed = json(&place.lines(&["dead", "list", "--json"])[0]);
    assert_eq!(
        (&listed["id"], &listed["arguments"]),
        (&Value::from(id.as_str()), &Value::from(94))
    );
    assert!(
        place
            .lines(&["dead", "show", &id])
            .contains(&"arguments 94".to_owned())
    );
    assert_eq!(
        place.lines(&["dead", "retry", "--all", "--task", "noop"]),
        ["put back 0 dead letters"]
    );
    assert_eq!(place.lines(&["dead", "retry", &id]), ["put back 1 dead letter"]);
    assert_eq!(place.lines(&["dead", "list"]), ["no dead letters"]);
}

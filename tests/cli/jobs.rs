//! `pool jobs`: lists, searches, and ids by their first letters.

use crate::kit::{Place, Supervisor};

/// Jobs of two queues that nobody runs, two hours away or waiting.
fn with_jobs(place: &Place) {
    for (id, queue, to) in [
        ("order-1", "mail", "ada"),
        ("order-2", "mail", "bob"),
        ("print-3", "hihg", "ada"),
    ] {
        let arguments = format!(r#"{{"to": "{to}@example.org"}}"#);
        place.lines(&["enqueue", "mail.send", &arguments, "--id", id, "-q", queue]);
    }
    place.lines(&["enqueue", "report", "--id", "later-4", "--in", "2h"]);
}

/// The ids that a list of JSON lines names, and the cursor to go on with.
fn listed(place: &Place, args: &[&str]) -> (Vec<String>, Option<String>) {
    let lines = place.lines(&[&["jobs", "--json"], args].concat());
    let mut ids = Vec::new();
    for line in lines {
        let job: serde_json::Value = serde_json::from_str(&line).unwrap();
        if let Some(next) = job["next"].as_str() {
            return (ids, Some(next.to_owned()));
        }
        ids.push(job["id"].as_str().unwrap().to_owned());
    }
    (ids, None)
}

#[test]
fn jobs_are_found_by_what_is_known_of_them() {
    let place = Place::new();
    with_jobs(&place);
    for (args, expected) in [
        (
            &["--state", "waiting", "--queue", "mail"][..],
            &["order-2", "order-1"][..],
        ),
        (&["--state", "scheduled"], &["later-4"]),
        (&["--arg", "to=ada@example.org", "--queue", "hihg"], &["print-3"]),
        (&["--task", "report", "--since", "1h"], &["later-4"]),
        (&["--state", "dead,canceled"], &[]),
    ] {
        let (found, next) = listed(&place, args);
        assert_eq!(found, expected, "{args:?}");
        assert_eq!(next, None);
    }
}

#[test]
fn a_list_goes_on_where_an_earlier_one_ended() {
    let place = Place::new();
    with_jobs(&place);
    let (mut all, mut next) = listed(&place, &["--limit", "1"]);
    for _ in 0..4 {
        let Some(after) = &next else { break };
        let (more, then) = listed(&place, &["--limit", "1", "--after", after]);
        all.extend(more);
        next = then;
    }
    all.sort();
    assert_eq!(all, ["later-4", "order-1", "order-2", "print-3"]);
    let said = place.run(&["jobs", "--limit", "1"]);
    let said = String::from_utf8(said.stderr).unwrap();
    assert!(
        said.starts_with("there may be more; go on with --after 'waiting:"),
        "{said}"
    );
    assert_eq!(place.run(&["jobs", "--after", "7"]).status.code(), Some(2));
    assert_eq!(place.run(&["jobs", "--state", "lost"]).status.code(), Some(2));
}

#[test]
fn an_id_may_be_given_by_its_first_letters() {
    let place = Place::new();
    with_jobs(&place);
    let shown = place.lines(&["jobs", "show", "pr"]);
    assert_eq!(shown[0], "job       print-3");
    assert!(
        shown.contains(&r#"arguments {"to": "ada@example.org"}"#.to_owned()),
        "{shown:?}"
    );
    insta::assert_snapshot!(place.transcripts(&[
        &["jobs", "show", "order"],
        &["result", "order"],
        &["wait", "pr", "--timeout", "0"],
        &["jobs", "show", "none"],
    ]));
}

#[test]
fn a_job_that_failed_is_found_by_its_error_and_shows_its_runs() {
    let place = Place::new();
    let _supervisor = Supervisor::start(&place, &[]);
    let fails = ["enqueue", "fib", r#"{"n": 94}"#, "--id", "too-large", "--wait"];
    assert_eq!(place.run(&fails).status.code(), Some(1));
    place.lines(&["enqueue", "fib", r#"{"n": 4}"#, "--id", "small", "--wait"]);
    let (found, _) = listed(&place, &["--error", "EXPECTED a whole number"]);
    assert_eq!(found, ["too-large"]);
    assert_eq!(listed(&place, &["--state", "finished"]).0, ["small"]);
    let lines = place.lines(&["jobs", "show", "too", "--json"]);
    let shown: serde_json::Value = serde_json::from_str(&lines[0]).unwrap();
    let run = &shown["attempts"][0];
    assert_eq!(shown["state"], "dead");
    assert!(
        run["worker"].is_string() && run["started"].is_i64() && run["ended"].is_i64(),
        "{run}"
    );
    assert!(
        run["error"]["message"].as_str().unwrap().contains("whole number"),
        "{run}"
    );
    // A job that runs says where, and the other verbs take its letters too.
    place.lines(&["enqueue", "sleep", "600", "--id", "sleeper"]);
    let runs = (0..600).any(|_| {
        let lines = place.lines(&["jobs", "show", "slee"]);
        lines
            .iter()
            .any(|line| line.contains("running for ") && line.contains("by worker "))
    });
    assert!(runs, "nobody is said to run it");
    place.lines(&["dead", "retry", "too"]);
    place.lines(&["stop", "--now"]);
}

#[test]
fn a_pipe_gets_each_row_whole_and_columns_sets_a_width() {
    let place = Place::new();
    let (task, to) = ("t".repeat(90), format!("{}@example.org", "a".repeat(400)));
    let arguments = format!(r#"{{"to": "{to}"}}"#);
    place.lines(&["enqueue", &task, &arguments, "--id", "long"]);
    let row = place.lines(&["jobs"]).remove(1);
    assert!(row.contains(&task) && row.ends_with(&arguments), "{row}");
    for (columns, is_cut) in [("60", true), ("0", false), ("wide", false)] {
        let mut command = place.command(["jobs"]);
        let output = command.env("COLUMNS", columns).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let fits = text.lines().all(|line| line.chars().count() <= 60);
        assert_eq!(
            (fits, text.contains(&task)),
            (is_cut, !is_cut),
            "{columns}: {text}"
        );
    }
}

#[test]
fn an_empty_queue_is_purged_without_a_question() {
    let place = Place::new();
    assert_eq!(place.lines(&["purge", "mail"]), ["deleted 0 jobs"]);
    with_jobs(&place);
    // Nobody can be asked here.
    assert_eq!(place.run(&["purge", "mail"]).status.code(), Some(2));
}

#[test]
fn jobs_over_their_limit_are_seen_and_not_purged_without_a_question() {
    let place = Place::new();
    let _supervisor = Supervisor::start(&place, &[]);
    let queues = || place.lines(&["queues"]);
    place.lines(&["enqueue", "noop", "--wait"]);
    assert!(!queues()[0].contains("BLOCKED"), "{:?}", queues());
    let limited = ["enqueue", "sleep", "600", "--limit", "db=1", "--count", "3"];
    place.lines(&limited);
    let seen = (0..600).any(|_| queues()[0].contains("BLOCKED"));
    assert!(seen, "{:?}", queues());
    let row: serde_json::Value = serde_json::from_str(&place.lines(&["queues", "--json"])[0]).unwrap();
    assert_eq!(
        (&row["waiting"], &row["blocked"]),
        (&0.into(), &2.into()),
        "{row}"
    );
    let refused = place.run(&["purge", "default"]);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(2), "{said}");
    assert!(
        said.contains("delete 0 waiting, 2 blocked in queue default"),
        "{said}"
    );
    assert_eq!(place.lines(&["purge", "default", "--yes"]), ["deleted 2 jobs"]);
    place.lines(&["stop", "--now"]);
}

#[test]
fn dead_letters_are_not_deleted_in_bulk_without_a_question() {
    let place = Place::new();
    assert_eq!(
        place.lines(&["dead", "delete", "--all"]),
        ["deleted 0 dead letters"]
    );
    for id in ["one", "two", "three"] {
        place.lines(&["enqueue", "noop", "--id", id]);
    }
    place.lines(&["cancel", "one", "two", "three"]);
    // Nobody can be asked here.
    let refused = place.run(&["dead", "delete", "--all"]);
    assert_eq!(refused.status.code(), Some(2));
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(
        said.contains("whether to delete 3 dead letters") && said.contains("--yes"),
        "{said}"
    );
    assert_eq!(
        place.lines(&["dead", "delete", "--all", "--dry-run"]),
        ["3 dead letters match"]
    );
    // Who names one means it.
    assert_eq!(place.lines(&["dead", "delete", "one"]), ["deleted 1 dead letter"]);
    let of_task = ["dead", "delete", "--all", "--task", "noop", "--yes"];
    assert_eq!(place.lines(&of_task), ["deleted 2 dead letters"]);
}

#[test]
fn a_canceled_job_is_not_said_to_be_retried() {
    let place = Place::new();
    place.lines(&["enqueue", "noop", "--id", "one"]);
    place.lines(&["cancel", "one"]);
    for (args, hint) in [
        (&["result", "one"][..], None),
        (
            &["dead", "retry", "one"],
            Some("one that was canceled is enqueued anew"),
        ),
    ] {
        let output = place.run(args);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        match hint {
            Some(hint) => assert!(said.contains(hint), "{said}"),
            None => assert!(!said.contains("hint:"), "{said}"),
        }
    }
}

#[test]
fn who_retries_all_that_failed_does_not_mean_what_was_called_off() {
    let place = Place::new();
    let _supervisor = Supervisor::start(&place, &[]);
    place.lines(&["enqueue", "sleep", "600", "--id", "stopped"]);
    place.lines(&["stop-job", "stopped"]);
    assert_eq!(place.run(&["wait", "stopped"]).status.code(), Some(1));
    place.lines(&["enqueue", "noop", "--id", "canceled", "--in", "1h"]);
    place.lines(&["cancel", "canceled"]);
    place.lines(&["enqueue", "fib", "94", "--id", "failed"]);
    assert_eq!(place.run(&["wait", "failed"]).status.code(), Some(1));
    place.lines(&["pause"]);
    let output = place.run(&["dead", "retry", "--all"]);
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "put back 1 dead letter\n",
        "{output:?}"
    );
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(
        said,
        "note: left out 2 that were stopped, canceled or expired; `pool dead retry ID` runs one that was stopped, and what never ran is enqueued anew\n"
    );
    assert_eq!(listed(&place, &["--state", "waiting"]).0, ["failed"]);
    // Who names one means it.
    assert_eq!(
        place.lines(&["dead", "retry", "stopped"]),
        ["put back 1 dead letter"]
    );
    place.lines(&["stop", "--now"]);
}

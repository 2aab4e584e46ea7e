//! Contracts of schedules and of times of the calendar on the command line.

use serde_json::Value;

use crate::kit::Place;

const REPORT: &str =
    "[schedules.report]\ntask = \"echo\"\nargs = [1]\ncron = \"30 2 * * *\"\ntime_zone = \"Europe/Berlin\"\n";

fn with(file: &str) -> Place {
    let place = Place::new();
    place.write("pool.toml", file);
    place
}

#[test]
fn a_list_shows_each_schedule_before_any_supervisor_has_met_it() {
    let place = with(REPORT);
    place.lines(&["enqueue", "noop"]); // makes the database
    let lines = place.lines(&["schedules", "list"]);
    assert_eq!(lines.len(), 2, "{lines:?}");
    let row = &lines[1];
    assert!(
        row.starts_with("report  30 2 * * * Europe/Berlin  ")
            && [" 02:30 +01  -     new", " 02:30 +02  -     new"]
                .iter()
                .any(|end| row.ends_with(end)),
        "{row}"
    );
    let json: Value = serde_json::from_str(&place.lines(&["schedules", "list", "--json"])[0]).unwrap();
    assert_eq!((&json["name"], &json["known"]), (&"report".into(), &Value::Null));
    assert_eq!(with("").lines(&["schedules", "list"]), ["no schedules"]);
}

#[test]
fn a_list_of_long_names_and_rules_fits_the_terminal() {
    let name = "nightly-report-of-all-orders-that-were-placed-yesterday";
    let place = with(&REPORT.replace("report", name).replace("echo", "e"));
    place.lines(&["enqueue", "noop"]);
    assert!(
        place.lines(&["schedules", "list"])[1].starts_with(name),
        "a pipe has room"
    );
    let mut command = place.command(["schedules", "list"]);
    let output = command.env("COLUMNS", "80").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines.iter().all(|line| line.chars().count() <= 80), "{lines:?}");
    assert!(
        lines[1].starts_with("nightly-") && lines[1].contains("02:30"),
        "{lines:?}"
    );
}

#[test]
fn a_schedule_that_is_not_there_is_a_mistake_that_names_those_that_are() {
    let place = with(REPORT);
    for args in [
        &["schedules", "run", "raport"][..],
        &["schedules", "pause", "raport"],
    ] {
        let output = place.run(args);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(
            said.contains("no schedule `raport`") && said.contains("has report"),
            "{said}"
        );
    }
    let output = with("").run(&["schedules", "run", "report"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}

#[test]
fn a_wrong_schedule_keeps_its_own_verbs_from_working_and_no_others() {
    let place = with("[schedules.report]\ntask = \"echo\"\ncron = \"99 2 * * *\"\n");
    assert_eq!(place.run(&["schedules", "list"]).status.code(), Some(2));
    assert_eq!(place.run(&["enqueue", "noop"]).status.code(), Some(0));
}

#[test]
fn check_shows_the_next_due_times() {
    let lines = with(REPORT).lines(&["check"]);
    let found = lines
        .iter()
        .find(|line| line.starts_with("# schedule report: 30 2 * * * Europe/Berlin: due 20"));
    assert!(
        found.is_some_and(|line| line.matches(" 02:30:00 +0").count() == 3),
        "{lines:?}"
    );
}

#[test]
fn check_names_schedules_whose_task_the_app_does_not_have() {
    let place = with(&REPORT.replace("\"echo\"", "\"ecko\""));
    let output = place.run(&["check"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("schedules run:\n  report: no task is named `ecko`; did you mean `echo`?"),
        "{said}"
    );
    // Another application may run what goes to other queues.
    let elsewhere = REPORT.replace("\"echo\"", "\"ecko\"\nqueue = \"other\"");
    assert!(with(&elsewhere).run(&["check"]).status.success());
}

#[test]
fn check_asks_a_python_app_for_the_tasks_of_schedules() {
    let place = with("");
    place.write("shop.py", "def sync():\n    pass\n");
    let app = "[app]\nruntime = \"python\"\npreload = [\"shop\"]\n";
    let schedule =
        |name: &str, task: &str| format!("[schedules.{name}]\ntask = \"{task}\"\nevery = \"5m\"\n");
    place.write("pool.toml", &format!("{app}{}", schedule("sync", "shop.sync")));
    assert!(place.run(&["check"]).status.success());
    let wrong = schedule("gone", "shop.gone") + &schedule("far", "other.sync");
    place.write(
        "pool.toml",
        &format!("{app}{}{wrong}", schedule("sync", "shop.sync")),
    );
    let output = place.run(&["check"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("\n  gone: `shop` has no `gone`\n")
            && said.contains("  far: `other.sync` is in no module"),
        "{said}"
    );
    assert!(!said.contains("sync: "), "{said}");
}

#[test]
fn a_job_waits_for_its_time_or_comes_at_once() {
    let place = Place::new();
    place.lines(&["enqueue", "noop", "--at", "2100-01-01 09:00 Europe/Berlin"]);
    place.lines(&["enqueue", "noop", "--at", "2000-01-01T09:00:00Z"]);
    let check = place.lines(&["check"]);
    let broker = check.iter().find(|line| line.starts_with("# broker: "));
    assert!(
        broker.is_some_and(|line| line.contains("waiting: 1 job, scheduled: 1")),
        "{check:?}"
    );
    let both = place.run(&["enqueue", "noop", "--in", "1s", "--at", "2100-01-01T09:00:00Z"]);
    assert_eq!(both.status.code(), Some(2));
    let wrong = place.run(&["enqueue", "noop", "--at", "tomorrow"]);
    let said = String::from_utf8(wrong.stderr).unwrap();
    assert!(
        wrong.status.code() == Some(2) && said.contains("2026-12-01 09:00"),
        "{said}"
    );
}

//! A job that is canceled at any moment either ran or did not, and its state says which.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::process::Stdio;
use std::time::Duration;

use rusqlite::Connection;
use serde_json::Value;

use crate::harness::Pool;

/// How many jobs are enqueued: `POOL_CANCELS`, or some hundreds.
fn count() -> usize {
    std::env::var("POOL_CANCELS").map_or(400, |count| count.parse().expect("POOL_CANCELS is a number"))
}

/// What each job came to: `finished`, or the kind of its error.
fn ends(lines: &str) -> BTreeMap<String, String> {
    let end = |line: &str| {
        let ended: Value = serde_json::from_str(line).expect("wait prints JSON");
        let text = |value: &Value| value.as_str().expect("it is a text").to_owned();
        let how = match text(&ended["state"]).as_str() {
            "dead" => text(&ended["error"]["kind"]),
            state => state.to_owned(),
        };
        (text(&ended["id"]), how)
    };
    lines.lines().map(end).collect()
}

#[test]
fn a_job_canceled_at_any_moment_ran_or_did_not_and_its_state_says_which() {
    let pool = Pool::start("[defaults]\nmin_workers = 2\nmax_workers = 3\n");
    let count = count();
    let arguments: Vec<String> = (0..count).map(|job| format!("[\"{job}\"]\n")).collect();
    fs::write(pool.path("jobs.jsonl"), arguments.concat()).unwrap();
    let jobs = pool.path("jobs.jsonl").display().to_string();
    let ids = pool.enqueue(&["app.mark", "--jsonl", &jobs]);
    assert_eq!(ids.len(), count);
    // By their ids, in no order, while workers run them; and all of them at once, by a program that is killed.
    let mut chosen: Vec<&String> = ids.iter().collect();
    fastrand::shuffle(&mut chosen);
    chosen.truncate(count / 2);
    let chosen: Vec<String> = chosen.into_iter().map(|id| format!("{id}\n")).collect();
    fs::write(pool.path("chosen"), chosen.concat()).unwrap();
    let mut bulk = pool.begin(&["cancel", "--task", "app.mark", "--yes"]);
    let canceling = pool
        .command(&["cancel", "-"])
        .stdin(File::open(pool.path("chosen")).unwrap())
        .stdout(Stdio::null())
        .spawn();
    std::thread::sleep(Duration::from_millis(fastrand::u64(20..200)));
    bulk.kill().unwrap();
    bulk.wait().unwrap();
    canceling.unwrap().wait().unwrap();
    fs::write(pool.path("all"), ids.join("\n")).unwrap();
    let waited = pool
        .command(&["wait", "-", "--timeout", "10m"])
        .stdin(File::open(pool.path("all")).unwrap())
        .output()
        .unwrap();
    let ends = ends(&String::from_utf8(waited.stdout).unwrap());
    assert_eq!(ends.len(), count, "each has ended\n{}", pool.log());
    let ledger = pool.ledger();
    let ran: BTreeSet<&str> = ledger.iter().map(String::as_str).collect();
    assert_eq!(ran.len(), ledger.len(), "none ran twice");
    let mut tally: BTreeMap<&str, usize> = BTreeMap::new();
    for (job, id) in ids.iter().enumerate() {
        let how = ends[id].as_str();
        *tally.entry(how).or_default() += 1;
        let expected = if ran.contains(job.to_string().as_str()) {
            "finished"
        } else {
            "canceled"
        };
        assert_eq!(how, expected, "job {job}, {id}\n{}", pool.log());
    }
    println!("{tally:?}");
    let (backlog, _) = pool.run(&["jobs", "--state", "waiting,scheduled,running", "--json"]);
    assert_eq!(backlog, "", "nothing is left");
}

#[test]
fn a_running_job_is_stopped_for_good() {
    let pool = Pool::start("");
    let ids = pool.enqueue(&["app.start_then_nap", "[\"job\", 100]"]);
    // The broker hears of a begin a moment later.
    let jobs = Connection::open(pool.path("jobs.db")).unwrap();
    pool.wait_for("the begin to be noted", |_| {
        let noted = jobs.query_row("SELECT begun FROM running", [], |row| row.get(0));
        noted.is_ok_and(|begun: bool| begun)
    });
    let (said, ok) = pool.run(&["cancel", &ids[0]]);
    assert!(!ok && said.contains("runs on"), "{said}");
    let (said, ok) = pool.run(&["stop-job", &ids[0]]);
    assert!(ok && said.contains("being stopped"), "{said}");
    let ended = pool.wait(&ids).remove(0);
    assert_eq!(ended["error"]["kind"], "stopped", "{ended}\n{}", pool.log());
    let (said, ok) = pool.run(&["stop-job", &ids[0]]);
    assert!(!ok && said.contains("had ended"), "{said}");
    assert_eq!(pool.ledger(), ["job"], "it did not run again");
}

#[test]
fn a_stop_holds_after_a_cancel_that_came_too_late() {
    let pool = Pool::start("");
    let ids = pool.enqueue(&["app.start_then_nap", "[\"job\", 100]"]);
    pool.wait_for("the job to begin", |pool| pool.ledger() == ["job"]);
    // The broker may not have heard of the begin yet; then the supervisor is asked, which knows.
    let (said, ok) = pool.run(&["cancel", &ids[0]]);
    let (refused, asked) = (said.contains("runs on"), said.contains("canceled if not begun"));
    assert!(if ok { asked } else { refused }, "{said}");
    pool.wait_for("the begin to be known", |pool| !pool.run(&["cancel", &ids[0]]).1);
    pool.run(&["stop-job", &ids[0]]);
    let ended = pool.wait(&ids).remove(0);
    assert_eq!(ended["error"]["kind"], "stopped", "{ended}\n{}", pool.log());
}

#[test]
fn so_many_of_a_key_run_at_once_over_two_supervisors() {
    let pool = Pool::start("[defaults]\nmin_workers = 3\nmax_workers = 3\n");
    let other = Pool::new_beside(&pool, "[defaults]\nmin_workers = 3\nmax_workers = 3\n");
    for each in [&pool, &other] {
        each.run(&["pause"]);
    }
    let ids: Vec<String> = (0..12)
        .flat_map(|job| {
            let arguments = format!("[0.05, \"{job}\"]");
            pool.enqueue(&["app.nap", &arguments, "--limit", "db=2"])
        })
        .collect();
    for each in [&pool, &other] {
        each.run(&["resume"]);
    }
    pool.assert_finished(&ids);
    let mut times: Vec<(f64, i32)> = Vec::new();
    for line in [pool.ledger(), other.ledger()].concat() {
        let run: Value = serde_json::from_str(&line).unwrap();
        times.push((run["started"].as_f64().unwrap(), 1));
        times.push((run["ended"].as_f64().unwrap(), -1));
    }
    assert_eq!(times.len(), 24);
    times.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    let running = times.iter().scan(0, |running, (_, change)| {
        *running += change;
        Some(*running)
    });
    assert_eq!(running.max(), Some(2));
}

//! Schedules: once for all supervisors, whoever dies; what people do with them; what a reload changes.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use nix::sys::signal::Signal;
use pool::time::parse_timestamp;
use rusqlite::Connection;
use serde_json::Value;

use crate::harness::Pool;

/// Time between two due times of the tests.
const EVERY_MS: i64 = 1000;

/// So many schedules that are due once a second, each with a queue of its own that nobody serves.
fn each_second(schedules: usize) -> String {
    let mut settings = "[defaults]\nmin_workers = 0\n".to_owned();
    for number in 0..schedules {
        let _ = write!(
            settings,
            "[schedules.s{number}]\ntask = \"app.write\"\nargs = [\"x\"]\nqueue = \"s{number}\"\nevery = \"1s\"\n\
             overlap = \"allow\"\ncatch_up = \"all\"\n"
        );
    }
    settings
}

/// Due times that a supervisor says it fired, by schedule, as Unix milliseconds.
fn fired(pool: &Pool) -> BTreeMap<String, Vec<i64>> {
    let log = std::fs::read_to_string(pool.path("log")).unwrap_or_default();
    let mut fired: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    for line in log.lines().filter(|line| line.contains("schedule fired")) {
        let field = |name: &str| line.split_whitespace().find_map(|word| word.strip_prefix(name));
        let (schedule, due) = (field("schedule="), field("due="));
        let due = due.and_then(parse_timestamp).expect("a due time");
        fired
            .entry(schedule.expect("a name").to_owned())
            .or_default()
            .push(due.0);
    }
    fired
}

fn fired_in_all<'p>(pools: impl IntoIterator<Item = &'p Pool>) -> usize {
    pools
        .into_iter()
        .map(|pool| fired(pool).values().map(Vec::len).sum::<usize>())
        .sum()
}

/// Three supervisors fire so many schedules; one is killed half way. Then each due time has made one job.
fn once_though_one_is_killed(schedules: usize, seconds: usize) {
    let settings = each_second(schedules);
    let mut first = Pool::start(&settings);
    let mut others = [
        Pool::new_beside(&first, &settings),
        Pool::new_beside(&first, &settings),
    ];
    let until = |wanted: usize| {
        move |first: &Pool, others: &[Pool]| fired_in_all(others.iter().chain([first])) >= wanted * schedules
    };
    // Half of them may be more than one wait has the patience for.
    let reach = |from: usize, to: usize, first: &Pool, others: &[Pool]| {
        for wanted in (from..to).step_by(20).chain([to]) {
            first.wait_for("due times", |first| until(wanted)(first, others));
        }
    };
    reach(0, seconds / 2, &first, &others);
    others[0].signal(Signal::SIGKILL);
    others[0].ended();
    reach(seconds / 2, seconds, &first, &others);
    first.assert_clean_stop();
    others[1].assert_clean_stop();

    let mut seen: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    for pool in others.iter().chain([&first]) {
        for (schedule, dues) in fired(pool) {
            seen.entry(schedule).or_default().extend(dues);
        }
    }
    assert_eq!(seen.len(), schedules);
    let database = Connection::open(first.path("jobs.db")).expect("the database opens");
    for (schedule, mut dues) in seen {
        dues.sort_unstable();
        assert!(
            dues.windows(2).all(|pair| pair[0] < pair[1]),
            "{schedule} was fired twice: {dues:?}"
        );
        let count = |sql: &str| database.query_row(sql, [&schedule], |row| row.get::<_, i64>(0));
        let mark = count("SELECT mark FROM schedules WHERE name = ?1").expect("a mark");
        let jobs =
            count("SELECT count(*) FROM jobs JOIN queues USING (queue) WHERE name = ?1").expect("a count");
        // The one that was killed may have fired one without saying so: the broker knows all.
        assert_eq!(jobs, (mark - dues[0]) / EVERY_MS + 1, "{schedule}: {dues:?}");
    }
}

#[test]
fn three_supervisors_fire_each_due_time_once_though_one_is_killed() {
    once_though_one_is_killed(8, 6);
}

/// The same for longer than a run of all tests should take.
#[test]
#[ignore = "takes two minutes; run it by its name"]
fn fifty_schedules_a_second_for_two_minutes_are_fired_once() {
    once_though_one_is_killed(50, 120);
}

/// What `pool schedules list --json` says of one.
fn listed(pool: &Pool, name: &str) -> Value {
    let (lines, ok) = pool.run(&["schedules", "list", "--json"]);
    assert!(ok, "{lines}");
    let mut lines = lines
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON lines"));
    lines
        .find(|line: &Value| line["name"] == name)
        .unwrap_or(Value::Null)
}

const NIGHTLY: &str = "[schedules.nightly]\ntask = \"app.write\"\nargs = [\"night\"]\ncron = \"0 3 1 1 *\"\n";

#[test]
fn a_schedule_is_listed_run_paused_and_resumed() {
    let mut pool = Pool::start(NIGHTLY);
    assert_eq!(listed(&pool, "nightly")["rule"], "0 3 1 1 * UTC");
    let (id, ok) = pool.run(&["schedules", "run", "nightly"]);
    assert!(ok, "{id}");
    pool.assert_finished(&[id.trim().to_owned()]);
    assert_eq!(pool.ledger().len(), 1);
    let (said, ok) = pool.run(&["schedules", "pause", "nightly"]);
    assert!(ok && said == "paused nightly\n", "{said}");
    assert_eq!(listed(&pool, "nightly")["state"], "paused");
    let (said, ok) = pool.run(&["schedules", "resume", "--all"]);
    assert!(ok && said == "resumed nightly\n", "{said}");
    assert_eq!(listed(&pool, "nightly")["state"], "active");
    let (metrics, _) = pool.run(&["metrics"]);
    assert!(
        metrics.contains("pool_schedule_next_time_seconds{schedule=\"nightly\"} "),
        "{metrics}"
    );
    pool.assert_clean_stop();
}

#[test]
fn a_reload_brings_schedules_and_takes_them() {
    let mut pool = Pool::start(NIGHTLY);
    pool.configure("[schedules.tick]\ntask = \"app.write\"\nargs = [\"tick\"]\nevery = \"1s\"\n");
    let (said, ok) = pool.run(&["reload"]);
    assert!(ok, "{said}");
    pool.wait_for("the new schedule to fire", |pool| pool.ledger().len() >= 2);
    pool.configure("");
    let (said, ok) = pool.run(&["reload"]);
    assert!(ok, "{said}");
    let before = fired_in_all([&pool]);
    std::thread::sleep(Duration::from_millis(1500)); // a due time passes
    assert!(fired_in_all([&pool]) <= before + 1);
    assert_eq!(pool.state()["schedules"], Value::Null);
    pool.assert_clean_stop();
}

#[test]
fn due_times_that_overlap_are_skipped_or_wait() {
    let schedule = |name: &str| {
        format!(
            "[schedules.{name}]\ntask = \"app.nap\"\nargs = [2.5]\nevery = \"1s\"\noverlap = \"{name}\"\nqueue = \"{name}\"\n"
        )
    };
    let served = "[defaults]\nqueues = [\"skip\", \"queue\"]\nmin_workers = 4\nmax_workers = 4\n";
    let mut pool = Pool::start(&format!("{served}{}{}", schedule("skip"), schedule("queue")));
    pool.wait_for("three runs of the one that waits", |pool| {
        fired(pool).get("queue").is_some_and(|dues| dues.len() >= 3)
    });
    let figures = pool.state()["schedules"].clone();
    assert!(
        figures["skip"]["left_out"]["overlap"].as_u64() >= Some(2),
        "{figures}"
    );
    assert_eq!(figures["queue"]["left_out"], serde_json::json!({}), "{figures}");
    pool.wait_for("three runs of the one that skips", |pool| {
        fired(pool).get("skip").is_some_and(|dues| dues.len() >= 3)
    });
    pool.signal(Signal::SIGQUIT);
    pool.ended();
}

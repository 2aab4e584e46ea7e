//! The policy `demand` with real processes.

use nix::sys::signal::Signal;

use crate::harness::{Pool, send};

const SETTINGS: &str = "[defaults]\nmin_workers = 2\nmax_workers = 24\npolicy = \"demand\"\n\
                        utilization_window = \"5s\"\n";

#[test]
fn a_burst_has_all_workers_soon_and_two_when_it_is_over_whatever_becomes_of_the_template() {
    let mut pool = Pool::start(SETTINGS);
    pool.wait_for("two workers", |pool| pool.workers().len() == 2);
    let ids = pool.enqueue(&["app.nap", "[0.5]", "--count", "200"]);
    pool.wait_for("all workers", |pool| pool.workers().len() == 24);
    send(pool.template(), Signal::SIGKILL);
    pool.assert_finished(&ids);
    assert_eq!(pool.default_pool()["lost"], 0);
    pool.wait_for("two workers again", |pool| pool.workers().len() == 2);
    let log = std::fs::read_to_string(pool.path("log")).expect("the log");
    let changes = |what: &str| log.lines().filter(|line| line.contains(what)).count();
    assert!(changes("INFO scaled up") <= 3, "it jumped, not one by one: {log}");
    assert!(changes("INFO scaled down") <= 3, "and back: {log}");
    assert!(
        log.contains("waiting=") && log.contains("target_wait=200ms"),
        "{log}"
    );
    pool.assert_clean_stop();
}

#[test]
fn a_jump_that_a_limit_stops_is_told_with_what_waited() {
    let permits = "[supervisor]\npermits = { database = 4 }\n";
    let pool = Pool::start(&format!("{permits}{SETTINGS}permits = {{ database = 1 }}\n"));
    pool.wait_for("two workers", |pool| pool.workers().len() == 2);
    let ids = pool.enqueue(&["app.nap", "[0.3]", "--count", "20"]);
    pool.assert_finished(&ids);
    let log = std::fs::read_to_string(pool.path("log")).expect("the log");
    let changes: Vec<&str> = log.lines().filter(|line| line.contains("scaled up")).collect();
    assert!(
        changes.iter().all(|line| line.contains("target_wait=200ms")),
        "{log}"
    );
    let last = changes.last().expect("it grew");
    assert!(
        last.contains("→4") && last.contains("limit=permits.database"),
        "{log}"
    );
    let mut refusals = log.lines().filter(|line| line.contains("not scaled"));
    assert!(
        refusals.all(|line| line.contains("workers=4")),
        "where it grew, it was not refused: {log}"
    );
}

#[test]
fn a_paused_pool_shrinks_though_jobs_wait() {
    let pool = Pool::start(&SETTINGS.replace("\"5s\"", "\"1s\"\nscaling_period = \"200ms\""));
    let ids = pool.enqueue(&["app.nap", "[0.5]", "--count", "20"]);
    pool.wait_for("growth", |pool| pool.workers().len() > 4);
    pool.run(&["pause"]);
    let later = pool.enqueue(&["app.nap", "[0.1]", "--count", "20"]);
    pool.wait_for("two workers again", |pool| {
        pool.workers().len() == 2 && pool.default_pool()["waiting"].as_u64() >= Some(20)
    });
    pool.run(&["resume"]);
    pool.assert_finished(&ids);
    pool.assert_finished(&later);
}

#[test]
fn a_pool_whose_jobs_wait_not_too_long_stays_as_it_is() {
    let pool = Pool::start(&format!("{SETTINGS}target_wait = \"30s\"\n"));
    pool.wait_for("two workers", |pool| pool.workers().len() == 2);
    let ids = pool.enqueue(&["app.nap", "[0.01]", "--count", "20"]);
    pool.assert_finished(&ids);
    let log = std::fs::read_to_string(pool.path("log")).expect("the log");
    assert!(!log.contains("scaled up"), "{log}");
}

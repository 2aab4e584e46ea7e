//! Several pools on one broker: one template, one limit on all, and floors that hold.

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;

use crate::harness::Pool;

/// Two pools of the same app; `urgent` has no worker until a job waits.
const POOLS: &str = "[supervisor]\nmax_total_workers = 3\n\
    [defaults]\nscaling_period = \"50ms\"\nutilization_window = \"100ms\"\n\
    [pools.urgent]\nqueues = [\"urgent\"]\nmin_workers = 0\nmax_workers = 2\n\
    [pools.reports]\nqueues = [\"reports\"]\nmin_workers = 1\nmax_workers = 9\n";

fn pids(state: &Value, pool: &str) -> BTreeSet<i64> {
    let processes = state["pools"][pool]["processes"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    processes
        .iter()
        .filter_map(|process| process["pid"].as_i64())
        .collect()
}

/// Enqueues reports that run until the file `gate` is there, and waits until no worker more may run them.
fn reports_take_all_they_may(pool: &Pool) -> Vec<String> {
    let gate = serde_json::to_string(&pool.path("gate")).expect("a path");
    let reports = pool.enqueue(&["app.wait_for", &gate, "--queue", "reports", "--count", "6"]);
    pool.wait_for("the reports' growth to be refused", |pool| {
        pool.state()["pools"]["reports"]["last_decision"]["reason"] == "total workers"
    });
    reports
}

fn parent_of(pid: i64) -> i64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let parent = after_name.split_whitespace().nth(1);
    parent.and_then(|parent| parent.parse().ok()).unwrap_or(0)
}

#[test]
fn urgent_jobs_never_wait_behind_reports() {
    let mut pool = Pool::start(POOLS);
    let reports = reports_take_all_they_may(&pool);
    let state = pool.state();
    assert_eq!(state["pools"]["reports"]["workers"], 2, "{state}");

    let urgent = pool.enqueue(&["app.add", "[2, 3]", "--queue", "urgent"]);
    pool.assert_finished(&urgent);
    assert_eq!(pool.ledger(), [] as [String; 0], "no report has ended yet");

    fs::write(pool.path("gate"), "").expect("the gate opens");
    pool.assert_finished(&reports);
    pool.assert_clean_stop();
}

#[test]
fn a_reserve_is_kept_beyond_the_minimum() {
    let reserve = POOLS.replace("max_workers = 2\n", "max_workers = 2\nreserve_workers = 2\n");
    let pool = Pool::start(&reserve);
    reports_take_all_they_may(&pool);
    let state = pool.state();
    assert_eq!(state["pools"]["reports"]["workers"], 1, "{state}");
    assert_eq!(state["pools"]["urgent"]["floor"], 2, "{state}");
}

/// No growth fits into a budget that the app alone exceeds; the first worker of each pool is always there.
#[test]
fn a_budget_of_memory_holds_all_pools_at_their_floors() {
    let pools = POOLS.replace("max_total_workers = 3", "max_total_memory = \"1M\"");
    let pool = Pool::start(&pools);
    let gate = serde_json::to_string(&pool.path("gate")).expect("a path");
    let reports = pool.enqueue(&["app.wait_for", &gate, "--queue", "reports", "--count", "6"]);
    pool.wait_for("the reports' growth to be refused", |pool| {
        pool.state()["pools"]["reports"]["last_decision"]["reason"] == "memory budget"
    });
    let urgent = pool.enqueue(&["app.add", "[2, 3]", "--queue", "urgent"]);
    pool.assert_finished(&urgent);
    let state = pool.state();
    assert_eq!(state["pools"]["reports"]["workers"], 1, "{state}");
    fs::write(pool.path("gate"), "").expect("the gate opens");
    pool.assert_finished(&reports);
}

/// A minimum is a promise: one for which there is no memory is not made, and the pool stays as it is.
#[test]
fn a_minimum_that_memory_can_not_hold_is_refused() {
    let (own, total) = (
        "max_memory = \"90M\"\n",
        "[supervisor]\nmax_total_memory = \"90M\"\n",
    );
    for (own, total) in [(own, ""), ("", total)] {
        let pool = Pool::start(&format!(
            "{total}[pools.default]\nmin_workers = 1\nmax_workers = 64\n{own}"
        ));
        let refusal = pool.refused(&["scale", "--min", "64"]);
        assert!(refusal.contains("min would be 64"), "{refusal}");
        assert!(refusal.contains("90 MiB"), "{refusal}");
        assert_eq!(pool.state()["pools"]["default"]["min"], 1);
        assert!(pool.run(&["scale", "--min", "2"]).1, "two have room");
        pool.wait_for("the second worker", |pool| {
            pool.state()["pools"]["default"]["workers"] == 2
        });
    }
}

/// A reload can't be refused for what memory is there at the moment: workers come as far as there is.
#[test]
fn a_minimum_that_a_reload_raises_waits_for_memory() {
    let settings = |min: u32| {
        format!(
            "[pools.default]\nmin_workers = {min}\nmax_workers = 64\nmax_memory = \"90M\"\nscaling_period = \"50ms\"\n"
        )
    };
    let pool = Pool::start(&settings(1));
    pool.configure(&settings(64));
    assert!(pool.run(&["reload"]).1);
    pool.wait_for("the veto", |pool| {
        pool.state()["pools"]["default"]["last_decision"]["reason"] == "memory budget"
    });
    let state = pool.state();
    assert!(
        state["pools"]["default"]["workers"].as_u64() < Some(64),
        "{state}"
    );
}

#[test]
fn all_pools_fork_from_one_template() {
    let pool = Pool::start(&POOLS.replace("min_workers = 0", "min_workers = 1"));
    pool.wait_for("a worker in each pool", |pool| {
        let state = pool.state();
        [pids(&state, "urgent"), pids(&state, "reports")]
            .iter()
            .all(|pids| pids.len() == 1)
    });
    let state = pool.state();
    let workers: BTreeSet<i64> = pids(&state, "urgent")
        .union(&pids(&state, "reports"))
        .copied()
        .collect();
    assert_eq!(workers.len(), 2, "{state}");
    for worker in workers {
        assert_eq!(Some(parent_of(worker)), state["template_pid"].as_i64(), "{state}");
    }
}

#[test]
fn two_supervisors_share_one_file_each_with_its_pools() {
    let first = Pool::start("[pools.urgent]\nqueues = [\"urgent\"]\n");
    let mut second = Pool::new_beside(&first, "[pools.reports]\nqueues = [\"reports\"]\n");
    let urgent = first.enqueue(&["app.pid", "--queue", "urgent", "--count", "40"]);
    let reports = first.enqueue(&["app.pid", "--queue", "reports", "--count", "40"]);
    let ran = |ids: &[String]| -> BTreeSet<i64> {
        first
            .wait(ids)
            .iter()
            .filter_map(|job| job["result"].as_i64())
            .collect()
    };
    let (by_urgent, by_reports) = (ran(&urgent), ran(&reports));
    assert!(
        by_urgent.is_subset(&pids(&first.state(), "urgent")),
        "{by_urgent:?}"
    );
    assert!(
        by_reports.is_subset(&pids(&second.state(), "reports")),
        "{by_reports:?}"
    );
    assert!(!by_urgent.is_empty() && !by_reports.is_empty());
    second.assert_clean_stop();
    let urgent = first.enqueue(&["app.pid", "--queue", "urgent"]);
    first.assert_finished(&urgent);
}

//! Jobs run, fail, are retried; the app is reloaded; a pool is scaled by hand.

use nix::sys::signal::Signal;

use crate::harness::Pool;

#[test]
fn jobs_run_and_their_results_are_found_by_id() {
    let mut pool = Pool::start("");
    let ids = pool.enqueue(&["app.add", "[2, 3]"]);
    assert_eq!(pool.wait(&ids)[0]["result"], 5);
    let (result, ok) = pool.run(&["result", &ids[0]]);
    assert_eq!((result.trim(), ok), ("5", true));
    pool.assert_clean_stop();
}

#[test]
fn a_thousand_jobs_run_once_each() {
    let mut pool = Pool::start("");
    let ids: Vec<String> = pool.enqueue(&["app.mark", "\"x\"", "--count", "1000"]);
    assert_eq!(ids.len(), 1000);
    pool.assert_finished(&ids);
    assert_eq!(pool.ledger().len(), 1000);
    pool.assert_clean_stop();
}

#[test]
fn a_failed_job_is_a_dead_letter_that_can_be_retried() {
    let pool = Pool::start("");
    let ids = pool.enqueue(&["app.fail", "\"no luck\""]);
    let ended = &pool.wait(&ids)[0];
    assert_eq!(ended["state"], "dead", "{ended}");
    assert!(ended["error"].to_string().contains("no luck"), "{ended}");
    let (listed, _) = pool.run(&["dead", "list"]);
    assert!(listed.contains(&ids[0]), "{listed}");
    let (shown, _) = pool.run(&["dead", "show", &ids[0]]);
    assert!(
        shown.contains("no luck") && shown.contains("app.py"),
        "the traceback is shown: {shown}"
    );
    let (_, ok) = pool.run(&["dead", "retry", &ids[0]]);
    assert!(ok);
    pool.wait_for("the second failure", |pool| pool.default_pool()["failed"] == 2);
}

#[test]
fn a_failed_job_runs_again_as_often_as_it_may() {
    let pool = Pool::start("[defaults]\nbackoff = \"10ms\"\n");
    let ids = pool.enqueue(&["app.fail_until", "[\"thrice\", 3]", "--retries", "2"]);
    assert_eq!(pool.wait(&ids)[0]["result"], 3);
    assert_eq!(pool.ledger().len(), 3);
}

#[test]
fn what_a_job_prints_is_logged_under_its_name() {
    let pool = Pool::start("");
    let ids = pool.enqueue(&["app.say", "\"good morning\""]);
    pool.assert_finished(&ids);
    pool.wait_log("good morning");
    let log = pool.log();
    let line = log
        .lines()
        .find(|line| line.contains("good morning"))
        .expect("it was logged");
    assert!(line.contains(&ids[0]) && line.contains("worker="), "{line}");
}

#[test]
fn a_reload_replaces_every_worker_and_loses_no_job() {
    let mut pool = Pool::start("[defaults]\nmin_workers = 2\nmax_workers = 2\n");
    let old = pool.workers();
    let long = pool.enqueue(&["app.nap", "[2]"]);
    pool.pid_of(&long[0]);
    let (_, ok) = pool.run(&["reload"]);
    assert!(ok, "{}", pool.log());
    pool.wait_for("every worker to be replaced", |pool| {
        let workers = pool.workers();
        workers.len() == 2 && workers.is_disjoint(&old)
    });
    pool.assert_finished(&long);
    assert_eq!(pool.state()["generation"], 2);
    pool.assert_clean_stop();
}

#[test]
fn an_app_that_does_not_import_leaves_the_old_generation_at_work() {
    let pool = Pool::start("");
    std::fs::write(pool.path("app.py"), "import nothing_of_this_name\n").expect("the app is written");
    let (_, ok) = pool.run(&["reload"]);
    assert!(!ok, "a reload that fails says so");
    let ids = pool.enqueue(&["app.add", "[1, 1]"]);
    pool.assert_finished(&ids);
    assert_eq!(pool.state()["generation"], 1);
    assert!(
        pool.state()["load_error"]
            .to_string()
            .contains("nothing_of_this_name"),
        "{}",
        pool.log()
    );
}

#[test]
fn a_configuration_that_does_not_parse_changes_nothing() {
    let pool = Pool::start("");
    let before = pool.workers();
    pool.configure("[defaults]\nmax_workers = \"many\"\n");
    pool.signal(Signal::SIGHUP);
    pool.wait_log("was not reloaded");
    assert_eq!(pool.workers(), before);
    assert!(
        pool.log().contains("max_workers"),
        "the place is named: {}",
        pool.log()
    );
}

#[test]
fn a_reload_changes_limits_and_says_what_only_a_restart_changes() {
    let pool = Pool::start("[defaults]\nmax_workers = 3\n");
    pool.configure("[defaults]\nmax_workers = 7\n[log]\nformat = \"json\"\n");
    let (said, ok) = pool.run(&["reload"]);
    assert!(ok, "{}", pool.log());
    assert!(said.contains("only a restart changes log.format"), "{said}");
    pool.wait_for("the new maximum", |pool| pool.default_pool()["max"] == 7);
    pool.wait_log("pools.default.max_workers");
}

#[test]
fn limits_change_while_it_runs() {
    let pool = Pool::start("");
    let (_, ok) = pool.run(&["scale", "--min", "4", "--max", "6"]);
    assert!(ok);
    pool.wait_for("four workers", |pool| pool.workers().len() == 4);
    pool.signal(Signal::SIGTTOU);
    pool.wait_for("the lower maximum", |pool| pool.default_pool()["max"] == 5);
    let (_, ok) = pool.run(&["scale", "--min", "0", "--max", "1"]);
    assert!(ok);
    pool.wait_for("one worker", |pool| pool.workers().len() == 1);
    let (_, ok) = pool.run(&["scale", "--min", "3", "--max", "2"]);
    assert!(!ok, "limits that can't hold are refused");
}

#[test]
fn a_paused_pool_claims_nothing() {
    let pool = Pool::start("");
    pool.run(&["pause"]);
    let ids = pool.enqueue(&["app.add", "[1, 2]"]);
    pool.wait_for("the job to wait", |pool| pool.default_pool()["waiting"] == 1);
    pool.run(&["resume"]);
    pool.assert_finished(&ids);
}

#[test]
fn a_worker_is_replaced_after_max_jobs() {
    let pool = Pool::start("[defaults]\nmin_workers = 1\nmax_workers = 1\nmax_jobs = 5\n");
    let first = pool.workers();
    let ids = pool.enqueue(&["app.mark", "\"x\"", "--count", "12"]);
    pool.assert_finished(&ids);
    pool.wait_for("another worker", |pool| pool.workers().is_disjoint(&first));
    assert_eq!(pool.ledger().len(), 12);
}

#[test]
fn a_worker_is_replaced_for_its_own_memory_and_says_what_that_is() {
    let pool = Pool::start("[defaults]\nmin_workers = 1\nmax_workers = 1\nscaling_period = \"200ms\"\n");
    let first = pool.workers();
    let ids = pool.enqueue(&["app.keep", "[64]"]);
    pool.assert_finished(&ids);
    let own = |pool: &Pool| {
        let process = pool.default_pool()["processes"][0].clone();
        [
            "private_anonymous_bytes",
            "private_heap_bytes",
            "private_other_bytes",
            "private_bytes",
        ]
        .map(|key| process[key].as_u64().unwrap_or(0))
    };
    // A block of this size is mapped on its own.
    pool.wait_for("the memory that the job keeps", |pool| own(pool)[0] >= 64 << 20);
    let [anonymous, heap, other, all] = own(&pool);
    assert!(
        all.abs_diff(anonymous + heap + other) < 2 << 20,
        "{anonymous} + {heap} + {other}, {all}"
    );
    assert_eq!(pool.workers(), first, "there is no limit yet");
    pool.configure("[defaults]\nmin_workers = 1\nmax_workers = 1\nscaling_period = \"200ms\"\nmax_worker_private = \"48M\"\n");
    pool.run(&["reload"]);
    let second = pool.workers();
    let ids = pool.enqueue(&["app.keep", "[64]"]);
    pool.assert_finished(&ids);
    pool.wait_for("another worker", |pool| pool.workers().is_disjoint(&second));
    pool.wait_log("max_worker_private");
}

#[test]
fn in_fresh_isolation_each_job_has_a_process_of_its_own() {
    let pool = Pool::start_with_app(
        "isolation = \"fresh\"\n",
        "[defaults]\nmin_workers = 2\nmax_workers = 2\n",
    );
    let ids = pool.enqueue(&["app.pid", "[]", "--count", "20"]);
    let mut pids: Vec<i64> = pool
        .wait(&ids)
        .iter()
        .filter_map(|ended| ended["result"].as_i64())
        .collect();
    assert_eq!(pids.len(), 20);
    pids.sort_unstable();
    pids.dedup();
    assert_eq!(pids.len(), 20, "a process ran two jobs");
}

#[test]
fn a_pool_at_zero_starts_a_worker_for_a_job() {
    let pool = Pool::start("[defaults]\nmin_workers = 0\nmax_workers = 2\nscaling_period = \"1s\"\n");
    pool.wait_for("no worker", |pool| pool.workers().is_empty());
    let ids = pool.enqueue(&["app.add", "[1, 2]"]);
    pool.assert_finished(&ids);
}

#[test]
fn burst_leaves_when_the_queues_are_empty() {
    let mut pool = Pool::new("");
    let ids = pool.enqueue(&["app.mark", "\"x\"", "--count", "50"]);
    pool.assert_finished(&ids);
    pool.assert_clean_stop();
    let ids = pool.enqueue(&["app.mark", "\"y\"", "--count", "50"]);
    let (_, ok) = pool.run(&["run", "--burst"]);
    assert!(ok);
    pool.assert_finished(&ids);
    let ids = pool.enqueue(&["app.mark", "\"z\"", "--count", "50"]);
    let (_, ok) = pool.run(&["run", "--burst", "--min-workers", "0"]);
    assert!(ok);
    pool.assert_finished(&ids);
}

#[test]
fn a_burst_whose_workers_do_not_start_ends_with_an_error() {
    let mut pool = Pool::new("");
    let ids = pool.enqueue(&["app.mark", "\"x\""]);
    pool.assert_finished(&ids);
    pool.assert_clean_stop();
    let ids = pool.enqueue(&["app.mark", "\"y\""]);
    let said = pool.refused(&["run", "--burst", "--after-fork", "app.die"]);
    assert!(said.contains("error: no worker starts: "), "{said}");
    let (_, ok) = pool.run(&["run", "--burst"]);
    assert!(ok);
    pool.assert_finished(&ids);
}

/// Whatever the runtime, and the file is there while it runs.
#[test]
fn it_leaves_after_its_idle_time_and_tells_its_process_id() {
    let mut pool = Pool::start("[supervisor]\nmax_idle_time = \"1s\"\npid_file = \"pid\"\n");
    let ids = pool.enqueue(&["app.add", "[1, 2]"]);
    pool.assert_finished(&ids);
    let written = std::fs::read_to_string(pool.path("pid")).unwrap();
    assert!(pool.ended().success());
    pool.wait_log("there was no job for as long as `max_idle_time` says");
    let told: i32 = written.trim().parse().unwrap();
    assert!(!crate::harness::is_alive(told));
}

#[test]
fn a_floor_of_this_time_of_day_holds_and_ends_with_a_reload() {
    let all_day = "floors = [{ from = \"00:00\", until = \"24:00\", min_workers = 3 }]\n";
    let settings = "[defaults]\nmin_workers = 1\nmax_workers = 5\nscaling_period = \"200ms\"\nutilization_window = \"1s\"\n";
    let mut pool = Pool::start(&format!("{settings}{all_day}"));
    pool.wait_for("the floor", |pool| pool.workers().len() == 3);
    let shown = pool.default_pool();
    assert_eq!((&shown["min"], &shown["max"]), (&3.into(), &5.into()));
    // Who changes the maximum does not make the floor the minimum.
    assert!(pool.run(&["scale", "--max", "2"]).1);
    pool.wait_for("the maximum to win", |pool| pool.workers().len() == 2);
    pool.configure(settings);
    assert!(pool.run(&["reload"]).1);
    pool.wait_for("the floor to be gone", |pool| {
        pool.default_pool()["min"] == 1 && pool.workers().len() == 1
    });
    pool.assert_clean_stop();
}

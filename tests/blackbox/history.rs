//! The history of decisions: kept beside the socket, told by `pool explain`, and survived by nobody's kill.

use std::fs;
use std::path::PathBuf;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::harness::Pool;

const SETTINGS: &str = "[defaults]\nmin_workers = 1\nmax_workers = 4\nscaling_period = \"200ms\"\n\
                        utilization_window = \"1s\"\npolicy = \"demand\"\n";

fn file_of(pool: &Pool) -> PathBuf {
    pool.path("jobs.db.sock.history")
}

/// What `pool explain --json` says of the pool.
fn explained(pool: &Pool) -> Value {
    let (text, ok) = pool.run(&["explain", "--json"]);
    match serde_json::from_str::<Value>(&text) {
        Ok(answer) if ok => answer["pools"]["default"].clone(),
        _ => Value::Null,
    }
}

fn decisions(pool: &Pool) -> usize {
    explained(pool)["decisions"].as_array().map_or(0, Vec::len)
}

/// Executions that ended, by the decisions.
fn ended(pool: &Pool) -> u64 {
    let explained = explained(pool);
    let decisions = explained["decisions"].as_array().cloned().unwrap_or_default();
    let queues = decisions
        .iter()
        .flat_map(|decision| decision["queues"].as_array().cloned());
    queues.flatten().filter_map(|queue| queue["ended"].as_u64()).sum()
}

#[test]
fn explain_tells_why_the_pool_has_its_size_also_after_a_kill_and_a_torn_write() {
    let mut pool = Pool::start(SETTINGS);
    let ids = pool.enqueue(&["app.nap", "[0.3]", "--count", "20"]);
    pool.wait_for("growth", |pool| pool.log().contains("scaled up"));
    pool.assert_finished(&ids);
    pool.wait_for("the jobs in the history", |pool| ended(pool) == 20);
    pool.wait_for("a worker again", |pool| pool.workers().len() == 1);
    pool.wait_for("it in the history", |pool| {
        pool.run(&["explain"])
            .0
            .contains("default has 1 worker, by the policy demand")
    });
    let said = pool.refused(&["explain", "--pool", "nope"]);
    assert!(
        said.contains("a pool `nope`") && said.contains("there is one of: default"),
        "{said}"
    );
    let (text, _) = pool.run(&["explain"]);
    assert!(
        text.contains("jobs waited") || text.contains("It changed"),
        "{text}"
    );

    let (text, ok) = pool.run(&["simulate", "--history", "--max-workers", "2", "--json"]);
    assert!(ok, "{text}");
    let simulated: Value = serde_json::from_str(&text).expect("JSON");
    let jobs = simulated["load"]["jobs"].as_u64().expect("a number");
    // Two counts in a row that come late have a job twice; each worker can have got one in the meantime.
    assert!((20..=24).contains(&jobs), "{text}");
    let work_s = simulated["load"]["work"].as_f64().expect("a number");
    assert!(work_s >= 0.29 * jobs as f64, "{text}");
    assert!(
        simulated["recorded"]["worker_seconds"].as_f64() > Some(0.0),
        "{text}"
    );
    assert_eq!(simulated["trials"][0]["workers_max"], 2);
    let had_s = |key: &str| simulated["trials"][0][key].as_f64().expect("a number");
    assert!(
        had_s("worker_seconds_in_record") <= had_s("worker_seconds") + 0.001,
        "{text}"
    );

    pool.signal(Signal::SIGKILL);
    pool.ended();
    let before = decisions(&pool);
    assert!(before > 2, "the file is enough");
    let bytes = fs::read(file_of(&pool)).expect("the file");
    fs::write(file_of(&pool), &bytes[..bytes.len() - 20]).expect("the file can be written");
    assert_eq!(decisions(&pool), before - 1, "one line was torn");
    pool.launch();
    pool.wait_for("more decisions", |pool| decisions(pool) > before + 2);
    pool.assert_clean_stop();
}

#[test]
fn without_a_history_no_file_is_made() {
    let pool = Pool::start(&format!("{SETTINGS}[supervisor]\nhistory = \"none\"\n"));
    pool.wait_for("a decision", |pool| {
        !pool.default_pool()["last_decision"].is_null()
    });
    assert!(!file_of(&pool).exists());
    let said = pool.refused(&["explain"]);
    assert!(
        said.contains("there is no history") && said.contains("supervisor.history"),
        "{said}"
    );
}

#[test]
fn a_dry_run_says_what_it_would_do_and_stays_as_it_is() {
    let pool = Pool::new_with_flags(&["--dry-run"], SETTINGS);
    let ids = pool.enqueue(&["app.nap", "[0.3]", "--count", "10"]);
    pool.wait_for("what it would do", |pool| {
        pool.log().contains("would scale up pool=default workers=1→")
    });
    assert_eq!(pool.default_pool()["target"], 1);
    pool.wait_for("it in the history", |pool| {
        pool.run(&["explain"])
            .0
            .contains("this is a dry run. It would have")
    });
    pool.assert_finished(&ids);
    assert_eq!(pool.workers().len(), 1);
    let log = fs::read_to_string(pool.path("log")).expect("the log");
    assert!(!log.contains("INFO scaled"), "{log}");
}

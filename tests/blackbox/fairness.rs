//! A long job among short ones: none of them waits for it.

use crate::harness::Pool;

const SHORT: usize = 1_000;
/// The long job ends when there is this file.
const GATE: &str = "gate";

/// A pool of two workers that has run short jobs before, so that it knows how long they take, and then
/// gets one long job of the same task with `short` short ones behind it. The ids of both.
fn start(prefetch: &str, short: usize) -> (Pool, Vec<String>, Vec<String>) {
    let settings = format!("[defaults]\nmin_workers = 2\nmax_workers = 2\nprefetch = {prefetch}\n");
    let pool = Pool::start(&settings);
    pool.wait_for("two workers", |pool| pool.workers().len() == 2);
    let measured = pool.enqueue(&["app.nap", "[0.001, \"before\"]", "--count", "100"]);
    pool.assert_finished(&measured);
    pool.run(&["pause"]);
    let gate = pool.path(GATE).display().to_string();
    let long = pool.enqueue(&["app.nap", &serde_json::json!([0, "long", gate]).to_string()]);
    let short = pool.enqueue(&["app.nap", "[0.001, \"short\"]", "--count", &short.to_string()]);
    pool.run(&["resume"]);
    (pool, long, short)
}

fn end(pool: &Pool, long: &[String]) {
    std::fs::write(pool.path(GATE), "").expect("a file in the test's own directory");
    pool.assert_finished(long);
}

#[test]
fn no_short_job_waits_for_a_long_one() {
    let (pool, long, short) = start("\"auto\"", SHORT);
    pool.pid_of(&long[0]);
    // It goes on until all of them have ended, so none has waited for it.
    pool.assert_finished(&short);
    end(&pool, &long);
}

/// With a fixed number, the worker of the long job keeps short ones although the other worker has nothing to do.
#[test]
fn a_fixed_prefetch_shows_the_harm_that_auto_avoids() {
    let (pool, long, short) = start("64", 100);
    pool.wait_for("hostages of the long job", |pool| {
        let state = pool.default_pool();
        let processes = state["processes"].as_array().cloned().unwrap_or_default();
        let held =
            |process: &&serde_json::Value| process["state"] == "busy" && process["held"].as_u64() > Some(0);
        let hostages = processes.iter().find(held).map(|process| process["held"].clone());
        let idle = processes.iter().any(|process| process["state"] == "idle");
        idle && hostages.is_some() && hostages.as_ref() == Some(&state["prefetched"])
    });
    end(&pool, &long);
    pool.assert_finished(&short);
}

//! A long job among short ones: none of them waits for it.

use serde_json::Value;

use crate::harness::Pool;

const SHORT: usize = 1_000;
const LONG: &str = "[8, \"long\"]";

/// A pool of two workers that has run short jobs before, so that it knows how long they take, and then
/// gets one long job of the same task with `short` short ones behind it.
fn start(prefetch: &str, short: usize) -> (Pool, Vec<String>) {
    let settings = format!("[defaults]\nmin_workers = 2\nmax_workers = 2\nprefetch = {prefetch}\n");
    let pool = Pool::start(&settings);
    pool.wait_for("two workers", |pool| pool.workers().len() == 2);
    let measured = pool.enqueue(&["app.nap", "[0.001, \"before\"]", "--count", "100"]);
    pool.assert_finished(&measured);
    pool.run(&["pause"]);
    let mut ids = pool.enqueue(&["app.nap", LONG]);
    ids.extend(pool.enqueue(&["app.nap", "[0.001, \"short\"]", "--count", &short.to_string()]));
    pool.run(&["resume"]);
    (pool, ids)
}

#[test]
fn no_short_job_waits_for_a_long_one() {
    let (pool, ids) = start("\"auto\"", SHORT);
    pool.assert_finished(&ids);
    let entries: Vec<Value> = pool
        .ledger()
        .iter()
        .map(|line| serde_json::from_str(line).expect("JSON lines"))
        .collect();
    let time = |entry: &Value, key: &str| entry[key].as_f64().expect("a time");
    let of = |name: &'static str| entries.iter().filter(move |entry| entry["name"] == name);
    let long = of("long").next().expect("the long job ran");
    let begun = time(long, "started");
    let mut waits: Vec<f64> = of("short").map(|entry| time(entry, "started") - begun).collect();
    waits.sort_by(f64::total_cmp);
    assert_eq!(waits.len(), SHORT);
    let (p99, last, took) = (
        waits[SHORT * 99 / 100],
        waits[SHORT - 1],
        time(long, "ended") - begun,
    );
    println!("short jobs waited {p99:.3} s (p99), {last:.3} s at the most; the long one took {took:.3} s");
    assert!(
        last < took,
        "a short job began {last} s after the long one, which took {took} s"
    );
}

/// With a fixed number, the worker of the long job keeps short ones although the other worker has nothing to do.
#[test]
fn a_fixed_prefetch_shows_the_harm_that_auto_avoids() {
    let (pool, ids) = start("64", 100);
    pool.wait_for("hostages of the long job", |pool| {
        let state = pool.default_pool();
        let processes = state["processes"].as_array().cloned().unwrap_or_default();
        let held = |process: &&Value| process["state"] == "busy" && process["held"].as_u64() > Some(0);
        let hostages = processes.iter().find(held).map(|process| process["held"].clone());
        let idle = processes.iter().any(|process| process["state"] == "idle");
        idle && hostages.is_some() && hostages.as_ref() == Some(&state["prefetched"])
    });
    pool.assert_finished(&ids);
}

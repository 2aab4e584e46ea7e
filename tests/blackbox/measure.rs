//! What the pool measures is what arithmetic says.

use pool::time::Mono;
use serde_json::Value;

use crate::harness::Pool;

/// Spans `(started, ended)` that jobs wrote down, in Unix seconds.
fn spans(pool: &Pool) -> Vec<(f64, f64)> {
    let number = |entry: &Value, key: &str| entry[key].as_f64().expect("a time");
    let entries = pool
        .ledger()
        .into_iter()
        .map(|line| serde_json::from_str::<Value>(&line).expect("JSON lines"));
    entries
        .map(|entry| (number(&entry, "started"), number(&entry, "ended")))
        .collect()
}

#[test]
fn a_job_longer_than_the_window_reads_one_half_of_two_workers() {
    let settings = "[defaults]\nmin_workers = 2\nmax_workers = 2\nscaling_period = \"200ms\"\n\
                    utilization_window = \"1s\"\n";
    let pool = Pool::start(settings);
    pool.wait_for("two workers", |pool| pool.workers().len() == 2);
    let ids = pool.enqueue(&["app.nap", "[4]"]);
    pool.pid_of(&ids[0]);
    let begun = Mono::now();
    pool.wait_for("a whole window of it", |_| {
        Mono::now().since(begun).as_secs_f64() > 1.2
    });
    for _ in 0..5 {
        let state = pool.default_pool();
        if state["busy"] == 1 {
            let share = state["utilization"].as_f64().expect("workers are alive");
            assert!((share - 0.5).abs() < 0.005, "{share}\n{}", pool.log());
        }
    }
    pool.assert_finished(&ids);
}

#[test]
fn short_jobs_read_what_their_own_times_add_up_to() {
    let settings = "[defaults]\nmin_workers = 4\nmax_workers = 4\nscaling_period = \"500ms\"\n\
                    utilization_window = \"3s\"\n";
    let pool = Pool::start(settings);
    pool.wait_for("four workers", |pool| pool.workers().len() == 4);
    let mut ids = Vec::new();
    let mut decisions = Vec::new();
    for round in 0..40 {
        for job in 0..20 {
            ids.extend(pool.enqueue(&["app.nap", &format!("[0.005, \"{round}.{job}\"]")]));
        }
        decisions.push(pool.default_pool()["last_decision"].clone());
    }
    pool.assert_finished(&ids);
    let spans = spans(&pool);
    let mut compared = 0;
    for decision in decisions {
        let (Some(at), Some(read)) = (decision["at"].as_f64(), decision["utilization"].as_f64()) else {
            continue;
        };
        let (from, to) = (at / 1000.0 - 3.0, at / 1000.0);
        if spans.first().is_none_or(|first| first.0 > from) {
            continue;
        }
        let busy: f64 = spans
            .iter()
            .map(|(start, end)| (end.min(to) - start.max(from)).max(0.0))
            .sum();
        let expected = busy / (4.0 * 3.0);
        // A job's own clock starts after, and stops before, the worker's around it.
        assert!((read - expected).abs() < 0.01, "read {read}, expected {expected}");
        compared += 1;
    }
    assert!(compared > 3, "{compared} decisions compared");
}

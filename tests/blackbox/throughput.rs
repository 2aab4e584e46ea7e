//! `throughput_hold` with real processes. A lock stands for what the workers share: it takes as long on a busy machine.

use crate::harness::Pool;

/// Only late jobs make it grow: while the first ones are measured, one at a time, it stays.
const SETTINGS: &str = "[defaults]\nmin_workers = 1\nmax_workers = 8\npolicy = \"demand\"\nutilization_threshold = 1.0\n\
                        throughput_hold = \"1h\"\nscaling_period = \"1s\"\nutilization_window = \"3s\"\n";

/// A pool that knows how long this job takes alone.
fn measured(task: &str, seconds: &str) -> Pool {
    let pool = Pool::start(SETTINGS);
    for _ in 0..5 {
        let (_, ok) = pool.run(&["enqueue", task, seconds, "--wait"]);
        assert!(ok, "{}", pool.log());
    }
    pool
}

fn changes(pool: &Pool) -> Vec<String> {
    let log = std::fs::read_to_string(pool.path("log")).expect("the log");
    let changes = log.lines().filter(|line| line.contains("INFO scaled"));
    changes.map(ToString::to_string).collect()
}

#[test]
fn growth_of_jobs_that_share_a_lock_is_taken_back_and_held() {
    let pool = measured("app.locked", "[0.05]");
    let ids = pool.enqueue(&["app.locked", "[0.05]", "--count", "400"]);
    pool.wait_log("reason=\"no throughput\"");
    pool.assert_finished(&ids);
    let changes = changes(&pool);
    let is_taken_back = |line: &String| line.contains("growth_gain=");
    let at = changes.iter().position(is_taken_back).expect("it is told");
    let fewer = ["→1 ", "→2 "].iter().any(|to| changes[at].contains(to));
    assert!(fewer, "to those that do as much: {changes:#?}");
    let later = &changes[at + 1..];
    assert!(
        !later.iter().any(|line| line.contains("scaled up")),
        "it is held: {changes:#?}"
    );
    let (told, _) = pool.run(&["explain"]);
    assert!(told.contains("its growth brought no throughput"), "{told}");
}

#[test]
fn growth_of_jobs_that_share_nothing_stays() {
    let pool = measured("app.nap", "[0.3]");
    let ids = pool.enqueue(&["app.nap", "[0.3]", "--count", "200"]);
    pool.assert_finished(&ids);
    let changes = changes(&pool);
    let has_all = |line: &String| line.contains("scaled up") && line.contains("→8 ");
    assert!(changes.iter().any(has_all), "{changes:#?}");
    assert!(
        !changes.iter().any(|line| line.contains("no throughput")),
        "{changes:#?}"
    );
}

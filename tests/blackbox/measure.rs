//! What the pool measures is what arithmetic says.

use pool::time::Mono;

use crate::harness::Pool;

/// A number that a log line gives under this name.
fn field(line: &str, name: &str) -> Option<f64> {
    let at = line.find(&format!(" {name}="))? + name.len() + 2;
    line[at..].split_whitespace().next()?.parse().ok()
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
fn short_jobs_read_what_their_times_add_up_to() {
    let settings = "[defaults]\nmin_workers = 4\nmax_workers = 4\nscaling_period = \"500ms\"\n\
                    utilization_window = \"3s\"\n[log]\nlevel = \"debug,pool::supervisor=trace\"\n";
    let pool = Pool::start(settings);
    pool.wait_for("four workers", |pool| pool.workers().len() == 4);
    let begun = Mono::now();
    let mut decisions = Vec::new();
    while Mono::now().since(begun).as_secs_f64() < 8.0 {
        pool.enqueue(&["app.nap", "[0.005]", "--count", "20"]);
        decisions.push(pool.default_pool()["last_decision"].clone());
    }
    pool.wait_for("all jobs to end", |pool| {
        pool.default_pool()["waiting"] == 0 && pool.default_pool()["busy"] == 0
    });
    // The workers' own stamps, and what each period's reading was made of; each with its place in the log.
    let log = std::fs::read_to_string(pool.path("log")).expect("the log");
    let lines = || log.lines().enumerate();
    let spans: Vec<(usize, f64, f64)> = lines()
        .filter_map(|(place, line)| Some((place, field(line, "started_ns")?, field(line, "ended_ns")?)))
        .collect();
    let periods: Vec<(usize, f64, f64)> = lines()
        .filter_map(|(place, line)| Some((place, field(line, "at")?, field(line, "now_ns")?)))
        .collect();
    let first = spans.iter().map(|span| span.1).fold(f64::INFINITY, f64::min);
    let mut compared = 0;
    for decision in decisions {
        let (Some(at), Some(read)) = (decision["at"].as_f64(), decision["utilization"].as_f64()) else {
            continue;
        };
        let Some((place, _, to)) = periods.iter().find(|period| period.1 == at) else {
            continue;
        };
        let from = to - 3e9;
        if first > from {
            continue;
        }
        let busy: f64 = spans
            .iter()
            .map(|(told, start, end)| {
                // An end of which the pool has not heard is none to it: the job runs.
                let end = if told < place { end.min(*to) } else { *to };
                (end - start.max(from)).max(0.0)
            })
            .sum();
        let expected = busy / (4.0 * 3e9);
        assert!((read - expected).abs() < 0.01, "read {read}, expected {expected}");
        compared += 1;
    }
    assert!(compared > 3, "{compared} readings compared");
}

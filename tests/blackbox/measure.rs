//! What the pool measures is what arithmetic says.

use std::cell::RefCell;
use std::collections::HashMap;

use pool::time::{Mono, Unix};

use crate::harness::Pool;

/// A number that a log line gives under this name.
fn field(line: &str, name: &str) -> Option<f64> {
    let at = line.find(&format!(" {name}="))? + name.len() + 2;
    line[at..].split_whitespace().next()?.parse().ok()
}

/// What the pool was told of its workers up to a line of its log: their own stamps of jobs that ended, and since when it
/// takes a worker for busy whose job has not ended.
#[derive(Default)]
struct Told {
    ended: Vec<(f64, f64)>,
    workers: HashMap<u64, Hand>,
}

#[derive(Default)]
struct Hand {
    /// Executions that were sent and have not ended.
    sent: Vec<u64>,
    /// When the first of them was sent, or the one before it ended.
    since: f64,
}

impl Told {
    fn take(&mut self, line: &str) {
        let number = |name| field(line, name).map(|number| number as u64);
        let Some(worker) = number("worker") else {
            return;
        };
        let hand = self.workers.entry(worker).or_default();
        if let (Some(execution), Some(at)) = (number("execution"), field(line, "sent_ns")) {
            if hand.sent.is_empty() {
                hand.since = at;
            }
            hand.sent.push(execution);
        }
        if let (Some(start), Some(end)) = (field(line, "started_ns"), field(line, "ended_ns")) {
            let execution = number("execution").expect("a job that ended has its number");
            hand.sent.retain(|sent| *sent != execution);
            hand.since = end;
            self.ended.push((start, end));
        }
        if let Some(execution) = number("taken_back") {
            hand.sent.retain(|sent| *sent != execution);
        }
    }

    fn busy_ns(&self, from: f64, to: f64) -> f64 {
        let running = self.workers.values().filter(|hand| !hand.sent.is_empty());
        let running = running.map(|hand| (hand.since, to));
        let spans = running.chain(self.ended.iter().copied());
        spans
            .map(|(start, end)| (end.min(to) - start.max(from)).max(0.0))
            .sum()
    }
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
    pool.assert_finished(&pool.enqueue(&["app.nap", "[0.005]"]));
    let known_from = Unix::now().0 as f64 + 3000.0; // a whole window after the first job
    let readings = RefCell::new(Vec::new());
    pool.wait_for("readings of whole windows", |pool| {
        pool.enqueue(&["app.nap", "[0.005]", "--count", "20"]);
        let decision = pool.default_pool()["last_decision"].clone();
        let mut readings = readings.borrow_mut();
        if let (Some(at), Some(share)) = (decision["at"].as_f64(), decision["utilization"].as_f64())
            && at >= known_from
            && readings.last().is_none_or(|(last, _)| *last != at)
        {
            readings.push((at, share));
        }
        readings.len() == 8
    });
    pool.wait_for("all jobs to end", |pool| {
        pool.default_pool()["waiting"] == 0 && pool.default_pool()["busy"] == 0
    });
    let log = std::fs::read_to_string(pool.path("log")).expect("the log");
    let mut told = Told::default();
    let mut readings = readings.into_inner().into_iter().peekable();
    for line in log.lines() {
        told.take(line);
        let (Some(at), Some(to)) = (field(line, "at"), field(line, "now_ns")) else {
            continue;
        };
        if let Some((_, share)) = readings.next_if(|reading| reading.0 == at) {
            let expected = told.busy_ns(to - 3e9, to) / (4.0 * 3e9);
            assert!(
                (share - expected).abs() < 0.01,
                "read {share}, expected {expected}"
            );
        }
    }
    assert_eq!(readings.next(), None, "each period of a reading is in the log");
}

//! What processes print never costs the supervisor more than a bounded amount of memory and time.

use std::fs;

use crate::harness::Pool;

/// Bytes of line breaks that a job, and the application, prints.
const FLOOD: usize = 6_000_000;

/// The most memory that the supervisor had at once, in MiB.
fn peak_mib(pool: &Pool) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", pool.pid())).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kib.expect("a size in kB") / 1024
}

/// Lines of this job that the log says were left out.
fn left_out(pool: &Pool, who: &str) -> usize {
    let log = fs::read_to_string(pool.path("log")).expect("the log is there");
    let cuts = log
        .lines()
        .filter(|line| line.contains("these lines are left out") && line.contains(who));
    cuts.map(|line| {
        let count = line
            .split(" lines=")
            .nth(1)
            .and_then(|rest| rest.split(' ').next());
        count.and_then(|count| count.parse::<usize>().ok()).unwrap_or(0)
    })
    .sum()
}

#[test]
fn a_flood_of_blank_lines_is_cut_and_counted() {
    let mut pool = Pool::start("[defaults]\nmin_workers = 2\nmax_workers = 2\n");
    let before = peak_mib(&pool);
    let ids = pool.enqueue(&["app.flood", &FLOOD.to_string(), "--count", "2"]);
    pool.assert_finished(&ids);
    for id in &ids {
        let cut = left_out(&pool, id);
        // What was logged is the rest: a burst, and little more.
        assert!(cut > FLOOD / 2 && cut <= FLOOD, "{cut} lines of job {id}");
    }
    let quiet = pool.enqueue(&["app.say", "\"still here\""]);
    pool.assert_finished(&quiet);
    pool.wait_log("still here");
    let grown = peak_mib(&pool) - before;
    assert!(grown < 64, "the supervisor grew by {grown} MiB");
    pool.assert_clean_stop();
}

#[test]
fn an_application_that_floods_at_import_is_cut_too() {
    let environment = format!("environment = {{ FLOOD = \"{FLOOD}\" }}\n");
    let mut pool = Pool::start_with_app(&environment, "");
    pool.wait_for("the cut to be told", |pool| {
        left_out(pool, "template=") > FLOOD / 2
    });
    let peak = peak_mib(&pool);
    assert!(peak < 128, "the supervisor has {peak} MiB");
    pool.assert_clean_stop();
}

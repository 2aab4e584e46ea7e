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

/// The lines of the log that name this job, with those that stand below each.
fn lines_of(pool: &Pool, job: &str) -> Vec<String> {
    let log = fs::read_to_string(pool.path("log")).expect("the log is there");
    let mut lines: Vec<String> = Vec::new();
    for line in log.lines() {
        match lines.last_mut() {
            Some(last) if line.starts_with("    ") => last.push_str(&format!("\n{line}")),
            _ => lines.push(line.to_owned()),
        }
    }
    lines.retain(|line| line.contains(job));
    lines
}

#[test]
fn each_job_is_a_line_and_a_failure_shows_its_traceback() {
    let mut pool = Pool::start("");
    let done = pool.enqueue(&["app.add", "[1, 2]"]);
    let failed = pool.enqueue(&["app.fail", "\"no mail\""]);
    pool.assert_finished(&done);
    pool.wait(&failed);
    pool.wait_log("job failed");
    let lines = lines_of(&pool, &done[0]);
    assert!(
        lines[0].contains("DEBUG job begins pool=default queue=default job="),
        "{lines:?}"
    );
    assert!(
        lines[1].contains("INFO job done pool=default queue=default job="),
        "{lines:?}"
    );
    for field in [" task=app.add ", " worker=", " wait=", " took="] {
        assert!(lines[1].contains(field), "{field} in {lines:?}");
    }
    assert_eq!(lines.len(), 2, "{lines:?}");
    let failure = lines_of(&pool, &failed[0]).pop().expect("it is told");
    assert!(failure.contains("ERROR job failed "), "{failure}");
    assert!(failure.contains(" error=\"ValueError: no mail\" "), "{failure}");
    assert!(
        failure.contains("\n    Traceback (most recent call last):\n"),
        "{failure}"
    );
    assert!(
        failure.contains("\n        raise ValueError(message)\n"),
        "{failure}"
    );
    pool.assert_clean_stop();
}

#[test]
fn jobs_that_end_well_can_be_kept_out_of_the_log() {
    let mut pool = Pool::start("[log]\njobs = false\n");
    let done = pool.enqueue(&["app.add", "[1, 2]"]);
    pool.assert_finished(&done);
    let failed = pool.enqueue(&["app.fail", "\"no mail\""]);
    pool.wait(&failed);
    pool.wait_log("job failed");
    assert_eq!(lines_of(&pool, &done[0]), [""; 0]);
    assert_eq!(lines_of(&pool, &failed[0]).len(), 1);
    pool.assert_clean_stop();
}

#[test]
fn what_the_application_logs_keeps_its_level_and_its_logger() {
    let mut pool = Pool::start("[log]\njobs = false\n");
    let ids = pool.enqueue(&["app.log", "\"letter\""]);
    pool.assert_finished(&ids);
    pool.wait_log("letter lost");
    let lines = lines_of(&pool, &ids[0]);
    assert!(
        lines[0].contains("WARN letter sent pool=default worker="),
        "{lines:?}"
    );
    assert!(
        lines[1].contains("ERROR letter lost pool=default worker="),
        "{lines:?}"
    );
    assert!(
        lines[1].contains(" logger=shop.mail\n    Traceback "),
        "{lines:?}"
    );
    assert!(lines[1].ends_with("\n    LookupError: letter"), "{lines:?}");
    assert_eq!(lines.len(), 2, "{lines:?}");
    pool.assert_clean_stop();
}

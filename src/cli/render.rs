//! Tables and words for people. Everything here is a function of its arguments.

use std::time::Duration;

use crate::fleet::snapshot::{Decision, PoolSnapshot, ProcessSnapshot, Snapshot};
use crate::time::{Human, Unix, seconds_to_duration};

use super::table::{Table, one_line, wrapped};
use super::tasks;

/// Characters of a line in which each column of the workers has room.
const WIDE: usize = 160;

/// `pool status`: the supervisor, a row a pool, what was decided last, a row a task, a row a worker, in lines of `width`
/// characters.
pub fn status(of: &Snapshot, now: Unix, width: usize) -> String {
    let mut text = format!(
        "pool {}: {}, pid {}, up {}, generation {}, memory {}\nbroker {}\n",
        of.version,
        of.state,
        of.pid,
        age(now.since(of.started)),
        of.generation,
        bytes(of.pss_bytes),
        of.broker,
    );
    text.push_str(&totals(of));
    for (what, why) in [
        ("the broker can't be used", &of.broker_error),
        ("the app does not load", &of.load_error),
        ("the newest app was given up", &of.reload_error),
    ] {
        if let Some(why) = why {
            text.push_str(&format!("warning: {what}: {}\n", one_line(why)));
        }
    }
    for (name, pool) in &of.pools {
        if let Some(why) = &pool.start_error {
            text.push_str(&format!(
                "warning: workers of {name} do not start: {}\n",
                one_line(why)
            ));
        }
    }
    text.push('\n');
    text.push_str(&pools(of, width));
    for (name, pool) in &of.pools {
        if let Some(from) = &pool.max_from {
            text.push_str(&format!("\n{name} has at most {} workers: {from}\n", pool.max));
        }
        if let Some(decision) = &pool.last_decision {
            let would = if decision.dry_run { "would have " } else { "" };
            let decided = format!("{name} {would}{}", decided(decision, now));
            text.push_str(&format!("\n{}\n", wrapped(&decided, width)));
        }
        if pool.gathering > 0 {
            let jobs = pool.gathering;
            text.push_str(&format!("{name} gathers {jobs} jobs for batches\n"));
        }
        if pool.taken_back > 0 {
            let jobs = pool.taken_back;
            text.push_str(&format!(
                "{name} gave {jobs} jobs that waited behind a long one to other workers\n"
            ));
        }
    }
    text.push_str(&tasks::table(of, width));
    if of.pools.values().any(|pool| !pool.processes.is_empty()) {
        text.push_str(&format!("\n{}", processes(of, width)));
    }
    text
}

/// `total: 7 of 10 workers, 900.0M of 4.0G; kept free: mail 2 workers, web 32.0M`: nothing where there is no limit.
fn totals(of: &Snapshot) -> String {
    let workers: u32 = of.pools.values().map(|pool| pool.workers).sum();
    let of_workers = of
        .max_total_workers
        .map(|total| format!("{workers} of {total} workers"));
    let of_memory = of
        .max_total_bytes
        .map(|total| format!("{} of {}", bytes(of.pss_bytes), bytes(total)));
    let limits: Vec<String> = of_workers.into_iter().chain(of_memory).collect();
    if limits.is_empty() {
        return String::new();
    }
    let kept = of.pools.iter().filter_map(|(name, pool)| {
        let seats = of
            .max_total_workers
            .map(|_| pool.floor.saturating_sub(pool.workers));
        let seats = seats
            .filter(|seats| *seats > 0)
            .map(|seats| format!("{seats} workers"));
        let memory = Some(pool.kept_bytes).filter(|kept| *kept > 0).map(bytes);
        let both: Vec<String> = seats.into_iter().chain(memory).collect();
        (!both.is_empty()).then(|| format!("{name} {}", both.join(" and ")))
    });
    let kept: Vec<String> = kept.collect();
    let kept = match kept.as_slice() {
        [] => String::new(),
        kept => format!("; kept free: {}", kept.join(", ")),
    };
    format!("total: {}{kept}\n", limits.join(", "))
}

fn pools(of: &Snapshot, width: usize) -> String {
    // What most pools never have is no column for all.
    let loses = of.pools.values().any(|pool| pool.lost > 0);
    let mut headings = vec![
        "~POOL",
        ">WORKERS",
        ">BUSY",
        ">UTIL",
        ">WAITING",
        ">OLDEST",
        ">SCHEDULED",
        ">DONE",
        ">FAILED",
    ];
    headings.extend(loses.then_some(">LOST"));
    let mut table = Table::new(&headings);
    for (name, pool) in &of.pools {
        table.row(pool_cells(name, pool, loses));
    }
    table.fit(width)
}

fn pool_cells(name: &str, pool: &PoolSnapshot, loses: bool) -> Vec<String> {
    let oldest = seconds_to_duration(pool.oldest_waiting_s).unwrap_or_default();
    let mut cells = vec![
        if pool.paused {
            format!("{name} (paused)")
        } else {
            name.to_owned()
        },
        format!("{} ({}..{})", pool.workers, pool.min, pool.max),
        pool.busy.to_string(),
        share(pool.utilization),
        pool.waiting.to_string(),
        if pool.waiting == 0 || oldest.is_zero() {
            "-".to_owned() // nothing waits, or the broker does not know since when
        } else {
            age(oldest)
        },
        pool.scheduled.to_string(),
        pool.done.to_string(),
        pool.failed.to_string(),
    ];
    cells.extend(loses.then(|| pool.lost.to_string()));
    cells
}

/// `scaled 3→4 12s ago (utilization): 1.86 of 3 busy on average over 30s, utilization 0.62, threshold 0.50, 12 waiting`
fn decided(decision: &Decision, now: Unix) -> String {
    let change = if decision.from == decision.to {
        let workers = if decision.to == 1 { "worker" } else { "workers" };
        format!("kept {} {workers}", decision.to)
    } else {
        format!("scaled {}→{}", decision.from, decision.to)
    };
    format!(
        "{change} {} ago ({}): {} of {} busy on average over {}, utilization {}, threshold {:.2}, {} waiting",
        age(now.since(decision.at)),
        decision.reason,
        share(decision.busy_average),
        decision.from,
        Human(seconds_to_duration(decision.window_s).unwrap_or_default()),
        share(decision.utilization),
        decision.threshold,
        decision.waiting,
    )
}

/// A share of one with two digits; `-`: not known.
pub fn share(of: Option<f64>) -> String {
    of.map_or("-".to_owned(), |share| format!("{share:.2}"))
}

/// Where lines are short, of memory only what a worker has for itself is shown.
fn processes(of: &Snapshot, width: usize) -> String {
    let is_wide = width >= WIDE;
    let mut headings = vec!["~POOL", ">WORKER", ">PID"];
    headings.extend(is_wide.then_some(">GEN"));
    headings.extend(["STATE", ">SINCE", ">JOBS"]);
    headings.extend(
        is_wide
            .then_some([">AHEAD", ">MEMORY", ">SHARED"])
            .into_iter()
            .flatten(),
    );
    headings.push(">OWN");
    headings.extend(is_wide.then_some([">ANON", ">HEAP"]).into_iter().flatten());
    headings.extend(["~TASK", "~JOB"]);
    let mut table = Table::new(&headings);
    for (name, pool) in &of.pools {
        for process in &pool.processes {
            table.row(process_cells(name, process, is_wide));
        }
    }
    table.fit(width)
}

fn process_cells(pool: &str, process: &ProcessSnapshot, is_wide: bool) -> Vec<String> {
    let since = age(seconds_to_duration(process.since_s).unwrap_or_default());
    let wide = |cells: Vec<String>| if is_wide { cells } else { Vec::new() };
    let mut cells = vec![
        pool.to_owned(),
        process.worker.to_string(),
        process.pid.map_or("-".to_owned(), |pid| pid.to_string()),
    ];
    cells.extend(wide(vec![process.generation.to_string()]));
    cells.extend([process.state.clone(), since, process.jobs.to_string()]);
    cells.extend(wide(vec![
        process.held.to_string(),
        bytes(process.pss_bytes),
        bytes(process.shared_bytes),
    ]));
    cells.push(bytes(process.private_bytes));
    cells.extend(wide(vec![
        bytes(process.private_anonymous_bytes),
        bytes(process.private_heap_bytes),
    ]));
    cells.push(task_cell(process));
    cells.push(process.job.as_deref().map_or("-".to_owned(), one_line));
    cells
}

/// `shop.insert`, and of a batch how many jobs it has: `shop.insert ×100`.
fn task_cell(process: &ProcessSnapshot) -> String {
    match &process.task {
        None => "-".to_owned(),
        Some(task) if process.batch > 0 => format!("{} ×{}", one_line(task), process.batch),
        Some(task) => one_line(task),
    }
}

/// How long ago, in the two largest units that matter: `0.4s`, `42s`, `12m5s`, `3h20m`, `4d3h`.
pub fn age(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let rounded_to = match seconds {
        0..10 => return format!("{:.1}s", duration.as_secs_f64().min(9.9)),
        10..3600 => 1,
        3600..86_400 => 60,
        _ => 3600,
    };
    Human(Duration::from_secs(seconds / rounded_to * rounded_to)).to_string()
}

/// When a job is due: `in 5m`, or `overdue 12s` if its time has come.
pub fn due(due: Unix, now: Unix) -> String {
    match due > now {
        true => format!("in {}", age(due.since(now))),
        false => format!("overdue {}", age(now.since(due))),
    }
}

/// A size in memory with three digits or so: `812K`, `12.1M`, `3.4G`; `-` when it is not known yet.
pub fn bytes(bytes: u64) -> String {
    match bytes as f64 {
        0.0 => "-".to_owned(),
        size if size < 1024.0 * 1024.0 => format!("{:.0}K", size / 1024.0),
        size if size < 1024.0_f64.powi(3) => format!("{:.1}M", size / 1024.0_f64.powi(2)),
        size => format!("{:.1}G", size / 1024.0_f64.powi(3)),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::fleet::snapshot::TaskSnapshot;

    const NOW: Unix = Unix(1_772_355_900_250);

    fn worker(worker: u64, state: &str, job: Option<&str>) -> ProcessSnapshot {
        ProcessSnapshot {
            worker,
            pid: Some(4711 + worker as i32),
            generation: 1,
            state: state.into(),
            job: job.map(Into::into),
            task: job.map(|_| "mail.send".into()),
            since_s: 0.84,
            jobs: 312,
            pss_bytes: 12_700_000,
            shared_bytes: 180_000_000,
            private_bytes: 1_300_000,
            private_anonymous_bytes: 800_000,
            private_heap_bytes: 300_000,
            ..ProcessSnapshot::default()
        }
    }

    fn snapshot() -> Snapshot {
        let decision = Decision {
            at: Unix(NOW.0 - 12_000),
            from: 1,
            to: 2,
            reason: "utilization".into(),
            utilization: Some(0.62),
            threshold: 0.5,
            window_s: 30.0,
            waiting: 12,
            busy_average: Some(0.62),
            ..Decision::default()
        };
        let pool = PoolSnapshot {
            queues: vec!["default".into()],
            workers: 2,
            busy: 1,
            min: 1,
            max: 5,
            utilization: Some(0.617),
            waiting: 12,
            oldest_waiting_s: 1.26,
            gathering: 57,
            scheduled: 3,
            done: 10_234,
            failed: 3,
            last_decision: Some(decision),
            taken_back: 7,
            tasks: vec![TaskSnapshot {
                task: "mail.send".into(),
                done: 10_234,
                failed: 3,
                service_s: Some(0.0013),
                depth: Some(7),
                sent_ahead: 9_120,
                ..TaskSnapshot::default()
            }],
            processes: vec![
                worker(1, "busy", Some("0199aaaa-bbbb-7ccc-8ddd-eeeeeeeeeeee")),
                worker(2, "idle", None),
                ProcessSnapshot {
                    batch: 100,
                    ..worker(3, "busy", Some("0199aaaa-bbbb-7ccc-8ddd-ffffffffffff"))
                },
            ],
            ..PoolSnapshot::default()
        };
        Snapshot {
            pid: 4711,
            version: "0.1.0".into(),
            state: "running".into(),
            started: Unix(NOW.0 - 7_503_000),
            broker: "sqlite:/var/lib/pool/jobs.db".into(),
            generation: 1,
            pss_bytes: 41_300_000,
            pools: BTreeMap::from([("default".to_owned(), pool)]),
            ..Snapshot::default()
        }
    }

    #[test]
    fn status_reads_well() {
        let text = status(&snapshot(), NOW, 80);
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        insta::assert_snapshot!(text);
        insta::assert_snapshot!(
            "status_reads_well_where_lines_are_long",
            status(&snapshot(), NOW, WIDE)
        );
    }

    #[test]
    fn status_says_what_is_wrong_in_a_line_each() {
        let mut troubled = snapshot();
        troubled.broker_error = Some("disk full".into());
        troubled.load_error = Some("ModuleNotFoundError: No module named 'shop'\n\x1b[31mTraceback …".into());
        let text = status(&troubled, NOW, 80);
        let warnings: Vec<&str> = text.lines().filter(|line| line.starts_with("warning")).collect();
        assert_eq!(
            warnings,
            [
                "warning: the broker can't be used: disk full",
                "warning: the app does not load: ModuleNotFoundError: No module named 'shop'",
            ]
        );
    }

    #[test]
    fn status_shows_what_all_pools_share() {
        let mut shared = snapshot();
        shared.max_total_workers = Some(10);
        shared.max_total_bytes = Some(4 << 30);
        shared.pss_bytes = 900 << 20;
        if let Some(pool) = shared.pools.get_mut("default") {
            (pool.floor, pool.kept_bytes) = (4, 32 << 20);
        }
        let text = status(&shared, NOW, 80);
        let line = text.lines().nth(2).unwrap_or_default();
        let expected = "total: 2 of 10 workers, 900.0M of 4.0G; kept free: default 2 workers and 32.0M";
        assert_eq!(line, expected);
    }

    #[test]
    fn a_supervisor_without_anything_can_be_shown() {
        insta::assert_snapshot!(status(&Snapshot::default(), Unix(0), 80));
    }

    #[test]
    fn an_age_has_the_units_that_matter() {
        for (seconds, text) in [
            (0.04, "0.0s"),
            (9.96, "9.9s"),
            (10.9, "10s"),
            (725.0, "12m5s"),
            (12_059.0, "3h20m"),
            (356_400.0, "4d3h"),
        ] {
            assert_eq!(age(Duration::from_secs_f64(seconds)), text);
        }
    }

    #[test]
    fn a_size_has_a_unit_and_few_digits() {
        for (size, text) in [
            (0, "-"),
            (500 << 10, "500K"),
            (12_700_000, "12.1M"),
            (3_650_722_201, "3.4G"),
        ] {
            assert_eq!(bytes(size), text);
        }
    }
}

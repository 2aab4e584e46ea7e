//! The tasks of `pool status`: how long they take, and what prefetch and batches make of it. Pure.

use std::time::Duration;

use crate::fleet::snapshot::{Snapshot, TaskSnapshot};
use crate::time::seconds_to_duration;

use super::table::{Table, one_line};

/// Tasks that are shown: those with most runs.
const SHOWN_MAX: usize = 10;

/// A row a task, the busiest first; nothing as long as no job was run.
pub fn table(of: &Snapshot, width: usize) -> String {
    let mut tasks: Vec<(&str, &TaskSnapshot)> = of
        .pools
        .iter()
        .flat_map(|(pool, shown)| shown.tasks.iter().map(move |task| (pool.as_str(), task)))
        .collect();
    if tasks.is_empty() {
        return String::new();
    }
    tasks.sort_by_key(|(_, task)| std::cmp::Reverse(task.done + task.failed + task.retried));
    let hidden = tasks.len().saturating_sub(SHOWN_MAX);
    tasks.truncate(SHOWN_MAX);
    // Most pools have no batches: then nobody reads past an empty column.
    let batches = tasks.iter().any(|(_, task)| task.batches > 0);
    let mut headings = vec![
        "~POOL", "~TASK", ">DONE", ">FAILED", ">RETRIED", ">SERVICE", ">DEPTH", ">AHEAD",
    ];
    if batches {
        headings.push(">BATCHES");
    }
    let mut table = Table::new(&headings);
    for (pool, task) in tasks {
        table.row(cells(pool, task, batches));
    }
    let more = match hidden {
        0 => String::new(),
        more => format!("and {more} more: pool status --json\n"),
    };
    format!("\n{}{more}", table.fit(width))
}

/// Of batches, how many there were, and how many jobs one had on average.
fn cells(pool: &str, task: &TaskSnapshot, batches: bool) -> Vec<String> {
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let mut cells = vec![
        pool.to_owned(),
        one_line(&task.task),
        task.done.to_string(),
        task.failed.to_string(),
        task.retried.to_string(),
        or_dash(task.service_s.map(service)),
        or_dash(task.depth.map(|depth| depth.to_string())),
        task.sent_ahead.to_string(),
    ];
    if batches {
        let mean = task.batch_jobs as f64 / task.batches as f64;
        cells.push(or_dash(
            (task.batches > 0).then(|| format!("{} ×{mean:.1}", task.batches)),
        ));
    }
    cells
}

/// `38.2µs`, `1.4ms`, `12.0s`: short jobs are what prefetch is about.
fn service(seconds: f64) -> String {
    let time: Duration = seconds_to_duration(seconds).unwrap_or_default();
    format!("{time:.1?}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::snapshot::PoolSnapshot;

    fn task(name: &str, done: u64) -> TaskSnapshot {
        TaskSnapshot {
            task: name.into(),
            done,
            service_s: Some(0.000_82),
            depth: Some(12),
            sent_ahead: done / 2,
            ..TaskSnapshot::default()
        }
    }

    fn shown(tasks: Vec<TaskSnapshot>) -> String {
        let mut snapshot = Snapshot::default();
        let pool = PoolSnapshot {
            tasks,
            ..PoolSnapshot::default()
        };
        snapshot.pools.insert("default".into(), pool);
        table(&snapshot, 80)
    }

    #[test]
    fn tasks_with_batches_show_their_calls() {
        let batched = TaskSnapshot {
            batches: 3,
            batch_jobs: 250,
            depth: Some(100),
            ..task("shop.insert", 250)
        };
        insta::assert_snapshot!(shown(vec![task("mail.send", 1000), batched]), @r"

        POOL     TASK         DONE  FAILED  RETRIED  SERVICE  DEPTH  AHEAD  BATCHES
        default  mail.send    1000       0        0  820.0µs     12    500        -
        default  shop.insert   250       0        0  820.0µs    100    125  3 ×83.3
        ");
    }

    #[test]
    fn the_busiest_tasks_are_shown_and_the_others_counted() {
        let text = shown((0..23).map(|at| task(&format!("t{at}"), at)).collect());
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[2].contains("t22"), "{text}");
        assert!(!text.contains("BATCH"), "{text}");
        assert_eq!(lines.len(), 13, "{text}");
        assert_eq!(lines[12], "and 13 more: pool status --json");
    }

    #[test]
    fn before_the_first_job_there_is_nothing_to_show() {
        assert_eq!(shown(Vec::new()), "");
    }
}

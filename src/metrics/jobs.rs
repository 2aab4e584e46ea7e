//! The part of the catalogue that tells of queues, jobs, prefetch and batches. Pure.

use crate::fleet::figures::Figures;
use crate::fleet::snapshot::{PoolSnapshot, TaskSnapshot};
use crate::fleet::tally::REST;

use super::metric::{Metric, by_reason, counted, counter, gauge, histogram, shown};

pub(super) const QUEUES: &[Metric] = &[
    gauge(
        "pool_waiting_jobs",
        "Jobs in the queues that could run, at the last scaling period",
        |figures, out| {
            shown(figures, out, |pool| pool.waiting as f64);
        },
    ),
    gauge(
        "pool_oldest_waiting_job_seconds",
        "How long the oldest of them has waited; 0 when none waits",
        |figures, out| {
            shown(figures, out, |pool| pool.oldest_waiting_s);
        },
    ),
    gauge(
        "pool_scheduled_jobs",
        "Jobs in the queues that are due later, at the last scaling period",
        |figures, out| {
            shown(figures, out, |pool| pool.scheduled as f64);
        },
    ),
    gauge(
        "pool_held_jobs",
        "Jobs that the supervisor has claimed, by where they are: running, sent ahead, buffered, gathering for a batch",
        |figures, out| {
            for (name, pool) in &figures.snapshot.pools {
                for (place, jobs) in held(pool) {
                    out.count(&[("pool", name), ("place", place)], jobs);
                }
            }
        },
    ),
    histogram(
        "pool_job_wait_seconds",
        "How long jobs waited before their first run, from when they could run until they began",
        |figures, out| {
            for (name, tally) in &figures.pools {
                for (queue, wait) in tally.waits.iter() {
                    let queue = queue.map_or(REST, |queue| queue.as_str());
                    out.histogram(&[("pool", name), ("queue", queue)], &wait.0);
                }
            }
        },
    ),
];

pub(super) const ENDS: &[Metric] = &[
    counter(
        "pool_jobs_ended_total",
        "Jobs that ended, by outcome: done, or failed for good",
        |figures, out| {
            each_task(figures, |pool, task| {
                out.count(
                    &[("pool", pool), ("task", &task.task), ("outcome", "done")],
                    task.done,
                );
                out.count(
                    &[("pool", pool), ("task", &task.task), ("outcome", "failed")],
                    task.failed,
                );
            });
        },
    ),
    counter(
        "pool_jobs_retried_total",
        "Runs that failed and after which the job is run again",
        |figures, out| {
            each_task(figures, |pool, task| {
                out.count(&[("pool", pool), ("task", &task.task)], task.retried)
            });
        },
    ),
    counter(
        "pool_runs_cut_short_total",
        "Runs that did not end by themselves: their worker was lost, their timeout was over, somebody stopped them, or they were given back at a shutdown",
        |figures, out| {
            by_reason(figures, out, |tally| &tally.cut_short);
        },
    ),
    histogram(
        "pool_job_duration_seconds",
        "How long runs took, by their worker's own clock",
        |figures, out| {
            for (name, tally) in &figures.pools {
                for (task, tally) in tally.tasks.iter() {
                    let task = task.map_or(REST, |task| task);
                    out.histogram(&[("pool", name), ("task", task)], &tally.durations);
                }
            }
        },
    ),
];

pub(super) const PREFETCH: &[Metric] = &[
    gauge(
        "pool_task_service_seconds",
        "What the next job of a task is expected to take: smoothed mean and mean deviation of those measured, by which prefetch goes",
        |figures, out| {
            each_task(figures, |pool, task| {
                let labels = [("pool", pool), ("task", &*task.task)];
                task.service_s
                    .into_iter()
                    .for_each(|service| out.add(&labels, service));
            });
        },
    ),
    gauge(
        "pool_prefetch_depth_jobs",
        "Jobs of a task that one worker may hold at once now, the running one included; of a batch task, the size of a batch",
        |figures, out| {
            each_task(figures, |pool, task| {
                let labels = [("pool", pool), ("task", &*task.task)];
                task.depth
                    .into_iter()
                    .for_each(|depth| out.count(&labels, depth.into()));
            });
        },
    ),
    counter(
        "pool_jobs_sent_ahead_total",
        "Jobs sent to a worker while it still ran another one",
        |figures, out| {
            each_task(figures, |pool, task| {
                out.count(&[("pool", pool), ("task", &task.task)], task.sent_ahead)
            });
        },
    ),
    counter(
        "pool_jobs_taken_back_total",
        "Jobs taken back unread from a worker: it stalled behind a long job, did not read, died, or the pool pauses or stops",
        |figures, out| {
            by_reason(figures, out, |tally| &tally.taken_back);
        },
    ),
];

pub(super) const BATCHES: &[Metric] = &[
    histogram(
        "pool_batch_jobs",
        "Jobs of each call of a batch task: the count is calls, the sum is jobs",
        |figures, out| {
            for (name, tally) in &figures.pools {
                let batched = tally.tasks.iter().filter(|(_, task)| task.batches.count() > 0);
                for (task, tally) in batched {
                    let task = task.map_or(REST, |task| task);
                    out.histogram(&[("pool", name), ("task", task)], &tally.batches);
                }
            }
        },
    ),
    counter(
        "pool_batches_split_total",
        "Batches that failed as a whole and ran again in halves",
        |figures, out| {
            counted(figures, out, |tally| tally.splits);
        },
    ),
];

fn each_task(figures: &Figures, mut of: impl FnMut(&str, &TaskSnapshot)) {
    for (name, pool) in &figures.snapshot.pools {
        pool.tasks.iter().for_each(|task| of(name, task));
    }
}

/// Where the jobs in hand are.
fn held(pool: &PoolSnapshot) -> [(&'static str, u64); 4] {
    let busy = pool.processes.iter().filter(|process| process.job.is_some());
    let running = busy.map(|process| process.batch.max(1)).sum();
    let ahead: u64 = pool.processes.iter().map(|process| process.held).sum();
    let buffered = pool.prefetched.saturating_sub(ahead + pool.gathering);
    [
        ("running", running),
        ("ahead", ahead),
        ("buffer", buffered),
        ("gathering", pool.gathering),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::{Format, text};
    use super::*;
    use crate::fleet::snapshot::ProcessSnapshot;

    #[test]
    fn a_job_in_hand_is_in_one_place() {
        let process = |held, batch| ProcessSnapshot {
            job: Some("j".into()),
            held,
            batch,
            ..ProcessSnapshot::default()
        };
        let pool = PoolSnapshot {
            processes: vec![process(3, 0), process(0, 10), ProcessSnapshot::default()],
            prefetched: 3 + 5 + 7,
            gathering: 7,
            ..PoolSnapshot::default()
        };
        let places = [("running", 11), ("ahead", 3), ("buffer", 5), ("gathering", 7)];
        assert_eq!(held(&pool), places);
    }

    #[test]
    fn tasks_that_are_not_told_apart_have_a_name_of_their_own() {
        let mut figures = Figures::default();
        let tally = figures.pools.entry("web".into()).or_default();
        for task in 0..100 {
            tally.tasks.at(&format!("t{task}").into()).batches.record(2.0);
        }
        let text = text(&figures, Format::Prometheus);
        assert!(
            text.contains("pool_batch_jobs_sum{pool=\"web\",task=\"(other)\"} 72\n"),
            "{text}"
        );
        let series = text
            .lines()
            .filter(|line| line.starts_with("pool_batch_jobs_count"))
            .count();
        assert_eq!(series, 65);
    }
}

//! Every metric of the supervisor and its workers: name, meaning, and where its figures come from. Pure.
//!
//! The number of series is bounded: pools and queues are configured, states and reasons are words of ours, tasks are
//! told apart up to a limit (`fleet::tally`), and no job, worker or process id is a label.

use crate::fleet::snapshot::ProcessSnapshot;

use super::jobs;
use super::metric::{Metric, by_reason, counted, counter, gauge, shown, word};

/// Every metric there is.
pub fn all() -> impl Iterator<Item = &'static Metric> {
    SUPERVISOR
        .iter()
        .chain(WORKERS)
        .chain(SCALING)
        .chain(SCHEDULES)
        .chain(jobs::QUEUES)
        .chain(jobs::ENDS)
        .chain(jobs::PREFETCH)
        .chain(jobs::BATCHES)
}

/// States of a supervisor; see [`crate::fleet::snapshot::Snapshot::state`].
const STATES: [&str; 5] = ["starting", "running", "paused", "draining", "stopping"];
/// States of a worker; see [`ProcessSnapshot::state`].
const WORKER_STATES: [&str; 6] = ["starting", "spare", "idle", "busy", "retiring", "killed"];

const SUPERVISOR: &[Metric] = &[
    gauge(
        "pool_build_info",
        "Always 1; the label tells the version",
        |figures, out| {
            out.count(&[("version", &figures.snapshot.version)], 1);
        },
    ),
    gauge(
        "pool_start_time_seconds",
        "When the supervisor started, in Unix time",
        |figures, out| {
            out.add(&[], figures.snapshot.started.0 as f64 / 1000.0);
        },
    ),
    gauge(
        "pool_state",
        "1 for the state that the supervisor is in",
        |figures, out| {
            for state in STATES {
                out.count(&[("state", state)], (figures.snapshot.state == state).into());
            }
        },
    ),
    gauge(
        "pool_generation",
        "Generation of the application that is loaded, 0 before the first",
        |figures, out| {
            out.count(&[], figures.snapshot.generation);
        },
    ),
    counter(
        "pool_app_loads_total",
        "Times that the application was loaded",
        |figures, out| {
            out.count(&[], figures.templates.loads);
        },
    ),
    counter(
        "pool_app_load_failures_total",
        "Times that the application did not load",
        |figures, out| {
            out.count(&[], figures.templates.load_failures);
        },
    ),
    counter(
        "pool_template_deaths_total",
        "Templates that died after they had loaded the application",
        |figures, out| {
            out.count(&[], figures.templates.deaths);
        },
    ),
    gauge(
        "pool_broker_up",
        "1 while the broker can be used, as far as the last call to it tells",
        |figures, out| {
            out.count(&[], figures.snapshot.broker_error.is_none().into());
        },
    ),
    counter(
        "pool_broker_failures_total",
        "Calls to the broker that failed",
        |figures, out| {
            out.count(&[], figures.broker.failures);
        },
    ),
    gauge(
        "pool_unsettled_outcomes",
        "Outcomes of jobs that the broker has not taken yet",
        |figures, out| {
            out.count(&[], figures.broker.unsettled);
        },
    ),
    counter(
        "pool_late_outcomes_total",
        "Outcomes that came after their lease had run out: these jobs run again",
        |figures, out| {
            out.count(&[], figures.broker.late);
        },
    ),
    gauge(
        "pool_memory_bytes",
        "Proportional set size of templates and workers together, at the last scaling period",
        |figures, out| {
            out.count(&[], figures.snapshot.pss_bytes);
        },
    ),
    gauge(
        "pool_memory_limit_bytes",
        "Memory above which no worker is added; absent without such a limit",
        |figures, out| {
            figures
                .snapshot
                .max_total_bytes
                .into_iter()
                .for_each(|limit| out.count(&[], limit));
        },
    ),
    gauge(
        "pool_workers_limit",
        "Most workers of all pools together; absent without such a limit",
        |figures, out| {
            figures
                .snapshot
                .max_total_workers
                .into_iter()
                .for_each(|limit| out.count(&[], limit.into()));
        },
    ),
];

const WORKERS: &[Metric] = &[
    gauge("pool_workers", "Workers by state", |figures, out| {
        for (name, pool) in &figures.snapshot.pools {
            for state in WORKER_STATES {
                let workers = pool.processes.iter().filter(|process| process.state == state);
                out.count(&[("pool", name), ("state", state)], workers.count() as u64);
            }
        }
    }),
    counter(
        "pool_workers_started_total",
        "Workers that came to work",
        |figures, out| {
            counted(figures, out, |tally| tally.started);
        },
    ),
    counter(
        "pool_worker_start_failures_total",
        "Workers that could not be forked or did not become ready",
        |figures, out| {
            counted(figures, out, |tally| tally.start_failures);
        },
    ),
    counter(
        "pool_workers_retired_total",
        "Workers that left as asked, by why they were asked",
        |figures, out| {
            by_reason(figures, out, |tally| &tally.retired);
        },
    ),
    counter(
        "pool_worker_deaths_total",
        "Workers that died or were killed, by the cause",
        |figures, out| {
            by_reason(figures, out, |tally| &tally.deaths);
        },
    ),
    gauge(
        "pool_worker_memory_bytes",
        "Memory of all workers together, at the last scaling period: proportional set size, shared and private pages, \
         and of the private ones what they are",
        |figures, out| {
            for (name, pool) in &figures.snapshot.pools {
                let sum = |of: fn(&ProcessSnapshot) -> u64| pool.processes.iter().map(of).sum();
                let mut kind = |kind, of: fn(&ProcessSnapshot) -> u64| {
                    out.count(&[("pool", name), ("kind", kind)], sum(of));
                };
                kind("pss", |process| process.pss_bytes);
                kind("shared", |process| process.shared_bytes);
                kind("private", |process| process.private_bytes);
                kind("private_anonymous", |process| process.private_anonymous_bytes);
                kind("private_heap", |process| process.private_heap_bytes);
                kind("private_other", |process| process.private_other_bytes);
            }
        },
    ),
    gauge(
        "pool_worker_memory_max_bytes",
        "Proportional set size of the largest worker, at the last scaling period",
        |figures, out| {
            shown(figures, out, |pool| {
                pool.processes
                    .iter()
                    .map(|process| process.pss_bytes)
                    .max()
                    .unwrap_or(0) as f64
            });
        },
    ),
];

const SCALING: &[Metric] = &[
    gauge("pool_workers_min", "Never fewer workers", |figures, out| {
        shown(figures, out, |pool| pool.min.into());
    }),
    gauge("pool_workers_max", "Never more workers", |figures, out| {
        shown(figures, out, |pool| pool.max.into());
    }),
    gauge("pool_workers_target", "Workers wanted now", |figures, out| {
        shown(figures, out, |pool| pool.target.into());
    }),
    gauge(
        "pool_workers_floor",
        "Workers whose room no other pool's growth takes",
        |figures, out| {
            shown(figures, out, |pool| pool.floor.into());
        },
    ),
    gauge("pool_paused", "1 while the pool is paused", |figures, out| {
        shown(figures, out, |pool| f64::from(u8::from(pool.paused)));
    }),
    gauge(
        "pool_utilization_ratio",
        "Workers busy on average over the window, divided by the workers wanted now; absent without workers",
        |figures, out| {
            for (name, pool) in &figures.snapshot.pools {
                pool.utilization
                    .into_iter()
                    .for_each(|share| out.add(&[("pool", name)], share));
            }
        },
    ),
    gauge(
        "pool_utilization_threshold_ratio",
        "Utilization above which a worker is added, and below half of which one is retired",
        |figures, out| {
            shown(figures, out, |pool| pool.threshold);
        },
    ),
    counter(
        "pool_scaling_decisions_total",
        "Scaling decisions by direction (up, down, hold) and reason",
        |figures, out| {
            for (name, tally) in &figures.pools {
                for ((direction, reason), count) in &tally.decisions {
                    let labels = [
                        ("pool", &**name),
                        ("direction", direction),
                        ("reason", &word(reason)),
                    ];
                    out.count(&labels, *count);
                }
            }
        },
    ),
];

const SCHEDULES: &[Metric] = &[
    counter(
        "pool_schedule_fired_total",
        "Due times of a schedule for which this supervisor enqueued the job",
        |figures, out| {
            for (name, schedule) in &figures.snapshot.schedules {
                out.count(&[("schedule", name)], schedule.fired);
            }
        },
    ),
    counter(
        "pool_schedule_skipped_total",
        "Due times that this supervisor left out, by reason: missed, overlap, paused",
        |figures, out| {
            for (name, schedule) in &figures.snapshot.schedules {
                for (reason, count) in &schedule.left_out {
                    out.count(&[("schedule", name), ("reason", reason)], *count);
                }
            }
        },
    ),
    gauge(
        "pool_schedule_late_seconds",
        "How late this supervisor fired a schedule the last time",
        |figures, out| {
            for (name, schedule) in &figures.snapshot.schedules {
                out.add(&[("schedule", name)], schedule.late_s);
            }
        },
    ),
    gauge(
        "pool_schedule_next_time_seconds",
        "When a schedule fires next, in Unix time; absent if it never does",
        |figures, out| {
            for (name, schedule) in &figures.snapshot.schedules {
                if let Some(next) = schedule.next {
                    out.add(&[("schedule", name)], next.0 as f64 / 1000.0);
                }
            }
        },
    ),
];

#[cfg(test)]
mod tests {
    use super::super::text::{Family, Kind};
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_follow_the_rules_of_prometheus() {
        let mut names = BTreeSet::new();
        for Family { name, kind, help, .. } in all() {
            let legal = |c: char| c.is_ascii_lowercase() || c == '_';
            assert!(name.starts_with("pool_") && name.chars().all(legal), "{name}");
            assert!(names.insert(name), "{name} is there twice");
            assert_eq!(name.ends_with("_total"), *kind == Kind::Counter, "{name}");
            // These suffixes are those of a histogram's samples.
            for suffix in ["_count", "_sum", "_bucket", "_created"] {
                assert!(!name.ends_with(suffix), "{name}");
            }
            for unit in ["_ms", "_ns", "_minutes", "_kb", "_mib", "_percent"] {
                assert!(!name.contains(unit), "{name} is not in a base unit");
            }
            assert!(
                !help.is_empty() && !help.contains(['\\', '"', '\n']),
                "{name}: {help}"
            );
            assert!(!help.ends_with('.'), "{name}: {help}");
        }
    }

    #[test]
    fn the_page_of_the_documentation_lists_exactly_these() {
        let page = include_str!("../../docs/metrics.md");
        let rows = page.lines().filter_map(|line| {
            let mut cells = line.strip_prefix("| `pool_")?.split('|').map(str::trim);
            let name = format!("pool_{}", cells.next()?.trim_end_matches('`'));
            Some((name, cells.next()?.to_owned(), cells.next()?.to_owned()))
        });
        let documented: BTreeSet<(String, String, String)> = rows.collect();
        let unit = |family: &Metric| family.unit().unwrap_or("").to_owned();
        let exported = all().map(|family| {
            (
                family.name.to_owned(),
                family.kind.as_str().to_owned(),
                unit(family),
            )
        });
        assert_eq!(documented, exported.collect());
    }
}

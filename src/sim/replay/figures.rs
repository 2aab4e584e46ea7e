//! A run in numbers.

use std::time::Duration;

use serde::Serialize;

use super::{Change, Run};
use crate::sim::load::Load;

/// A run in numbers. Times are seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Figures {
    /// Jobs that came.
    pub jobs: u64,
    /// Of these, how many did not begin before the simulation was given up.
    pub unfinished: u64,
    /// Half of the jobs waited no longer.
    pub wait_p50: f64,
    /// 95 % of the jobs waited no longer.
    pub wait_p95: f64,
    /// 99 % of the jobs waited no longer.
    pub wait_p99: f64,
    /// The longest wait.
    pub wait_max: f64,
    /// The sum of all waits.
    pub wait_sum: f64,
    /// The share of the jobs that waited longer than the objective.
    pub late_share: f64,
    /// The longest time in which each job that came waited longer than the objective, until the last of them began.
    pub recovery: f64,
    /// Worker time that the pool had.
    pub worker_seconds: f64,
    /// The same, as a multiple of what a pool needs that knows the future.
    pub worker_ratio: f64,
    /// The share of worker time in which workers were busy.
    pub busy_share: f64,
    /// Most workers at once.
    pub workers_max: u32,
    /// Workers that were started.
    pub forks: u64,
    /// Changes of the size.
    pub changes: u64,
    /// Changes into the other direction within [`REVERSAL`] after one.
    pub reversals: u64,
    /// How long all of it took.
    pub took: f64,
}

/// A change that is taken back within this time was none worth making.
pub const REVERSAL: Duration = Duration::from_secs(60);

impl Figures {
    /// Those of a run of this load. `slo`: how long a job may wait. `bound`: as [`super::bound::clairvoyant`] says.
    pub fn of(run: &Run, load: &Load, slo: Duration, bound: Duration) -> Figures {
        let mut waits: Vec<Duration> = run.waits.iter().filter_map(|wait| *wait).collect();
        waits.sort_unstable();
        let late = waits.len() - waits.partition_point(|wait| *wait <= slo);
        let unfinished = run.waits.len() - waits.len();
        let worker_seconds = run.worker_ns as f64 / 1e9;
        let sizes = run.changes.iter().map(|change| change.to);
        Figures {
            jobs: run.waits.len() as u64,
            unfinished: unfinished as u64,
            wait_p50: quantile(&waits, 0.5),
            wait_p95: quantile(&waits, 0.95),
            wait_p99: quantile(&waits, 0.99),
            wait_max: quantile(&waits, 1.0),
            wait_sum: waits.iter().map(Duration::as_secs_f64).sum(),
            late_share: (late + unfinished) as f64 / run.waits.len().max(1) as f64,
            recovery: recovery(run, load, slo).as_secs_f64(),
            worker_seconds,
            worker_ratio: worker_seconds / bound.as_secs_f64().max(1e-9),
            busy_share: run.busy_ns as f64 / run.worker_ns.max(1) as f64,
            workers_max: sizes.chain([run.first_workers]).max().unwrap_or(0),
            forks: run.forks,
            changes: run.changes.len() as u64,
            reversals: reversals(&run.changes),
            took: run.took.as_secs_f64(),
        }
    }
}

/// The smallest wait that this share of all does not exceed, in seconds. The waits are in order.
fn quantile(waits: &[Duration], share: f64) -> f64 {
    let rank = (share * waits.len() as f64).ceil() as usize;
    waits.get(rank.max(1) - 1).map_or(0.0, Duration::as_secs_f64)
}

fn reversals(changes: &[Change]) -> u64 {
    let turns = |pair: &&[Change]| {
        let is_turn = (pair[0].to > pair[0].from) != (pair[1].to > pair[1].from);
        is_turn && pair[1].at - pair[0].at <= REVERSAL
    };
    changes.windows(2).filter(turns).count() as u64
}

/// From the arrival of the first job of a row of late ones until the last of them begins: the longest of these times.
fn recovery(run: &Run, load: &Load, slo: Duration) -> Duration {
    let (mut longest, mut since) = (Duration::ZERO, None);
    for (arrival, wait) in load.arrivals.iter().zip(&run.waits) {
        // One that never began is late up to the end.
        let wait = wait.unwrap_or(run.took.saturating_sub(arrival.at));
        if wait <= slo {
            since = None;
            continue;
        }
        let since = *since.get_or_insert(arrival.at);
        longest = longest.max(arrival.at + wait - since);
    }
    longest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::load::Arrival;

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn change((at, from, to): (u64, u32, u32)) -> Change {
        Change {
            at: secs(at),
            from,
            to,
        }
    }

    #[test]
    fn a_quantile_is_a_wait_that_occurred() {
        let waits: Vec<Duration> = (1..=100).map(secs).collect();
        assert_eq!(quantile(&waits, 0.5), 50.0);
        assert_eq!(quantile(&waits, 0.95), 95.0);
        assert_eq!(quantile(&waits, 1.0), 100.0);
        assert_eq!((quantile(&waits[..1], 0.5), quantile(&[], 0.5)), (1.0, 0.0));
    }

    #[test]
    fn a_reversal_is_a_change_that_is_soon_taken_back() {
        let changes = [(0, 2, 3), (5, 3, 4), (30, 4, 3), (200, 3, 2), (300, 2, 3)].map(change);
        assert_eq!(reversals(&changes), 1);
    }

    #[test]
    fn recovery_is_the_longest_row_of_late_jobs() {
        let arrival = |at| Arrival {
            at: secs(at),
            service: secs(1),
            kind: 0,
        };
        let load = Load {
            arrivals: [0, 10, 11, 12, 20].map(arrival).into(),
            ..Load::default()
        };
        let run = Run {
            waits: [0, 3, 5, 0, 2].map(|wait| Some(secs(wait))).into(),
            ..Run::default()
        };
        assert_eq!(recovery(&run, &load, secs(1)), secs(6), "from 10 s to 16 s");
        assert_eq!(recovery(&run, &load, secs(9)), secs(0));
        let figures = Figures::of(&run, &load, secs(1), secs(1));
        assert_eq!((figures.late_share, figures.wait_sum), (0.6, 10.0));
    }
}

//! What a pool that knows the future would need.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use crate::sim::load::Load;

/// The fewest worker-seconds with which no job waits longer than `max` workers make it wait.
///
/// Jobs begin in the order of their arrival, on workers that are there at once and leave at once, at most `max` and at least
/// `min` of them, until all jobs have ended and not before the load's span is over.
pub fn clairvoyant(load: &Load, (min, max): (u32, u32)) -> Duration {
    let mut free_at = BinaryHeap::new();
    let mut steps = Vec::with_capacity(load.arrivals.len() * 2);
    for arrival in &load.arrivals {
        let begins = if free_at.len() < max as usize {
            arrival.at
        } else {
            let Some(Reverse(first)) = free_at.pop() else {
                break;
            };
            arrival.at.max(first)
        };
        let ends = begins + arrival.service;
        free_at.push(Reverse(ends));
        steps.push((begins, 1));
        steps.push((ends, -1));
    }
    // A worker that is free at an instant takes the job that begins then: ends come first.
    steps.sort_unstable();
    let last = steps.last().map_or(Duration::ZERO, |(at, _)| *at);
    steps.push((last.max(load.span), 0));
    let (mut worker_ns, mut since, mut running) = (0, Duration::ZERO, 0_i64);
    for (at, step) in steps {
        let workers = u128::try_from(running.max(i64::from(min))).unwrap_or(0);
        worker_ns += workers * (at - since).as_nanos();
        (since, running) = (at, running + step);
    }
    Duration::from_nanos(u64::try_from(worker_ns).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::load::{Arrival, Kind};

    fn load(jobs: &[(u64, u64)], span: u64) -> Load {
        let arrival = |(at, service): &(u64, u64)| Arrival {
            at: Duration::from_secs(*at),
            service: Duration::from_secs(*service),
            kind: 0,
        };
        Load {
            arrivals: jobs.iter().map(arrival).collect(),
            kinds: vec![Kind {
                task: "job".into(),
                queue: None,
            }],
            span: Duration::from_secs(span),
            begins: None,
        }
    }

    #[test]
    fn the_bound_is_the_work_and_the_idle_time_of_the_minimum() {
        let jobs = load(&[(0, 4), (1, 4), (20, 1)], 30);
        let seconds = |limits| clairvoyant(&jobs, limits).as_secs();
        assert_eq!(seconds((0, 5)), 9, "nothing but the work");
        assert_eq!(seconds((1, 5)), 30 + 3, "one worker, and a second one for 3 s");
        assert_eq!(seconds((2, 5)), 60);
        assert_eq!(seconds((1, 1)), 30, "the second job waits for the first");
    }

    #[test]
    fn work_after_the_end_of_the_load_counts() {
        assert_eq!(clairvoyant(&load(&[(0, 50), (0, 50)], 10), (1, 1)).as_secs(), 100);
        assert_eq!(clairvoyant(&load(&[], 10), (3, 5)).as_secs(), 30);
    }
}

//! How a stop escalates: drain, kill, leave.
//!
//! ```text
//! Running ──Drain, Stop──► Draining ──deadline, second Stop, Now──► Killing ──Idle, deadline──► Leaving
//!    └───────────────────────┴──Idle──► Leaving                        (Now: from Running to Killing)
//! ```
//! A drain has no deadline; the first Stop after it gives it one.
//! One such machine may stand for the whole supervisor or for one pool.

use std::time::Duration;

use crate::time::Mono;

/// A killed process that is not reaped after this long is left to the kernel; its job has a lease.
pub const KILL_WAIT: Duration = Duration::from_secs(5);

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// `pool drain`: finish what runs, however long it takes.
    Drain,
    /// TERM, INT, `pool stop`: finish what runs, within a time. The second one means [`Event::Now`].
    Stop,
    /// QUIT: stop now.
    Now,
    /// No job runs and every outcome is settled.
    Idle,
    /// Time passed; worth sending at [`Stop::deadline`].
    Tick,
}

/// What is to be done, once, at the entry of a phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Claim no more, give back what does not run yet, let idle workers go.
    Drain,
    /// Kill the workers that still run a job, and give these jobs back.
    Kill,
    /// Give up the lease, stop the template, exit.
    Leave,
}

/// The state of a stop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stop {
    /// Nobody asked.
    #[default]
    Running,
    /// Jobs may end by themselves.
    Draining {
        /// Then they are killed; `None`: nobody limited it yet.
        until: Option<Mono>,
    },
    /// Workers were killed; their ends are awaited until then.
    Killing {
        /// Then they are waited for no more.
        until: Mono,
    },
    /// Nothing more happens.
    Leaving,
}

impl Stop {
    /// The next state, and what to do on the way. `timeout` is the pool's `stop_timeout`.
    #[must_use]
    pub fn step(self, event: Event, timeout: Duration, now: Mono) -> (Stop, Option<Step>) {
        let in_time = Stop::Draining {
            until: Some(now + timeout),
        };
        let kill = (
            Stop::Killing {
                until: now + KILL_WAIT,
            },
            Some(Step::Kill),
        );
        let leave = (Stop::Leaving, Some(Step::Leave));
        match (self, event) {
            (Stop::Running, Event::Drain) => (Stop::Draining { until: None }, Some(Step::Drain)),
            (Stop::Running, Event::Stop) => (in_time, Some(Step::Drain)),
            (Stop::Running, Event::Now) => kill,
            (Stop::Running, Event::Idle | Event::Tick) => (self, None),
            (Stop::Draining { until: None }, Event::Stop) => (in_time, None),
            (Stop::Draining { .. }, Event::Drain) => (self, None),
            (Stop::Draining { .. }, Event::Stop | Event::Now) => kill,
            (Stop::Draining { .. } | Stop::Killing { .. }, Event::Idle) => leave,
            (Stop::Draining { until: Some(until) }, Event::Tick) if until <= now => kill,
            (Stop::Killing { until }, Event::Tick) if until <= now => leave,
            (Stop::Draining { .. } | Stop::Killing { .. }, Event::Tick) => (self, None),
            (Stop::Killing { .. }, Event::Drain | Event::Stop | Event::Now) => (self, None),
            (Stop::Leaving, _) => (self, None),
        }
    }

    /// When the next [`Event::Tick`] matters, if ever.
    pub fn deadline(self) -> Option<Mono> {
        match self {
            Stop::Draining { until } => until,
            Stop::Killing { until } => Some(until),
            Stop::Running | Stop::Leaving => None,
        }
    }

    /// Whether a stop was asked for: no more claims, no growth.
    pub fn is_stopping(self) -> bool {
        self != Stop::Running
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TIMEOUT: Duration = Duration::from_secs(60);

    fn secs(seconds: u64) -> Mono {
        Mono(seconds * 1_000_000_000)
    }

    /// Feeds events and returns the steps that they caused.
    fn steps(events: &[(Event, u64)]) -> Vec<Step> {
        let mut stop = Stop::default();
        let mut steps = Vec::new();
        for (event, at) in events {
            let (next, step) = stop.step(*event, TIMEOUT, secs(*at));
            stop = next;
            steps.extend(step);
        }
        steps
    }

    #[test]
    fn a_drain_leaves_when_the_last_job_has_ended() {
        let drained = steps(&[(Event::Stop, 0), (Event::Tick, 59), (Event::Idle, 59)]);
        assert_eq!(drained, [Step::Drain, Step::Leave]);
    }

    #[test]
    fn a_drain_that_takes_too_long_kills() {
        let killed = steps(&[(Event::Stop, 0), (Event::Tick, 60), (Event::Idle, 61)]);
        assert_eq!(killed, [Step::Drain, Step::Kill, Step::Leave]);
    }

    #[test]
    fn a_second_signal_kills_at_once_and_a_third_changes_nothing() {
        let killed = steps(&[
            (Event::Stop, 0),
            (Event::Stop, 1),
            (Event::Now, 1),
            (Event::Idle, 1),
        ]);
        assert_eq!(killed, [Step::Drain, Step::Kill, Step::Leave]);
        assert_eq!(
            steps(&[(Event::Now, 0), (Event::Idle, 0)]),
            [Step::Kill, Step::Leave]
        );
    }

    #[test]
    fn a_drain_has_no_end_until_somebody_stops_it_and_the_next_one_kills() {
        let drained = [(Event::Drain, 0), (Event::Tick, 1000), (Event::Drain, 1001)];
        assert_eq!(steps(&drained), [Step::Drain]);
        let stopped = [
            &drained[..],
            &[(Event::Stop, 1002), (Event::Drain, 1003), (Event::Tick, 1061)],
        ]
        .concat();
        assert_eq!(steps(&stopped), [Step::Drain]);
        for last in [(Event::Tick, 1062), (Event::Stop, 1004)] {
            let killed = [&stopped[..], &[last]].concat();
            assert_eq!(steps(&killed), [Step::Drain, Step::Kill]);
        }
    }

    #[test]
    fn a_process_that_cannot_be_killed_is_not_waited_for() {
        let left = steps(&[(Event::Now, 0), (Event::Tick, 4), (Event::Tick, 5)]);
        assert_eq!(left, [Step::Kill, Step::Leave]);
    }

    #[test]
    fn idling_is_no_reason_to_stop() {
        assert_eq!(steps(&[(Event::Idle, 0), (Event::Tick, 1000)]), []);
    }

    fn any_event() -> impl Strategy<Value = Event> {
        use Event::{Drain, Idle, Now, Stop, Tick};
        proptest::sample::select(&[Drain, Stop, Now, Idle, Tick][..])
    }

    proptest! {
        #[test]
        fn each_step_happens_once_and_in_order(events in proptest::collection::vec((any_event(), 0u64..30), 0..40)) {
            let mut at = 0;
            let events: Vec<_> = events.into_iter().map(|(event, wait)| { at += wait; (event, at) }).collect();
            let order = |step: &Step| match step { Step::Drain => 0, Step::Kill => 1, Step::Leave => 2 };
            let steps = steps(&events);
            prop_assert!(steps.is_sorted_by(|a, b| order(a) < order(b)), "{steps:?}");
        }

        #[test]
        fn a_stop_ends_by_itself(first in proptest::sample::select(&[Event::Stop, Event::Now][..]), at in 0u64..1000) {
            let mut now = secs(at);
            let (mut stop, _) = Stop::default().step(first, TIMEOUT, now);
            while let Some(deadline) = stop.deadline() {
                prop_assert!(deadline > now);
                now = deadline;
                (stop, _) = stop.step(Event::Tick, TIMEOUT, now);
            }
            prop_assert_eq!(stop, Stop::Leaving);
            prop_assert!(now.since(secs(at)) <= TIMEOUT + KILL_WAIT);
        }
    }
}

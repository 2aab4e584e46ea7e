//! How a stop escalates: drain, kill, leave.
//!
//! ```text
//! Running ──Drain──► Draining ──deadline, second Drain, Now──► Killing ──Idle, deadline──► Leaving
//!    └──────────────────┴──Idle──► Leaving                        (Now: from Running to Killing)
//! ```
//! One such machine may stand for the whole supervisor or for one pool.

use std::time::Duration;

use crate::time::Mono;

/// A killed process that is not reaped after this long is left to the kernel; its job has a lease.
pub const KILL_WAIT: Duration = Duration::from_secs(5);

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// TERM, INT, `pool stop`: finish what runs. The second one means [`Event::Now`].
    Drain,
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
    /// Jobs may end by themselves until then.
    Draining {
        /// Then they are killed.
        until: Mono,
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
        let drain = (Stop::Draining { until: now + timeout }, Some(Step::Drain));
        let kill = (
            Stop::Killing {
                until: now + KILL_WAIT,
            },
            Some(Step::Kill),
        );
        let leave = (Stop::Leaving, Some(Step::Leave));
        match (self, event) {
            (Stop::Running, Event::Drain) => drain,
            (Stop::Running, Event::Now) => kill,
            (Stop::Running, Event::Idle | Event::Tick) => (self, None),
            (Stop::Draining { .. }, Event::Drain | Event::Now) => kill,
            (Stop::Draining { .. } | Stop::Killing { .. }, Event::Idle) => leave,
            (Stop::Draining { until }, Event::Tick) if until <= now => kill,
            (Stop::Killing { until }, Event::Tick) if until <= now => leave,
            (Stop::Draining { .. } | Stop::Killing { .. }, Event::Tick) => (self, None),
            (Stop::Killing { .. }, Event::Drain | Event::Now) => (self, None),
            (Stop::Leaving, Event::Drain | Event::Now | Event::Idle | Event::Tick) => (self, None),
        }
    }

    /// When the next [`Event::Tick`] matters, if ever.
    pub fn deadline(self) -> Option<Mono> {
        match self {
            Stop::Draining { until } | Stop::Killing { until } => Some(until),
            Stop::Running | Stop::Leaving => None,
        }
    }

    /// Whether a stop was asked for: no more claims, no growth.
    pub fn is_stopping(self) -> bool {
        self != Stop::Running
    }
}

//! How everything ends: drain, kill, leave, without losing a job.

use std::time::Duration;

use crate::policy::shutdown::{Event, Step, Stop};
use crate::time::Mono;

use super::{Action, Fleet, Now};

/// How far a stop is.
#[derive(Debug, Default)]
pub(super) struct Shutdown {
    stop: Stop,
    /// `Action::Leave` was given.
    left: bool,
}

impl Shutdown {
    /// Nobody asked for a stop.
    pub fn is_running(&self) -> bool {
        !self.stop.is_stopping()
    }

    /// Its state.
    pub fn stop(&self) -> Stop {
        self.stop
    }

    /// When it goes on by itself.
    pub fn deadline(&self) -> Option<Mono> {
        self.stop.deadline()
    }

    fn step(&mut self, event: Event, timeout: Duration, now: Mono) -> Option<Step> {
        let (stop, step) = self.stop.step(event, timeout, now);
        self.stop = stop;
        step
    }

    /// Everything is gone. Returns whether it is time to leave; once.
    fn leaves(&mut self) -> bool {
        self.stop == Stop::Leaving && !std::mem::replace(&mut self.left, true)
    }
}

impl Fleet {
    /// A step of the shutdown, and what it asks for.
    pub(super) fn stopping(&mut self, event: Event, now: Now, out: &mut Vec<Action>) {
        let again = matches!(event, Event::Stop | Event::Now);
        if self.shutdown.stop() == Stop::Leaving && again {
            // Whoever asks once more while the templates take their time does not want to wait.
            self.templates.stop_at_once(now, out);
        }
        let timeouts = self.pools.values().map(|pool| pool.config().stop_timeout);
        let timeout = timeouts.max().unwrap_or_default();
        let step = self.shutdown.step(event, timeout, now.mono);
        if step.is_some() {
            self.register.workers_changed();
        }
        match step {
            Some(Step::Drain) => self.drain(now, out),
            Some(Step::Kill) => {
                self.drain(now, out);
                self.at_all(now, out, |pool, cx| pool.interrupt(cx));
            }
            Some(Step::Leave) => self.templates.stop(now, out),
            None => {}
        }
    }

    /// Gives back what does not run and lets the idle go.
    fn drain(&mut self, now: Now, out: &mut Vec<Action>) {
        self.templates.start_no_more();
        self.at_all(now, out, |pool, cx| pool.drain(cx));
    }

    /// The last process is gone: leave.
    pub(super) fn leave_if_empty(&mut self, now: Now, out: &mut Vec<Action>) {
        if !self.running() && self.pools.values().all(super::Pool::is_empty) {
            self.stopping(Event::Idle, now, out);
        }
        if self.templates.is_empty() && self.shutdown.leaves() {
            out.push(Action::Leave);
        }
    }
}

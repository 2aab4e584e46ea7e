//! What comes: jobs with the instant of their arrival and the time that they take.
//!
//! [`shape`]: loads that are described in a few words. [`service`]: how long their jobs take. [`trace`]: loads that were
//! recorded job by job, in files whose [`columns`] have roles. [`counted`]: loads that were counted.

pub mod columns;
pub mod counted;
pub mod service;
pub mod shape;
pub mod trace;

use std::sync::Arc;
use std::time::Duration;

use crate::job::QueueName;
use crate::time::Unix;

/// One job of a load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// When it is enqueued, since the start of the load.
    pub at: Duration,
    /// How long it runs.
    pub service: Duration,
    /// Its place in [`Load::kinds`].
    pub kind: u16,
}

/// What jobs have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kind {
    /// What they call.
    pub task: Arc<str>,
    /// Where they wait; `None`: in the first queue of the pool.
    pub queue: Option<QueueName>,
}

/// Jobs in the order of their arrival.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// The jobs.
    pub arrivals: Vec<Arrival>,
    /// Their kinds.
    pub kinds: Vec<Kind>,
    /// How long they come; the last may come earlier.
    pub span: Duration,
    /// When it began, for what goes by the time of day; `None`: at no time in particular.
    pub begins: Option<Unix>,
}

/// Most jobs of one load, so that it fits into memory: 24 bytes each, and as much again for what became of it.
pub const JOBS_MAX: usize = 20_000_000;

/// Most kinds of jobs in one load.
pub const KINDS_MAX: usize = 1000;

/// Most days that a load lasts, and that a job takes. A pool is simulated also while nothing comes: a year takes half a minute.
pub const DAYS_MAX: u64 = 366;

/// The same as a time.
pub const SPAN_MAX: Duration = Duration::from_secs(DAYS_MAX * 86_400);

/// What a load has too many of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Excess {
    /// Jobs.
    #[error("more than {JOBS_MAX} jobs")]
    Jobs,
    /// Kinds of them.
    #[error("more than {KINDS_MAX} tasks and queues")]
    Kinds,
}

impl Load {
    /// The place of this kind among the kinds, which it joins. `None`: there are too many.
    pub fn kind(&mut self, task: &str, queue: Option<&QueueName>) -> Option<u16> {
        let known = |kind: &Kind| &*kind.task == task && kind.queue.as_ref() == queue;
        let at = self.kinds.iter().position(known).unwrap_or_else(|| {
            self.kinds.push(Kind {
                task: task.into(),
                queue: queue.cloned(),
            });
            self.kinds.len() - 1
        });
        u16::try_from(at).ok().filter(|_| at < KINDS_MAX)
    }

    /// Both at once, from the same instant on: that of this one, if it has one.
    ///
    /// # Errors
    /// They are too many together.
    pub fn and(mut self, other: Load) -> Result<Load, Excess> {
        if self.arrivals.len() + other.arrivals.len() > JOBS_MAX {
            return Err(Excess::Jobs);
        }
        let places = other
            .kinds
            .iter()
            .map(|kind| self.kind(&kind.task, kind.queue.as_ref()));
        let places: Option<Vec<u16>> = places.collect();
        let places = places.ok_or(Excess::Kinds)?;
        let moved = other.arrivals.into_iter().map(|arrival| Arrival {
            kind: places[usize::from(arrival.kind)],
            ..arrival
        });
        self.arrivals.extend(moved);
        self.arrivals.sort_by_key(|arrival| arrival.at);
        self.span = self.span.max(other.span);
        self.begins = self.begins.or(other.begins);
        Ok(self)
    }

    /// The work of all jobs together.
    pub fn work(&self) -> Duration {
        self.arrivals.iter().map(|arrival| arrival.service).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loads_that_are_too_many_kinds_together_are_refused() {
        let of_kinds = |names: std::ops::Range<usize>| {
            let mut load = Load::default();
            for name in names {
                load.kind(&name.to_string(), None).unwrap();
            }
            load
        };
        assert!(
            of_kinds(0..KINDS_MAX).and(of_kinds(0..2)).is_ok(),
            "the same ones"
        );
        let both = of_kinds(0..KINDS_MAX).and(of_kinds(KINDS_MAX..KINDS_MAX + 1));
        assert_eq!(both, Err(Excess::Kinds));
    }
}

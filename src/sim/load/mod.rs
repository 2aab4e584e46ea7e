//! What comes: jobs with the instant of their arrival and the time that they take.
//!
//! [`shape`]: loads that are described in a few words. [`service`]: how long their jobs take. [`trace`]: loads that were
//! recorded job by job. [`counted`]: loads that were counted.

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

/// Most kinds of jobs in one load.
pub const KINDS_MAX: usize = 1000;

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
    /// # Panics
    /// If they have more than [`KINDS_MAX`] kinds together.
    pub fn and(mut self, other: Load) -> Load {
        let places: Vec<u16> = other
            .kinds
            .iter()
            .map(|kind| {
                let place = self.kind(&kind.task, kind.queue.as_ref());
                place.expect("loads of few kinds")
            })
            .collect();
        let moved = other.arrivals.into_iter().map(|arrival| Arrival {
            kind: places[usize::from(arrival.kind)],
            ..arrival
        });
        self.arrivals.extend(moved);
        self.arrivals.sort_by_key(|arrival| arrival.at);
        self.span = self.span.max(other.span);
        self.begins = self.begins.or(other.begins);
        self
    }

    /// The work of all jobs together.
    pub fn work(&self) -> Duration {
        self.arrivals.iter().map(|arrival| arrival.service).sum()
    }
}

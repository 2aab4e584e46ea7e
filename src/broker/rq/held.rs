//! What this handle has taken and not settled, and the after-work that it hands out as jobs of its own.

use std::collections::{BTreeSet, HashMap};

use serde::Serialize;

use crate::broker::parts::after_work::Pending;
use crate::job::{Claimed, QueueName};

/// [`Job::kind`](crate::job::Job::kind) of a job whose function alone is the worker's; the payload is its `data`.
pub(super) const KIND_PLAIN: u8 = 0;
/// Of a job that RQ's own code ends; the payload is its hash, see `lua/job.lua`.
pub(super) const KIND_WHOLE: u8 = 1;
/// Of after-work; the payload is [`AfterWork`] as JSON.
pub(super) const KIND_AFTER_WORK: u8 = 2;
/// Of a job with callbacks, which its worker calls; our scripts end it. The payload is its hash.
pub(super) const KIND_CALLBACKS: u8 = 3;

/// One job in hand.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub job: String,
    pub queue: String,
    pub kind: Kind,
    /// The key of its rate limit.
    pub rate_limit: Option<String>,
    /// The worker under whose name its execution was shown to others.
    pub shown: Option<String>,
    /// It was settled once already, and the answer was lost.
    pub tried: bool,
    /// Its claim came back from a supervisor that died, see `lua/reclaim.lua`.
    pub returned: bool,
}

/// A job that was taken and can't be run.
#[derive(Debug)]
pub(super) struct Unreadable {
    /// Its id and its queue, which need be no text.
    pub job: Vec<u8>,
    pub queue: Vec<u8>,
    /// Of its claim.
    pub number: i64,
    pub reason: String,
}

/// How a job in hand is finished.
#[derive(Clone, Debug)]
pub(super) enum Kind {
    /// By our scripts.
    Plain {
        /// A function is to be called if it is stopped.
        stopped_callback: bool,
    },
    /// By RQ's own code, in its worker or as after-work.
    Whole,
    /// Ours: nothing of it is in Redis.
    After(Pending<AfterWork>),
}

/// Work that only RQ's own code does right; a worker does it between jobs.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub(super) enum AfterWork {
    /// Finish a plain job whose end is none of the script's business: see `settle.lua`.
    Finish {
        job_id: String,
        execution_id: String,
        worker_name: String,
        started: f64,
        ended: f64,
        outcome: &'static str,
        /// Base64 of the serialized value; empty: none.
        result: String,
        exc_string: String,
    },
    /// The worker died with a job.
    Lost {
        job_id: String,
        execution_id: String,
        worker_name: String,
        how: String,
        /// Its raw wait status, where known.
        status: Option<i32>,
    },
    /// Somebody stopped a job.
    Stopped {
        job_id: String,
        execution_id: String,
        worker_name: String,
    },
    /// The housekeeping of RQ's registries.
    Maintain { queues: Vec<String> },
    /// Scheduled jobs with a rate limit that are due.
    Enqueue { queue: String, job_ids: Vec<String> },
}

impl AfterWork {
    /// Its task's name, for logs.
    pub fn task(&self) -> &'static str {
        match self {
            AfterWork::Finish { .. } => "rq:finish",
            AfterWork::Lost { .. } => "rq:lost",
            AfterWork::Stopped { .. } => "rq:stopped",
            AfterWork::Maintain { .. } => "rq:maintain",
            AfterWork::Enqueue { .. } => "rq:enqueue",
        }
    }

    /// The job that it ends, if it ends one.
    pub fn job(&self) -> Option<&str> {
        match self {
            AfterWork::Finish { job_id, .. }
            | AfterWork::Lost { job_id, .. }
            | AfterWork::Stopped { job_id, .. } => Some(job_id),
            AfterWork::Maintain { .. } | AfterWork::Enqueue { .. } => None,
        }
    }
}

/// All of it.
#[derive(Debug, Default)]
pub(super) struct Hand {
    pub jobs: HashMap<i64, Held>,
    /// Found of claims whose answer never came, and more than the pool had room for: the next claims hand them out.
    pub recovered: Vec<Claimed>,
    /// Taken, and to be failed: they can't be run.
    pub unreadable: Vec<Unreadable>,
    /// Queues of which a key is of another type, told once.
    pub unreadable_queues: BTreeSet<String>,
    /// The number of the newest claim.
    pub last: i64,
}

impl Hand {
    /// Whether a job may be taken whose claim came back: one at a time, until it has run for a moment.
    pub fn takes_returned(&self) -> bool {
        !self
            .jobs
            .values()
            .any(|held| held.returned && held.shown.is_none())
    }

    /// What was found of these queues, the oldest first, at most `room` of them.
    pub fn hand_out_recovered(&mut self, queues: &[QueueName], room: usize) -> Vec<Claimed> {
        let mut left = room;
        let is_taken = |job: &mut Claimed| {
            let is_taken = left > 0 && queues.contains(&job.job.queue);
            left -= usize::from(is_taken);
            is_taken
        };
        self.recovered.extract_if(.., is_taken).collect()
    }

    /// Numbers for the next `count` claims; the first one.
    pub fn numbers(&mut self, count: usize) -> i64 {
        let first = self.last + 1;
        self.last += i64::try_from(count).unwrap_or(i64::MAX - self.last);
        first
    }
}

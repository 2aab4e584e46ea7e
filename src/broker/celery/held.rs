//! What this handle has taken and not settled.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::envelope::with_chore;
use super::limits::Limits;
use super::mark::Mark;
use super::publish::Content;
use crate::broker::parts::after_work::Pending;
use crate::job::{Claimed, JobId, QueueName};
use crate::time::{Mono, Unix};

/// [`Job::kind`](crate::job::Job::kind) of a task whose final result its worker hands over.
pub(super) const KIND_TASK: u8 = 1;
/// Of a task that stores its result itself.
pub(super) const KIND_WHOLE: u8 = 2;
/// Of a chore.
pub(super) const KIND_CHORE: u8 = 3;

/// One message in hand.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub job: JobId,
    pub queue: QueueName,
    pub task: Arc<str>,
    /// What its worker gets.
    pub payload: Arc<[u8]>,
    /// To Celery it is acknowledged when it begins.
    pub acks_early: bool,
    /// It may turn out that it is not due yet: it is acknowledged with its outcome.
    pub may_be_early: bool,
    /// Its worker is killed after so long.
    pub timeout: Option<Duration>,
    /// It was acknowledged: nothing of it is at the broker any more.
    pub is_acked: bool,
    /// It was settled or acknowledged once already, and no answer came, or not yet.
    pub tried: bool,
    /// It was not there when the lease was renewed: somebody else runs it.
    pub is_lost: bool,
    /// Somebody revoked it: it does not begin.
    pub is_revoked: bool,
    /// Somebody ended it by this signal while it ran.
    pub signal: Option<&'static str>,
    /// Workers that died with it.
    pub losses: u32,
    /// A chore ends it.
    pub has_chore: bool,
    /// Monitors are told of it.
    pub sends_events: bool,
    /// They were told that it began.
    pub is_told_begun: bool,
}

impl Held {
    /// By which signal somebody ended it, as Celery tells it.
    fn signal_number(&self) -> i32 {
        let signal = self.signal.and_then(|name| name.parse().ok());
        signal.unwrap_or(Signal::SIGTERM) as i32
    }
}

/// What is in hand under a number.
#[derive(Clone, Debug)]
pub(super) enum InHand {
    Message(Held),
    /// Ours: nothing of it is at the broker but the message that it ends.
    Chore(Pending<Chore>),
}

/// What only Celery's own code does right, in some worker.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Chore {
    /// The number of the message that it ends.
    pub of: i64,
    /// What is done.
    pub what: &'static str,
    pub queue: QueueName,
    /// What its worker gets: the message, and what is to be done about it.
    pub payload: Arc<[u8]>,
    /// What is stored of its task if Celery's own code can't.
    pub mark: Mark,
    /// It does not run again if it fails.
    pub is_once: bool,
}

/// Why a chore is needed.
#[derive(Clone, Copy, Debug)]
pub(super) enum Why {
    /// Its worker died with it, or could not say in Celery's words what happened; the raw wait status, where known.
    WorkerLost(Option<i32>),
    /// It ran longer than its hard limit.
    Timeout,
    /// It came too late.
    Expired,
    /// Somebody stopped it while it ran.
    Terminated,
    /// Somebody revoked it before it began.
    Revoked,
}

/// How a worker ended of which nobody knows.
const KILLED: i32 = -9;

/// A raw wait status as Python's `Process.exitcode` has it: an exit code, or minus a signal. Source: wait(2).
fn exit_status(raw: i32) -> i32 {
    match raw & 0x7f {
        0 => raw >> 8 & 0xff,
        signal => -signal,
    }
}

impl Chore {
    /// Says of these tasks, whose messages may be anywhere, that they were revoked. `number`: one of ours.
    pub fn mark_revoked(number: i64, ids: &[String], queue: QueueName) -> Self {
        let meta = json!({"headers": {}, "properties": {}, "chore": {"do": "mark_revoked", "ids": ids}});
        Chore {
            of: -number, // no message has such a number
            what: "mark_revoked",
            queue,
            payload: payload(&meta, b""),
            mark: Mark::Revoked("revoked"),
            is_once: false,
        }
    }

    /// Something that remote control asks of the application's own code: it answers. `number`: one of ours.
    pub fn command(number: i64, message: &Content, chore: &Value, queue: QueueName) -> Self {
        let meta = json!({
            "headers": {"compression": message.compression}, "properties": {}, "content_type": message.content_type,
            "content_encoding": message.encoding, "chore": chore,
        });
        Chore {
            of: -number, // no message has such a number
            what: "command",
            queue,
            payload: payload(&meta, &message.body),
            mark: Mark::Revoked("revoked"), // there is no task
            is_once: true,
        }
    }

    /// What ends this message. The words are those of docs/design-celery.md.
    pub fn new(of: i64, held: &Held, why: Why) -> Self {
        let acked = held.acks_early;
        let (what, chore, mark) = match why {
            Why::WorkerLost(status) => {
                let status = status.map_or(KILLED, exit_status);
                (
                    "worker_lost",
                    json!({"do": "worker_lost", "status": status, "acked": acked, "final": true}),
                    Mark::WorkerLost(status),
                )
            }
            Why::Timeout => {
                let seconds = held.timeout.map(|limit| limit.as_secs_f64());
                (
                    "timeout",
                    json!({"do": "timeout", "seconds": seconds, "acked": acked}),
                    Mark::Timeout(seconds.unwrap_or_default()),
                )
            }
            Why::Expired => (
                "revoked",
                json!({"do": "revoked", "expired": true}),
                Mark::Revoked("expired"),
            ),
            Why::Revoked => (
                "revoked",
                json!({"do": "revoked", "expired": false}),
                Mark::Revoked("revoked"),
            ),
            Why::Terminated => (
                "revoked",
                json!({"do": "revoked", "terminated": true, "signum": held.signal_number(), "expired": false, "acked": acked}),
                Mark::Revoked("terminated"),
            ),
        };
        Chore {
            of,
            what,
            queue: held.queue.clone(),
            payload: with_chore(&held.payload, &chore),
            mark,
            is_once: false,
        }
    }
}

/// What a worker gets: what is said of the body, and the body.
fn payload(meta: &Value, body: &[u8]) -> Arc<[u8]> {
    let meta = meta.to_string();
    let length = u32::try_from(meta.len()).unwrap_or(0).to_le_bytes();
    [&length[..], meta.as_bytes(), body].concat().into()
}

/// How a message comes to be run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Came {
    /// It was just taken.
    New,
    /// It waited for this time.
    Due(Unix),
    /// It waited until its task, which has this name, might begin again.
    Released(Arc<str>),
}

/// A message that need not wait any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Due {
    pub number: i64,
    pub queue: QueueName,
    pub came: Came,
}

/// All of it.
#[derive(Debug, Default)]
pub(super) struct Hand {
    pub all: HashMap<i64, InHand>,
    /// Found of claims whose answer never came, and more than there was room for: the next claims hand them out.
    pub recovered: Vec<Claimed>,
    /// Taken, and to be put aside: nobody can read them.
    pub unreadable: Vec<i64>,
    /// Not due yet.
    pub etas: Etas,
    /// May not begin yet, as too many of their task began.
    pub limits: Limits,
    /// Tasks that ran and ended, by name.
    pub ended: HashMap<Arc<str>, u64>,
    /// The number of the newest claim.
    pub last: i64,
}

impl Hand {
    /// Numbers for the next `count` claims; the first one.
    pub fn numbers(&mut self, count: usize) -> i64 {
        let first = self.last + 1;
        self.last += i64::try_from(count).unwrap_or(i64::MAX - self.last);
        first
    }

    /// All messages.
    pub fn messages(&self) -> impl Iterator<Item = &Held> {
        self.all.values().filter_map(|in_hand| match in_hand {
            InHand::Message(held) => Some(held),
            InHand::Chore(_) => None,
        })
    }

    pub fn messages_mut(&mut self) -> impl Iterator<Item = &mut Held> {
        self.all.values_mut().filter_map(|in_hand| match in_hand {
            InHand::Message(held) => Some(held),
            InHand::Chore(_) => None,
        })
    }

    pub fn message(&self, number: i64) -> Option<&Held> {
        match self.all.get(&number)? {
            InHand::Message(held) => Some(held),
            InHand::Chore(_) => None,
        }
    }

    pub fn message_mut(&mut self, number: i64) -> Option<&mut Held> {
        match self.all.get_mut(&number)? {
            InHand::Message(held) => Some(held),
            InHand::Chore(_) => None,
        }
    }

    /// Messages of which something is at the broker, with their numbers.
    pub fn unacked(&self) -> impl Iterator<Item = (i64, &Held)> {
        self.all.iter().filter_map(|(number, in_hand)| match in_hand {
            InHand::Message(held) if !held.is_acked && !held.is_lost => Some((*number, held)),
            _ => None,
        })
    }

    /// How many wait for their time.
    pub fn waiting(&self) -> usize {
        self.etas.len() + self.limits.len()
    }

    /// When the first one of these queues need not wait any more.
    pub fn next_due(&self, queues: &[QueueName], now: Unix, tick: Mono) -> Option<Duration> {
        let eta = self.etas.next(queues).map(|at| at.since(now));
        let token = self.limits.next(queues).map(|at| at.since(tick));
        eta.into_iter().chain(token).min()
    }

    /// Takes those of these queues that need not wait any more, at most `count`.
    pub fn take_due(&mut self, queues: &[QueueName], now: Unix, tick: Mono, count: usize) -> Vec<Due> {
        let etas = self.etas.take_due(queues, now, count).into_iter();
        let mut due: Vec<Due> = etas
            .map(|(eta, number, queue)| Due {
                number,
                queue,
                came: Came::Due(eta),
            })
            .collect();
        let limited = self.limits.take_due(queues, tick, count - due.len());
        due.extend(limited.into_iter().map(|(number, queue, task)| Due {
            number,
            queue,
            came: Came::Released(task),
        }));
        due
    }

    /// These could not be taken after all.
    pub fn put_back(&mut self, due: Vec<Due>, tick: Mono) {
        for Due { number, queue, came } in due.into_iter().rev() {
            match came {
                Came::New => unreachable!("message {number} waited for something"),
                Came::Due(eta) => self.etas.add(&queue, eta, number),
                Came::Released(task) => self.limits.put_back(&task, number, queue, tick),
            }
        }
    }

    /// Takes all that wait, with their queues.
    pub fn take_waiting(&mut self) -> Vec<(i64, QueueName)> {
        let mut all = self.etas.take_all();
        all.extend(self.limits.take_all());
        all
    }

    /// These are not ours any more.
    pub fn forget(&mut self, numbers: &HashSet<i64>) {
        numbers.iter().for_each(|number| drop(self.all.remove(number)));
        self.etas.forget(numbers);
        self.limits.forget(numbers);
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
}

/// Tasks that are not due yet: their messages stay at the broker, and of each only this is kept.
#[derive(Debug, Default)]
pub(super) struct Etas {
    of: HashMap<QueueName, BTreeSet<(Unix, i64)>>,
    /// Those whose score does not say yet when they are due.
    fresh: Vec<(Unix, i64)>,
}

impl Etas {
    pub fn add(&mut self, queue: &QueueName, eta: Unix, number: i64) {
        match self.of.get_mut(queue) {
            Some(of_queue) => of_queue.insert((eta, number)),
            None => self.of.entry(queue.clone()).or_default().insert((eta, number)),
        };
        self.fresh.push((eta, number));
    }

    /// One that waits elsewhere gets this time as its score.
    pub fn score(&mut self, at: Unix, number: i64) {
        self.fresh.push((at, number));
    }

    /// Takes those whose score does not say yet when they are due.
    pub fn take_fresh(&mut self) -> Vec<(Unix, i64)> {
        std::mem::take(&mut self.fresh)
    }

    /// That could not be said of these.
    pub fn not_scored(&mut self, fresh: &[(Unix, i64)]) {
        self.fresh.extend_from_slice(fresh);
    }

    /// How many there are of all queues.
    pub fn len(&self) -> usize {
        self.of.values().map(BTreeSet::len).sum()
    }

    /// All of them: when, and which number.
    pub fn all(&self) -> Vec<(Unix, i64)> {
        self.of.values().flatten().copied().collect()
    }

    /// How many there are of this queue.
    pub fn len_of(&self, queue: &QueueName) -> usize {
        self.of.get(queue).map_or(0, BTreeSet::len)
    }

    /// When the first one of these queues is due.
    pub fn next(&self, queues: &[QueueName]) -> Option<Unix> {
        let firsts = queues.iter().filter_map(|queue| self.of.get(queue)?.first());
        firsts.map(|(eta, _)| *eta).min()
    }

    /// Takes those of these queues that are due by now, the first due first, at most `count`.
    pub fn take_due(&mut self, queues: &[QueueName], now: Unix, count: usize) -> Vec<(Unix, i64, QueueName)> {
        let mut due = Vec::new();
        while due.len() < count {
            let firsts = queues
                .iter()
                .filter_map(|queue| Some((*self.of.get(queue)?.first()?, queue)));
            let next = firsts.min_by_key(|(first, _)| *first);
            let Some(((eta, number), queue)) = next.filter(|((eta, _), _)| *eta <= now) else {
                break;
            };
            if let Some(of_queue) = self.of.get_mut(queue) {
                of_queue.remove(&(eta, number));
            }
            due.push((eta, number, queue.clone()));
        }
        due
    }

    /// These do not wait any more.
    pub fn forget(&mut self, numbers: &HashSet<i64>) {
        for of_queue in self.of.values_mut() {
            of_queue.retain(|(_, number)| !numbers.contains(number));
        }
        self.fresh.retain(|(_, number)| !numbers.contains(number));
    }

    /// Takes all, with their queues.
    pub fn take_all(&mut self) -> Vec<(i64, QueueName)> {
        let all = self.of.drain().flat_map(|(queue, of_queue)| {
            of_queue
                .into_iter()
                .map(move |(_, number)| (number, queue.clone()))
        });
        all.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(name: &str) -> QueueName {
        QueueName::new(name).unwrap()
    }

    #[test]
    fn a_wait_status_is_told_as_python_tells_it() {
        assert_eq!([9, 0x8b, 3 << 8, 0].map(exit_status), [-9, -11, 3, 0]);
    }

    #[test]
    fn etas_come_due_in_their_order_for_who_serves_their_queue() {
        let (mail, other) = (queue("mail"), queue("other"));
        let mut etas = Etas::default();
        for (at, number) in [(30, 1), (10, 2), (20, 3)] {
            etas.add(&mail, Unix(at), number);
        }
        etas.add(&other, Unix(15), 4);
        assert_eq!((etas.len(), etas.len_of(&mail)), (4, 3));
        assert_eq!(etas.next(&[queue("none")]), None);
        let both = [mail.clone(), other.clone()];
        assert_eq!(etas.next(&both), Some(Unix(10)));
        let numbers = |due: Vec<(Unix, i64, QueueName)>| {
            due.into_iter().map(|(_, number, _)| number).collect::<Vec<_>>()
        };
        assert_eq!(numbers(etas.take_due(&both, Unix(20), 2)), [2, 4]);
        assert_eq!(numbers(etas.take_due(&both, Unix(20), 9)), [3]);
        assert_eq!(numbers(etas.take_due(&both, Unix(20), 9)), [0i64; 0]);
        assert_eq!(etas.take_all(), [(1, mail)]);
        assert_eq!(etas.len(), 0);
    }
}

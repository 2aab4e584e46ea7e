//! Deliveries that have not ended: where each stands at the server, and what becomes of it when its channel is lost.
//!
//! A server delivers anew what was not acknowledged on a channel that is lost. Of what the supervisor has, the copy must not
//! run: it takes the place of the first delivery, whatever becomes of that. The source does not know what workers have read
//! a moment ago, so it recalls what has not begun, and the supervisor settles all. Of what was acknowledged or rejected just
//! before, nobody knows whether the server heard that: it is told again of a copy.

#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use crate::job::{Job, JobId, PoolName, Token};
use crate::time::{Mono, Unix};

/// Ends that are remembered, of which the server may not have heard, or which it may not have written. A classic queue that
/// is never still writes after so many. Source: RabbitMQ's `queue_index_max_journal_entries`.
const ENDED_MAX: usize = 32_768;
/// How long a copy may take to come that is known by such an end.
const DOUBT: Duration = Duration::from_secs(600);

/// What tells a message from others: a retry has the same id.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Identity {
    pub id: JobId,
    pub retries: u32,
    /// It comes out of the chain of delays: what went in there is another message.
    pub was_delayed: bool,
}

/// Where a delivery stands at the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub channel: u64,
    pub tag: u64,
    pub consumer: u64,
}

#[derive(Clone, Debug)]
pub(super) struct Taken {
    pub pool: PoolName,
    pub identity: Identity,
    /// How often it came back to its queue, as far as the server counts that.
    pub returns: u32,
    /// Not to run from then on.
    pub expires: Option<Unix>,
    /// Since when it may run.
    pub since: Mono,
    /// What its pool was given, for when that comes back.
    pub job: Option<Job>,
    /// `None`: it was acknowledged, or its channel is lost.
    pub place: Option<Place>,
    /// What the supervisor knows it by.
    pub token: Option<Token>,
    /// A worker has it, a chore ends it, or it is on its way into the chain of delays.
    pub has_begun: bool,
    /// Its channel is lost, and its copy did not come yet.
    pub is_orphan: bool,
    /// Its supervisor was told that it does not run.
    pub was_stopped: bool,
    /// Its supervisor was asked to give it back, if it has not begun.
    pub is_recalled: bool,
}

/// What was on a channel that is lost.
#[derive(Debug, Default)]
pub(super) struct Lost {
    /// Numbers of those that nobody had been given: they come again as new ones.
    pub forgotten: HashSet<i64>,
    /// Those of which nobody said that they have begun. Their supervisor gives them back, or they run on.
    pub recalled: Vec<Token>,
}

/// How a message ends at the server, whether it heard of that or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    Acknowledged,
    /// To the dead letters of its queue, if there are any.
    Rejected,
}

/// What a delivery is a copy of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CopyOf {
    Nothing,
    /// Of this one, which waits for it.
    Waiting(i64),
    /// Of one that has ended so.
    Ended(Ended),
}

#[derive(Debug, Default)]
pub(super) struct Deliveries {
    all: HashMap<i64, Taken>,
    /// Those that wait for a copy, the oldest first: somebody may have sent one task twice.
    waiting: HashMap<Identity, VecDeque<i64>>,
    /// Ended lately, and on which channel.
    ended: VecDeque<(u64, Identity, Ended)>,
    /// Ended on channels that are lost, and when these were.
    doubtful: HashMap<Identity, (Mono, Ended)>,
}

impl Deliveries {
    pub fn add(&mut self, number: i64, taken: Taken) {
        self.all.insert(number, taken);
    }

    pub fn get(&self, number: i64) -> Option<&Taken> {
        self.all.get(&number)
    }

    pub fn get_mut(&mut self, number: i64) -> Option<&mut Taken> {
        self.all.get_mut(&number)
    }

    /// It has ended.
    pub fn remove(&mut self, number: i64) -> Option<Taken> {
        let taken = self.all.remove(&number)?;
        if taken.is_orphan {
            self.waits_no_more(number, &taken.identity);
        }
        Some(taken)
    }

    fn waits_no_more(&mut self, number: i64, identity: &Identity) {
        if let Some(waiting) = self.waiting.get_mut(identity) {
            waiting.retain(|waits| *waits != number);
            if waiting.is_empty() {
                self.waiting.remove(identity);
            }
        }
    }

    /// The server is told that it has ended. Returns where it stood.
    pub fn end(&mut self, number: i64, how: Ended) -> Option<Place> {
        let taken = self.all.get_mut(&number)?;
        let place = taken.place.take()?;
        let identity = taken.identity.clone();
        self.note_end(place, identity, how);
        Some(place)
    }

    /// It has ended, with or without a word to the server. Returns where it stood.
    pub fn end_unheard(&mut self, number: i64, how: Ended, now: Mono) -> Option<Place> {
        let place = self.end(number, how);
        if let Some(taken) = self.remove(number).filter(|_| place.is_none()) {
            self.doubtful.insert(taken.identity, (now, how));
        }
        place
    }

    /// The server is told that what stands there has ended.
    pub fn note_end(&mut self, place: Place, identity: Identity, how: Ended) {
        if self.ended.len() == ENDED_MAX {
            self.ended.pop_front();
        }
        self.ended.push_back((place.channel, identity, how));
    }

    /// A channel is lost. What the supervisor has waits for its copy, and so does what a chore ends.
    pub fn lose(&mut self, channel: u64, now: Mono) -> Lost {
        self.doubtful.retain(|_, (since, _)| now.since(*since) < DOUBT);
        let (ended, others) = std::mem::take(&mut self.ended)
            .into_iter()
            .partition::<VecDeque<_>, _>(|(of, ..)| *of == channel);
        self.ended = others;
        let ended = ended.into_iter().map(|(_, identity, how)| (identity, (now, how)));
        self.doubtful.extend(ended);
        let mut lost = Lost::default();
        let mut numbers: Vec<i64> = self.all.keys().copied().collect();
        numbers.sort_unstable();
        for number in numbers {
            let Some(taken) = self.all.get_mut(&number) else {
                continue;
            };
            if taken.place.is_none_or(|place| place.channel != channel) {
                continue;
            }
            taken.place = None;
            if taken.token.is_none() && !taken.has_begun {
                self.all.remove(&number);
                lost.forgotten.insert(number);
                continue;
            }
            taken.is_orphan = true;
            let waiting = self.waiting.entry(taken.identity.clone()).or_default();
            waiting.push_back(number);
            if !taken.has_begun && !taken.is_recalled {
                taken.is_recalled = true;
                lost.recalled.extend(taken.token);
            }
        }
        lost
    }

    /// What this delivery is a copy of, which a server says that it made before.
    pub fn copy_of(&mut self, identity: &Identity, now: Mono) -> CopyOf {
        if let Some(number) = self.waiting.get(identity).and_then(VecDeque::front) {
            return CopyOf::Waiting(*number);
        }
        match self.doubtful.remove(identity) {
            Some((since, how)) if now.since(since) < DOUBT => CopyOf::Ended(how),
            _ => CopyOf::Nothing,
        }
    }

    /// Those that have not begun and are to be stopped; each is told once.
    pub fn tell_stopped(&mut self, is_stopped: impl Fn(i64) -> bool) -> Vec<Token> {
        let mut told = Vec::new();
        for (number, taken) in &mut self.all {
            if !taken.has_begun && !taken.was_stopped && is_stopped(*number) {
                taken.was_stopped = taken.token.is_some();
                told.extend(taken.token);
            }
        }
        told
    }

    /// The copy, which came for this pool, takes the place of what waits for it.
    pub fn adopt(&mut self, number: i64, pool: &PoolName, place: Place, returns: u32) {
        let Some(taken) = self.all.get_mut(&number) else {
            return;
        };
        (taken.place, taken.is_orphan) = (Some(place), false);
        taken.pool.clone_from(pool);
        taken.returns = returns;
        let identity = taken.identity.clone();
        self.waits_no_more(number, &identity);
    }

    /// The supervisor gave it back, and has it no more. Returns what it was given, to be given again.
    pub fn given_back(&mut self, number: i64) -> Option<Job> {
        let taken = self.all.get_mut(&number)?;
        (taken.token, taken.was_stopped, taken.is_recalled) = (None, false, false);
        taken.job.take()
    }
}

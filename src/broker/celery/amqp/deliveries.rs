//! Deliveries that have not ended: where each stands at the server, and what becomes of it when its channel is lost.
//!
//! A server delivers anew what was not acknowledged on a channel that is lost. Of what runs meanwhile the copy must not run:
//! it takes the place of the first delivery. Of what was acknowledged just before, nobody knows whether the server heard
//! that: a copy is acknowledged, too.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use crate::job::{Job, JobId, PoolName, Token};
use crate::time::{Mono, Unix};

/// Acknowledgements that are remembered, of which the server may not have heard.
const ACKED_MAX: usize = 4096;
/// How long a copy may take to come that is known by such an acknowledgement.
const DOUBT: Duration = Duration::from_secs(600);

/// What tells a message from others: a retry has the same id.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Identity {
    pub id: JobId,
    pub retries: u32,
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
    /// A worker has it, or a chore ends it.
    pub has_begun: bool,
    /// Its channel is lost, and its copy did not come yet.
    pub is_orphan: bool,
    /// Its supervisor was told that it does not run.
    pub was_stopped: bool,
}

/// What a delivery is a copy of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CopyOf {
    Nothing,
    /// Of this one, which waits for it.
    Waiting(i64),
    /// Of one that has ended.
    Ended,
}

#[derive(Debug, Default)]
pub(super) struct Deliveries {
    all: HashMap<i64, Taken>,
    waiting: HashMap<Identity, i64>,
    /// Acknowledged lately, and on which channel.
    acked: VecDeque<(u64, Identity)>,
    /// Acknowledged on channels that are lost, and when these were.
    doubtful: HashMap<Identity, Mono>,
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
            self.waiting.remove(&taken.identity);
        }
        Some(taken)
    }

    /// It is acknowledged. Returns where it stood.
    pub fn acknowledge(&mut self, number: i64) -> Option<Place> {
        let taken = self.all.get_mut(&number)?;
        let place = taken.place.take()?;
        if self.acked.len() == ACKED_MAX {
            self.acked.pop_front();
        }
        self.acked.push_back((place.channel, taken.identity.clone()));
        Some(place)
    }

    /// A channel is lost. What has begun waits for its copy; returned are those that have not: they are nobody's now.
    pub fn lose(&mut self, channel: u64, now: Mono) -> Vec<(i64, Taken)> {
        self.doubtful.retain(|_, since| now.since(*since) < DOUBT);
        let (acked, others) = std::mem::take(&mut self.acked)
            .into_iter()
            .partition(|(of, _)| *of == channel);
        self.acked = others;
        let acked: VecDeque<(u64, Identity)> = acked;
        self.doubtful
            .extend(acked.into_iter().map(|(_, identity)| (identity, now)));
        let is_lost = |taken: &Taken| taken.place.is_some_and(|place| place.channel == channel);
        for (number, taken) in self.all.iter_mut().filter(|(_, taken)| is_lost(taken)) {
            if taken.has_begun {
                (taken.place, taken.is_orphan) = (None, true);
                self.waiting.insert(taken.identity.clone(), *number);
            }
        }
        let mut void: Vec<_> = self.all.extract_if(|_, taken| is_lost(taken)).collect();
        void.sort_by_key(|(number, _)| *number);
        void
    }

    /// What this delivery is a copy of, which a server says that it made before.
    pub fn copy_of(&mut self, identity: &Identity, now: Mono) -> CopyOf {
        if let Some(number) = self.waiting.get(identity) {
            return CopyOf::Waiting(*number);
        }
        match self.doubtful.remove(identity) {
            Some(since) if now.since(since) < DOUBT => CopyOf::Ended,
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

    /// The copy takes the place of what waits for it.
    pub fn adopt(&mut self, number: i64, place: Place) {
        if let Some(taken) = self.all.get_mut(&number) {
            self.waiting.remove(&taken.identity);
            (taken.place, taken.is_orphan) = (Some(place), false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(id: &str, tag: u64, has_begun: bool) -> Taken {
        Taken {
            pool: PoolName::new("default").unwrap(),
            identity: identity(id, 0),
            returns: 0,
            expires: None,
            since: Mono::default(),
            job: None,
            place: Some(place(1, tag)),
            token: Some(Token(tag)),
            has_begun,
            is_orphan: false,
            was_stopped: false,
        }
    }

    fn identity(id: &str, retries: u32) -> Identity {
        Identity {
            id: JobId::new(id).unwrap(),
            retries,
        }
    }

    fn place(channel: u64, tag: u64) -> Place {
        Place {
            channel,
            tag,
            consumer: 1,
        }
    }

    #[test]
    fn what_has_begun_waits_for_its_copy() {
        let (mut all, now) = (Deliveries::default(), Mono(0));
        all.add(1, taken("runs", 1, true));
        all.add(2, taken("waits", 2, false));
        let void = all.lose(1, now);
        assert_eq!(void.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [2]);
        assert_eq!(all.copy_of(&identity("waits", 0), now), CopyOf::Nothing);
        assert_eq!(
            all.copy_of(&identity("runs", 1), now),
            CopyOf::Nothing,
            "a retry is another message"
        );
        assert_eq!(all.copy_of(&identity("runs", 0), now), CopyOf::Waiting(1));
        all.adopt(1, place(2, 7));
        assert_eq!(all.copy_of(&identity("runs", 0), now), CopyOf::Nothing, "it came");
        assert_eq!(all.acknowledge(1), Some(place(2, 7)));
        assert!(all.remove(1).is_some() && all.remove(1).is_none());
    }

    #[test]
    fn a_copy_of_what_was_just_acknowledged_has_ended() {
        let (mut all, now) = (Deliveries::default(), Mono(0));
        all.add(1, taken("acked", 1, true));
        assert_eq!(all.acknowledge(1), Some(place(1, 1)));
        assert_eq!(all.acknowledge(1), None);
        all.remove(1);
        assert_eq!(
            all.copy_of(&identity("acked", 0), now),
            CopyOf::Nothing,
            "its channel is well"
        );
        assert!(all.lose(1, now).is_empty());
        assert_eq!(all.copy_of(&identity("acked", 0), now + DOUBT), CopyOf::Nothing);
        all.add(2, taken("acked", 2, true));
        all.acknowledge(2);
        all.lose(1, now);
        assert_eq!(all.copy_of(&identity("acked", 0), now), CopyOf::Ended);
        assert_eq!(
            all.copy_of(&identity("acked", 0), now),
            CopyOf::Nothing,
            "one copy comes"
        );
    }
}

//! Which deliveries have begun, as far as the broker is concerned.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::broker::source::StopHow;
use crate::job::Token;
use crate::time::Mono;

/// What has run for so long is noted at the broker as begun, and what has waited for so long is watched: most jobs are over
/// by then.
const MOMENT: Duration = Duration::from_millis(100);

/// How far a delivery is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Not known to have begun.
    Waits,
    /// It has begun.
    Begun,
    /// It has, and the broker is to know.
    Noted,
    /// It was called off so, and its supervisor was told.
    CalledOff(StopHow),
}

/// What is to be done about deliveries now.
#[derive(Debug, Default)]
pub(super) struct Due {
    /// To be noted as begun.
    pub note: Vec<Token>,
    /// To be watched, these and no others.
    pub watch: Option<Vec<Token>>,
}

/// Deliveries in hand, and since when each is at its stage.
#[derive(Debug)]
pub(super) struct Begins {
    /// Those that have begun are watched as well.
    watches_all: bool,
    jobs: BTreeMap<Token, (Stage, Mono)>,
    watched: BTreeSet<Token>,
    next: Option<Mono>,
}

impl Begins {
    pub fn new(watches_all: bool) -> Self {
        Begins {
            watches_all,
            jobs: BTreeMap::new(),
            watched: BTreeSet::new(),
            next: None,
        }
    }

    pub fn delivered(&mut self, token: Token, now: Mono) {
        self.set(token, Stage::Waits, now);
    }

    /// It has begun. If it was canceled, that came too late.
    pub fn began(&mut self, token: Token, now: Mono) {
        let stage = self.jobs.get(&token).map(|(stage, _)| *stage);
        if let Some(Stage::Waits | Stage::CalledOff(StopHow::IfNotBegun)) = stage {
            self.set(token, Stage::Begun, now);
            if !self.watches_all {
                self.watched.remove(&token);
            }
        }
    }

    /// Its supervisor was told that it was called off. One that has begun may be stopped for good even so.
    pub fn call_off(&mut self, token: Token, how: StopHow, now: Mono) {
        let stage = self.jobs.get(&token).map(|(stage, _)| *stage);
        if how == StopHow::IfNotBegun && matches!(stage, Some(Stage::Begun | Stage::Noted)) {
            return;
        }
        self.set(token, Stage::CalledOff(how), now);
        self.watched.remove(&token);
    }

    pub fn ended(&mut self, token: Token) {
        self.jobs.remove(&token);
        self.watched.remove(&token);
    }

    fn set(&mut self, token: Token, stage: Stage, now: Mono) {
        self.jobs.insert(token, (stage, now));
        self.next = self.next.or(Some(now + MOMENT));
    }

    /// Those noted that could not be noted are tried again.
    pub fn not_noted(&mut self, tokens: &[Token], now: Mono) {
        for token in tokens {
            if self.jobs.contains_key(token) {
                self.set(*token, Stage::Begun, now);
            }
        }
    }

    /// When something may be due.
    pub fn deadline(&self) -> Option<Mono> {
        self.next
    }

    /// Whether anything is watched.
    pub fn is_watching(&self) -> bool {
        !self.watched.is_empty()
    }

    /// The watch has ended.
    pub fn watch_ended(&mut self, now: Mono) {
        self.watched.clear();
        self.next = self.next.or(Some(now + MOMENT));
    }

    /// What is due by now.
    pub fn due(&mut self, now: Mono) -> Due {
        let mut due = Due::default();
        if self.next.is_none_or(|at| now < at) {
            return due;
        }
        self.next = None;
        let mut wanted = BTreeSet::new();
        for (token, (stage, since)) in &mut self.jobs {
            let is_old = *since + MOMENT <= now;
            if *stage == Stage::Begun && is_old {
                *stage = Stage::Noted;
                due.note.push(*token);
            }
            let is_watched = match stage {
                Stage::Waits => is_old,
                Stage::Begun | Stage::Noted => self.watches_all,
                Stage::CalledOff(_) => false,
            };
            if is_watched {
                wanted.insert(*token);
            }
            if !is_old {
                self.next = Some(now + MOMENT);
            }
        }
        if !wanted.is_subset(&self.watched) {
            due.watch = Some(wanted.iter().copied().collect());
            self.watched = wanted;
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_takes_long_is_noted_and_watched() {
        let mut begins = Begins::new(false);
        let start = Mono(0);
        (1..4).for_each(|token| begins.delivered(Token(token), start));
        begins.began(Token(1), start);
        begins.ended(Token(2));
        assert_eq!(begins.deadline(), Some(start + MOMENT));
        let due = begins.due(start + MOMENT);
        assert_eq!((due.note, due.watch), (vec![Token(1)], Some(vec![Token(3)])));
        assert_eq!(begins.deadline(), None, "nothing changes by itself");
        begins.not_noted(&[Token(1)], start + MOMENT);
        assert_eq!(begins.due(start + MOMENT * 2).note, [Token(1)]);
        begins.began(Token(3), start + MOMENT * 2);
        assert!(!begins.is_watching());
    }

    #[test]
    fn what_was_called_off_is_watched_no_more() {
        let mut begins = Begins::new(true);
        let start = Mono(0);
        begins.delivered(Token(1), start);
        begins.began(Token(1), start);
        assert_eq!(begins.due(start + MOMENT).watch, Some(vec![Token(1)]));
        begins.call_off(Token(1), StopHow::ForGood, start + MOMENT);
        begins.watch_ended(start + MOMENT);
        assert_eq!(begins.due(start + MOMENT * 2).watch, None);
    }

    #[test]
    fn what_was_canceled_too_late_is_noted_and_may_be_stopped() {
        let start = Mono(0);
        for heard_first in [true, false] {
            let mut begins = Begins::new(true);
            begins.delivered(Token(1), start);
            if heard_first {
                begins.began(Token(1), start);
            }
            begins.call_off(Token(1), StopHow::IfNotBegun, start);
            begins.began(Token(1), start);
            begins.watch_ended(start);
            let due = begins.due(start + MOMENT);
            assert_eq!((due.note, due.watch), (vec![Token(1)], Some(vec![Token(1)])));
        }
    }
}

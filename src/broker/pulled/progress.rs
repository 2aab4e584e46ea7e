//! How far running jobs are, on the way to the broker: the last word of each, seldom.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::job::{Progress, Token};
use crate::time::Mono;

/// The shortest time from one call to the next, for all jobs together.
const PAUSE: Duration = Duration::from_millis(500);

/// What the broker has not heard yet.
#[derive(Debug, Default)]
pub(super) struct News {
    last: BTreeMap<Token, Progress>,
    next: Mono,
    is_told: bool,
}

impl News {
    /// A job says how far it is.
    pub fn progressed(&mut self, of: Token, progress: Progress) {
        self.last.insert(of, progress);
    }

    /// Nobody needs to know any more.
    pub fn ended(&mut self, of: Token) {
        self.last.remove(&of);
    }

    /// When something is to be told.
    pub fn deadline(&self) -> Option<Mono> {
        (!self.is_told && !self.last.is_empty()).then_some(self.next)
    }

    /// What is to be told now; the call that does so is on its way until [`News::told`].
    pub fn due(&mut self, now: Mono) -> Vec<(Token, Progress)> {
        if self.deadline().is_none_or(|at| now < at) {
            return Vec::new();
        }
        self.is_told = true;
        self.next = now + PAUSE;
        std::mem::take(&mut self.last).into_iter().collect()
    }

    /// The call has ended, one way or the other.
    pub fn told(&mut self) {
        self.is_told = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn done(fraction: f64) -> Progress {
        Progress {
            fraction: Some(fraction),
            ..Progress::default()
        }
    }

    #[test]
    fn the_last_word_is_told_and_not_too_often() {
        let mut news = News::default();
        assert_eq!(news.deadline(), None);
        news.progressed(Token(1), done(0.1));
        news.progressed(Token(1), done(0.2));
        news.progressed(Token(2), done(0.5));
        news.ended(Token(2));
        let start = Mono(1);
        assert_eq!(news.due(start), [(Token(1), done(0.2))]);
        news.progressed(Token(1), done(0.3));
        assert_eq!(news.deadline(), None, "one call at a time");
        news.told();
        assert!(news.due(start).is_empty(), "too soon");
        assert_eq!(news.deadline(), Some(start + PAUSE));
        assert_eq!(news.due(start + PAUSE), [(Token(1), done(0.3))]);
    }
}

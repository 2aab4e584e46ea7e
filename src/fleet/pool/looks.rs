//! Looks at jobs that wait, between two scaling periods: when the policy of a pool without a free worker has them.
//!
//! Nothing here polls. Nobody is free, the pool could grow, and the last question is a while ago: in this state the first
//! job that waits leads to a look. If jobs are known to wait, the broker is asked at once; else its source says when one
//! does. Between two questions, what is known already is enough for a look when a dispatch leaves a job waiting.

use std::time::Duration;

use crate::fleet::Action;
use crate::time::Mono;

use super::{Context, Pool};

/// The broker is asked at most so often in a scaling period.
const QUESTIONS_A_PERIOD: u32 = 5;
/// And so often at most the policy looks at what is known.
const LOOKS_A_PERIOD: u32 = 50;

/// When one pool looks.
#[derive(Debug)]
pub(super) struct Looks {
    /// The broker may be asked from then on.
    next_question: Mono,
    /// That time has come: the first job that waits leads to a look.
    is_open: bool,
    /// The broker is being asked.
    is_asked: bool,
    /// The policy may look at what is known from then on.
    next: Mono,
    /// A job was left waiting: it looks at what is known.
    is_due: bool,
    /// Jobs have come since they were counted: how long the oldest at the broker has waited is not known.
    have_come: bool,
}

impl Looks {
    pub fn new(now: Mono) -> Self {
        Looks {
            next_question: now,
            is_open: false,
            is_asked: false,
            next: now,
            is_due: false,
            have_come: false,
        }
    }

    /// The broker has counted what waits.
    pub fn counted(&mut self) {
        self.have_come = false;
    }

    /// It has answered a question.
    pub fn answered(&mut self) {
        self.is_asked = false;
    }

    /// Jobs came from the broker.
    pub fn came(&mut self) {
        self.have_come = true;
    }

    pub fn have_come(&self) -> bool {
        self.have_come
    }

    /// The policy has looked. If what it wished was `refused`, it waits for as long as between two questions.
    pub fn looked(&mut self, refused: bool, period: Duration, now: Mono) {
        let parts = if refused {
            QUESTIONS_A_PERIOD
        } else {
            LOOKS_A_PERIOD
        };
        self.next = now + period / parts;
    }
}

impl Pool {
    /// Nobody is free for a job that waits, and there could be more workers. Those that start are free.
    fn is_short(&self, running: bool) -> bool {
        let target = self.size.target();
        let could_grow =
            self.size.looks() && self.serves(running) && (1..self.size.limits().1).contains(&target);
        could_grow && self.measures.meter().busy() >= target
    }

    /// When the broker may be asked, where that is waited for.
    pub(super) fn look_deadline(&self) -> Option<Mono> {
        let is_waited_for = self.is_short(true) && !self.looks.is_open && !self.looks.is_asked;
        is_waited_for.then_some(self.looks.next_question)
    }

    /// Whether the source is to say when a job waits.
    pub fn is_open_to_looks(&self, running: bool) -> bool {
        self.looks.is_open && !self.looks.is_asked && self.is_short(running)
    }

    /// The source says that a job waits.
    pub fn job_waits(&mut self, cx: &mut Context) {
        if self.is_open_to_looks(cx.running) {
            self.ask(cx);
        }
    }

    /// A dispatch is over, or time has passed: a job may have been left waiting.
    pub(super) fn look_if_left_waiting(&mut self, cx: &mut Context) {
        self.looks.is_open |= self.looks.next_question <= cx.now.mono;
        if !self.is_short(cx.running) || self.known_to_wait() == 0 {
            return;
        }
        self.looks.is_due |= self.looks.next <= cx.now.mono;
        if self.is_open_to_looks(cx.running) {
            self.ask(cx);
        }
    }

    /// Whether it looks at what is known, now.
    pub fn take_due_look(&mut self) -> bool {
        std::mem::take(&mut self.looks.is_due)
    }

    fn ask(&mut self, cx: &mut Context) {
        self.looks.is_asked = true;
        self.looks.is_open = false;
        self.looks.next_question = cx.now.mono + self.config.scaling_period / QUESTIONS_A_PERIOD;
        cx.act(Action::Look {
            pool: self.name.clone(),
        });
    }
}

#[cfg(test)]
mod tests;

//! After-work that waits for a worker: now, or after a pause.
//!
//! Who moves a piece from here to what is in hand, or back, holds that meanwhile, so that it is always in one of both.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::sync::futures::Notified;

/// Wait before after-work that failed is tried again: four times as long each time, up to the longest.
const PAUSE: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// After-work that waits for a worker, and how often it could not be done.
#[derive(Clone, Debug, PartialEq)]
pub struct Pending<W> {
    /// What is to be done.
    pub work: W,
    /// Workers that failed at it.
    pub failures: u32,
    /// Workers that died at it.
    pub losses: u32,
}

impl<W> From<W> for Pending<W> {
    fn from(work: W) -> Self {
        Pending {
            work,
            failures: 0,
            losses: 0,
        }
    }
}

/// What waits, for all who add to it or take from it.
#[derive(Debug)]
pub struct AfterWorks<W>(Arc<Waiting<W>>);

impl<W> Clone for AfterWorks<W> {
    fn clone(&self) -> Self {
        AfterWorks(Arc::clone(&self.0))
    }
}

impl<W> Default for AfterWorks<W> {
    fn default() -> Self {
        AfterWorks(Arc::new(Waiting {
            line: Mutex::new(Line {
                ready: VecDeque::new(),
                later: HashMap::new(),
            }),
            came: Notify::new(),
        }))
    }
}

#[derive(Debug)]
struct Waiting<W> {
    line: Mutex<Line<W>>,
    came: Notify,
}

#[derive(Debug)]
struct Line<W> {
    ready: VecDeque<Pending<W>>,
    /// Tried again after a pause, by the number of its last claim.
    later: HashMap<i64, Pending<W>>,
}

impl<W: Send + 'static> AfterWorks<W> {
    fn line(&self) -> MutexGuard<'_, Line<W>> {
        self.0.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Pieces that could be done now.
    pub fn count(&self) -> usize {
        self.line().ready.len()
    }

    /// Whether any waits, now or for later.
    pub fn holds_any(&self) -> bool {
        let line = self.line();
        !line.ready.is_empty() || !line.later.is_empty()
    }

    /// Whether this very piece waits, now or for later.
    pub fn holds(&self, work: &W) -> bool
    where
        W: PartialEq,
    {
        let line = self.line();
        let mut all = line.ready.iter().chain(line.later.values());
        all.any(|pending| pending.work == *work)
    }

    /// Ends when more has come; not what came before the call, once it is enabled.
    pub fn came(&self) -> Notified<'_> {
        self.0.came.notified()
    }

    /// New pieces, and whoever waits is woken.
    pub fn add(&self, works: Vec<W>) {
        if !works.is_empty() {
            self.line().ready.extend(works.into_iter().map(Pending::from));
            self.0.came.notify_waiters();
        }
    }

    /// A new piece of somebody who takes next: nobody is woken for it.
    pub fn add_own(&self, work: W) {
        self.line().ready.push_back(work.into());
    }

    /// The first pieces, so many at most.
    pub fn take(&self, most: usize) -> Vec<Pending<W>> {
        let mut line = self.line();
        let count = line.ready.len().min(most);
        line.ready.drain(..count).collect()
    }

    /// It was not begun: it is the next again.
    pub fn put_back(&self, pending: Pending<W>) {
        self.line().ready.push_front(pending);
    }

    /// It failed: it waits again after a pause that grows with each try.
    pub fn try_again(&self, number: i64, pending: Pending<W>) {
        let tries = pending.failures.saturating_add(pending.losses);
        let pause = PAUSE.saturating_mul(4u32.saturating_pow(tries.saturating_sub(1)));
        self.line().later.insert(number, pending);
        let all = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(pause.min(PAUSE_MAX)).await;
            let mut line = all.line();
            if let Some(pending) = line.later.remove(&number) {
                line.ready.push_back(pending);
                all.0.came.notify_waiters();
            }
        });
    }

    /// Nobody tries again: what waits for that is left.
    pub fn give_up_later(&self) -> Vec<Pending<W>> {
        std::mem::take(&mut self.line().later).into_values().collect()
    }
}

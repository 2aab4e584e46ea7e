//! What a schedule fires now, what it leaves out, and when to look again.

use super::{CatchUp, GRACE, Timing};
use crate::time::Unix;

/// Missed due times that are counted one by one: more than that is only "at least".
const MISSED_COUNT_MAX: usize = 1000;
/// Due times that one plan fires at the most. The rest follows at once.
const FIRINGS_MAX: usize = 1000;
/// By this factor a search goes further back, until it has found enough.
const FURTHER_BACK: i64 = 4;

/// What the broker knows of a schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// The last due time that was handled, or since when the schedule is known.
    pub mark: Unix,
    /// A due time that waits until the run before it has ended.
    pub held: Option<Unix>,
}

/// What is to be done with a schedule at an instant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Due times that were missed and are not fired, as far as they were counted.
    pub missed: u64,
    /// The last of them.
    pub missed_until: Option<Unix>,
    /// Due times to fire, in order.
    pub fire: Vec<Unix>,
    /// When to look again; `None`: never, it is not due any more.
    pub wake: Option<Unix>,
}

/// Plans the schedule of this name.
pub fn plan(timing: &Timing, name: &str, known: Known, now: Unix) -> Plan {
    let look = Look { timing, name, now };
    let counted = look.reached(known.mark, MISSED_COUNT_MAX);
    if counted.is_empty() && known.held.is_none() {
        return Plan {
            wake: look.wake(known.mark),
            ..Plan::default()
        };
    }
    let reached = if counted.len() < MISSED_COUNT_MAX {
        counted.clone()
    } else {
        look.newest(known.mark)
    };
    let last = reached.last().copied();
    let (missed, kept) = match known.held {
        // One run stands for all that came while it waited.
        Some(held) => (&[][..], vec![last.map_or(held, |last| last.max(held))]),
        None => look.choose(&reached),
    };
    let (missed, mut kept) = (missed.to_vec(), kept);
    let left = kept.len() > FIRINGS_MAX;
    kept.truncate(FIRINGS_MAX);
    let is_missed = |due: &&Unix| missed.last().is_some_and(|last| *due <= last);
    Plan {
        missed: counted.iter().filter(is_missed).count() as u64,
        missed_until: missed.last().copied(),
        wake: if left {
            Some(now)
        } else {
            look.wake(last.unwrap_or(known.mark).max(known.mark))
        },
        fire: kept,
    }
}

/// One schedule at one instant.
struct Look<'a> {
    timing: &'a Timing,
    name: &'a str,
    now: Unix,
}

impl Look<'_> {
    fn fires_at(&self, due: Unix) -> Unix {
        self.timing.fires_at(self.name, due)
    }

    /// When the next due time fires.
    fn wake(&self, mark: Unix) -> Option<Unix> {
        self.timing.rule.next_after(mark).map(|due| self.fires_at(due))
    }

    /// The first `most` due times after `mark` that fire by now. They fire in order, so the first one that does not ends them.
    fn reached(&self, mark: Unix, most: usize) -> Vec<Unix> {
        let dues = std::iter::successors(self.timing.rule.next_after(mark), |due| {
            self.timing.rule.next_after(*due)
        });
        dues.take_while(|due| self.fires_at(*due) <= self.now)
            .take(most)
            .collect()
    }

    /// Due times after `mark` that fire by now: all that are on time, and before them at least as many as may be caught up.
    fn newest(&self, mark: Unix) -> Vec<Unix> {
        let wanted = self.timing.catch_up_max.max(1) as usize;
        let on_time = GRACE + self.timing.jitter;
        let mut back = i64::try_from(on_time.as_millis()).unwrap_or(i64::MAX);
        loop {
            let from = Unix(self.now.0.saturating_sub(back)).max(mark);
            let found = self.reached(from, usize::MAX);
            let missed = found.iter().filter(|due| self.is_missed(**due)).count();
            if from == mark || missed >= wanted {
                return found;
            }
            back = back.saturating_mul(FURTHER_BACK);
        }
    }

    /// Whether it is too late for this one, had it drawn the longest jitter: it may have had to wait for the one before it.
    fn is_missed(&self, due: Unix) -> bool {
        due + self.timing.jitter + GRACE < self.now
    }

    /// Parts what was reached into what is left out and what is fired.
    fn choose<'r>(&self, reached: &'r [Unix]) -> (&'r [Unix], Vec<Unix>) {
        let missed = reached.partition_point(|due| self.is_missed(*due));
        let caught_up = match self.timing.catch_up {
            CatchUp::None => 0,
            // A run that is on time stands for those before it.
            CatchUp::Last => usize::from(missed == reached.len()).min(missed),
            CatchUp::All => missed.min(self.timing.catch_up_max as usize),
        };
        let (left_out, fire) = reached.split_at(missed - caught_up);
        (left_out, fire.to_vec())
    }
}

//! How far a native task says that it is, on its way to the supervisor.

use std::cell::Cell;
use std::fmt;
use std::rc::Rc;

use crate::job::Progress;
use crate::time::Mono;

/// Calls in a row that are all told, and how many a second are told for ever: a loop may tell each of a million rows.
const BURST: f64 = 10.0;
const A_SECOND: f64 = 10.0;

/// Sends how far an execution is. Whether anybody hears it does not matter to the job.
pub type Tell = Rc<dyn Fn(u64, &Progress)>;

/// Says which of many calls are told, and tells those.
#[derive(Default)]
pub(super) struct Reporter {
    tell: Option<Tell>,
    /// Calls that may be told at once, at a time.
    left: Cell<(f64, Mono)>,
}

impl Reporter {
    pub fn new(tell: Tell) -> Self {
        Reporter {
            tell: Some(tell),
            left: Cell::new((BURST, Mono::default())),
        }
    }

    /// Tells it of these executions, unless too much was told just now.
    pub fn report(&self, executions: &[u64], progress: &Progress, now: Mono) {
        let Some(tell) = &self.tell else { return };
        let (left, at) = self.left.get();
        let left = (left + now.since(at).as_secs_f64() * A_SECOND).min(BURST);
        let is_told = left >= 1.0;
        self.left.set((if is_told { left - 1.0 } else { left }, now));
        if is_told {
            executions.iter().for_each(|execution| tell(*execution, progress));
        }
    }
}

impl fmt::Debug for Reporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reporter").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::time::Duration;

    #[test]
    fn of_many_calls_in_a_row_some_are_left_out() {
        let told = Rc::new(RefCell::new(Vec::new()));
        let into = Rc::clone(&told);
        let reporter = Reporter::new(Rc::new(move |execution, _: &Progress| {
            into.borrow_mut().push(execution);
        }));
        let second = Duration::from_secs(1).as_nanos() as u64;
        for call in 0..100 {
            reporter.report(&[call], &Progress::default(), Mono(second));
        }
        assert_eq!(*told.borrow(), Vec::from_iter(0..10));
        reporter.report(&[100, 101], &Progress::default(), Mono(2 * second));
        assert_eq!(told.borrow()[10..], [100, 101]);
    }
}

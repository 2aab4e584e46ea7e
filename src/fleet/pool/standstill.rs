//! Whether a pool stands still: jobs wait, and nobody runs any.

/// Ends of periods at which it was so: at the first one workers may be about to begin.
const PERIODS: u32 = 2;

/// Looked at once a scaling period.
#[derive(Debug, Default)]
pub(super) struct Standstill {
    periods: u32,
    /// Executions that had ended at the last look.
    ended: u64,
}

impl Standstill {
    /// At the end of a period: whether jobs wait that nobody keeps from running, whether a worker is busy, and how many
    /// executions have ended in all.
    pub fn look(&mut self, jobs_wait: bool, is_busy: bool, ended: u64) {
        let stands = jobs_wait && !is_busy && ended == self.ended;
        self.periods = if stands { self.periods.saturating_add(1) } else { 0 };
        self.ended = ended;
    }

    /// Whether it was so long enough to be a fault.
    pub fn lasts(&self) -> bool {
        self.periods >= PERIODS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_lasts_from_the_second_period_on() {
        let mut standstill = Standstill::default();
        standstill.look(true, false, 0);
        assert!(!standstill.lasts());
        standstill.look(true, false, 0);
        assert!(standstill.lasts());
        standstill.look(true, true, 0);
        assert!(!standstill.lasts());
    }

    #[test]
    fn jobs_that_end_between_two_looks_are_work() {
        let mut standstill = Standstill::default();
        for ended in 1..5 {
            standstill.look(true, false, ended);
            assert!(!standstill.lasts());
        }
        standstill.look(false, false, 4);
        standstill.look(false, false, 4);
        assert!(!standstill.lasts());
    }
}

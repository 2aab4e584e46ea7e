//! When outcomes go to the broker: at once, or together with the next ones.
//!
//! A call costs a broker as much as several outcomes do. What ends while a call is on its way goes with the
//! next one, which is enough where jobs are short. Where a job takes longer than a call, each would have a call
//! of its own; so on a pool that has more to do than it can do at once, outcomes wait a moment for each other.

use std::time::Duration;

use super::prefetch;
use crate::time::Mono;

/// An outcome waits no longer than this: as long as a job may be held behind others.
pub const PATIENCE: Duration = prefetch::HORIZON;
/// So many outcomes are worth a call: more of them make each hardly cheaper, and where jobs are short the broker, which
/// is the limit there, must not wait for them.
pub const ENOUGH: usize = 16;

/// Until when the outcomes that are here wait for more; `None`: they go now.
///
/// `here`: how many there are. `last_call`: when the broker got the ones before. `is_behind`: each is of a pool
/// for which further jobs are at hand, so that whoever waits for one of them waits for its turn, not for this.
pub fn wait_until(here: usize, last_call: Option<Mono>, is_behind: bool, now: Mono) -> Option<Mono> {
    let until = last_call? + PATIENCE;
    (is_behind && here < ENOUGH && now < until).then_some(until)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAST: Option<Mono> = Some(Mono(1_000_000_000));
    const SOON: Mono = Mono(1_001_000_000);

    #[test]
    fn a_pool_with_nothing_else_at_hand_waits_for_nothing() {
        assert_eq!(wait_until(1, LAST, false, SOON), None);
    }

    #[test]
    fn the_first_outcome_for_a_while_goes_at_once() {
        assert_eq!(wait_until(1, None, true, SOON), None);
        assert_eq!(wait_until(1, LAST, true, Mono(1_010_000_000)), None);
    }

    #[test]
    fn those_behind_it_go_together_a_moment_later() {
        for here in [1, ENOUGH - 1] {
            assert_eq!(wait_until(here, LAST, true, SOON), Some(Mono(1_010_000_000)));
        }
        assert_eq!(wait_until(ENOUGH, LAST, true, SOON), None);
    }
}

//! How long records are kept, and how many.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::time::Unix;

use super::record::Record;

/// Decisions are kept for so long.
pub(super) const DECISIONS: Duration = Duration::from_secs(3600);
/// And so many of a pool at most: short periods must not make a large file.
const DECISIONS_MAX: usize = 5000;
/// Steps are kept for so long.
const STEPS: Duration = Duration::from_secs(7 * 24 * 3600);

/// Those of these records that are still kept, in their order; the last ones are the newest.
pub fn kept(mut records: Vec<Record>, now: Unix) -> Vec<Record> {
    let mut decisions: BTreeMap<String, usize> = BTreeMap::new();
    let mut is_kept = |record: &Record| {
        let age = now.since(record.at());
        match record {
            Record::Step(_) => age <= STEPS,
            Record::Decision(decided) => {
                let newer = decisions.entry(decided.pool.clone()).or_default();
                *newer += 1;
                age <= DECISIONS && *newer <= DECISIONS_MAX
            }
        }
    };
    records.reverse();
    records.retain(&mut is_kept);
    records.reverse();
    records
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::snapshot::Decision;
    use crate::telemetry::history::record::{Decided, Step};

    const NOW: Unix = Unix(1_700_000_000_000);

    fn decision(ago_s: i64) -> Record {
        Record::Decision(Decided {
            pool: "default".into(),
            decision: Decision {
                at: Unix(NOW.0 - ago_s * 1000),
                ..Decision::default()
            },
            queues: Vec::new(),
        })
    }

    fn step(ago_s: i64) -> Record {
        Record::Step(Step {
            pool: "default".into(),
            at: Unix(NOW.0 - ago_s * 1000),
            ..Step::default()
        })
    }

    #[test]
    fn an_hour_of_decisions_and_a_week_of_steps_are_kept() {
        let day_s = 24 * 3600;
        let records = vec![
            step(8 * day_s),
            step(6 * day_s),
            decision(3601),
            decision(3599),
            decision(0),
        ];
        let left = vec![step(6 * day_s), decision(3599), decision(0)];
        assert_eq!(kept(records, NOW), left);
    }

    #[test]
    fn of_very_many_decisions_the_newest_are_kept() {
        let records: Vec<Record> = (0..6000).rev().map(|at| decision(at / 10)).collect();
        let left = kept(records, NOW);
        assert_eq!((left.len(), left.last()), (DECISIONS_MAX, Some(&decision(0))));
    }
}

//! Decisions become steps of five minutes.

use std::collections::BTreeMap;

use crate::fleet::snapshot::QueueFlow;
use crate::time::Unix;

use super::record::{Decided, Record, Step};

/// The length of a step.
pub const STEP_S: u32 = 300;
/// Longest time between two periods that counts as seen.
const GAP_S_MAX: f64 = 120.0;

/// The steps that are not over, one for each pool.
#[derive(Debug, Default)]
pub struct Steps {
    open: BTreeMap<String, Open>,
}

#[derive(Debug)]
struct Open {
    step: Step,
    /// When the last period of the pool ended.
    seen: Option<Unix>,
}

/// Where the step begins that this instant is in.
pub fn start_of(at: Unix) -> Unix {
    let length_ms = i64::from(STEP_S) * 1000;
    Unix(at.0.div_euclid(length_ms) * length_ms)
}

impl Steps {
    /// Takes in a decision. Returns the pool's step that is over, if it is the first decision behind one.
    pub fn add(&mut self, decided: &Decided) -> Option<Step> {
        let start = start_of(decided.decision.at);
        let over = match self.open.get(&decided.pool) {
            Some(open) if open.step.at >= start => None,
            Some(_) => self.open.remove(&decided.pool),
            None => None,
        };
        let seen = over.as_ref().and_then(|open| open.seen);
        let open = self.open.entry(decided.pool.clone()).or_insert_with(|| Open {
            step: Step {
                pool: decided.pool.clone(),
                at: start,
                seconds: STEP_S,
                workers_min: u32::MAX,
                ..Step::default()
            },
            seen,
        });
        open.add(decided);
        over.map(|open| open.step)
    }
}

impl Steps {
    /// Goes on with the steps that were not over, from the records of a file. Returns those that are over and not in it.
    pub fn take_up(&mut self, records: &[Record]) -> Vec<Step> {
        let mut written: BTreeMap<&str, Unix> = BTreeMap::new();
        for record in records {
            if let Record::Step(step) = record {
                let last = written.entry(&step.pool).or_insert(step.at);
                *last = step.at.max(*last);
            }
        }
        let is_open = |decided: &&Decided| {
            let written = written.get(decided.pool.as_str());
            written.is_none_or(|written| start_of(decided.decision.at) > *written)
        };
        let decisions = records.iter().filter_map(|record| match record {
            Record::Decision(decided) => Some(decided),
            Record::Step(_) => None,
        });
        decisions
            .filter(is_open)
            .filter_map(|decided| self.add(decided))
            .collect()
    }
}

impl Open {
    fn add(&mut self, decided: &Decided) {
        let (step, decision) = (&mut self.step, &decided.decision);
        step.workers_min = step.workers_min.min(decision.from.min(decision.to));
        step.workers_max = step.workers_max.max(decision.from.max(decision.to));
        step.waiting_max = step.waiting_max.max(decision.waiting);
        step.oldest_waiting_s_max = step.oldest_waiting_s_max.max(decision.oldest_waiting_s);
        step.grew += u32::from(decision.to > decision.from);
        step.shrank += u32::from(decision.to < decision.from);
        if let Some(limit) = &decision.limit {
            *step.limits.entry(limit.clone()).or_default() += 1;
        }
        // What a look or changed limits come upon is in the middle of a period.
        if decision.occasion != "period" {
            return;
        }
        let since = self.seen.replace(decision.at).map(|seen| decision.at.since(seen));
        let passed_s = since.map_or(0.0, |since| since.as_secs_f64());
        if passed_s <= GAP_S_MAX {
            step.seen_s += passed_s;
            step.worker_s += passed_s * f64::from(decision.from);
            step.busy_s += passed_s * decision.busy_average.unwrap_or(0.0);
        }
        for flow in &decided.queues {
            match step.queues.iter_mut().find(|known| known.queue == flow.queue) {
                Some(known) => known.add(flow),
                None => step.queues.push(QueueFlow::clone(flow)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::snapshot::Decision;

    fn decided(at_s: i64, (from, to): (u32, u32), arrived: u64) -> Decided {
        let flow = QueueFlow {
            queue: "mail".into(),
            arrived,
            ended: arrived,
            service_s: arrived as f64 * 0.5,
            service_s2: arrived as f64 * 0.25,
        };
        Decided {
            pool: "default".into(),
            decision: Decision {
                at: Unix(at_s * 1000),
                from,
                to,
                occasion: "period".into(),
                busy_average: Some(1.0),
                ..Decision::default()
            },
            queues: vec![flow],
        }
    }

    #[test]
    fn decisions_of_five_minutes_add_up() {
        let mut steps = Steps::default();
        assert_eq!(steps.add(&decided(1200, (2, 2), 10)), None);
        assert_eq!(steps.add(&decided(1205, (2, 4), 20)), None);
        assert_eq!(steps.add(&decided(1210, (4, 3), 30)), None);
        let step = steps.add(&decided(1500, (3, 3), 1)).expect("it is over");
        assert_eq!(
            (step.at, step.seconds, step.seen_s),
            (Unix(1_200_000), STEP_S, 10.0)
        );
        assert_eq!((step.worker_s, step.busy_s), (5.0 * 2.0 + 5.0 * 4.0, 10.0));
        assert_eq!((step.workers_min, step.workers_max), (2, 4));
        assert_eq!((step.grew, step.shrank), (1, 1));
        let [mail] = &step.queues[..] else {
            panic!("{step:?}")
        };
        assert_eq!((mail.arrived, mail.ended, mail.service_s), (60, 60, 30.0));
        assert_eq!(mail.mean_s(), Some(0.5));
    }

    #[test]
    fn time_without_a_supervisor_is_not_seen() {
        let mut steps = Steps::default();
        steps.add(&decided(1200, (2, 2), 0));
        let step = steps.add(&decided(1600, (9, 9), 0)).expect("it is over");
        assert_eq!((step.seen_s, step.workers_max), (0.0, 2));
        let step = steps.add(&decided(9000, (2, 2), 0)).expect("it is over");
        assert_eq!((step.at, step.seen_s), (Unix(1_500_000), 0.0));
    }

    #[test]
    fn looks_are_no_periods() {
        let mut steps = Steps::default();
        steps.add(&decided(1200, (2, 2), 0));
        let mut look = decided(1202, (2, 9), 0);
        look.decision.occasion = "look".into();
        look.decision.limit = Some("max_workers".into());
        steps.add(&look);
        steps.add(&decided(1205, (9, 9), 0));
        let step = steps.add(&decided(1500, (9, 9), 0)).expect("it is over");
        assert_eq!((step.seen_s, step.grew, step.limits["max_workers"]), (5.0, 1, 1));
    }
}

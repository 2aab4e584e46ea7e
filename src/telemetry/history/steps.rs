//! Decisions become steps of five minutes.

use std::collections::BTreeMap;

use crate::fleet::snapshot::QueueFlow;
use crate::time::Unix;

use super::record::{Decided, QueueStep, Record, SLOT_S, Step};

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
    /// The steps of a file, in their order: those that are over, and the present ones as far as decisions tell of them.
    pub fn of(records: Vec<Record>) -> Vec<Step> {
        let mut open = Steps::default();
        let over = open.take_up(&records);
        let written = records.into_iter().filter_map(|record| match record {
            Record::Step(step) => Some(step),
            Record::Decision(_) => None,
        });
        let open = open.open.into_values().map(|open| open.step);
        let mut steps: Vec<Step> = written.chain(over).chain(open).collect();
        steps.sort_by_key(|step| step.at);
        steps
    }

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
        let to = if decision.dry_run {
            decision.from
        } else {
            decision.to
        };
        step.workers_min = step.workers_min.min(decision.from.min(to));
        step.workers_max = step.workers_max.max(decision.from.max(to));
        step.waiting_max = step.waiting_max.max(decision.waiting);
        let oldest_s = decision.oldest_waiting_s.unwrap_or(0.0);
        step.oldest_waiting_s_max = step.oldest_waiting_s_max.max(oldest_s);
        step.grew += u32::from(to > decision.from);
        step.shrank += u32::from(to < decision.from);
        if let Some(limit) = &decision.limit {
            *step.limits.entry(limit.clone()).or_default() += 1;
        }
        // What a look or changed limits come upon is in the middle of a period.
        if decision.occasion != "period" {
            return;
        }
        let since = self.seen.replace(decision.at);
        let passed_s = since.map_or(0.0, |seen| decision.at.since(seen).as_secs_f64());
        if passed_s <= GAP_S_MAX {
            step.seen_s += passed_s;
            step.worker_s += passed_s * f64::from(decision.from);
            step.busy_s += passed_s * decision.busy_average.unwrap_or(0.0);
        }
        for flow in &decided.queues {
            let place = step
                .queues
                .iter()
                .position(|known| known.flow.queue == flow.queue);
            let place = place.unwrap_or_else(|| {
                step.queues.push(QueueStep {
                    flow: QueueFlow {
                        queue: flow.queue.clone(),
                        ..QueueFlow::default()
                    },
                    arrivals: Vec::new(),
                });
                step.queues.len() - 1
            });
            let queue = &mut step.queues[place];
            queue.flow.add(flow);
            let from = since.unwrap_or(decision.at);
            count_arrivals(&mut queue.arrivals, flow.arrived, step.at, (from, decision.at));
        }
    }
}

/// Adds what arrived evenly from one instant to another to the slots of the step that begins at `start`. What arrived before
/// the step counts in its first slot.
fn count_arrivals(slots: &mut Vec<u64>, arrived: u64, start: Unix, (from, until): (Unix, Unix)) {
    if arrived == 0 {
        return;
    }
    let slot_ms = i64::from(SLOT_S) * 1000;
    let last_slot = i64::from(STEP_S / SLOT_S) - 1;
    // An instant at the end of a slot belongs to it: periods are as long as slots, and end there.
    let slot_of = |at: Unix| ((at.0 - start.0 - 1).div_euclid(slot_ms)).clamp(0, last_slot);
    let (first, last) = (slot_of(from.max(start)), slot_of(until));
    let until_slot = |slot: i64| {
        if slot >= last {
            return arrived;
        }
        let passed_ms = (start.0 + (slot + 1) * slot_ms - from.0).max(0);
        let span_ms = (until.0 - from.0).max(1);
        (arrived as f64 * passed_ms as f64 / span_ms as f64) as u64
    };
    let mut counted = 0;
    for slot in first..=last {
        let more = until_slot(slot) - counted;
        counted += more;
        let place = usize::try_from(slot).unwrap_or(0);
        if more > 0 {
            slots.resize(slots.len().max(place + 1), 0);
            slots[place] += more;
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
        let flow = &mail.flow;
        assert_eq!((flow.arrived, flow.ended, flow.service_s), (60, 60, 30.0));
        assert_eq!(flow.mean_s(), Some(0.5));
        assert_eq!(mail.arrivals, [30, 30], "in slots of 5 s");
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
    fn arrivals_of_a_long_period_spread_over_its_slots() {
        let slots = |arrived, from_s: i64, until_s: i64| {
            let mut slots = Vec::new();
            let at = |second: i64| Unix(second * 1000);
            count_arrivals(&mut slots, arrived, at(300), (at(from_s), at(until_s)));
            slots
        };
        assert_eq!(slots(6, 300, 305), [6]);
        assert_eq!(slots(6, 305, 310), [0, 6]);
        assert_eq!(slots(6, 300, 315), [2, 2, 2]);
        assert_eq!(slots(10, 303, 313), [2, 5, 3]);
        assert_eq!(slots(1, 300, 315), [0, 0, 1]);
        assert_eq!(
            slots(9, 297, 303),
            [9],
            "what came before the step is in its first slot"
        );
        assert_eq!(slots(7, 305, 305), [7]);
        assert_eq!(slots(0, 300, 315), [] as [u64; 0]);
        assert_eq!(slots(600, 300, 600).len(), 60);
    }

    #[test]
    fn the_steps_of_a_file_include_those_that_go_on() {
        let record = |decided: Decided| Record::Decision(decided);
        let mut steps = Steps::default();
        steps.add(&decided(1200, (2, 2), 3));
        let over = steps.add(&decided(1500, (2, 2), 4)).expect("it is over");
        let records = vec![
            record(decided(1200, (2, 2), 3)),
            Record::Step(over.clone()),
            record(decided(1500, (2, 2), 4)),
            record(decided(1505, (2, 2), 5)),
        ];
        let steps = Steps::of(records);
        assert_eq!((steps.len(), &steps[0]), (2, &over));
        assert_eq!(
            (steps[1].at, steps[1].queues[0].flow.arrived),
            (Unix(1_500_000), 9)
        );
    }

    #[test]
    fn what_a_dry_run_would_do_is_no_change() {
        let mut steps = Steps::default();
        let mut dry = decided(1200, (2, 9), 0);
        dry.decision.dry_run = true;
        steps.add(&dry);
        let step = steps.add(&decided(1500, (2, 2), 0)).expect("it is over");
        assert_eq!((step.grew, step.workers_max), (0, 2));
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

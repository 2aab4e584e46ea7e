//! What passes through the queues of a pool from one scaling period to the next.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::fleet::snapshot::QueueFlow;
use crate::job::QueueName;

/// The flows of the present period.
#[derive(Debug, Default)]
pub(super) struct Flows {
    open: BTreeMap<QueueName, QueueFlow>,
    /// `None`: no period has ended yet.
    arrivals: Option<BTreeMap<QueueName, Arrivals>>,
}

/// Executions of one queue that wait or run now.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct There {
    /// All of them.
    pub all: u64,
    /// Those that came before the pool began, as far as that is known; counted once, at the end of the first period.
    pub before: u64,
}

/// How many executions have arrived in a queue since the pool began: all that ended, and what there is more of.
///
/// A count that comes late may have a job twice: as one that waits, and in hand. So what one period says is told when the
/// next one says it too, and never again.
#[derive(Debug, Default)]
struct Arrivals {
    /// Executions that waited or ran when the first period ended, and had been there before the pool.
    before: u64,
    ended: u64,
    /// By the last period's count.
    counted: u64,
    told: u64,
}

impl Arrivals {
    fn take(&mut self, ended: u64, there: u64) -> u64 {
        self.ended += ended;
        let counted = (self.ended + there).saturating_sub(self.before);
        let agreed = counted.min(std::mem::replace(&mut self.counted, counted));
        let arrived = agreed.saturating_sub(self.told);
        self.told += arrived;
        arrived
    }
}

impl Flows {
    /// An execution ended.
    pub fn ran(&mut self, queue: &QueueName, took: Duration) {
        self.of(queue).ran(took.as_secs_f64());
    }

    /// The period ends. `there`: executions that wait or run now. What arrived is told one period later.
    pub fn take(&mut self, there: &BTreeMap<QueueName, There>) -> Vec<QueueFlow> {
        let arrivals = self.arrivals.get_or_insert_with(|| {
            let before = |(queue, there): (&QueueName, &There)| {
                let arrivals = Arrivals {
                    before: there.before,
                    ..Arrivals::default()
                };
                (queue.clone(), arrivals)
            };
            there.iter().map(before).collect()
        });
        let names: Vec<QueueName> = there.keys().chain(arrivals.keys()).cloned().collect();
        for queue in &names {
            self.of(queue);
        }
        let arrivals = self.arrivals.as_mut().expect("made above");
        let flows = std::mem::take(&mut self.open).into_iter().map(|(queue, flow)| {
            let there = there.get(&queue).map_or(0, |there| there.all);
            QueueFlow {
                arrived: arrivals.entry(queue).or_default().take(flow.ended, there),
                ..flow
            }
        });
        flows.filter(|flow| flow.arrived + flow.ended > 0).collect()
    }

    fn of(&mut self, queue: &QueueName) -> &mut QueueFlow {
        self.open.entry(queue.clone()).or_insert_with(|| QueueFlow {
            queue: queue.to_string(),
            ..QueueFlow::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(flows: &[QueueFlow]) -> Vec<(&str, u64, u64)> {
        let shown = flows.iter().map(|flow| (&*flow.queue, flow.arrived, flow.ended));
        shown.collect()
    }

    #[test]
    fn what_arrived_is_what_ended_and_what_there_is_more_of() {
        let (mail, web) = (QueueName::new("mail").unwrap(), QueueName::new("web").unwrap());
        let were_there = |all| There { all, before: all };
        let there = |mail_jobs, web_jobs| {
            BTreeMap::from([
                (mail.clone(), were_there(mail_jobs)),
                (web.clone(), were_there(web_jobs)),
            ])
        };
        let mut flows = Flows::default();
        assert_eq!(
            flows.take(&there(50, 0)),
            [],
            "what was there before did not arrive"
        );
        (0..4).for_each(|_| flows.ran(&mail, Duration::from_millis(500)));
        let passed = flows.take(&there(48, 3));
        assert_eq!(shown(&passed), [("mail", 0, 4)]);
        assert_eq!(
            (passed[0].mean_s(), passed[0].deviation_s()),
            (Some(0.5), Some(0.0))
        );
        let passed = flows.take(&there(48, 3));
        assert_eq!(
            shown(&passed),
            [("mail", 2, 0), ("web", 3, 0)],
            "one period later"
        );
        assert_eq!(flows.take(&there(48, 3)), []);
        assert_eq!(flows.take(&there(0, 0)), [], "somebody else took them");
    }

    #[test]
    fn what_came_within_the_first_period_arrived() {
        let mail = QueueName::new("mail").unwrap();
        let there = |all, before| BTreeMap::from([(mail.clone(), There { all, before })]);
        let mut flows = Flows::default();
        flows.ran(&mail, Duration::from_millis(300));
        assert_eq!(shown(&flows.take(&there(25, 5))), [("mail", 0, 1)]);
        assert_eq!(
            shown(&flows.take(&there(25, 0))),
            [("mail", 21, 0)],
            "and one ran"
        );
    }

    #[test]
    fn a_job_that_a_late_count_has_twice_arrived_once() {
        let mail = QueueName::new("mail").unwrap();
        let there = |all| BTreeMap::from([(mail.clone(), There { all, before: 0 })]);
        let mut flows = Flows::default();
        flows.take(&there(0));
        let mut arrived = 0;
        for (ended, waits_or_runs) in [(0, 21), (1, 19), (4, 17), (5, 10), (10, 0), (0, 0)] {
            (0..ended).for_each(|_| flows.ran(&mail, Duration::from_millis(300)));
            let passed = flows.take(&there(waits_or_runs));
            arrived += passed.iter().map(|flow| flow.arrived).sum::<u64>();
        }
        assert_eq!(arrived, 20);
    }
}

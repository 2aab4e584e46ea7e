//! What passes through the queues of a pool from one scaling period to the next.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::fleet::snapshot::QueueFlow;
use crate::job::QueueName;

/// The flows of the present period.
#[derive(Debug, Default)]
pub(super) struct Flows {
    open: BTreeMap<QueueName, QueueFlow>,
    /// Executions that waited or ran in each queue when the last period ended; `None`: there was none.
    before: Option<BTreeMap<QueueName, u64>>,
}

impl Flows {
    /// An execution ended.
    pub fn ran(&mut self, queue: &QueueName, took: Duration) {
        self.of(queue).ran(took.as_secs_f64());
    }

    /// The period ends. `there`: executions that wait or run now. What has arrived follows from it: all that ended, and
    /// what there is more of.
    pub fn take(&mut self, there: BTreeMap<QueueName, u64>) -> Vec<QueueFlow> {
        let before = self.before.take().unwrap_or_else(|| there.clone());
        let names: Vec<QueueName> = there.keys().chain(before.keys()).cloned().collect();
        for queue in &names {
            self.of(queue);
        }
        let flows = std::mem::take(&mut self.open).into_iter().map(|(queue, flow)| {
            let count = |of: &BTreeMap<QueueName, u64>| of.get(&queue).copied().unwrap_or(0);
            QueueFlow {
                arrived: (flow.ended + count(&there)).saturating_sub(count(&before)),
                ..flow
            }
        });
        let flows = flows.filter(|flow| flow.arrived + flow.ended > 0).collect();
        self.before = Some(there);
        flows
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

    #[test]
    fn what_arrived_is_what_ended_and_what_there_is_more_of() {
        let (mail, web) = (QueueName::new("mail").unwrap(), QueueName::new("web").unwrap());
        let there =
            |mail_jobs, web_jobs| BTreeMap::from([(mail.clone(), mail_jobs), (web.clone(), web_jobs)]);
        let mut flows = Flows::default();
        assert_eq!(
            flows.take(there(50, 0)),
            [],
            "what was there before did not arrive"
        );
        (0..4).for_each(|_| flows.ran(&mail, Duration::from_millis(500)));
        let passed = flows.take(there(48, 3));
        let shown: Vec<_> = passed
            .iter()
            .map(|flow| (&*flow.queue, flow.arrived, flow.ended))
            .collect();
        assert_eq!(shown, [("mail", 2, 4), ("web", 3, 0)]);
        assert_eq!(
            (passed[0].mean_s(), passed[0].deviation_s()),
            (Some(0.5), Some(0.0))
        );
        assert_eq!(flows.take(there(48, 3)), []);
        assert_eq!(flows.take(there(0, 0)), [], "somebody else took them");
    }
}

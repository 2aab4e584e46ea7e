//! How many executions ended in the last minute, queue by queue.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::job::QueueName;
use crate::time::Mono;

/// Executions that ended in such a time are counted together.
const STEP: Duration = Duration::from_secs(5);
/// Steps that make a minute.
const STEPS: u64 = 12;

/// Counts of the last minute, and of the step that is under way.
#[derive(Debug, Default)]
pub(super) struct Rates {
    /// For each queue, the number of a step and what ended in it, the oldest first.
    of: BTreeMap<QueueName, VecDeque<(u64, u64)>>,
}

impl Rates {
    /// An execution ended.
    pub fn ended(&mut self, queue: &QueueName, now: Mono) {
        let step = step(now);
        let counts = match self.of.get_mut(queue) {
            Some(counts) => counts,
            None => self.of.entry(queue.clone()).or_default(),
        };
        match counts.back_mut() {
            Some((last, count)) if *last == step => *count += 1,
            _ => {
                counts.push_back((step, 1));
                // What is a minute old is counted no more.
                while counts.front().is_some_and(|(first, _)| first + STEPS < step) {
                    counts.pop_front();
                }
            }
        }
    }

    /// Executions of each queue in the minute before `now`, and in up to five seconds more; queues without any are left out.
    pub fn last_minute(&self, now: Mono) -> BTreeMap<String, u64> {
        let first = step(now).saturating_sub(STEPS);
        let sum = |counts: &VecDeque<(u64, u64)>| {
            let recent = counts.iter().filter(|(step, _)| *step >= first);
            recent.map(|(_, count)| count).sum::<u64>()
        };
        let all = self
            .of
            .iter()
            .map(|(queue, counts)| (queue.to_string(), sum(counts)));
        all.filter(|(_, count)| *count > 0).collect()
    }
}

fn step(at: Mono) -> u64 {
    at.0 / u64::try_from(STEP.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_older_than_a_minute_is_counted_no_more() {
        let (mail, web) = (QueueName::new("mail").unwrap(), QueueName::new("web").unwrap());
        let at = |seconds| Mono(0) + Duration::from_secs(seconds);
        let mut rates = Rates::default();
        assert!(rates.last_minute(at(0)).is_empty());
        (0..30).for_each(|second| rates.ended(&mail, at(second)));
        rates.ended(&web, at(29));
        let counted = |rates: &Rates, seconds| {
            let counts = rates.last_minute(at(seconds));
            (counts.get("mail").copied(), counts.get("web").copied())
        };
        assert_eq!(counted(&rates, 30), (Some(30), Some(1)));
        assert_eq!(
            counted(&rates, 75),
            (Some(15), Some(1)),
            "those from the 15th second on"
        );
        assert_eq!(counted(&rates, 95), (None, None));
        rates.ended(&mail, at(600));
        assert_eq!(rates.of[&mail].len(), 1, "nothing old is kept");
    }
}

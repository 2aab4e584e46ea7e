//! How often tasks may begin: a bucket of tokens for each task of the node. Source: `kombu/utils/limits.py`, `TokenBucket`;
//! `celery/worker/consumer/consumer.py`, `_limit_task`; `celery/utils/time.py`, `rate`.
//!
//! A task that may not begin yet waits as one with an ETA does: its message stays at the broker, and only its number is kept.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::job::QueueName;
use crate::time::Mono;

/// Begins in a second; `None`: as many as come.
pub(super) type Rate = Option<f64>;

/// What a text can't be read as a rate for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoRate<'t> {
    /// This is no number.
    Number(&'t str),
    /// This is no unit of time.
    Unit(&'t str),
}

/// Reads `10/m`, `2/h`, `0.5/s`, or a number, which is of a second. Nothing, and 0, are no limit.
pub(super) fn rate(text: &str) -> Result<Rate, NoRate<'_>> {
    if text.is_empty() {
        return Ok(None);
    }
    let (number, unit) = text.split_once('/').unwrap_or((text, "s"));
    let seconds = match unit {
        "s" | "" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(NoRate::Unit(unit)),
    };
    let number: f64 = number.trim().parse().map_err(|_| NoRate::Number(number))?;
    Ok(Some(number / seconds).filter(|rate| *rate > 0.0 && rate.is_finite()))
}

/// One task's.
#[derive(Debug)]
struct Bucket {
    rate: f64,
    /// The token that it holds at most is there from then on.
    token_at: Mono,
    /// The first to begin first.
    waiting: VecDeque<(i64, QueueName)>,
}

/// The buckets of all tasks that have a limit, or whose limit was taken away while some waited.
#[derive(Debug, Default)]
pub(super) struct Limits(HashMap<Arc<str>, Bucket>);

impl Limits {
    /// Whether a message of this task may begin now; a token is taken then. If not, it waits from now on.
    pub fn admits(&mut self, task: &Arc<str>, rate: f64, number: i64, queue: &QueueName, now: Mono) -> bool {
        let bucket = self.0.entry(Arc::clone(task)).or_insert_with(|| Bucket {
            rate,
            token_at: now,
            waiting: VecDeque::new(),
        });
        bucket.set_rate(rate, now);
        if bucket.waiting.is_empty() && bucket.token_at <= now {
            bucket.take_token(now);
            return true;
        }
        bucket.waiting.push_back((number, queue.clone()));
        false
    }

    /// Another rate for a task; those that wait keep their order.
    pub fn set_rate(&mut self, task: &str, rate: Rate, now: Mono) {
        if let Some(bucket) = self.0.get_mut(task) {
            bucket.set_rate(rate.unwrap_or(f64::INFINITY), now);
        }
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.0.values().map(|bucket| bucket.waiting.len()).sum()
    }

    /// When the next one of these queues may begin.
    pub fn next(&self, queues: &[QueueName]) -> Option<Mono> {
        let firsts = self.0.values().filter(|bucket| bucket.is_next_of(queues));
        firsts.map(|bucket| bucket.token_at).min()
    }

    /// How long the youngest of this task is to wait about.
    pub fn wait_of(&self, task: &str, now: Mono) -> Duration {
        let Some(bucket) = self.0.get(task) else {
            return Duration::ZERO;
        };
        let others = bucket.waiting.len().saturating_sub(1) as f64;
        let others = Duration::try_from_secs_f64(others / bucket.rate).unwrap_or(Duration::MAX);
        bucket.token_at.since(now).saturating_add(others)
    }

    /// Takes those of these queues that may begin now, at most `count`.
    pub fn take_due(
        &mut self,
        queues: &[QueueName],
        now: Mono,
        count: usize,
    ) -> Vec<(i64, QueueName, Arc<str>)> {
        let mut due = Vec::new();
        for (task, bucket) in &mut self.0 {
            while due.len() < count && bucket.token_at <= now && bucket.is_next_of(queues) {
                let first = bucket.waiting.pop_front();
                due.extend(first.map(|(number, queue)| (number, queue, Arc::clone(task))));
                bucket.take_token(now);
            }
        }
        due
    }

    /// One that could not be taken after all waits at the front again, and may begin at once.
    pub fn put_back(&mut self, task: &str, number: i64, queue: QueueName, now: Mono) {
        if let Some(bucket) = self.0.get_mut(task) {
            bucket.waiting.push_front((number, queue));
            bucket.token_at = now;
        }
    }

    /// All that wait.
    pub fn all(&self) -> Vec<i64> {
        let all = self.0.values().flat_map(|bucket| &bucket.waiting);
        all.map(|(number, _)| *number).collect()
    }

    /// These do not wait any more.
    pub fn forget(&mut self, numbers: &HashSet<i64>) {
        for bucket in self.0.values_mut() {
            bucket.waiting.retain(|(number, _)| !numbers.contains(number));
        }
    }

    /// Takes all that wait, with their queues.
    pub fn take_all(&mut self) -> Vec<(i64, QueueName)> {
        self.0.drain().flat_map(|(_, bucket)| bucket.waiting).collect()
    }
}

impl Bucket {
    /// It holds one token at most: what would have come while one was there is lost.
    fn take_token(&mut self, now: Mono) {
        let interval = Duration::try_from_secs_f64(1.0 / self.rate).unwrap_or(Duration::MAX);
        self.token_at = now + interval;
    }

    fn set_rate(&mut self, rate: f64, now: Mono) {
        if rate == self.rate {
            return;
        }
        // What is left of the wait for a token, at the new rate.
        let left = self.token_at.since(now).as_secs_f64() * self.rate / rate;
        self.token_at = now + Duration::try_from_secs_f64(left).unwrap_or(Duration::ZERO);
        self.rate = rate;
    }

    fn is_next_of(&self, queues: &[QueueName]) -> bool {
        self.waiting
            .front()
            .is_some_and(|(_, queue)| queues.contains(queue))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn queue(name: &str) -> QueueName {
        QueueName::new(name).unwrap()
    }

    #[test]
    fn rates_are_read_as_celery_reads_them() {
        for (text, rate) in [
            ("", None),
            ("0", None),
            ("-1/s", None),
            ("nan", None),
            ("2", Some(2.0)),
            ("0.5/s", Some(0.5)),
            ("30/m", Some(0.5)),
            ("1800/h", Some(0.5)),
            ("4/", Some(4.0)),
        ] {
            assert_eq!(super::rate(text), Ok(rate), "{text}");
        }
        assert_eq!(super::rate("x/m"), Err(NoRate::Number("x")));
        assert_eq!(super::rate("1/d"), Err(NoRate::Unit("d")));
    }

    #[test]
    fn one_begins_at_once_and_the_others_in_their_turn() {
        let (mut limits, start, mail) = (Limits::default(), Mono(0) + SECOND, queue("mail"));
        let task: Arc<str> = "t".into();
        assert!(limits.admits(&task, 2.0, 1, &mail, start));
        for number in 2..5 {
            assert!(!limits.admits(&task, 2.0, number, &mail, start), "{number}");
        }
        assert_eq!((limits.len(), limits.all()), (3, vec![2, 3, 4]));
        let served = [mail.clone()];
        assert_eq!(limits.next(&served), Some(start + SECOND / 2));
        assert_eq!(limits.next(&[queue("other")]), None);
        assert_eq!(limits.wait_of("t", start), SECOND * 3 / 2);
        assert_eq!(limits.take_due(&served, start, 9), []);
        let numbers = |due: Vec<(i64, QueueName, Arc<str>)>| due.iter().map(|due| due.0).collect::<Vec<_>>();
        // However late it is looked, one token is there.
        assert_eq!(numbers(limits.take_due(&served, start + SECOND * 9, 9)), [2]);
        assert_eq!(
            numbers(limits.take_due(&served, start + SECOND * 10, 0)),
            [0i64; 0]
        );
        limits.put_back("t", 2, mail.clone(), start + SECOND * 9);
        assert_eq!(limits.all(), [2, 3, 4]);
        assert_eq!(limits.take_all().len(), 3);
    }

    #[test]
    fn another_rate_holds_at_once_and_none_lets_all_go() {
        let (mut limits, start, mail) = (Limits::default(), Mono(0) + SECOND, queue("mail"));
        let (task, served): (Arc<str>, _) = ("t".into(), [mail.clone()]);
        for number in 0..4 {
            limits.admits(&task, 0.1, number, &mail, start);
        }
        limits.set_rate("t", Some(1.0), start + SECOND * 5);
        assert_eq!(limits.next(&served), Some(start + SECOND * 5 + SECOND / 2));
        limits.set_rate("t", None, start + SECOND * 5);
        assert_eq!(limits.take_due(&served, start + SECOND * 5, 9).len(), 3);
        limits.set_rate("t", Some(f64::MIN_POSITIVE), start);
        limits.set_rate("t", Some(f64::MAX), start);
        assert!(limits.admits(&task, 1.0, 9, &mail, start + SECOND * 9));
    }
}

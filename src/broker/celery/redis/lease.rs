//! Renewing what is held, and giving it up.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::RedisBroker;
use super::keys::number_of;
use super::settle::Line;
use crate::broker::BrokerError;
use crate::broker::celery::envelope::{returned, unacked};
use crate::job::QueueName;
use crate::time::Mono;

/// Tags that one script call renews: the server does nothing else meanwhile.
const BATCH_MAX: usize = 1000;

/// When what is held was renewed last.
#[derive(Debug, Default)]
pub(super) struct Renewals(Mutex<Option<Mono>>);

impl Renewals {
    /// Whether the next one is due, where one is to come each `interval`. An eighth before its time it is.
    fn is_due(&self, interval: Duration, now: Mono) -> bool {
        let last = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last.is_none_or(|last| now.since(last) + now.since(last) / 8 >= interval)
    }

    fn made(&self, now: Mono) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
    }
}

impl RedisBroker {
    /// Renews our lease, which other processes of ours look at, and what is held, which stock workers look at.
    pub(super) async fn renew(&self) -> Result<(), BrokerError> {
        let now = Mono::now();
        let is_due = self.renewals.is_due(self.renewal(), now);
        let numbers: Vec<i64> = match is_due {
            true => self.consumer.hand().unacked().map(|(number, _)| number).collect(),
            false => Vec::new(),
        };
        if !self.holds_any() {
            return Ok(());
        }
        self.score_etas().await?;
        let mut chunks = numbers.chunks(BATCH_MAX);
        let mut chunk = chunks.next().unwrap_or_default();
        loop {
            self.renew_some(chunk).await?;
            match chunks.next() {
                Some(next) => chunk = next,
                None => break,
            }
        }
        if is_due {
            self.renewals.made(now);
        }
        Ok(())
    }

    fn holds_any(&self) -> bool {
        let hand = self.consumer.hand();
        hand.waiting() > 0 || hand.unacked().next().is_some()
    }

    async fn renew_some(&self, numbers: &[i64]) -> Result<(), BrokerError> {
        let mut call = self.scripts.renew.prepare_invoke();
        call.arg(self.keys.unacked_index())
            .arg(self.keys.handles())
            .arg(&self.handle)
            .arg(self.lease_seconds());
        for number in numbers {
            call.arg(self.tag(*number));
        }
        let gone: Vec<String> = self.link.run_script(&call).await?;
        let mut is_news = false;
        for number in gone.iter().filter_map(|tag| number_of(tag)) {
            let mut hand = self.consumer.hand();
            // One that is settled just now is gone, too.
            if let Some(held) = hand
                .message_mut(number)
                .filter(|held| !held.tried && !held.has_chore)
            {
                let job = &held.job;
                tracing::warn!(%job, "this task is not held any more: its lease was lost, or its message was deleted");
                held.is_lost = true;
                is_news = true;
            }
        }
        if is_news {
            self.consumer.lost.notify_waiters();
        }
        Ok(())
    }

    /// Gives back all that is held, and the lease.
    pub(super) async fn leave(&self) -> Result<(), BrokerError> {
        self.wake_ups.stop();
        self.recover_all().await?;
        let mut all: Vec<(i64, QueueName, u32)> = {
            let mut hand = self.consumer.hand();
            let waiting = hand.take_waiting();
            let waiting = waiting.into_iter().map(|(number, queue)| (number, queue, 0));
            // A chore that was not done will be needed again: its message says how often its worker died.
            let held = hand
                .unacked()
                .map(|(number, held)| (number, held.queue.clone(), held.losses));
            let held: Vec<_> = held.collect();
            hand.recovered.clear();
            waiting.chain(held).collect()
        };
        // Each one goes in front of those before it.
        all.sort_by_key(|(number, ..)| std::cmp::Reverse(*number));
        for chunk in all.chunks(BATCH_MAX) {
            let numbers: Vec<i64> = chunk.iter().map(|(number, ..)| *number).collect();
            let entries = self.entries(&numbers).await?;
            let back = chunk
                .iter()
                .zip(entries)
                .filter_map(|((number, queue, losses), entry)| {
                    let entry = entry?;
                    let (raw, _) = unacked(&entry)?;
                    let (raw, priority) = returned(&raw, *losses);
                    Some(Line::back(
                        self.tag(*number),
                        self.keys.list_for(queue.as_str(), priority),
                        raw,
                    ))
                });
            let back: Vec<Line> = back.collect();
            self.carry_out(&back).await?;
        }
        self.consumer.hand().all.clear();
        let mut forget = redis::cmd("ZREM");
        forget.arg(self.keys.handles()).arg(&self.handle);
        self.link.run_command::<i64>(&forget).await?;
        Ok(())
    }
}

//! Ending messages: one script call a batch stores results and acknowledges.

use redis::{ScriptInvocation, Value};

use super::RedisBroker;
use crate::broker::BrokerError;
use crate::broker::celery::ending::{After, End, Plan};
use crate::broker::celery::envelope::{returned, unacked};
use crate::broker::celery::held::Held;
use crate::broker::celery::options::StoredIn;
use crate::broker::celery::outcome::Store;
use crate::job::{Claim, Settlement};

/// Messages that one script call ends at most: the server does nothing else meanwhile.
const BATCH_MAX: usize = 500;

/// What becomes of a message, in the words of `settle.lua`.
#[derive(Debug)]
pub(super) struct Line {
    what: &'static str,
    tag: String,
    list_or_key: String,
    value: Vec<u8>,
    life: String,
}

impl Line {
    fn new(what: &'static str, tag: String) -> Self {
        Line {
            what,
            tag,
            list_or_key: String::new(),
            value: Vec::new(),
            life: String::new(),
        }
    }

    /// To the front of this list.
    pub fn back(tag: String, list: String, message: Vec<u8>) -> Self {
        Line {
            list_or_key: list,
            value: message,
            ..Line::new("B", tag)
        }
    }

    /// Put aside.
    pub fn unreadable(tag: String) -> Self {
        Line::new("U", tag)
    }

    fn acknowledged(tag: String, store: Option<Store>) -> Self {
        let acknowledged = Line::new("A", tag);
        let Some(store) = store else {
            return acknowledged;
        };
        Line {
            life: store.life(),
            list_or_key: store.key,
            value: store.value.into_bytes(),
            ..acknowledged
        }
    }
}

impl RedisBroker {
    pub(super) async fn end(&self, settlements: Vec<Settlement<Claim>>) -> Result<Vec<bool>, BrokerError> {
        let (mut plan, mut taken) = self.consumer.plan(settlements);
        if let Err(error) = self.consumer.store_elsewhere(&mut plan).await {
            // They have run. That nobody takes their results is no reason to run them once more.
            self.acknowledge_early(plan.ended_early()).await?;
            return Err(error);
        }
        if let Err(error) = self.carry_out_plan(&mut plan, &mut taken).await {
            // All of it is sent again. What was carried out is not held any more: no answer says so where none came.
            if matches!(error, BrokerError::Unreachable { .. }) {
                let mut hand = self.consumer.hand();
                for (number, ..) in &plan.ends {
                    if let Some(held) = hand.message_mut(*number) {
                        held.tried = true;
                    }
                }
            }
            return Err(error);
        }
        self.consumer.perform(plan);
        Ok(taken)
    }

    async fn carry_out_plan(&self, plan: &mut Plan, taken: &mut [bool]) -> Result<(), BrokerError> {
        let numbers: Vec<i64> = plan
            .ends
            .iter()
            .filter(|(_, _, end, _)| matches!(end, End::GiveBack | End::Requeue(_)))
            .map(|(number, ..)| *number)
            .collect();
        let mut entries = Vec::with_capacity(numbers.len());
        for chunk in numbers.chunks(BATCH_MAX) {
            entries.extend(self.entries(chunk).await?);
        }
        let mut entries = entries.into_iter();
        let (mut lines, mut of) = (Vec::new(), Vec::new());
        for (number, held, end, at) in &mut plan.ends {
            let tag = if held.is_acked {
                String::new()
            } else {
                self.tag(*number)
            };
            let end = std::mem::replace(end, End::Chore);
            let line = match end {
                // There are no dead letters.
                End::Acknowledge(store) | End::Reject(store) => Line::acknowledged(tag, store),
                End::GiveBack => self.line_back("B", tag, held, held.losses, entries.next()),
                End::Requeue(losses) => self.line_back("Q", tag, held, losses, entries.next()),
                End::Hold(eta) => {
                    plan.after.push(After::Hold(*number, held.queue.clone(), eta));
                    continue;
                }
                End::Chore => continue,
            };
            lines.push(line);
            of.push((*number, *at, held.is_acked || held.tried, held.job.clone()));
        }
        let carried_out = self.carry_out(&lines).await?;
        for ((number, at, is_known, job), was_held) in of.into_iter().zip(carried_out) {
            if !was_held && !is_known {
                tracing::warn!(%job, "this task was not held any more when it ended: its lease was lost, or its message was deleted");
                taken[at] = false;
            }
            plan.after.push(After::Forget(number));
        }
        Ok(())
    }

    fn line_back(
        &self,
        what: &'static str,
        tag: String,
        held: &Held,
        losses: u32,
        entry: Option<Option<Vec<u8>>>,
    ) -> Line {
        let Some((raw, _)) = entry.flatten().as_deref().and_then(unacked) else {
            // It is gone, as the script will find.
            return Line::acknowledged(tag, None);
        };
        let (raw, priority) = returned(&raw, losses);
        let list = self.keys.list_for(held.queue.as_str(), priority);
        Line {
            what,
            ..Line::back(tag, list, raw)
        }
    }

    /// Whether each was held.
    pub(super) async fn carry_out(&self, lines: &[Line]) -> Result<Vec<bool>, BrokerError> {
        let mut was_held = Vec::with_capacity(lines.len());
        for chunk in lines.chunks(BATCH_MAX) {
            let mut call = self.settle_call();
            for line in chunk {
                call.arg(line.what)
                    .arg(&line.tag)
                    .arg(&line.list_or_key)
                    .arg(&line.value)
                    .arg(&line.life);
            }
            let mut answers: Vec<Value> = self.link.run_script(&call).await?;
            log_refused(answers.split_off(chunk.len().min(answers.len())));
            was_held.extend(answers.into_iter().map(|answer| answer == Value::Int(1)));
        }
        Ok(was_held)
    }

    /// The script with its first arguments.
    pub(super) fn settle_call(&self) -> ScriptInvocation<'_> {
        let database = crate::broker::celery::address::database(&self.transport.server);
        let results = self
            .consumer
            .app
            .results
            .as_ref()
            .and_then(|results| results.stored_by_us);
        let mut call = self.scripts.settle.prepare_invoke();
        call.arg(self.keys.unacked())
            .arg(self.keys.unacked_index())
            .arg(self.keys.unreadable())
            .arg(database)
            .arg(match results {
                Some(StoredIn::Broker(results)) => results,
                Some(StoredIn::Other) | None => database,
            });
        call
    }

    /// Tasks that are acknowledged when they begin have begun.
    pub(super) async fn acknowledge_early(&self, mut numbers: Vec<i64>) -> Result<(), BrokerError> {
        numbers.retain(|number| {
            let mut hand = self.consumer.hand();
            let held = hand.message_mut(*number);
            let held = held.filter(|held| held.acks_early && !held.may_be_early && !held.is_acked);
            // Its outcome may overtake the answer.
            held.map(|held| held.tried = true).is_some()
        });
        if numbers.is_empty() {
            return Ok(());
        }
        let lines: Vec<Line> = numbers
            .iter()
            .map(|number| Line::acknowledged(self.tag(*number), None))
            .collect();
        let was_held = self.carry_out(&lines).await?;
        let mut hand = self.consumer.hand();
        for (number, was_held) in numbers.into_iter().zip(was_held) {
            if let Some(held) = hand.message_mut(number) {
                held.is_acked = true;
                let job = &held.job;
                if !was_held && !held.is_lost {
                    tracing::debug!(%job, "it was acknowledged already, or its lease was lost");
                }
            }
        }
        Ok(())
    }
}

/// Key and reason of each one that could not be written, as scripts answer them.
pub(super) fn log_refused(refused: Vec<Value>) {
    let mut texts = refused
        .into_iter()
        .map(|text| redis::from_redis_value::<String>(text).unwrap_or_default());
    while let (Some(key), Some(reason)) = (texts.next(), texts.next()) {
        tracing::error!(
            key,
            reason,
            "a key can't be written: the result or the message that belongs there is missing"
        );
    }
}

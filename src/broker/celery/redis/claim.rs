//! Taking messages: one script call takes a batch.

use std::time::Duration;

use redis::Value;

use super::RedisBroker;
use super::turns::Plan;
use crate::broker::BrokerError;
use crate::broker::celery::envelope::Message;
use crate::broker::celery::held::Came;
use crate::broker::parts::turns::Turns;
use crate::broker::redis::connection::{IN_TIME, is_broken};
use crate::job::{Claimed, QueueName};
use crate::text;
use crate::time::Mono;

/// Messages that one script call takes at most: the server does nothing else meanwhile.
const BATCH_MAX: usize = 500;
/// After so many batches a claim looks whether tasks have come due.
const DUE_BATCHES: usize = 32;
/// How much later than asked a server may carry out a claim, for clocks that don't run alike.
const MARGIN: Duration = Duration::from_secs(1);

/// What one call of the script found.
struct Found {
    jobs: Vec<Claimed>,
    /// How many left their lists: these, those that are not due, those that can't be run.
    taken: usize,
}

/// What a claim answers, see `lua/claim.lua`.
#[derive(Default)]
struct Answer {
    lease_of_others: Option<i64>,
    refused: Vec<Vec<u8>>,
    broken: Vec<Value>,
    taken: Vec<Value>,
}

impl RedisBroker {
    /// Chores first, then what an earlier claim took unheard, then what is due, then messages.
    pub(super) async fn take(
        &self,
        queues: &[QueueName],
        turns: Turns,
        limit: usize,
    ) -> Result<Vec<Claimed>, BrokerError> {
        self.put_aside_unreadable().await?;
        self.take_over_when_due().await?;
        let found = self.recover(queues).await?;
        self.consumer.hand().recovered.extend(found);
        let room = limit.saturating_sub(self.consumer.chores.count());
        let mut jobs = self.consumer.hand().hand_out_recovered(queues, room);
        if let Err(error) = self.fill(queues, turns, room, &mut jobs).await {
            if jobs.is_empty() {
                return Err(error);
            }
            // They are in hand: they must reach their workers. The next claim tells what is wrong.
            tracing::debug!(%error, "no more messages can be taken now");
        }
        if let Err(error) = self.put_aside_unreadable().await {
            tracing::debug!(%error, "messages that can't be read are put aside with the next claim");
        }
        jobs.splice(0..0, self.consumer.hand_out_chores(limit));
        Ok(jobs)
    }

    async fn fill(
        &self,
        queues: &[QueueName],
        turns: Turns,
        room: usize,
        jobs: &mut Vec<Claimed>,
    ) -> Result<(), BrokerError> {
        let mut batches = 0;
        loop {
            // Tasks that are not due take no room, and there may be many: others come due meanwhile.
            if batches % DUE_BATCHES == 0 {
                self.take_due(queues, room, jobs).await?;
            }
            batches += 1;
            let wanted = room.saturating_sub(jobs.len()).min(BATCH_MAX);
            if wanted == 0 || queues.is_empty() || self.holds_all_etas_it_may() {
                return Ok(());
            }
            let turns = turns.after(queues, jobs.last().map(|job| &job.job.queue));
            let found = self.take_batch(queues, turns, wanted).await?;
            let is_short = found.taken < wanted;
            let has_others = found.jobs.len() < found.taken;
            jobs.extend(found.jobs);
            self.score_etas().await?;
            // What can run is handed over before more is looked at.
            if is_short || has_others && !jobs.is_empty() {
                return Ok(());
            }
        }
    }

    async fn take_batch(
        &self,
        queues: &[QueueName],
        turns: Turns,
        wanted: usize,
    ) -> Result<Found, BrokerError> {
        let Plan { queues, word } = self.cycle.plan(queues, turns);
        let line = self.link.line().await;
        let line = line.map_err(|error| self.link.endpoint.error(&error))?;
        let (sent, first) = (Mono::now(), self.consumer.hand().numbers(wanted));
        let mut call = self.scripts.claim.prepare_invoke();
        call.arg(self.keys.unacked())
            .arg(self.keys.unacked_index())
            .arg(self.keys.handles())
            .arg(self.keys.unreadable())
            .arg(&self.handle)
            .arg(self.lease_seconds())
            .arg(first)
            .arg(wanted)
            .arg(line.deadline(IN_TIME))
            .arg(word)
            .arg(fastrand::u32(..))
            .arg(queues.len());
        for queue in &queues {
            call.arg(origin(self.keys.at_server(queue.as_str())));
        }
        for step in 0..self.keys.steps() {
            for queue in &queues {
                call.arg(self.keys.lists(queue.as_str()).nth(step));
            }
        }
        let on_its_way = self
            .unanswered
            .send(&queues, first, wanted, sent + IN_TIME + MARGIN);
        let answer: Result<Value, _> = self.link.script_on(line, &call).await;
        if !answer.as_ref().is_err_and(is_broken) {
            on_its_way
                .into_iter()
                .for_each(|on_its_way| on_its_way.answered());
        }
        let answer = answer.map_err(|error| self.link.endpoint.error(&error))?;
        let answer = read(answer).ok_or_else(|| self.too_late())?;
        Ok(self.taken(&queues, first, answer))
    }

    fn too_late(&self) -> BrokerError {
        BrokerError::Busy {
            url: self.link.endpoint.shown.clone(),
            reason: "it got a claim too late to carry it out".to_owned(),
        }
    }

    fn taken(&self, queues: &[QueueName], first: i64, answer: Answer) -> Found {
        self.peers.first_lease_ends(answer.lease_of_others);
        for pair in answer.refused.chunks_exact(2) {
            let [list, reason] = [&pair[0], &pair[1]].map(|text| String::from_utf8_lossy(text));
            tracing::error!(%list, %reason, "a queue can't be read: its messages are not taken");
        }
        for (queue, head) in pairs(answer.broken) {
            let queue = queues.get(queue).map_or("", |queue| queue.as_str());
            let head = String::from_utf8_lossy(&head).into_owned();
            let head = text::escaped(&head);
            tracing::error!(queue, %head, list = self.keys.unreadable(), "an entry of a queue is no message: it is put aside");
        }
        let (mut jobs, mut gave) = (Vec::new(), Vec::new());
        let mut number = first;
        for (queue, raw) in pairs(answer.taken) {
            let Some(queue) = queues.get(queue) else { continue };
            jobs.extend(self.admit(number, queue, &raw, Came::New));
            gave.push(queue);
            number += 1;
        }
        self.cycle.gave(gave.into_iter());
        let taken = usize::try_from(number - first).unwrap_or(0);
        Found { jobs, taken }
    }

    /// A message that was taken: a job, in hand from now on; or none, if it is not due, came too late, or can't be read.
    pub(super) fn admit(&self, number: i64, queue: &QueueName, raw: &[u8], came: Came) -> Option<Claimed> {
        match Message::read(raw, came != Came::New) {
            Ok(mut message) => {
                message.id.get_or_insert_with(|| self.tag(number));
                self.consumer.admit(number, queue, message, came)
            }
            Err(reason) => {
                tracing::error!(%queue, %reason, list = self.keys.unreadable(), "a message can't be read: it is put aside");
                self.consumer.hand().unreadable.push(number);
                None
            }
        }
    }

    /// Puts aside what nobody can read. It is kept for the next claim while the server refuses that.
    async fn put_aside_unreadable(&self) -> Result<(), BrokerError> {
        let unreadable = std::mem::take(&mut self.consumer.hand().unreadable);
        if unreadable.is_empty() {
            return Ok(());
        }
        let mut call = self.settle_call();
        for number in &unreadable {
            call.arg("U").arg(self.tag(*number)).arg("").arg("").arg("");
        }
        let answer = self.link.run_script::<Vec<Value>>(&call).await;
        if answer.is_err() {
            self.consumer.hand().unreadable.extend(unreadable);
        }
        answer.map(drop)
    }

    /// Our lease in whole seconds.
    pub(super) fn lease_seconds(&self) -> u64 {
        self.options.lease.as_secs().max(1)
    }
}

/// What stands behind a message in `unacked`: the exchange without a name, and the queue for a key. So it goes back into
/// the queue that it came from, and not into all that its own key is bound to.
fn origin(queue: &str) -> String {
    format!(r#", "", {}]"#, serde_json::Value::from(queue))
}

/// The answer of the script; `None`: it came too late.
fn read(answer: Value) -> Option<Answer> {
    let Value::Array(parts) = answer else { return None };
    let mut parts = parts.into_iter();
    if parts.next() != Some(Value::Int(0)) {
        return None;
    }
    let lease: String = redis::from_redis_value(parts.next()?).ok()?;
    let mut list = || match parts.next() {
        Some(Value::Array(list)) => list,
        _ => Vec::new(),
    };
    let refused = list()
        .into_iter()
        .filter_map(|text| redis::from_redis_value(text).ok())
        .collect();
    Some(Answer {
        lease_of_others: lease.parse::<f64>().ok().map(|seconds| seconds as i64),
        refused,
        broken: list(),
        taken: list(),
    })
}

/// Queue (from 0) and bytes of each.
fn pairs(flat: Vec<Value>) -> impl Iterator<Item = (usize, Vec<u8>)> {
    let mut flat = flat.into_iter();
    std::iter::from_fn(move || {
        let queue: usize = redis::from_redis_value(flat.next()?).ok()?;
        let bytes = redis::from_redis_value(flat.next()?).ok()?;
        Some((queue.wrapping_sub(1), bytes))
    })
}

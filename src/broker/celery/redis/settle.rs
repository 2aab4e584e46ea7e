//! Ending messages: one script call a batch stores results and acknowledges.

use std::sync::Arc;

use redis::{ScriptInvocation, Value};

use super::CeleryBroker;
use crate::broker::BrokerError;
use crate::broker::celery::envelope::{returned, unacked};
use crate::broker::celery::held::{Chore, Held, InHand, Why};
use crate::broker::celery::outcome::{Outcome, Store, Then, WholeSeconds};
use crate::broker::parts::after_work::Pending;
use crate::job::{Claim, JobError, QueueName, RunStamp, Settlement, Verdict};
use crate::time::Unix;

/// Messages that one script call ends at most: the server does nothing else meanwhile.
const BATCH_MAX: usize = 500;
/// Kinds of errors that are the supervisor's own word; see `policy::retry`.
const WORKER_LOST: &str = "worker lost";
const TIMEOUT: &str = "timeout";
/// Runs of a task that is acknowledged late and whose worker could not say in Celery's words what happened.
const RUNS_LOST_MAX: u32 = 2;

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
            list_or_key: store.key,
            value: store.value.into_bytes(),
            life: match store.expires {
                None | Some(WholeSeconds(0)) => String::new(),
                Some(WholeSeconds(life)) => life.to_string(),
            },
            ..acknowledged
        }
    }
}

/// What is to be done at the server about a message.
#[derive(Debug)]
enum End {
    /// It has ended.
    Acknowledge(Option<Store>),
    /// To the front of its queue.
    GiveBack,
    /// To the back of its queue, with so many losses.
    Requeue(u32),
    /// It waits for this time.
    Hold(Unix),
    /// Nothing yet: a chore ends it.
    Chore,
}

/// What is to be done here once a call has reached the server.
#[derive(Debug)]
enum After {
    Forget(i64),
    /// This message waits for its time.
    Hold(i64, QueueName, Unix),
    /// A chore ends this message.
    Begin(Chore, u32),
    /// A chore is tried again.
    Retry(i64, Pending<Chore>),
    /// A chore was not begun.
    PutBack(i64, Pending<Chore>),
}

/// A call of `settle`, worked out.
#[derive(Default)]
struct Plan {
    /// The number of a message, what becomes of it, and the place of the settlement that says so.
    ends: Vec<(i64, Held, End, usize)>,
    after: Vec<After>,
}

impl CeleryBroker {
    pub(super) async fn end(&self, settlements: Vec<Settlement<Claim>>) -> Result<Vec<bool>, BrokerError> {
        let mut taken = vec![false; settlements.len()];
        let (mut plan, mut ended) = (Plan::default(), Vec::new());
        for (at, settlement) in settlements.into_iter().enumerate() {
            let in_hand = self.hand().all.get(&settlement.of.handle).cloned();
            taken[at] = match in_hand {
                Some(InHand::Message(held)) if held.job == settlement.of.job => {
                    let is_ours = !held.is_lost;
                    if !matches!(settlement.verdict, Verdict::GiveBack | Verdict::Canceled) {
                        ended.push(Arc::clone(&held.task));
                    }
                    plan.message(settlement.of.handle, held, settlement.verdict, settlement.run, at);
                    is_ours
                }
                Some(InHand::Chore(pending)) => {
                    let of = self.hand().message(pending.work.of).cloned();
                    plan.chore(settlement.of.handle, pending, of, settlement.verdict, at);
                    true
                }
                // Another handle's claims have the same numbers.
                _ => false,
            };
        }
        // Each one given back goes in front of those before it: the youngest claim first.
        plan.ends.sort_by_key(|(number, _, end, _)| match end {
            End::GiveBack => (true, -number),
            _ => (false, 0),
        });
        let answer = self.carry_out_plan(&mut plan, &mut taken).await;
        if let Err(error) = answer {
            // All of it is sent again. What was carried out is not held any more: no answer says so where none came.
            if matches!(error, BrokerError::Unreachable { .. }) {
                let mut hand = self.hand();
                for (number, ..) in &plan.ends {
                    if let Some(held) = hand.message_mut(*number) {
                        held.tried = true;
                    }
                }
            }
            return Err(error);
        }
        self.perform(plan.after);
        let mut hand = self.hand();
        for task in ended {
            *hand.ended.entry(task).or_default() += 1;
        }
        Ok(taken)
    }

    async fn carry_out_plan(&self, plan: &mut Plan, taken: &mut [bool]) -> Result<(), BrokerError> {
        let numbers: Vec<i64> = plan
            .ends
            .iter()
            .filter(|(_, held, end, _)| matches!(end, End::GiveBack | End::Requeue(_)) && !held.is_acked)
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
                End::Acknowledge(store) => Line::acknowledged(tag, store),
                End::GiveBack | End::Requeue(_) if held.is_acked => {
                    let job = &held.job;
                    tracing::warn!(%job, "this task was interrupted; it was acknowledged when it began and does not run again");
                    Line::acknowledged(tag, None)
                }
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
            let refused = answers.split_off(chunk.len().min(answers.len()));
            for pair in refused.chunks_exact(2) {
                let [key, reason] = [&pair[0], &pair[1]]
                    .map(|text| redis::from_redis_value::<String>(text.clone()).unwrap_or_default());
                tracing::error!(
                    key,
                    reason,
                    "a key can't be written: the result or the message that belongs there is missing"
                );
            }
            was_held.extend(answers.into_iter().map(|answer| answer == Value::Int(1)));
        }
        Ok(was_held)
    }

    /// The script with its first arguments.
    pub(super) fn settle_call(&self) -> ScriptInvocation<'_> {
        let database = crate::broker::celery::address::database(&self.app.redis);
        let results = self.app.results.as_ref().and_then(|results| results.stored_by_us);
        let mut call = self.scripts.settle.prepare_invoke();
        call.arg(self.keys.unacked())
            .arg(self.keys.unacked_index())
            .arg(self.keys.unreadable())
            .arg(database)
            .arg(results.unwrap_or(database));
        call
    }

    fn perform(&self, after: Vec<After>) {
        let mut hand = self.hand();
        let mut begun = Vec::new();
        for after in after {
            match after {
                After::Forget(number) => drop(hand.all.remove(&number)),
                After::Hold(number, queue, eta) => {
                    hand.all.remove(&number);
                    hand.etas.add(&queue, eta, number);
                }
                After::Begin(chore, losses) => {
                    if let Some(held) = hand.message_mut(chore.of) {
                        held.has_chore = true;
                        held.losses = losses;
                    }
                    begun.push(chore);
                }
                After::Retry(number, pending) => {
                    hand.all.remove(&number);
                    self.chores.try_again(number, pending);
                }
                After::PutBack(number, pending) => {
                    hand.all.remove(&number);
                    self.chores.put_back(pending);
                }
            }
        }
        self.chores.add(begun);
    }

    /// Tasks that are acknowledged when they begin have begun.
    pub(super) async fn acknowledge_early(&self, claims: &[Claim]) -> Result<(), BrokerError> {
        let numbers: Vec<i64> = {
            let hand = self.hand();
            let is_due = |number: &i64| {
                hand.message(*number)
                    .is_some_and(|held| held.acks_early && !held.may_be_early && !held.is_acked)
            };
            claims.iter().map(|claim| claim.handle).filter(is_due).collect()
        };
        if numbers.is_empty() {
            return Ok(());
        }
        let lines: Vec<Line> = numbers
            .iter()
            .map(|number| Line::acknowledged(self.tag(*number), None))
            .collect();
        let was_held = self.carry_out(&lines).await?;
        let mut hand = self.hand();
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

impl Plan {
    fn message(&mut self, number: i64, held: Held, verdict: Verdict, run: Option<RunStamp>, at: usize) {
        let is_early = held.acks_early;
        let end = match verdict {
            // Somebody else has it: its own outcome counts, ours is not needed.
            Verdict::Canceled if held.is_lost => End::Acknowledge(None),
            Verdict::Finish { result } => ended(Outcome::read(&result), &held),
            Verdict::Forget => End::Acknowledge(None),
            Verdict::GiveBack => End::GiveBack,
            Verdict::Again { losses, .. } if !is_early => End::Requeue(losses),
            Verdict::Again { error, losses, .. } | Verdict::Bury { error, losses, .. } => {
                let status = run.and_then(|run| run.death);
                self.failed(number, &held, &error, losses, status)
            }
            Verdict::Stopped => self.chored(number, &held, Why::Terminated, held.losses),
            Verdict::Canceled => self.chored(number, &held, Why::Revoked, held.losses),
        };
        self.ends.push((number, held, end, at));
    }

    /// A failure in Celery's own words is over; else Celery's code has to say it.
    fn failed(
        &mut self,
        number: i64,
        held: &Held,
        error: &JobError,
        losses: u32,
        status: Option<i32>,
    ) -> End {
        if !error.broker.is_empty() {
            return ended(Outcome::read(error.broker.as_bytes()), held);
        }
        if error.kind == TIMEOUT {
            return self.chored(number, held, Why::Timeout, losses);
        }
        // It may not have been the task that failed: another run may do better.
        if error.kind != WORKER_LOST && !held.acks_early && held.losses < RUNS_LOST_MAX {
            return End::Requeue(held.losses.saturating_add(1));
        }
        self.chored(number, held, Why::WorkerLost(status), losses)
    }

    fn chored(&mut self, number: i64, held: &Held, why: Why, losses: u32) -> End {
        let held = Held {
            losses,
            ..held.clone()
        };
        self.after
            .push(After::Begin(Chore::new(number, &held, why), losses));
        End::Chore
    }

    fn chore(&mut self, number: i64, pending: Pending<Chore>, of: Option<Held>, verdict: Verdict, at: usize) {
        let (message, what) = (pending.work.of, pending.work.what);
        let outcome = match verdict {
            Verdict::Finish { result } => Outcome::read(&result),
            Verdict::GiveBack => return self.after.push(After::PutBack(number, pending)),
            Verdict::Again {
                error,
                failures,
                losses,
                ..
            } => {
                tracing::warn!(%error, "Celery's own code failed at {what}, it is tried again");
                let pending = Pending {
                    failures,
                    losses,
                    ..pending
                };
                return self.after.push(After::Retry(number, pending));
            }
            Verdict::Bury { error, .. } if !error.broker.is_empty() => Outcome::read(error.broker.as_bytes()),
            Verdict::Bury { error, .. } => {
                let job = of.as_ref().map_or("", |held| held.job.as_str());
                tracing::error!(job, %error, detail = error.detail, "Celery's own code failed at {what}, it is given up");
                Outcome::default()
            }
            Verdict::Stopped | Verdict::Canceled | Verdict::Forget => Outcome::default(),
        };
        self.after.push(After::Forget(number));
        if let Some(held) = of {
            let end = ended(outcome, &held);
            self.ends.push((message, held, end, at));
        }
    }
}

/// What an outcome asks for. One that is acknowledged when it begins is acknowledged.
fn ended(outcome: Outcome, held: &Held) -> End {
    match (outcome.later(), outcome.then) {
        (Some(eta), _) if !held.is_acked => End::Hold(eta),
        (_, Some(Then::Requeue)) if !held.acks_early => End::Requeue(held.losses),
        _ => End::Acknowledge(outcome.store),
    }
}

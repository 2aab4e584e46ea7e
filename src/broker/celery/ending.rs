//! What outcomes ask for: at the server, in words that a transport carries out, and here.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::consumer::Consumer;
use super::events::{Event, task};
use super::held::{Chore, Held, InHand, Why};
use super::mark::Mark;
use super::options::StoredIn;
use super::outcome::{Outcome, Store, Then};
use crate::broker::BrokerError;
use crate::broker::parts::after_work::Pending;
use crate::job::{Claim, JobError, QueueName, RunStamp, Settlement, Verdict};
use crate::time::Unix;

/// Kinds of errors that are the supervisor's own word; see `policy::retry`.
const WORKER_LOST: &str = "worker lost";
const TIMEOUT: &str = "timeout";
/// Runs of a task that is acknowledged late and whose worker could not say in Celery's words what happened.
const RUNS_LOST_MAX: u32 = 2;

/// What is to be done at the server about a message.
#[derive(Debug)]
pub(super) enum End {
    /// It has ended.
    Acknowledge(Option<Store>),
    /// It has ended, and whoever keeps dead letters keeps it.
    Reject(Option<Store>),
    /// To the front of its queue.
    GiveBack,
    /// To the back of its queue, with so many losses.
    Requeue(u32),
    /// It waits for this time.
    Hold(Unix),
    /// Nothing yet: a chore ends it.
    Chore,
}

impl End {
    /// The result that is to be stored.
    pub fn store(&self) -> Option<&Store> {
        match self {
            End::Acknowledge(store) | End::Reject(store) => store.as_ref(),
            End::GiveBack | End::Requeue(_) | End::Hold(_) | End::Chore => None,
        }
    }
}

/// What is to be done here once a call has reached the server.
#[derive(Debug)]
pub(super) enum After {
    Forget(i64),
    /// This message waits for its time.
    Hold(i64, QueueName, Unix),
    /// A chore ends this message.
    Begin(Chore, u32),
    /// A chore is tried again.
    Retry(i64, Pending<Chore>),
    /// A chore that ends no message has said this.
    Answered(i64, Result<serde_json::Value, String>),
    /// A chore was not begun.
    PutBack(i64, Pending<Chore>),
}

/// Outcomes, worked out.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// The number of a message, what becomes of it, and the place of the settlement that says so.
    pub ends: Vec<(i64, Held, End, usize)>,
    pub after: Vec<After>,
    /// Tasks that ran, by name.
    ended: Vec<Arc<str>>,
    /// What monitors are told.
    events: Vec<Event>,
}

impl Plan {
    /// Whether there is a result to be stored.
    pub fn has_results(&self) -> bool {
        self.ends.iter().any(|(_, _, end, _)| end.store().is_some())
    }

    /// Messages of tasks that are acknowledged when they begin, and have ended.
    pub fn ended_early(&self) -> Vec<i64> {
        let ended = self.ends.iter().filter(|(_, held, end, _)| {
            held.acks_early && !held.is_acked && matches!(end, End::Acknowledge(_))
        });
        ended.map(|(number, ..)| *number).collect()
    }
}

impl Consumer {
    /// What these outcomes ask for, and whether each is of something that is ours. One that is not has no part in it.
    pub fn plan(&self, settlements: Vec<Settlement<Claim>>) -> (Plan, Vec<bool>) {
        let mut taken = vec![false; settlements.len()];
        let mut plan = Plan::default();
        let hand = self.hand();
        for (at, settlement) in settlements.into_iter().enumerate() {
            let number = settlement.of.handle;
            taken[at] = match hand.all.get(&number).cloned() {
                Some(InHand::Message(held)) if held.job == settlement.of.job => {
                    let is_ours = !held.is_lost;
                    if !matches!(settlement.verdict, Verdict::GiveBack | Verdict::Canceled) {
                        plan.ended.push(Arc::clone(&held.task));
                    }
                    if self.events.tells_tasks() && is_ours {
                        plan.events
                            .extend(events_of(&held, &settlement.verdict, settlement.run));
                    }
                    plan.message(self, number, held, settlement.verdict, settlement.run, at);
                    is_ours
                }
                Some(InHand::Chore(pending)) => {
                    let of = hand.message(pending.work.of).cloned();
                    if self.events.tells_tasks() {
                        plan.events.extend(events_of_chore(&settlement.verdict));
                    }
                    plan.chore(self, number, pending, of, settlement.verdict, at);
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
        (plan, taken)
    }

    /// Stores captured results that are kept on another server than the messages: first there, then these are
    /// acknowledged. Those that are stored are no part of the plan any more.
    pub async fn store_elsewhere(&self, plan: &mut Plan) -> Result<(), BrokerError> {
        let app = self.app.results.as_ref();
        let is_elsewhere = app.is_some_and(|results| results.stored_by_us == Some(StoredIn::Other));
        let Some(results) = self.results.as_ref().filter(|_| is_elsewhere) else {
            return Ok(());
        };
        let stores: Vec<&Store> = plan
            .ends
            .iter()
            .filter_map(|(_, _, end, _)| end.store())
            .collect();
        let stored = results.store(&stores).await;
        self.note_store(&stored);
        stored?;
        for (_, _, end, _) in &mut plan.ends {
            if let End::Acknowledge(store) | End::Reject(store) = end {
                *store = None;
            }
        }
        Ok(())
    }

    /// Says when the store of results goes away, and when it is back.
    fn note_store(&self, stored: &Result<(), BrokerError>) {
        let was_away = self.is_store_away.swap(stored.is_err(), Ordering::Relaxed);
        match stored {
            Err(error) if !was_away => {
                tracing::error!(%error, "the store of results is away: results are kept here, and stored when it is back");
            }
            Ok(()) if was_away => tracing::info!("the store of results is back: what was kept is stored"),
            _ => {}
        }
    }

    /// What is stored of a task that no worker can end.
    fn marked(&self, held: &Held, mark: Mark) -> Option<Store> {
        mark.stored(self.app.results.as_ref(), &held.job, &held.payload)
    }

    /// The server has carried out what was asked of it: the rest is done.
    pub fn perform(&self, plan: Plan) {
        let mut hand = self.hand();
        let mut begun = Vec::new();
        for after in plan.after {
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
                After::Answered(of, answer) => self.answers.came(of, answer),
                After::PutBack(number, pending) => {
                    hand.all.remove(&number);
                    self.chores.put_back(pending);
                }
            }
        }
        for task in plan.ended {
            *hand.ended.entry(task).or_default() += 1;
        }
        drop(hand);
        self.events.add(plan.events);
        self.chores.add(begun);
    }
}

/// What monitors are told of a task's end. What a chore ends, its own code tells.
fn events_of(held: &Held, verdict: &Verdict, run: Option<RunStamp>) -> Vec<Event> {
    let uuid = held.job.as_str();
    let ran_since = run.map(|run| run.started).filter(|_| !held.is_told_begun);
    let words = match verdict {
        Verdict::GiveBack | Verdict::Canceled | Verdict::Forget => return Vec::new(),
        Verdict::Finish { result } => Some(&**result),
        Verdict::Bury { error, .. } if !error.broker.is_empty() => Some(error.broker.as_bytes()),
        Verdict::Again { .. } | Verdict::Bury { .. } | Verdict::Stopped => None,
    };
    if let Some(words) = words {
        return task::ended(uuid, words, ran_since, held.sends_events);
    }
    let mut events = Vec::new();
    if held.sends_events {
        events.extend(ran_since.map(|at| task::started(uuid, at)));
        if !held.acks_early && matches!(verdict, Verdict::Again { .. }) {
            events.push(task::rejected(uuid, true));
        }
    }
    events
}

fn events_of_chore(verdict: &Verdict) -> Vec<Event> {
    match verdict {
        Verdict::Finish { result } => task::ended("", result, None, false),
        Verdict::Bury { error, .. } => task::ended("", error.broker.as_bytes(), None, false),
        _ => Vec::new(),
    }
}

impl Plan {
    fn message(
        &mut self,
        consumer: &Consumer,
        number: i64,
        held: Held,
        verdict: Verdict,
        run: Option<RunStamp>,
        at: usize,
    ) {
        let is_early = held.acks_early;
        let end = match verdict {
            // Somebody else has it: its own outcome counts, ours is not needed.
            Verdict::Canceled if held.is_lost => End::Acknowledge(None),
            Verdict::Finish { result } => ended(Outcome::read(&result), &held),
            Verdict::Forget => End::Acknowledge(None),
            Verdict::GiveBack if held.is_acked => {
                let (job, task) = (&held.job, &held.task);
                tracing::warn!(%job, %task, "this task was interrupted; it was acknowledged when it began and does not run again");
                End::Acknowledge(consumer.marked(&held, Mark::Interrupted))
            }
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

    fn chore(
        &mut self,
        consumer: &Consumer,
        number: i64,
        pending: Pending<Chore>,
        of: Option<Held>,
        verdict: Verdict,
        at: usize,
    ) {
        let (message, what) = (pending.work.of, pending.work.what);
        let mark = pending.work.mark;
        let given_up = || Outcome::over(of.as_ref().and_then(|held| consumer.marked(held, mark)));
        let mut answer = Err("it was not carried out".to_owned());
        let outcome = match verdict {
            Verdict::Finish { result } => {
                let mut outcome = Outcome::read(&result);
                answer = Ok(outcome.answer.take().unwrap_or_default());
                outcome
            }
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
                answer = Err(error.to_string());
                given_up()
            }
            Verdict::Stopped | Verdict::Canceled | Verdict::Forget => given_up(),
        };
        self.after.push(After::Forget(number));
        match of {
            Some(held) => {
                let end = ended(outcome, &held);
                self.ends.push((message, held, end, at));
            }
            None => self.after.push(After::Answered(message, answer)),
        }
    }
}

/// What an outcome asks for. One that is acknowledged when it begins is acknowledged.
fn ended(outcome: Outcome, held: &Held) -> End {
    match (outcome.later(), outcome.then) {
        (Some(eta), _) if !held.is_acked => End::Hold(eta),
        (_, Some(Then::Requeue)) if !held.acks_early => End::Requeue(held.losses),
        (_, Some(Then::Reject)) if !held.acks_early => End::Reject(outcome.store),
        _ => End::Acknowledge(outcome.store),
    }
}

//! Taking messages: one script call takes a batch.

use std::sync::Arc;
use std::time::Duration;

use redis::Value;

use super::CeleryBroker;
use super::turns::Plan;
use crate::broker::BrokerError;
use crate::broker::celery::envelope::Message;
use crate::broker::celery::held::{Chore, Held, InHand, KIND_CHORE, KIND_TASK, KIND_WHOLE, Why};
use crate::broker::celery::options::{Task, limit};
use crate::broker::parts::turns::Turns;
use crate::broker::redis::connection::{IN_TIME, is_broken};
use crate::job::{Claim, Claimed, Job, JobId, Loss, NAME_LEN_MAX, QueueName, Work};
use crate::text;
use crate::time::{Mono, Unix};

/// Messages that one script call takes at most: the server does nothing else meanwhile.
const BATCH_MAX: usize = 500;
/// After so many batches a claim looks whether tasks have come due.
const DUE_BATCHES: usize = 32;
/// How much later than asked a server may carry out a claim, for clocks that don't run alike.
const MARGIN: Duration = Duration::from_secs(1);
/// Further tries of a chore that failed.
const CHORE_RETRIES: u32 = 5;
/// Longest run of a chore.
const CHORE_TIMEOUT: Duration = Duration::from_secs(600);
/// What a task is called that names none.
const UNNAMED: &str = "celery";

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

impl CeleryBroker {
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
        self.hand().recovered.extend(found);
        let room = limit.saturating_sub(self.chores.count());
        let mut jobs = self.hand().hand_out_recovered(queues, room);
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
        jobs.splice(0..0, self.hand_out_chores(limit));
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
        let (sent, first) = (Mono::now(), self.hand().numbers(wanted));
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
            call.arg(origin(queue));
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
            jobs.extend(self.admit(number, queue, &raw, None));
            gave.push(queue);
            number += 1;
        }
        self.cycle.gave(gave.into_iter());
        let taken = usize::try_from(number - first).unwrap_or(0);
        Found { jobs, taken }
    }

    /// A message that was taken: a job, in hand from now on; or none, if it is not due, came too late, or can't be read.
    /// `due`: it waited for its time until now.
    pub(super) fn admit(
        &self,
        number: i64,
        queue: &QueueName,
        raw: &[u8],
        due: Option<Unix>,
    ) -> Option<Claimed> {
        let now = Unix::now();
        let mut hand = self.hand();
        let message = match Message::read(raw, due.is_some()) {
            Ok(message) => message,
            Err(reason) => {
                tracing::error!(%queue, %reason, list = self.keys.unreadable(), "a message can't be read: it is put aside");
                hand.unreadable.push(number);
                return None;
            }
        };
        let is_expired = message.expires.is_some_and(|expires| expires <= now);
        let is_revoked = message.id.as_deref().is_some_and(|id| self.node.is_revoked(id));
        let ends = match (is_expired, is_revoked) {
            (true, _) => Some(Why::Expired),
            (false, true) => Some(Why::Revoked),
            (false, false) => None,
        };
        if let Some(eta) = message
            .eta
            .filter(|eta| *eta > now && ends.is_none() && due.is_none())
        {
            hand.etas.add(queue, eta, number);
            return None;
        }
        let (held, claimed) = self.job(number, queue, message, due.unwrap_or(now));
        if let Some(why) = ends {
            let chore = Chore::new(number, &held, why);
            let held = Held {
                has_chore: true,
                ..held
            };
            hand.all.insert(number, InHand::Message(held));
            self.chores.add_own(chore);
            return None;
        }
        hand.all.insert(number, InHand::Message(held));
        Some(claimed)
    }

    fn job(&self, number: i64, queue: &QueueName, message: Message, ready: Unix) -> (Held, Claimed) {
        let tasks = self.tasks();
        let known = message.task.as_ref().and_then(|task| tasks.get(task));
        // Of a task that nobody knows, the worker says so; it is acknowledged then.
        let unknown = Task {
            acks_late: true,
            ..Task::default()
        };
        let of = known.unwrap_or(&unknown);
        let id = message.id.as_deref().and_then(|id| JobId::new(id).ok());
        let id = id
            .or_else(|| JobId::new(&self.tag(number)).ok())
            .unwrap_or_else(JobId::generate);
        let task: Arc<str> = match &message.task {
            Some(task) => text::head(&text::escaped(task), NAME_LEN_MAX).into(),
            None => UNNAMED.into(),
        };
        let timeout = message.time_limit.and_then(limit).or(of.time_limit);
        let runs_again = of.acks_late && of.reject_on_worker_lost;
        let held = Held {
            job: id.clone(),
            queue: queue.clone(),
            task: Arc::clone(&task),
            payload: Arc::clone(&message.payload),
            acks_early: !of.acks_late,
            may_be_early: message.is_odd && message.eta.is_none(),
            timeout,
            is_acked: false,
            tried: false,
            is_lost: false,
            is_revoked: false,
            signal: None,
            losses: message.losses,
            has_chore: false,
        };
        let job = Job {
            id: id.clone(),
            queue: queue.clone(),
            task,
            // What Celery's own code has to look at first is a batch of its own.
            batches: of.batches && !message.is_odd,
            kind: if of.captured && !message.is_odd {
                KIND_TASK
            } else {
                KIND_WHOLE
            },
            payload: message.payload,
            timeout,
            retries: Some(0),
            retry_after: None,
            loss: if runs_again { Loss::RunsAgain } else { Loss::Fails },
            work: Work::Job,
            failures: 0,
            losses: message.losses,
            ready,
        };
        let claim = Claim {
            job: id,
            handle: number,
            epoch: 0,
        };
        (held, Claimed { claim, job })
    }

    /// Chores that wait for a worker.
    pub(super) fn hand_out_chores(&self, limit: usize) -> Vec<Claimed> {
        let mut hand = self.hand();
        let mut jobs = Vec::new();
        for pending in self.chores.take(limit) {
            let number = hand.numbers(1);
            let task: Arc<str> = format!("celery:{}", pending.work.what).into();
            let Ok(id) = JobId::new(&format!("{task}:{}", pending.work.of)) else {
                continue;
            };
            let job = Job {
                id: id.clone(),
                queue: pending.work.queue.clone(),
                task,
                kind: KIND_CHORE,
                payload: Arc::clone(&pending.work.payload),
                timeout: Some(CHORE_TIMEOUT),
                retries: Some(CHORE_RETRIES),
                retry_after: Some(Duration::ZERO),
                loss: Loss::RunsAgain,
                work: Work::After,
                batches: false,
                failures: pending.failures,
                losses: pending.losses,
                ready: Unix::now(),
            };
            hand.all.insert(number, InHand::Chore(pending));
            let claim = Claim {
                job: id,
                handle: number,
                epoch: 0,
            };
            jobs.push(Claimed { claim, job });
        }
        jobs
    }

    /// Puts aside what nobody can read. It is kept for the next claim while the server refuses that.
    async fn put_aside_unreadable(&self) -> Result<(), BrokerError> {
        let unreadable = std::mem::take(&mut self.hand().unreadable);
        if unreadable.is_empty() {
            return Ok(());
        }
        let mut call = self.settle_call();
        for number in &unreadable {
            call.arg("U").arg(self.tag(*number)).arg("").arg("").arg("");
        }
        let answer = self.link.run_script::<Vec<Value>>(&call).await;
        if answer.is_err() {
            self.hand().unreadable.extend(unreadable);
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
fn origin(queue: &QueueName) -> String {
    format!(r#", "", {}]"#, serde_json::Value::from(queue.as_str()))
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

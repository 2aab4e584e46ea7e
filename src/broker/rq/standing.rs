//! A claim that stands at the server until there is a job: what an idle pool waits with.
//!
//! The server runs what a client sent behind a blocking command as soon as that returns. So behind the `BLMOVE` of
//! [`crate::broker::redis::wake_up`] stands a script that takes the job, and the push of a producer is answered with the job itself, a
//! round trip sooner than if it rang and were claimed then. It takes one job, and says whether more wait.
//!
//! Each queue has its own. All may be answered at once, so they stand only where there is room for a job of each; those
//! of the others go on standing when one is answered. A claim is taken back with `CLIENT UNBLOCK`: its script runs then,
//! too, and what it says is certain. Where nothing is heard of it, it is one more claim in [`crate::broker::redis::unanswered`].

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{AbortHandle, abortable, select_all};
use redis::{RedisError, Value};
use tokio::runtime::Handle;
use tokio::sync::watch;

use super::RqBroker;
use super::claim::MARGIN;
use super::sentry::{Call, Sending, Spare, UNBLOCK, spares, take_job};
use super::text;
use crate::broker::redis::connection::{ClientId, IN_TIME, Line, is_broken};
use crate::broker::{BrokerError, Came};
use crate::job::{Claimed, QueueName};
use crate::time::{Mono, Unix};

const DAY_MS: i64 = 86_400_000;
/// A connection that lived for so long is not broken by what is asked of it.
const LIVED: Duration = Duration::from_secs(1);
/// How long the answer of a claim that is taken back may take.
const RECALL: Duration = Duration::from_secs(1);
/// How often the server is told, each time on a new connection: what broke the last one may break the next.
const UNBLOCKS: usize = 3;

/// What the script said, once it said something, until it is brought in.
type Heard = Arc<Mutex<Option<Result<Vec<Value>, RedisError>>>>;

/// The claims that stand, by the key of their queue.
#[derive(Debug, Default)]
pub(super) struct Standing {
    claims: Mutex<HashMap<String, StandingClaim>>,
    /// Connections of claims that were answered, for the next ones.
    spare: Arc<Spare>,
    /// This user may not take a claim back, so that none is made to stand.
    is_refused: Arc<AtomicBool>,
}

#[derive(Debug)]
struct StandingClaim {
    queue: QueueName,
    /// The number of the execution that it would make.
    number: i64,
    posted: Mono,
    sending: Arc<Sending>,
    heard: Heard,
    is_heard: watch::Receiver<bool>,
    /// Ends it, and its connection with it.
    end: AbortHandle,
    /// It is being taken back.
    is_recalled: bool,
    /// See [`crate::broker::redis::connection::Link::losses`], at the time when it was posted.
    lost: u64,
}

impl Standing {
    fn claims(&self) -> MutexGuard<'_, HashMap<String, StandingClaim>> {
        self.claims.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Standing {
    fn drop(&mut self) {
        for claim in self.claims().values() {
            claim.end.abort();
        }
    }
}

/// A claim that stands, for who waits for it.
struct Posted {
    /// The call itself, for who made it: no other task has to be woken when the job is there.
    underway: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    is_heard: watch::Receiver<bool>,
    /// The losses before it was made.
    lost: u64,
}

impl Posted {
    /// Returns when something was heard, or it was taken back.
    async fn is_over(&mut self) {
        match &mut self.underway {
            Some(underway) => {
                underway.await;
                self.underway = None;
            }
            None => drop(self.is_heard.wait_for(|is_heard| *is_heard).await),
        }
    }
}

impl Drop for Posted {
    /// It stands at the server, whoever waits.
    fn drop(&mut self) {
        if let (Some(underway), Ok(runtime)) = (self.underway.take(), Handle::try_current()) {
            runtime.spawn(underway);
        }
    }
}

impl RqBroker {
    /// Returns with the first job of each of these queues that has one, or when it is to be looked for.
    pub(super) async fn stand_for_any(&self, queues: &[QueueName]) -> Result<Came, BrokerError> {
        let waits = queues.iter().map(|queue| Box::pin(self.stand(queue)));
        let (came, _, others) = select_all(waits).await;
        let mut came = came?;
        for other in others {
            if let Some(Ok(more)) = other.now_or_never() {
                came.jobs.extend(more.jobs);
                came.more |= more.more;
            }
        }
        Ok(came)
    }

    /// Returns with the first job of this queue, or when it is to be looked for.
    async fn stand(&self, queue: &QueueName) -> Result<Came, BrokerError> {
        let list = self.keys.queue(queue.as_str());
        let mut losses = self.link.losses();
        loop {
            let mut posted = self.post(queue, &list).await?;
            let lost = posted.lost;
            let loses = async { losses.wait_for(|count| *count != lost).await.is_ok() };
            let is_lost = tokio::select! {
                biased;
                () = posted.is_over() => false,
                is_lost = loses => is_lost,
            };
            drop(posted); // what is said below is heard meanwhile
            let is_recalled = self.standing.claims().get(&list).map(|claim| claim.is_recalled);
            match is_recalled {
                None => return Ok(Came::look()),
                Some(false) if !is_lost => {}
                // The connection on which it stands may be dead, too; or who took it back did not see that through.
                Some(_) => {
                    let jobs = self.recall(queue).await?;
                    return Ok(Came { jobs, more: true });
                }
            }
            if let Some(came) = self.bring_in(&list).await? {
                return Ok(came);
            }
        }
    }

    /// Whether claims may stand at the server.
    pub(super) fn may_stand(&self) -> bool {
        !self.standing.is_refused.load(Ordering::Relaxed)
    }

    /// Whether for each of these queues a claim stands to which nothing has come.
    pub(super) fn is_stood_for(&self, queues: &[QueueName]) -> bool {
        let claims = self.standing.claims();
        let is_stood_for = |queue: &QueueName| {
            let claim = claims.get(&self.keys.queue(queue.as_str()));
            claim.is_some_and(|claim| !claim.is_recalled && !*claim.is_heard.borrow())
        };
        !queues.is_empty() && queues.iter().all(is_stood_for)
    }

    /// What claims that stood for these queues have taken while nobody waited.
    pub(super) async fn bring_in_heard(&self, queues: &[QueueName]) -> Vec<Claimed> {
        let mut jobs = Vec::new();
        for queue in queues {
            let list = self.keys.queue(queue.as_str());
            let is_heard = |claim: &StandingClaim| !claim.is_recalled && *claim.is_heard.borrow();
            if self.standing.claims().get(&list).is_some_and(is_heard)
                && let Ok(Some(came)) = self.bring_in(&list).await
            {
                jobs.extend(came.jobs);
            }
        }
        jobs
    }

    /// Makes a claim stand for this queue, if none does.
    async fn post(&self, queue: &QueueName, list: &str) -> Result<Posted, BrokerError> {
        let line = self.link.line().await;
        let line = line.map_err(|error| self.link.endpoint.error(&error))?;
        let mut claims = self.standing.claims();
        if let Some(claim) = claims.get(list) {
            return Ok(Posted {
                underway: None,
                is_heard: claim.is_heard.clone(),
                lost: claim.lost,
            });
        }
        let number = self.hand().numbers(1);
        let lost = *self.link.losses().borrow();
        let sending = Arc::new(Sending::default());
        let call = Call {
            link: Arc::clone(&self.link),
            script: Arc::clone(&self.scripts.standing),
            list: list.to_owned(),
            arguments: self.standing_arguments(queue, number, &line),
            sending: Arc::clone(&sending),
            spare: Arc::clone(&self.standing.spare),
            is_refused: Arc::clone(&self.standing.is_refused),
            block: self.wake_ups.block(),
            lost,
        };
        let (tell, is_heard) = watch::channel(false);
        let heard = Heard::default();
        let hears = Arc::clone(&heard);
        let (underway, end) = abortable(async move {
            let answer = call.stand().await;
            let time = answer.as_ref().ok().and_then(|answer| answer.get(1).cloned());
            *hears.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer);
            let _ = tell.send(true);
            if let Some(Value::Int(millis)) = time {
                call.link.hear_time(millis).await;
            }
        });
        let claim = StandingClaim {
            queue: queue.clone(),
            number,
            posted: Mono::now(),
            sending,
            heard,
            is_heard: is_heard.clone(),
            end,
            is_recalled: false,
            lost,
        };
        claims.insert(list.to_owned(), claim);
        Ok(Posted {
            underway: Some(Box::pin(async {
                let _ = underway.await;
            })),
            is_heard,
            lost,
        })
    }

    /// See `lua/standing.lua`.
    fn standing_arguments(&self, queue: &QueueName, number: i64, line: &Line) -> Vec<String> {
        let now = Unix::now();
        let day = Unix(now.0 - now.0.rem_euclid(DAY_MS));
        vec![
            self.keys.prefix().to_owned(),
            queue.to_string(),
            self.config.job_monitoring_interval.as_secs().to_string(),
            self.any_worker(),
            self.execution_prefix.clone(),
            number.to_string(),
            line.deadline(self.wake_ups.block() + IN_TIME).to_string(),
            line.ahead_ms().to_string(),
            day.0.to_string(),
            text::date(day),
            text::date(Unix(day.0 + DAY_MS)),
        ]
    }

    /// What the claim for this list has heard is in hand from now on. `None`: nothing came.
    async fn bring_in(&self, list: &str) -> Result<Option<Came>, BrokerError> {
        let Some(claim) = self.standing.claims().remove(list) else {
            return Ok(Some(Came::look()));
        };
        let heard = claim.heard.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut answer = match heard {
            Some(Ok(answer)) => answer,
            Some(Err(error)) => return self.lost(&claim, &error),
            None => return Ok(Some(Came::look())),
        };
        let state = match answer.first() {
            Some(Value::Int(state)) => *state,
            _ => return Ok(None), // never sent
        };
        let job = take_job(&mut answer).and_then(|job| self.read_taken(job));
        if job.is_some() {
            self.remember_served(&claim.queue);
        }
        let jobs: Vec<Claimed> = job.into_iter().collect();
        match state {
            1 => {
                self.set_suspended(true).await;
                Ok(Some(Came::look()))
            }
            2 => {
                let line = self.link.line().await;
                if let Ok(line) = line {
                    self.link.leave(&line).await;
                }
                Err(self.too_late())
            }
            0 if jobs.is_empty() => Ok(None),
            _ => Ok(Some(Came {
                jobs,
                more: state != 0,
            })),
        }
    }

    /// The connection broke under a claim that stood.
    fn lost(&self, claim: &StandingClaim, error: &RedisError) -> Result<Option<Came>, BrokerError> {
        if claim.sending.sent_by().is_some() && is_broken(error) {
            // A server that ended the connection, or hears of its end, carries out nothing more that came by it.
            let is_over = error.is_connection_dropped();
            self.doubt(claim, is_over);
            if is_over && Mono::now().since(claim.posted) > LIVED {
                return Ok(Some(Came::look()));
            }
        }
        if self.standing.is_refused.load(Ordering::Relaxed) {
            return Ok(Some(Came::look()));
        }
        Err(self.link.endpoint.error(error))
    }

    /// Nobody knows what becomes of this claim. `is_over`: its connection has ended.
    fn doubt(&self, claim: &StandingClaim, is_over: bool) {
        let at_worst = claim.posted + self.wake_ups.block() + IN_TIME + MARGIN;
        let soon = Mono::now() + IN_TIME + MARGIN;
        let until = if is_over { soon.min(at_worst) } else { at_worst };
        let queues = std::slice::from_ref(&claim.queue);
        let by = claim.sending.sent_by();
        self.unanswered().add(queues, claim.number, 1, until, by);
        spares(&self.standing.spare).clear();
    }

    /// Takes back the claims that stand for these queues: they take nothing any more, and what they took is returned.
    pub(super) async fn recall_for(&self, queues: &[QueueName]) -> Result<Vec<Claimed>, BrokerError> {
        let mut jobs = Vec::new();
        let mut failure = None;
        for queue in queues {
            match self.recall(queue).await {
                Ok(taken) => jobs.extend(taken),
                Err(error) => failure = Some(error),
            }
        }
        // What was taken must reach its workers.
        failure.filter(|_| jobs.is_empty()).map_or(Ok(jobs), Err)
    }

    /// The same for one queue.
    async fn recall(&self, queue: &QueueName) -> Result<Vec<Claimed>, BrokerError> {
        let list = self.keys.queue(queue.as_str());
        let (sending, mut is_heard) = {
            let mut claims = self.standing.claims();
            let Some(claim) = claims.get_mut(&list) else {
                return Ok(Vec::new());
            };
            claim.is_recalled = true;
            (Arc::clone(&claim.sending), claim.is_heard.clone())
        };
        let Some(client) = sending.take_back() else {
            self.standing.claims().remove(&list);
            return Ok(Vec::new());
        };
        if !*is_heard.borrow() {
            let told = self.unblock(&client).await;
            let answered = told.is_ok()
                && tokio::time::timeout(RECALL, is_heard.wait_for(|is_heard| *is_heard))
                    .await
                    .is_ok();
            if !answered {
                // Its connection is closed, of which the server hears soon, unless nothing reaches it.
                let Some(claim) = self.standing.claims().remove(&list) else {
                    return Ok(Vec::new());
                };
                claim.end.abort();
                self.doubt(&claim, told.is_ok());
                return self.recover(std::slice::from_ref(queue)).await;
            }
        }
        let came = self.bring_in(&list).await?;
        Ok(came.map(|came| came.jobs).unwrap_or_default())
    }

    /// Ends the wait on this connection, or learns that it is over.
    async fn unblock(&self, client: &ClientId) -> Result<Option<i64>, RedisError> {
        let mut told = self.link.command_about(client, &UNBLOCK).await;
        for _ in 1..UNBLOCKS {
            match told {
                Err(error) if error.is_connection_dropped() => {
                    told = self.link.command_about(client, &UNBLOCK).await;
                }
                _ => break,
            }
        }
        told
    }

    /// Takes all of them back: what they took is in hand then, or in doubt.
    pub(super) async fn recall_all(&self) {
        let queues: Vec<QueueName> = self
            .standing
            .claims()
            .values()
            .map(|claim| claim.queue.clone())
            .collect();
        for queue in queues {
            if let Err(error) = self.recall(&queue).await {
                tracing::debug!(%queue, %error, "a claim that stood is not heard of");
            }
        }
    }
}

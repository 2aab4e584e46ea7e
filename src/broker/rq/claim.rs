//! Taking jobs: one script call takes a batch and starts it.

use std::time::Duration;

use redis::{ScriptInvocation, Value};

use super::held::Unreadable;
use super::row::{Row, read};
use super::{RqBroker, text};
use crate::broker::BrokerError;
use crate::broker::parts::turns::Turns;
use crate::broker::redis::connection::{IN_TIME, is_broken};
use crate::job::{Claimed, QueueName};
use crate::time::{Mono, Unix};

/// Jobs that one script call takes at most: the server does nothing else meanwhile.
const BATCH_MAX: usize = 500;
/// How long a claim waits for a job that came back to begin, before it says that there is none.
const RETURNED_WAIT: Duration = Duration::from_secs(1);
/// How much later than asked a server may carry out a claim, for clocks that don't run alike.
const MARGIN: Duration = Duration::from_secs(1);

/// What a claim found.
pub(super) struct Found {
    pub jobs: Vec<Claimed>,
    /// These, and those that can't be run.
    taken: usize,
    /// A job whose claim came back was left, and all behind it.
    leaves_returned: bool,
    /// All workers are suspended: nothing may be taken.
    pub suspended: bool,
}

impl RqBroker {
    /// After-work first, then what an earlier claim took unheard, then jobs.
    pub(super) async fn take(
        &self,
        queues: &[QueueName],
        mut turns: Turns,
        limit: usize,
    ) -> Result<Found, BrokerError> {
        self.fail_unreadable().await;
        self.maintain_when_due(queues).await?;
        // Several claims may have gone unanswered, each for all the room: together they found more than there is room for.
        let found = self.recover(queues).await?;
        self.hand().recovered.extend(found);
        let room = limit.saturating_sub(self.after_works.count());
        let mut jobs = self.hand().hand_out_recovered(queues, room);
        turns = turns.after(queues, jobs.last().map(|job| &job.job.queue));
        let mut waits_for_returned = false;
        let suspended = loop {
            let wanted = room.saturating_sub(jobs.len()).min(BATCH_MAX);
            let found = match self.take_batch(queues, turns, wanted).await {
                Ok(found) => found,
                // What was taken before must reach its workers.
                Err(_) if !jobs.is_empty() => break false,
                Err(error) => return Err(error),
            };
            let (taken, can_run) = (found.taken, !found.jobs.is_empty());
            waits_for_returned = found.leaves_returned;
            jobs.extend(found.jobs);
            turns = turns.after(queues, jobs.last().map(|job| &job.job.queue));
            // Behind jobs that can't be run others may wait.
            let is_over = found.leaves_returned || taken < wanted && (can_run || taken == 0);
            if found.suspended || is_over || jobs.len() >= room {
                break found.suspended;
            }
        };
        // The server has answered: without it a worker could do nothing about them.
        jobs.splice(0..0, self.after_work(queues, limit));
        if jobs.is_empty() && waits_for_returned {
            // What waits can't be taken yet: looking again at once would find the same.
            let _ = tokio::time::timeout(RETURNED_WAIT, self.returned_began.notified()).await;
        }
        Ok(Found {
            taken: jobs.len(),
            jobs,
            suspended,
            leaves_returned: waits_for_returned,
        })
    }

    async fn take_batch(
        &self,
        queues: &[QueueName],
        turns: Turns,
        wanted: usize,
    ) -> Result<Found, BrokerError> {
        let line = self.link.line().await;
        let line = line.map_err(|error| self.link.endpoint.error(&error))?;
        let (now, sent, number) = (Unix::now(), Mono::now(), self.hand().numbers(wanted));
        let call = self.claim_call(queues, turns, (wanted, number), now, line.deadline(IN_TIME));
        let on_its_way = self
            .unanswered
            .send(queues, number, wanted, sent + IN_TIME + MARGIN);
        let answer = self.link.script_on::<Vec<Value>>(line.clone(), &call).await;
        if let Some(on_its_way) = on_its_way
            && !answer.as_ref().is_err_and(is_broken)
        {
            on_its_way.answered();
        }
        let answer = answer.map_err(|error| self.link.endpoint.error(&error))?;
        let mut answer = answer.into_iter();
        let state = answer.next();
        if matches!(state, Some(Value::Int(2))) {
            // Its clock was set meanwhile, or it took long to say the time.
            self.link.leave(&line).await;
            return Err(self.too_late());
        }
        let (mut jobs, mut taken, mut unreadable) = (Vec::with_capacity(answer.len()), 0, Vec::new());
        for row in answer {
            let fields: Vec<Vec<u8>> = redis::from_redis_value(row).unwrap_or_default();
            match <[Vec<u8>; 3]>::try_from(fields) {
                Ok(refusal) => unreadable.extend(self.tell_refusal(&refusal)),
                Err(fields) => {
                    taken += 1;
                    jobs.extend(fields.try_into().ok().and_then(|row| self.taken(&row)));
                }
            }
        }
        self.fail_unreadable().await;
        if jobs.is_empty()
            && unreadable.len() == queues.len()
            && let Some(reason) = unreadable.into_iter().next()
        {
            let url = self.link.endpoint.shown.clone();
            return Err(BrokerError::Corrupt { url, reason });
        }
        let suspended = matches!(state, Some(Value::Int(1)));
        Ok(Found {
            jobs,
            taken,
            suspended,
            leaves_returned: matches!(state, Some(Value::Int(3))),
        })
    }

    /// The script that takes up to `wanted` jobs, the first of them with this number. `deadline`: when the server is to leave it be.
    fn claim_call(
        &self,
        queues: &[QueueName],
        turns: Turns,
        (wanted, number): (usize, i64),
        now: Unix,
        deadline: i64,
    ) -> ScriptInvocation<'_> {
        let mut call = self.scripts.claim.prepare_invoke();
        call.arg(self.keys.names())
            .arg(wanted)
            .arg(text::iso(now))
            .arg(text::score(now))
            .arg(self.options.job_monitoring_interval.as_secs())
            .arg(self.any_worker())
            .arg(&self.execution_prefix)
            .arg(number)
            .arg(deadline)
            .arg(text::seconds(now))
            .arg(match turns {
                Turns::Strict => "strict",
                Turns::RoundRobin { .. } => "round_robin",
                // Source: `rq/worker/base.py`, `reorder_queues`: queues are shuffled after each job.
                Turns::Random { is_begun: false } => "random_after_first",
                Turns::Random { is_begun: true } => "random",
            })
            .arg(fastrand::u32(..))
            .arg(u8::from(self.hand().takes_returned()));
        let first = turns.first().min(queues.len());
        for queue in queues[first..].iter().chain(&queues[..first]) {
            call.arg(queue.as_str());
        }
        call
    }

    fn too_late(&self) -> BrokerError {
        BrokerError::Busy {
            url: self.link.endpoint.shown.clone(),
            reason: "it got a claim too late to carry it out".to_owned(),
        }
    }

    /// The script could not start a job, which failed alone, or not read a queue: then what is wrong with it.
    fn tell_refusal(&self, [job, queue, reason]: &[Vec<u8>; 3]) -> Option<String> {
        let [job, queue, reason] = [job, queue, reason].map(|text| String::from_utf8_lossy(text));
        if !job.is_empty() {
            tracing::error!(%job, %queue, %reason, "a job can't be started: it is failed");
            return None;
        }
        if self.hand().unreadable_queues.insert(queue.to_string()) {
            tracing::error!(%queue, %reason, "a queue can't be read: its jobs are not taken");
        }
        Some(reason.into_owned())
    }

    /// One entry of the script's answer, in hand from now on, or noted as one that can't be run.
    pub(super) fn taken(&self, row: &Row) -> Option<Claimed> {
        match read(row) {
            Ok((number, held, claimed)) => {
                let mut hand = self.hand();
                hand.unreadable_queues.remove(&held.queue);
                hand.jobs.insert(number, held);
                Some(claimed)
            }
            Err(reason) => {
                let [job, queue, number] = [0, 1, 2].map(|at| row[at].clone());
                tracing::error!(job = %String::from_utf8_lossy(&job), %reason, "a job can't be run: it is failed");
                self.hand().unreadable.push(Unreadable {
                    job,
                    queue,
                    number: String::from_utf8_lossy(&number).parse().ok()?,
                    reason,
                });
                None
            }
        }
    }

    /// Fails what was taken and can't be run. While Redis refuses that, it is kept for the next claim.
    async fn fail_unreadable(&self) {
        let unreadable = std::mem::take(&mut self.hand().unreadable);
        if unreadable.is_empty() {
            return;
        }
        let now = Unix::now();
        let mut call = self.scripts.settle.prepare_invoke();
        call.arg(self.keys.names()).arg(text::score(now)).arg(0);
        for job in &unreadable {
            let error = text::compressed(format!("pool can't run this job: {}", job.reason).as_bytes());
            call.arg("U")
                .arg(&job.job)
                .arg(self.execution(job.number))
                .arg(&job.queue)
                .arg(self.any_worker())
                .arg("")
                .arg(text::iso(now))
                .arg("")
                .arg(text::seconds(now))
                .arg(text::base64(&error))
                .arg("")
                .arg("");
        }
        if let Err(error) = self.link.run_script::<Vec<Value>>(&call).await {
            tracing::debug!(%error, "jobs that can't be run are failed with the next claim");
            self.hand().unreadable.extend(unreadable);
        }
    }
}

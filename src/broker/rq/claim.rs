//! Taking jobs: one script call takes a batch and starts the plain ones.

use std::sync::Arc;
use std::time::Duration;

use redis::Value;

use super::held::{AfterWork, Held, KIND_AFTER_WORK, KIND_PLAIN, KIND_WHOLE, Kind};
use super::{RqBroker, text};
use crate::broker::BrokerError;
use crate::broker::redis::connection::{IN_TIME, is_broken};
use crate::config::DequeueStrategy;
use crate::job::{Claim, Claimed, JobId, Loss, QueueName, Work};
use crate::time::{Mono, Unix};

/// Jobs that one script call takes at most: the server does nothing else meanwhile.
const BATCH_MAX: usize = 500;
/// What RQ's code may need beyond a job's own timeout: its callbacks, each with a timeout of its own.
const LIFECYCLE: Duration = Duration::from_secs(180);
/// Longest run of after-work.
const AFTER_WORK_TIMEOUT: Duration = Duration::from_secs(600);

/// How long a claim lives beyond the heartbeat that was due, and a little more. Source: `rq/worker/base.py`,
/// `get_heartbeat_ttl`.
const ABANDONED: Duration = Duration::from_secs(65);
/// How much later than asked a server may carry out a claim, for clocks that don't run alike.
const MARGIN: Duration = Duration::from_secs(1);

/// A job as the scripts hand it out, see `lua/job.lua`.
type Row = [Vec<u8>; 12];

/// What a claim found.
pub(super) struct Found {
    pub jobs: Vec<Claimed>,
    /// All workers are suspended: nothing may be taken.
    pub suspended: bool,
}

impl RqBroker {
    /// After-work first, then what an earlier claim took unheard, then jobs.
    pub(super) async fn take(&self, queues: &[QueueName], limit: usize) -> Result<Found, BrokerError> {
        self.maintain_when_due(queues).await?;
        let mut jobs = self.recover(queues).await?;
        let room = limit.saturating_sub(self.hand().after_work.len());
        let suspended = loop {
            let wanted = room.saturating_sub(jobs.len()).min(BATCH_MAX);
            let found = match self.take_batch(queues, wanted).await {
                Ok(found) => found,
                // What was taken before must reach its workers.
                Err(_) if !jobs.is_empty() => break false,
                Err(error) => return Err(error),
            };
            let count = found.jobs.len();
            jobs.extend(found.jobs);
            if found.suspended || count < wanted || jobs.len() >= room {
                break found.suspended;
            }
        };
        // The server has answered: without it a worker could do nothing about them.
        jobs.splice(0..0, self.after_work(queues, limit));
        Ok(Found { jobs, suspended })
    }

    async fn take_batch(&self, queues: &[QueueName], wanted: usize) -> Result<Found, BrokerError> {
        let line = self.link.line().await;
        let line = line.map_err(|error| self.link.endpoint.error(&error))?;
        let (now, sent, first) = (Unix::now(), Mono::now(), self.hand().numbers(wanted));
        let mut call = self.scripts.claim.prepare_invoke();
        call.arg(self.keys.prefix())
            .arg(wanted)
            .arg(text::iso(now))
            .arg(text::score(now))
            .arg(self.config.job_monitoring_interval.as_secs())
            .arg(self.any_worker())
            .arg(&self.execution_prefix)
            .arg(first)
            .arg(line.deadline(IN_TIME))
            .arg(text::seconds(now))
            .arg(match self.config.dequeue_strategy {
                DequeueStrategy::Default => "default",
                DequeueStrategy::RoundRobin => "round_robin",
                DequeueStrategy::Random => "random",
            })
            .arg(fastrand::u32(..));
        for queue in self.in_turn(queues) {
            call.arg(queue.as_str());
        }
        let on_its_way = self
            .unanswered
            .send(queues, first, wanted, sent + IN_TIME + MARGIN);
        let answer = self.link.script_on::<Vec<Value>>(line.clone(), &call).await;
        if !answer.as_ref().is_err_and(is_broken) {
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
        let mut jobs = Vec::with_capacity(answer.len());
        for job in answer {
            jobs.extend(self.read_taken(job));
        }
        if let Some(last) = jobs.last() {
            self.remember_served(&last.queue);
        }
        let suspended = matches!(state, Some(Value::Int(1)));
        Ok(Found { jobs, suspended })
    }

    fn too_late(&self) -> BrokerError {
        BrokerError::Busy {
            url: self.link.endpoint.shown.clone(),
            reason: "it got a claim too late to carry it out".to_owned(),
        }
    }

    /// One job of a script's answer, in hand from now on.
    fn read_taken(&self, job: Value) -> Option<Claimed> {
        let Some(row) = row(job) else {
            // As in `taken`: it is failed with the reason in time.
            tracing::error!(
                "an answer of the server can't be read: a job that was taken from its queue is not run"
            );
            return None;
        };
        self.taken(&row)
    }

    /// The last job was of this queue.
    fn remember_served(&self, queue: &QueueName) {
        *self
            .served
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner) = Some(queue.clone());
    }

    /// The queues; with the strategy `round_robin` the one after the last that was served comes first.
    fn in_turn<'q>(&self, queues: &'q [QueueName]) -> impl Iterator<Item = &'q QueueName> {
        let served = self
            .served
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let at = match (self.config.dequeue_strategy, &*served) {
            (DequeueStrategy::RoundRobin, Some(last)) => queues
                .iter()
                .position(|queue| queue == last)
                .map_or(0, |at| at + 1),
            _ => 0,
        };
        queues[at..].iter().chain(&queues[..at])
    }

    /// One entry of the script's answer, in hand from now on.
    pub(super) fn taken(&self, row: &Row) -> Option<Claimed> {
        let [
            id,
            queue,
            number,
            kind,
            data,
            timeout,
            retries_left,
            retry_intervals,
            enqueued_at,
            description,
            stopped_callback,
            failures,
        ] = row;
        let text = |field: &[u8]| String::from_utf8_lossy(field).into_owned();
        let (job, its_queue) = (text(id), text(queue));
        let number: i64 = text(number).parse().ok()?;
        let (id, queue) = match (JobId::new(&job), QueueName::new(&its_queue)) {
            (Ok(id), Ok(queue)) => (id, queue),
            (id, _) => {
                // Its entry among the started jobs expires, and RQ's housekeeping fails it with the reason.
                tracing::error!(%job, error = ?id.err(), "cannot run a job with this id");
                return None;
            }
        };
        let kind = match kind.as_slice() {
            b"W" => Kind::Whole,
            _ => Kind::Plain {
                stopped_callback: !stopped_callback.is_empty(),
            },
        };
        let whole = matches!(kind, Kind::Whole);
        let limit = limit(&text(timeout))?;
        let retries_left: u32 = text(retries_left).parse().unwrap_or(0);
        let failures: u32 = text(failures).parse().unwrap_or(0);
        let held = Held {
            job,
            queue: its_queue,
            kind,
            shown: None,
            tried: false,
        };
        self.hand().jobs.insert(number, held);
        Some(Claimed {
            claim: Claim {
                job: id,
                handle: number,
                epoch: 0,
            },
            queue,
            task: task(&text(description), data),
            kind: if whole { KIND_WHOLE } else { KIND_PLAIN },
            payload: data.as_slice().into(),
            timeout: limit.map(|limit| if whole { limit + LIFECYCLE } else { limit }),
            retries: Some(retries_left.saturating_add(failures)),
            retry_after: Some(retry_after(retry_intervals, retries_left)),
            loss: Loss::Fails,
            work: Work::Job,
            // RQ's own code calls the function of a whole job, and it knows of one job only.
            batches: !whole,
            failures,
            losses: 0,
            ready: from_iso(&text(enqueued_at)).unwrap_or_else(Unix::now),
        })
    }

    /// The housekeeping of RQ's registries, at the start and each interval, becomes after-work.
    async fn maintain_when_due(&self, queues: &[QueueName]) -> Result<(), BrokerError> {
        let now = Mono::now();
        let due = self.maintenance().get(queues).copied();
        if queues.is_empty() || due.is_some_and(|at| at > now) {
            return Ok(());
        }
        self.reclaim(queues).await?;
        let mut wait = self.config.maintenance_interval;
        if due.is_none() {
            // What a predecessor had taken when it was killed has expired by then.
            wait = wait.min(self.config.job_monitoring_interval + ABANDONED);
        }
        self.maintenance().insert(queues.to_vec(), now + wait);
        let queues = queues.iter().map(ToString::to_string).collect();
        self.hand().after_work.push_back(AfterWork::Maintain { queues });
        Ok(())
    }

    /// What a supervisor that is no more had taken and not begun waits again.
    async fn reclaim(&self, queues: &[QueueName]) -> Result<(), BrokerError> {
        let mut call = self.scripts.reclaim.prepare_invoke();
        call.arg(self.keys.prefix()).arg(text::score(Unix::now()));
        for queue in queues {
            call.arg(queue.as_str());
        }
        let moved: u64 = self.run(&call).await?;
        if moved > 0 {
            tracing::info!(
                jobs = moved,
                "a supervisor died with jobs that it had not begun; they wait again"
            );
        }
        Ok(())
    }

    fn after_work(&self, queues: &[QueueName], limit: usize) -> Vec<Claimed> {
        let Some(queue) = queues.first() else {
            return Vec::new();
        };
        let mut hand = self.hand();
        let count = hand.after_work.len().min(limit);
        let after_work: Vec<AfterWork> = hand.after_work.drain(..count).collect();
        let mut jobs = Vec::with_capacity(count);
        for work in after_work {
            let number = hand.numbers(1);
            let task: Arc<str> = work.task().into();
            let payload = serde_json::to_vec(&work).unwrap_or_default();
            let Ok(id) = JobId::new(&format!("{task}:{number}")) else {
                continue;
            };
            hand.jobs.insert(
                number,
                Held {
                    job: id.to_string(),
                    queue: queue.to_string(),
                    kind: Kind::After(work),
                    shown: None,
                    tried: false,
                },
            );
            jobs.push(Claimed {
                claim: Claim {
                    job: id,
                    handle: number,
                    epoch: 0,
                },
                queue: queue.clone(),
                task,
                kind: KIND_AFTER_WORK,
                payload: payload.into(),
                timeout: Some(AFTER_WORK_TIMEOUT),
                retries: Some(3),
                retry_after: Some(Duration::ZERO),
                loss: Loss::RunsAgain,
                work: Work::After,
                batches: false,
                failures: 0,
                losses: 0,
                ready: Unix::now(),
            });
        }
        jobs
    }
}

/// One job of a script's answer.
pub(super) fn row(job: Value) -> Option<Row> {
    let fields: Vec<Vec<u8>> = redis::from_redis_value(job).ok()?;
    fields.try_into().ok()
}

/// How long a job may run by its hash. `None`: that is no number; within: without limit.
fn limit(timeout: &str) -> Option<Option<Duration>> {
    let seconds = timeout.parse::<f64>().ok()? as i64;
    let seconds = u64::try_from(seconds).ok().filter(|seconds| *seconds > 0);
    Some(seconds.map(Duration::from_secs))
}

/// What a job is called in logs and counts: the function that its description begins with, else the one in its data.
fn task(description: &str, data: &[u8]) -> Arc<str> {
    let task = text::task(description)
        .map(str::to_owned)
        .or_else(|| text::function(data));
    task.as_deref().unwrap_or("rq").into()
}

/// The wait before the next retry. Source: `rq/job.py`, `Job.get_retry_interval`.
fn retry_after(intervals: &[u8], retries_left: u32) -> Duration {
    let intervals: Vec<u64> = serde_json::from_slice(intervals).unwrap_or_default();
    let at = intervals.len().saturating_sub(retries_left as usize);
    Duration::from_secs(intervals.get(at).copied().unwrap_or(0))
}

/// Reads what [`text::iso`] writes, to the millisecond.
pub(super) fn from_iso(text: &str) -> Option<Unix> {
    let number = |range: std::ops::Range<usize>| text.get(range)?.parse::<i64>().ok();
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
    let millis = number(20..23).unwrap_or(0);
    // Days since 1970 of the proleptic Gregorian calendar, with years that begin in March.
    let years = if month <= 2 { year - 1 } else { year };
    let of_era = years.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = years.div_euclid(400) * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    Some(Unix(
        (((days * 24 + hour) * 60 + minute) * 60 + second) * 1000 + millis,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_reads_back_as_it_was_written() {
        for millis in [0, 951_782_400_001, 1_772_355_900_250, 4_107_542_399_999] {
            assert_eq!(from_iso(&text::iso(Unix(millis))), Some(Unix(millis)));
        }
        assert_eq!(from_iso("yesterday"), None);
    }

    #[test]
    fn the_first_interval_holds_while_there_are_more_retries_than_intervals() {
        let wait = |left| retry_after(b"[10, 30]", left).as_secs();
        assert_eq!([wait(4), wait(3), wait(2), wait(1)], [10, 10, 10, 30]);
        assert_eq!(retry_after(b"", 2), Duration::ZERO);
    }
}

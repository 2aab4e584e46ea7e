//! Taking jobs: one script call takes a batch and starts the plain ones.

use std::sync::Arc;
use std::time::Duration;

use redis::Value;

use super::held::{AfterWork, Held, KIND_AFTER_WORK, KIND_PLAIN, KIND_WHOLE, Kind, Unreadable};
use super::{RqBroker, text};
use crate::broker::BrokerError;
use crate::broker::parts::turns::Turns;
use crate::broker::redis::connection::{IN_TIME, is_broken};
use crate::job::{Claim, Claimed, Job, JobId, Loss, QueueName, Work};
use crate::time::{Mono, Unix};

/// Jobs that one script call takes at most: the server does nothing else meanwhile.
const BATCH_MAX: usize = 500;
/// What RQ's code may need beyond a job's own timeout: its callbacks, each with a timeout of its own.
const LIFECYCLE: Duration = Duration::from_secs(180);
/// Further tries of after-work that failed.
const AFTER_WORK_RETRIES: u32 = 3;
/// Longest run of after-work.
const AFTER_WORK_TIMEOUT: Duration = Duration::from_secs(600);

/// How long a claim waits for a job that came back to begin, before it says that there is none.
const RETURNED_WAIT: Duration = Duration::from_secs(1);

/// How long a claim lives beyond the heartbeat that was due, and a little more. Source: `rq/worker/base.py`,
/// `get_heartbeat_ttl`.
const ABANDONED: Duration = Duration::from_secs(65);
/// How much later than asked a server may carry out a claim, for clocks that don't run alike.
const MARGIN: Duration = Duration::from_secs(1);

/// A job as the scripts hand it out, see `lua/job.lua`.
type Row = [Vec<u8>; 13];

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
        let mut call = self.scripts.claim.prepare_invoke();
        call.arg(self.keys.prefix())
            .arg(wanted)
            .arg(text::iso(now))
            .arg(text::score(now))
            .arg(self.options.job_monitoring_interval.as_secs())
            .arg(self.any_worker())
            .arg(&self.execution_prefix)
            .arg(number)
            .arg(line.deadline(IN_TIME))
            .arg(text::seconds(now))
            .arg(match turns {
                Turns::Strict => "strict",
                Turns::RoundRobin { .. } => "round_robin",
                Turns::Random => "random",
            })
            .arg(fastrand::u32(..))
            .arg(u8::from(self.hand().takes_returned()));
        let first = turns.first().min(queues.len());
        for queue in queues[first..].iter().chain(&queues[..first]) {
            call.arg(queue.as_str());
        }
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
        call.arg(self.keys.prefix()).arg(text::score(now)).arg(0);
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

    /// The housekeeping of RQ's registries, at the start and each interval, becomes after-work.
    async fn maintain_when_due(&self, queues: &[QueueName]) -> Result<(), BrokerError> {
        let now = Mono::now();
        let due = self.housekeeping.due(queues);
        if queues.is_empty() || due.is_some_and(|at| at > now) {
            return Ok(());
        }
        self.reclaim(queues).await?;
        let mut wait = self.options.maintenance_interval;
        if due.is_none() {
            // What a predecessor had taken when it was killed has expired by then.
            wait = wait.min(self.options.job_monitoring_interval + ABANDONED);
        }
        self.housekeeping.done(queues, now + wait);
        let queues = queues.iter().map(ToString::to_string).collect();
        self.after_works.add_own(AfterWork::Maintain { queues });
        Ok(())
    }

    /// What a supervisor that is no more had taken and not begun waits again.
    async fn reclaim(&self, queues: &[QueueName]) -> Result<(), BrokerError> {
        let mut call = self.scripts.reclaim.prepare_invoke();
        call.arg(self.keys.prefix()).arg(text::score(Unix::now()));
        for queue in queues {
            call.arg(queue.as_str());
        }
        let (moved, begun): (u64, Vec<Vec<u8>>) = self.link.run_script(&call).await?;
        for job in begun {
            let job = String::from_utf8_lossy(&job);
            tracing::warn!(%job, "supervisors died with this job in hand, three in a row: it counts as begun and is abandoned");
        }
        if moved > 0 {
            tracing::info!(
                jobs = moved,
                "a supervisor died with jobs that it had not begun; they wait again"
            );
        }
        Ok(())
    }

    pub(super) fn after_work(&self, queues: &[QueueName], limit: usize) -> Vec<Claimed> {
        let Some(queue) = queues.first() else {
            return Vec::new();
        };
        let mut hand = self.hand();
        let after_work = self.after_works.take(limit);
        let mut jobs = Vec::with_capacity(after_work.len());
        for pending in after_work {
            let (failures, losses) = (pending.failures, pending.losses);
            let number = hand.numbers(1);
            let task: Arc<str> = pending.work.task().into();
            let payload = serde_json::to_vec(&pending.work).unwrap_or_default();
            let Ok(id) = JobId::new(&format!("{task}:{number}")) else {
                continue;
            };
            hand.jobs.insert(
                number,
                Held {
                    job: id.to_string(),
                    queue: queue.to_string(),
                    kind: Kind::After(pending),
                    shown: None,
                    tried: false,
                    returned: false,
                },
            );
            let claim = Claim {
                job: id.clone(),
                handle: number,
                epoch: 0,
            };
            let job = Job {
                id,
                queue: queue.clone(),
                task,
                kind: KIND_AFTER_WORK,
                payload: payload.into(),
                timeout: Some(AFTER_WORK_TIMEOUT),
                retries: Some(AFTER_WORK_RETRIES),
                retry_after: Some(Duration::ZERO),
                loss: Loss::RunsAgain,
                work: Work::After,
                batches: false,
                failures,
                losses,
                ready: Unix::now(),
            };
            jobs.push(Claimed { claim, job });
        }
        jobs
    }
}

/// One job of a script's answer.
pub(super) fn row(job: Value) -> Option<Row> {
    let fields: Vec<Vec<u8>> = redis::from_redis_value(job).ok()?;
    fields.try_into().ok()
}

/// A row as a job, with its number and what is kept of it while it is in hand. The error says why it can't be run.
fn read(row: &Row) -> Result<(i64, Held, Claimed), String> {
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
        returned,
    ] = row;
    let text = |field: &[u8]| String::from_utf8_lossy(field).into_owned();
    let utf8 = |name, field| std::str::from_utf8(field).map_err(|_| format!("its {name} is no UTF-8 text"));
    let job = JobId::new(utf8("id", id)?).map_err(|why| format!("its id {why}"))?;
    let queue = QueueName::new(utf8("queue", queue)?).map_err(|why| format!("its queue's name {why}"))?;
    let number: i64 = text(number).parse().map_err(|_| "its number can't be read")?;
    let whole = kind == b"W";
    if whole {
        // RQ's own code reads it.
        utf8("description", description)?;
    }
    let limit = limit(&text(timeout))?;
    let retries_left = match text(retries_left).trim() {
        "" => 0,
        left => {
            let left: i64 = left
                .parse()
                .map_err(|_| format!("its retries_left, `{left}`, is no whole number"))?;
            u32::try_from(left.max(0)).unwrap_or(u32::MAX)
        }
    };
    let failures: u32 = text(failures).parse().unwrap_or(0);
    let held = Held {
        job: job.to_string(),
        queue: queue.to_string(),
        kind: match whole {
            true => Kind::Whole,
            false => Kind::Plain {
                stopped_callback: !stopped_callback.is_empty(),
            },
        },
        shown: None,
        tried: false,
        returned: !returned.is_empty(),
    };
    let claim = Claim {
        job: job.clone(),
        handle: number,
        epoch: 0,
    };
    let job = Job {
        id: job,
        queue,
        task: task(&text(description), data),
        kind: if whole { KIND_WHOLE } else { KIND_PLAIN },
        payload: data.as_slice().into(),
        timeout: limit.map(|limit| if whole { limit + LIFECYCLE } else { limit }),
        retries: Some(retries_left.saturating_add(failures)),
        retry_after: Some(retry_after(retry_intervals, retries_left)?),
        loss: Loss::Fails,
        work: Work::Job,
        // RQ's own code calls the function of a whole job, and it knows of one job only.
        batches: !whole,
        failures,
        losses: 0,
        ready: from_iso(&text(enqueued_at)).unwrap_or_else(Unix::now),
    };
    Ok((number, held, Claimed { claim, job }))
}

/// How long a job may run by its hash; `None`: without limit. Source: `rq/utils.py`, `parse_timeout`;
/// `rq/worker/base.py`, `perform_job`: 0 is the default, and the alarm of less never comes.
fn limit(timeout: &str) -> Result<Option<Duration>, String> {
    const DEFAULT: i64 = 180;
    /// Sixty-eight years: what `signal.alarm` takes, and far from any overflow.
    const MAX: i64 = i32::MAX as i64;
    let unreadable = || format!("its timeout, `{timeout}`, is no number of seconds");
    let text = timeout.trim();
    let whole = |text: &str| text.parse::<i64>().ok();
    let fraction = || text.parse::<f64>().ok().filter(|seconds| seconds.is_finite());
    let with_unit = || {
        let (at, unit) = text.char_indices().next_back()?;
        let unit = match unit.to_ascii_lowercase() {
            'd' => 86_400,
            'h' => 3_600,
            'm' => 60,
            's' => 1,
            _ => return None,
        };
        Some(whole(&text[..at])?.saturating_mul(unit))
    };
    let seconds = whole(text)
        .or_else(|| fraction().map(|seconds| seconds as i64))
        .or_else(with_unit)
        .ok_or_else(unreadable)?;
    Ok(match seconds {
        0 => Some(DEFAULT),
        1..=MAX => Some(seconds),
        _ => None,
    }
    .and_then(|seconds| u64::try_from(seconds).ok())
    .map(Duration::from_secs))
}

/// What a job is called in logs and counts: the function that its description begins with, else the one in its data.
fn task(description: &str, data: &[u8]) -> Arc<str> {
    let task = text::task(description)
        .map(str::to_owned)
        .or_else(|| text::function(data));
    task.as_deref().unwrap_or("rq").into()
}

/// The wait before the next retry. Source: `rq/job.py`, `Job.get_retry_interval`.
fn retry_after(intervals: &[u8], retries_left: u32) -> Result<Duration, String> {
    let unreadable = || {
        let shown = String::from_utf8_lossy(intervals);
        format!("its retry_intervals, `{shown}`, are no list of seconds")
    };
    let intervals: Option<Vec<f64>> = match intervals {
        b"" => None,
        json => serde_json::from_slice(json).map_err(|_| unreadable())?,
    };
    let intervals = intervals.unwrap_or_default();
    let at = intervals.len().saturating_sub(retries_left as usize);
    let seconds = intervals.get(at).copied().unwrap_or(0.0);
    Duration::try_from_secs_f64(seconds.max(0.0)).map_err(|_| unreadable())
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
        let wait = |left| retry_after(b"[10, 30]", left).unwrap().as_secs();
        assert_eq!([wait(4), wait(3), wait(2), wait(1)], [10, 10, 10, 30]);
        assert_eq!(retry_after(b"", 2), Ok(Duration::ZERO));
    }

    #[test]
    fn an_interval_is_read_as_python_writes_it_or_refused() {
        assert_eq!(retry_after(b"[0.5]", 1), Ok(Duration::from_millis(500)));
        assert_eq!(retry_after(b"null", 1), Ok(Duration::ZERO));
        for odd in [&b"5"[..], b"[\"5\"]", b"[Infinity]", b"[1e300]", b"no"] {
            assert!(retry_after(odd, 1).is_err(), "{odd:?}");
        }
    }

    #[test]
    fn a_timeout_is_read_as_rq_reads_it_or_refused() {
        let seconds = |text| limit(text).unwrap().map(|limit| limit.as_secs());
        for (text, read) in [
            ("30", 30),
            (" 30 ", 30),
            ("1.9", 1),
            ("0", 180),
            ("1h", 3600),
            ("90d", 7_776_000),
        ] {
            assert_eq!(seconds(text), Some(read), "{text}");
        }
        for text in ["-1", "-7", "9223372036854775807", "1e30"] {
            assert_eq!(seconds(text), None, "{text}");
        }
        for text in ["", "soon", "inf", "nan", "1w", "0x10"] {
            assert!(limit(text).is_err(), "{text}");
        }
    }
}

//! Inspection: what stands in queues, jobs by id, results to wait for, failed jobs.

use std::borrow::Cow;
use std::collections::HashMap;

use super::data::{Call, Serializer};
use super::held::Kind;
use super::keys::Keys;
use super::text::from_iso;
use super::{RqBroker, text};
use crate::broker::dead::unreadable;
use crate::broker::{Backlog, BrokerError, DeadFilter};
use crate::job::{Attempt, JobError, JobId, JobState, JobView, Progress, QueueName};
use crate::time::Unix;

/// Ids that one call asks for.
pub(super) const PAGE: usize = 500;
/// The field of a job's hash that says how far it is, in JSON. RQ leaves fields alone that it does not know.
pub(super) const PROGRESS: &str = "pool_progress";
/// Ask for many jobs in one command: for all that is known of them, and for what lists show.
const LOOK: &str = include_str!("lua/look.lua");
const LIST: &str = include_str!("lua/list.lua");
/// The fields of a hash that [`Views::view`] reads.
const SHOWN: [&str; 10] = [
    "status",
    "origin",
    "data",
    "description",
    "exc_info",
    "created_at",
    "enqueued_at",
    "started_at",
    "ended_at",
    PROGRESS,
];

/// The fields of a hash, or of an entry of a stream.
pub(super) type Hash = HashMap<String, Vec<u8>>;

/// Entries of a stream with their ids, the oldest first.
pub(super) type Entries = Vec<(String, Hash)>;

/// A job's hash, the newest entry of its results if there is one, and how many of its runs failed if that is known.
pub(super) type Found = (Hash, Entries, Option<u32>);

/// What a list shows of a job: the fields [`SHOWN`], the traceback of its newest result, how many of its runs failed.
pub(super) type Listed = (Vec<Option<Vec<u8>>>, Option<Vec<u8>>, Option<u32>);

/// How jobs are read.
#[derive(Clone, Debug)]
pub(super) struct Views {
    pub keys: Keys,
    pub serializer: Serializer,
}

impl Views {
    /// The command that asks for these jobs, which are [`PAGE`] at the most; its answer is a [`Found`] for each.
    pub(super) fn look(&self, ids: &[JobId]) -> redis::Cmd {
        // Not by its hash: a server that does not know it yet would be asked three times.
        let mut look = redis::cmd("EVAL");
        look.arg(LOOK).arg(0).arg(self.keys.names());
        for id in ids {
            look.arg(id.as_str());
        }
        look
    }

    /// The command that asks for what lists show of these jobs, which are [`PAGE`] at the most; its answer is a
    /// [`Listed`] for each. Results are looked at in the place of dead jobs alone.
    pub(super) fn list(&self, ids: &[JobId], place: JobState) -> redis::Cmd {
        let mut list = redis::cmd("EVAL");
        list.arg(LIST).arg(0).arg(self.keys.names()).arg(place.as_str());
        list.arg(SHOWN.len()).arg(&SHOWN[..]);
        for id in ids {
            list.arg(id.as_str());
        }
        list
    }

    /// The job of an answer to [`Views::list`].
    pub(super) fn listed(&self, id: &JobId, (fields, traceback, failures): Listed) -> Option<JobView> {
        let named = SHOWN.iter().map(|name| (*name).to_owned()).zip(fields);
        let hash: Hash = named.filter_map(|(name, value)| Some((name, value?))).collect();
        let entry: Hash = traceback
            .into_iter()
            .map(|text| ("exc_string".to_owned(), text))
            .collect();
        self.view(id, &hash, &entry, failures)
    }

    /// A job as its hash and the newest entry of its results tell it; `None` when it is not there.
    pub(super) fn view(
        &self,
        id: &JobId,
        hash: &Hash,
        entry: &Hash,
        failures: Option<u32>,
    ) -> Option<JobView> {
        let text = |name: &str| {
            hash.get(name)
                .map(|value| String::from_utf8_lossy(value).into_owned())
        };
        let data = inflated(hash.get("data")?);
        let call = data.and_then(|data| Call::read(&self.serializer, &data));
        let state = state(&text("status").unwrap_or_default());
        let description = text("description").unwrap_or_default();
        let error = (state == JobState::Dead).then(|| {
            let kept = entry.get("exc_string").and_then(|text| text::from_base64(text));
            error(
                text("status").unwrap_or_default(),
                kept.as_ref().or_else(|| hash.get("exc_info")),
            )
        });
        let progress = hash.get(PROGRESS).and_then(|json| Progress::read(json).ok());
        let time = |name: &str| text(name).and_then(|value| from_iso(&value));
        Some(JobView {
            id: id.clone(),
            queue: Some(QueueName::new(&text("origin").unwrap_or_default()).ok()?),
            task: match &call {
                Some(call) => call.function().into(),
                None => text::task(&description).unwrap_or("rq").into(),
            },
            payload: call.as_ref().map(Call::payload).unwrap_or_default(),
            state,
            enqueued: time("enqueued_at")
                .or_else(|| time("created_at"))
                .unwrap_or_default(),
            due: None,
            started: time("started_at"),
            ended: time("ended_at").filter(|_| state.is_final()),
            failures,
            // To RQ a loss is a failure.
            losses: None,
            result: self.result(state, entry),
            error,
            progress: progress.filter(|_| state == JobState::Running),
            attempts: Vec::new(),
        })
    }

    fn result(&self, state: JobState, entry: &Hash) -> Option<Vec<u8>> {
        if state != JobState::Finished {
            return None;
        }
        match entry.get("return_value") {
            Some(value) => text::from_base64(value).map(|bytes| self.serializer.result(&bytes)),
            None => Some(b"null".to_vec()),
        }
    }
}

impl RqBroker {
    pub(super) async fn count(&self, queues: &[QueueName]) -> Result<Backlog, BrokerError> {
        let mut call = self.scripts.backlog.prepare_invoke();
        call.arg(self.keys.names());
        for queue in queues {
            call.arg(queue.as_str());
        }
        let (waiting, scheduled, oldest): (Vec<u64>, u64, String) = self.link.run_script(&call).await?;
        let is_any = waiting.iter().any(|jobs| *jobs > 0);
        Ok(Backlog {
            by_queue: queues.iter().cloned().zip(waiting).collect(),
            scheduled,
            oldest: is_any.then(|| from_iso(&oldest).unwrap_or_else(Unix::now)),
        })
    }

    pub(super) async fn queue_names(&self) -> Result<Vec<QueueName>, BrokerError> {
        let keys: Vec<Vec<u8>> = self
            .link
            .run_command(redis::cmd("SMEMBERS").arg(self.keys.queues()))
            .await?;
        let start = self.keys.queue("");
        let mut names: Vec<QueueName> = keys
            .iter()
            .filter_map(|key| QueueName::new(std::str::from_utf8(key).ok()?.strip_prefix(&start)?).ok())
            .collect();
        names.sort();
        Ok(names)
    }

    pub(super) async fn look_up(&self, ids: &[JobId]) -> Result<Vec<Option<JobView>>, BrokerError> {
        let mut views = Vec::with_capacity(ids.len());
        for page in ids.chunks(PAGE) {
            let found: Vec<Found> = self.link.run_command(&self.views.look(page)).await?;
            views.extend(page.iter().zip(found).map(|(id, (hash, entries, failures))| {
                let (_, entry) = entries.into_iter().next().unwrap_or_default();
                self.views.view(id, &hash, &entry, failures)
            }));
        }
        self.look_up_due(&mut views).await?;
        Ok(views)
    }

    /// When scheduled jobs are due: their hashes do not say.
    async fn look_up_due(&self, views: &mut [Option<JobView>]) -> Result<(), BrokerError> {
        let mut scheduled: Vec<&mut JobView> = views
            .iter_mut()
            .flatten()
            .filter(|view| view.state == JobState::Scheduled)
            .collect();
        if scheduled.is_empty() {
            return Ok(());
        }
        let mut pipeline = redis::pipe();
        for view in &scheduled {
            let registry = self
                .keys
                .scheduled(view.queue.as_ref().map_or("", QueueName::as_str));
            pipeline.cmd("ZSCORE").arg(registry).arg(view.id.as_str());
        }
        let answer: Result<Vec<Option<f64>>, _> = self.link.pipeline(&pipeline).await;
        let scores = answer.map_err(|error| self.link.endpoint.error(&error))?;
        for (view, score) in scheduled.iter_mut().zip(scores) {
            view.due = score.map(|second| Unix((second * 1000.0) as i64));
        }
        Ok(())
    }

    /// The same, with the runs that did not succeed. RQ keeps no record of one that it has run again by a retry policy.
    pub(super) async fn look_up_with_attempts(
        &self,
        ids: &[JobId],
    ) -> Result<Vec<Option<JobView>>, BrokerError> {
        let mut views = self.look_up(ids).await?;
        for page in views.chunks_mut(PAGE) {
            let mut ended: Vec<&mut JobView> = page.iter_mut().flatten().collect();
            ended.retain(|view| view.state.is_final());
            if ended.is_empty() {
                continue;
            }
            let mut pipeline = redis::pipe();
            for view in &ended {
                let results = self.keys.results(view.id.as_str());
                pipeline.cmd("XRANGE").arg(results).arg("-").arg("+");
            }
            let results: Vec<Entries> = self.link.run_pipeline(&pipeline).await?;
            for (view, entries) in ended.into_iter().zip(&results) {
                view.attempts = entries.iter().filter_map(|(_, entry)| attempt(entry)).collect();
            }
        }
        Ok(views)
    }

    pub(super) async fn failed(&self, filter: &DeadFilter) -> Result<Vec<JobView>, BrokerError> {
        let queues = match &filter.queue {
            Some(queue) => vec![queue.clone()],
            None => self.queue_names().await?,
        };
        let mut views = Vec::new();
        for queue in queues {
            let mut at = 0;
            loop {
                let mut range = redis::cmd("ZREVRANGE");
                range
                    .arg(self.keys.failed(queue.as_str()))
                    .arg(at)
                    .arg(at + PAGE - 1);
                let listed: Vec<Vec<u8>> = self.link.run_command(&range).await?;
                let (mut ids, mut bad) = (Vec::new(), Vec::new());
                for id in &listed {
                    match job_id(id) {
                        Ok(id) => ids.push(id),
                        Err(why) => {
                            let why = format!(
                                "its id {why}: `pool dead` can't retry or delete it, RQ's own tools can"
                            );
                            bad.push(Some(unreadable(id, queue.clone(), b"rq", why)));
                        }
                    }
                }
                let mut found = self.look_up(&ids).await?;
                found.extend(bad);
                let wanted = |view: &JobView| {
                    filter.task.as_deref().is_none_or(|task| task == &*view.task)
                        && filter
                            .ended_by
                            .is_none_or(|by| view.ended.is_none_or(|ended| ended <= by))
                };
                views.extend(found.into_iter().flatten().filter(wanted));
                at += PAGE;
                if listed.len() < PAGE || views.len() >= filter.limit.saturating_mul(2) {
                    break;
                }
            }
        }
        views.sort_by_key(|view| std::cmp::Reverse(view.ended));
        views.truncate(filter.limit);
        Ok(views)
    }

    /// `what`: `requeue` or `delete`.
    pub(super) async fn requeue(&self, ids: &[JobId], what: &str) -> Result<Vec<JobId>, BrokerError> {
        let mut call = self.scripts.requeue.prepare_invoke();
        let now = Unix::now();
        call.arg(self.keys.names())
            .arg(what)
            .arg(text::iso(now))
            .arg(text::score(now));
        for id in ids {
            call.arg(id.as_str());
        }
        let found: Vec<String> = self.link.run_script(&call).await?;
        Ok(found.iter().filter_map(|id| JobId::new(id).ok()).collect())
    }

    /// What is in hand when the supervisor leaves goes back to the front of its queue.
    pub(super) async fn give_all_back(&self) -> Result<(), BrokerError> {
        let settlements = {
            let hand = self.hand();
            let held = hand
                .jobs
                .iter()
                .filter(|(_, held)| !matches!(held.kind, Kind::After(_)));
            held.filter_map(|(number, held)| {
                Some(crate::job::Settlement {
                    of: crate::job::Claim {
                        job: JobId::new(&held.job).ok()?,
                        handle: *number,
                        epoch: 0,
                    },
                    verdict: crate::job::Verdict::GiveBack,
                    run: None,
                })
            })
            .collect()
        };
        self.end(settlements).await.map(drop)
    }
}

/// An id as a registry has it; the error says why it can't name a job here.
pub(super) fn job_id(id: &[u8]) -> Result<JobId, String> {
    let text = std::str::from_utf8(id).map_err(|_| "is no UTF-8 text".to_owned())?;
    JobId::new(text).map_err(|why| why.to_string())
}

/// Source: `rq/job.py`, `JobStatus`.
fn state(status: &str) -> JobState {
    match status {
        "started" => JobState::Running,
        "finished" => JobState::Finished,
        "failed" | "stopped" | "canceled" => JobState::Dead,
        "scheduled" => JobState::Scheduled,
        "deferred" => JobState::Deferred,
        "rate_limited" => JobState::Blocked,
        _ => JobState::Waiting,
    }
}

/// Why a job failed, from the text that is kept. Of a traceback its end says it: the type of the exception and its message.
fn error(status: String, kept: Option<&Vec<u8>>) -> JobError {
    let detail = kept.and_then(|bytes| inflated(bytes)).unwrap_or_default();
    let detail = String::from_utf8_lossy(&detail).into_owned();
    let raised = raised(&detail).filter(|_| status == "failed");
    let raised = raised.map(|(kind, message)| (kind.to_owned(), message.to_owned()));
    let (kind, message) = raised.unwrap_or_else(|| {
        let last = detail.trim_end().lines().last();
        (status, last.unwrap_or("no reason was kept").to_owned())
    });
    JobError {
        kind,
        message,
        detail,
        death: None,
        broker: String::new(),
    }
}

/// The run that an entry of a job's results tells of, if it did not succeed. Source: `rq/results.py`, `Result.Type`,
/// `Result.serialize`.
fn attempt(entry: &Hash) -> Option<Attempt> {
    let field = |name: &str| {
        let value = entry.get(name).map(|value| String::from_utf8_lossy(value));
        value.filter(|value| !value.is_empty()).map(Cow::into_owned)
    };
    let status = match field("type")?.as_str() {
        "2" | "4" | "5" => "failed",
        "3" => "stopped",
        _ => return None,
    };
    let kept = entry.get("exc_string").and_then(|text| text::from_base64(text));
    Some(Attempt {
        started: field("execution_started_at").and_then(|at| text::from_seconds(&at)),
        ended: field("execution_ended_at").and_then(|at| text::from_seconds(&at)),
        worker: field("worker_name"),
        ..Attempt::new(&error(status.to_owned(), kept.as_ref()), None)
    })
}

/// The exception that ends a traceback of Python: the type without its module, and the message.
fn raised(traceback: &str) -> Option<(&str, &str)> {
    let frames = traceback.rfind("\n  File \"")?;
    let end = traceback[frames..].match_indices('\n').find(|(at, _)| {
        let next = traceback[frames + at + 1..].chars().next();
        next.is_some_and(|first| !first.is_whitespace())
    })?;
    let raised = traceback[frames + end.0..].trim();
    let (name, message) = raised.split_once(": ").unwrap_or((raised, ""));
    let kind = name.rsplit('.').next().unwrap_or(name);
    let is_name = |part: &str| {
        part.chars()
            .all(|letter| letter.is_alphanumeric() || "_.".contains(letter))
    };
    (is_name(name) && !kind.is_empty()).then_some((kind, message))
}

/// The bytes of a field that may be compressed; `None` when they are too many. Source: `rq/job.py`, `Job.restore`.
fn inflated(bytes: &[u8]) -> Option<Vec<u8>> {
    use std::io::Read;
    // Bounded: nothing that a producer writes may fill our memory.
    const LEN_MAX: usize = 16 << 20;
    let mut inflated = Vec::new();
    let mut decoder = flate2::read::ZlibDecoder::new(bytes).take(LEN_MAX as u64);
    match decoder.read_to_end(&mut inflated) {
        Ok(len) => (len < LEN_MAX).then_some(inflated),
        Err(_) => Some(bytes.to_vec()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_traceback_is_the_error() {
        let frames = "Traceback (most recent call last):\n  File \"a.py\", line 1, in f\n    g()\n    ^^^\n";
        let cases = [
            ("ValueError: bad luck\n", Some(("ValueError", "bad luck"))),
            (
                "ValueError: two\nlines: here\n",
                Some(("ValueError", "two\nlines: here")),
            ),
            (
                "redis.exceptions.ConnectionError: Error 111: refused",
                Some(("ConnectionError", "Error 111: refused")),
            ),
            ("KeyboardInterrupt\n", Some(("KeyboardInterrupt", ""))),
            ("Größe: 3", Some(("Größe", "3"))),
            ("no exception at all: 3", None),
            ("", None),
        ];
        for (end, expected) in cases {
            assert_eq!(raised(&format!("{frames}{end}")), expected, "{end}");
        }
        assert_eq!(
            raised("Work-horse terminated unexpectedly; waitpid returned 9"),
            None
        );
    }

    #[test]
    fn what_is_no_exception_keeps_the_status() {
        let lost = b"Work-horse terminated unexpectedly".to_vec();
        let error = error("failed".into(), Some(&lost));
        assert_eq!(
            (error.kind.as_str(), error.to_string()),
            ("failed", "Work-horse terminated unexpectedly".into())
        );
    }
}

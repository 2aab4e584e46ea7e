//! Results as Celery's Redis backend keeps them: looking them up, and waiting for them.
//!
//! Who stores a result publishes it on a channel of its key's name. Source: `celery/backends/redis.py`, `RedisBackend.set`,
//! `ResultConsumer`.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::{FutureExt, StreamExt};
use redis::aio::PubSub;
use redis::{RedisResult, Script};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::iso;
use super::options::Results;
use super::outcome::Store;
use super::redis::scripts::store_results;
use crate::broker::redis::connection::{Link, is_broken};
use crate::broker::redis::endpoint::Endpoint;
use crate::broker::redis::sorted_set::literal;
use crate::broker::wait::{WaitAny, watch};
use crate::broker::{BrokerError, Ended, Watch, check};
use crate::job::{CANCELED, EXPIRED, JobError, JobId, JobState, JobView, QueueName, STOPPED};
use crate::time::Mono;

/// The hint for a user who lacks rights.
const RIGHTS: &str = "this user needs the commands and keys that Celery's own workers need";
/// Keys that are asked for in one call.
const PAGE: usize = 500;
/// How long nothing may be heard before the results are looked at again: a connection may have died silently.
const SILENCE: Duration = Duration::from_secs(60);
/// Wait before a connection that was lost is made anew; grows up to the longest.
const PATIENCE: Duration = Duration::from_millis(100);
const PATIENCE_MAX: Duration = Duration::from_secs(5);
/// A server that is away for so long is told to the user.
const AWAY_MAX: Duration = Duration::from_secs(60);

/// The server that has the results.
#[derive(Clone, Debug)]
pub(super) struct ResultStore {
    link: Arc<Link>,
    prefix: Arc<str>,
    store: Arc<Script>,
    closed: Arc<AtomicBool>,
}

/// What is stored of a task. Source: `celery/backends/base.py`, `Backend._get_result_meta`.
#[derive(Deserialize)]
struct Meta<'m> {
    status: String,
    #[serde(borrow, default)]
    result: Option<&'m RawValue>,
    #[serde(default)]
    traceback: Option<String>,
    #[serde(default)]
    date_done: Option<String>,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    queue: Option<String>,
    #[serde(default)]
    retries: Option<u32>,
}

/// An exception as JSON. Source: `Backend.prepare_exception`.
#[derive(Deserialize)]
struct Exception {
    exc_type: String,
    #[serde(default)]
    exc_message: serde_json::Value,
}

impl ResultStore {
    /// Connects to nothing yet.
    pub fn new(results: &Results, closed: &Arc<AtomicBool>) -> Result<Self, BrokerError> {
        let endpoint = Endpoint::new(&results.redis, RIGHTS)?;
        Ok(ResultStore {
            link: Arc::new(Link::new(Arc::new(endpoint))),
            prefix: results.prefix.as_str().into(),
            store: Arc::new(store_results()),
            closed: Arc::clone(closed),
        })
    }

    fn key(&self, id: &JobId) -> String {
        format!("{}{id}", self.prefix)
    }

    /// What is stored of these. One of which nothing is stored waits, as far as anybody knows: Celery's PENDING.
    pub async fn find(&self, ids: &[JobId]) -> Result<Vec<JobView>, BrokerError> {
        let found = self.look(ids).await;
        found.map_err(|error| self.link.endpoint.error(&error))
    }

    /// Stores captured results. One that Redis refuses (a key of another type) is an error in the log.
    pub async fn store(&self, results: &[&Store]) -> Result<(), BrokerError> {
        for page in results.chunks(PAGE) {
            let mut call = self.store.prepare_invoke();
            for result in page {
                call.arg(&result.key).arg(&result.value).arg(result.life());
            }
            let refused: Vec<String> = self.link.run_script(&call).await?;
            for pair in refused.chunks_exact(2) {
                let [key, reason] = [&pair[0], &pair[1]];
                tracing::error!(
                    key,
                    reason,
                    "a key can't be written: the result that belongs there is missing"
                );
            }
        }
        Ok(())
    }

    /// One step of a walk over the ids that begin like this, in their order, and which step comes next: after the last
    /// one 0. Source: the command `SCAN`.
    pub async fn walk(&self, start: &str, step: u64, keys: usize) -> Result<(u64, Vec<JobId>), BrokerError> {
        let mut scan = redis::cmd("SCAN");
        scan.arg(step)
            .arg("MATCH")
            .arg(format!("{}*", literal(&format!("{}{start}", self.prefix))))
            .arg("COUNT")
            .arg(keys);
        let (next, keys): (u64, Vec<Vec<u8>>) = self.link.run_command(&scan).await?;
        let ids = keys.iter().filter_map(|key| {
            let id = std::str::from_utf8(key).ok()?.strip_prefix(&*self.prefix)?;
            JobId::new(id).ok()
        });
        let mut ids: Vec<JobId> = ids.collect();
        ids.sort_unstable();
        ids.dedup();
        Ok((next, ids))
    }

    async fn look(&self, ids: &[JobId]) -> RedisResult<Vec<JobView>> {
        let mut views = Vec::with_capacity(ids.len());
        for page in ids.chunks(PAGE) {
            let mut get = redis::cmd("MGET");
            for id in page {
                get.arg(self.key(id));
            }
            let metas: Vec<Option<Vec<u8>>> = self.link.command(&get).await?;
            views.extend(page.iter().zip(metas).map(|(id, meta)| view(id, meta.as_deref())));
        }
        Ok(views)
    }

    pub fn watch(&self, ids: Vec<JobId>) -> Box<dyn Watch> {
        watch(
            ids,
            Watching {
                store: self.clone(),
                heard: None,
                unsure: HashSet::new(),
            },
        )
    }
}

/// A task as its result shows it.
fn view(id: &JobId, meta: Option<&[u8]>) -> JobView {
    let pending = JobView::new(id.clone(), None, "", JobState::Waiting);
    let Some(meta) = meta else { return pending };
    let Ok(meta) = serde_json::from_slice::<Meta<'_>>(meta) else {
        // Another serializer wrote it: it has ended, or is on its way.
        let error = JobError::new("unreadable", "its result is not JSON; ask by `AsyncResult(ID)`");
        return JobView {
            state: JobState::Dead,
            error: Some(error),
            ..pending
        };
    };
    let state = state(&meta.status);
    JobView {
        task: meta.name.as_deref().unwrap_or_default().into(),
        queue: meta.queue.as_deref().and_then(|name| QueueName::new(name).ok()),
        ended: meta
            .date_done
            .as_deref()
            .and_then(iso::read)
            .filter(|_| state.is_final()),
        failures: meta.retries,
        result: (state == JobState::Finished).then(|| {
            meta.result
                .map_or(&b"null"[..], |result| result.get().as_bytes())
                .to_vec()
        }),
        error: (state == JobState::Dead).then(|| error(&meta)),
        state,
        ..pending
    }
}

/// Source: `celery/states.py`. A state of the user's own says how far a task is that runs.
fn state(status: &str) -> JobState {
    match status {
        "SUCCESS" => JobState::Finished,
        "FAILURE" | "REVOKED" => JobState::Dead,
        "PENDING" | "RECEIVED" | "RETRY" | "REJECTED" => JobState::Waiting,
        _ => JobState::Running,
    }
}

fn error(meta: &Meta<'_>) -> JobError {
    let exception = meta
        .result
        .and_then(|result| serde_json::from_str::<Exception>(result.get()).ok());
    let (kind, message) = match exception {
        Some(Exception {
            exc_type,
            exc_message,
        }) => (exc_type, message(exc_message)),
        None => (
            meta.status.to_lowercase(),
            meta.result.map_or("", RawValue::get).to_owned(),
        ),
    };
    let kind = match meta.status.as_str() {
        "REVOKED" => revoked(&message),
        _ => &kind,
    };
    JobError {
        detail: meta.traceback.clone().unwrap_or_default(),
        ..JobError::new(kind, message)
    }
}

/// The kind of error of a task that was revoked for this reason. Source: `celery/worker/request.py`, `Request.revoked`,
/// `Request._announce_revoked`.
fn revoked(reason: &str) -> &'static str {
    match reason {
        "expired" => EXPIRED,
        "terminated" => STOPPED,
        _ => CANCELED,
    }
}

/// An exception's arguments as one text.
fn message(arguments: serde_json::Value) -> String {
    use serde_json::Value;
    let text = |value: Value| match value {
        Value::String(text) => text,
        other => other.to_string(),
    };
    match arguments {
        Value::Array(all) => all.into_iter().map(text).collect::<Vec<_>>().join(", "),
        Value::Null => String::new(),
        other => text(other),
    }
}

/// Waits for results, on a connection that hears of them.
struct Watching {
    store: ResultStore,
    heard: Option<Heard>,
    /// Of these something was heard, or they were never looked at.
    unsure: HashSet<JobId>,
}

/// A connection, and of which tasks it hears.
struct Heard {
    messages: PubSub,
    of: HashSet<JobId>,
}

impl Watching {
    /// Hears of all of these, and of no others for long.
    async fn hear_of(&mut self, ids: &[JobId]) -> RedisResult<&mut Heard> {
        let heard = match self.heard.take() {
            Some(heard) => heard,
            None => {
                self.unsure.extend(ids.iter().cloned());
                let messages = self.store.link.endpoint.subscriber().await?;
                let of = HashSet::new();
                Heard { messages, of }
            }
        };
        let heard = self.heard.insert(heard);
        let new: Vec<&JobId> = ids.iter().filter(|id| !heard.of.contains(*id)).collect();
        if !new.is_empty() {
            let channels: Vec<String> = new.iter().map(|id| self.store.key(id)).collect();
            self.unsure.extend(new.iter().map(|id| (*id).clone()));
            heard.messages.subscribe(&channels).await?;
            heard.of.extend(new.into_iter().cloned());
        }
        if heard.of.len() > ids.len() + PAGE {
            let wanted: HashSet<&JobId> = ids.iter().collect();
            let (stay, leave): (HashSet<_>, HashSet<_>) =
                heard.of.drain().partition(|id| wanted.contains(id));
            heard.of = stay;
            let channels: Vec<String> = leave.iter().map(|id| self.store.key(id)).collect();
            heard.messages.unsubscribe(&channels).await?;
        }
        Ok(heard)
    }

    /// What has ended of these: nothing if nothing was heard.
    async fn look(&mut self, ids: &[JobId]) -> RedisResult<Vec<(usize, Option<JobView>)>> {
        let asked: Vec<(usize, JobId)> = ids
            .iter()
            .enumerate()
            .filter(|(_, id)| self.unsure.contains(*id))
            .map(|(at, id)| (at, id.clone()))
            .collect();
        let ids: Vec<JobId> = asked.iter().map(|(_, id)| id.clone()).collect();
        let views = self.store.look(&ids).await?;
        self.unsure.clear();
        let ended = asked
            .into_iter()
            .zip(views)
            .filter(|(_, view)| view.state.is_final());
        Ok(ended.map(|((at, _), view)| (at, Some(view))).collect())
    }

    async fn wait(&mut self, ids: &[JobId]) -> RedisResult<Vec<(usize, Option<JobView>)>> {
        loop {
            self.hear_of(ids).await?;
            let ended = self.look(ids).await?;
            if !ended.is_empty() {
                return Ok(ended);
            }
            let prefix = Arc::clone(&self.store.prefix);
            let Some(heard) = &mut self.heard else { continue };
            let mut messages = heard.messages.on_message();
            let first = tokio::time::timeout(SILENCE, messages.next()).await;
            let mut message = match first {
                Ok(Some(message)) => Some(message),
                Ok(None) => return Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset).into()),
                Err(_) => {
                    self.unsure.extend(ids.iter().cloned());
                    None
                }
            };
            // What was heard at once is looked at once.
            while let Some(heard) = message {
                let id = heard.get_channel_name().strip_prefix(&*prefix);
                self.unsure.extend(id.and_then(|id| JobId::new(id).ok()));
                message = messages.next().now_or_never().flatten();
            }
        }
    }
}

#[async_trait]
impl WaitAny for Watching {
    async fn wait_any(&mut self, ids: &[JobId]) -> Result<Vec<(usize, Option<JobView>)>, BrokerError> {
        let mut patience = PATIENCE;
        let mut away = None;
        loop {
            if self.store.closed.load(Ordering::Relaxed) {
                return Err(check::closed(&self.store.link.endpoint.shown));
            }
            let error = match self.wait(ids).await {
                Ok(ended) => return Ok(ended),
                Err(error) => error,
            };
            self.heard = None;
            let now = Mono::now();
            let since = *away.get_or_insert(now);
            if !is_broken(&error) || now.since(since) > AWAY_MAX {
                return Err(self.store.link.endpoint.error(&error));
            }
            tokio::time::sleep(patience.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
            patience = (patience * 2).min(PATIENCE_MAX);
        }
    }
}

/// The watch of a broker that knows no results.
pub(super) struct NoWatch(pub BrokerError);

#[async_trait]
impl Watch for NoWatch {
    async fn next(&mut self) -> Result<Vec<Ended>, BrokerError> {
        Err(self.0.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Unix;

    fn of(meta: &str) -> JobView {
        view(&JobId::new("1").unwrap(), Some(meta.as_bytes()))
    }

    #[test]
    fn a_result_is_shown_as_what_it_is() {
        let done = of(
            r#"{"status": "SUCCESS", "result": [1, 2.50], "traceback": null, "children": [],
            "date_done": "2026-11-29T14:27:50.971386+00:00", "task_id": "1"}"#,
        );
        assert_eq!(
            (done.state, done.result.as_deref()),
            (JobState::Finished, Some(&b"[1, 2.50]"[..]))
        );
        assert_eq!(done.queue, None, "without `result_extended` it is not kept");
        assert_eq!(done.ended, Some(Unix(1_795_962_470_971)));
        let failed = of(
            r#"{"status": "FAILURE", "result": {"exc_type": "KeyError", "exc_message": ["no", 5],
            "exc_module": "builtins"}, "traceback": "Traceback", "name": "proj.boom", "queue": "mail", "retries": 2}"#,
        );
        let error = failed.error.unwrap();
        assert_eq!(
            (&*error.kind, &*error.message, &*error.detail),
            ("KeyError", "no, 5", "Traceback")
        );
        assert_eq!(
            (&*failed.task, failed.queue, failed.failures),
            ("proj.boom", QueueName::new("mail").ok(), Some(2))
        );
        for (reason, kind, never_ran) in [
            ("revoked", "canceled", true),
            ("expired", "expired", true),
            ("terminated", "stopped", false),
        ] {
            let exception = format!(r#"{{"exc_type": "TaskRevokedError", "exc_message": ["{reason}"]}}"#);
            let revoked = of(&format!(r#"{{"status": "REVOKED", "result": {exception}}}"#));
            let error = revoked.error.unwrap();
            assert_eq!((revoked.state, &*error.kind), (JobState::Dead, kind));
            assert_eq!((&*error.message, error.never_ran()), (reason, never_ran));
        }
        assert_eq!(
            of(r#"{"status": "PROGRESS", "result": {"done": 5}}"#).state,
            JobState::Running
        );
        assert_eq!(of(r#"{"status": "RETRY", "result": 5}"#).state, JobState::Waiting);
        assert_eq!(of("pickle").state, JobState::Dead);
        assert_eq!(view(&JobId::new("1").unwrap(), None).state, JobState::Waiting);
    }
}

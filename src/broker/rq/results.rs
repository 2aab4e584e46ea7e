//! Waiting for jobs to end: one blocking read over the results of all of them, on a connection of its own.
//!
//! RQ adds an entry to a job's stream of results in the transaction that ends the job, and so do our scripts. So a
//! client asks once what there is, and then sleeps in `XREAD BLOCK` until the server has something to say. The entry
//! tells how the job ended; what does not change was learned with the first look and is kept for the next wait. For
//! jobs that leave no result see [`crate::broker::redis::tracking`].

use std::collections::{HashMap, HashSet};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use redis::aio::MultiplexedConnection;
use redis::{RedisError, RedisResult};

use super::look::{Entries, Found, Hash, Views};
use super::{RqBroker, text};
use crate::broker::redis::connection::is_broken;
use crate::broker::redis::endpoint::Endpoint;
use crate::broker::redis::tracking::Tracker;
use crate::broker::wait::{WaitAny, watch};
use crate::broker::{BrokerError, Watch, check};
use crate::job::{JobId, JobView};
use crate::time::{Mono, Unix};

/// How long the server is asked to wait before it is asked again. A connection that died is noticed by the system: this
/// is for a server that hangs.
const BLOCK: Duration = Duration::from_secs(600);
/// How much longer the answer may take.
const SLACK: Duration = Duration::from_secs(10);
/// What is known of a job is trusted for so long by the next wait, which mostly follows at once: who asks for the jobs
/// that are left may have done other things meanwhile, and a job may have been deleted.
const KNOWN: Duration = Duration::from_secs(1);
/// Wait before a connection that was lost is made anew; grows up to the longest.
const PATIENCE: Duration = Duration::from_millis(100);
const PATIENCE_MAX: Duration = Duration::from_secs(5);
/// A server that is away for so long is told to the user.
const AWAY_MAX: Duration = Duration::from_secs(60);
/// Before the first entry of any stream.
const START: &str = "0-0";

/// A job, where it stands in what was asked for, and what became of it.
type Ended = (usize, Option<JobView>);

/// Jobs that have ended.
type EndedJobs = HashMap<JobId, Option<JobView>>;

/// What the next wait goes on with.
#[derive(Debug)]
struct Open {
    connection: MultiplexedConnection,
    jobs: HashMap<JobId, Watched>,
    used: Mono,
    /// For jobs that end without a result; opened when there is one.
    tracker: Option<Tracker>,
    /// The connection still sleeps: no other command can be sent over it.
    sleeps: bool,
}

impl Open {
    fn silent(&self) -> impl Iterator<Item = &JobId> {
        let silent = self.jobs.iter().filter(|(_, job)| is_silent(&job.hash));
        silent.map(|(id, _)| id)
    }
}

/// A job that has not ended.
#[derive(Debug)]
struct Watched {
    hash: Hash,
    /// The newest entry of its stream that was seen.
    seen: String,
}

impl RqBroker {
    /// See [`crate::broker::Reader::watch`].
    pub(super) fn watch_results(&self, ids: Vec<JobId>) -> Box<dyn Watch> {
        let results = Results {
            endpoint: Arc::clone(&self.link.endpoint),
            views: self.views.clone(),
            closed: Arc::clone(&self.closed),
            open: None,
        };
        watch(ids, results)
    }
}

/// Waits for results, on a connection of its own.
#[derive(Debug)]
struct Results {
    endpoint: Arc<Endpoint>,
    views: Views,
    /// The handle was closed.
    closed: Arc<AtomicBool>,
    open: Option<Open>,
}

#[async_trait]
impl WaitAny for Results {
    async fn wait_any(&mut self, ids: &[JobId]) -> Result<Vec<Ended>, BrokerError> {
        if self.closed.load(Ordering::Relaxed) {
            return Err(check::closed(&self.endpoint.shown));
        }
        // Taken out while it is used: a wait that is dropped leaves a connection that still blocks.
        let mut open = match self.take_open(ids) {
            Some(open) => open,
            None => self
                .connect()
                .await
                .map_err(|error| self.endpoint.error(&error))?,
        };
        loop {
            match self.wait_on(&mut open, ids).await {
                Ok(ended) => {
                    if !open.sleeps {
                        open.used = Mono::now();
                        self.open = Some(open);
                    }
                    return Ok(ended);
                }
                Err(error) if is_broken(&error) || error.code() == Some("UNBLOCKED") => {
                    open = self.connect_again(error).await?;
                }
                Err(error) => return Err(self.endpoint.error(&error)),
            }
        }
    }
}

impl Results {
    /// What the wait before this one left, if it still holds.
    fn take_open(&mut self, ids: &[JobId]) -> Option<Open> {
        let mut open = self.open.take()?;
        if open.used + KNOWN < Mono::now() {
            open.jobs.clear();
        }
        let asked: HashSet<&JobId> = ids.iter().collect();
        open.jobs.retain(|id, _| asked.contains(id));
        Some(open)
    }

    async fn connect(&self) -> RedisResult<Open> {
        Ok(Open {
            connection: self.endpoint.connect(BLOCK + SLACK).await?,
            jobs: HashMap::new(),
            used: Mono::now(),
            tracker: None,
            sleeps: false,
        })
    }

    /// The connection was lost: another one, as soon as there is one, on which nothing is known yet.
    async fn connect_again(&self, mut error: RedisError) -> Result<Open, BrokerError> {
        let (lost, mut patience) = (Mono::now(), PATIENCE);
        while Mono::now().since(lost) < AWAY_MAX {
            tracing::debug!(%error, "the connection on which results are waited for was lost");
            tokio::time::sleep(patience.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
            patience = (patience * 2).min(PATIENCE_MAX);
            match self.connect().await {
                Ok(open) => return Ok(open),
                Err(again) => error = again,
            }
        }
        Err(self.endpoint.error(&error))
    }

    async fn wait_on(&self, open: &mut Open, ids: &[JobId]) -> RedisResult<Vec<Ended>> {
        let mut ended = self.look_first(open, ids).await?;
        while ended.is_empty() {
            let unsure = self.sleep(open, &mut ended).await?;
            if !unsure.is_empty() {
                self.look_at(open, &unsure, &mut ended).await?;
            }
        }
        let found = ids.iter().enumerate();
        let found = found.filter_map(|(at, id)| Some((at, ended.get(id)?.clone())));
        Ok(found.collect())
    }

    /// Asks for those of which nothing is known.
    async fn look_first(&self, open: &mut Open, ids: &[JobId]) -> RedisResult<EndedJobs> {
        let mut unknown: Vec<JobId> = Vec::new();
        let mut asked = HashSet::new();
        for id in ids {
            if !open.jobs.contains_key(id) && asked.insert(id) {
                unknown.push(id.clone());
            }
        }
        let mut ended = HashMap::new();
        self.look_at(open, &unknown, &mut ended).await?;
        Ok(ended)
    }

    /// Asks how these jobs are.
    async fn look_at(&self, open: &mut Open, ids: &[JobId], ended: &mut EndedJobs) -> RedisResult<()> {
        let mut connection = open.connection.clone();
        self.look_on(&mut connection, &mut open.jobs, ids, ended).await
    }

    async fn look_on(
        &self,
        connection: &mut MultiplexedConnection,
        jobs: &mut HashMap<JobId, Watched>,
        ids: &[JobId],
        ended: &mut EndedJobs,
    ) -> RedisResult<()> {
        for page in ids.chunks(super::look::PAGE) {
            let found: Vec<Found> = self.views.look(page).query_async(connection).await?;
            for (id, (hash, entries, failures)) in page.iter().zip(found) {
                let (seen, entry) = entries
                    .into_iter()
                    .next_back()
                    .unwrap_or_else(|| (START.to_owned(), Hash::new()));
                let view = self.views.view(id, &hash, &entry, failures);
                if view.as_ref().is_none_or(|view| view.state.is_final()) {
                    jobs.remove(id);
                    ended.insert(id.clone(), view);
                } else {
                    jobs.insert(id.clone(), Watched { hash, seen });
                }
            }
        }
        Ok(())
    }

    /// Sleeps until there are results; puts the jobs that they end into `ended`, and returns those of which they don't
    /// say enough.
    async fn sleep(&self, open: &mut Open, ended: &mut EndedJobs) -> RedisResult<Vec<JobId>> {
        let silent: Vec<JobId> = open.silent().cloned().collect();
        if !silent.is_empty() && open.tracker.is_none() {
            open.tracker = Some(Tracker::open(&self.endpoint).await?);
        }
        let read = self.read(&open.jobs);
        let Open {
            connection,
            jobs,
            tracker,
            ..
        } = open;
        let mut sleep = pin!(read.query_async::<Option<Vec<(String, Entries)>>>(connection));
        loop {
            if let (Some(tracker), false) = (tracker.as_mut(), silent.is_empty()) {
                let keys = silent.iter().map(|id| self.views.keys.job(id.as_str()));
                tracker.watch(keys).await?;
                self.look_on(&mut tracker.connection, jobs, &silent, ended)
                    .await?;
                if !ended.is_empty() {
                    open.sleeps = true;
                    return Ok(Vec::new());
                }
            }
            tokio::select! {
                news = &mut sleep => return Ok(self.take_in(news?.unwrap_or_default(), jobs, ended)),
                changed = changed(tracker) => changed?,
            }
        }
    }

    /// The command that returns when there is a result of any of these.
    fn read(&self, jobs: &HashMap<JobId, Watched>) -> redis::Cmd {
        let mut read = redis::cmd("XREAD");
        read.arg("BLOCK").arg(BLOCK.as_millis() as u64).arg("STREAMS");
        for id in jobs.keys() {
            read.arg(self.views.keys.results(id.as_str()));
        }
        for job in jobs.values() {
            read.arg(&job.seen);
        }
        read
    }

    /// Puts the jobs that these results end into `ended`, and returns those of which they don't say enough.
    fn take_in(
        &self,
        news: Vec<(String, Entries)>,
        jobs: &mut HashMap<JobId, Watched>,
        ended: &mut EndedJobs,
    ) -> Vec<JobId> {
        let start = self.views.keys.results("");
        let mut unsure = Vec::new();
        for (key, entries) in news {
            let id = key.strip_prefix(&start).and_then(|id| JobId::new(id).ok());
            let (Some(id), Some((at, entry))) = (id, entries.into_iter().next_back()) else {
                continue;
            };
            let Some(job) = jobs.get_mut(&id) else {
                continue;
            };
            if ends_well(&job.hash, &entry) {
                finish(&mut job.hash, &at, &entry);
                let view = self.views.view(&id, &job.hash, &entry, None);
                jobs.remove(&id);
                ended.insert(id, view);
            } else {
                job.seen = at;
                unsure.push(id);
            }
        }
        unsure
    }
}

/// Whether a job of this hash may end without a result: RQ deletes one whose result is not kept (`result_ttl=0`) as it
/// ends, and adds nothing to any stream. Source: `rq/job.py`, `Job.cleanup`.
fn is_silent(job: &Hash) -> bool {
    ["result_ttl", "failure_ttl"]
        .iter()
        .any(|ttl| job.get(*ttl).is_some_and(|ttl| ttl == b"0"))
}

/// Returns when the tracker has something to tell; never without one.
async fn changed(tracker: &mut Option<Tracker>) -> RedisResult<()> {
    match tracker {
        Some(tracker) => tracker.changed().await,
        None => std::future::pending().await,
    }
}

/// Whether this result is the job's last one, and a good one. Source: `rq/results.py`, `Result.Type`.
fn ends_well(job: &Hash, entry: &Hash) -> bool {
    let repeats = job
        .get("repeats_left")
        .is_some_and(|left| !left.is_empty() && left != b"0");
    entry.get("type").is_some_and(|kind| kind == b"1") && !repeats
}

/// Makes of what was known what is known now. `at`: the entry's id, which begins with when it was added, in milliseconds.
fn finish(job: &mut Hash, at: &str, entry: &Hash) {
    let written = |seconds: &[u8]| Some(std::str::from_utf8(seconds).ok()?.parse::<f64>().ok()? * 1000.0);
    let ended = entry
        .get("execution_ended_at")
        .and_then(|seconds| written(seconds));
    let added = at.split('-').next().and_then(|ms| ms.parse::<f64>().ok());
    let millis = ended.or(added).unwrap_or_default().round();
    job.insert("status".to_owned(), b"finished".to_vec());
    job.insert("ended_at".to_owned(), text::iso(Unix(millis as i64)).into_bytes());
}

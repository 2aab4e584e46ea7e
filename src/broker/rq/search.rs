//! Looking through RQ's jobs: the lists and sorted sets that hold their ids, queue by queue.
//!
//! A list is gone through from its newest end, a sorted set from its highest score, the scheduled from the lowest. A
//! position names the id that was looked at last, so that what comes and goes meanwhile shifts nothing.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::RqBroker;
use super::look::{Listed, PAGE, job_id};
use crate::broker::BrokerError;
use crate::broker::dead::unreadable;
use crate::broker::filter::{JobFilter, StateName};
use crate::broker::redis::sorted_set::{Members, literal, members_behind};
use crate::broker::search::{Budget, Cursor, IdsFound, Look, Page, Search};
use crate::job::{JobId, JobState, JobView, QueueName};
use crate::time::{Mono, Unix};

/// Ids that came at the newest end of a list since it was looked at, at the most: behind so many the last one is not
/// looked for any more.
const CAME_MAX: u64 = 100_000;
/// Keys that one step of a walk over all keys looks at: some milliseconds of the server's time.
const SCAN_COUNT: usize = 20_000;
/// Keys that begin like a job's and are none. Source: `rq/job.py`, `Job.dependents_key_for`, `Job.dependencies_key`.
const NO_JOBS: [&str; 2] = [":dependents", ":dependencies"];

/// What holds the ids of jobs: of one queue, or of one rate limit. Source: `rq/registry.py`, `rq/queue.py`,
/// `rq/rate_limit.py`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Holder {
    Wip,
    Queue,
    RateLimited,
    Scheduled,
    Deferred,
    Failed,
    Canceled,
    Finished,
}

/// Where a look stopped.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Position {
    holder: Holder,
    /// The queue, or the rate limit.
    of: String,
    /// The member that was looked at last.
    last: String,
    /// Its score, which may be `inf`; in a list, how many stand at its newer side.
    score: String,
}

impl Holder {
    /// Those of a place, in the order in which they are gone through.
    fn all_of(place: JobState, filter: &JobFilter) -> Vec<Holder> {
        match place {
            JobState::Running => vec![Holder::Wip],
            JobState::Waiting => vec![Holder::Queue],
            JobState::Scheduled => vec![Holder::Scheduled],
            JobState::Deferred => vec![Holder::Deferred],
            JobState::Blocked => vec![Holder::RateLimited],
            JobState::Finished => vec![Holder::Finished],
            JobState::Dead => {
                let failed = filter.wants(StateName::Dead).then_some(Holder::Failed);
                let canceled = filter.wants(StateName::Canceled).then_some(Holder::Canceled);
                failed.into_iter().chain(canceled).collect()
            }
        }
    }
}

impl RqBroker {
    pub(super) async fn look_through(
        &self,
        filter: &JobFilter,
        after: Option<&Cursor>,
        budget: Budget,
    ) -> Result<Page, BrokerError> {
        let queues: Vec<String> = match &filter.queue {
            Some(queue) => vec![queue.to_string()],
            None => self
                .queue_names()
                .await?
                .iter()
                .map(QueueName::to_string)
                .collect(),
        };
        let mut look = Look::begin(filter, after, &self.unseen(), budget);
        while let Some(place) = look.next_place() {
            let mut from = look.start().map(|cursor| position(&cursor)).transpose()?;
            let holders = Holder::all_of(place, filter);
            let limits = match place {
                JobState::Blocked => self.rate_limits().await?,
                _ => Vec::new(),
            };
            let mut all = Vec::new();
            for of in if place == JobState::Blocked {
                &limits
            } else {
                &queues
            } {
                all.extend(holders.iter().map(|holder| (*holder, of.as_str())));
            }
            let mut stopped = None;
            for (holder, of) in all.iter().copied() {
                let here = from.take_if(|from| from.holder == holder && from.of == of);
                // Those ahead of the position were gone through.
                if from.as_ref().is_some_and(|from| from.of.as_str() >= of) {
                    continue;
                }
                stopped = self.look_at((holder, of), place, here, &mut look).await?;
                if stopped.is_some() {
                    break;
                }
            }
            if let Some(stopped) = stopped {
                let of = self.count_all(&all).await?;
                look.stop(serde_json::to_string(&stopped).expect("a plain record"), Some(of));
            }
        }
        Ok(look.end())
    }

    /// How many jobs of each of these queues wait for their turn by a rate limit. A limit knows its jobs, and they know
    /// their queue.
    pub(super) async fn count_blocked(&self, queues: &[QueueName]) -> Result<Vec<u64>, BrokerError> {
        let filter = JobFilter {
            states: vec![StateName::Blocked],
            ..JobFilter::default()
        };
        let (mut counts, mut after) = (vec![0; queues.len()], None);
        loop {
            let page = self
                .look_through(&filter, after.as_ref(), Budget::default())
                .await?;
            for of in page.jobs.into_iter().filter_map(|job| job.queue) {
                if let Some(at) = queues.iter().position(|queue| *queue == of) {
                    counts[at] += 1;
                }
            }
            after = page.next;
            if after.is_none() {
                return Ok(counts);
            }
        }
    }

    /// The keys of all rate limits, sorted.
    async fn rate_limits(&self) -> Result<Vec<String>, BrokerError> {
        let mut members = redis::cmd("SMEMBERS");
        members.arg(self.keys.rate_limits());
        let limits: Vec<Vec<u8>> = self.link.run_command(&members).await?;
        let texts = limits
            .into_iter()
            .filter_map(|limit| String::from_utf8(limit).ok());
        let mut limits: Vec<String> = texts.collect();
        limits.sort();
        Ok(limits)
    }

    /// Looks at the jobs of one holder; where it stopped, if the budget ended before they did.
    async fn look_at(
        &self,
        (holder, of): (Holder, &str),
        place: JobState,
        from: Option<Position>,
        look: &mut Look<'_>,
    ) -> Result<Option<Position>, BrokerError> {
        let mut from = from;
        loop {
            let count = look.batch(PAGE);
            let members = self.members(holder, of, from.as_ref(), count).await?;
            let is_last = members.len() < count;
            let views = self.views_of(&members, of, place).await?;
            for ((member, score), view) in members.into_iter().zip(views) {
                if look.is_over() {
                    // Ahead of all, where nothing was looked at yet.
                    return Ok(Some(from.unwrap_or_else(|| Position::ahead_of_all(holder, of))));
                }
                look.count_row();
                look.offer(view);
                from = Some(Position {
                    holder,
                    of: of.to_owned(),
                    last: String::from_utf8_lossy(&member).into_owned(),
                    score: score.to_string(),
                });
            }
            if is_last {
                return Ok(None);
            }
        }
    }

    /// The next members behind a position, with their scores, or with their numbers from the newest end of a list.
    async fn members(
        &self,
        holder: Holder,
        of: &str,
        from: Option<&Position>,
        count: usize,
    ) -> Result<Members, BrokerError> {
        let key = self.holder_key(holder, of);
        if holder == Holder::Queue {
            let start = match from {
                Some(from) => self.behind_in_list(&key, from).await?,
                None => 0,
            };
            let end = start + count as u64;
            let mut range = redis::cmd("LRANGE");
            range
                .arg(key)
                .arg(-(end.cast_signed()))
                .arg(-1 - start.cast_signed());
            let mut ids: Vec<Vec<u8>> = self.link.run_command(&range).await?;
            ids.reverse();
            let numbered = ids.into_iter().zip(start..);
            return Ok(numbered.map(|(id, number)| (id, number as f64)).collect());
        }
        let behind = from
            .filter(|from| !from.last.is_empty())
            .map(|from| (from.last.as_str(), from.score.as_str()));
        members_behind(&self.link, &key, behind, holder == Holder::Scheduled, count).await
    }

    /// How many stand at the newer side of what comes behind a position.
    async fn behind_in_list(&self, key: &str, from: &Position) -> Result<u64, BrokerError> {
        if from.last.is_empty() {
            return Ok(0);
        }
        // So many, if nothing came since. A list is reached into quickly, and searched slowly.
        let known = from.score.parse().unwrap_or(0_u64) + 1;
        let mut there = redis::cmd("LINDEX");
        there.arg(key).arg(-known.cast_signed());
        let there: Option<Vec<u8>> = self.link.run_command(&there).await?;
        if there.is_some_and(|id| id == from.last.as_bytes()) {
            return Ok(known);
        }
        let mut find = redis::pipe();
        find.cmd("LPOS").arg(key).arg(&from.last).arg("RANK").arg(-1);
        find.arg("MAXLEN").arg(known + CAME_MAX);
        find.cmd("LLEN").arg(key);
        let (at, len): (Option<u64>, u64) = self.link.run_pipeline(&find).await?;
        Ok(at.map_or(known, |at| len.saturating_sub(at)))
    }

    /// The jobs of these members; `None` for one of which only the id is left.
    async fn views_of(
        &self,
        members: &Members,
        queue: &str,
        place: JobState,
    ) -> Result<Vec<Option<JobView>>, BrokerError> {
        let ids: Vec<Result<JobId, String>> =
            members.iter().map(|(member, _)| id_of(member, place)).collect();
        let readable: Vec<JobId> = ids.iter().flatten().cloned().collect();
        let mut found = match readable.as_slice() {
            [] => Vec::new(),
            ids => {
                self.link
                    .run_command::<Vec<Listed>>(&self.views.list(ids, place))
                    .await?
            }
        }
        .into_iter();
        let views = ids
            .into_iter()
            .zip(members)
            .map(|(id, (member, score))| match id {
                Ok(id) => {
                    let view = self.views.listed(&id, found.next()?)?;
                    let due = (place == JobState::Scheduled).then(|| Unix((score * 1000.0) as i64));
                    Some(JobView {
                        state: place,
                        due,
                        ..view
                    })
                }
                Err(why) if place == JobState::Dead => {
                    let why =
                        format!("its id {why}: `pool dead` can't retry or delete it, RQ's own tools can");
                    Some(unreadable(member, QueueName::new(queue).ok()?, b"rq", why))
                }
                Err(_) => None,
            });
        Ok(views.collect())
    }

    async fn count_all(&self, holders: &[(Holder, &str)]) -> Result<u64, BrokerError> {
        let mut counts = redis::pipe();
        for (holder, of) in holders.iter().copied() {
            let count = if holder == Holder::Queue { "LLEN" } else { "ZCARD" };
            counts.cmd(count).arg(self.holder_key(holder, of));
        }
        let counts: Vec<u64> = self.link.run_pipeline(&counts).await?;
        Ok(counts.iter().sum())
    }

    fn holder_key(&self, holder: Holder, of: &str) -> String {
        match holder {
            Holder::Wip => self.keys.wip(of),
            Holder::Queue => self.keys.queue(of),
            Holder::RateLimited => self.keys.rate_limited(of),
            Holder::Scheduled => self.keys.scheduled(of),
            Holder::Deferred => self.keys.deferred(of),
            Holder::Failed => self.keys.failed(of),
            Holder::Canceled => self.keys.canceled(of),
            Holder::Finished => self.keys.finished(of),
        }
    }

    /// Walks over all keys: there is no index of ids.
    async fn ids_that_begin(&self, start: &str, budget: Budget) -> Result<IdsFound, BrokerError> {
        let until = Mono::now() + budget.time;
        let prefix = self.keys.job("");
        let pattern = format!("{}*", literal(&format!("{prefix}{start}")));
        let mut found = IdsFound::default();
        let mut cursor = 0_u64;
        loop {
            let mut scan = redis::cmd("SCAN");
            scan.arg(cursor)
                .arg("MATCH")
                .arg(&pattern)
                .arg("COUNT")
                .arg(SCAN_COUNT);
            let (next, keys): (u64, Vec<Vec<u8>>) = self.link.run_command(&scan).await?;
            let ids = keys.iter().filter_map(|key| {
                let id = std::str::from_utf8(key).ok()?.strip_prefix(&prefix)?;
                let is_job = NO_JOBS.iter().all(|ending| !id.ends_with(ending));
                JobId::new(id).ok().filter(|_| is_job)
            });
            if found.add_step(ids, next == 0, budget.jobs) || Mono::now() >= until {
                return Ok(found);
            }
            cursor = next;
        }
    }
}

impl Position {
    fn ahead_of_all(holder: Holder, of: &str) -> Self {
        Position {
            holder,
            of: of.to_owned(),
            last: String::new(),
            score: String::new(),
        }
    }
}

fn position(cursor: &Cursor) -> Result<Position, BrokerError> {
    serde_json::from_str(&cursor.at).map_err(|_| cursor.unknown())
}

/// The id that a member names. Source: `rq/executions.py`, `Execution.composite_key`.
fn id_of(member: &[u8], place: JobState) -> Result<JobId, String> {
    let end = member.iter().rposition(|byte| *byte == b':');
    match end.filter(|_| place == JobState::Running) {
        Some(end) => job_id(&member[..end]),
        None => job_id(member),
    }
}

#[async_trait]
impl Search for RqBroker {
    async fn search(
        &self,
        filter: &JobFilter,
        after: Option<&Cursor>,
        budget: Budget,
    ) -> Result<Page, BrokerError> {
        self.open_still()?;
        self.look_through(filter, after, budget).await
    }

    async fn begins_with(&self, start: &str, budget: Budget) -> Result<IdsFound, BrokerError> {
        self.open_still()?;
        self.ids_that_begin(start, budget).await
    }
}

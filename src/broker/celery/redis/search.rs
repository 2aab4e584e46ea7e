//! Looking through messages: the list of each queue and priority, and what is not acknowledged.
//!
//! A message that is not acknowledged runs, as far as the broker knows, or waits for its time. When it was sent, no message
//! says.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::RedisBroker;
use crate::broker::celery::envelope::{Message, unacked};
use crate::broker::celery::search::{look_at_results, results_that_begin, unseen_results};
use crate::broker::celery::shown;
use crate::broker::filter::{JobFilter, StateName};
use crate::broker::redis::sorted_set::members_behind;
use crate::broker::search::{Budget, Cursor, IdsFound, Look, Page, Search, Unseen};
use crate::broker::{BrokerError, Queues};
use crate::job::{JobState, JobView, QueueName};
use crate::time::{Mono, Unix};

/// Messages that are read in one call: each comes with its arguments.
const BATCH: usize = 500;
/// Messages that came at the newer side of the one that was looked at last, at the most: behind so many it is not looked
/// for.
const CAME_MAX: usize = 2_000;

/// Where messages are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Holder {
    /// The list of this queue with this number, of the lists by priority.
    List(QueueName, usize),
    Unacked,
}

/// Where a look stopped.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Position {
    holder: Holder,
    /// The id, or the tag, of the message that was looked at last.
    last: String,
    /// How many stand at its newer side, or its score.
    at: String,
}

/// A message that was looked at.
struct Seen {
    last: String,
    at: String,
    job: Option<JobView>,
}

impl RedisBroker {
    async fn look_through(
        &self,
        filter: &JobFilter,
        after: Option<&Cursor>,
        budget: Budget,
    ) -> Result<Page, BrokerError> {
        let mut look = Look::begin(filter, after, &self.unseen(), budget);
        while let Some(place) = look.next_place() {
            let holders = match place {
                JobState::Waiting => self.lists_of(filter).await?,
                JobState::Running | JobState::Scheduled => vec![Holder::Unacked],
                JobState::Dead | JobState::Finished => {
                    if let Some(results) = &self.consumer.results {
                        look_at_results(results, place, &mut look).await?;
                    }
                    continue;
                }
                // Nobody keeps a list of those that wait for others.
                _ => continue,
            };
            let mut from = look.start().map(|cursor| position(&cursor)).transpose()?;
            let begun = from.as_ref().and_then(|from| {
                let is_it = |holder: &Holder| *holder == from.holder;
                holders.iter().position(is_it)
            });
            let mut stopped = None;
            for holder in &holders[begun.unwrap_or(0)..] {
                stopped = self.look_at(holder, place, from.take(), &mut look).await?;
                if stopped.is_some() {
                    break;
                }
            }
            if let Some(stopped) = stopped {
                let of = self.count_of(&holders).await?;
                look.stop(serde_json::to_string(&stopped).expect("a plain record"), Some(of));
            }
        }
        Ok(look.end())
    }

    async fn lists_of(&self, filter: &JobFilter) -> Result<Vec<Holder>, BrokerError> {
        let queues = match &filter.queue {
            Some(queue) => vec![queue.clone()],
            None => self.names().await?,
        };
        let steps = self.keys.steps();
        let lists = |queue: QueueName| (0..steps).map(move |step| Holder::List(queue.clone(), step));
        Ok(queues.into_iter().flat_map(lists).collect())
    }

    /// Looks at the messages of one holder; where it stopped, if the budget ended before they did.
    async fn look_at(
        &self,
        holder: &Holder,
        place: JobState,
        from: Option<Position>,
        look: &mut Look<'_>,
    ) -> Result<Option<Position>, BrokerError> {
        let mut from = from.unwrap_or_else(|| Position {
            holder: holder.clone(),
            last: String::new(),
            at: String::new(),
        });
        loop {
            let count = look.batch(BATCH);
            let seen = match holder {
                Holder::List(queue, step) => self.messages_of(queue, *step, &from, count).await?,
                Holder::Unacked => self.unacked_behind(place, &from, count).await?,
            };
            let is_last = seen.len() < count;
            for message in seen {
                if look.is_over() {
                    return Ok(Some(from));
                }
                look.count_row();
                look.offer(message.job);
                (from.last, from.at) = (message.last, message.at);
            }
            if is_last {
                return Ok(None);
            }
        }
    }

    /// The next messages of a list, from its newest end.
    async fn messages_of(
        &self,
        queue: &QueueName,
        step: usize,
        from: &Position,
        count: usize,
    ) -> Result<Vec<Seen>, BrokerError> {
        let Some(key) = self.keys.lists(queue.as_str()).nth(step) else {
            return Ok(Vec::new());
        };
        let read = async |start: usize, count: usize| -> Result<Vec<Seen>, BrokerError> {
            let mut range = redis::cmd("LRANGE");
            range.arg(&key).arg(start).arg(start + count - 1);
            let raw: Vec<Vec<u8>> = self.link.run_command(&range).await?;
            let seen = (start..).zip(&raw).map(|(at, raw)| {
                let message = Message::read(raw, false).ok();
                let job = message.and_then(|message| shown::view(&message, queue.clone(), JobState::Waiting));
                Seen {
                    last: job.as_ref().map(|job| job.id.to_string()).unwrap_or_default(),
                    at: at.to_string(),
                    job,
                }
            });
            Ok(seen.collect())
        };
        let Ok(at) = from.at.parse::<usize>() else {
            return read(0, count).await; // from its beginning
        };
        let mut seen = read(at, count + 1).await?;
        if seen.first().is_some_and(|first| first.last == from.last) {
            seen.remove(0);
            return Ok(seen);
        }
        // Others came, or it was taken.
        let behind = read(at, CAME_MAX).await?;
        let found = behind.iter().position(|seen| seen.last == from.last);
        read(found.map_or(at, |found| at + found + 1), count).await
    }

    /// The next of what is not acknowledged, the newest first: all of it, with the job of those that are in this place.
    async fn unacked_behind(
        &self,
        place: JobState,
        from: &Position,
        count: usize,
    ) -> Result<Vec<Seen>, BrokerError> {
        let behind = Some((from.last.as_str(), from.at.as_str())).filter(|(last, _)| !last.is_empty());
        let tags = members_behind(&self.link, &self.keys.unacked_index(), behind, false, count).await?;
        if tags.is_empty() {
            return Ok(Vec::new());
        }
        let mut get = redis::cmd("HMGET");
        get.arg(self.keys.unacked());
        for (tag, _) in &tags {
            get.arg(tag);
        }
        let entries: Vec<Option<Vec<u8>>> = self.link.run_command(&get).await?;
        let now = Unix::now();
        let seen = tags.into_iter().zip(entries).map(|((tag, score), entry)| Seen {
            last: String::from_utf8_lossy(&tag).into_owned(),
            at: score.to_string(),
            job: entry.and_then(|entry| {
                let (raw, queue) = unacked(&entry)?;
                let message = Message::read(&raw, false).ok()?;
                let is_later = message.eta.is_some_and(|eta| eta > now);
                let is_here = is_later == (place == JobState::Scheduled);
                let queue = QueueName::new(&queue).ok()?;
                shown::view(&message, queue, place).filter(|_| is_here)
            }),
        });
        Ok(seen.collect())
    }

    async fn count_of(&self, holders: &[Holder]) -> Result<u64, BrokerError> {
        let mut counts = redis::pipe();
        for holder in holders {
            match holder {
                Holder::List(queue, step) => {
                    let key = self.keys.lists(queue.as_str()).nth(*step);
                    counts.cmd("LLEN").arg(key.unwrap_or_default());
                }
                Holder::Unacked => {
                    counts.cmd("HLEN").arg(self.keys.unacked());
                }
            }
        }
        let counts: Vec<u64> = self.link.run_pipeline(&counts).await?;
        Ok(counts.iter().sum())
    }
}

fn position(cursor: &Cursor) -> Result<Position, BrokerError> {
    serde_json::from_str(&cursor.at).map_err(|_| cursor.unknown())
}

#[async_trait]
impl Search for RedisBroker {
    async fn search(
        &self,
        filter: &JobFilter,
        after: Option<&Cursor>,
        budget: Budget,
    ) -> Result<Page, BrokerError> {
        self.open_still()?;
        self.look_through(filter, after, budget).await
    }

    /// Of results it goes by their keys; messages have to be read.
    async fn begins_with(&self, start: &str, budget: Budget) -> Result<IdsFound, BrokerError> {
        self.open_still()?;
        let until = Mono::now() + budget.time;
        let mut found = match &self.consumer.results {
            Some(results) => results_that_begin(results, start, budget).await?,
            None => IdsFound {
                ids: Vec::new(),
                is_complete: true,
            },
        };
        let filter = JobFilter {
            states: vec![StateName::Running, StateName::Waiting, StateName::Scheduled],
            ..JobFilter::default()
        };
        let mut after = None;
        while found.is_complete && found.ids.len() < budget.jobs {
            let part = Budget {
                jobs: usize::MAX,
                time: until.since(Mono::now()),
                ..Budget::default()
            };
            let page = self.look_through(&filter, after.as_ref(), part).await?;
            let ids = page.jobs.into_iter().map(|job| job.id);
            found.add(ids.filter(|id| id.as_str().starts_with(start)));
            found.is_complete = page.next.is_none() || Mono::now() < until;
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        found.ids.truncate(budget.jobs);
        Ok(found)
    }

    fn unseen(&self) -> Vec<Unseen> {
        unseen_results(self.consumer.results.as_ref())
    }
}

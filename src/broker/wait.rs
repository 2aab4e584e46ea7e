//! Waiting for many jobs: some are watched at a time, and nobody polls.

use std::iter::Enumerate;
use std::time::Duration;
use std::vec;

use super::{Broker, BrokerError};
use crate::job::{JobId, JobView};

/// Jobs that are watched at once. Of more, the first ones: each look costs as much as jobs are watched, and jobs end
/// roughly in the order of their ids.
const WATCHED_MAX: usize = 2_000;

/// A job that has ended; `None` stands for one that is unknown or has expired.
#[derive(Clone, Debug, PartialEq)]
pub struct Ended {
    /// Its position among the jobs asked for.
    pub at: usize,
    /// Its id.
    pub id: JobId,
    /// What became of it.
    pub job: Option<JobView>,
}

/// Jobs that are waited for.
#[derive(Debug)]
pub struct Awaited {
    watched: Vec<JobId>,
    /// Positions of those in `watched`.
    places: Vec<usize>,
    later: Enumerate<vec::IntoIter<JobId>>,
}

impl Awaited {
    /// Nobody is looked at yet.
    pub fn new(ids: Vec<JobId>) -> Self {
        Awaited {
            watched: Vec::new(),
            places: Vec::new(),
            later: ids.into_iter().enumerate(),
        }
    }

    /// Waits until some have ended and returns those; nothing when none is left.
    ///
    /// One [`Broker::wait_any`] a call. Dropping the future is safe: nothing is lost by it.
    pub async fn next(&mut self, broker: &dyn Broker) -> Result<Vec<Ended>, BrokerError> {
        self.watch_more();
        if self.watched.is_empty() {
            return Ok(Vec::new());
        }
        let ended = broker.wait_any(&self.watched).await?;
        Ok(self.take(ended))
    }

    /// Without waiting: those that have ended among the next of those that were not watched yet; `None` when
    /// all are watched.
    pub async fn look(&mut self, broker: &dyn Broker) -> Result<Option<Vec<Ended>>, BrokerError> {
        let before = self.watched.len();
        for (at, id) in self.later.by_ref().take(WATCHED_MAX) {
            self.places.push(at);
            self.watched.push(id);
        }
        if self.watched.len() == before {
            return Ok(None);
        }
        let found = broker.find(&self.watched[before..]).await?;
        let ended = (before..).zip(found);
        let ended = ended.filter(|(_, job)| job.as_ref().is_none_or(|job| job.state.is_final()));
        let ended = ended.collect();
        Ok(Some(self.take(ended)))
    }

    /// Those that have not ended, as far as it is known.
    pub fn into_open(mut self) -> Vec<JobId> {
        self.watched.extend(self.later.map(|(_, id)| id));
        self.watched
    }

    fn watch_more(&mut self) {
        let room = WATCHED_MAX.saturating_sub(self.watched.len());
        for (at, id) in self.later.by_ref().take(room) {
            self.places.push(at);
            self.watched.push(id);
        }
    }

    /// Takes those at these indices out of the watched ones, whose order stays.
    fn take(&mut self, ended: Vec<(usize, Option<JobView>)>) -> Vec<Ended> {
        let mut stays = vec![true; self.watched.len()];
        let taken = ended.into_iter().map(|(index, job)| {
            stays[index] = false;
            Ended {
                at: self.places[index],
                id: self.watched[index].clone(),
                job,
            }
        });
        let taken = taken.collect();
        let mut stay = stays.iter();
        self.watched.retain(|_| stay.next().copied().unwrap_or(true));
        let mut stay = stays.iter();
        self.places.retain(|_| stay.next().copied().unwrap_or(true));
        taken
    }
}

/// Waits until all of these jobs have ended, at most `within`, and returns each as it is then, in order.
///
/// `None` stands for a job that is unknown or has expired. When the time is up, some have no final
/// state ([`crate::job::JobState::is_final`]). Never polls: the broker is asked once for each time that jobs
/// ended, so no more often than there are jobs, and once more when the time is up.
pub async fn wait_all(
    broker: &dyn Broker,
    ids: &[JobId],
    within: Option<Duration>,
) -> Result<Vec<Option<JobView>>, BrokerError> {
    let mut views: Vec<Option<JobView>> = vec![None; ids.len()];
    let mut has_ended = vec![false; ids.len()];
    let mut awaited = Awaited::new(ids.to_vec());
    let work = async {
        loop {
            let ended = awaited.next(broker).await?;
            if ended.is_empty() {
                return Ok::<(), BrokerError>(());
            }
            for Ended { at, job, .. } in ended {
                (views[at], has_ended[at]) = (job, true);
            }
        }
    };
    match within {
        None => work.await?,
        Some(within) => tokio::time::timeout(within, work).await.unwrap_or(Ok(()))?,
    }
    let open: Vec<usize> = (0..ids.len()).filter(|at| !has_ended[*at]).collect();
    if !open.is_empty() {
        let open_ids: Vec<JobId> = open.iter().map(|at| ids[*at].clone()).collect();
        for (at, view) in open.into_iter().zip(broker.find(&open_ids).await?) {
            views[at] = view;
        }
    }
    Ok(views)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_that_were_never_looked_at_are_open() {
        let ids: Vec<JobId> = (0..WATCHED_MAX * 2).map(|_| JobId::generate()).collect();
        let mut awaited = Awaited::new(ids.clone());
        awaited.watch_more();
        assert_eq!(awaited.into_open(), ids);
    }
}

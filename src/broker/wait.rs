//! Waiting for many jobs to end: some are watched at a time, and nobody polls.

use std::iter::Enumerate;
use std::vec;

use async_trait::async_trait;

use super::BrokerError;
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
    /// What became of it. Its earlier runs may be left out: nobody who waits asks for them.
    pub job: Option<JobView>,
}

/// Jobs that are waited for, on a connection of its own. It may be dropped at any time; once the handle that made it
/// is closed, it refuses.
#[async_trait]
pub trait Watch: Send {
    /// Waits until some of the jobs have ended and returns those; nothing when all have been returned. Each job is
    /// returned once. Never polls. Dropping the future is safe: nothing is lost by it.
    async fn next(&mut self) -> Result<Vec<Ended>, BrokerError>;
}

/// How a broker waits for some jobs.
#[async_trait]
pub(super) trait WaitAny: Send {
    /// Waits until at least one of these jobs has ended or is unknown, and returns all that have, with their position in
    /// `ids`. Never polls. From call to call `ids` loses those that were returned and may gain others.
    async fn wait_any(&mut self, ids: &[JobId]) -> Result<Vec<(usize, Option<JobView>)>, BrokerError>;
}

/// Watches these jobs, however many they are.
pub(super) fn watch(ids: Vec<JobId>, wait: impl WaitAny + 'static) -> Box<dyn Watch> {
    Box::new(Watching {
        window: Window::new(ids),
        wait,
    })
}

struct Watching<W> {
    window: Window,
    wait: W,
}

#[async_trait]
impl<W: WaitAny> Watch for Watching<W> {
    async fn next(&mut self) -> Result<Vec<Ended>, BrokerError> {
        self.window.fill();
        if self.window.watched.is_empty() {
            return Ok(Vec::new());
        }
        let ended = self.wait.wait_any(&self.window.watched).await?;
        Ok(self.window.take(ended))
    }
}

/// Those of many jobs that are watched now, and those whose turn comes later.
#[derive(Debug)]
struct Window {
    watched: Vec<JobId>,
    /// Positions of those in `watched`.
    places: Vec<usize>,
    later: Enumerate<vec::IntoIter<JobId>>,
}

impl Window {
    fn new(ids: Vec<JobId>) -> Self {
        Window {
            watched: Vec::new(),
            places: Vec::new(),
            later: ids.into_iter().enumerate(),
        }
    }

    fn fill(&mut self) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_beyond_the_window_keep_their_places() {
        let ids: Vec<JobId> = (0..WATCHED_MAX + 10).map(|_| JobId::generate()).collect();
        let mut window = Window::new(ids.clone());
        window.fill();
        assert_eq!(window.watched, ids[..WATCHED_MAX]);
        let ended = window.take(vec![(0, None), (5, None)]);
        let taken: Vec<(usize, &JobId)> = ended.iter().map(|ended| (ended.at, &ended.id)).collect();
        assert_eq!(taken, [(0, &ids[0]), (5, &ids[5])]);
        window.fill();
        let last = window.take(vec![(WATCHED_MAX - 1, None)]).remove(0);
        assert_eq!((last.at, &last.id), (WATCHED_MAX + 1, &ids[WATCHED_MAX + 1]));
    }
}

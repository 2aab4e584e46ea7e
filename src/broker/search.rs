//! Looking through jobs, a page at a time.
//!
//! A search goes through the places of jobs one after the other, in the order of [`JobFilter::places`]. In each place
//! a broker yields rows in its own order. What it can't index is left to the one matcher of [`super::filter`]. A look
//! ends when its page is full or its budget is used up, and says how far it went.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use async_trait::async_trait;

use super::BrokerError;
use super::filter::JobFilter;
use crate::job::{JobId, JobState, JobView};
use crate::time::Mono;

/// Looks through jobs.
#[async_trait]
pub trait Search: Send + Sync {
    /// The next jobs that match, behind `after`, the newest of each place first where the broker has them in such an
    /// order. Scheduled jobs: the next due first. A result is not read.
    ///
    /// Jobs that move meanwhile may be missed or come twice. Those that stay where they are come once.
    async fn search(
        &self,
        filter: &JobFilter,
        after: Option<&Cursor>,
        budget: Budget,
    ) -> Result<Page, BrokerError>;

    /// Jobs whose id begins like this, `budget.jobs` of them at the most.
    async fn begins_with(&self, start: &str, budget: Budget) -> Result<IdsFound, BrokerError>;

    /// Places that can't be looked into, and why. A search leaves them out.
    fn unseen(&self) -> Vec<Unseen> {
        Vec::new()
    }
}

/// How much one look may do. The first bound that it meets ends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Jobs that it may find.
    pub jobs: usize,
    /// Jobs that it may look at.
    pub rows: u64,
    /// How long it may take. What was begun is ended: a little longer.
    pub time: Duration,
}

impl Default for Budget {
    fn default() -> Self {
        Budget {
            jobs: 50,
            rows: 20_000,
            time: Duration::from_millis(150),
        }
    }
}

/// What a look found, and how far it went.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Page {
    /// Jobs that match.
    pub jobs: Vec<JobView>,
    /// Where to go on; `None`: all was looked through.
    pub next: Option<Cursor>,
    /// What was looked at, place by place.
    pub searched: Vec<Searched>,
}

/// How many jobs of a place were looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Searched {
    /// The place.
    pub place: JobState,
    /// Jobs that this look went through.
    pub rows: u64,
    /// Jobs that are there, of all queues or of the one that is looked for; `None`: the broker can't say that quickly.
    pub of: Option<u64>,
}

/// A place that can't be looked into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unseen {
    /// The place.
    pub place: JobState,
    /// Why, in words that follow a colon.
    pub why: &'static str,
}

/// What [`Search::begins_with`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IdsFound {
    /// Ids that begin like that.
    pub ids: Vec<JobId>,
    /// All ids were looked at, or more were found than asked for. Else there may be others.
    pub is_complete: bool,
}

impl IdsFound {
    /// Takes in what a walk came by, which may be an id twice.
    pub(super) fn add(&mut self, ids: impl IntoIterator<Item = JobId>) {
        for id in ids {
            if !self.ids.contains(&id) {
                self.ids.push(id);
            }
        }
    }

    /// Takes in a step of a walk. `is_last`: no other follows. Returns whether it is complete.
    pub(super) fn add_step(
        &mut self,
        ids: impl IntoIterator<Item = JobId>,
        is_last: bool,
        jobs: usize,
    ) -> bool {
        self.add(ids);
        self.is_complete = is_last || self.ids.len() >= jobs;
        self.ids.truncate(jobs);
        self.is_complete
    }
}

/// A position in a search: everything before it was looked at. As text it is `PLACE:AT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// In which place.
    pub place: JobState,
    /// Behind which row, in the broker's own words.
    pub at: String,
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.place.as_str(), self.at)
    }
}

impl FromStr for Cursor {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const EXPECTED: &str = "expected a position that an earlier list has printed";
        let (place, at) = text.split_once(':').ok_or(EXPECTED)?;
        let place = JobState::ALL.into_iter().find(|known| known.as_str() == place);
        let place = place.ok_or(EXPECTED)?;
        let at = at.to_owned();
        Ok(Cursor { place, at })
    }
}

impl Cursor {
    /// The parts of a position that are numbers; an error that names the cursor if they are not what this broker wrote.
    pub(super) fn numbers<const N: usize>(&self) -> Result<[i64; N], BrokerError> {
        let numbers: Result<Vec<i64>, _> = self.at.split(':').map(str::parse).collect();
        let numbers = numbers.ok().and_then(|numbers| numbers.try_into().ok());
        numbers.ok_or_else(|| self.unknown())
    }

    /// That it is not one of this broker.
    pub(super) fn unknown(&self) -> BrokerError {
        BrokerError::Refused(format!("`{self}` is no position in the jobs of this broker"))
    }
}

/// One look on its way: which place comes next, what is left of its budget, and what it has found.
#[derive(Debug)]
pub(super) struct Look<'a> {
    filter: &'a JobFilter,
    budget: Budget,
    /// When its time is up.
    until: Mono,
    /// Places that come after the present one, the next one last.
    ahead: Vec<JobState>,
    /// Where it begins, until that place is looked into.
    after: Option<Cursor>,
    page: Page,
}

impl<'a> Look<'a> {
    /// Begins; `after`: an earlier look of the same filter came so far.
    pub fn begin(filter: &'a JobFilter, after: Option<&Cursor>, unseen: &[Unseen], budget: Budget) -> Self {
        let is_seen = |place: &JobState| unseen.iter().all(|unseen| unseen.place != *place);
        let mut ahead: Vec<JobState> = filter.places().into_iter().filter(is_seen).collect();
        if let Some(after) = after {
            let begun = ahead.iter().position(|place| *place == after.place);
            ahead.drain(..begun.unwrap_or(ahead.len()));
        }
        ahead.reverse();
        Look {
            filter,
            budget,
            until: Mono::now() + budget.time,
            ahead,
            after: after.filter(|after| !after.at.is_empty()).cloned(),
            page: Page::default(),
        }
    }

    /// The place to look into next; `None`: there is no more, or no budget.
    pub fn next_place(&mut self) -> Option<JobState> {
        if self.is_over() {
            return None;
        }
        let place = self.ahead.pop()?;
        self.page.searched.push(Searched {
            place,
            rows: 0,
            of: None,
        });
        Some(place)
    }

    /// Where to begin in the present place, if not ahead of all.
    pub fn start(&mut self) -> Option<Cursor> {
        let place = self.page.searched.last()?.place;
        self.after.take_if(|after| after.place == place)
    }

    /// The filter.
    pub fn filter(&self) -> &'a JobFilter {
        self.filter
    }

    /// Whether nothing more is to be looked at. It is asked before each row, or before each batch of them.
    pub fn is_over(&self) -> bool {
        self.page.jobs.len() >= self.budget.jobs || self.rows_left() == 0 || Mono::now() >= self.until
    }

    /// Rows that may still be looked at.
    pub fn rows_left(&self) -> u64 {
        let rows: u64 = self.page.searched.iter().map(|place| place.rows).sum();
        self.budget.rows.saturating_sub(rows)
    }

    /// How many rows to ask for at once: as many as may be of use, `max` of them at the most.
    pub fn batch(&self, max: usize) -> usize {
        let rows = usize::try_from(self.rows_left()).unwrap_or(usize::MAX);
        let useful = match self.filter.is_only_of_places() {
            true => self.budget.jobs.saturating_sub(self.page.jobs.len()),
            false => max,
        };
        useful.min(rows).clamp(1, max)
    }

    /// A row of the present place was looked at.
    pub fn count_row(&mut self) {
        if let Some(searched) = self.page.searched.last_mut() {
            searched.rows += 1;
        }
    }

    /// A job that may match, if the row holds one.
    pub fn offer(&mut self, job: Option<JobView>) {
        self.page.jobs.extend(job.filter(|job| self.filter.matches(job)));
    }

    /// It ends here, in the middle of the present place: behind this row. `of`: how many jobs are in this place.
    pub fn stop(&mut self, at: impl fmt::Display, of: Option<u64>) {
        let Some(searched) = self.page.searched.last_mut() else {
            return;
        };
        searched.of = of;
        self.page.next = Some(Cursor {
            place: searched.place,
            at: at.to_string(),
        });
        self.ahead.clear();
    }

    /// What it found. If it ended between two places, the next one is to be gone through from its beginning.
    pub fn end(mut self) -> Page {
        if let Some(place) = self.ahead.pop() {
            let at = String::new();
            self.page.next = Some(Cursor { place, at });
        }
        self.page
    }
}

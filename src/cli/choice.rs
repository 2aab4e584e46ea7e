//! Which jobs a verb is about: the flags that verbs over many jobs share, and ids that were shortened.

use std::time::Duration;

use clap::Args;

use crate::broker::{ArgumentIs, Broker, Budget, Cursor, IdsFound, JobFilter, Search, StateName};
use crate::job::{JobId, JobState, JobView, QueueName};
use crate::time::{Unix, parse_duration};

use super::progress::Progress;
use super::report::{Code, Failure, Outcome};

/// Jobs that are looked at in one step of a verb over all that match.
const PAGE: usize = 500;

/// Conditions that all hold
#[derive(Args, Clone, Debug, Default)]
pub struct FilterArgs {
    /// Only in this state: running, waiting, blocked, scheduled, deferred, dead (or failed), canceled, finished; several as `a,b`
    #[arg(long, value_name = "STATE", value_delimiter = ',')]
    pub state: Vec<StateName>,
    /// Only of this queue
    #[arg(long, short, value_name = "NAME")]
    pub queue: Option<QueueName>,
    /// Only of this task
    #[arg(long, value_name = "NAME")]
    pub task: Option<String>,
    /// Only those whose error has this text, in upper or lower case
    #[arg(long, value_name = "TEXT")]
    pub error: Option<String>,
    /// Only those whose arguments have this value, as in `order.id=42` or `0=ada@example.org`; all of several
    #[arg(long = "arg", value_name = "PATH=VALUE")]
    pub arguments: Vec<ArgumentIs>,
    /// Only those that ended within this time, or were enqueued if they have not ended
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub since: Option<Duration>,
}

/// Which part of a list is shown, and how
#[derive(Args, Clone, Debug)]
pub struct PageArgs {
    /// How many at most
    #[arg(long, value_name = "N", value_parser = at_least_one, default_value = "50")]
    pub limit: usize,
    /// Go on where an earlier list ended
    #[arg(long, value_name = "CURSOR")]
    pub after: Option<Cursor>,
    /// One JSON object a line for programs; if there is more, the last one has `next`, the cursor
    #[arg(long)]
    pub json: bool,
}

/// A list of none would say that there is nothing.
fn at_least_one(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| *number > 0);
    number.ok_or_else(|| "expected a number, 1 or more".to_owned())
}

impl FilterArgs {
    /// The filter, at this time.
    pub fn filter(&self, now: Unix) -> JobFilter {
        JobFilter {
            states: self.state.clone(),
            queue: self.queue.clone(),
            task: self.task.clone(),
            error: self.error.clone(),
            arguments: self.arguments.clone(),
            since: self.since.map(|since| now.before(since)),
        }
    }
}

/// Goes through all jobs that match, some at a time.
pub async fn each_page(
    search: &dyn Search,
    filter: &JobFilter,
    mut visit: impl AsyncFnMut(Vec<JobId>) -> Outcome,
) -> Outcome {
    let budget = Budget {
        jobs: PAGE,
        rows: 20_000,
        time: Duration::from_millis(200),
    };
    let mut after = None;
    loop {
        let page = search.search(filter, after.as_ref(), budget).await?;
        let ids: Vec<JobId> = page.jobs.into_iter().map(|job| job.id).collect();
        if !ids.is_empty() {
            visit(ids).await?;
        }
        match page.next {
            Some(next) => after = Some(next),
            None => return Ok(()),
        }
    }
}

/// How many jobs match.
pub async fn count(search: &dyn Search, filter: &JobFilter) -> Result<u64, Failure> {
    let progress = Progress::counting("found");
    let mut count = 0;
    let work = each_page(search, filter, async |ids| {
        count += ids.len() as u64;
        progress.advance(ids.len() as u64);
        Ok(())
    });
    progress.during(work).await?;
    Ok(count)
}

/// Candidates that an error names.
const NAMED_MAX: usize = 5;

/// How long an id may be looked for by its beginning.
const PATIENCE: Duration = Duration::from_secs(2);

/// The id that this one names: itself, or the only one that begins with it. One that names no job is taken as it is: what
/// is done with it says that there is none.
pub async fn resolve(broker: &dyn Broker, given: &JobId) -> Result<JobId, Failure> {
    // Who can't look for ids takes them as they are.
    let (Ok(reader), Ok(search)) = (broker.reader(), broker.search()) else {
        return Ok(given.clone());
    };
    if is_whole(given) {
        return Ok(given.clone());
    }
    let found = reader.find(std::slice::from_ref(given)).await?;
    if found.iter().flatten().any(is_known) {
        return Ok(given.clone());
    }
    let budget = Budget {
        jobs: NAMED_MAX + 1,
        rows: u64::MAX,
        time: PATIENCE,
    };
    only(given, search.begins_with(given.as_str(), budget).await?)
}

/// A whole UUID is not looked for: programs give those.
fn is_whole(id: &JobId) -> bool {
    uuid::Uuid::try_parse(id.as_str()).is_ok()
}

/// Some brokers have an answer for every id: one that says nothing may be of no job.
fn is_known(job: &JobView) -> bool {
    job.state != JobState::Waiting || job.enqueued != Unix::default()
}

fn only(given: &JobId, found: IdsFound) -> Result<JobId, Failure> {
    let IdsFound { ids, is_complete } = found;
    match ids.as_slice() {
        [] if is_complete => Ok(given.clone()),
        [only] if is_complete => Ok(only.clone()),
        [] | [_] => {
            let message =
                format!("not all ids could be looked at, to find the one that begins with `{given}`");
            Err(Failure::new(Code::Failed, message).hint("give the whole id"))
        }
        several => {
            let mut named: Vec<&str> = several.iter().take(NAMED_MAX).map(JobId::as_str).collect();
            named.sort_unstable();
            if several.len() > NAMED_MAX {
                named.push("…");
            }
            let message = format!("several ids begin with `{given}`:\n  {}", named.join("\n  "));
            Err(Failure::new(Code::Usage, message).hint("give more of its letters"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> JobId {
        JobId::new(text).unwrap()
    }

    fn found(ids: &[&str], is_complete: bool) -> Result<JobId, Failure> {
        let ids = ids.iter().copied().map(id).collect();
        only(&id("01"), IdsFound { ids, is_complete })
    }

    #[test]
    fn a_beginning_names_the_only_id_that_has_it() {
        assert_eq!(found(&["0199"], true), Ok(id("0199")));
        assert_eq!(found(&[], true), Ok(id("01")));
        let several = format!("{:?}", found(&["0199", "0188"], true).unwrap_err());
        assert!(several.contains("0188\\n  0199"), "{several}");
        assert!(found(&["0199"], false).is_err() && found(&[], false).is_err());
        let many = format!("{:?}", found(&["1", "2", "3", "4", "5", "6"], false).unwrap_err());
        assert!(many.contains('…') && !many.contains('6'), "{many}");
    }

    #[test]
    fn a_whole_uuid_is_not_looked_for() {
        assert!(is_whole(&id("0199d1c5-6f3a-7c8e-9d55-0a1b2c3d4e5f")));
        assert!(!is_whole(&id("0199d1c5-6f3a")) && !is_whole(&id("order-42")));
    }
}

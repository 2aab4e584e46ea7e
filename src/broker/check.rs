//! What every broker asks of a job before it takes it.

use std::collections::HashSet;

use super::BrokerError;
use crate::job::{NewJob, check_name};

/// Checks the jobs of one `enqueue`: names, payload sizes, ids given twice.
///
/// Queue names and ids are checked by their types. Returns the first problem as
/// [`BrokerError::Refused`] or [`BrokerError::IdTaken`].
pub(super) fn new_jobs<'a>(
    jobs: impl IntoIterator<Item = &'a NewJob>,
    payload_len_max: usize,
) -> Result<(), BrokerError> {
    let jobs = jobs.into_iter();
    let mut ids = HashSet::with_capacity(jobs.size_hint().0);
    for job in jobs {
        let id = &job.id;
        if let Err(problem) = check_name(&job.task) {
            return refuse(format!("cannot enqueue job `{id}`: its task name {problem}"));
        }
        if let Some(Err(problem)) = job.unique_key.as_deref().map(check_name) {
            return refuse(format!("cannot enqueue job `{id}`: its unique key {problem}"));
        }
        if let (Some(due), Some(begin_by)) = (job.due, job.begin_by)
            && begin_by <= due
        {
            return refuse(format!(
                "cannot enqueue job `{id}`: it is due at {due}, and would have expired by then, at {begin_by}"
            ));
        }
        if let Some(limit) = &job.limit {
            if let Err(problem) = check_name(&limit.key) {
                return refuse(format!(
                    "cannot enqueue job `{id}`: the key of its limit {problem}"
                ));
            }
            if limit.max == 0 {
                return refuse(format!(
                    "cannot enqueue job `{id}`: with a limit of 0 it would never run"
                ));
            }
        }
        if job.payload.len() > payload_len_max {
            return refuse(format!(
                "cannot enqueue job `{id}` of task `{}`: its arguments are {} bytes long, above the limit of {} \
                 (store the data elsewhere and pass its name, or raise `broker.max_payload`)",
                job.task,
                job.payload.len(),
                payload_len_max,
            ));
        }
        if !ids.insert(id) {
            return Err(BrokerError::IdTaken(id.clone()));
        }
    }
    Ok(())
}

/// The answer of a handle after its `close`.
pub(super) fn closed(url: &str) -> BrokerError {
    BrokerError::Refused(format!("{url} was closed by this program"))
}

fn refuse<T>(reason: String) -> Result<T, BrokerError> {
    Err(BrokerError::Refused(reason))
}

//! The job of a group that runs at the first failure of a member.
//!
//! RQ has nothing of the kind: it is a deferred job that no worker of RQ wakes. A pool decides in the step that ends a member
//! (`lua/first_failure.lua`); where RQ's own code ended it, when that work has ended. Its housekeeping looks at all groups
//! for members that an `rq worker` ended.

use super::data::{Call, Serializer};
use super::enqueue::{Place, Row};
use super::group::summary;
use super::held::AfterWork;
use super::{RqBroker, text};
use crate::broker::{BrokerError, NewGroup, flow};
use crate::job::{JobId, NewJob};
use crate::time::Unix;

/// The name under which the failed member is told.
const FIRST_FAILED: &str = "first_failed";

impl RqBroker {
    /// The row of the job that waits; none without members, since then nothing can fail.
    pub(super) fn first_failure(&self, group: &NewGroup, now: Unix) -> Result<Option<Row>, BrokerError> {
        let Some(job) = group.on_failure.as_ref().filter(|_| !group.jobs.is_empty()) else {
            return Ok(None);
        };
        let mut waiting = self.row(&handed(job, group, None), now)?;
        waiting.place = Place::FirstFailure(text::score(now));
        waiting.is_not_queued("deferred");
        let (before, after) = around_the_failed(job, group, &self.serializer)
            .map_err(|why| BrokerError::Refused(format!("cannot enqueue job `{}`: {why}", job.id)))?;
        let is_json = self.serializer == Serializer::Json;
        waiting.set("data_before_failed", before);
        waiting.set("data_after_failed", after);
        waiting.set("data_is_json", if is_json { "1" } else { "0" });
        Ok(Some(waiting))
    }

    /// RQ's own code has ended jobs, and looks at no group for its first failure.
    pub(super) async fn look_for_failures_after(&self, ended: &[AfterWork]) {
        let mut call = self.scripts.look_at_groups.prepare_invoke();
        call.arg(self.keys.names()).arg(text::iso(Unix::now()));
        let keeps_house = |work: &AfterWork| matches!(work, AfterWork::Maintain { .. });
        // Housekeeping ends jobs that it alone knows: all groups are looked at.
        if !ended.iter().any(keeps_house) {
            let jobs: Vec<&str> = ended.iter().filter_map(AfterWork::job).collect();
            if jobs.is_empty() {
                return;
            }
            call.arg(jobs);
        }
        // The next housekeeping looks again.
        if let Err(error) = self.link.run_script::<()>(&call).await {
            tracing::warn!(%error, "cannot look whether a member of a group has failed");
        }
    }
}

/// The job with what is known of its group, and of the member that failed, in its arguments.
fn handed(job: &NewJob, group: &NewGroup, failed: Option<&JobId>) -> NewJob {
    let mut told = summary(group);
    if let Some(failed) = failed {
        told[FIRST_FAILED] = serde_json::json!(failed);
    }
    NewJob {
        payload: flow::hand_on(&job.payload, flow::GROUP, told.to_string().as_bytes()),
        ..job.clone()
    }
}

/// The job's data up to the id of the failed member, and from behind it: a script can't write a pickle of its own.
fn around_the_failed(
    job: &NewJob,
    group: &NewGroup,
    serializer: &Serializer,
) -> Result<(Vec<u8>, Vec<u8>), String> {
    let mark = JobId::generate();
    let data = Call::new(&job.task, &handed(job, group, Some(&mark)).payload)?.data(serializer)?;
    let mark = mark.as_str().as_bytes();
    let at = data.windows(mark.len()).position(|window| window == mark);
    let at = at.ok_or("its arguments can't be written")?;
    // JSON has a quote on both sides; a pickle a code and the length, see `python/pickle.rs`.
    let (lead, trail) = match serializer {
        Serializer::Json => (1, 1),
        _ => (2, 0),
    };
    let (before, after) = (&data[..at - lead], &data[at + mark.len() + trail..]);
    Ok((before.to_vec(), after.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::QueueName;

    #[test]
    fn a_script_can_put_the_id_of_the_failed_member_into_the_data() {
        let queue = QueueName::new("default").unwrap();
        let group = NewGroup::new(vec![NewJob::new(queue.clone(), "work", "")]);
        let id = "x".repeat(crate::job::NAME_LEN_MAX);
        for payload in ["", "[1]", r#"{"to": "ada"}"#] {
            let job = NewJob::new(queue.clone(), "alarm", payload);
            let told = handed(&job, &group, Some(&JobId::new(&id).unwrap()));
            let call = Call::new("alarm", &told.payload).unwrap();
            for serializer in [Serializer::Pickle, Serializer::Json] {
                let (before, after) = around_the_failed(&job, &group, &serializer).unwrap();
                // As first_failure.lua writes it.
                let written = match serializer {
                    Serializer::Json => format!("\"{id}\"").into_bytes(),
                    _ => [&[0x8c, 255], id.as_bytes()].concat(),
                };
                let data = [before, written, after].concat();
                assert_eq!(data, call.data(&serializer).unwrap(), "{payload}");
            }
        }
    }
}

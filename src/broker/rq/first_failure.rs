//! The job of a group that runs at the first failure, in a way that RQ's own workers follow.
//!
//! RQ wakes what depends on a job when that one has ended, well or not, and knows no other difference than that a job which
//! does not allow failures stays asleep. So somebody has to look how a member ended, and that is a job: the *watcher*,
//! on which nothing depends but that each member has it among its dependents. When it runs, `first_failure.lua` decides
//! in one step: the waiting job goes, is taken away, or is waited for by the next watcher. Its function is Python's own
//! `eval`, so that a worker which runs it needs nothing of ours.
//!
//! What RQ does when a member ends makes that exact: it moves those dependents on whose own dependencies all have
//! finished, in a transaction that watches their hashes. The watcher depends on itself and sleeps as `finished`. So
//! the first end moves it on, and no other does before the next watcher sleeps. It is in no registry while it sleeps, and
//! keeps no result. Source: `rq/queue.py`, `move_dependents_to_ready`; `rq/job.py`, `dependencies_are_met`.

use std::time::Duration;

use super::data::{Call, Serializer};
use super::enqueue::{Place, Row};
use super::group::summary;
use super::{RqBroker, text};
use crate::broker::{BrokerError, NewGroup, flow};
use crate::job::{JobId, NewJob};
use crate::time::Unix;

/// Decides; see there. Arguments: the prefix, the id of the job that waits, and the time as ISO.
pub(super) const SCRIPT: &str = concat!(
    include_str!("lua/first_failure.lua"),
    "first_failure(ARGV[2], ARGV[3])"
);

/// Runs of a watcher whose worker dies or fails.
const RETRIES: u32 = 10;

/// The name under which the failed member is told.
const FIRST_FAILED: &str = "first_failed";

impl RqBroker {
    /// The rows of the job that waits and of its watcher; none without members, since then nothing can fail.
    pub(super) fn first_failure(&self, group: &NewGroup, now: Unix) -> Result<Vec<Row>, BrokerError> {
        let Some(job) = group.on_failure.as_ref().filter(|_| !group.jobs.is_empty()) else {
            return Ok(Vec::new());
        };
        let name = JobId::generate();
        let mut waiting = self.row(&handed(job, group, None), now)?;
        waiting.place = Place::FirstFailure(text::score(now));
        waiting.is_not_queued("deferred");
        let (before, after) = around_the_failed(job, group, &self.serializer)
            .map_err(|why| BrokerError::Refused(format!("cannot enqueue job `{}`: {why}", job.id)))?;
        waiting.set("group_of_first_failure", group.id.as_str());
        waiting.set("watcher", name.as_str());
        waiting.set("watchers", "1");
        waiting.set("data_before_failed", before);
        waiting.set("data_after_failed", after);
        waiting.set(
            "data_is_json",
            if self.serializer == Serializer::Json {
                "1"
            } else {
                "0"
            },
        );
        Ok(vec![waiting, self.watcher(job, group, &name, now)?])
    }

    /// The first watcher.
    fn watcher(&self, of: &NewJob, group: &NewGroup, name: &JobId, now: Unix) -> Result<Row, BrokerError> {
        let code = code(self.keys.prefix(), &of.id);
        let mut job = NewJob::new(
            of.queue.clone(),
            "builtins.eval",
            serde_json::json!([code]).to_string(),
        );
        job.id = JobId::new(&format!("{name}-1")).map_err(|why| BrokerError::Refused(why.to_string()))?;
        job.retries = Some(RETRIES);
        job.result_ttl = Some(Duration::ZERO);
        let mut row = self.row(&job, now)?;
        row.place = Place::Watcher;
        row.is_not_queued("finished");
        row.set(
            "description",
            format!("pool.first_failure_in_group('{}')", group.id),
        );
        row.set("lets_go", of.id.as_str());
        row.set("dependency_id", job.id.as_str());
        row.set("dependency_ids", format!("[\"{}\"]", job.id));
        row.set("allow_dependency_failures", "1");
        row.set("enqueue_at_front", "1");
        Ok(row)
    }

    /// Looks at the groups whose first failure is waited for: nobody else does where a process was killed between two steps
    /// of RQ's code, or the last member was canceled, which wakes nobody.
    pub(super) async fn look_for_failures(&self) -> Result<(), BrokerError> {
        let waiting: Vec<String> = self
            .command(redis::cmd("SMEMBERS").arg(self.keys.first_failure_jobs()))
            .await?;
        for id in waiting {
            let mut call = self.scripts.first_failure.prepare_invoke();
            call.arg(self.keys.prefix()).arg(id).arg(text::iso(Unix::now()));
            // One group that can't be read is no reason to take no jobs.
            if let Err(error) = self.run::<()>(&call).await {
                tracing::warn!(%error, "cannot look whether a member of a group has failed");
            }
        }
        Ok(())
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

/// What a watcher evaluates. What JSON writes as a string, Python reads as the same.
fn code(prefix: &str, waiting: &JobId) -> String {
    let text = |text: &str| serde_json::json!(text).to_string();
    format!(
        "(lambda rq: rq.get_current_job().connection.eval({}, 0, {}, {}, rq.utils.utcformat(rq.utils.now())))\
         (__import__(\"rq.utils\"))",
        text(SCRIPT),
        text(prefix),
        text(waiting.as_str())
    )
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

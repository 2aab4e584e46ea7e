//! Groups, as RQ has them: a set of job ids, and a job that depends on all of them.
//!
//! RQ keeps no counts of its own: how far a group is, is counted over the members that it still knows. Source: `rq/group.py`.

use super::RqBroker;
use super::enqueue::{Group, Row};
use super::look::job_id;
use crate::broker::{BrokerError, GroupView, NewGroup, flow};
use crate::job::{GroupId, JobId, JobState, JobView, NewJob};
use crate::time::Unix;

/// Members that a job may depend on: whenever one of them ends, RQ looks at all the others.
const DEPENDENCIES_MAX: usize = 1_000;

impl RqBroker {
    pub(super) async fn add_group(&self, group: NewGroup) -> Result<(), BrokerError> {
        flow::check_group(&group, self.options.payload_len_max)?;
        check(&group)?;
        let now = Unix::now();
        let members = group.jobs.iter().map(|job| self.row(job, now));
        let mut rows = members.collect::<Result<Vec<Row>, _>>()?;
        if let Some(job) = &group.on_done {
            let callback = self.row(&with_summary(job, &group), now)?;
            rows.push(callback.after(&group.jobs, now));
        }
        rows.extend(self.first_failure(&group, now)?);
        self.add_rows(
            &rows,
            Some(Group {
                id: &group.id,
                members: group.jobs.len(),
            }),
        )
        .await?;
        Ok(())
    }

    pub(super) async fn group_view(&self, id: &GroupId) -> Result<Option<GroupView>, BrokerError> {
        let members = self.group_members(id).await?;
        let known = self
            .look_up(&members)
            .await?
            .into_iter()
            .flatten()
            .collect::<Vec<_>>();
        Ok(count(id, &known))
    }

    /// The members in the order of their ids: those that were not chosen by hand grow with time.
    pub(super) async fn group_members(&self, id: &GroupId) -> Result<Vec<JobId>, BrokerError> {
        let ids: Vec<Vec<u8>> = self
            .link
            .run_command(redis::cmd("SMEMBERS").arg(self.keys.group(id.as_str())))
            .await?;
        let mut ids: Vec<JobId> = ids.iter().filter_map(|id| job_id(id).ok()).collect();
        ids.sort();
        Ok(ids)
    }

    pub(super) async fn await_group(
        &self,
        id: &GroupId,
        beyond: u64,
    ) -> Result<Option<GroupView>, BrokerError> {
        loop {
            let members = self.group_members(id).await?;
            let mut known: Vec<JobView> = self.look_up(&members).await?.into_iter().flatten().collect();
            let view = count(id, &known);
            if view
                .as_ref()
                .is_none_or(|view| view.ended.is_some() || view.ended_jobs() > beyond)
            {
                return Ok(view);
            }
            known.retain(|job| !job.state.is_final());
            let open = known.into_iter().map(|job| job.id).collect();
            self.watch_results(open).next().await?;
        }
    }
}

/// What RQ can't keep is refused.
fn check(group: &NewGroup) -> Result<(), BrokerError> {
    let cannot = |why: String| {
        Err(BrokerError::Refused(format!(
            "cannot enqueue group `{}`: {why}",
            group.id
        )))
    };
    if (group.on_done.is_some() || group.on_failure.is_some()) && group.jobs.len() > DEPENDENCIES_MAX {
        return cannot(format!(
            "a job of RQ's that runs after {} others is too much: whenever one of them ends, all are looked at; \
             {DEPENDENCIES_MAX} is the limit",
            group.jobs.len()
        ));
    }
    Ok(())
}

/// The job that runs at the end, with what is known of the group by now in its arguments.
fn with_summary(job: &NewJob, group: &NewGroup) -> NewJob {
    let summary = summary(group).to_string();
    NewJob {
        payload: flow::hand_on(&job.payload, flow::GROUP, summary.as_bytes()),
        ..job.clone()
    }
}

/// What is known of a group when it is enqueued.
pub(super) fn summary(group: &NewGroup) -> serde_json::Value {
    serde_json::json!({ "group": group.id, "total": group.jobs.len() })
}

/// How far a group of these members is; `None` without any.
fn count(id: &GroupId, members: &[JobView]) -> Option<GroupView> {
    let number = |state: JobState| members.iter().filter(|job| job.state == state).count() as u64;
    let mut view = GroupView {
        id: id.clone(),
        total: members.len() as u64,
        finished: number(JobState::Finished),
        failed: number(JobState::Dead),
        created: members.iter().map(|job| job.enqueued).min()?,
        ended: None,
    };
    if view.is_complete() {
        let last = members.iter().filter_map(|job| job.ended).max();
        view.ended = Some(last.unwrap_or(view.created));
    }
    Some(view)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::QueueName;

    fn member(id: &str, state: JobState, ended: Option<i64>) -> JobView {
        JobView {
            ended: ended.map(Unix),
            ..JobView::new(
                JobId::new(id).unwrap(),
                QueueName::new("default").unwrap(),
                "work",
                state,
            )
        }
    }

    fn group(jobs: usize) -> NewGroup {
        let queue = || QueueName::new("default").unwrap();
        let job = |_| NewJob::new(queue(), "work", "");
        NewGroup {
            on_done: Some(NewJob::new(queue(), "report", "[1]")),
            ..NewGroup::new((0..jobs).map(job).collect())
        }
    }

    #[test]
    fn a_group_has_ended_when_its_last_member_has() {
        let id = GroupId::generate();
        let (done, dead) = (
            member("a", JobState::Finished, Some(5)),
            member("b", JobState::Dead, Some(9)),
        );
        let open = member("c", JobState::Running, None);
        let half = count(&id, &[done.clone(), dead.clone(), open]).unwrap();
        assert_eq!(
            (half.total, half.finished, half.failed, half.ended),
            (3, 1, 1, None)
        );
        assert_eq!(count(&id, &[done, dead]).unwrap().ended, Some(Unix(9)));
        assert_eq!(count(&id, &[]), None);
    }

    #[test]
    fn a_callback_gets_what_is_known_when_it_is_enqueued() {
        let group = group(2);
        let payload = with_summary(group.on_done.as_ref().unwrap(), &group).payload;
        let expected = format!(r#"[{{"group":"{}","total":2}},1]"#, group.id);
        assert_eq!(String::from_utf8(payload).unwrap(), expected);
    }

    #[test]
    fn what_rq_cannot_do_is_refused() {
        assert!(check(&group(DEPENDENCIES_MAX)).is_ok());
        assert!(check(&group(DEPENDENCIES_MAX + 1)).is_err());
        let without = NewGroup {
            on_done: None,
            ..group(DEPENDENCIES_MAX + 1)
        };
        assert!(check(&without).is_ok());
        let alarm = NewGroup {
            on_failure: without.jobs.first().cloned(),
            ..without
        };
        assert!(check(&alarm).is_err());
    }
}

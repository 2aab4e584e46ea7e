//! Groups and chains of the jobs in memory.

use std::time::Duration;

use super::store::{Place, Slot, Store};
use super::ties::{Group, Ties};
use crate::broker::flow::{self, GROUP, PREVIOUS};
use crate::broker::{BrokerError, GroupView, NewGroup};
use crate::job::{GroupId, JobError, JobId, NewJob};
use crate::time::Unix;

impl Store {
    pub(super) fn enqueue_group(
        &mut self,
        group: NewGroup,
        result_ttl: Duration,
        now: Unix,
    ) -> Result<(), BrokerError> {
        self.promote(now);
        if self.groups.values().any(|known| known.view.id == group.id) {
            return Err(BrokerError::GroupTaken(group.id.clone()));
        }
        let callbacks = group.on_done.iter().chain(&group.on_failure);
        self.make_room(group.jobs.iter().chain(callbacks), now)?;
        let mut defer =
            |job: Option<NewJob>| job.map(|job| self.add(job, |_| Place::Deferred, Ties::default(), now));
        let on_done = defer(group.on_done);
        let on_failure = defer(group.on_failure);
        let number = self.next();
        let total = group.jobs.len() as u64;
        let ties = Ties {
            group: Some(number),
            next: None,
        };
        for job in group.jobs {
            self.enqueue_one(job, ties, now);
        }
        let view = GroupView {
            id: group.id,
            total,
            finished: 0,
            failed: 0,
            created: now,
            ended: None,
        };
        let group = Group {
            view,
            on_done,
            on_failure,
            expires: None,
        };
        self.groups.insert(number, group);
        if total == 0 {
            self.count_member(number, 0, 0, result_ttl, now);
        }
        Ok(())
    }

    pub(super) fn enqueue_chain(&mut self, jobs: Vec<NewJob>, now: Unix) -> Result<(), BrokerError> {
        self.promote(now);
        self.make_room(&jobs, now)?;
        let mut next = None;
        let mut jobs = jobs.into_iter();
        let first = jobs.next();
        for job in jobs.rev() {
            let ties = Ties { group: None, next };
            next = Some(self.add(job, |_| Place::Deferred, ties, now));
        }
        if let Some(job) = first {
            self.enqueue_one(job, Ties { group: None, next }, now);
        }
        Ok(())
    }

    /// Sees to it that nobody has the ids of these jobs.
    fn make_room<'a>(
        &mut self,
        jobs: impl IntoIterator<Item = &'a NewJob>,
        now: Unix,
    ) -> Result<(), BrokerError> {
        for job in jobs {
            if self.find(&job.id, now).is_some() {
                return Err(BrokerError::IdTaken(job.id.clone()));
            }
            self.remove_expired(&job.id);
        }
        Ok(())
    }

    /// What a job that ended well means for others. Returns whether its group keeps its result.
    pub(super) fn after_success(
        &mut self,
        ties: Ties,
        result: &[u8],
        result_ttl: Duration,
        now: Unix,
    ) -> bool {
        if let Some(next) = ties.next {
            self.let_go(next, PREVIOUS, result, now);
        }
        ties.group
            .is_some_and(|group| self.count_member(group, 1, 0, result_ttl, now))
    }

    /// What a job that failed for good means for others.
    pub(super) fn after_failure(
        &mut self,
        handle: i64,
        ties: Ties,
        error: &JobError,
        result_ttl: Duration,
        now: Unix,
    ) {
        if let Some(group) = ties.group {
            self.count_member(group, 0, 1, result_ttl, now);
        }
        let culprit = &self.jobs[&handle].new;
        let error = flow::earlier_failed(&culprit.id, &culprit.task, error);
        let mut next = ties.next;
        while let Some(handle) = next
            && let Some(job) = self.jobs.get_mut(&handle)
            && matches!(job.place, Place::Deferred)
        {
            job.error = Some(error.clone());
            next = job.ties.next;
            self.put(handle, Place::Dead { ended: now });
        }
    }

    /// What a dead letter that runs again means for others: it has not ended, and those who died of it may live.
    pub(super) fn after_retry(&mut self, handle: i64) {
        let ties = self.jobs[&handle].ties;
        if let Some(group) = ties.group.and_then(|group| self.groups.get_mut(&group))
            && group.view.ended.is_none()
        {
            group.view.failed -= 1;
        }
        let mut next = ties.next;
        while let Some(handle) = next
            && let Some(job) = self.jobs.get_mut(&handle)
            && matches!(job.place, Place::Dead { .. })
            && job
                .error
                .as_ref()
                .is_some_and(|error| error.kind == flow::EARLIER_JOB_FAILED)
        {
            job.error = None;
            next = job.ties.next;
            self.put(handle, Place::Deferred);
        }
    }

    /// Puts a deferred job into its queue with a value for its arguments.
    fn let_go(&mut self, handle: i64, key: &str, value: &[u8], now: Unix) {
        let position = self.next();
        if let Some(job) = self.jobs.get_mut(&handle)
            && matches!(job.place, Place::Deferred)
        {
            job.payload = flow::hand_on(&job.payload, key, value).into();
            self.put(handle, Place::Waiting(Slot { position, since: now }));
        }
    }

    /// Counts members that have ended; false when the group has ended before.
    fn count_member(
        &mut self,
        number: i64,
        finished: u64,
        failed: u64,
        result_ttl: Duration,
        now: Unix,
    ) -> bool {
        let Some(group) = self
            .groups
            .get_mut(&number)
            .filter(|group| group.view.ended.is_none())
        else {
            return false;
        };
        group.view.finished += finished;
        group.view.failed += failed;
        let view = group.view.clone();
        let on_failure = group.on_failure.take_if(|_| view.failed > 0);
        let (mut on_done, mut dropped) = (None, None);
        if view.is_complete() {
            group.view.ended = Some(now);
            group.expires = Some(now + result_ttl);
            on_done = group.on_done.take();
            dropped = group.on_failure.take();
        }
        for handle in on_failure.into_iter().chain(on_done) {
            self.let_go(handle, GROUP, &view.summary(), now);
        }
        // One that was canceled has ended already, and stays where it is.
        if let Some(handle) = dropped
            && let Some(job) = self.jobs.get(&handle)
            && matches!(job.place, Place::Deferred)
        {
            self.remove(handle);
        }
        true
    }

    /// Deletes groups whose time ended, with the results of their members; how many results.
    pub(super) fn forget_groups(&mut self, now: Unix) -> u64 {
        let expired = |group: &Group| group.expires.is_some_and(|expires| expires <= now);
        let gone: Vec<i64> = self
            .groups
            .iter()
            .filter(|(_, group)| expired(group))
            .map(|(&number, _)| number)
            .collect();
        self.groups.retain(|_, group| !expired(group));
        let of_gone = |group: Option<i64>| group.is_some_and(|group| gone.contains(&group));
        let results: Vec<i64> = self
            .jobs
            .iter()
            .filter(|(_, job)| of_gone(job.ties.group) && matches!(job.place, Place::Finished { .. }))
            .map(|(&handle, _)| handle)
            .collect();
        for &handle in &results {
            self.remove(handle);
        }
        results.len() as u64
    }

    pub(super) fn find_group(&self, id: &GroupId, now: Unix) -> Option<GroupView> {
        let group = self.groups.values().find(|group| group.view.id == *id)?;
        group
            .expires
            .is_none_or(|expires| expires > now)
            .then(|| group.view.clone())
    }

    pub(super) fn group_jobs(&self, id: &GroupId) -> Vec<JobId> {
        let number = self.groups.iter().find(|(_, group)| group.view.id == *id);
        let Some((&number, _)) = number else {
            return Vec::new();
        };
        let mut members: Vec<(i64, &JobId)> = self
            .jobs
            .iter()
            .filter(|(_, job)| job.ties.group == Some(number))
            .map(|(&handle, job)| (handle, &job.new.id))
            .collect();
        members.sort_unstable();
        members.into_iter().map(|(_, id)| id.clone()).collect()
    }
}

//! The jobs themselves: plain data, time as an argument.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::limits::Limits;
use super::ties::{Group, Ties};
use crate::broker::source::StopHow;
use crate::broker::{Backlog, BrokerError, Enqueued, ScheduleView};
use crate::job::{Attempt, JobError, JobId, Limit, NewJob, Progress, QueueName};
use crate::time::Unix;

/// A job and where it is.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) new: NewJob,
    pub(super) payload: Arc<[u8]>,
    pub(super) enqueued: Unix,
    /// Claims so far.
    pub(super) epoch: u32,
    pub(super) failures: u32,
    pub(super) losses: u32,
    pub(super) error: Option<JobError>,
    /// Runs that did not succeed, the newest last.
    pub(super) attempts: VecDeque<Attempt>,
    pub(super) place: Place,
    pub(super) ties: Ties,
}

/// Exactly one place at any instant.
#[derive(Clone, Debug)]
pub(super) enum Place {
    Waiting(Slot),
    Scheduled(Unix),
    /// Until other jobs have ended.
    Deferred,
    /// As many jobs of its key run as may: see [`super::limits`].
    Blocked(Slot),
    Running {
        session: u64,
        slot: Slot,
        begun: bool,
        stop: Option<CalledOff>,
        /// How far it is, as it says.
        progress: Option<Progress>,
    },
    Finished {
        started: Option<Unix>,
        ended: Unix,
        expires: Unix,
        result: Vec<u8>,
    },
    Dead {
        ended: Unix,
    },
}

/// Somebody, or time, has called a claimed job off.
#[derive(Clone, Debug)]
pub(super) struct CalledOff {
    pub(super) how: StopHow,
    pub(super) error: JobError,
}

/// A place in a queue: the lowest position is next. A claim remembers it, for giving the job back.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    pub(super) position: i64,
    pub(super) since: Unix,
}

#[derive(Debug, Default)]
pub(super) struct Queue {
    /// Position to handle.
    pub(super) waiting: BTreeMap<i64, i64>,
    pub(super) scheduled: u64,
}

/// A schedule and its rule.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    pub(super) rule: String,
    pub(super) view: ScheduleView,
}

/// All jobs of a memory broker.
#[derive(Debug, Default)]
pub(super) struct Store {
    pub(super) jobs: HashMap<i64, Job>,
    pub(super) groups: BTreeMap<i64, Group>,
    pub(super) ids: HashMap<JobId, i64>,
    pub(super) keys: HashMap<Arc<str>, i64>,
    pub(super) queues: BTreeMap<QueueName, Queue>,
    pub(super) scheduled: BTreeSet<(Unix, i64)>,
    pub(super) schedules: BTreeMap<Arc<str>, Schedule>,
    pub(super) expiring: BTreeSet<(Unix, i64)>,
    /// Jobs that are to begin by a time, until then.
    pub(super) begin_by: BTreeSet<(Unix, i64)>,
    pub(super) limits: Limits,
    /// When each lease ends.
    pub(super) leases: HashMap<u64, Unix>,
    sequence: i64,
}

impl Store {
    pub(super) fn enqueue(&mut self, jobs: Vec<NewJob>, now: Unix) -> Result<Vec<Enqueued>, BrokerError> {
        self.promote(now);
        let mut keys = HashSet::new();
        for job in &jobs {
            if let Some(key) = &job.unique_key
                && (self.keys.contains_key(key) || !keys.insert(Arc::clone(key)))
            {
                continue; // a duplicate: its id will not be used
            }
            if let Some(&handle) = self.ids.get(&job.id) {
                if !self.jobs[&handle].has_expired(now) {
                    return Err(BrokerError::IdTaken(job.id.clone()));
                }
                self.remove(handle);
            }
        }
        Ok(jobs
            .into_iter()
            .map(|job| self.enqueue_one(job, Ties::default(), now))
            .collect())
    }

    pub(super) fn enqueue_one(&mut self, new: NewJob, ties: Ties, now: Unix) -> Enqueued {
        if let Some(holder) = new.unique_key.as_ref().and_then(|key| self.keys.get(key)) {
            return Enqueued::Duplicate(self.jobs[holder].new.id.clone());
        }
        let id = new.id.clone();
        let (due, at_front) = (new.due, new.at_front);
        let place = |handle: i64| match due {
            Some(due) if due > now => Place::Scheduled(due),
            _ => Place::Waiting(Slot {
                position: if at_front { -handle } else { handle },
                since: now,
            }),
        };
        self.add(new, place, ties, now);
        Enqueued::New(id)
    }

    /// Adds a job in a place that its handle may have a part in; returns the handle.
    pub(super) fn add(
        &mut self,
        mut new: NewJob,
        place: impl Fn(i64) -> Place,
        ties: Ties,
        now: Unix,
    ) -> i64 {
        let handle = self.next();
        let place = place(handle);
        self.ids.insert(new.id.clone(), handle);
        if let Some(key) = &new.unique_key {
            self.keys.insert(Arc::clone(key), handle);
        }
        self.begin_by
            .extend(new.begin_by.map(|begin_by| (begin_by, handle)));
        let job = Job {
            payload: std::mem::take(&mut new.payload).into(),
            new,
            enqueued: now,
            epoch: 0,
            failures: 0,
            losses: 0,
            error: None,
            attempts: VecDeque::new(),
            place: place.clone(),
            ties,
        };
        self.jobs.insert(handle, job);
        self.put(handle, place);
        handle
    }

    pub(super) fn backlog(&mut self, queues: &[QueueName], now: Unix) -> Backlog {
        self.promote(now);
        let mut backlog = Backlog::default();
        for (name, queue) in queues.iter().filter_map(|name| self.queues.get_key_value(name)) {
            backlog.by_queue.push((name.clone(), queue.waiting.len() as u64));
            backlog.scheduled += queue.scheduled;
            let oldest = queue
                .waiting
                .values()
                .filter_map(|handle| self.jobs[handle].since())
                .min();
            backlog.oldest = [backlog.oldest, oldest].into_iter().flatten().min();
        }
        backlog
    }

    /// Whether a claim would find something now.
    pub(super) fn is_ready(
        &mut self,
        session: u64,
        queues: &[QueueName],
        result_ttl: Duration,
        now: Unix,
    ) -> bool {
        self.promote(now);
        self.recover(session, result_ttl, now);
        self.expire(result_ttl, now);
        let mut queues = queues.iter().filter_map(|name| self.queues.get(name));
        queues.any(|queue| !queue.waiting.is_empty())
    }

    /// When time alone changes something: a job is due, one expires, or another's lease ends.
    pub(super) fn next_change(&self, session: u64) -> Option<Unix> {
        let due = self.scheduled.first().map(|&(due, _)| due);
        let expiry = self.begin_by.first().map(|&(begin_by, _)| begin_by);
        let others = self.leases.iter().filter(|&(&holder, _)| holder != session);
        let others = others.map(|(_, &ends)| ends);
        due.into_iter().chain(expiry).chain(others).min()
    }

    /// Moves scheduled jobs that are due into their queues.
    pub(super) fn promote(&mut self, now: Unix) {
        while let Some(&(due, handle)) = self.scheduled.first()
            && due <= now
        {
            self.scheduled.pop_first();
            let sequence = self.next();
            let job = &self.jobs[&handle];
            let position = if job.new.at_front { -sequence } else { sequence };
            if let Some(queue) = self.queues.get_mut(&job.new.queue) {
                queue.scheduled -= 1;
            }
            self.put(handle, Place::Waiting(Slot { position, since: due }));
        }
    }

    /// Puts a job that stands nowhere at the moment into a place.
    pub(super) fn put(&mut self, handle: i64, place: Place) {
        let Some(job) = self.jobs.get_mut(&handle) else {
            return;
        };
        let queue = self.queues.entry(job.new.queue.clone()).or_default();
        match &place {
            Place::Waiting(slot) => {
                queue.waiting.insert(slot.position, handle);
            }
            Place::Scheduled(due) => {
                queue.scheduled += 1;
                self.scheduled.insert((*due, handle));
            }
            Place::Finished { expires, .. } => {
                self.expiring.insert((*expires, handle));
            }
            Place::Deferred | Place::Blocked(_) | Place::Running { .. } | Place::Dead { .. } => {}
        }
        if let Some(limit) = &job.new.limit {
            job.leaves(&mut self.limits, limit);
            if let Place::Blocked(slot) = &place {
                self.limits.block(limit, &job.new.queue, slot.position, handle);
            }
        }
        job.place = place;
    }

    /// Deletes the job with this id; the caller knows that it has expired, if there is one.
    pub(super) fn remove_expired(&mut self, id: &JobId) {
        if let Some(&handle) = self.ids.get(id) {
            self.remove(handle);
        }
    }

    pub(super) fn remove(&mut self, handle: i64) {
        if let Some(job) = self.jobs.remove(&handle) {
            self.ids.remove(&job.new.id);
            if let Some(limit) = &job.new.limit {
                job.leaves(&mut self.limits, limit);
            }
            if let Place::Finished { expires, .. } = job.place {
                self.expiring.remove(&(expires, handle));
            }
        }
    }

    pub(super) fn release_key(&mut self, handle: i64) {
        if let Some(key) = self.jobs.get(&handle).and_then(|job| job.new.unique_key.as_ref()) {
            self.keys.remove(key);
        }
    }

    pub(super) fn next(&mut self) -> i64 {
        self.sequence += 1;
        self.sequence
    }
}

impl Job {
    /// Keeps a run that did not succeed.
    pub(super) fn note(&mut self, attempt: Attempt) {
        if self.attempts.len() >= Attempt::KEPT_MAX {
            self.attempts.pop_front();
        }
        self.attempts.push_back(attempt);
    }

    fn since(&self) -> Option<Unix> {
        match self.place {
            Place::Waiting(slot) => Some(slot.since),
            _ => None,
        }
    }

    /// Tells its limit that it leaves its place.
    fn leaves(&self, limits: &mut Limits, limit: &Limit) {
        match self.place {
            Place::Running { .. } => limits.end(limit),
            Place::Blocked(slot) => limits.unblock(limit, &self.new.queue, slot.position),
            _ => {}
        }
    }

    pub(super) fn has_expired(&self, now: Unix) -> bool {
        matches!(self.place, Place::Finished { expires, .. } if expires <= now)
    }
}

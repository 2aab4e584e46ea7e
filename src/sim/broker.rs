//! The pretended broker: where each job is, who may settle it, how often it began.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use fastrand::Rng;

use super::numbered::Numbered;
use crate::broker::Backlog;
use crate::broker::parts::turns::Turns;
use crate::job::{Delivery, Job, JobId, Loss, QueueName, Settlement, Token, Verdict, Work};
use crate::time::Unix;

/// Where a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In its queue.
    Waiting,
    /// Due later.
    Scheduled(Unix),
    /// Waits for the members of its group to end.
    Deferred,
    /// Under the lease of the one supervisor.
    Running,
    /// Ended well.
    Finished,
    /// Ended badly.
    Dead,
}

/// What is known of a job.
#[derive(Debug)]
pub struct Record {
    /// Its id.
    pub id: JobId,
    /// Its queue.
    pub queue: QueueName,
    /// What it calls.
    pub task: Arc<str>,
    /// Where it is.
    pub place: Place,
    /// When it was enqueued.
    pub enqueued: Unix,
    /// Runs that failed.
    pub failures: u32,
    /// Runs whose worker died.
    pub losses: u32,
    /// How often it began.
    pub begins: u32,
    payload: Arc<[u8]>,
    /// The job that runs when all members of this one's group have ended.
    then: Option<usize>,
    /// Members of its group that have not ended.
    awaited: u32,
    /// Its last delivery.
    delivery: Option<Token>,
    /// The delivery by which it began last.
    began: Option<Token>,
}

/// All jobs that there ever were, but for those that were forgotten.
///
/// It asserts what a supervisor owes its broker: a delivery is settled once and begins once, and no job that has not begun counts
/// as failed.
#[derive(Debug)]
pub struct Ledger {
    /// Somebody wants to know when every other delivery begins.
    tells_begin: bool,
    jobs: Numbered<Record>,
    /// Jobs that have ended.
    ended: u64,
    queues: BTreeMap<QueueName, VecDeque<usize>>,
    /// Jobs that are due later.
    scheduled: BTreeSet<(Unix, usize)>,
    /// The job of each delivery, the first of which has token 1.
    deliveries: Numbered<usize>,
}

impl Ledger {
    pub(super) fn new(tells_begin: bool) -> Self {
        Ledger {
            tells_begin,
            jobs: Numbered::default(),
            ended: 0,
            queues: BTreeMap::new(),
            scheduled: BTreeSet::new(),
            deliveries: Numbered::default(),
        }
    }

    /// All jobs, in the order of their coming.
    pub fn jobs(&self) -> impl ExactSizeIterator<Item = &Record> {
        self.jobs.iter()
    }

    /// Jobs that have ended, forgotten ones included.
    pub fn ended(&self) -> u64 {
        self.ended
    }

    /// Forgets the oldest jobs, up to the first that has not ended: what a long run needs not to fill the memory.
    pub(super) fn forget_ended(&mut self) {
        self.jobs
            .forget_while(|job| matches!(job.place, Place::Finished | Place::Dead));
        let first = self.jobs.first();
        self.deliveries.forget_while(|job| *job < first);
    }

    /// Jobs that are there.
    pub fn count(&self, place: Place) -> usize {
        self.jobs.iter().filter(|job| job.place == place).count()
    }

    /// Jobs that have not ended.
    pub fn open(&self) -> impl Iterator<Item = &Record> {
        let open = |job: &&Record| !matches!(job.place, Place::Finished | Place::Dead);
        self.jobs.iter().filter(open)
    }

    /// What waits in these queues. The oldest is the oldest of their heads, and of the jobs that are due since.
    pub fn backlog(&self, queues: &[QueueName], now: Unix) -> Backlog {
        let queued = |queue: &QueueName| self.queues.get(queue);
        let heads = queues.iter().filter_map(queued).filter_map(VecDeque::front);
        let scheduled = self.scheduled.iter();
        let scheduled = scheduled.filter(|(_, job)| queues.contains(&self.jobs[*job].queue));
        let (due, later): (Vec<_>, Vec<_>) = scheduled.partition(|(due, _)| *due <= now);
        let count = |queue: &QueueName| {
            let due = due.iter().filter(|(_, job)| self.jobs[*job].queue == *queue);
            (queued(queue).map_or(0, VecDeque::len) + due.count()) as u64
        };
        let oldest = heads.chain(due.iter().map(|(_, job)| job));
        Backlog {
            by_queue: queues.iter().map(|queue| (queue.clone(), count(queue))).collect(),
            scheduled: later.len() as u64,
            oldest: oldest.map(|job| self.jobs[*job].enqueued).min(),
        }
    }

    pub(super) fn enqueue(&mut self, queue: QueueName, task: Arc<str>, payload: Arc<[u8]>, now: Unix) {
        let index = self.add(queue, task, payload, now);
        self.put_back(index, false);
    }

    /// These jobs, and a last one that runs when all of them have ended, well or not.
    pub(super) fn enqueue_group(
        &mut self,
        queue: &QueueName,
        jobs: Vec<(Arc<str>, Arc<[u8]>)>,
        last: Arc<str>,
        now: Unix,
    ) {
        let then = self.add(queue.clone(), last, [].into(), now);
        self.jobs[then].awaited = u32::try_from(jobs.len()).unwrap_or(u32::MAX);
        if jobs.is_empty() {
            return self.put_back(then, false);
        }
        self.jobs[then].place = Place::Deferred;
        for (task, payload) in jobs {
            let index = self.add(queue.clone(), task, payload, now);
            self.jobs[index].then = Some(then);
            self.put_back(index, false);
        }
    }

    fn add(&mut self, queue: QueueName, task: Arc<str>, payload: Arc<[u8]>, now: Unix) -> usize {
        let index = self.jobs.next();
        self.jobs.push(Record {
            id: JobId::new(&format!("job-{index}")).expect("a valid name"),
            queue,
            task,
            place: Place::Waiting,
            enqueued: now,
            failures: 0,
            losses: 0,
            begins: 0,
            payload,
            then: None,
            awaited: 0,
            delivery: None,
            began: None,
        });
        index
    }

    /// Takes jobs that can run now.
    pub(super) fn claim(
        &mut self,
        queues: &[QueueName],
        turns: Turns,
        limit: usize,
        now: Unix,
        rng: &mut Rng,
    ) -> Vec<Delivery> {
        self.wake(now);
        let has = |queue| self.queues.get(queue).map_or(0, VecDeque::len);
        let has: Vec<usize> = queues.iter().map(has).collect();
        let mut claimed = Vec::new();
        for at in turns.share(&has, limit, rng) {
            let queue = self.queues.get_mut(&queues[at]);
            if let Some(index) = queue.and_then(VecDeque::pop_front) {
                claimed.push(self.hand_out(index));
            }
        }
        claimed
    }

    /// Scheduled jobs whose time has come wait from now on.
    fn wake(&mut self, now: Unix) {
        while let Some((due, index)) = self.scheduled.first().copied()
            && due <= now
        {
            self.scheduled.pop_first();
            self.put_back(index, false);
        }
    }

    fn hand_out(&mut self, index: usize) -> Delivery {
        let token = Token(self.deliveries.push(index) as u64 + 1);
        let job = &mut self.jobs[index];
        assert_eq!(job.place, Place::Waiting, "{} stands in a queue", job.id);
        job.place = Place::Running;
        job.delivery = Some(token);
        let job = Job {
            id: job.id.clone(),
            queue: job.queue.clone(),
            task: job.task.clone(),
            payload: job.payload.clone(),
            timeout: None,
            retries: None,
            retry_after: None,
            loss: Loss::RunsAgain,
            work: Work::Job,
            kind: 0,
            batches: true,
            failures: job.failures,
            losses: job.losses,
            ready: job.enqueued,
        };
        Delivery {
            token,
            tells_begin: self.tells_begin && token.0.is_multiple_of(2),
            job,
        }
    }

    fn index_of(&self, token: Token) -> usize {
        let at = usize::try_from(token.0)
            .ok()
            .and_then(|number| number.checked_sub(1));
        let index = at.and_then(|at| self.deliveries.get(at));
        *index.expect("the delivery is one of ours")
    }

    /// The job of a delivery that must be held.
    fn held(&mut self, token: Token, what: &str) -> &mut Record {
        let index = self.index_of(token);
        let job = &mut self.jobs[index];
        let held = job.place == Place::Running && job.delivery == Some(token);
        assert!(held, "delivery {token} {what}, but the job is {job:?}");
        job
    }

    /// Carries out a verdict. A delivery that is not held is the fleet's mistake: it settled twice.
    pub(super) fn settle(&mut self, settlement: Settlement) {
        let Settlement { of, verdict, .. } = settlement;
        let index = self.index_of(of);
        let job = self.held(of, "is settled");
        let blamed = match verdict {
            Verdict::Bury { losses, failures, .. } | Verdict::Again { losses, failures, .. } => {
                losses > job.losses || failures > job.failures
            }
            Verdict::Stopped => true,
            Verdict::Finish { .. } | Verdict::GiveBack | Verdict::Canceled | Verdict::Forget => false,
        };
        assert!(
            !blamed || job.began == Some(of),
            "delivery {of} counts as lost or failed and never began"
        );
        match verdict {
            Verdict::Finish { .. } | Verdict::Forget => job.place = Place::Finished,
            Verdict::Bury { losses, failures, .. } => {
                job.place = Place::Dead;
                (job.losses, job.failures) = (losses, failures);
            }
            Verdict::Stopped | Verdict::Canceled => job.place = Place::Dead,
            Verdict::GiveBack => self.put_back(index, true),
            Verdict::Again {
                due,
                at_front,
                failures,
                losses,
                ..
            } => {
                (job.losses, job.failures) = (losses, failures);
                match due {
                    Some(due) => {
                        job.place = Place::Scheduled(due);
                        self.scheduled.insert((due, index));
                    }
                    None => self.put_back(index, at_front),
                }
            }
        }
        if matches!(self.jobs[index].place, Place::Finished | Place::Dead) {
            self.ended += 1;
            self.member_ended(index);
        }
    }

    /// A member of a group has ended.
    fn member_ended(&mut self, index: usize) {
        let Some(then) = self.jobs[index].then else { return };
        let last = &mut self.jobs[then];
        assert!(last.awaited > 0, "{} waits for nobody any more", last.id);
        last.awaited -= 1;
        if last.awaited == 0 {
            self.put_back(then, false);
        }
    }

    fn put_back(&mut self, index: usize, at_front: bool) {
        let job = &mut self.jobs[index];
        job.place = Place::Waiting;
        let queue = self.queues.entry(job.queue.clone()).or_default();
        if at_front {
            queue.push_front(index);
        } else {
            queue.push_back(index);
        }
    }

    /// What was held by the supervisor waits again.
    pub(super) fn lease_ends(&mut self) {
        for index in self.jobs.first()..self.jobs.next() {
            if self.jobs[index].place == Place::Running {
                self.put_back(index, true);
            }
        }
    }

    /// A worker begins a job: at most once a delivery, and only while it is held. A job of a batch that failed as a whole begins
    /// again, with one half of it.
    pub(super) fn begins(&mut self, token: Token, of_a_batch: bool) {
        let job = self.held(token, "begins");
        assert_eq!(job.awaited, 0, "{} begins before its group has ended", job.id);
        let again = of_a_batch && job.began == Some(token);
        assert!(
            again || job.began < Some(token),
            "delivery {token} begins a second time"
        );
        job.began = Some(token);
        job.begins += 1;
    }

    /// The supervisor says that a delivery has begun: it has.
    pub(super) fn began(&self, token: Token) {
        let job = &self.jobs[self.index_of(token)];
        assert!(
            job.began >= Some(token),
            "delivery {token} is said to have begun: {job:?}"
        );
    }
}

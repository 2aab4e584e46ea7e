//! The pretended broker: where each job is, who may settle it, how often it began.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use pool::broker::Backlog;
use pool::job::{Delivery, Job, JobId, Loss, QueueName, Settlement, Token, Verdict, Work};
use pool::time::Unix;

/// Where a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Waiting,
    Scheduled(Unix),
    /// Waits for the members of its group to end.
    Deferred,
    /// Under the lease of the one supervisor.
    Running,
    Finished,
    Dead,
}

/// Whether the simulated app takes jobs of this task in batches.
fn batch_task(task: &str) -> bool {
    matches!(task, "row" | "mixed")
}

#[derive(Debug)]
pub struct Record {
    pub id: JobId,
    pub queue: QueueName,
    pub task: Arc<str>,
    pub place: Place,
    /// The job that runs when all members of this one's group have ended.
    then: Option<usize>,
    /// Members of its group that have not ended.
    awaited: u32,
    payload: Arc<[u8]>,
    enqueued: Unix,
    pub failures: u32,
    pub losses: u32,
    /// Its last delivery; 0: none.
    delivery: u64,
    /// The delivery by which it began last.
    began: u64,
    /// How often it began.
    pub begins: u32,
}

#[derive(Debug)]
pub struct Ledger {
    pub jobs: Vec<Record>,
    queues: BTreeMap<QueueName, VecDeque<usize>>,
    /// The job of each delivery.
    deliveries: HashMap<Token, usize>,
    small: Arc<[u8]>,
    /// More than fits into one packet.
    large: Arc<[u8]>,
}

impl Ledger {
    pub fn new() -> Self {
        Ledger {
            jobs: Vec::new(),
            queues: BTreeMap::new(),
            deliveries: HashMap::new(),
            small: [].into(),
            large: vec![0; 70_000].into(),
        }
    }

    pub fn enqueue(&mut self, queue: QueueName, task: &str, now: Unix) {
        let index = self.add(queue.clone(), task, now);
        self.queues.entry(queue).or_default().push_back(index);
    }

    /// Jobs of these tasks, and one more that runs when all of them have ended, well or not.
    pub fn enqueue_group(&mut self, queue: &QueueName, tasks: &[&str], now: Unix) {
        let then = self.add(queue.clone(), "noop", now);
        let awaited = u32::try_from(tasks.len()).expect("a group is small");
        (self.jobs[then].place, self.jobs[then].awaited) = (Place::Deferred, awaited);
        for task in tasks {
            self.enqueue(queue.clone(), task, now);
            self.jobs.last_mut().expect("it was added").then = Some(then);
        }
    }

    fn add(&mut self, queue: QueueName, task: &str, now: Unix) -> usize {
        let index = self.jobs.len();
        let large = task == "large";
        self.jobs.push(Record {
            id: JobId::new(&format!("job-{index}")).expect("a valid name"),
            queue,
            task: task.into(),
            place: Place::Waiting,
            then: None,
            awaited: 0,
            payload: if large {
                self.large.clone()
            } else {
                self.small.clone()
            },
            enqueued: now,
            failures: 0,
            losses: 0,
            delivery: 0,
            began: 0,
            begins: 0,
        });
        index
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

    /// Scheduled jobs whose time has come wait from now on.
    fn wake(&mut self, now: Unix) {
        for (index, job) in self.jobs.iter_mut().enumerate() {
            if matches!(job.place, Place::Scheduled(due) if due <= now) {
                job.place = Place::Waiting;
                self.queues.entry(job.queue.clone()).or_default().push_back(index);
            }
        }
    }

    pub fn claim(&mut self, queues: &[QueueName], limit: usize, now: Unix) -> Vec<Delivery> {
        self.wake(now);
        let mut claimed = Vec::new();
        for queue in queues {
            while claimed.len() < limit
                && let Some(index) = self.queues.get_mut(queue).and_then(VecDeque::pop_front)
            {
                claimed.push(self.hand_out(index));
            }
        }
        claimed
    }

    fn hand_out(&mut self, index: usize) -> Delivery {
        let token = Token(self.deliveries.len() as u64 + 1);
        self.deliveries.insert(token, index);
        let job = &mut self.jobs[index];
        assert_eq!(job.place, Place::Waiting, "{} stands in a queue", job.id);
        job.place = Place::Running;
        job.delivery = token.0;
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
        Delivery { token, job }
    }

    /// Carries out a verdict. A delivery that is not held is the fleet's mistake: it settled twice.
    pub fn settle(&mut self, settlement: Settlement) {
        let Settlement { of, verdict, .. } = settlement;
        let index = self.deliveries[&of];
        let job = &mut self.jobs[index];
        let held = job.place == Place::Running && job.delivery == of.0;
        assert!(held, "{of:?} was settled, but the job is {job:?}");
        let blamed = match verdict {
            Verdict::Bury { losses, failures, .. } | Verdict::Again { losses, failures, .. } => {
                losses > job.losses || failures > job.failures
            }
            Verdict::Stopped => true,
            Verdict::Finish { .. } | Verdict::GiveBack | Verdict::Canceled | Verdict::Forget => false,
        };
        assert!(
            !blamed || job.began == of.0,
            "{of:?} counts as lost or failed and never began"
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
                    Some(due) => job.place = Place::Scheduled(due),
                    None => self.put_back(index, at_front),
                }
            }
        }
        if matches!(self.jobs[index].place, Place::Finished | Place::Dead) {
            self.member_ended(index);
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

    /// The supervisor is dead: what it held waits again.
    pub fn lease_ends(&mut self) {
        for index in 0..self.jobs.len() {
            if self.jobs[index].place == Place::Running {
                self.put_back(index, true);
            }
        }
    }

    /// A worker begins a job: at most once a delivery, and only while that holds. A job of a batch that failed as a
    /// whole begins again under its delivery, with one half of it.
    pub fn begins(&mut self, token: Token) {
        let job = &mut self.jobs[self.deliveries[&token]];
        let held = job.place == Place::Running && job.delivery == token.0;
        assert!(held, "{token:?} begins, but the job is {job:?}");
        assert_eq!(job.awaited, 0, "{token:?} begins before its group has ended");
        let again = batch_task(&job.task) && job.began == token.0;
        assert!(again || job.began < token.0, "{token:?} begins a second time");
        job.began = token.0;
        job.begins += 1;
    }

    pub fn backlog(&self, queues: &[QueueName], now: Unix) -> Backlog {
        let of_pool = || self.jobs.iter().filter(|job| queues.contains(&job.queue));
        let ready = |job: &&Record| match job.place {
            Place::Waiting => true,
            Place::Scheduled(due) => due <= now,
            Place::Deferred | Place::Running | Place::Finished | Place::Dead => false,
        };
        let waiting = of_pool().filter(ready);
        let scheduled = of_pool().filter(|job| matches!(job.place, Place::Scheduled(due) if due > now));
        Backlog {
            waiting: waiting.clone().count() as u64,
            scheduled: scheduled.count() as u64,
            oldest: waiting.map(|job| job.enqueued).min(),
        }
    }

    pub fn count(&self, place: Place) -> usize {
        self.jobs.iter().filter(|job| job.place == place).count()
    }

    /// Jobs that have not ended.
    pub fn open(&self) -> impl Iterator<Item = &Record> {
        let open = |job: &&Record| !matches!(job.place, Place::Finished | Place::Dead);
        self.jobs.iter().filter(open)
    }
}

//! What a supervisor is to Celery, whichever transport brings its messages: what it knows of tasks, what it holds, the
//! chores that wait, the node that others ask.
//!
//! A transport reads messages, and hands over what became of them in the server's own words. All between is here and in
//! [`super::ending`].

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use serde_json::json;
use tokio::sync::Notify;

use super::abilities::no_results;
use super::answers::Answers;
use super::clock::Clock;
use super::envelope::{Message, with_member};
use super::events::{Events, task};
use super::held::{Came, Chore, Hand, Held, InHand, KIND_CHORE, KIND_TASK, KIND_WHOLE, Why};
use super::options::{Application, RESULTS, Task, limit};
use super::remote::{Node, TaskOption};
use super::results::{NoWatch, ResultStore};
use crate::broker::parts::after_work::AfterWorks;
use crate::broker::source::StopHow;
use crate::broker::{Broker, BrokerError, Watch, check};
use crate::job::{Claim, Claimed, Job, JobId, JobState, JobView, Loss, NAME_LEN_MAX, QueueName, Work};
use crate::text;
use crate::time::{Mono, Unix};

/// Further tries of a chore that failed.
const CHORE_RETRIES: u32 = 5;
/// Longest run of a chore.
const CHORE_TIMEOUT: Duration = Duration::from_secs(600);
/// What a task is called that names none.
const UNNAMED: &str = "celery";

/// One consumer of the application's queues.
#[derive(Debug)]
pub(super) struct Consumer {
    pub app: Application,
    /// What the application says of its tasks, by name: a reload may change it.
    tasks: RwLock<Arc<HashMap<String, Task>>>,
    hand: Mutex<Hand>,
    pub chores: AfterWorks<Chore>,
    /// Who waits for what a chore answers.
    pub answers: Answers,
    pub node: Node,
    /// What monitors are told.
    pub events: Events,
    /// A message that we hold turned out to be somebody else's, or was revoked.
    pub lost: Notify,
    /// Some that wait may begin sooner.
    pub limits_changed: Notify,
    /// Queues that are served no more: what waits of them still runs.
    left: Mutex<Vec<QueueName>>,
    pub results: Option<ResultStore>,
    /// Results could not be stored on a server of their own.
    pub is_store_away: AtomicBool,
    closed: Arc<AtomicBool>,
}

impl Consumer {
    /// For this application. Connects to nothing yet.
    ///
    /// # Errors
    /// [`BrokerError::Refused`] when a certificate of the result backend can't be read.
    pub fn new(mut app: Application) -> Result<Self, BrokerError> {
        let closed = Arc::<AtomicBool>::default();
        let results = app.results.as_ref();
        let results = results
            .map(|results| ResultStore::new(results, &closed))
            .transpose()?;
        let clock = Arc::<Clock>::default();
        Ok(Consumer {
            events: Events::new(&app.node.name, Arc::clone(&clock), app.events.clone()),
            node: Node::new(&app.node.name, clock, std::mem::take(&mut app.about)),
            tasks: RwLock::new(Arc::new(std::mem::take(&mut app.tasks))),
            app,
            hand: Mutex::default(),
            chores: AfterWorks::default(),
            answers: Answers::default(),
            lost: Notify::new(),
            limits_changed: Notify::new(),
            left: Mutex::default(),
            results,
            is_store_away: AtomicBool::new(false),
            closed,
        })
    }

    /// An error once this handle is closed. `url`: of its server.
    pub fn open_still(&self, url: &str) -> Result<(), BrokerError> {
        match self.closed.load(Ordering::Relaxed) {
            true => Err(check::closed(url)),
            false => Ok(()),
        }
    }

    pub fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }

    pub fn hand(&self) -> MutexGuard<'_, Hand> {
        self.hand.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the application says of its tasks now.
    fn tasks(&self) -> Arc<HashMap<String, Task>> {
        Arc::clone(&self.tasks.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The queues that a pool serves which names none itself.
    pub fn app_queues(&self) -> Vec<QueueName> {
        let consumed = self.app.queues.iter();
        consumed
            .filter_map(|queue| QueueName::new(&queue.name).ok())
            .collect()
    }

    /// The queue into which a producer puts a task who names none.
    pub fn queue_of(&self, task: &str) -> Option<QueueName> {
        let of_task = self.tasks().get(task).and_then(|task| task.queue.clone());
        of_task.or_else(|| self.app.default_queue.clone())
    }

    /// The application was loaded anew. Returns what only a restart puts in force.
    pub fn reloaded(&self, facts: &str) -> Result<Vec<String>, BrokerError> {
        let mut app = Application::read(facts)?;
        let tasks = std::mem::take(&mut app.tasks);
        self.node.tells(std::mem::take(&mut app.about));
        let changed = self.app.changed(&app);
        // With other results, the tasks of which we store them may be others, too.
        if !changed.contains(&RESULTS) {
            *self.tasks.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(tasks);
        }
        Ok(changed.into_iter().map(str::to_owned).collect())
    }

    /// A message that was taken: a job, in hand from now on; or none, if it has to wait or came too late.
    pub fn admit(&self, number: i64, queue: &QueueName, message: Message, came: Came) -> Option<Claimed> {
        let now = Unix::now();
        let mut hand = self.hand();
        let is_expired = message.expires.is_some_and(|expires| expires <= now);
        let is_revoked = message.id.as_deref().is_some_and(|id| self.node.is_revoked(id))
            || self.node.is_stamp_revoked(&message.payload);
        let ends = match (is_expired, is_revoked) {
            (true, _) => Some(Why::Expired),
            (false, true) => Some(Why::Revoked),
            (false, false) => None,
        };
        if ends.is_none() && came == Came::New {
            self.tell_received(&message);
        }
        if let Some(eta) = message
            .eta
            .filter(|eta| *eta > now && ends.is_none() && came == Came::New)
        {
            hand.etas.add(queue, eta, number);
            return None;
        }
        if ends.is_none()
            && !matches!(came, Came::Released(_))
            && self.is_over_rate(&mut hand, number, queue, &message)
        {
            return None;
        }
        let ready = match came {
            Came::Due(eta) => eta,
            Came::New | Came::Released(_) => now,
        };
        let (held, claimed) = self.job(number, queue, message, ready);
        if let Some(why) = ends {
            let chore = Chore::new(number, &held, why);
            let held = Held {
                has_chore: true,
                ..held
            };
            hand.all.insert(number, InHand::Message(held));
            self.chores.add_own(chore);
            return None;
        }
        hand.all.insert(number, InHand::Message(held));
        Some(claimed)
    }

    /// Ends by a chore what was revoked, or came too late, while it waited for room. Returns whether it does.
    pub fn ends_unbegun(&self, number: i64, expires: Option<Unix>) -> bool {
        let is_expired = expires.is_some_and(|expires| expires <= Unix::now());
        let mut hand = self.hand();
        let held = hand.message_mut(number);
        let Some(held) = held.filter(|held| is_expired || held.is_revoked) else {
            return false;
        };
        let why = if is_expired { Why::Expired } else { Why::Revoked };
        let chore = Chore::new(number, held, why);
        held.has_chore = true;
        drop(hand);
        self.chores.add_own(chore);
        true
    }

    /// Whether too many of this task began; this message waits then.
    fn is_over_rate(&self, hand: &mut Hand, number: i64, queue: &QueueName, message: &Message) -> bool {
        let tasks = self.tasks();
        let Some((name, rate)) = message
            .task
            .as_ref()
            .and_then(|name| Some((name, tasks.get(name)?.rate?)))
        else {
            return false;
        };
        let (name, now): (Arc<str>, _) = (name.as_str().into(), Mono::now());
        if hand.limits.admits(&name, rate, number, queue, now) {
            return false;
        }
        let wait = i64::try_from(hand.limits.wait_of(&name, now).as_millis()).unwrap_or(i64::MAX);
        hand.etas.score(Unix(Unix::now().0.saturating_add(wait)), number);
        true
    }

    /// Somebody changed an option of a task of this node, until the next reload.
    pub fn change_task(&self, name: &str, what: &TaskOption) {
        let mut tasks = self.tasks.write().unwrap_or_else(PoisonError::into_inner);
        let Some(task) = Arc::make_mut(&mut tasks).get_mut(name) else {
            return;
        };
        match what {
            TaskOption::Rate(rate) => {
                task.rate = *rate;
                self.hand().limits.set_rate(name, *rate, Mono::now());
            }
            TaskOption::Time { hard, soft } => {
                task.changed_limits = Some([*hard, *soft]);
                task.time_limit = hard.or(self.node.about().time_limit()).and_then(limit);
            }
        }
    }

    /// A queue is served from now on, or no more.
    pub fn serves(&self, queue: &QueueName, is_served: bool) {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        left.retain(|name| name != queue);
        if !is_served {
            left.push(queue.clone());
        }
    }

    /// These queues, and those that nobody serves any more of which something may wait.
    pub fn with_left(&self, queues: &[QueueName]) -> Vec<QueueName> {
        let left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        queues.iter().chain(&*left).cloned().collect()
    }

    /// Whether the application has a task of this name.
    pub fn has_task(&self, name: &str) -> bool {
        self.tasks().contains_key(name)
    }

    /// Monitors are told that a message has come, if they want to know it.
    fn tell_received(&self, message: &Message) {
        if !self.events.tells_tasks() {
            return;
        }
        let tasks = self.tasks();
        let of = message.task.as_ref().and_then(|task| tasks.get(task));
        if of.is_some_and(|task| task.sends_events) {
            let id = message.id.as_deref().unwrap_or_default();
            self.events.add(vec![task::received(id, &message.payload)]);
        }
    }

    /// These have begun, and monitors are told so if they want to know it. Those that are over soon are told of together
    /// with their end.
    pub fn have_begun(&self, claims: &[Claim]) {
        if !self.events.tells_tasks() {
            return;
        }
        let (mut hand, mut events) = (self.hand(), Vec::new());
        for claim in claims {
            let held = hand.message_mut(claim.handle);
            if let Some(held) = held.filter(|held| held.sends_events && !held.is_told_begun) {
                held.is_told_begun = true;
                events.push(task::started(held.job.as_str(), Unix::now()));
            }
        }
        drop(hand);
        self.events.add(events);
    }

    fn job(&self, number: i64, queue: &QueueName, message: Message, ready: Unix) -> (Held, Claimed) {
        let tasks = self.tasks();
        let known = message.task.as_ref().and_then(|task| tasks.get(task));
        // Of a task that nobody knows, the worker says so; it is acknowledged then.
        let unknown = Task {
            acks_late: true,
            ..Task::default()
        };
        let of = known.unwrap_or(&unknown);
        let id = message.id.as_deref().and_then(|id| JobId::new(id).ok());
        let id = id.unwrap_or_else(JobId::generate);
        let task: Arc<str> = match &message.task {
            Some(task) => text::head(&text::escaped(task), NAME_LEN_MAX).into(),
            None => UNNAMED.into(),
        };
        let timeout = message.time_limit.and_then(limit).or(of.time_limit);
        let payload = match &of.changed_limits {
            Some(limits) => with_member(&message.payload, "limits", &json!(limits)),
            None => message.payload,
        };
        let runs_again = of.acks_late && of.reject_on_worker_lost;
        let held = Held {
            job: id.clone(),
            queue: queue.clone(),
            task: Arc::clone(&task),
            payload: Arc::clone(&payload),
            acks_early: !of.acks_late,
            may_be_early: message.is_odd && message.eta.is_none(),
            timeout,
            is_acked: false,
            tried: false,
            is_lost: false,
            is_revoked: false,
            signal: None,
            losses: message.losses,
            has_chore: false,
            sends_events: of.sends_events,
            is_told_begun: false,
        };
        let job = Job {
            id: id.clone(),
            queue: queue.clone(),
            task,
            // What Celery's own code has to look at first is a batch of its own.
            batches: of.batches && !message.is_odd,
            kind: if of.captured && !message.is_odd {
                KIND_TASK
            } else {
                KIND_WHOLE
            },
            payload,
            timeout,
            retries: Some(0),
            retry_after: None,
            loss: if runs_again { Loss::RunsAgain } else { Loss::Fails },
            work: Work::Job,
            failures: 0,
            losses: message.losses,
            ready,
        };
        let claim = Claim {
            job: id,
            handle: number,
            epoch: 0,
        };
        (held, Claimed { claim, job })
    }

    /// Chores that wait for a worker.
    pub fn hand_out_chores(&self, limit: usize) -> Vec<Claimed> {
        let mut hand = self.hand();
        let mut jobs = Vec::new();
        for pending in self.chores.take(limit) {
            let number = hand.numbers(1);
            let task: Arc<str> = format!("celery:{}", pending.work.what).into();
            let Ok(id) = JobId::new(&format!("{task}:{}", pending.work.of)) else {
                continue;
            };
            let job = Job {
                id: id.clone(),
                queue: pending.work.queue.clone(),
                task,
                kind: KIND_CHORE,
                payload: Arc::clone(&pending.work.payload),
                timeout: Some(CHORE_TIMEOUT),
                retries: Some(if pending.work.is_once { 0 } else { CHORE_RETRIES }),
                retry_after: Some(Duration::ZERO),
                loss: if pending.work.is_once {
                    Loss::Fails
                } else {
                    Loss::RunsAgain
                },
                work: Work::After,
                batches: false,
                failures: pending.failures,
                losses: pending.losses,
                ready: Unix::now(),
            };
            hand.all.insert(number, InHand::Chore(pending));
            let claim = Claim {
                job: id,
                handle: number,
                epoch: 0,
            };
            jobs.push(Claimed { claim, job });
        }
        jobs
    }

    /// Returns when some of these are somebody else's, or were revoked, with the place of each.
    pub async fn hear_of_lost(&self, claims: &[Claim]) -> Vec<(usize, StopHow)> {
        loop {
            let news = self.lost.notified();
            tokio::pin!(news);
            news.as_mut().enable();
            let lost: Vec<_> = {
                let hand = self.hand();
                let is_lost = |claim: &Claim| {
                    hand.message(claim.handle)
                        .is_some_and(|held| held.is_lost || held.is_revoked)
                };
                let lost = claims.iter().enumerate().filter(|(_, claim)| is_lost(claim));
                lost.map(|(at, _)| (at, StopHow::IfNotBegun)).collect()
            };
            if !lost.is_empty() {
                return lost;
            }
            news.await;
        }
    }

    /// What is known of these: by their results, and by what is in hand. `broker`: whom the user asks.
    pub async fn find(
        &self,
        broker: &dyn Broker,
        ids: &[JobId],
    ) -> Result<Vec<Option<JobView>>, BrokerError> {
        let Some(results) = &self.results else {
            return Err(no_results(broker).into());
        };
        let mut views = results.find(ids).await?;
        let hand = self.hand();
        for view in views.iter_mut().filter(|view| view.state == JobState::Waiting) {
            if let Some((_, held)) = hand.unacked().find(|(_, held)| held.job == view.id) {
                view.state = JobState::Running;
                view.queue = Some(held.queue.clone());
                view.task = held.task.clone();
            }
        }
        Ok(views.into_iter().map(Some).collect())
    }

    /// Waits for the results of these.
    pub fn watch(&self, broker: &dyn Broker, ids: Vec<JobId>) -> Box<dyn Watch> {
        match &self.results {
            Some(results) => results.watch(ids),
            None => Box::new(NoWatch(no_results(broker).into())),
        }
    }
}

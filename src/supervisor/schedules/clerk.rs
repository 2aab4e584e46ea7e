//! Fires schedules: sleeps until the next due time, asks the broker to handle what is due, and says what became of it.
//!
//! Each supervisor asks, and the broker takes each due time from one of them. Nobody leads.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::sync::watch;

use super::super::wall_timer::WallTimer;
use super::{ByName, Schedule, Told, What};
use crate::broker::parts::backoff::Backoff;
use crate::broker::{Broker, BrokerError, Fired, Firing, Ruled, Schedules};
use crate::job::JobId;
use crate::policy::schedule::{Known, Plan, plan};
use crate::time::{Human, Mono, Unix};

/// Due times that the broker is asked to handle at once.
const FIRINGS_MAX: usize = 500;
/// How long to wait before a job is watched again whose watch failed.
const WATCH_AGAIN: Duration = Duration::from_secs(1);
/// A mark so far ahead of the clock is no small step of it.
const AHEAD: Duration = Duration::from_secs(60);

/// One schedule, as far as this supervisor knows it.
struct Entry {
    schedule: Schedule,
    known: Known,
    /// Its last job is watched: nothing is due before that has ended.
    watched: bool,
    /// When it fires next, as it was told.
    next: Option<Unix>,
}

/// Fires all schedules of a supervisor.
pub(super) struct Clerk {
    broker: Arc<dyn Broker>,
    all: watch::Receiver<ByName>,
    tell: Box<dyn Fn(Told) + Send + Sync>,
    entries: BTreeMap<Arc<str>, Entry>,
    /// The broker has been asked what it knows of them.
    is_met: bool,
    /// Names of schedules whose last job has ended.
    ended: FuturesUnordered<BoxFuture<'static, Arc<str>>>,
    backoff: Backoff,
}

impl Clerk {
    pub fn new(
        broker: Arc<dyn Broker>,
        all: watch::Receiver<ByName>,
        tell: Box<dyn Fn(Told) + Send + Sync>,
    ) -> Self {
        Clerk {
            broker,
            all,
            tell,
            entries: BTreeMap::new(),
            is_met: false,
            ended: FuturesUnordered::new(),
            backoff: Backoff::default(),
        }
    }

    /// Runs until it is aborted, or its supervisor is gone.
    pub async fn run(mut self) {
        let mut timer = match WallTimer::new() {
            Ok(timer) => timer,
            Err(error) => return tracing::error!(%error, "no schedule fires: there is no timer for them"),
        };
        loop {
            let wake = self.turn().await;
            tokio::select! {
                woken = timer.until(wake) => if let Err(error) = woken {
                    return tracing::error!(%error, "no schedule fires any more: their timer failed");
                },
                changed = self.all.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    self.is_met = false;
                }
                Some(name) = self.ended.next() => if let Some(entry) = self.entries.get_mut(&name) {
                    entry.watched = false;
                },
            }
        }
    }

    /// Fires what is due. Returns when to look again.
    async fn turn(&mut self) -> Option<Unix> {
        match self.fire_all().await {
            Ok(wake) => {
                if self.backoff.worked() {
                    tracing::info!("schedules fire again");
                }
                wake
            }
            Err(error) => {
                if !self.backoff.is_failing() {
                    tracing::warn!(%error, "schedules can't fire now; what is due is tried again");
                }
                let now = Mono::now();
                self.backoff.failed(now, fastrand::f64());
                let wait = self.backoff.next(now).map_or(Duration::ZERO, |at| at.since(now));
                Some(Unix::now() + wait)
            }
        }
    }

    async fn fire_all(&mut self) -> Result<Option<Unix>, BrokerError> {
        let broker = Arc::clone(&self.broker);
        if self.entries.is_empty() && self.all.borrow().is_empty() {
            return Ok(None);
        }
        let schedules = broker.schedules()?;
        if !self.is_met {
            self.meet(schedules).await?;
        }
        loop {
            let now = Unix::now();
            let plans = self.plans(now);
            let firings: Vec<Firing> = self.firings(&plans).take(FIRINGS_MAX).collect();
            if firings.is_empty() {
                for (name, plan) in &plans {
                    self.note_next(name, plan);
                }
                return Ok(plans.values().filter_map(|plan| plan.wake).min());
            }
            let answers = fire(schedules, &firings).await?;
            for (firing, fired) in firings.iter().zip(answers) {
                self.take(firing, fired, &plans);
            }
        }
    }

    /// Asks the broker what it knows of the schedules that the settings name now.
    async fn meet(&mut self, schedules: &dyn Schedules) -> Result<(), BrokerError> {
        let all = self.all.borrow_and_update().clone();
        let ruled: Vec<Ruled> = all.iter().map(ruled).collect();
        let views = schedules.meet(&ruled).await?;
        let now = Unix::now();
        let watched = |name: &Arc<str>| self.entries.get(name).is_some_and(|entry| entry.watched);
        let entries = all.into_iter().zip(views).map(|((name, schedule), view)| {
            if view.mark > now + AHEAD {
                tracing::warn!(
                    schedule = %name,
                    until = %view.mark,
                    "the clock was set back: the schedule waits until it has caught up (pause and resume it to begin now)"
                );
            }
            let entry = Entry {
                watched: watched(&name),
                schedule,
                known: Known {
                    mark: view.mark,
                    held: view.held,
                },
                next: None,
            };
            (name, entry)
        });
        self.entries = entries.collect();
        self.is_met = true;
        Ok(())
    }

    fn plans(&self, now: Unix) -> BTreeMap<Arc<str>, Plan> {
        let open = self.entries.iter().filter(|(_, entry)| !entry.watched);
        let plan = |(name, entry): (&Arc<str>, &Entry)| {
            (
                Arc::clone(name),
                plan(&entry.schedule.timing, name, entry.known, now),
            )
        };
        open.map(plan).collect()
    }

    /// What the broker is to handle: first what was missed, then what is fired.
    fn firings<'p>(&'p self, plans: &'p BTreeMap<Arc<str>, Plan>) -> impl Iterator<Item = Firing> + 'p {
        let now = Unix::now();
        plans.iter().flat_map(move |(name, plan)| {
            let entry = self.entries.get(name);
            let missed = plan.missed_until.map(|due| (due, None));
            let fire = plan
                .fire
                .iter()
                .map(move |due| (*due, entry.map(|entry| entry.schedule.make(now))));
            missed.into_iter().chain(fire).map(move |(due, job)| Firing {
                schedule: Arc::clone(name),
                due: Some(due),
                job,
                overlap: entry.map(|entry| entry.schedule.overlap).unwrap_or_default(),
            })
        })
    }

    /// Takes in what became of a due time.
    fn take(&mut self, firing: &Firing, fired: Fired, plans: &BTreeMap<Arc<str>, Plan>) {
        let (Some(due), Some(entry)) = (firing.due, self.entries.get_mut(&firing.schedule)) else {
            return;
        };
        let name = &firing.schedule;
        let missed = plans.get(name).map_or(0, |plan| plan.missed);
        if let Fired::Waits(job) = &fired {
            entry.known.held.get_or_insert(due);
            if !std::mem::replace(&mut entry.watched, true) {
                tracing::debug!(schedule = %name, %due, %job, "a due time waits for the job before it");
                let watch = ended(Arc::clone(&self.broker), Arc::clone(name), job.clone());
                self.ended.push(Box::pin(watch));
            }
            return;
        }
        entry.known = Known {
            mark: due.max(entry.known.mark),
            held: None,
        };
        let left_out = |reason, count| What::LeftOut { reason, count };
        let what = match fired {
            Fired::Enqueued(job) => {
                let late = Unix::now().since(entry.schedule.timing.fires_at(name, due));
                tracing::info!(schedule = %name, %due, %job, late_ms = late.as_millis() as u64, "schedule fired");
                What::Fired {
                    late_s: late.as_secs_f64(),
                }
            }
            Fired::LeftOut => {
                tracing::warn!(schedule = %name, until = %due, missed, "due times were missed, and are not caught up");
                left_out("missed", missed)
            }
            Fired::Paused => {
                tracing::debug!(schedule = %name, %due, "a due time is left out: the schedule is paused");
                left_out("paused", 1)
            }
            Fired::Overlaps(job) => {
                tracing::info!(schedule = %name, %due, %job, "a due time is left out: the job before it has not ended");
                left_out("overlap", 1)
            }
            Fired::Known | Fired::Waits(_) => return,
        };
        let schedule = Arc::clone(name);
        (self.tell)(Told { schedule, what });
    }

    /// Tells when a schedule fires next, if that is news.
    fn note_next(&mut self, name: &Arc<str>, plan: &Plan) {
        if let Some(entry) = self.entries.get_mut(name)
            && std::mem::replace(&mut entry.next, plan.wake) != plan.wake
        {
            let what = What::Next(plan.wake);
            let schedule = Arc::clone(name);
            (self.tell)(Told { schedule, what });
        }
    }
}

fn ruled((name, schedule): (&Arc<str>, &Schedule)) -> Ruled {
    Ruled {
        name: Arc::clone(name),
        rule: schedule.timing.rule.to_string(),
    }
}

/// Handles due times. One whose job the broker refuses is left out, and takes no other with it.
async fn fire(schedules: &dyn Schedules, firings: &[Firing]) -> Result<Vec<Fired>, BrokerError> {
    match schedules.fire(firings.to_vec()).await {
        Err(BrokerError::Refused(_)) => {}
        done => return done,
    }
    let mut answers = Vec::with_capacity(firings.len());
    for firing in firings {
        let answer = match schedules.fire(vec![firing.clone()]).await {
            Err(BrokerError::Refused(why)) => {
                tracing::error!(schedule = %firing.schedule, due = firing.due.map(|due| due.to_string()), "the schedule can't fire: {why}");
                vec![Fired::Known]
            }
            done => done?,
        };
        answers.extend(answer);
    }
    Ok(answers)
}

/// Waits until this job of a schedule has ended, and returns the schedule's name.
async fn ended(broker: Arc<dyn Broker>, schedule: Arc<str>, job: JobId) -> Arc<str> {
    let watched = match broker.reader() {
        Ok(reader) => reader.watch(vec![job]).next().await.map(drop),
        Err(not_here) => Err(not_here.into()),
    };
    if let Err(error) = watched {
        tracing::debug!(%schedule, %error, wait = %Human(WATCH_AGAIN), "the job before can't be watched now");
        tokio::time::sleep(WATCH_AGAIN).await;
    }
    schedule
}

//! Schedules as a broker keeps them: each due time makes one job, however many supervisors ask.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::BrokerError;
use crate::job::{JobId, NewJob};
use crate::time::Unix;

/// Keeps what happened with schedules, and makes their jobs.
///
/// The due times of a schedule grow. The broker remembers the last one that was handled, its mark, and takes only later ones, in
/// the transaction that enqueues the job. So nobody has to lead, a supervisor that dies leaves nothing half done, and a clock
/// that is set back makes nothing happen twice.
#[async_trait]
pub trait Schedules: Send + Sync {
    /// Notes schedules and tells what is known of each, in order. One that is new, or whose rule is another one than before, is
    /// known from now on: nothing that was due before has been missed.
    async fn meet(&self, schedules: &[Ruled]) -> Result<Vec<ScheduleView>, BrokerError>;

    /// What is known of schedules, in order; `None` for those that no supervisor has met.
    async fn look(&self, names: &[Arc<str>]) -> Result<Vec<Option<ScheduleView>>, BrokerError>;

    /// Handles due times, in their order; one answer each.
    ///
    /// # Errors
    /// [`BrokerError::Refused`] when a job can't be kept, with the reason. Then nothing happened to those of the same transaction.
    async fn fire(&self, firings: Vec<Firing>) -> Result<Vec<Fired>, BrokerError>;

    /// Pauses schedules for all supervisors, or ends their pause. What was due in a pause stays left out.
    async fn pause(&self, schedules: &[Ruled], paused: bool) -> Result<(), BrokerError>;

    /// The schedules of applications that supervisors fire now, by name; see [`super::Broker::app_schedules`].
    async fn of_apps(&self) -> Result<Vec<AppSchedule>, BrokerError> {
        Ok(Vec::new())
    }
}

/// A schedule by name, with the text of its rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ruled {
    /// Its name.
    pub name: Arc<str>,
    /// When it is due, as text: another text is another rule.
    pub rule: String,
}

/// What happens when a schedule is due while the job that it made last has not ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overlap {
    /// The due time is left out.
    #[default]
    Skip,
    /// It waits for that job to end. One job stands for all due times that wait.
    Queue,
    /// Another job is made.
    Allow,
}

/// A due time that is to be handled.
#[derive(Clone, Debug, PartialEq)]
pub struct Firing {
    /// The schedule's name.
    pub schedule: Arc<str>,
    /// The due time; `None`: a person asks for a job now, and no due time is used up.
    pub due: Option<Unix>,
    /// What is enqueued; `None`: nothing, because the due time was missed.
    pub job: Option<Make>,
    /// While the last job has not ended. It does not matter to a person who asks.
    pub overlap: Overlap,
}

/// What a schedule enqueues.
#[derive(Clone, Debug, PartialEq)]
pub enum Make {
    /// This job.
    Job(Box<NewJob>),
    /// A job of the application's schedule of this name, see [`super::Broker::app_schedules`].
    OfApp,
}

impl Firing {
    /// The job that it names itself.
    pub fn new_job(&self) -> Option<&NewJob> {
        match &self.job {
            Some(Make::Job(job)) => Some(job),
            Some(Make::OfApp) | None => None,
        }
    }
}

/// A schedule that the loaded application names, of whose jobs only its broker knows what they are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AppSchedule {
    /// Its name.
    pub name: Arc<str>,
    /// When it is due.
    pub due: AppDue,
}

/// When an [`AppSchedule`] is due.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum AppDue {
    /// By a cron expression on the clock of this zone; `None`: that of the system.
    Cron {
        /// The expression, with seconds first if there are six fields.
        expression: String,
        /// The zone's name.
        time_zone: Option<String>,
    },
    /// At each multiple of this time.
    Every(Duration),
}

/// What became of a [`Firing`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fired {
    /// Its job is enqueued.
    Enqueued(JobId),
    /// Another supervisor has handled it.
    Known,
    /// Left out as asked.
    LeftOut,
    /// Left out: the schedule is paused.
    Paused,
    /// Left out: this job of the schedule has not ended.
    Overlaps(JobId),
    /// Not handled yet: it waits for this job to end.
    Waits(JobId),
}

/// What a broker knows of a schedule.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ScheduleView {
    /// The last due time that was handled, or since when the schedule is known.
    pub mark: Unix,
    /// A due time that waits for the last job to end.
    pub held: Option<Unix>,
    /// Nothing is enqueued for it.
    pub paused: bool,
    /// The job that it made last.
    pub job: Option<JobId>,
    /// When it made that.
    pub fired: Option<Unix>,
}

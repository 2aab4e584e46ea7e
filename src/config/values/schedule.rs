//! `[schedules.NAME]`

use std::time::Duration;

use crate::broker::Overlap;
use crate::job::{Limit, NewJob, QueueName};
use crate::policy::schedule::{CatchUp, Expression, Rule, Timing};
use crate::policy::zone::Zone;
use crate::time::Unix;

/// `[schedules.NAME]`: a job that is enqueued again and again.
#[derive(Clone, Debug, PartialEq)]
pub struct ScheduleConfig {
    /// The task that runs.
    pub task: String,
    /// Its arguments as JSON.
    pub args: Arguments,
    /// The queue that its jobs go to.
    pub queue: QueueName,
    /// The times of day at which it is due.
    pub cron: Option<Expression>,
    /// How often it is due.
    pub every: Option<Duration>,
    /// Whose clock `cron` goes by.
    pub time_zone: Zone,
    /// It fires up to this much later.
    pub jitter: Duration,
    /// What becomes of due times at which no supervisor ran.
    pub catch_up: CatchUp,
    /// Missed due times that are caught up at the most.
    pub catch_up_max: u32,
    /// What happens while its last job has not ended.
    pub overlap: Overlap,
    /// Longest run; `None`: what task or pool say.
    pub timeout: Option<Duration>,
    /// Runs after the first that failed; `None`: what task or pool say.
    pub retries: Option<u32>,
    /// How long results are kept; `None`: what the broker says.
    pub result_ttl: Option<Duration>,
    /// A job that has not begun so long after it was enqueued never runs; `None`: it waits for ever.
    pub expires: Option<Duration>,
    /// How many jobs of a key run at once.
    pub limit: Option<Limit>,
}

/// Arguments of a job as JSON text; empty: none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Arguments(pub String);

impl Default for ScheduleConfig {
    fn default() -> Self {
        ScheduleConfig {
            task: String::new(),
            args: Arguments::default(),
            queue: QueueName::new("default").expect("a valid name"),
            cron: None,
            every: None,
            time_zone: Zone::default(),
            jitter: Duration::ZERO,
            catch_up: CatchUp::None,
            catch_up_max: 100,
            overlap: Overlap::Skip,
            timeout: None,
            retries: None,
            result_ttl: None,
            expires: None,
            limit: None,
        }
    }
}

impl ScheduleConfig {
    /// When it fires; `None`: nothing says when it is due, which no checked configuration has.
    pub fn timing(&self) -> Option<Timing> {
        let rule = match (&self.cron, self.every) {
            (Some(expression), _) => Rule::Cron(expression.clone(), self.time_zone.clone()),
            (None, Some(interval)) => Rule::Every(interval),
            (None, None) => return None,
        };
        Some(Timing {
            rule,
            jitter: self.jitter,
            catch_up: self.catch_up,
            catch_up_max: self.catch_up_max,
        })
    }

    /// A job of it with a fresh id, which is enqueued now.
    pub fn job(&self, now: Unix) -> NewJob {
        NewJob {
            timeout: self.timeout,
            retries: self.retries,
            result_ttl: self.result_ttl,
            begin_by: self.expires.map(|expires| now + expires),
            limit: self.limit.clone(),
            ..NewJob::new(self.queue.clone(), &self.task, self.args.0.as_bytes())
        }
    }
}

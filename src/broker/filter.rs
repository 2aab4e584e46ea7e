//! Which jobs are looked for: conditions, and one matcher for all brokers.

use std::fmt;
use std::str::FromStr;

use serde_json::Value;

use crate::job::{JobError, JobState, JobView, QueueName};
use crate::time::Unix;

/// Conditions that all hold for a job that is looked for. The default matches every job.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct JobFilter {
    /// It is in one of these states; empty: in any.
    pub states: Vec<StateName>,
    /// It is in this queue.
    pub queue: Option<QueueName>,
    /// It runs this task.
    pub task: Option<String>,
    /// Its error has this text somewhere, in upper or lower case.
    pub error: Option<String>,
    /// Its arguments have these values.
    pub arguments: Vec<ArgumentIs>,
    /// It ended at this time or later; one that has not ended was enqueued then.
    pub since: Option<Unix>,
}

impl JobFilter {
    /// Whether jobs of this state are looked for.
    pub fn wants(&self, state: StateName) -> bool {
        self.states.is_empty() || self.states.contains(&state)
    }

    /// Where such jobs can be, in the order in which searches go through them.
    pub fn places(&self) -> Vec<JobState> {
        let mut places: Vec<JobState> = StateName::ALL
            .into_iter()
            .filter(|state| self.wants(*state))
            .map(StateName::place)
            .collect();
        places.dedup(); // those that failed and those that were canceled are side by side
        places
    }

    /// Whether each job of its places and its queue matches.
    pub fn is_only_of_places(&self) -> bool {
        let JobFilter {
            states: _,
            queue: _,
            task,
            error,
            arguments,
            since,
        } = self;
        task.is_none() && error.is_none() && arguments.is_empty() && since.is_none()
    }

    /// Whether this queue is looked for.
    pub fn wants_queue(&self, queue: &str) -> bool {
        self.queue.as_ref().is_none_or(|wanted| wanted.as_str() == queue)
    }

    /// Whether this task is looked for.
    pub fn wants_task(&self, task: &str) -> bool {
        self.task.as_deref().is_none_or(|wanted| wanted == task)
    }

    /// Whether all conditions hold for a job.
    pub fn matches(&self, job: &JobView) -> bool {
        self.wants(StateName::of(job))
            && (self.queue.is_none() || self.queue == job.queue)
            && self.wants_task(&job.task)
            && self
                .since
                .is_none_or(|since| job.ended.unwrap_or(job.enqueued) >= since)
            && self.error.as_deref().is_none_or(|text| has_error(job, text))
            && self.has_arguments(&job.payload)
    }

    fn has_arguments(&self, payload: &[u8]) -> bool {
        if self.arguments.is_empty() {
            return true;
        }
        let Ok(arguments) = serde_json::from_slice::<Value>(payload) else {
            return false;
        };
        self.arguments.iter().all(|wanted| wanted.holds(&arguments))
    }
}

fn has_error(job: &JobView, text: &str) -> bool {
    let text = text.to_lowercase();
    job.error.as_ref().is_some_and(|error| {
        let kept = [error.to_string(), error.detail.clone()];
        kept.iter().any(|kept| kept.to_lowercase().contains(&text))
    })
}

/// A job's state as people name it: that of [`JobState`], and a dead letter that was canceled has a name of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StateName {
    /// Under a lease.
    Running,
    /// In its queue.
    Waiting,
    /// As many jobs of its key run as may.
    Blocked,
    /// Due later.
    Scheduled,
    /// Waits for other jobs to end.
    Deferred,
    /// Failed for good.
    Dead,
    /// Somebody canceled it before it began, or it expired: a dead letter without a fault.
    Canceled,
    /// Ended well.
    Finished,
}

impl StateName {
    /// All of them, in the order in which searches go through the places.
    pub const ALL: [StateName; 8] = [
        StateName::Running,
        StateName::Waiting,
        StateName::Blocked,
        StateName::Scheduled,
        StateName::Deferred,
        StateName::Dead,
        StateName::Canceled,
        StateName::Finished,
    ];

    /// The state of a job.
    pub fn of(job: &JobView) -> Self {
        let is_canceled = || job.error.as_ref().is_some_and(JobError::never_ran);
        match job.state {
            JobState::Running => StateName::Running,
            JobState::Waiting => StateName::Waiting,
            JobState::Blocked => StateName::Blocked,
            JobState::Scheduled => StateName::Scheduled,
            JobState::Deferred => StateName::Deferred,
            JobState::Dead if is_canceled() => StateName::Canceled,
            JobState::Dead => StateName::Dead,
            JobState::Finished => StateName::Finished,
        }
    }

    /// Where jobs of this state are.
    pub fn place(self) -> JobState {
        match self {
            StateName::Running => JobState::Running,
            StateName::Waiting => JobState::Waiting,
            StateName::Blocked => JobState::Blocked,
            StateName::Scheduled => JobState::Scheduled,
            StateName::Deferred => JobState::Deferred,
            StateName::Dead | StateName::Canceled => JobState::Dead,
            StateName::Finished => JobState::Finished,
        }
    }

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            StateName::Running => "running",
            StateName::Waiting => "waiting",
            StateName::Blocked => "blocked",
            StateName::Scheduled => "scheduled",
            StateName::Deferred => "deferred",
            StateName::Dead => "dead",
            StateName::Canceled => CANCELED,
            StateName::Finished => "finished",
        }
    }
}

/// The word for what never ran; see [`JobError::never_ran`].
const CANCELED: &str = "canceled";

impl fmt::Display for StateName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for StateName {
    type Err = String;

    /// Other programs' words for the same states are understood.
    fn from_str(word: &str) -> Result<Self, String> {
        let word = word.to_ascii_lowercase();
        let meant = match word.as_str() {
            "failed" => "dead",
            "cancelled" => CANCELED,
            "queued" => "waiting",
            "rate_limited" => "blocked",
            "started" => "running",
            other => other,
        };
        let found = StateName::ALL.into_iter().find(|state| state.as_str() == meant);
        found.ok_or_else(|| {
            let known = StateName::ALL.map(StateName::as_str).join(", ");
            format!("no such state; expected one of {known}")
        })
    }
}

/// What a job's arguments must hold: a value at a path.
#[derive(Clone, Debug, PartialEq)]
pub struct ArgumentIs {
    /// Keys, and positions in lists.
    path: Vec<String>,
    /// As it was given: a text, or JSON.
    text: String,
    /// The same, if it is JSON.
    json: Option<Value>,
}

impl ArgumentIs {
    /// Whether the arguments have this value at this path. Where positional and named arguments were given both, it may be
    /// among either.
    fn holds(&self, arguments: &Value) -> bool {
        let both = ["kwargs", "args"].map(|part| arguments.get(part));
        let roots = [Some(arguments), both[0], both[1]];
        let mut found = roots.into_iter().flatten().filter_map(|root| self.find(root));
        found.any(|value| value.as_str() == Some(&self.text) || self.json.as_ref() == Some(value))
    }

    fn find<'a>(&self, root: &'a Value) -> Option<&'a Value> {
        self.path.iter().try_fold(root, |value, step| match value {
            Value::Array(items) => items.get(step.parse::<usize>().ok()?),
            value => value.get(step),
        })
    }
}

impl FromStr for ArgumentIs {
    type Err = String;

    /// Reads `order.id=42`, `0=ada@example.org`.
    fn from_str(text: &str) -> Result<Self, String> {
        let Some((path, value)) = text.split_once('=').filter(|(path, _)| !path.is_empty()) else {
            return Err("expected PATH=VALUE, as in order.id=42 or 0=ada@example.org".to_owned());
        };
        Ok(ArgumentIs {
            path: path.split('.').map(str::to_owned).collect(),
            json: serde_json::from_str(value).ok(),
            text: value.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::{JobError, JobId};

    fn job(state: JobState, error: Option<JobError>) -> JobView {
        let queue = QueueName::new("mail").unwrap();
        let id = JobId::new("1").unwrap();
        JobView {
            error,
            ..JobView::new(id, queue, "mail.send", state)
        }
    }

    fn holds(condition: &str, arguments: &str) -> bool {
        let condition: ArgumentIs = condition.parse().unwrap();
        condition.holds(&serde_json::from_str(arguments).unwrap())
    }

    #[test]
    fn a_value_is_found_by_its_path() {
        for (condition, arguments) in [
            ("to=ada@example.org", r#"{"to": "ada@example.org"}"#),
            ("order.id=42", r#"{"order": {"id": 42}}"#),
            ("order.id=42", r#"{"order": {"id": "42"}}"#),
            ("0=x", r#"["x", 1]"#),
            ("items.1.sku=b", r#"{"items": [{"sku": "a"}, {"sku": "b"}]}"#),
            ("deep=true", r#"{"args": [1], "kwargs": {"deep": true}}"#),
            ("0=1", r#"{"args": [1], "kwargs": {"deep": true}}"#),
            ("gone=null", r#"{"gone": null}"#),
            ("equation=a=b", r#"{"equation": "a=b"}"#),
        ] {
            assert!(holds(condition, arguments), "{condition} in {arguments}");
        }
        for (condition, arguments) in [
            ("to=ada", r#"{"to": "ada@example.org"}"#),
            ("order.id=42", r#"{"order": 42}"#),
            ("2=x", r#"["x", 1]"#),
            ("x=1", "null"),
        ] {
            assert!(!holds(condition, arguments), "{condition} in {arguments}");
        }
        for wrong in ["to", "=x", ""] {
            assert!(wrong.parse::<ArgumentIs>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_canceled_job_is_no_failure() {
        let failed = job(JobState::Dead, Some(JobError::new("ValueError", "bad luck")));
        let canceled = job(JobState::Dead, Some(JobError::canceled()));
        let of = |state| JobFilter {
            states: vec![state],
            ..JobFilter::default()
        };
        assert!(of(StateName::Dead).matches(&failed) && !of(StateName::Dead).matches(&canceled));
        assert!(of(StateName::Canceled).matches(&canceled) && !of(StateName::Canceled).matches(&failed));
        assert_eq!(of(StateName::Canceled).places(), [JobState::Dead]);
        assert_eq!(JobFilter::default().places().len(), 7, "each place once");
    }

    #[test]
    fn errors_match_in_any_case_and_in_the_traceback() {
        let error = JobError {
            detail: "File \"mail.py\", line 3".into(),
            ..JobError::new("SMTPError", "Mailbox unavailable")
        };
        let failed = job(JobState::Dead, Some(error));
        for (text, expected) in [
            ("smtperror", true),
            ("mailbox", true),
            ("mail.py", true),
            ("disk", false),
        ] {
            let error = Some(text.to_owned());
            let filter = JobFilter {
                error,
                ..JobFilter::default()
            };
            assert_eq!(filter.matches(&failed), expected, "{text}");
            assert!(!filter.matches(&job(JobState::Waiting, None)));
        }
    }

    #[test]
    fn states_have_other_words() {
        for state in StateName::ALL {
            assert_eq!(state.to_string().parse(), Ok(state));
        }
        assert_eq!("failed".parse(), Ok(StateName::Dead));
        assert_eq!("Cancelled".parse(), Ok(StateName::Canceled));
        assert!(
            "lost"
                .parse::<StateName>()
                .unwrap_err()
                .contains("waiting, blocked, scheduled")
        );
    }
}

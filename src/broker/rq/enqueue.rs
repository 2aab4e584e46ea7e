//! Adding jobs, as RQ's own producers write them.

use std::borrow::Cow;
use std::collections::HashSet;
use std::time::Duration;

use redis::{ScriptInvocation, Value};

use super::data::{Call, Serializer};
use super::{RqBroker, text};
use crate::broker::{BrokerError, Enqueued, check};
use crate::job::{GroupId, JobId, Limit, NewJob, QueueName};
use crate::time::Unix;

/// Longest run of a job that does not say. Source: `rq/queue.py`, `Queue.DEFAULT_TIMEOUT`.
const TIMEOUT: u64 = 180;

/// The field that says how many retries a job had at first: RQ keeps those that are left. See `job.lua`.
const RETRIES: &str = "pool_retries";

/// What the script says in place of an id when there is a group of this name. No id has control characters.
const GROUP_TAKEN: &str = "\n";

/// A job's hash as it is written, and where the job goes.
pub(super) struct Row {
    pub id: JobId,
    pub queue: QueueName,
    pub place: Place,
    pub held: Held,
    /// How many seconds it may be queued. RQ deletes it then.
    pub ttl: Option<u64>,
    /// Its rate limit.
    pub limit: Option<Limit>,
    /// Fields of the hash. Source: `rq/job.py`, `Job.to_dict`.
    pub fields: Fields,
}

type Fields = Vec<(Cow<'static, str>, Vec<u8>)>;

/// Where a job goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Behind all that waits in its queue.
    Back,
    /// Ahead of it.
    Front,
    /// Into its queue at this Unix second, by the scheduler.
    Due(i64),
    /// Since this Unix second it waits for the other jobs of its call to end.
    Deferred(i64),
    /// Since this Unix second it waits for the first of them to fail. See [`super::first_failure`].
    FirstFailure(i64),
}

/// The group of the first jobs of a call.
pub(super) struct Group<'a> {
    pub id: &'a GroupId,
    /// How many of the jobs are its members.
    pub members: usize,
}

/// What becomes of a job when there is one with its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Held {
    /// Nothing at all is enqueued.
    Taken,
    /// While that one has not ended, this one is not enqueued.
    Open,
}

impl Row {
    /// The row of a job; the error says why it can't be written.
    pub fn new(job: &NewJob, serializer: &Serializer, now: Unix) -> Result<Self, String> {
        let call = Call::new(&job.task, &job.payload).map_err(|why| format!("its arguments: {why}"))?;
        let due = job.due.filter(|due| *due > now); // what is due already needs no scheduler
        let place = match (due, job.at_front) {
            (Some(due), _) => Place::Due(text::due(due)),
            (None, true) => Place::Front,
            (None, false) => Place::Back,
        };
        // RQ counts it from when the job is queued.
        let queued = due.unwrap_or(now);
        let ttl = job
            .begin_by
            .map(|begin_by| seconds(begin_by.since(queued)).max(1));
        let data = text::compressed(&call.data(serializer)?);
        let fields = fields(job, (data, &call.description()), (place, ttl), now);
        // A job with a key is known by it: that is what RQ's unique jobs are.
        let (id, held) = match &job.unique_key {
            Some(key) => (
                JobId::new(key).map_err(|why| format!("its key {why}"))?,
                Held::Open,
            ),
            None => (job.id.clone(), Held::Taken),
        };
        Ok(Row {
            id,
            queue: job.queue.clone(),
            place,
            held,
            ttl,
            limit: job.limit.clone(),
            fields,
        })
    }

    /// The same as a job that runs when these have ended, well or not. Source: `rq/queue.py`, `setup_dependencies`.
    pub fn after(mut self, others: &[NewJob], now: Unix) -> Self {
        let ids: Vec<&JobId> = others.iter().map(|job| &job.id).collect();
        let Some(first) = ids.first() else {
            return self; // Nothing is to be waited for.
        };
        self.place = Place::Deferred(text::score(now));
        self.is_not_queued("deferred");
        self.set("dependency_id", first.as_str());
        let written: Vec<String> = ids.iter().map(|id| serde_json::json!(id).to_string()).collect();
        self.set("dependency_ids", format!("[{}]", written.join(", ")));
        self.set("allow_dependency_failures", "1");
        self.set("enqueue_at_front", "0");
        self
    }

    /// Adds it to the arguments of the script that enqueues.
    pub(super) fn write(&self, call: &mut ScriptInvocation<'_>) {
        call.arg(self.id.as_str()).arg(self.queue.as_str());
        match self.place {
            Place::Back => call.arg("R"),
            Place::Front => call.arg("L"),
            Place::Due(second) => call.arg(second),
            Place::Deferred(since) => call.arg(format!("D{since}")),
            Place::FirstFailure(since) => call.arg(format!("F{since}")),
        };
        call.arg(match self.held {
            Held::Taken => "taken",
            Held::Open => "open",
        });
        call.arg(self.ttl.map(|ttl| ttl.to_string()).unwrap_or_default());
        let limit = self.limit.as_ref();
        call.arg(limit.map_or("", |limit| &*limit.key));
        call.arg(limit.map(|limit| limit.max.to_string()).unwrap_or_default());
        call.arg(self.fields.len());
        for (name, value) in &self.fields {
            call.arg(&**name).arg(value.as_slice());
        }
    }

    /// It waits for something else than its turn, with this status.
    pub(super) fn is_not_queued(&mut self, status: &str) {
        self.fields.retain(|(name, _)| *name != "enqueued_at");
        self.set("status", status);
    }

    /// Sets a field of the hash.
    pub(super) fn set(&mut self, name: &'static str, value: impl Into<Vec<u8>>) {
        let value = value.into();
        match self.fields.iter_mut().find(|(field, _)| *field == name) {
            Some((_, known)) => *known = value,
            None => self.fields.push((name.into(), value)),
        }
    }
}

/// The fields of a job's hash, all but those that tie it to others.
fn fields(
    job: &NewJob,
    (data, description): (Vec<u8>, &str),
    (place, ttl): (Place, Option<u64>),
    now: Unix,
) -> Fields {
    let now = text::iso(now);
    let mut fields: Fields = vec![
        ("created_at".into(), now.clone().into_bytes()),
        ("data".into(), data),
    ];
    let mut field = |name: &'static str, value: &str| {
        fields.push((Cow::from(name), value.as_bytes().to_vec()));
    };
    for empty in [
        "success_callback_name",
        "failure_callback_name",
        "stopped_callback_name",
        "started_at",
        "ended_at",
        "last_heartbeat",
        "worker_name",
        "group_id",
    ] {
        field(empty, "");
    }
    field("origin", job.queue.as_str());
    field("description", description);
    field("timeout", &job.timeout.map_or(TIMEOUT, seconds).to_string());
    if let Some(retries) = job.retries.filter(|retries| *retries > 0) {
        field("retries_left", &retries.to_string());
        field("retry_intervals", "[0]");
        field(RETRIES, &retries.to_string());
    }
    if let Some(ttl) = ttl {
        field("ttl", &ttl.to_string());
    }
    if let Some(limit) = &job.limit {
        field("rate_limit_key", &limit.key);
        field("rate_limit_concurrency", &limit.max.to_string());
    }
    if let Some(ttl) = job.result_ttl {
        field("result_ttl", &seconds(ttl).to_string());
    }
    match place {
        Place::Due(_) => field("status", "scheduled"),
        Place::Deferred(_) | Place::FirstFailure(_) => field("status", "deferred"),
        Place::Front | Place::Back => {
            field("status", "queued");
            field("enqueued_at", &now);
        }
    }
    if matches!(place, Place::Due(_)) && job.at_front {
        field("enqueue_at_front", "1");
    }
    fields
}

/// Whole seconds, as RQ counts, and never none of what was some.
fn seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

impl RqBroker {
    pub(super) async fn add_jobs(&self, jobs: &[NewJob]) -> Result<Vec<Enqueued>, BrokerError> {
        check::new_jobs(jobs, self.options.payload_len_max)?;
        let now = Unix::now();
        let rows = jobs.iter().map(|job| self.row(job, now));
        self.add_rows(&rows.collect::<Result<Vec<Row>, _>>()?, None).await
    }

    pub(super) fn row(&self, job: &NewJob, now: Unix) -> Result<Row, BrokerError> {
        Row::new(job, &self.serializer, now).map_err(|why| {
            BrokerError::Refused(format!(
                "cannot enqueue job `{}` of task `{}`: {why}",
                job.id, job.task
            ))
        })
    }

    /// Writes rows, all or none; one answer a row, in order.
    pub(super) async fn add_rows(
        &self,
        rows: &[Row],
        group: Option<Group<'_>>,
    ) -> Result<Vec<Enqueued>, BrokerError> {
        let keys: HashSet<&JobId> = ids(rows, Held::Open).collect();
        if let Some(id) = ids(rows, Held::Taken).find(|id| keys.contains(id)) {
            return Err(BrokerError::IdTaken(id.clone()));
        }
        check_words(rows, self.words_max)?;
        let now = Unix::now();
        let mut call = self.scripts.enqueue.prepare_invoke();
        call.arg(self.keys.names())
            .arg(group.as_ref().map_or("", |group| group.id.as_str()))
            .arg(group.as_ref().map_or(0, |group| group.members))
            .arg(text::iso(now))
            .arg(text::score(now));
        for row in rows {
            row.write(&mut call);
        }
        let mut answer = self.link.run_script::<Vec<Value>>(&call).await?.into_iter();
        let taken: String = answer
            .next()
            .and_then(|taken| redis::from_redis_value(taken).ok())
            .unwrap_or_default();
        if let Some(row) = rows.iter().find(|row| row.id.as_str() == taken) {
            return Err(BrokerError::IdTaken(row.id.clone()));
        }
        if let Some(group) = group.filter(|_| taken == GROUP_TAKEN) {
            return Err(BrokerError::GroupTaken(group.id.clone()));
        }
        let enqueued = rows.iter().zip(answer).map(|(row, added)| match added {
            Value::Int(0) => Enqueued::Duplicate(row.id.clone()),
            _ => Enqueued::New(row.id.clone()),
        });
        Ok(enqueued.collect())
    }
}

/// A server that gets more words in one command than it takes closes the connection.
fn check_words(rows: &[Row], words_max: usize) -> Result<(), BrokerError> {
    /// The name of the command, the script and what stands before the jobs.
    const HEAD: usize = 8;
    let words = HEAD + rows.iter().map(|row| 8 + 2 * row.fields.len()).sum::<usize>();
    if words <= words_max {
        return Ok(());
    }
    Err(BrokerError::Refused(format!(
        "cannot enqueue {} jobs at once: they are {words} words, and a Redis before 7 takes {words_max} in one command \
         (make it several groups, or use a newer server)",
        rows.len()
    )))
}

fn ids(rows: &[Row], held: Held) -> impl Iterator<Item = &JobId> {
    rows.iter().filter(move |row| row.held == held).map(|row| &row.id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(change: impl FnOnce(&mut NewJob)) -> Row {
        let queue = QueueName::new("mail").unwrap();
        let mut job = NewJob::new(queue, "shop.send", "[1]");
        change(&mut job);
        Row::new(&job, &Serializer::Pickle, Unix(1_772_355_900_250)).unwrap()
    }

    fn field(row: &Row, name: &str) -> Option<String> {
        let found = row.fields.iter().find(|(field, _)| *field == name);
        found.map(|(_, value)| String::from_utf8_lossy(value).into_owned())
    }

    #[test]
    fn times_are_whole_seconds_and_none_becomes_shorter() {
        let row = row(|job| {
            job.timeout = Some(Duration::from_millis(1500));
            job.result_ttl = Some(Duration::ZERO);
            job.due = Some(Unix(1_772_355_960_001));
        });
        assert_eq!(field(&row, "timeout").as_deref(), Some("2"));
        assert_eq!(field(&row, "result_ttl").as_deref(), Some("0"));
        assert_eq!(row.place, Place::Due(1_772_355_961));
    }

    #[test]
    fn a_job_that_says_nothing_has_the_defaults_of_rq() {
        let row = row(|_| ());
        assert_eq!(field(&row, "timeout").as_deref(), Some("180"));
        assert_eq!(field(&row, "description").as_deref(), Some("shop.send(1)"));
        assert_eq!(
            (field(&row, "retries_left"), field(&row, "result_ttl")),
            (None, None)
        );
        assert_eq!(row.place, Place::Back);
    }

    #[test]
    fn more_words_than_the_server_takes_are_refused() {
        let rows = [row(|_| ()), row(|_| ())];
        let words = 8 + rows.iter().map(|row| 8 + 2 * row.fields.len()).sum::<usize>();
        assert!(check_words(&rows, words).is_ok());
        let refusal = check_words(&rows, words - 1).unwrap_err().to_string();
        assert!(
            refusal.contains("2 jobs at once") && refusal.contains("several groups"),
            "{refusal}"
        );
    }

    #[test]
    fn a_key_is_the_id() {
        let row = row(|job| job.unique_key = Some("daily".into()));
        assert_eq!((row.id.as_str(), row.held), ("daily", Held::Open));
    }
}

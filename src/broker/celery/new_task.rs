//! A task that is sent from here, as Celery writes it. Source: `celery/app/amqp.py`, `as_task_v2`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::broker::BrokerError;
use crate::job::NewJob;
use crate::time::Unix;

/// A message of protocol 2, before a transport has written it.
#[derive(Debug)]
pub(super) struct NewTask<'j> {
    job: &'j NewJob,
    pub headers: Value,
    /// JSON, in UTF-8.
    pub body: String,
}

impl<'j> NewTask<'j> {
    /// The task that this job is.
    ///
    /// # Errors
    /// [`BrokerError::Refused`] where the job asks for what a message can't say.
    pub fn of(job: &'j NewJob) -> Result<Self, BrokerError> {
        Self::read(job).map_err(|why| {
            BrokerError::Refused(format!(
                "cannot enqueue job `{}` of task `{}`: {why}",
                job.id, job.task
            ))
        })
    }

    fn read(job: &'j NewJob) -> Result<Self, String> {
        let lacks = [
            (job.retries.is_some(), "retries are the task's own: `max_retries`"),
            (
                job.result_ttl.is_some(),
                "how long results are kept is the application's setting `result_expires`",
            ),
            (job.unique_key.is_some(), "Celery has no unique keys"),
            (
                job.limit.is_some(),
                "Celery has no limit of tasks that run at once; a task's `rate_limit` is one in time",
            ),
        ];
        if let Some((_, why)) = lacks.into_iter().find(|(is_asked, _)| *is_asked) {
            return Err(why.to_owned());
        }
        let given = if job.payload.is_empty() {
            b"[]"
        } else {
            job.payload.as_slice()
        };
        let given: &RawValue =
            serde_json::from_slice(given).map_err(|error| format!("its arguments are no JSON: {error}"))?;
        let given = given.get();
        let (args, kwargs) = match given.as_bytes().first() {
            Some(b'[') => (given.to_owned(), "{}".to_owned()),
            Some(b'{') => ("[]".to_owned(), given.to_owned()),
            _ => (format!("[{given}]"), "{}".to_owned()),
        };
        let embedded = r#"{"callbacks": null, "errbacks": null, "chain": null, "chord": null}"#;
        let body = format!("[{args}, {kwargs}, {embedded}]");
        let (id, task) = (job.id.as_str(), &*job.task);
        // As `celery@`, `gen` and a process: who sent it.
        let origin = format!("pool{}@{}", std::process::id(), hostname());
        let time = |at: Unix| at.to_string().replace('Z', "+00:00");
        let (eta, expires) = (job.due.map(time), job.begin_by.map(time));
        let headers = json!({
            "lang": "py", "task": task, "id": id, "shadow": null, "eta": eta, "expires": expires, "group": null,
            "group_index": null, "retries": 0, "timelimit": [job.timeout.map(|limit| limit.as_secs_f64()), null],
            "root_id": id, "parent_id": null, "argsrepr": repr(&args), "kwargsrepr": kwargs, "origin": origin,
            "ignore_result": false, "replaced_task_nesting": 0, "stamped_headers": null, "stamps": {},
        });
        Ok(NewTask { job, headers, body })
    }

    pub fn id(&self) -> &str {
        self.job.id.as_str()
    }

    /// Where it is sent.
    pub fn queue(&self) -> &str {
        self.job.queue.as_str()
    }

    /// As kombu writes it into a list. Source: `kombu/transport/virtual/base.py`, `Channel.prepare_message`.
    pub fn message(&self) -> String {
        let properties = json!({
            "correlation_id": self.job.id, "reply_to": uuid::Uuid::now_v7().to_string(), "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": self.job.queue}, "priority": 0, "body_encoding": "base64",
            "delivery_tag": uuid::Uuid::now_v7().to_string(),
        });
        json!({
            "body": STANDARD.encode(&self.body), "content-encoding": "utf-8", "content-type": "application/json",
            "headers": self.headers, "properties": properties,
        })
        .to_string()
    }
}

/// Arguments as Python shows them, nearly: in round brackets.
fn repr(args: &str) -> String {
    let inner = args.trim().trim_start_matches('[').trim_end_matches(']');
    format!("({inner})")
}

fn hostname() -> String {
    let name = nix::unistd::gethostname()
        .ok()
        .and_then(|name| name.into_string().ok());
    name.unwrap_or_else(|| "localhost".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::celery::envelope::Message;
    use crate::job::{Limit, QueueName};
    use std::time::Duration;

    #[test]
    fn a_job_is_written_as_celery_writes_a_task() {
        let queue = QueueName::new("mail").unwrap();
        let job = NewJob {
            due: Some(Unix(1_795_962_474_983)),
            timeout: Some(Duration::from_millis(1500)),
            begin_by: Some(Unix(1_795_962_999_001)),
            ..NewJob::new(queue.clone(), "proj.add", "[1, 2]")
        };
        let message = Message::read(NewTask::of(&job).unwrap().message().as_bytes(), false).unwrap();
        assert_eq!(message.id.as_deref(), Some(job.id.as_str()));
        assert_eq!(
            (message.task.as_deref(), message.eta),
            (Some("proj.add"), job.due)
        );
        assert_eq!(message.expires, job.begin_by);
        assert_eq!((message.time_limit, message.is_odd), (Some(1.5), false));
        for (given, written) in [
            ("", "[[], {}, "),
            ("[1]", "[[1], {}, "),
            ("{\"x\": 1}", "[[], {\"x\": 1}, "),
            ("5", "[[5], {}, "),
        ] {
            let job = NewJob::new(queue.clone(), "t", given);
            let task = NewTask::of(&job).unwrap();
            assert!(task.body.starts_with(written), "{given}");
        }
        for odd in [
            NewJob {
                retries: Some(1),
                ..NewJob::new(queue.clone(), "t", "")
            },
            NewJob {
                limit: Some(Limit {
                    key: "db".into(),
                    max: 1,
                }),
                ..NewJob::new(queue.clone(), "t", "")
            },
            NewJob {
                unique_key: Some("k".into()),
                ..NewJob::new(queue.clone(), "t", "")
            },
            NewJob {
                result_ttl: Some(Duration::ZERO),
                ..NewJob::new(queue.clone(), "t", "")
            },
            NewJob::new(queue, "t", "no json"),
        ] {
            assert!(NewTask::of(&odd).is_err());
        }
    }
}

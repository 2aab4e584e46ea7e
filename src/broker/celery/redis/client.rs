//! What producers and readers ask.

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::CeleryBroker;
use crate::broker::{Backlog, Broker, BrokerError, Enqueued, Producer, Queues, Reader, Watch, check};
use crate::job::{JobId, JobState, JobView, NewJob, QueueName};

#[async_trait]
impl Queues for CeleryBroker {
    /// Lists hold no times: how long the oldest has waited is not known.
    async fn backlog(&self, queues: &[QueueName]) -> Result<Backlog, BrokerError> {
        self.open_still()?;
        let mut pipeline = redis::pipe();
        for list in queues
            .iter()
            .flat_map(|queue| self.keys.lists(queue.as_str()).collect::<Vec<_>>())
        {
            pipeline.cmd("LLEN").arg(list);
        }
        let waiting: Vec<u64> = match queues.is_empty() {
            true => Vec::new(),
            false => self.link.run_pipeline(&pipeline).await?,
        };
        let hand = self.hand();
        Ok(Backlog {
            waiting: waiting.into_iter().sum(),
            scheduled: queues.iter().map(|queue| hand.etas.len_of(queue) as u64).sum(),
            oldest: None,
        })
    }

    async fn names(&self) -> Result<Vec<QueueName>, BrokerError> {
        self.open_still()?;
        let mut names: Vec<QueueName> = self
            .app
            .queues
            .iter()
            .filter_map(|queue| QueueName::new(&queue.name).ok())
            .collect();
        let mut exchanges: Vec<&str> = self
            .app
            .queues
            .iter()
            .map(|queue| queue.exchange.as_str())
            .collect();
        exchanges.sort_unstable();
        exchanges.dedup();
        for exchange in exchanges.into_iter().filter(|exchange| !exchange.is_empty()) {
            let members = redis::cmd("SMEMBERS")
                .arg(self.keys.bindings(exchange))
                .to_owned();
            let members: Vec<String> = self.link.run_command(&members).await?;
            let of = members
                .iter()
                .filter_map(|binding| QueueName::new(self.keys.queue_of(binding)?).ok());
            names.extend(of);
        }
        names.sort();
        names.dedup();
        Ok(names)
    }
}

#[async_trait]
impl Reader for CeleryBroker {
    async fn find(&self, ids: &[JobId]) -> Result<Vec<Option<JobView>>, BrokerError> {
        self.open_still()?;
        let Some(results) = &self.results else {
            return Err(self
                .lacks("record of jobs", "ask the application's result backend")
                .into());
        };
        let mut views = results.find(ids).await?;
        let hand = self.hand();
        for view in views.iter_mut().filter(|view| view.state == JobState::Waiting) {
            if let Some((_, held)) = hand.unacked().find(|(_, held)| held.job == view.id) {
                view.state = JobState::Running;
                view.queue = held.queue.clone();
                view.task = held.task.clone();
            }
        }
        Ok(views.into_iter().map(Some).collect())
    }

    fn watch(&self, ids: Vec<JobId>) -> Box<dyn Watch> {
        match &self.results {
            Some(results) => results.watch(ids),
            None => Box::new(NoWatch(
                self.lacks("record of jobs", "ask the application's result backend")
                    .into(),
            )),
        }
    }
}

/// The watch of a broker that knows no results.
struct NoWatch(BrokerError);

#[async_trait]
impl Watch for NoWatch {
    async fn next(&mut self) -> Result<Vec<crate::broker::Ended>, BrokerError> {
        Err(self.0.clone())
    }
}

#[async_trait]
impl Producer for CeleryBroker {
    async fn enqueue(&self, jobs: Vec<NewJob>) -> Result<Vec<Enqueued>, BrokerError> {
        self.open_still()?;
        check::new_jobs(&jobs, self.options.payload_len_max)?;
        let mut pipeline = redis::pipe();
        pipeline.atomic();
        for job in &jobs {
            let message = message(job).map_err(|why| {
                BrokerError::Refused(format!(
                    "cannot enqueue job `{}` of task `{}`: {why}",
                    job.id, job.task
                ))
            })?;
            let list = self.keys.list_for(job.queue.as_str(), 0);
            let push = if job.at_front { "RPUSH" } else { "LPUSH" };
            pipeline.cmd(push).arg(list).arg(message).ignore();
            let expires = self
                .app
                .queues
                .iter()
                .find(|queue| queue.name == job.queue.as_str());
            if let Some(expires) = expires.and_then(|queue| queue.expires) {
                for list in self.keys.lists(job.queue.as_str()) {
                    let millis = u64::try_from(expires.as_millis()).unwrap_or(u64::MAX);
                    pipeline.cmd("PEXPIRE").arg(list).arg(millis).ignore();
                }
            }
        }
        if !jobs.is_empty() {
            self.link.run_pipeline::<()>(&pipeline).await?;
        }
        Ok(jobs.into_iter().map(|job| Enqueued::New(job.id)).collect())
    }
}

/// The message of a task, as Celery writes it. Source: `celery/app/amqp.py`, `as_task_v2`; `kombu/transport/virtual/base.py`,
/// `Channel.prepare_message`. The error says what it can't do.
fn message(job: &NewJob) -> Result<String, String> {
    let lacks = [
        (job.retries.is_some(), "retries are the task's own: `max_retries`"),
        (
            job.result_ttl.is_some(),
            "how long results are kept is the application's setting `result_expires`",
        ),
        (job.unique_key.is_some(), "Celery has no unique keys"),
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
    let body = STANDARD.encode(format!("[{args}, {kwargs}, {embedded}]"));
    let (id, task) = (job.id.as_str(), &*job.task);
    // As `celery@`, `gen` and a process: who sent it.
    let origin = format!("pool{}@{}", std::process::id(), hostname());
    let eta = job.due.map(|due| due.to_string().replace('Z', "+00:00"));
    let headers = json!({
        "lang": "py", "task": task, "id": id, "shadow": null, "eta": eta, "expires": null, "group": null,
        "group_index": null, "retries": 0, "timelimit": [job.timeout.map(|limit| limit.as_secs_f64()), null],
        "root_id": id, "parent_id": null, "argsrepr": repr(&args), "kwargsrepr": kwargs, "origin": origin,
        "ignore_result": false, "replaced_task_nesting": 0, "stamped_headers": null, "stamps": {},
    });
    let properties = json!({
        "correlation_id": id, "reply_to": uuid::Uuid::now_v7().to_string(), "delivery_mode": 2,
        "delivery_info": {"exchange": "", "routing_key": job.queue}, "priority": 0, "body_encoding": "base64",
        "delivery_tag": uuid::Uuid::now_v7().to_string(),
    });
    let message: Value = json!({
        "body": body, "content-encoding": "utf-8", "content-type": "application/json", "headers": headers,
        "properties": properties,
    });
    Ok(message.to_string())
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
    use crate::time::Unix;
    use std::time::Duration;

    #[test]
    fn a_job_is_written_as_celery_writes_a_task() {
        let queue = QueueName::new("mail").unwrap();
        let job = NewJob {
            due: Some(Unix(1_795_962_474_983)),
            timeout: Some(Duration::from_millis(1500)),
            ..NewJob::new(queue.clone(), "proj.add", "[1, 2]")
        };
        let message = Message::read(message(&job).unwrap().as_bytes(), false).unwrap();
        assert_eq!(message.id.as_deref(), Some(job.id.as_str()));
        assert_eq!(
            (message.task.as_deref(), message.eta),
            (Some("proj.add"), job.due)
        );
        assert_eq!((message.time_limit, message.is_odd), (Some(1.5), false));
        for (given, written) in [
            ("", "[[], {}, "),
            ("[1]", "[[1], {}, "),
            ("{\"x\": 1}", "[[], {\"x\": 1}, "),
            ("5", "[[5], {}, "),
        ] {
            let job = NewJob::new(queue.clone(), "t", given);
            let value: Value = serde_json::from_str(&super::message(&job).unwrap()).unwrap();
            let body = STANDARD.decode(value["body"].as_str().unwrap()).unwrap();
            assert!(body.starts_with(written.as_bytes()), "{given}");
        }
        for odd in [
            NewJob {
                retries: Some(1),
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
            assert!(super::message(&odd).is_err());
        }
    }
}

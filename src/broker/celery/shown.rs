//! A message as people see the job that it asks for.

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::envelope::Message;
use crate::job::{JobId, JobState, JobView, QueueName};

/// The body of a message by protocol 2. Source: `celery/app/amqp.py`, `as_task_v2`.
#[derive(Deserialize)]
struct Body<'m>(
    #[serde(borrow)] &'m RawValue,
    #[serde(borrow)] &'m RawValue,
    #[allow(dead_code)] IgnoredAny, // what comes after it
);

/// The job of a message of this queue; `None`: it has no id. When it was sent, no message says.
pub(super) fn view(message: &Message, queue: QueueName, state: JobState) -> Option<JobView> {
    let id = JobId::new(message.id.as_deref()?).ok()?;
    let task = message.task.as_deref().unwrap_or_default();
    Some(JobView {
        payload: arguments(&message.payload).unwrap_or_default(),
        due: message.eta.filter(|_| state == JobState::Scheduled),
        failures: Some(message.retries),
        losses: Some(message.losses),
        ..JobView::new(id, queue, task, state)
    })
}

/// The arguments as JSON: an array, an object when all are named; both when some are. `None`: another serializer wrote
/// them.
fn arguments(payload: &[u8]) -> Option<Vec<u8>> {
    let (len, rest) = payload.split_first_chunk::<4>()?;
    let body = rest.get(usize::try_from(u32::from_le_bytes(*len)).ok()?..)?;
    let Body(args, kwargs, _) = serde_json::from_slice(body).ok()?;
    let shown = match (args.get(), kwargs.get()) {
        ("[]", "{}") => return None,
        (args, "{}") => Cow::Borrowed(args),
        ("[]", kwargs) => Cow::Borrowed(kwargs),
        (args, kwargs) => Cow::Owned(format!(r#"{{"args": {args}, "kwargs": {kwargs}}}"#)),
    };
    Some(shown.into_owned().into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::celery::new_task::NewTask;
    use crate::job::NewJob;

    #[test]
    fn a_message_shows_its_arguments() {
        let queue = QueueName::new("mail").unwrap();
        for (given, shown) in [
            (r#"{"to": "ada"}"#, r#"{"to": "ada"}"#),
            ("[1, 2]", "[1, 2]"),
            ("", ""),
        ] {
            let job = NewJob::new(queue.clone(), "mail.send", given);
            let message = NewTask::of(&job).unwrap().message();
            let message = Message::read(message.as_bytes(), false).unwrap();
            let view = view(&message, queue.clone(), JobState::Waiting).unwrap();
            assert_eq!((&view.id, &*view.task), (&job.id, "mail.send"));
            assert_eq!(view.payload, shown.as_bytes());
        }
        let both = [&2_u32.to_le_bytes()[..], br#"{}[[1], {"a": 2}, {}]"#].concat();
        assert_eq!(arguments(&both).unwrap(), br#"{"args": [1], "kwargs": {"a": 2}}"#);
        assert_eq!(arguments(b"\0\0\0\0pickled"), None);
    }
}

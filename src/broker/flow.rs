//! What groups and chains ask of their jobs, and how a value comes into the arguments of a job.
//!
//! It is the same for every broker; what a broker keeps of groups and chains is its own affair. `docs/flow.md` is for
//! users.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::BrokerError;
use super::check::new_jobs;
use super::groups::{CHAIN_LEN_MAX, GROUP_LEN_MAX, NewGroup};
use crate::job::{JobError, JobId, NewJob};
use crate::text::without_lone_surrogates;

/// The key under which a job whose arguments are an object gets the earlier result of its chain.
pub const PREVIOUS: &str = "previous";

/// The key under which a callback whose arguments are an object gets the summary of its group.
pub const GROUP: &str = "group";

/// Checks the jobs of a group; returns the first problem as [`BrokerError::Refused`].
pub(super) fn check_group(group: &NewGroup, payload_len_max: usize) -> Result<(), BrokerError> {
    at_most("group", group.jobs.len(), GROUP_LEN_MAX)?;
    let callbacks = group.on_done.iter().chain(&group.on_failure);
    for job in callbacks.clone() {
        check_follower(job, GROUP)?;
    }
    let all: Vec<&NewJob> = group.jobs.iter().chain(callbacks).collect();
    all.iter().try_for_each(|job| check_unique(job))?;
    new_jobs(all, payload_len_max)
}

/// Checks the jobs of a chain; returns the first problem as [`BrokerError::Refused`].
pub(super) fn check_chain(jobs: &[NewJob], payload_len_max: usize) -> Result<(), BrokerError> {
    at_most("chain", jobs.len(), CHAIN_LEN_MAX)?;
    jobs.iter().try_for_each(check_unique)?;
    for job in jobs.iter().skip(1) {
        check_follower(job, PREVIOUS)?;
    }
    new_jobs(jobs, payload_len_max)
}

fn at_most(what: &str, len: usize, limit: usize) -> Result<(), BrokerError> {
    match len > limit {
        true => refuse(format!("a {what} has {limit} jobs at the most, not {len}")),
        false => Ok(()),
    }
}

/// A job that stands for another one would be counted for nobody.
fn check_unique(job: &NewJob) -> Result<(), BrokerError> {
    match job.unique_key {
        Some(_) => refuse(format!(
            "cannot enqueue job `{}`: a job of a group or a chain can't have a unique key",
            job.id
        )),
        None => Ok(()),
    }
}

/// Checks a job that waits for others and gets a value from them, under `key` if its arguments are an object.
fn check_follower(job: &NewJob, key: &str) -> Result<(), BrokerError> {
    let (id, task) = (&job.id, &job.task);
    let cannot = |why: &str| refuse(format!("cannot enqueue job `{id}` of task `{task}`: {why}"));
    if job.due.is_some() || job.at_front {
        return cannot("it waits for others, and can't be due at a time or go to the front");
    }
    match job.payload.trim_ascii() {
        b"" | b"null" => Ok(()),
        text @ [b'[', ..] if serde_json::from_slice::<IgnoredAny>(text).is_ok() => Ok(()),
        text @ [b'{', ..] => {
            match serde_json::from_slice::<BTreeMap<Cow<'_, str>, IgnoredAny>>(&without_lone_surrogates(text))
            {
                Ok(fields) if fields.contains_key(key) => cannot(&format!(
                    "its arguments have the key `{key}`, under which it is to get another value"
                )),
                Ok(_) => Ok(()),
                Err(error) => cannot(&format!("its arguments are no JSON: {error}")),
            }
        }
        _ => cannot(
            "the arguments of a job that gets a value from others are a JSON array, an object or nothing",
        ),
    }
}

/// The arguments of a job that gets a value: alone if it has none of its own, as the first of an array, or under
/// `key` in an object. What is no JSON becomes a string.
pub(super) fn hand_on(payload: &[u8], key: &str, value: &[u8]) -> Vec<u8> {
    let value = as_json(value);
    let payload = payload.trim_ascii();
    let (open, inner) = match payload {
        [b'[', inner @ .., b']'] => (b"[".to_vec(), inner),
        [b'{', inner @ .., b'}'] => (format!("{{{}:", serde_json::Value::from(key)).into_bytes(), inner),
        _ => return value.into_owned(),
    };
    let comma: &[u8] = if inner.trim_ascii().is_empty() { b"" } else { b"," };
    let close = &payload[payload.len() - 1..];
    [&open, &*value, comma, inner, close].concat()
}

fn as_json(value: &[u8]) -> Cow<'_, [u8]> {
    let value = value.trim_ascii();
    if value.is_empty() {
        Cow::Borrowed(b"null")
    } else if serde_json::from_slice::<&RawValue>(value).is_ok() {
        Cow::Borrowed(value)
    } else {
        let text = String::from_utf8_lossy(value);
        Cow::Owned(serde_json::Value::from(text).to_string().into_bytes())
    }
}

/// The kind of the error of a job that never ran. Its message says which job to retry.
pub const EARLIER_JOB_FAILED: &str = "earlier job failed";

/// Why a job never ran: `id`, earlier in its chain, failed for good.
pub(super) fn earlier_failed(id: &JobId, task: &str, error: &JobError) -> JobError {
    let message =
        format!("it did not run, since job {id} of task `{task}`, earlier in its chain, failed ({error})");
    JobError::new(
        EARLIER_JOB_FAILED,
        match error.never_ran() {
            true => message,
            false => format!("{message}; `pool dead retry {id}` resumes the chain"),
        },
    )
}

fn refuse<T>(reason: String) -> Result<T, BrokerError> {
    Err(BrokerError::Refused(reason))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::QueueName;

    fn handed(payload: &str, value: &str) -> String {
        String::from_utf8(hand_on(payload.as_bytes(), PREVIOUS, value.as_bytes())).unwrap()
    }

    #[test]
    fn a_job_without_arguments_gets_the_value_as_they_are() {
        for none in ["", " ", "null"] {
            assert_eq!(handed(none, "[1, 2]"), "[1, 2]");
        }
    }

    #[test]
    fn the_value_is_the_first_of_several_arguments() {
        assert_eq!(handed("[]", "[1]"), "[[1]]");
        assert_eq!(handed(" [ 2, 3 ] ", "1"), "[1, 2, 3 ]");
    }

    #[test]
    fn named_arguments_get_it_by_name() {
        assert_eq!(handed("{}", "1"), r#"{"previous":1}"#);
        assert_eq!(handed(r#"{"a": 2}"#, "{}"), r#"{"previous":{},"a": 2}"#);
    }

    #[test]
    fn what_is_no_json_is_handed_on_as_text() {
        assert_eq!(handed("[]", "two \"words\"\n"), r#"["two \"words\""]"#);
        assert_eq!(handed("", ""), "null");
        assert_eq!(hand_on(b"", PREVIOUS, b"\xff"), "\"\u{fffd}\"".as_bytes());
    }

    #[test]
    fn arguments_that_could_not_take_the_value_are_refused() {
        let follower = |payload: &str| {
            let queue = QueueName::new("default").unwrap();
            check_follower(&NewJob::new(queue, "work", payload), PREVIOUS)
        };
        for payload in ["", "null", "[]", "[1]", "{}", r#"{"a": 1}"#] {
            assert!(follower(payload).is_ok(), "{payload}");
        }
        for payload in ["1", "\"text\"", "[1", "{", r#"{"previous": 1}"#, "no JSON"] {
            assert!(follower(payload).is_err(), "{payload}");
        }
    }
}

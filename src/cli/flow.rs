//! What `pool enqueue` reads of groups and chains: jobs as lines of JSON, and the tasks that `--then`, `--on-done` and
//! `--on-failure` name.

use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, de::Error as _};
use serde_json::value::RawValue;

use crate::job::{JobId, Limit, NewJob, QueueName, check_name};
use crate::time::{Unix, parse_duration, parse_some_time};

use super::lines::name_of;
use super::report::{Code, Failure};

/// Problems of a file that are told at once.
const PROBLEMS_MAX: usize = 20;

/// A task and its arguments in one text, as in `resize {"width": 64}`.
#[derive(Clone, Debug)]
pub struct Step {
    task: String,
    payload: Vec<u8>,
}

impl FromStr for Step {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (task, args) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        check_name(task).map_err(|problem| format!("the task's name {problem}"))?;
        let args = args.trim();
        if !args.is_empty() && serde_json::from_str::<&RawValue>(args).is_err() {
            return Err("expected `TASK` or `TASK ARGS-JSON`; what follows the task is no JSON".into());
        }
        if !args.is_empty() && !args.starts_with(['[', '{']) {
            return Err(
                "its arguments must be a JSON array or object, into which another value is put".into(),
            );
        }
        Ok(Step {
            task: task.to_owned(),
            payload: args.as_bytes().to_vec(),
        })
    }
}

impl Step {
    /// The job that runs it, with the options of `like`, but not before others have ended.
    pub fn job(&self, like: &NewJob) -> NewJob {
        NewJob {
            id: JobId::generate(),
            task: self.task.as_str().into(),
            payload: self.payload.clone(),
            due: None,
            at_front: false,
            ..like.clone()
        }
    }
}

/// One line of a group's file: `task`, and what differs from the flags.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Member {
    task: String,
    args: Option<Box<RawValue>>,
    id: Option<JobId>,
    queue: Option<QueueName>,
    #[serde(default, rename = "in", deserialize_with = "duration")]
    delay: Option<Duration>,
    #[serde(default, deserialize_with = "some_time")]
    timeout: Option<Duration>,
    retries: Option<u32>,
    #[serde(default, deserialize_with = "duration")]
    result_ttl: Option<Duration>,
    #[serde(default, deserialize_with = "some_time")]
    expires: Option<Duration>,
    #[serde(default, deserialize_with = "limit")]
    limit: Option<Limit>,
}

/// A time as flags take it, such as `"30s"`, or a number of seconds.
fn duration<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
    let text = text_of_time(from)?;
    text.map(|text| parse_duration(&text).map_err(D::Error::custom))
        .transpose()
}

fn text_of_time<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    match serde_json::Value::deserialize(from)? {
        serde_json::Value::Null => Ok(None),
        serde_json::Value::String(text) => Ok(Some(text)),
        serde_json::Value::Number(seconds) => Ok(Some(seconds.to_string())),
        other => {
            let message =
                format!("a time is {other}; expected one such as `\"30s\"`, or a number of seconds");
            Err(D::Error::custom(message))
        }
    }
}

/// The same, of times that can't be none.
fn some_time<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
    let text = text_of_time(from)?;
    text.map(|text| parse_some_time(&text).map_err(D::Error::custom))
        .transpose()
}

/// A limit as the flag takes it, such as `"db=3"`.
fn limit<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Limit>, D::Error> {
    let text = Option::<String>::deserialize(from)?;
    text.map(|text| text.parse().map_err(D::Error::custom))
        .transpose()
}

impl Member {
    fn job(self, like: &NewJob) -> Result<NewJob, String> {
        check_name(&self.task).map_err(|problem| format!("`task` {problem}"))?;
        let payload = self.args.map(|args| args.get().as_bytes().to_vec());
        Ok(NewJob {
            id: self.id.unwrap_or_else(JobId::generate),
            queue: self.queue.unwrap_or_else(|| like.queue.clone()),
            task: self.task.into(),
            payload: payload.unwrap_or_default(),
            due: self.delay.map(|delay| Unix::now() + delay).or(like.due),
            timeout: self.timeout.or(like.timeout),
            retries: self.retries.or(like.retries),
            result_ttl: self.result_ttl.or(like.result_ttl),
            begin_by: self
                .expires
                .map(|expires| Unix::now() + expires)
                .or(like.begin_by),
            limit: self.limit.or_else(|| like.limit.clone()),
            ..like.clone()
        })
    }
}

/// The jobs of a group from a file, or from standard input for `-`; `like` has the options that the flags give.
pub fn read_group(path: &Path, like: &NewJob) -> Result<Vec<NewJob>, Failure> {
    let name = name_of(path);
    let text = if path == Path::new("-") {
        std::io::read_to_string(std::io::stdin())
    } else {
        std::fs::read_to_string(path)
    };
    let text = text.map_err(|error| Failure::new(Code::Usage, format!("cannot read {name}: {error}")))?;
    jobs(&name, &text, like)
}

fn jobs(name: &str, text: &str, like: &NewJob) -> Result<Vec<NewJob>, Failure> {
    let mut jobs = Vec::new();
    let mut problems = Vec::new();
    for (at, line) in text.lines().enumerate() {
        if line.trim().is_empty() {
            continue;
        }
        let member = serde_json::from_str::<Member>(line).map_err(|error| {
            let said = error.to_string();
            said.replace(" at line 1 column", " at column")
        });
        match member.and_then(|member| member.job(like)) {
            Ok(job) => jobs.push(job),
            Err(problem) => problems.push(format!("\n  line {}: {problem}", at + 1)),
        }
    }
    if problems.is_empty() {
        return Ok(jobs);
    }
    let count = match problems.len() {
        1 => "1 problem".to_owned(),
        count => format!("{count} problems"),
    };
    if problems.len() > PROBLEMS_MAX {
        problems.truncate(PROBLEMS_MAX);
        problems.push("\n  …".to_owned());
    }
    let message = format!("cannot enqueue the group: {count} in {name}{}", problems.concat());
    Err(Failure::new(Code::Usage, message)
        .hint(r#"a line is a job, as in {"task": "resize", "args": {"width": 64}, "queue": "images", "timeout": "30s"}"#))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn like() -> NewJob {
        NewJob {
            retries: Some(2),
            ..NewJob::new(QueueName::new("default").unwrap(), "group", "")
        }
    }

    #[test]
    fn a_line_says_what_differs_from_the_flags() {
        let text = r#"
            {"task": "a"}
            {"task": "b", "args": [1.0], "queue": "q", "timeout": "5s", "retries": 0, "id": "mine"}
        "#;
        let read = jobs("here", text, &like()).unwrap();
        assert_eq!(
            (&*read[0].task, read[0].queue.as_str(), read[0].retries),
            ("a", "default", Some(2))
        );
        assert!(read[0].payload.is_empty());
        let other = &read[1];
        assert_eq!(
            (other.id.as_str(), other.queue.as_str(), other.retries),
            ("mine", "q", Some(0))
        );
        assert_eq!(other.payload, b"[1.0]");
        assert_eq!(other.timeout, Some(Duration::from_secs(5)));
    }

    #[test]
    fn all_problems_are_told_with_their_lines() {
        let text = "{\"task\": \"a\"}\n{\"tusk\": \"a\"}\n\nno\n{\"task\": \"\"}\n{\"task\": \"a\", \"in\": \"soon\"}";
        let said = format!("{:?}", jobs("here", text, &like()).unwrap_err());
        for part in [
            "4 problems in here",
            "line 2: unknown field `tusk`",
            "line 4:",
            "line 5: `task` is empty",
            "line 6:",
        ] {
            assert!(said.contains(part), "{part}: {said}");
        }
    }

    #[test]
    fn a_step_is_a_task_and_perhaps_arguments() {
        let step: Step = "mail.send  {\"to\": \"ada\"} ".parse().unwrap();
        assert_eq!(
            (&*step.task, &*step.payload),
            ("mail.send", &b"{\"to\": \"ada\"}"[..])
        );
        assert!("mail.send".parse::<Step>().unwrap().payload.is_empty());
        assert!("mail send".parse::<Step>().is_err());
        assert!("".parse::<Step>().is_err());
    }
}

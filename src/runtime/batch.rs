//! Rust tasks that take many jobs a call and answer each.

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::executor::{Answer, Ending};
use super::native::{arguments, caught};
use super::task::{Context, TaskError, TaskResult};
use crate::job::JobError;
use crate::time::Mono;
use crate::wire::frame::Run;
use crate::wire::message::BatchTask;

/// A result in JSON, or why there is none.
type Reply = TaskResult<Vec<u8>>;
/// Jobs whose arguments were read, the others with the reason.
struct Sorted<'a, A> {
    fitting: Vec<&'a Run<'a>>,
    arguments: Vec<A>,
    /// A place for each job: `None` until it is answered.
    answers: Vec<Option<Answer>>,
}

/// Called with the jobs of one batch.
type Call<S> = Box<dyn Fn(&[Run<'_>], Mono, &mut Context<S>) -> Vec<Answer>>;

/// One registered batch task.
pub(super) struct Batch<S> {
    /// How its jobs are to be gathered.
    pub declared: BatchTask,
    call: Call<S>,
}

impl<S: 'static> Batch<S> {
    pub fn new<A, R, F>(size: u32, linger: Duration, run: F) -> Self
    where
        A: DeserializeOwned,
        R: Serialize,
        F: Fn(Vec<A>, &Context<S>) -> Vec<TaskResult<R>> + 'static,
    {
        let call = move |runs: &[Run<'_>], started: Mono, context: &mut Context<S>| {
            let Sorted {
                fitting,
                arguments,
                answers,
            } = sort(runs);
            if fitting.is_empty() {
                return fill(answers, Vec::new());
            }
            context.begin_batch(&fitting, started);
            let replies = caught(|| {
                let replies = run(arguments, context).into_iter();
                replies
                    .map(|reply| reply.and_then(|value| to_json(&value)))
                    .collect::<Vec<Reply>>()
            });
            let jobs = fitting.len();
            fill(answers, checked(replies, jobs))
        };
        Batch {
            declared: BatchTask {
                size: size.max(1),
                linger_ms: u32::try_from(linger.as_millis()).unwrap_or(u32::MAX),
            },
            call: Box::new(call),
        }
    }
}

impl<S> Batch<S> {
    /// Runs the jobs in one call: an answer for each, in order.
    pub fn answer(&self, runs: &[Run<'_>], started: Mono, context: &mut Context<S>) -> Vec<Answer> {
        (self.call)(runs, started, context)
    }
}

fn sort<'a, A: DeserializeOwned>(runs: &'a [Run<'a>]) -> Sorted<'a, A> {
    let mut sorted = Sorted {
        fitting: Vec::with_capacity(runs.len()),
        arguments: Vec::with_capacity(runs.len()),
        answers: Vec::with_capacity(runs.len()),
    };
    for run in runs {
        match arguments(run.payload) {
            Ok(read) => {
                sorted.fitting.push(run);
                sorted.arguments.push(read);
                sorted.answers.push(None);
            }
            Err(error) => sorted.answers.push(Some(own(Err(error)))),
        }
    }
    sorted
}

fn to_json(value: &impl Serialize) -> Reply {
    serde_json::to_vec(value).map_err(|error| TaskError::failed(format!("the result is no JSON: {error}")))
}

/// The replies as answers, one a job; what is wrong with the call is wrong for every job.
fn checked(replies: Result<Vec<Reply>, JobError>, jobs: usize) -> Vec<Answer> {
    let error = match replies {
        Ok(replies) if replies.len() == jobs => return replies.into_iter().map(own).collect(),
        Ok(replies) => wrong_number(replies.len(), jobs),
        Err(panic) => panic,
    };
    let failed = Answer {
        ending: Ending::Failure(error),
        result: Vec::new(),
        whole_batch: true,
    };
    vec![failed; jobs]
}

fn wrong_number(answers: usize, jobs: usize) -> JobError {
    JobError::new(
        "wrong answers",
        format!(
            "the batch task gave {answers} answers for {jobs} jobs; it must give one for each, in their order"
        ),
    )
}

/// A job's own answer.
fn own(reply: Reply) -> Answer {
    let (ending, result) = match reply {
        Ok(result) => (Ending::Success, result),
        Err(error) => (error.into_ending(), Vec::new()),
    };
    Answer {
        ending,
        result,
        whole_batch: false,
    }
}

fn fill(places: Vec<Option<Answer>>, answers: Vec<Answer>) -> Vec<Answer> {
    let mut answers = answers.into_iter();
    places
        .into_iter()
        .filter_map(|place| place.or_else(|| answers.next()))
        .collect()
}

//! Rust tasks that take many jobs a call and answer each.

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::call::{arguments, caught};
use super::executor::{Answer, Ending};
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
    serde_json::to_vec(value).map_err(|error| TaskError::no_json(&error))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::executor::Executor;
    use crate::{App, JobRef};

    fn app() -> Box<dyn Executor> {
        App::new()
            .batch_task("halve", 3, Duration::from_millis(20), |numbers: Vec<u32>, ctx| {
                assert!(!numbers.contains(&13), "unlucky");
                assert_eq!(ctx.jobs().len(), numbers.len());
                let even = |number: u32| number.is_multiple_of(2).then_some(number / 2);
                numbers
                    .into_iter()
                    .filter(|number| *number != 99)
                    .map(|number| even(number).ok_or(TaskError::failed("odd")))
                    .collect()
            })
            .batch_task("who", 3, Duration::ZERO, |none: Vec<()>, ctx| {
                let ids = ctx.jobs().iter().map(|job: &JobRef| Ok(job.id.clone()));
                ids.take(none.len()).collect()
            })
            .load()
            .unwrap()
    }

    fn answers(task: &str, payloads: &[&str]) -> Vec<(String, bool)> {
        let run = |payload: &&'static str| Run {
            execution: 1,
            timeout_ms: 0,
            attempt: 1,
            ordinal: 1,
            job_kind: 0,
            id: payload,
            queue: "q",
            task: "",
            payload: payload.as_bytes(),
        };
        let payloads: Vec<&'static str> = payloads.iter().map(|text| &*text.to_string().leak()).collect();
        let mut runs: Vec<Run<'_>> = payloads.iter().map(run).collect();
        runs.iter_mut().for_each(|run| run.task = task);
        let answers = app().execute_batch(&runs, Mono::default()).unwrap();
        let told = |answer: Answer| match answer.ending {
            Ending::Success => (String::from_utf8(answer.result).unwrap(), answer.whole_batch),
            Ending::Failure(error) | Ending::Rejected(error) => (error.to_string(), answer.whole_batch),
            ending => panic!("{ending:?}"),
        };
        answers.into_iter().map(told).collect()
    }

    fn own(text: &str) -> (String, bool) {
        (text.into(), false)
    }

    #[test]
    fn each_job_has_its_own_answer_in_its_place() {
        let said = answers("halve", &["4", "x", "3", "8"]);
        assert_eq!(said[0], own("2"));
        assert!(said[1].0.starts_with("wrong arguments: "), "{said:?}");
        assert_eq!(said[2..], [own("failure: odd"), own("4")]);
    }

    #[test]
    fn a_call_that_fails_fails_all_jobs_that_were_part_of_it() {
        let said = answers("halve", &["4", "x", "13"]);
        assert_eq!(said[0], ("panic: unlucky".into(), true));
        assert!(!said[1].1, "its arguments are its own fault");
        assert_eq!(said[2], said[0]);
    }

    #[test]
    fn a_wrong_number_of_answers_fails_all_jobs() {
        let said = answers("halve", &["4", "99"]);
        let message = "wrong answers: the batch task gave 1 answers for 2 jobs; it must give one for each, in their order";
        assert_eq!(said, [(message.to_owned(), true), (message.to_owned(), true)]);
    }

    #[test]
    fn a_task_knows_the_jobs_of_its_call() {
        assert_eq!(answers("who", &["null", "7", "null"])[0], own("\"null\""));
    }

    #[test]
    fn one_job_is_a_batch_of_one() {
        let mut result = Vec::new();
        let run = Run {
            execution: 1,
            timeout_ms: 0,
            attempt: 1,
            ordinal: 1,
            job_kind: 0,
            id: "a",
            queue: "q",
            task: "halve",
            payload: b"8",
        };
        assert_eq!(app().execute(&run, Mono::default(), &mut result), Ending::Success);
        assert_eq!(result, b"4");
        let declared = app().batches()["halve"];
        assert_eq!((declared.size, declared.linger_ms), (3, 20));
    }
}

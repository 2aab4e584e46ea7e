//! Rust tasks: typed functions by name, over a state that is loaded once.

use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::batch::Batch;
use super::call::{arguments, caught, record_panics};
use super::executor::{Answer, Ending, Executor, unknown_task};
use super::report::Tell;
use super::task::{Context, TaskError, TaskResult};
use crate::config::BATCH_SIZE_MAX;
use crate::job::{JobError, check_name};
use crate::time::Mono;
use crate::wire::frame::Run;
use crate::wire::message::BatchTask;

/// A program's tasks, and the state that they share.
///
/// ```no_run
/// use std::process::ExitCode;
/// use pool::{App, Context};
///
/// #[derive(serde::Deserialize)]
/// struct Greet { name: String }
///
/// fn main() -> ExitCode {
///     App::new()
///         .state(|| Ok(vec!["Hello", "Ahoy"])) // once, before the first fork: load models here
///         .task("greet", |args: Greet, ctx: &Context<Vec<&str>>| {
///             Ok(format!("{}, {}!", ctx.state()[0], args.name))
///         })
///         .main()
/// }
/// ```
///
/// That program *is* a `pool`: it has the whole command line, and its workers run those tasks.
pub struct App<S = ()> {
    load_state: Box<dyn FnOnce() -> TaskResult<S>>,
    after_fork: Option<AfterFork<S>>,
    tasks: BTreeMap<String, Task<S>>,
    batches: BTreeMap<String, Batch<S>>,
}

type AfterFork<S> = Box<dyn Fn(&S) -> TaskResult<()>>;
/// Reads the payload, runs, and appends the result.
type Task<S> = Box<dyn Fn(&[u8], &Context<S>, &mut Vec<u8>) -> TaskResult<()>>;

impl App {
    /// An app without tasks and without state.
    pub fn new() -> Self {
        App::with_state(|| Ok(()))
    }
}

impl Default for App {
    fn default() -> Self {
        App::new()
    }
}

impl<S> fmt::Debug for App<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tasks: Vec<_> = self.tasks.keys().collect();
        f.debug_struct("App")
            .field("tasks", &tasks)
            .finish_non_exhaustive()
    }
}

impl<S: 'static> App<S> {
    fn with_state(load: impl FnOnce() -> TaskResult<S> + 'static) -> Self {
        App {
            load_state: Box::new(load),
            after_fork: None,
            tasks: BTreeMap::new(),
            batches: BTreeMap::new(),
        }
    }

    /// Says how the state is loaded: once a generation, in the template, before the first fork. Workers
    /// share its memory until they write to it. It may not leave threads behind: a fork copies none. Comes first.
    ///
    /// # Panics
    /// When tasks or hooks for another state were registered before.
    #[must_use]
    pub fn state<T: 'static>(self, load: impl FnOnce() -> TaskResult<T> + 'static) -> App<T> {
        assert!(
            self.tasks.is_empty() && self.batches.is_empty() && self.after_fork.is_none(),
            "`App::state` comes before the tasks and hooks that use it"
        );
        App::with_state(load)
    }

    /// Registers a task under the name by which jobs ask for it.
    ///
    /// Its arguments come from the job's JSON; arguments that do not fit reject the job for good. Its result becomes
    /// JSON. A panic fails the job, not the worker.
    ///
    /// # Panics
    /// When the name is taken, empty, longer than 255 bytes or has control characters.
    #[must_use]
    pub fn task<A, R, F>(mut self, name: &str, run: F) -> Self
    where
        A: DeserializeOwned,
        R: Serialize,
        F: Fn(A, &Context<S>) -> TaskResult<R> + 'static,
    {
        let task = move |payload: &[u8], context: &Context<S>, result: &mut Vec<u8>| {
            let value = run(arguments(payload)?, context)?;
            serde_json::to_writer(result, &value).map_err(|error| TaskError::no_json(&error))
        };
        self.assert_new(name);
        self.tasks.insert(name.to_owned(), Box::new(task));
        self
    }

    /// Registers a task that takes its jobs in batches: up to `size` jobs, or what has come within `linger` since the
    /// first one, in one call. Producers enqueue single jobs.
    ///
    /// `run` gets the arguments of all jobs and answers each, in order; [`Context::jobs`] says which jobs they
    /// are. Jobs whose arguments do not fit are rejected and not part of the call. A panic, and a wrong number of answers, fail
    /// the whole batch. `[tasks.NAME]` can set another size and linger.
    ///
    /// ```
    /// # use pool::{App, Context, TaskResult};
    /// # use std::time::Duration;
    /// let app = App::new().batch_task("double", 100, Duration::from_millis(50), |numbers: Vec<i64>, _: &Context| {
    ///     numbers.into_iter().map(|number| Ok(2 * number)).collect()
    /// });
    /// ```
    ///
    /// # Panics
    /// When the name is none for a task (see [`App::task`]), or `size` is not 1 to 4096.
    #[must_use]
    pub fn batch_task<A, R, F>(mut self, name: &str, size: u32, linger: Duration, run: F) -> Self
    where
        A: DeserializeOwned,
        R: Serialize,
        F: Fn(Vec<A>, &Context<S>) -> Vec<TaskResult<R>> + 'static,
    {
        self.assert_new(name);
        assert!(
            (1..=BATCH_SIZE_MAX).contains(&size),
            "the batches of the task `{name}` are to have {size} jobs; expected 1 to {BATCH_SIZE_MAX}"
        );
        self.batches
            .insert(name.to_owned(), Batch::new(size, linger, run));
        self
    }

    fn assert_new(&self, name: &str) {
        if let Err(problem) = check_name(name) {
            panic!("the name of the task {name:?} {problem}");
        }
        let taken = self.tasks.contains_key(name) || self.batches.contains_key(name);
        assert!(!taken, "two tasks are named `{name}`");
    }

    /// Runs in each new worker before its first job: connections, threads and seeds of its own belong here.
    #[must_use]
    pub fn after_fork(mut self, hook: impl Fn(&S) -> TaskResult<()> + 'static) -> Self {
        self.after_fork = Some(Box::new(hook));
        self
    }

    /// Loads the state.
    pub(crate) fn load(self) -> Result<Box<dyn Executor>, JobError> {
        record_panics();
        let state = match caught(self.load_state) {
            Ok(Ok(state)) => state,
            Ok(Err(error)) => return Err(error_of(error)),
            Err(panic) => return Err(panic),
        };
        Ok(Box::new(Native {
            context: Context::new(Rc::new(state)),
            after_fork: self.after_fork,
            tasks: self.tasks,
            batches: self.batches,
        }))
    }
}

/// A loaded [`App`].
struct Native<S> {
    context: Context<S>,
    after_fork: Option<AfterFork<S>>,
    tasks: BTreeMap<String, Task<S>>,
    batches: BTreeMap<String, Batch<S>>,
}

impl<S> Executor for Native<S> {
    fn tasks(&self) -> Vec<String> {
        self.tasks.keys().chain(self.batches.keys()).cloned().collect()
    }

    fn batches(&self) -> BTreeMap<String, BatchTask> {
        let declared = self.batches.iter();
        declared
            .map(|(name, batch)| (name.clone(), batch.declared))
            .collect()
    }

    fn report_to(&mut self, tell: Tell) {
        self.context.report_to(tell);
    }

    fn after_fork(&mut self) -> Result<(), String> {
        let Some(hook) = &self.after_fork else {
            return Ok(());
        };
        match caught(|| hook(self.context.state())) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(error_of(error).to_string()),
            Err(panic) => Err(panic.to_string()),
        }
    }

    fn execute(&mut self, run: &Run<'_>, started: Mono, result: &mut Vec<u8>) -> Ending {
        let Some(task) = self.tasks.get(run.task) else {
            if let Some(answer) = self
                .execute_batch(std::slice::from_ref(run), started)
                .and_then(|mut all| all.pop())
            {
                *result = answer.result;
                return answer.ending;
            }
            return Ending::Rejected(unknown_task(run.task, &self.tasks()));
        };
        self.context.begin(run, started);
        match caught(|| task(run.payload, &self.context, result)) {
            Ok(Ok(())) => Ending::Success,
            Ok(Err(error)) => error.into_ending(),
            Err(panic) => Ending::Failure(panic),
        }
    }

    fn execute_batch(&mut self, runs: &[Run<'_>], started: Mono) -> Option<Vec<Answer>> {
        let batch = self.batches.get(runs.first()?.task)?;
        Some(batch.answer(runs, started, &mut self.context))
    }
}

/// An error of a loader or hook, where only failing makes sense.
fn error_of(error: TaskError) -> JobError {
    match error.into_ending() {
        Ending::Failure(error) | Ending::Rejected(error) | Ending::TimedOut(error) => error,
        Ending::Retry { reason, .. } => JobError::new("retry", reason),
        Ending::Success => unreachable!("no TaskError is a success"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use std::collections::HashMap;

    #[derive(Deserialize)]
    struct Resize {
        size: Size,
        #[serde(default)]
        note: String,
    }

    #[derive(Deserialize)]
    struct Size {
        width: u32,
    }

    fn app() -> Box<dyn Executor> {
        App::new()
            .state(|| Ok(vec![1, 2, 3]))
            .task("resize", |args: Resize, ctx: &Context<Vec<u32>>| {
                Ok((args.size.width, args.note, ctx.state().len(), ctx.attempt()))
            })
            .task("nothing", |(): (), _: &Context<_>| Ok(()))
            .task("odd", |(): (), _: &Context<_>| Ok(HashMap::from([((1, 2), 3)])))
            .task("defaults", |args: Defaults, _: &Context<_>| Ok(args.n))
            .task("retry", |(): (), _: &Context<_>| -> TaskResult<()> {
                Err(TaskError::retry_after(Duration::from_secs(3), "not yet"))
            })
            .task("panic", |(): (), _: &Context<_>| -> TaskResult<()> {
                panic!("out of {}", "luck")
            })
            .load()
            .unwrap()
    }

    #[derive(Deserialize)]
    struct Defaults {
        #[serde(default)]
        n: u32,
    }

    fn run(task: &str, payload: &str) -> (Ending, String) {
        let mut result = Vec::new();
        let run = Run {
            execution: 1,
            timeout_ms: 0,
            attempt: 2,
            ordinal: 1,
            job_kind: 0,
            id: "a",
            queue: "q",
            task,
            payload: payload.as_bytes(),
        };
        let ending = app().execute(&run, Mono::default(), &mut result);
        (ending, String::from_utf8(result).unwrap())
    }

    #[test]
    fn a_task_gets_typed_arguments_and_the_shared_state() {
        let (ending, result) = run("resize", r#"{"size": {"width": 7}, "note": "x"}"#);
        assert_eq!((ending, &*result), (Ending::Success, r#"[7,"x",3,2]"#));
    }

    #[test]
    fn arguments_that_do_not_fit_are_rejected_with_their_place() {
        for (payload, message) in [
            (
                r#"{"size": {"width": -1}}"#,
                "`size.width`: invalid value: integer `-1`, expected u32 at line 1 column 21",
            ),
            ("{}", "missing field `size` at line 1 column 2"),
            ("", "missing field `size` at line 1 column 2"),
            ("{", "EOF while parsing an object at line 1 column 1"),
            (
                r#"{"size": {"width": 1}} x"#,
                "trailing characters at line 1 column 24",
            ),
        ] {
            let (ending, _) = run("resize", payload);
            let expected = JobError::new("wrong arguments", message);
            assert_eq!(ending, Ending::Rejected(expected), "{payload}");
        }
    }

    #[test]
    fn no_arguments_are_null_or_an_empty_object() {
        for payload in ["", "null"] {
            assert_eq!(run("nothing", payload), (Ending::Success, "null".into()));
            assert_eq!(run("defaults", payload), (Ending::Success, "0".into()));
        }
    }

    #[test]
    fn a_task_that_is_not_registered_is_rejected() {
        let (ending, _) = run("resise", "{}");
        let message = "no task is named `resise`; did you mean `resize`?";
        assert_eq!(ending, Ending::Rejected(JobError::new("unknown task", message)));
    }

    #[test]
    fn a_result_that_is_not_json_fails_for_good() {
        let message = "the result is not JSON: key must be a string";
        let expected = Ending::Rejected(JobError::new("result not JSON", message));
        assert_eq!(run("odd", "").0, expected);
    }

    #[test]
    fn a_task_may_ask_to_be_run_again() {
        let expected = Ending::Retry {
            after: Some(Duration::from_secs(3)),
            reason: "not yet".into(),
        };
        assert_eq!(run("retry", "").0, expected);
    }

    #[test]
    fn a_panic_is_a_failure_that_says_where() {
        let (Ending::Failure(error), _) = run("panic", "") else {
            panic!("not a failure");
        };
        assert_eq!((&*error.kind, &*error.message), ("panic", "out of luck"));
        assert!(
            error.detail.starts_with("at src/runtime/native.rs:"),
            "{}",
            error.detail
        );
    }

    #[test]
    fn a_state_that_does_not_load_says_why() {
        let app = App::new().state(|| -> TaskResult<u32> { Ok("x".parse::<u32>()?) });
        let error = app.load().err().unwrap();
        assert_eq!(error.message, "invalid digit found in string");
    }

    #[test]
    #[should_panic(expected = "two tasks are named `nothing`")]
    fn a_name_is_registered_once() {
        let task = |(): (), _: &Context<()>| Ok(());
        let _ = App::new().task("nothing", task).task("nothing", task);
    }

    #[test]
    #[should_panic(expected = "the name of the task \"\" is empty")]
    fn a_task_has_a_name() {
        let _ = App::new().task("", |(): (), _: &Context<()>| Ok(()));
    }

    #[test]
    #[should_panic(expected = "are to have 5000 jobs; expected 1 to 4096")]
    fn a_batch_has_a_size_that_can_be() {
        let work = |jobs: Vec<()>, _: &Context<()>| jobs.into_iter().map(Ok).collect();
        let _ = App::new().batch_task("many", 5000, Duration::ZERO, work);
    }
}

//! `pool enqueue`: adds jobs, one or very many; prints their ids, or waits for what becomes of them.

use std::collections::BTreeSet;
use std::future::Future;
use std::io::Read;
use std::path::PathBuf;
use std::pin::Pin;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::broker::{Broker, NewGroup, Producer};
use crate::config::{ClientArgs, Wanted};
use crate::job::{GroupId, JobId, Limit, NameError, NewJob, QueueName, check_name};
use crate::time::{Unix, parse_duration, parse_some_time};

use super::at;
use super::client::{self, Access};
use super::flow::{self, Step};
use super::progress::Progress;
use super::report::{Code, Failure, Out, Outcome, note};
use super::send::{CHUNK_BYTES_MAX, CHUNK_JOBS_MAX, send};
use super::{json, lines, result, serving, wait};

/// Where jobs wait of which nothing else is known.
const DEFAULT_QUEUE: &str = "default";

/// Add a job to a queue and print its id
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  pool enqueue fib '{\"n\": 30}' --wait             run it now and print the result
  pool enqueue mail.send '[\"ada@example.org\"]' --in 10m --retries 3
  pool enqueue mail.send '[\"ada@example.org\"]' --at '2026-12-01 09:00'
  pool enqueue report - < arguments.json          arguments from standard input
  pool enqueue noop --count 100000 | wc -l        many at once
  pool enqueue shop.insert --jsonl orders.jsonl   one for each line of a file
  pool enqueue sync --key sync                    not twice while one waits or runs
  pool enqueue export --limit db=3                not more than three at once
  pool enqueue fetch '[\"a.png\"]' --then resize --then 'store [\"thumbs\"]'
                                                  one after the other, each with the result before it
  pool enqueue --group jobs.jsonl --on-done report
                                                  many jobs, and one more when all have ended")]
pub struct EnqueueArgs {
    /// Native task, `[tasks.NAME]` command or dotted Python function
    #[arg(value_parser = task_name, required_unless_present = "group")]
    task: Option<String>,
    /// Arguments as JSON; `-` reads them from standard input
    #[arg(value_name = "ARGS-JSON", allow_hyphen_values = true)]
    args: Option<String>,

    /// Queue to add it to [default: that of the task, else `default`]
    #[arg(long, short, value_name = "NAME", help_heading = "Job")]
    queue: Option<QueueName>,
    /// Run it after this time, such as `30s` or `2h`
    #[arg(long = "in", value_name = "TIME", value_parser = parse_duration, help_heading = "Job")]
    delay: Option<Duration>,
    /// Run it at this time or soon after: `2026-12-01T09:00:00Z`, `2026-12-01 09:00` in the time zone of this system, or with a zone behind
    /// it, such as `2026-12-01 09:00 Europe/Berlin`
    #[arg(long, value_name = "TIME", value_parser = at::parse, conflicts_with = "delay", help_heading = "Job")]
    at: Option<Unix>,
    /// Longest run [default: that of the task or the pool]
    #[arg(long, value_name = "TIME", value_parser = parse_some_time, help_heading = "Job")]
    timeout: Option<Duration>,
    /// Further runs if it fails [default: that of the task or the pool]
    #[arg(long, value_name = "N", help_heading = "Job")]
    retries: Option<u32>,
    /// How long its result can be read; 0 keeps none [default: that of the broker]
    #[arg(long, value_name = "TIME", value_parser = parse_duration, help_heading = "Job")]
    result_ttl: Option<Duration>,
    /// Put it in front of its queue
    #[arg(long, help_heading = "Job")]
    front: bool,
    /// Add nothing while another job with this key waits, is scheduled or runs, and print that job's id
    #[arg(long, value_name = "KEY", value_parser = key, help_heading = "Job")]
    key: Option<String>,
    /// Never run it if it has not begun after this time, such as `5m`
    #[arg(long, value_name = "TIME", value_parser = parse_some_time, help_heading = "Job")]
    expires: Option<Duration>,
    /// Run at most N jobs with this KEY at once, over all supervisors; others wait for their turn
    #[arg(long, value_name = "KEY=N", help_heading = "Job")]
    limit: Option<Limit>,
    /// Id of the job [default: a fresh one]
    #[arg(long, value_name = "ID", help_heading = "Job")]
    id: Option<JobId>,
    /// How many of these jobs to add
    #[arg(long, value_name = "N", default_value_t = 1, conflicts_with_all = ["id", "key"],
          value_parser = count, hide_default_value = true, help_heading = "Job")]
    count: u64,
    /// Add a job for each line of FILE; the line is its arguments as JSON. `-` reads standard input and adds lines as they
    /// come
    #[arg(long, value_name = "FILE", conflicts_with_all = ["args", "id", "key", "count", "then", "raw"], help_heading = "Job")]
    jsonl: Option<PathBuf>,

    /// Task to run afterwards with the result, with or without arguments: 'store ["thumbs"]'. Repeat it for a longer chain
    #[arg(long, value_name = "TASK", conflicts_with_all = ["key", "count"], help_heading = "Chain and group")]
    then: Vec<Step>,
    /// Add the jobs of FILE as a group and print the group's id. Each line is a JSON object with `task`, and if needed `args`,
    /// `id`, `queue`, `in`, `timeout`, `retries`, `result_ttl`, `expires`, `limit`. `-` reads standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = ["task", "args", "key", "count", "jsonl", "id", "then", "raw"], help_heading = "Chain and group")]
    group: Option<PathBuf>,
    /// Task to run once, when all jobs of the group have ended; it gets their counts
    #[arg(
        long,
        value_name = "TASK",
        requires = "group",
        conflicts_with = "task",
        help_heading = "Chain and group"
    )]
    on_done: Option<Step>,
    /// Task to run once, as soon as the first job of the group has failed for good
    #[arg(
        long,
        value_name = "TASK",
        requires = "group",
        conflicts_with = "task",
        help_heading = "Chain and group"
    )]
    on_failure: Option<Step>,

    /// Wait until it has ended, at most TIME, and print its result instead of its id. For a chain, that of the last job. For several jobs, one line each as `pool wait` prints them
    #[arg(long, value_name = "TIME", num_args = 0..=1, require_equals = true, value_parser = parse_duration, help_heading = "Result")]
    wait: Option<Option<Duration>>,
    /// Print a result that is a JSON string without its quotes, and bytes of a command as they were
    #[arg(long, requires = "wait", help_heading = "Result")]
    raw: bool,

    #[command(flatten, next_help_heading = "Connection")]
    client: ClientArgs,
}

fn task_name(text: &str) -> Result<String, NameError> {
    check_name(text).map(|()| text.to_owned())
}

fn count(text: &str) -> Result<u64, &'static str> {
    text.parse()
        .ok()
        .filter(|count| *count > 0)
        .ok_or("expected a whole number, 1 or more")
}

fn key(text: &str) -> Result<String, NameError> {
    task_name(text)
}

/// What was enqueued, and can be waited for.
enum Added {
    /// Jobs, each for itself.
    Jobs(Vec<JobId>),
    /// The last job of a chain.
    Chain(JobId),
    /// A group.
    Group(GroupId),
}

/// Adds the jobs.
pub async fn run(args: EnqueueArgs) -> Outcome {
    let job = new_job(&args, payload(args.args.as_deref())?);
    let group = args.group.as_deref().map(|file| flow::read_group(file, &job));
    let group = group.transpose()?;
    let config = client::config(&args.client, Wanted::Broker)?;
    let broker = client::open(&config, Access::Add).await?;
    let job = match (&args.queue, broker.queue_of(&job.task)) {
        (None, Some(queue)) => NewJob { queue, ..job },
        _ => job,
    };
    let queues = match &group {
        Some(jobs) => jobs.iter().map(|job| job.queue.clone()).collect(),
        None => BTreeSet::from([job.queue.clone()]),
    };
    let added_to = serving::Added {
        queues: &queues,
        later: job.due.is_some(),
        waits: args.wait.is_some(),
    };
    let outcome = async {
        let added = match group {
            Some(jobs) => add_group(&args, &job, jobs, &*broker).await?,
            None if !args.then.is_empty() => add_chain(&args, job, &*broker).await?,
            None => add_jobs(&args, &job, &*broker).await?,
        };
        let Some(timeout) = args.wait else {
            serving::tell(&config, &*broker, added_to).await;
            return Ok(());
        };
        let interrupted = signal(SignalKind::interrupt());
        let interrupted = interrupted.map_err(|error| Failure::new(Code::Failed, error.to_string()))?;
        serving::tell(&config, &*broker, added_to).await;
        wait_for(&added, &args, timeout, &*broker, interrupted).await
    };
    let outcome = outcome.await;
    broker.close().await?;
    outcome
}

async fn add_group(
    args: &EnqueueArgs,
    like: &NewJob,
    jobs: Vec<NewJob>,
    broker: &dyn Broker,
) -> Result<Added, Failure> {
    let callback = |step: &Step| step.job(like);
    let group = NewGroup {
        on_done: args.on_done.as_ref().map(callback),
        on_failure: args.on_failure.as_ref().map(callback),
        ..NewGroup::new(jobs)
    };
    let id = group.id.clone();
    broker.groups()?.enqueue(group).await?;
    if args.wait.is_none() {
        print_ids([id.as_str()])?;
    }
    Ok(Added::Group(id))
}

async fn add_chain(args: &EnqueueArgs, first: NewJob, broker: &dyn Broker) -> Result<Added, Failure> {
    let followers: Vec<NewJob> = args.then.iter().map(|step| step.job(&first)).collect();
    let last = followers.last().unwrap_or(&first).id.clone();
    let jobs = [vec![first], followers].concat();
    let ids: Vec<JobId> = jobs.iter().map(|job| job.id.clone()).collect();
    broker.chains()?.enqueue(jobs).await?;
    if args.wait.is_none() {
        print_ids(ids.iter().map(JobId::as_str))?;
    }
    Ok(Added::Chain(last))
}

async fn add_jobs(args: &EnqueueArgs, job: &NewJob, broker: &dyn Broker) -> Result<Added, Failure> {
    let mut ids = Vec::new();
    add(args, broker.producer()?, job, |added| {
        if args.wait.is_none() {
            return print_ids(added.iter().map(JobId::as_str));
        }
        ids.extend_from_slice(added);
        Ok(())
    })
    .await?;
    Ok(Added::Jobs(ids))
}

/// Waits for what was enqueued and prints its results. An interruption ends the wait and says how to go on with it.
async fn wait_for(
    added: &Added,
    args: &EnqueueArgs,
    timeout: Option<Duration>,
    broker: &dyn Broker,
    mut interrupted: Signal,
) -> Outcome {
    let reader = broker.reader()?;
    let (work, later): (Pin<Box<dyn Future<Output = Outcome>>>, String) = match added {
        Added::Jobs(ids) => match ids.as_slice() {
            [id] if args.jsonl.is_none() => (
                Box::pin(result::wait_and_print(reader, id, timeout, args.raw)),
                format!("job {id} goes on: `pool wait {id}`"),
            ),
            [] => return Ok(()),
            [first, .., last] => (
                Box::pin(wait::wait_and_print(reader, ids, timeout)),
                format!("{} jobs go on, from {first} to {last}", ids.len()),
            ),
            [id] => (
                Box::pin(wait::wait_and_print(reader, ids, timeout)),
                format!("job {id} goes on: `pool wait {id}`"),
            ),
        },
        Added::Chain(last) => (
            Box::pin(result::wait_and_print(reader, last, timeout, args.raw)),
            format!("the chain goes on, and job {last} is its last: `pool wait {last}`"),
        ),
        Added::Group(id) => (
            Box::pin(wait::wait_for_group(broker, id, timeout)),
            format!("the group goes on: `pool wait --group {id}`"),
        ),
    };
    tokio::select! {
        outcome = work => outcome,
        Some(()) = interrupted.recv() => {
            note(&format!("\nnote: {later}"));
            Err(Failure::silent(Code::Interrupted))
        }
    }
}

/// Prints ids for programs, one a line.
fn print_ids<'a>(ids: impl IntoIterator<Item = &'a str>) -> Outcome {
    let mut out = Out::new();
    for id in ids {
        out.raw(format!("{id}\n").as_bytes())?;
    }
    out.flush()
}

/// Adds all jobs that are asked for and calls `added` with the ids of each chunk.
async fn add(
    args: &EnqueueArgs,
    producer: &dyn Producer,
    job: &NewJob,
    added: impl FnMut(&[JobId]) -> Outcome,
) -> Outcome {
    match &args.jsonl {
        Some(file) => lines::add(producer, job, file, added).await,
        None => add_alike(producer, job, args.count, added).await,
    }
}

/// The arguments as the job carries them: nothing at all when none are given.
fn payload(args: Option<&str>) -> Result<Vec<u8>, Failure> {
    let text = match args {
        None => return Ok(Vec::new()),
        Some("-") => {
            let text = read_stdin()?;
            json::check("standard input", &text)?;
            text
        }
        Some(text) => {
            let quoting = r#"mind the shell: put it in single quotes, as in '{"n": 30}'"#;
            json::check("ARGS-JSON", text).map_err(|failure| failure.hint(quoting))?;
            text.to_owned()
        }
    };
    Ok(text.trim().as_bytes().to_vec())
}

fn read_stdin() -> Result<String, Failure> {
    let mut text = String::new();
    let read = std::io::stdin().read_to_string(&mut text);
    read.map_err(|error| Failure::new(Code::Usage, format!("cannot read standard input: {error}")))?;
    Ok(text)
}

fn new_job(args: &EnqueueArgs, payload: Vec<u8>) -> NewJob {
    // Without a task it is the pattern for the jobs of a group.
    let task = args.task.as_deref().unwrap_or_default();
    let queue = args.queue.clone();
    let queue = queue.unwrap_or_else(|| QueueName::new(DEFAULT_QUEUE).expect("it is short"));
    let mut job = NewJob::new(queue, task, payload);
    if let Some(id) = &args.id {
        job.id = id.clone();
    }
    job.due = args.at.or_else(|| args.delay.map(|delay| Unix::now() + delay));
    job.at_front = args.front;
    job.timeout = args.timeout;
    job.retries = args.retries;
    job.result_ttl = args.result_ttl;
    job.unique_key = args.key.as_deref().map(Into::into);
    job.begin_by = args.expires.map(|expires| Unix::now() + expires);
    job.limit.clone_from(&args.limit);
    job
}

/// Adds `count` jobs like `job`, in chunks.
async fn add_alike(
    producer: &dyn Producer,
    job: &NewJob,
    count: u64,
    mut added: impl FnMut(&[JobId]) -> Outcome,
) -> Outcome {
    let progress = Progress::new(count, "enqueued");
    let chunk_jobs = (CHUNK_BYTES_MAX / job.payload.len().max(1)).clamp(1, CHUNK_JOBS_MAX) as u64;
    let work = async {
        let mut left = count;
        while left > 0 {
            let now = left.min(chunk_jobs);
            let fresh = |_| NewJob {
                id: JobId::generate(),
                ..job.clone()
            };
            let jobs = if count == 1 {
                vec![job.clone()]
            } else {
                (0..now).map(fresh).collect()
            };
            send(producer, jobs, &progress, &mut added).await?;
            left -= now;
        }
        Ok(())
    };
    progress.during(work).await
}

//! `pool result`: what a job returned.

use std::time::Duration;

use crate::broker::Reader;
use crate::broker::flow::EARLIER_JOB_FAILED;
use crate::config::ClientArgs;
use crate::job::{JobError, JobId, JobState, JobView};
use crate::time::{Unix, parse_duration};

use super::choice::resolve;
use super::client::{self, Access};
use super::progress::Progress;
use super::report::{Code, Failure, Out, Outcome};
use super::{json, render, wait};

/// Print what a job returned
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "\
The exit code is 1 if the job failed (its error goes to standard error), has not ended, or is unknown.

Example:
  pool result 0199d1c5-6f3a-7c8e-9d55-0a1b2c3d4e5f --wait=30s")]
pub struct ResultArgs {
    /// Id as `pool enqueue` prints it, or its first letters
    #[arg(value_name = "JOB")]
    job: JobId,
    /// Wait until it has ended, at most TIME
    #[arg(long, value_name = "TIME", num_args = 0..=1, require_equals = true, value_parser = parse_duration)]
    wait: Option<Option<Duration>>,
    /// Print a result that is a JSON string without its quotes, and bytes of a command as they were
    #[arg(long)]
    raw: bool,

    #[command(flatten, next_help_heading = "Connection")]
    client: ClientArgs,
}

/// Looks the job up and prints its result.
pub async fn run(args: ResultArgs) -> Outcome {
    let broker = client::broker(&args.client, Access::Look).await?;
    let job = resolve(&*broker, &args.job).await?;
    let outcome = match args.wait {
        Some(timeout) => wait_and_print(broker.reader()?, &job, timeout, args.raw).await,
        None => look_up_and_print(broker.reader()?, &job, args.raw).await,
    };
    broker.close().await?;
    outcome
}

async fn look_up_and_print(reader: &dyn Reader, id: &JobId, raw: bool) -> Outcome {
    let found = reader.find(std::slice::from_ref(id)).await?;
    print(reader, id, found.into_iter().next().flatten().as_ref(), raw)
}

/// Waits for one job and prints its result alone.
pub async fn wait_and_print(
    reader: &dyn Reader,
    id: &JobId,
    timeout: Option<Duration>,
    raw: bool,
) -> Outcome {
    let progress = Progress::new(1, "waiting");
    let mut job = None;
    let open = wait::until_ended(reader, std::slice::from_ref(id), timeout, &progress, |ended| {
        job = ended.iter().find_map(|ended| ended.job.clone());
        Ok(())
    })
    .await?;
    drop(progress);
    match timeout {
        Some(timeout) if !open.is_empty() => Err(wait::open_after(timeout, 1, &open)),
        _ => print(reader, id, job.as_ref(), raw),
    }
}

fn print(reader: &dyn Reader, id: &JobId, job: Option<&JobView>, raw: bool) -> Outcome {
    let Some(job) = job else {
        let message = format!("there is no job {id}, or its result has expired");
        return Err(Failure::new(Code::Failed, message)
            .hint("is this the broker that it was enqueued on? see --broker"));
    };
    match job.state {
        JobState::Finished => print_value(job.result.as_deref().unwrap_or(b"null"), raw),
        JobState::Dead => Err(failed(job, reader.can_retry())),
        JobState::Waiting
        | JobState::Blocked
        | JobState::Scheduled
        | JobState::Deferred
        | JobState::Running => Err(not_ended(job, Unix::now())),
    }
}

fn print_value(result: &[u8], raw: bool) -> Outcome {
    let mut out = Out::new();
    if raw {
        out.raw(&json::raw(result))?;
    } else {
        out.json(&json::one_line(result))?;
    }
    out.flush()
}

fn failed(job: &JobView, can_retry: bool) -> Failure {
    let unknown = JobError::new("unknown", "it left no error");
    let error = job.error.as_ref().unwrap_or(&unknown);
    let detail = if error.detail.is_empty() {
        String::new()
    } else {
        format!("\n{}", error.detail)
    };
    let of_task = match &*job.task {
        "" => String::new(), // the broker does not say
        task => format!(" of task {task}"),
    };
    let message = format!("job {}{of_task} failed: {error}{detail}", job.id);
    let failure = Failure::new(Code::Failed, message);
    if error.kind == EARLIER_JOB_FAILED || error.never_ran() || !can_retry {
        // It can't be retried by itself. Where its chain failed, the error says what can.
        return failure;
    }
    failure.hint(format!("`pool dead retry {}` runs it again", job.id))
}

fn not_ended(job: &JobView, now: Unix) -> Failure {
    let message = match (job.state, job.due) {
        (JobState::Scheduled, Some(due)) if due > now => {
            format!("it is due in {}", render::age(due.since(now)))
        }
        (JobState::Scheduled, Some(due)) => format!("it was due {} ago", render::age(now.since(due))),
        (JobState::Running, _) => "it is running".to_owned(),
        (JobState::Deferred, _) => "it waits for other jobs to end".to_owned(),
        // The broker knows of it by its result alone.
        _ if job.enqueued == Unix::default() => "it waits, or there is no such job".to_owned(),
        _ => {
            let queue = job.queue.as_ref().map(|queue| format!(" in the queue `{queue}`"));
            let waits = render::age(now.since(job.enqueued));
            format!("it waits{} for {waits} now", queue.unwrap_or_default())
        }
    };
    Failure::new(Code::Failed, format!("job {} has not ended: {message}", job.id))
        .hint("wait for it with --wait")
}

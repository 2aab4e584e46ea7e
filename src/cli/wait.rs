//! `pool wait`: one JSON line a job as they end.

use std::convert::Infallible;
use std::future::pending;
use std::io::BufRead;
use std::time::Duration;

use serde::Serialize;
use serde_json::value::RawValue;

use crate::broker::{Broker, Ended, Reader, StateName};
use crate::config::ClientArgs;
use crate::job::{GroupId, JobError, JobId, JobState, JobView};
use crate::time::{Human, parse_duration};

use super::choice::resolve;
use super::client::{self, Access};
use super::json;
use super::progress::Progress;
use super::report::{Code, Failure, Out, Outcome};

/// After the time is up: how long those not watched yet may be looked at.
const LAST_LOOK_MAX: Duration = Duration::from_secs(1);

/// Jobs that it asks for at once.
const LAST_LOOK_JOBS: usize = 2_000;

/// From one look at how far a job is to the next.
const LOOKS_EVERY: Duration = Duration::from_secs(1);

/// Ids that an error about open jobs names.
const NAMED_MAX: usize = 5;

/// Wait until jobs have ended and print one JSON line for each
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "\
Each line has `id`, `state` (`finished`, `dead` or `unknown`) and `result` or `error`. The exit code is 0 only \
if all jobs finished.

Examples:
  pool wait 0199d1c5-6f3a-7c8e-9d55-0a1b2c3d4e5f --timeout 5m
  pool enqueue thumbnail '{\"size\": 64}' --count 100 | pool wait -
  pool wait --group $(pool enqueue --group jobs.jsonl)")]
pub struct WaitArgs {
    /// Ids as `pool enqueue` prints them, or their first letters; `-` reads whole ids from standard input, one a line
    #[arg(value_name = "JOB", required_unless_present = "group")]
    jobs: Vec<String>,
    /// All jobs of this group, as `pool enqueue --group` printed its id
    #[arg(long, value_name = "ID", conflicts_with = "jobs")]
    group: Option<GroupId>,
    /// Give up after this time, with exit code 1
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    timeout: Option<Duration>,

    #[command(flatten, next_help_heading = "Connection")]
    client: ClientArgs,
}

/// Waits and prints.
pub async fn run(args: WaitArgs) -> Outcome {
    let broker = client::broker(&args.client, Access::Look).await?;
    let outcome = match &args.group {
        None => {
            let ids = job_ids(&*broker, &args.jobs).await?;
            wait_and_print(broker.reader()?, &ids, args.timeout).await
        }
        Some(group) => wait_for_group(&*broker, group, args.timeout).await,
    };
    broker.close().await?;
    outcome
}

/// Ids as given, those from standard input in the place of `-`. One that was given may be shortened.
pub async fn job_ids(broker: &dyn Broker, given: &[String]) -> Result<Vec<JobId>, Failure> {
    let mut ids = Vec::with_capacity(given.len());
    for text in given {
        if text != "-" {
            ids.push(resolve(broker, &job_id(text)?).await?);
            continue;
        }
        for line in std::io::stdin().lock().lines() {
            let line = line
                .map_err(|error| Failure::new(Code::Usage, format!("cannot read standard input: {error}")))?;
            if !line.trim().is_empty() {
                ids.push(job_id(line.trim())?);
            }
        }
    }
    Ok(ids)
}

fn job_id(text: &str) -> Result<JobId, Failure> {
    JobId::new(text).map_err(|error| Failure::new(Code::Usage, format!("{text:?} is no job id: it {error}")))
}

/// Waits for all of them and prints a line for each; fails unless all finished.
pub async fn wait_and_print(reader: &dyn Reader, ids: &[JobId], timeout: Option<Duration>) -> Outcome {
    match print_as_they_end(reader, ids, timeout).await? {
        true => Ok(()),
        false => Err(Failure::silent(Code::Failed)),
    }
}

/// Waits for all members of a group and prints a line for each; fails if any failed.
pub async fn wait_for_group(broker: &dyn Broker, id: &GroupId, timeout: Option<Duration>) -> Outcome {
    let groups = broker.groups()?;
    if groups.find(id).await?.is_none() {
        let message = format!("there is no group {id}, or its results have expired");
        return Err(Failure::new(Code::Failed, message)
            .hint("is this the broker that it was enqueued on? see --broker"));
    }
    let members = groups.members(id).await?;
    let all_finished = print_as_they_end(broker.reader()?, &members, timeout).await?;
    // The group knows better: members that were to leave no result are unknown by now.
    let succeeded = match groups.find(id).await? {
        Some(group) => group.ended.is_some() && group.failed == 0,
        None => all_finished,
    };
    match succeeded {
        true => Ok(()),
        false => Err(Failure::silent(Code::Failed)),
    }
}

/// Prints a line for each as they end; whether all finished. Fails when the time is up before.
async fn print_as_they_end(
    reader: &dyn Reader,
    ids: &[JobId],
    timeout: Option<Duration>,
) -> Result<bool, Failure> {
    let progress = Progress::new(ids.len() as u64, "ended");
    let mut out = Out::new();
    let mut all_finished = true;
    let still_open = until_ended(reader, ids, timeout, &progress, |ended| {
        progress.aside(|| {
            for Ended { id, job, .. } in ended {
                all_finished &= job.as_ref().is_some_and(|job| job.state == JobState::Finished);
                out.json(&line(id, job.as_ref()))?;
            }
            out.flush()
        })
    })
    .await?;
    drop(progress);
    match timeout {
        Some(timeout) if !still_open.is_empty() => Err(open_after(timeout, ids.len(), &still_open)),
        _ => Ok(all_finished),
    }
}

/// Calls `each` with the jobs that have ended, whenever some have, until all have or the time is up. Returns the
/// ids of those that have not ended.
pub async fn until_ended(
    reader: &dyn Reader,
    ids: &[JobId],
    timeout: Option<Duration>,
    progress: &Progress,
    mut each: impl FnMut(&[Ended]) -> Outcome,
) -> Result<Vec<JobId>, Failure> {
    let mut is_open = vec![true; ids.len()];
    let mut tell = |ended: Vec<Ended>, is_open: &mut [bool]| {
        ended.iter().for_each(|ended| is_open[ended.at] = false);
        progress.advance(ended.len() as u64);
        each(&ended)
    };
    let mut watch = reader.watch(ids.to_vec());
    let work = async {
        loop {
            let ended = watch.next().await?;
            if ended.is_empty() {
                return Ok(());
            }
            tell(ended, &mut is_open)?;
        }
    };
    let work = progress.during(async {
        tokio::select! {
            done = work => done,
            never = show(reader, ids, progress) => match never {},
        }
    });
    match timeout {
        None => work.await?,
        Some(timeout) => tokio::time::timeout(timeout, work)
            .await
            .unwrap_or(Ok::<(), Failure>(()))?,
    }
    // The time is up: of those not watched yet, some may have ended all the same. With very many, or a broker
    // that does not answer, not all are looked at: those count as open.
    let open = positions(&is_open);
    let last_look = async {
        for page in open.chunks(LAST_LOOK_JOBS) {
            let asked: Vec<JobId> = page.iter().map(|at| ids[*at].clone()).collect();
            let found = page.iter().zip(asked.iter()).zip(reader.find(&asked).await?);
            let ended = found.filter(|(_, job)| job.as_ref().is_none_or(|job| job.state.is_final()));
            let ended = ended.map(|((at, id), job)| Ended {
                at: *at,
                id: id.clone(),
                job,
            });
            tell(ended.collect(), &mut is_open)?;
        }
        Ok(())
    };
    tokio::time::timeout(LAST_LOOK_MAX, last_look)
        .await
        .unwrap_or(Ok::<(), Failure>(()))?;
    Ok(positions(&is_open)
        .into_iter()
        .map(|at| ids[at].clone())
        .collect())
}

/// Shows a person at a terminal how far the only job says that it is. Nothing else needs to know, and nobody is told when
/// it changes: it is asked once a second.
async fn show(reader: &dyn Reader, ids: &[JobId], progress: &Progress) -> Infallible {
    let [only] = ids else {
        return pending().await;
    };
    if !progress.is_seen() {
        return pending().await;
    }
    loop {
        tokio::time::sleep(LOOKS_EVERY).await;
        let found = reader.find(std::slice::from_ref(only)).await.unwrap_or_default();
        if let Some(told) = found.into_iter().flatten().next().and_then(|job| job.progress) {
            progress.say(told.to_string());
        }
    }
}

fn positions(is_open: &[bool]) -> Vec<usize> {
    (0..is_open.len()).filter(|at| is_open[*at]).collect()
}

/// That the time is up, and who has not ended.
pub fn open_after(timeout: Duration, of: usize, open: &[JobId]) -> Failure {
    let timeout = Human(timeout);
    if let ([only], 1) = (open, of) {
        return Failure::new(Code::Failed, format!("job {only} has not ended after {timeout}"));
    }
    let mut named: Vec<&str> = open.iter().take(NAMED_MAX).map(JobId::as_str).collect();
    if open.len() > NAMED_MAX {
        named.push("…");
    }
    let named = named.join(", ");
    Failure::new(
        Code::Failed,
        format!(
            "{} of {of} jobs have not ended after {timeout}: {named}",
            open.len()
        ),
    )
}

/// One line of the contract.
#[derive(Serialize)]
struct Line<'a> {
    id: &'a JobId,
    state: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a JobError>,
}

fn line(id: &JobId, job: Option<&JobView>) -> String {
    let unknown = JobError::new("unknown job", "there is no such job, or its result has expired");
    let state = job.map_or("unknown", |job| StateName::of(job).as_str());
    let error = match job {
        None => Some(&unknown),
        Some(job) if job.state == JobState::Finished => None,
        Some(job) => job.error.as_ref(),
    };
    let result = job.filter(|job| job.state == JobState::Finished).and_then(|job| {
        let text = json::one_line(job.result.as_deref().unwrap_or(b"null"));
        RawValue::from_string(text.into_owned()).ok()
    });
    serde_json::to_string(&Line {
        id,
        state,
        result,
        error,
    })
    .expect("text keys and valid values")
}

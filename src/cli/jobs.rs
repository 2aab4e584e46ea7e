//! `pool jobs`: lists jobs and finds them; `pool jobs show`: all that is known of one.

use serde::Serialize;
use serde_json::value::RawValue;

use crate::broker::{Broker, Budget, Cursor, JobFilter, NotHere, Page, Search, StateName, Unseen};
use crate::config::{ClientArgs, Wanted};
use crate::control::client::call;
use crate::control::{Reply, Request};
use crate::fleet::snapshot::{ProcessSnapshot, Snapshot};
use crate::job::{JobId, JobState, JobView};
use crate::time::{Mono, Unix, seconds_to_duration};

use super::choice::{FilterArgs, PageArgs, resolve};
use super::client::{self, Access};
use super::report::{Code, Failure, Out, Outcome, note, print, print_json};
use super::{json, listing, render, screen};

/// List jobs, find them by what is known of them, show one
#[derive(clap::Args, Clone, Debug)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
One look goes through 20,000 jobs at the most, and says so if there are more. An id may be given by its first letters.

Examples:
  pool jobs                                   what runs, waits and has ended, the newest first
  pool jobs --state dead --error timeout --since 1h
  pool jobs --task mail.send --arg to=ada@example.org
  pool jobs show 0199d1c5-6f3a"
)]
pub struct JobsArgs {
    #[command(subcommand)]
    verb: Option<Verb>,
    #[command(flatten)]
    list: ListArgs,
}

#[derive(clap::Subcommand, Clone, Debug)]
enum Verb {
    /// Show all that is known of one: times, arguments, each run that failed, traceback
    Show(ShowArgs),
}

#[derive(clap::Args, Clone, Debug)]
struct ListArgs {
    #[command(flatten)]
    filter: FilterArgs,
    #[command(flatten)]
    page: PageArgs,

    #[command(flatten, next_help_heading = "Connection")]
    client: ClientArgs,
}

/// Which job, and how to show it.
#[derive(clap::Args, Clone, Debug)]
pub struct ShowArgs {
    /// Id of the job, or its first letters
    #[arg(value_name = "JOB")]
    job: JobId,
    /// One JSON object for programs
    #[arg(long)]
    json: bool,

    #[command(flatten, next_help_heading = "Connection")]
    pub client: ClientArgs,
}

/// Lists or shows.
pub async fn run(args: JobsArgs) -> Outcome {
    let client = match &args.verb {
        None => &args.list.client,
        Some(Verb::Show(show)) => &show.client,
    };
    let broker = client::broker(client, Access::Look).await?;
    let outcome = match &args.verb {
        None => list(&*broker, &args.list).await,
        Some(Verb::Show(args)) => show(&*broker, args).await,
    };
    broker.close().await?;
    outcome
}

async fn list(broker: &dyn Broker, args: &ListArgs) -> Outcome {
    let now = Unix::now();
    let filter = args.filter.filter(now);
    let search = broker.search()?;
    check_places(broker, search, &filter)?;
    let began = Mono::now();
    let page = look(search, &filter, args.page.after.as_ref(), args.page.limit).await?;
    let took = Mono::now().since(began);
    if args.page.json {
        return print_page_as_json(&page);
    }
    match page.jobs.as_slice() {
        [] => print("no jobs\n")?,
        jobs => print(&listing::jobs(jobs, &filter, now, screen::width()))?,
    }
    tell_how_far(&page, args.page.limit, took, args.page.after.is_none());
    Ok(())
}

/// One look of a list.
pub async fn look(
    search: &dyn Search,
    filter: &JobFilter,
    after: Option<&Cursor>,
    limit: usize,
) -> Result<Page, Failure> {
    let budget = Budget {
        jobs: limit,
        ..Budget::default()
    };
    Ok(search.search(filter, after, budget).await?)
}

/// Says on standard error where a look ended, if there is more.
pub fn tell_how_far(page: &Page, limit: usize, took: std::time::Duration, is_first: bool) {
    if let Some(next) = &page.next {
        let searched = listing::searched(page, limit, took, is_first);
        let more = searched.unwrap_or_else(|| "there may be more".to_owned());
        note(&format!("{more}; go on with --after '{next}'"));
    }
}

/// Places that are asked for and can't be looked into: an error if there are no others, else a note.
fn check_places(broker: &dyn Broker, search: &dyn Search, filter: &JobFilter) -> Outcome {
    let places = filter.places();
    let unseen = search.unseen();
    let unseen: Vec<_> = unseen
        .iter()
        .filter(|unseen| places.contains(&unseen.place))
        .collect();
    if let Some(first) = unseen.first()
        && unseen.len() == places.len()
    {
        return Err(NotHere {
            ability: "list of such jobs",
            broker: broker.url().to_owned(),
            instead: first.why,
        }
        .into());
    }
    // Few jobs are ever blocked: that is said to who asks for them.
    let is_told = |unseen: &&Unseen| unseen.place != JobState::Blocked || !filter.states.is_empty();
    tell_unseen(unseen.into_iter().filter(is_told));
    Ok(())
}

/// Says on standard error which places can't be looked into, a line a reason.
pub fn tell_unseen<'u>(unseen: impl Iterator<Item = &'u Unseen>) {
    let mut whys: Vec<(&str, Vec<&str>)> = Vec::new();
    for unseen in unseen {
        match whys.iter_mut().find(|(why, _)| *why == unseen.why) {
            Some((_, places)) => places.push(unseen.place.as_str()),
            None => whys.push((unseen.why, vec![unseen.place.as_str()])),
        }
    }
    for (why, places) in whys {
        note(&format!("note: {} jobs are not listed: {why}", places.join(", ")));
    }
}

/// Prints an object a line, and where to go on.
pub fn print_page_as_json(page: &Page) -> Outcome {
    #[derive(Serialize)]
    struct More {
        next: String,
        searched: u64,
    }
    let mut out = Out::new();
    page.jobs.iter().try_for_each(|job| out.json(&as_json(job)))?;
    if let Some(next) = &page.next {
        let more = More {
            next: next.to_string(),
            searched: page.searched.iter().map(|place| place.rows).sum(),
        };
        out.json(&serde_json::to_string(&more).expect("text keys and valid values"))?;
    }
    out.flush()
}

/// Shows one job.
pub async fn show(broker: &dyn Broker, args: &ShowArgs) -> Outcome {
    let id = resolve(broker, &args.job).await?;
    let found = broker.reader()?.find(std::slice::from_ref(&id)).await?;
    let Some(job) = found.into_iter().next().flatten() else {
        let message = format!("there is no job {id}, or it was deleted");
        return Err(Failure::new(Code::Failed, message)
            .hint("is this the broker that it was enqueued on? see --broker"));
    };
    if args.json {
        return print_json(&as_json(&job));
    }
    let running = match job.state {
        JobState::Running => who_runs(args, &id),
        _ => None,
    };
    print(&listing::job(
        &job,
        running.as_deref(),
        Unix::now(),
        screen::width(),
    ))
}

/// Who runs a job, if it is the supervisor of this configuration and it answers.
fn who_runs(args: &ShowArgs, id: &JobId) -> Option<String> {
    let config = client::config(&args.client, Wanted::Supervisor).ok()?;
    match call(&config.socket, &Request::Status, Some(client::BRIEFLY)).ok()? {
        Reply::Snapshot { snapshot } => running_in(&snapshot, id),
        _ => None,
    }
}

/// `for 12s, by worker 3 (pid 4711) of pool default`
fn running_in(snapshot: &Snapshot, id: &JobId) -> Option<String> {
    let is_it = |process: &&ProcessSnapshot| process.job.as_deref() == Some(id.as_str());
    snapshot.pools.iter().find_map(|(pool, shown)| {
        let process = shown.processes.iter().find(is_it)?;
        let since = seconds_to_duration(process.since_s).unwrap_or_default();
        let pid = process.pid.map_or(String::new(), |pid| format!(" (pid {pid})"));
        Some(format!(
            "for {}, by worker {}{pid} of pool {pool}",
            render::age(since),
            process.worker
        ))
    })
}

/// A job with its arguments, as programs read it.
fn as_json(job: &JobView) -> String {
    #[derive(Serialize)]
    struct WithArguments<'a> {
        state: &'static str,
        #[serde(flatten)]
        job: &'a JobView,
        arguments: Option<Box<RawValue>>,
    }
    let arguments = match job.payload.as_slice() {
        [] => None,
        payload => RawValue::from_string(json::one_line(payload).into_owned()).ok(),
    };
    serde_json::to_string(&WithArguments {
        state: StateName::of(job).as_str(),
        job,
        arguments,
    })
    .expect("text keys and valid values")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::fleet::snapshot::PoolSnapshot;

    #[test]
    fn who_runs_a_job_is_seen_in_the_picture() {
        let busy = ProcessSnapshot {
            worker: 3,
            pid: Some(4711),
            job: Some("a".to_owned()),
            since_s: 12.4,
            ..ProcessSnapshot::default()
        };
        let pool = PoolSnapshot {
            processes: vec![ProcessSnapshot::default(), busy],
            ..PoolSnapshot::default()
        };
        let snapshot = Snapshot {
            pools: BTreeMap::from([("mail".to_owned(), pool)]),
            ..Snapshot::default()
        };
        let found = |id: &str| running_in(&snapshot, &JobId::new(id).unwrap());
        let expected = "for 12s, by worker 3 (pid 4711) of pool mail";
        assert_eq!(found("a").as_deref(), Some(expected));
        assert_eq!(found("b"), None);
    }
}

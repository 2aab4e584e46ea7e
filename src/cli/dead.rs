//! `pool dead`: the jobs that failed for good: look at them, run them again, forget them.

use std::collections::HashSet;

use crate::broker::{Broker, DeadFilter, DeadLetters, JobFilter, Search};
use crate::config::ClientArgs;
use crate::job::{JobError, JobId, JobView, QueueName};
use crate::time::{Mono, Unix};
use clap::ArgGroup;

use super::choice::{PageArgs, count};
use super::client::{self, Access};
use super::confirm::{self, confirm};
use super::jobs::{ShowArgs, look, print_page_as_json, show, tell_how_far};
use super::report::{Code, Failure, Outcome, note, print};
use super::{listing, screen, wait};

/// Jobs that are looked up, retried or deleted at once.
const CHUNK: usize = 1_000;

/// What `--all` means to who retries; see [`Change::leaves_out`].
const RETRY_ALL: &str = "All jobs that failed for good, or those that match --queue and --task; not those that were stopped, \
                         canceled or expired";

/// See, retry and delete the jobs that failed for good
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  pool dead list --task mail.send
  pool dead show 0199d1c5-6f3a-7c8e-9d55-0a1b2c3d4e5f
  pool dead retry --all --queue mail
  pool dead delete --all --dry-run            count them
  pool dead delete --all --yes                without being asked")]
pub struct DeadArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand, Clone, Debug)]
enum Verb {
    /// List them, the newest first
    List(ListArgs),
    /// Show all that is known of one: arguments, error, traceback
    Show(ShowArgs),
    /// Put them back into their queues, as if they were new
    #[command(mut_arg("all", |all| all.help(RETRY_ALL)))]
    Retry(ChosenArgs),
    /// Delete them
    Delete(DeleteArgs),
}

#[derive(clap::Args, Clone, Debug)]
struct ListArgs {
    #[command(flatten)]
    page: PageArgs,

    #[command(flatten)]
    filter: FilterArgs,
    #[command(flatten, next_help_heading = "Connection")]
    client: ClientArgs,
}

#[derive(clap::Args, Clone, Debug)]
#[command(group = ArgGroup::new("which").required(true))]
struct ChosenArgs {
    /// Ids of jobs, or their first letters; `-` reads whole ids from standard input, one a line
    #[arg(value_name = "JOB", group = "which")]
    jobs: Vec<String>,
    /// All jobs that failed for good, or those that match --queue and --task
    #[arg(long, group = "which")]
    all: bool,

    #[command(flatten)]
    filter: FilterArgs,
    #[command(flatten, next_help_heading = "Connection")]
    client: ClientArgs,
}

#[derive(clap::Args, Clone, Debug)]
struct DeleteArgs {
    /// Only count those that match
    #[arg(long, conflicts_with = "jobs")]
    dry_run: bool,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
    #[command(flatten)]
    chosen: ChosenArgs,
}

#[derive(clap::Args, Clone, Debug)]
struct FilterArgs {
    /// Only of this queue
    #[arg(long, short, value_name = "NAME")]
    queue: Option<QueueName>,
    /// Only of this task
    #[arg(long, value_name = "NAME")]
    task: Option<String>,
}

impl FilterArgs {
    /// Those that match, as they are searched for.
    fn matching(&self, dead: &dyn DeadLetters) -> JobFilter {
        JobFilter {
            states: dead.states().to_vec(),
            queue: self.queue.clone(),
            task: self.task.clone(),
            ..JobFilter::default()
        }
    }

    fn newest(&self, limit: usize) -> DeadFilter {
        DeadFilter {
            queue: self.queue.clone(),
            task: self.task.clone(),
            ended_by: None,
            limit,
        }
    }
}

/// Runs the verb below `dead`.
pub async fn run(args: DeadArgs) -> Outcome {
    let client = match &args.verb {
        Verb::List(args) => &args.client,
        Verb::Show(args) => &args.client,
        Verb::Retry(args) => &args.client,
        Verb::Delete(args) => &args.chosen.client,
    };
    let broker = client::broker(client, Access::Look).await?;
    let outcome = match &args.verb {
        Verb::List(args) => match broker.dead_letters() {
            Ok(dead) => list(dead, broker.search()?, args).await,
            // There are none: no mistake of who asks.
            Err(none) => {
                note(&format!("note: {none}"));
                Ok(())
            }
        },
        Verb::Show(args) => show(&*broker, args).await,
        Verb::Retry(args) => change(&*broker, args, Change::Retry).await,
        Verb::Delete(args) => delete(&*broker, args).await,
    };
    broker.close().await?;
    outcome
}

async fn list(dead: &dyn DeadLetters, search: &dyn Search, args: &ListArgs) -> Outcome {
    let filter = args.filter.matching(dead);
    let began = Mono::now();
    let page = look(search, &filter, args.page.after.as_ref(), args.page.limit).await?;
    let took = Mono::now().since(began);
    if args.page.json {
        return print_page_as_json(&page);
    }
    match page.jobs.as_slice() {
        [] => print("no dead letters\n")?,
        jobs => print(&listing::dead_letters(jobs, Unix::now(), screen::width()))?,
    }
    tell_how_far(&page, args.page.limit, took, args.page.after.is_none());
    Ok(())
}

#[derive(Clone, Copy)]
enum Change {
    Retry,
    Delete,
}

impl Change {
    async fn carry_out(self, dead: &dyn DeadLetters, ids: &[JobId]) -> Result<Vec<JobId>, Failure> {
        Ok(match self {
            Change::Retry => dead.retry(ids).await?,
            Change::Delete => dead.delete(ids).await?,
        })
    }

    /// Whether a dead letter stays as it is unless it is named: who retries all of them means those that failed.
    fn leaves_out(self, job: &JobView) -> bool {
        match self {
            Change::Retry => job.error.as_ref().is_some_and(JobError::is_cancellation),
            Change::Delete => false,
        }
    }

    fn done(self) -> &'static str {
        match self {
            Change::Retry => "put back",
            Change::Delete => "deleted",
        }
    }
}

/// All that match are counted first, and somebody is asked.
async fn delete(broker: &dyn Broker, args: &DeleteArgs) -> Outcome {
    if args.chosen.all {
        let filter = args.chosen.filter.matching(broker.dead_letters()?);
        let count = count(broker.search()?, &filter).await?;
        if args.dry_run {
            return print(&confirm::matching(dead_letters(count), count));
        }
        // With nothing there, there is nothing to ask.
        confirm(&format!("delete {}", dead_letters(count)), args.yes || count == 0)?;
    }
    change(broker, &args.chosen, Change::Delete).await
}

async fn change(broker: &dyn Broker, args: &ChosenArgs, change: Change) -> Outcome {
    let dead = broker.dead_letters()?;
    if args.all {
        let tally = change_all(dead, args.filter.newest(CHUNK), change).await?;
        print(&counted(change, tally.changed))?;
        if tally.left_out > 0 {
            note(&left_out(tally.left_out));
        }
        return Ok(());
    }
    let ids = wait::job_ids(broker, &args.jobs).await?;
    let mut found = HashSet::new();
    for chunk in ids.chunks(CHUNK) {
        found.extend(change.carry_out(dead, chunk).await?);
    }
    print(&counted(change, found.len()))?;
    let missing: Vec<&str> = ids
        .iter()
        .filter(|id| !found.contains(*id))
        .map(JobId::as_str)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let message = format!("not {}: {}", change.done(), missing.join(", "));
    Err(Failure::new(Code::Failed, message)
        .hint("`pool dead list` shows which are dead letters; one whose key another job holds has to wait for that one, \
               one that has expired never runs, one that was canceled is enqueued anew, and one that never ran comes back \
               with the job of its chain that failed"))
}

fn counted(change: Change, count: usize) -> String {
    format!("{} {}\n", change.done(), dead_letters(count as u64))
}

/// `1 dead letter`, `12 dead letters`
fn dead_letters(count: u64) -> String {
    format!("{count} dead letter{}", if count == 1 { "" } else { "s" })
}

fn left_out(count: usize) -> String {
    let was = if count == 1 {
        "1 that was"
    } else {
        &format!("{count} that were")
    };
    format!(
        "note: left out {was} stopped, canceled or expired; `pool dead retry ID` runs one that was stopped, and what never ran \
         is enqueued anew"
    )
}

/// What became of all that matched.
#[derive(Default)]
struct Tally {
    changed: usize,
    /// See [`Change::leaves_out`].
    left_out: usize,
}

/// Walks from the newest to the oldest, in chunks: those that die again meanwhile are newer than where it began.
async fn change_all(
    dead: &dyn DeadLetters,
    mut filter: DeadFilter,
    change: Change,
) -> Result<Tally, Failure> {
    filter.limit = CHUNK;
    let mut ended_by = Unix::now();
    let (mut seen, mut tally) = (HashSet::new(), Tally::default());
    loop {
        filter.ended_by = Some(ended_by);
        let page = dead.list(&filter).await?;
        let is_last = page.len() < filter.limit;
        let oldest = page.iter().filter_map(|job| job.ended).min();
        let new = page.into_iter().filter(|job| seen.insert(job.id.clone()));
        let (left_out, meant): (Vec<JobView>, Vec<JobView>) = new.partition(|job| change.leaves_out(job));
        let ids: Vec<JobId> = meant.into_iter().map(|job| job.id).collect();
        tally.changed += change.carry_out(dead, &ids).await?.len();
        tally.left_out += left_out.len();
        if is_last {
            return Ok(tally);
        }
        if ids.is_empty() && left_out.is_empty() {
            // As many as fit on a page died in one millisecond, and stay what they are.
            filter.limit *= 2;
        }
        ended_by = oldest.unwrap_or(ended_by);
    }
}

/// Deletes all that match; how many.
pub async fn delete_all(dead: &dyn DeadLetters, filter: DeadFilter) -> Result<u64, Failure> {
    Ok(change_all(dead, filter, Change::Delete).await?.changed as u64)
}

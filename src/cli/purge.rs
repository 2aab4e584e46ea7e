//! `pool purge`: deletes what waits in a queue.

use crate::broker::{Broker, DeadFilter};
use crate::config::ClientArgs;
use crate::job::QueueName;

use super::client::{self, Access};
use super::confirm::{self, confirm};
use super::dead;
use super::progress::Progress;
use super::report::{Failure, Outcome, print};

/// Jobs that are deleted in one step.
const CHUNK: usize = 500;

/// Delete all jobs that wait in a queue
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "\
They are gone without a record; `pool cancel --queue NAME` keeps one. Jobs that run go on.

Examples:
  pool purge mail --dry-run                   count them
  pool purge mail --scheduled --dead --yes    also those that are due later, and dead letters")]
pub struct PurgeArgs {
    /// The queue
    #[arg(value_name = "QUEUE")]
    queue: QueueName,
    /// Also jobs for it that are due later
    #[arg(long)]
    scheduled: bool,
    /// Also its dead letters
    #[arg(long)]
    dead: bool,
    /// Only count them
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,

    #[command(flatten, next_help_heading = "Connection")]
    client: ClientArgs,
}

/// Counts, asks, deletes.
pub async fn run(args: PurgeArgs) -> Outcome {
    let broker = client::broker(&args.client, Access::Look).await?;
    let outcome = purge(&*broker, &args).await;
    broker.close().await?;
    outcome
}

async fn purge(broker: &dyn Broker, args: &PurgeArgs) -> Outcome {
    let queue = std::slice::from_ref(&args.queue);
    let backlog = broker.queues().backlog(queue).await?;
    let blocked: u64 = broker.queues().blocked(queue).await?.into_iter().sum();
    let waiting = backlog.waiting();
    let scheduled = if args.scheduled { backlog.scheduled } else { 0 };
    let mut found = vec![format!("{waiting} waiting")];
    found.extend((blocked > 0).then(|| format!("{blocked} blocked")));
    found.extend(args.scheduled.then(|| format!("{scheduled} scheduled")));
    found.extend(args.dead.then(|| "its dead letters".to_owned()));
    let found = format!("{} in queue {}", found.join(", "), args.queue);
    if args.dry_run {
        return print(&format!("{found}\n"));
    }
    // With nothing there, there is nothing to ask.
    confirm(
        &format!("delete {found}"),
        args.yes || waiting + blocked + scheduled == 0 && !args.dead,
    )?;
    let deleted = delete(broker, args).await?;
    print(&format!("deleted {}\n", confirm::jobs(deleted)))
}

/// In steps, so that others come to their turn in between. What comes meanwhile is not waited for.
async fn delete(broker: &dyn Broker, args: &PurgeArgs) -> Result<u64, Failure> {
    let purge = broker.purge()?;
    let progress = Progress::counting("deleted");
    let work = async {
        let mut deleted = 0;
        for is_scheduled in [false, true] {
            let mut gone = match is_scheduled && !args.scheduled {
                true => 0,
                false => CHUNK as u64,
            };
            while gone >= CHUNK as u64 {
                gone = match is_scheduled {
                    false => purge.purge_waiting(&args.queue, CHUNK).await?,
                    true => purge.purge_scheduled(&args.queue, CHUNK).await?,
                };
                deleted += gone;
                progress.advance(gone);
            }
        }
        if args.dead {
            let of_queue = DeadFilter {
                queue: Some(args.queue.clone()),
                ..DeadFilter::default()
            };
            deleted += dead::delete_all(broker.dead_letters()?, of_queue).await?;
        }
        Ok(deleted)
    };
    progress.during(work).await
}

//! `pool cancel` and `pool stop-job`: jobs that are not to run, or not to run on.

use crate::broker::{Broker, Canceled, Control, JobFilter, Search, StateName};
use crate::config::ClientArgs;
use crate::job::JobId;
use crate::time::Unix;

use super::choice::{FilterArgs, count, each_page};
use super::client::{self, Access};
use super::confirm::{self, confirm};
use super::jobs::tell_unseen;
use super::progress::Progress;
use super::report::{Code, Failure, Outcome, print};
use super::wait::job_ids;

/// Jobs that are canceled in one step.
const CHUNK: usize = 500;

/// Jobs that an answer names.
const NAMED_MAX: usize = 5;

/// Where a job is that can be canceled.
const CANCELABLE: [StateName; 4] = [
    StateName::Waiting,
    StateName::Blocked,
    StateName::Scheduled,
    StateName::Deferred,
];

/// Cancel jobs that have not begun: by id, or all that match
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "\
A canceled job never runs, and its record says so: `pool jobs --state canceled`. One that a supervisor holds, and that has not \
begun, is taken back. One that runs is left alone: see `pool stop-job`. An id may be given by its first letters.

Examples:
  pool cancel 0199d1c5-6f3a-7c8e-9d55-0a1b2c3d4e5f
  pool cancel --queue mail --task mail.send --dry-run     count them
  pool cancel --state scheduled --yes                     without being asked")]
pub struct CancelArgs {
    /// Ids of jobs; `-` reads them from standard input, one a line
    #[arg(value_name = "JOB")]
    jobs: Vec<String>,
    #[command(flatten, next_help_heading = "Instead of ids: all that match")]
    filter: FilterArgs,
    /// Only count those that match
    #[arg(long, conflicts_with = "jobs")]
    dry_run: bool,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,

    #[command(flatten, next_help_heading = "Connection")]
    client: ClientArgs,
}

/// Stop jobs for good, also those that run
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "\
The worker of a running job is killed, and the job does not run again: its record says that it was stopped. One that has not begun \
is canceled.

Examples:
  pool stop-job 0199d1c5-6f3a-7c8e-9d55-0a1b2c3d4e5f
  pool jobs --state running --task report --json | jq -r .id | pool stop-job -")]
pub struct StopJobArgs {
    /// Ids of jobs, or their first letters; `-` reads them from standard input, one a line
    #[arg(value_name = "JOB", required = true)]
    jobs: Vec<String>,

    #[command(flatten, next_help_heading = "Connection")]
    client: ClientArgs,
}

/// `pool cancel`
pub async fn cancel(args: CancelArgs) -> Outcome {
    let filter = args.filter.filter(Unix::now());
    let is_filtered = filter != JobFilter::default();
    if is_filtered != args.jobs.is_empty() {
        let message = match is_filtered {
            true => "ids and conditions can't be given together",
            false => "it is not said which jobs to cancel",
        };
        let hint = "give ids, or conditions such as --queue and --task; `pool purge` empties a queue";
        return Err(Failure::new(Code::Usage, message).hint(hint));
    }
    let broker = client::broker(&args.client, Access::Look).await?;
    let outcome = match is_filtered {
        true => cancel_matching(&*broker, filter, &args).await,
        false => call_off(&*broker, &args.jobs, How::Cancel).await,
    };
    broker.close().await?;
    outcome
}

/// `pool stop-job`
pub async fn stop_job(args: StopJobArgs) -> Outcome {
    let broker = client::broker(&args.client, Access::Look).await?;
    let outcome = call_off(&*broker, &args.jobs, How::Stop).await;
    broker.close().await?;
    outcome
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum How {
    Cancel,
    Stop,
}

async fn call_off(broker: &dyn Broker, given: &[String], how: How) -> Outcome {
    let control = broker.control()?;
    let ids = job_ids(broker, given).await?;
    let mut tally = Tally::default();
    let progress = Progress::new(ids.len() as u64, "canceled");
    let work = async {
        for chunk in ids.chunks(CHUNK) {
            let answers = match how {
                How::Cancel => control.cancel(chunk).await?,
                How::Stop => control.stop(chunk).await?,
            };
            tally.add(chunk, answers);
            progress.advance(chunk.len() as u64);
        }
        Ok::<(), Failure>(())
    };
    progress.during(work).await?;
    print(&tally.told(how))?;
    match tally.is_clean() {
        true => Ok(()),
        false => Err(Failure::silent(Code::Failed)),
    }
}

async fn cancel_matching(broker: &dyn Broker, filter: JobFilter, args: &CancelArgs) -> Outcome {
    let (control, search) = (broker.control()?, broker.search()?);
    let filter = only_cancelable(filter)?;
    let (places, unseen) = (filter.places(), search.unseen());
    tell_unseen(unseen.iter().filter(|unseen| places.contains(&unseen.place)));
    let count = count(search, &filter).await?;
    if args.dry_run || count == 0 {
        return print(&confirm::matching(confirm::jobs(count), count));
    }
    confirm(&format!("cancel {}", confirm::jobs(count)), args.yes)?;
    let tally = cancel_pages(control, search, &filter, count).await?;
    print(&tally.told(How::Cancel))
}

/// What runs is stopped, not canceled, and what has ended is neither.
fn only_cancelable(mut filter: JobFilter) -> Result<JobFilter, Failure> {
    if let Some(other) = filter.states.iter().find(|state| !CANCELABLE.contains(state)) {
        let message = format!("jobs that are {other} can't be canceled");
        let hint = match other {
            StateName::Running => "`pool stop-job` stops those that run, by their ids",
            _ => "expected waiting, blocked, scheduled or deferred",
        };
        return Err(Failure::new(Code::Usage, message).hint(hint));
    }
    if filter.states.is_empty() {
        filter.states = CANCELABLE.to_vec();
    }
    Ok(filter)
}

/// In steps of their own: others come to their turn in between, and what was canceled stays so if this ends early.
async fn cancel_pages(
    control: &dyn Control,
    search: &dyn Search,
    filter: &JobFilter,
    count: u64,
) -> Result<Tally, Failure> {
    let progress = Progress::new(count, "canceled");
    let mut tally = Tally::default();
    let work = each_page(search, filter, async |ids| {
        let answers = control.cancel(&ids).await?;
        progress.advance(ids.len() as u64);
        tally.add(&ids, answers);
        Ok(())
    });
    progress.during(work).await?;
    Ok(tally)
}

/// What became of the jobs.
#[derive(Default)]
struct Tally {
    done: u64,
    asked: u64,
    /// Nobody sees where they are; so many workers were told of each.
    told: Vec<(JobId, usize)>,
    runs: Vec<JobId>,
    ended: Vec<JobId>,
    unknown: Vec<JobId>,
    refused: Vec<(JobId, String)>,
}

impl Tally {
    fn add(&mut self, ids: &[JobId], answers: Vec<Canceled>) {
        for (id, answer) in ids.iter().zip(answers) {
            match answer {
                Canceled::Done => self.done += 1,
                Canceled::Asked => self.asked += 1,
                Canceled::Told(workers) => self.told.push((id.clone(), workers)),
                Canceled::Runs => self.runs.push(id.clone()),
                Canceled::Ended => self.ended.push(id.clone()),
                Canceled::Unknown => self.unknown.push(id.clone()),
                Canceled::Refused(why) => self.refused.push((id.clone(), why)),
            }
        }
    }

    /// Nothing was left as it is.
    fn is_clean(&self) -> bool {
        self.runs.is_empty() && self.ended.is_empty() && self.unknown.is_empty() && self.refused.is_empty()
    }

    fn told(&self, how: How) -> String {
        let mut lines = Vec::new();
        let is_empty = self.asked == 0 && self.told.is_empty() && self.is_clean();
        if self.done > 0 || is_empty {
            lines.push(format!("canceled {}", confirm::jobs(self.done)));
        }
        if self.asked > 0 {
            let asked = confirm::jobs(self.asked);
            lines.push(match how {
                How::Cancel => format!("{asked} in the hands of a supervisor: canceled if not begun"),
                How::Stop => format!("{asked} being stopped"),
            });
        }
        if let Some(workers) = self.told.iter().map(|(_, workers)| *workers).min() {
            let told = confirm::jobs(self.told.len() as u64);
            lines.push(format!(
                "{told} not seen: whoever listens ({workers} at least) was told, and will not run them while it is up"
            ));
        }
        let runs = match (how, self.runs.len()) {
            (How::Cancel, 1) => "runs on (`pool stop-job` stops it)",
            (How::Cancel, _) => "run on (`pool stop-job` stops them)",
            (How::Stop, 1) => "runs on: nobody heard that it is to stop",
            (How::Stop, _) => "run on: nobody heard that they are to stop",
        };
        for (what, ids) in [
            (runs, &self.runs),
            ("had ended", &self.ended),
            ("unknown", &self.unknown),
        ] {
            if !ids.is_empty() {
                lines.push(format!(
                    "{} {what}: {}",
                    confirm::jobs(ids.len() as u64),
                    named(ids)
                ));
            }
        }
        for (id, why) in self.refused.iter().take(NAMED_MAX) {
            lines.push(format!("{id} can't be canceled: {why}"));
        }
        if self.refused.len() > NAMED_MAX {
            let more = (self.refused.len() - NAMED_MAX) as u64;
            lines.push(format!("and {} more", confirm::jobs(more)));
        }
        lines.join("\n") + "\n"
    }
}

fn named(ids: &[JobId]) -> String {
    let mut named: Vec<&str> = ids.iter().take(NAMED_MAX).map(JobId::as_str).collect();
    if ids.len() > NAMED_MAX {
        named.push("…");
    }
    named.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_what_became_of_each() {
        let id = |text: &str| JobId::new(text).unwrap();
        let ids = ["1", "2", "3", "4", "5", "6"].map(id);
        let answers = vec![
            Canceled::Done,
            Canceled::Asked,
            Canceled::Runs,
            Canceled::Ended,
            Canceled::Unknown,
            Canceled::Refused("it is odd".to_owned()),
        ];
        let mut tally = Tally::default();
        tally.add(&ids, answers);
        assert!(!tally.is_clean());
        assert_eq!(
            tally.told(How::Cancel),
            "canceled 1 job\n1 job in the hands of a supervisor: canceled if not begun\n\
             1 job runs on (`pool stop-job` stops it): 3\n1 job had ended: 4\n1 job unknown: 5\n\
             6 can't be canceled: it is odd\n"
        );
        assert_eq!(Tally::default().told(How::Stop), "canceled 0 jobs\n");
    }

    #[test]
    fn what_runs_is_not_canceled_by_a_filter() {
        let of = |state| JobFilter {
            states: vec![state],
            ..JobFilter::default()
        };
        assert!(only_cancelable(of(StateName::Running)).is_err());
        assert!(only_cancelable(of(StateName::Dead)).is_err());
        let scheduled = only_cancelable(of(StateName::Scheduled)).unwrap();
        assert_eq!(scheduled.states, [StateName::Scheduled]);
        assert_eq!(only_cancelable(JobFilter::default()).unwrap().states, CANCELABLE);
    }
}

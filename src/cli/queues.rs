//! `pool queues`: what stands in each queue, how fast it is worked off, and who does that.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::broker::{Backlog, Broker};
use crate::config::{BrokerUrl, ClientArgs, ClientConfig, Wanted};
use crate::fleet::snapshot::Snapshot;
use crate::job::QueueName;
use crate::time::Unix;

use super::client::{self, Access};
use super::report::{Code, Failure, Out, Outcome, print};
use super::table::Table;
use super::{listing, render, screen};

/// Show what stands in each queue, how fast it goes, and who serves it
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "\
PER MIN counts what the supervisor of this host has run in the last minute.

Example:
  pool queues")]
pub struct QueuesArgs {
    /// One JSON object a queue and line for programs
    #[arg(long)]
    json: bool,

    #[command(flatten, next_help_heading = "Connection")]
    client: ClientArgs,
}

/// A queue as it is shown.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Row {
    queue: String,
    /// Jobs that could run now.
    waiting: u64,
    /// Age of the oldest of them in milliseconds; `None`: nothing waits, or the broker does not know.
    oldest_ms: Option<u64>,
    /// Jobs that are due later.
    scheduled: u64,
    /// Jobs over the limit of their key.
    blocked: u64,
    /// Executions that ended in the last minute, as the supervisor of this host knows it; `None`: it does not serve it.
    ended_last_minute: Option<u64>,
    /// In words; `nobody` if it is known that nobody does.
    served_by: String,
}

/// Counts and prints.
pub async fn run(args: QueuesArgs) -> Outcome {
    let config = client::config(&args.client, Wanted::Broker)?;
    let broker = client::open(&config, Access::Look).await?;
    let outcome = show(&*broker, &config, &args).await;
    broker.close().await?;
    outcome
}

async fn show(broker: &dyn Broker, config: &ClientConfig, args: &QueuesArgs) -> Outcome {
    // A supervisor that does not answer is none: the rest is shown without it.
    let supervisor = client::snapshot_within(&args.client, client::BRIEFLY).ok();
    let mut names: BTreeSet<QueueName> = broker.queues().names().await?.into_iter().collect();
    if let Some(snapshot) = &supervisor {
        let served = snapshot.pools.values().flat_map(|pool| &pool.queues);
        names.extend(served.filter_map(|name| QueueName::new(name).ok()));
    }
    let names: Vec<QueueName> = names.into_iter().collect();
    let unserved = broker.queues().unserved(&names).await?;
    // The embedded broker has one supervisor, and all know its socket.
    let unserved = match (unserved, &config.broker.url) {
        (None, BrokerUrl::Sqlite(_)) => Some(names.clone()),
        (unserved, _) => unserved,
    };
    let now = Unix::now();
    let mut rows = Vec::with_capacity(names.len());
    let blocked = broker.queues().blocked(&names).await?;
    for (name, blocked) in names.iter().zip(blocked) {
        let backlog = broker.queues().backlog(std::slice::from_ref(name)).await?;
        rows.push(row(
            name,
            (&backlog, blocked),
            supervisor.as_ref(),
            unserved.as_deref(),
            now,
        ));
    }
    if args.json {
        let mut out = Out::new();
        for row in &rows {
            let json = serde_json::to_string(row).map_err(|error| {
                Failure::new(Code::Failed, format!("cannot write a queue as JSON: {error}"))
            })?;
            out.json(&json)?;
        }
        return out.flush();
    }
    match rows.as_slice() {
        [] => print("no queues\n"),
        rows => print(&table(rows, screen::width())),
    }
}

/// `unserved`: queues that nobody serves but perhaps this supervisor; `None`: nobody knows.
fn row(
    name: &QueueName,
    (backlog, blocked): (&Backlog, u64),
    supervisor: Option<&Snapshot>,
    unserved: Option<&[QueueName]>,
    now: Unix,
) -> Row {
    let serves = |queues: &[String]| queues.iter().any(|queue| queue == name.as_str());
    let pools = supervisor.into_iter().flat_map(|supervisor| &supervisor.pools);
    let pools: BTreeMap<_, _> = pools.filter(|(_, pool)| serves(&pool.queues)).collect();
    let ended = pools
        .values()
        .map(|pool| pool.ended_last_minute.get(name.as_str()).copied().unwrap_or(0));
    let served_by = match supervisor {
        Some(supervisor) if !pools.is_empty() => {
            let named = pools.iter().map(|(name, pool)| match pool.paused {
                true => format!("{name} (paused)"),
                false => (*name).clone(),
            });
            let named: Vec<String> = named.collect();
            format!("pool {}, pid {}", named.join(", "), supervisor.pid)
        }
        _ => match unserved {
            Some(unserved) if unserved.contains(name) => "nobody".to_owned(),
            Some(_) => "others".to_owned(),
            None => "not known".to_owned(),
        },
    };
    let oldest = backlog.oldest.filter(|_| backlog.waiting() > 0);
    Row {
        queue: name.to_string(),
        waiting: backlog.waiting(),
        oldest_ms: oldest.map(|at| u64::try_from(now.since(at).as_millis()).unwrap_or(u64::MAX)),
        scheduled: backlog.scheduled,
        blocked,
        ended_last_minute: (!pools.is_empty()).then(|| ended.sum()),
        served_by,
    }
}

fn table(rows: &[Row], width: usize) -> String {
    // Few have limits: the others need no column for it.
    let shows_blocked = rows.iter().any(|row| row.blocked > 0);
    let mut headings = vec!["~QUEUE", ">WAITING", ">OLDEST", ">SCHEDULED"];
    headings.extend(shows_blocked.then_some(">BLOCKED"));
    headings.extend([">PER MIN", "~SERVED BY"]);
    let mut table = Table::new(&headings);
    for row in rows {
        let age = |ms| render::age(std::time::Duration::from_millis(ms));
        let mut cells = vec![
            row.queue.clone(),
            listing::grouped(row.waiting),
            row.oldest_ms.map_or("-".to_owned(), age),
            listing::grouped(row.scheduled),
        ];
        cells.extend(shows_blocked.then(|| listing::grouped(row.blocked)));
        cells.push(row.ended_last_minute.map_or("-".to_owned(), listing::grouped));
        cells.push(row.served_by.clone());
        table.row(cells);
    }
    table.fit(width)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::snapshot::PoolSnapshot;

    const NOW: Unix = Unix(1_772_355_900_250);

    fn rows(supervisor: Option<&Snapshot>, unserved: Option<&[&str]>) -> Vec<Row> {
        let queue = |name: &str| QueueName::new(name).unwrap();
        let unserved: Option<Vec<QueueName>> =
            unserved.map(|names| names.iter().map(|name| queue(name)).collect());
        let busy = Backlog {
            by_queue: vec![(queue("mail"), 12_000)],
            scheduled: 3,
            oldest: Some(Unix(NOW.0 - 65_000)),
        };
        [("mail", &busy), ("hihg", &busy), ("other", &Backlog::default())]
            .map(|(name, backlog)| row(&queue(name), (backlog, 0), supervisor, unserved.as_deref(), NOW))
            .into()
    }

    #[test]
    fn a_queue_that_nobody_serves_says_so() {
        let pool = PoolSnapshot {
            queues: vec!["mail".to_owned(), "other".to_owned()],
            ended_last_minute: BTreeMap::from([("mail".to_owned(), 2_400)]),
            ..PoolSnapshot::default()
        };
        let supervisor = Snapshot {
            pid: 4711,
            pools: BTreeMap::from([("default".to_owned(), pool)]),
            ..Snapshot::default()
        };
        let text = table(&rows(Some(&supervisor), Some(&["mail", "hihg"])), 80);
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        insta::assert_snapshot!(text);
    }

    #[test]
    fn blocked_jobs_have_a_column_where_there_are_any() {
        let mut rows = rows(None, None);
        rows[1].blocked = 5_000;
        let text = table(&rows, 80);
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        insta::assert_snapshot!(text);
    }

    #[test]
    fn who_serves_is_only_said_where_it_is_known() {
        let who = |rows: Vec<Row>| rows.into_iter().map(|row| row.served_by).collect::<Vec<_>>();
        assert_eq!(who(rows(None, Some(&["hihg"]))), ["others", "nobody", "others"]);
        assert_eq!(who(rows(None, None)), ["not known"; 3]);
    }
}

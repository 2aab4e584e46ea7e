//! `pool explain`: why each pool has the size that it has.

mod words;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use crate::config::{ClientArgs, Wanted};
use crate::telemetry::history::file;
use crate::telemetry::history::record::{Decided, Record, Step};
use crate::time::{Unix, parse_duration};

use super::client;
use super::report::{Code, Failure, Out, Outcome, print_json};

/// Tell why the pools have the size that they have
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "\
It reads the decisions that `pool run` keeps in a file, also when no supervisor runs.

Examples:
  pool explain
  pool explain --pool mail --since 10m
  pool explain --since 7d --json | jq '.pools.default.steps'")]
pub struct ExplainArgs {
    /// How far back
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = parse_duration)]
    since: Duration,

    /// Of this pool only
    #[arg(long, value_name = "NAME")]
    pool: Option<String>,

    /// One JSON object for programs: the sentences, and the records that they tell
    #[arg(long)]
    json: bool,

    #[command(flatten, next_help_heading = "Connection")]
    client: ClientArgs,
}

/// What is known of one pool.
#[derive(Debug, Default, Serialize)]
struct Told {
    /// Why it has its size.
    sentences: Vec<String>,
    /// Decisions, the oldest first: of an hour at most.
    decisions: Vec<Decided>,
    /// Steps of five minutes, the oldest first: of a week at most.
    steps: Vec<Step>,
}

#[derive(Debug, Serialize)]
struct Answer {
    pools: BTreeMap<String, Told>,
}

/// Reads and prints.
pub fn run(args: &ExplainArgs) -> Outcome {
    let config = client::config(&args.client, Wanted::Supervisor)?;
    let now = Unix::now();
    let mut pools = read(&config.history)?;
    if pools.is_empty() {
        return Err(nothing(&config.history));
    }
    if let Some(wanted) = &args.pool {
        if !pools.contains_key(wanted) {
            return Err(no_such_pool(wanted, &config.history, &pools));
        }
        pools.retain(|pool, _| pool == wanted);
    }
    for (pool, told) in &mut pools {
        told.decisions
            .retain(|decided| now.since(decided.decision.at) <= args.since);
        told.steps.retain(|step| now.since(step.at) <= args.since);
        told.sentences = words::explain(pool, &told.decisions, &told.steps, (args.since, now));
    }
    if !args.json {
        return print_sentences(&pools);
    }
    let json = serde_json::to_string(&Answer { pools })
        .map_err(|error| Failure::new(Code::Failed, format!("cannot write the history as JSON: {error}")))?;
    print_json(&json)
}

fn read(path: &Path) -> Result<BTreeMap<String, Told>, Failure> {
    let records = file::read(path).map_err(|error| {
        let path = path.display();
        Failure::new(Code::Failed, format!("cannot read the history `{path}`: {error}"))
    })?;
    let mut pools: BTreeMap<String, Told> = BTreeMap::new();
    for record in records {
        let told = pools.entry(record.pool().to_owned()).or_default();
        match record {
            Record::Decision(decided) => told.decisions.push(decided),
            Record::Step(step) => told.steps.push(step),
        }
    }
    Ok(pools)
}

fn no_such_pool(wanted: &str, path: &Path, pools: &BTreeMap<String, Told>) -> Failure {
    let message = format!("there is no history of a pool `{wanted}` in `{}`", path.display());
    let known: Vec<&str> = pools.keys().map(String::as_str).collect();
    Failure::new(Code::Failed, message).hint(format!("there is one of: {}", known.join(", ")))
}

fn nothing(path: &Path) -> Failure {
    let message = format!("there is no history in `{}`", path.display());
    Failure::new(Code::Failed, message)
        .hint("`pool run` makes its first decision after `scaling_period`; `supervisor.history = \"none\"` keeps none")
}

fn print_sentences(pools: &BTreeMap<String, Told>) -> Outcome {
    let mut out = Out::new();
    for told in pools.values() {
        for sentence in &told.sentences {
            out.line(sentence)?;
        }
    }
    out.flush()
}

//! `pool status`: what the supervisor does right now.

use crate::config::ClientArgs;
use crate::time::Unix;

use super::report::{Code, Failure, Outcome, print, print_json};
use super::{client, render, screen, watch};

/// Show what the supervisor does right now
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  pool status
  pool status --watch
  pool status --json | jq '.pools.default.utilization'

`pool top` is short for `pool status --watch`.")]
pub struct StatusArgs {
    /// One JSON object for programs
    #[arg(long)]
    json: bool,
    /// Show it anew each second, until `q` or ^C
    #[arg(long, short, conflicts_with = "json")]
    watch: bool,

    #[command(flatten, next_help_heading = "Connection")]
    client: ClientArgs,
}

/// Asks and prints.
pub fn run(args: &StatusArgs) -> Outcome {
    if args.watch {
        return watch::run(&args.client);
    }
    let snapshot = client::snapshot(&args.client)?;
    if !args.json {
        return print(&render::status(&snapshot, Unix::now(), screen::width()));
    }
    let json = serde_json::to_string(&snapshot)
        .map_err(|error| Failure::new(Code::Failed, format!("cannot write the status as JSON: {error}")))?;
    print_json(&json)
}

//! `pool health`: for probes that run a command.

use std::time::Duration;

use crate::config::ClientArgs;
use crate::fleet::health::Probe;
use crate::time::parse_duration;

use super::client;
use super::report::{Code, Failure, Outcome, print};

/// Say whether the supervisor is well: exit code 0, or 1 with the reasons
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "\
Ready means: the application is loaded, the broker answers, and no pool is idle while jobs wait, except for one that is
paused. It asks the supervisor alone, never the broker. Over HTTP the same is at /livez, /readyz and /startupz of `metrics.listen`.

Exit codes: 0 it is, 1 it is not, 3 no supervisor answers in time.

Examples:
  pool health
  pool health --live")]
pub struct HealthArgs {
    /// Only whether it answers
    #[arg(long, conflicts_with = "started")]
    live: bool,
    /// Only whether it has loaded its application once
    #[arg(long)]
    started: bool,

    /// How long the answer may take; the default is below the 1 s that Kubernetes gives a probe
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "900ms")]
    timeout: Duration,

    #[command(flatten, next_help_heading = "Connection")]
    client: ClientArgs,
}

/// Asks and tells.
pub fn run(args: &HealthArgs) -> Outcome {
    let (probe, well) = match (args.live, args.started) {
        (true, _) => (Probe::Live, "alive"),
        (_, true) => (Probe::Started, "started"),
        _ => (Probe::Ready, "ready"),
    };
    let health = client::health(&args.client, args.timeout)?;
    match health.problems(probe) {
        [] => print(&format!("{well}\n")),
        problems => Err(Failure::new(Code::Failed, problems.join("\n"))),
    }
}

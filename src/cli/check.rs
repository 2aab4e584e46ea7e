//! `pool check`: would it start? The configuration in force, and whether the broker answers.

use crate::broker;
use crate::config::{self, RunArgs};
use crate::job::QueueName;

use super::report::{Failure, Out, Outcome};

/// Check the configuration and the broker without running anything
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "\
The configuration in force is printed as TOML, each value with its origin; what was checked follows as \
comments. Takes the flags of `pool run`, listed by `pool run --help`.

Example:
  pool check --config /etc/pool/config.toml")]
pub struct CheckArgs {
    #[command(flatten)]
    run: RunArgs,
}

/// Checks and prints; the first thing that is wrong is the failure.
pub async fn run(args: CheckArgs) -> Outcome {
    let explained = config::explain(&args.run, |name| std::env::var_os(name))
        .map_err(|errors| Failure::from(errors).context("the configuration is wrong"))?;
    let mut out = Out::new();
    out.line(explained.to_toml().trim_start())?;
    out.flush()?;

    let config = &explained.config;
    let broker = broker::open(&config.broker).await?;
    let queues: Vec<QueueName> = config
        .pools
        .values()
        .flat_map(|pool| pool.queues.clone())
        .collect();
    let backlog = broker.backlog(&queues).await?;
    out.line(format_args!(
        "# broker: {} answers; {} jobs wait, {} are scheduled",
        broker.url(),
        backlog.waiting,
        backlog.scheduled,
    ))?;
    broker.close().await?;
    out.flush()
}

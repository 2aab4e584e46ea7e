//! `pool metrics`: what Prometheus reads, without a server for it.

use crate::config::ClientArgs;

use super::client;
use super::report::{Out, Outcome};

/// Print the metrics of a running supervisor, as Prometheus reads them
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "\
To have them scraped: `pool run --metrics-listen 127.0.0.1:9464`, or `metrics.listen` in the file.

Examples:
  pool metrics
  pool metrics | grep prefetch_depth")]
pub struct MetricsArgs {
    /// In the format of OpenMetrics
    #[arg(long)]
    openmetrics: bool,

    #[command(flatten, next_help_heading = "Connection")]
    client: ClientArgs,
}

/// Asks and prints.
pub fn run(args: &MetricsArgs) -> Outcome {
    let text = client::metrics(&args.client, args.openmetrics)?;
    let mut out = Out::new();
    out.raw(text.as_bytes())?;
    out.flush()
}

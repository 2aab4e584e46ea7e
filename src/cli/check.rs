//! `pool check`: would it start? The configuration in force, whether the broker answers and the app loads.

use crate::broker;
use crate::config::{self, RunArgs};
use crate::job::QueueName;

use crate::supervisor::check::load_app;
use crate::wire::message::LoadReport;

use super::report::{Code, Failure, Out, Outcome, note};

/// Check the configuration, the broker and the application without running a job
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
    out.flush()?;

    let report = load_app(config, note).await.map_err(|reason| {
        Failure::new(
            Code::Failed,
            format!("the app does not load: {}", reason.trim_end()),
        )
    })?;
    out.line(app(&report))?;
    out.flush()
}

/// What the template found, as comments.
fn app(report: &LoadReport) -> String {
    let mut text = format!("# app: {} loads in {:.2} s", report.runtime, report.load_s);
    if !report.tasks.is_empty() {
        text.push_str(&format!("; tasks: {}", report.tasks.join(", ")));
    }
    if let Some(reason) = &report.collapse_skipped {
        text.push_str(&format!("\n# huge pages: not used: {reason}"));
    }
    match report.warnings.as_slice() {
        [] => text.push_str("\n# fork safety: nothing to report"),
        warnings => warnings
            .iter()
            .for_each(|warning| text.push_str(&format!("\n# fork safety: {warning}"))),
    }
    text
}

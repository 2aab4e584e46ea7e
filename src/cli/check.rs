//! `pool check`: would it start? The configuration in force, whether the broker answers and the app loads.

use std::sync::Arc;

use crate::broker::{self, AppSchedule, Broker};
use crate::config::{self, COST_UNKNOWN, Config, PoolConfig, RunArgs, ScheduleConfig};
use crate::job::{JobId, PoolName, QueueName};
use crate::time::Unix;

use crate::policy::schedule::Timing;
use crate::supervisor::check::{Loaded, load_app, total_memory, unknown_scheduled};
use crate::supervisor::schedules::of_app_timing;
use crate::wire::message::LoadReport;

use super::confirm::jobs;
use super::render::bytes;
use super::report::{Code, Failure, Out, Outcome, note};
use super::{at, schedules};

/// Due times of a schedule that are shown.
const DUES_SHOWN: usize = 3;

/// Check the configuration, the broker and the application without running a job
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "\
The configuration in force is printed as TOML, each value with its origin; what was checked follows as \
comments. Takes the flags of `pool run`, listed by `pool run --help`.

Example:
  pool check --config /etc/pool/config.toml")]
pub struct CheckArgs {
    /// Queues to serve, as `pool run` takes them
    #[arg(value_name = "QUEUE")]
    queues: Vec<String>,
    #[command(flatten)]
    run: RunArgs,
}

/// Checks and prints; the first thing that is wrong is the failure.
pub async fn run(args: CheckArgs) -> Outcome {
    let flags = args.run.and_queues(args.queues);
    let explained = config::explain(&flags, |name| std::env::var_os(name))
        .map_err(|errors| Failure::from(errors).context("the configuration is wrong"))?;
    let mut out = Out::new();
    out.line(explained.to_toml().trim_start())?;
    out.flush()?;

    for (name, meant) in super::run::misspelled() {
        note(&format!(
            "warning: the variable `{name}` is none of pool's; did you mean `{meant}`?"
        ));
    }

    let config = &explained.config;
    if config.broker.app_names_broker() {
        let loaded = load(config).await?;
        tell_app(&mut out, config, &loaded)?;
        let facts = loaded.report.facts.unwrap_or_default();
        let options = config.broker.options_by_app(&facts)?;
        check_broker(&mut out, config, &options).await?.close().await?;
    } else {
        let broker = check_broker(&mut out, config, &config.broker.options()?).await?;
        let loaded = load(config).await?;
        tell_app(&mut out, config, &loaded)?;
        find_tasks(config, &loaded.report)?;
        for line in app_schedules(&*broker, &loaded, Unix::now())? {
            out.line(line)?;
        }
        broker.close().await?;
    }
    out.flush()
}

/// When schedules are due next, as comments.
fn next_due(config: &Config, now: Unix) -> Vec<String> {
    let timed = config.schedules.iter();
    let line = |(name, schedule): (&Arc<str>, &ScheduleConfig)| Some(dues(name, &schedule.timing()?, now));
    timed.filter_map(line).collect()
}

/// The same of the schedules that the application names.
fn app_schedules(broker: &dyn Broker, loaded: &Loaded, now: Unix) -> Result<Vec<String>, Failure> {
    if let Some(facts) = &loaded.report.facts {
        broker.app_reloaded(facts)?;
    }
    let of_app = broker.app_schedules().into_iter();
    let line = |AppSchedule { name, due }| {
        let timing = of_app_timing(due).map_err(|reason| {
            let message = format!("the application's schedule {name} can't fire: {reason}");
            Failure::new(Code::Failed, message)
        })?;
        Ok(dues(&name, &timing, now))
    };
    of_app.map(line).collect()
}

fn dues(name: &str, timing: &Timing, now: Unix) -> String {
    let dues = std::iter::successors(schedules::next(timing, None, now), |due| {
        timing.rule.next_after(*due)
    });
    let zone = schedules::zone_of(timing);
    let shown: Vec<String> = dues.take(DUES_SHOWN).map(|due| at::shown(due, &zone)).collect();
    format!("# schedule {name}: {}: due {}", timing.rule, shown.join(", "))
}

/// Whether the broker answers, and lets us do what a pool does. Returns it open.
async fn check_broker(
    out: &mut Out,
    config: &Config,
    options: &broker::Options,
) -> Result<Arc<dyn Broker>, Failure> {
    let broker = broker::open(options).await?;
    let queues = config.pools.values().flat_map(|pool| {
        if pool.queues.is_empty() {
            broker.app_queues()
        } else {
            pool.queues.clone()
        }
    });
    let queues: Vec<QueueName> = queues.collect();
    let backlog = broker.queues().backlog(&queues).await?;
    out.line(format_args!(
        "# broker: {} answers (protocol {}); waiting: {}, scheduled: {}",
        broker.url(),
        config.broker.protocol.name(),
        jobs(backlog.waiting()),
        backlog.scheduled,
    ))?;
    if config.pools.values().any(|pool| pool.queues.is_empty()) {
        let queues = broker.app_queues();
        let names: Vec<&str> = queues.iter().map(QueueName::as_str).collect();
        out.line(format_args!("# queues of the application: {}", names.join(", ")))?;
    }
    if !config.schedules.is_empty() {
        broker.schedules()?;
        next_due(config, Unix::now())
            .into_iter()
            .try_for_each(|line| out.line(line))?;
    }
    broker.check_rights().await?;
    check_results(out, &*broker).await?;
    out.flush()?;
    Ok(broker)
}

/// Whether results can be read: they may be on another server than the jobs.
async fn check_results(out: &mut Out, broker: &dyn Broker) -> Outcome {
    let reader = match broker.reader() {
        Ok(reader) => reader,
        Err(missing) => return out.line(format_args!("# results: {}", missing.instead)),
    };
    let nobody = JobId::new("pool-check").expect("it is short");
    let found = reader.find(&[nobody]).await;
    found.map_err(|error| Failure::from(error).context("results can't be read"))?;
    Ok(())
}

/// Whether the application has the tasks of the schedules, as far as it says.
fn find_tasks(config: &Config, report: &LoadReport) -> Outcome {
    match unknown_scheduled(config, report).as_slice() {
        [] => Ok(()),
        unknown => {
            let message = format!(
                "the app does not know what schedules run:\n  {}",
                unknown.join("\n  ")
            );
            Err(Failure::new(Code::Failed, message))
        }
    }
}

async fn load(config: &Config) -> Result<Loaded, Failure> {
    load_app(config, note).await.map_err(|reason| {
        Failure::new(
            Code::Failed,
            format!("the app does not load: {}", reason.trim_end()),
        )
    })
}

fn tell_app(out: &mut Out, config: &Config, loaded: &Loaded) -> Outcome {
    out.line(app(&loaded.report))?;
    for line in by_processors(config) {
        out.line(line)?;
    }
    for line in totals(config, loaded, total_memory(config))? {
        out.line(line)?;
    }
    out.flush()
}

/// What the processors say about the pools, as comments.
fn by_processors(config: &Config) -> Vec<String> {
    let pools = config.pools.iter();
    let line = |(name, pool): (&PoolName, &PoolConfig)| {
        let from = pool.max_workers_from?;
        Some(format!(
            "# pool {name}: at most {} workers: {from}",
            pool.max_workers
        ))
    };
    pools.filter_map(line).collect()
}

/// Whether what the pools are promised fits into what all of them may have, as comments.
///
/// The error is a limit that not even the loaded application fits into, to say nothing of a worker.
fn totals(config: &Config, loaded: &Loaded, memory: Option<u64>) -> Result<Vec<String>, Failure> {
    let floors = || config.pools.iter().map(|(name, pool)| (name, pool.floor()));
    let promised = floors().map(|(_, floor)| floor).fold(0, u32::saturating_add);
    let mut lines = Vec::new();
    if let Some(total) = config.supervisor.max_total_workers {
        let each: Vec<String> = floors().map(|(name, floor)| format!("{name} {floor}")).collect();
        let each = each.join(", ");
        lines.push(format!(
            "# workers: at most {total} in all; room is kept for {each}"
        ));
    }
    let (Some(limit), Some(app)) = (memory, loaded.pss_bytes) else {
        return Ok(lines);
    };
    if app >= limit {
        return Err(Failure::new(
            Code::Failed,
            format!(
                "the loaded app alone occupies {}, and supervisor.max_total_memory is {}",
                bytes(app),
                bytes(limit)
            ),
        )
        .hint("raise the limit, or preload less"));
    }
    let needed = u64::from(promised)
        .saturating_mul(COST_UNKNOWN)
        .saturating_add(app);
    let verdict = if needed <= limit {
        "fit into"
    } else {
        "may not fit into"
    };
    lines.push(format!(
        "# memory: the app ({}) and {promised} promised workers (about {} each, until some are measured) {verdict} {}",
        bytes(app),
        bytes(COST_UNKNOWN),
        bytes(limit),
    ));
    Ok(lines)
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
    if report.immortal_objects > 0 {
        text.push_str(&format!(
            "\n# immortal: {} objects, made so in {:.2} s: a worker that reads them all copies {} less",
            report.immortal_objects,
            report.immortal_s,
            bytes(report.immortal_bytes)
        ));
    }
    if let Some(reason) = &report.immortal_skipped {
        text.push_str(&format!("\n# immortal: no objects: {reason}"));
    }
    match report.warnings.as_slice() {
        [] => text.push_str("\n# fork safety: nothing to report"),
        warnings => warnings
            .iter()
            .for_each(|warning| text.push_str(&format!("\n# fork safety: {warning}"))),
    }
    for what in &report.unfit {
        text.push_str(&format!("\n# not as elsewhere: {what}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_made_immortal_is_told_or_why_nothing_was() {
        let some = LoadReport {
            runtime: "python 3.13.0".into(),
            load_s: 3.5,
            immortal_objects: 1_600_572,
            immortal_bytes: 133 << 20,
            immortal_s: 1.04,
            ..LoadReport::default()
        };
        insta::assert_snapshot!(app(&some), @r"
        # app: python 3.13.0 loads in 3.50 s
        # immortal: 1600572 objects, made so in 1.04 s: a worker that reads them all copies 133.0M less
        # fork safety: nothing to report
        ");
        let none = LoadReport {
            immortal_skipped: Some("CPython has immortal objects since 3.12".into()),
            ..LoadReport::default()
        };
        assert!(app(&none).contains("# immortal: no objects: CPython has immortal objects since 3.12"));
    }
}

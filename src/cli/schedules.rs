//! `pool schedules`: what is enqueued again and again: list it, run it now, pause it for all supervisors.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;

use crate::broker::{Broker, Fired, Firing, Make, Ruled, ScheduleView, Schedules};
use crate::config::{ClientArgs, ClientConfig, Protocol, ScheduleConfig, Wanted};
use crate::policy::schedule::{Rule, Timing};
use crate::supervisor::schedules::of_app_timing;
use crate::time::Unix;

use super::client::{self, Access};
use super::report::{Code, Failure, Out, Outcome, print};
use super::table::Table;
use super::{at, screen};

/// See, run and pause the schedules of the configuration file
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  pool schedules list
  pool schedules run report                      enqueue its job now
  pool schedules pause report                    for all supervisors of the broker
  pool schedules resume --all")]
pub struct SchedulesArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand, Clone, Debug)]
enum Verb {
    /// List them with their next due times, and those of applications that supervisors fire
    List(ListArgs),
    /// Enqueue the job of one now and print its id; its due times stay as they are
    Run(RunArgs),
    /// Enqueue nothing for them, until they are resumed
    Pause(ChosenArgs),
    /// End a pause; what was due meanwhile is left out
    Resume(ChosenArgs),
}

#[derive(clap::Args, Clone, Debug)]
struct ListArgs {
    /// One JSON object a line for programs
    #[arg(long)]
    json: bool,

    #[command(flatten, next_help_heading = "Connection")]
    client: ClientArgs,
}

#[derive(clap::Args, Clone, Debug)]
struct RunArgs {
    /// Name of the schedule
    #[arg(value_name = "NAME")]
    name: String,

    #[command(flatten, next_help_heading = "Connection")]
    client: ClientArgs,
}

#[derive(clap::Args, Clone, Debug)]
struct ChosenArgs {
    /// Names of schedules
    #[arg(value_name = "NAME", required_unless_present = "all", conflicts_with = "all")]
    names: Vec<String>,
    /// All schedules of the file
    #[arg(long)]
    all: bool,

    #[command(flatten, next_help_heading = "Connection")]
    client: ClientArgs,
}

type Configs = BTreeMap<Arc<str>, ScheduleConfig>;

/// Runs the verb below `schedules`.
pub async fn run(args: SchedulesArgs) -> Outcome {
    let (client, access) = match &args.verb {
        Verb::List(args) => (&args.client, Access::Look),
        Verb::Run(args) => (&args.client, Access::Add),
        Verb::Pause(args) | Verb::Resume(args) => (&args.client, Access::Add),
    };
    let config = client::config(client, Wanted::Schedules)?;
    let may_list = matches!(args.verb, Verb::List(_)) && apps_may_have_some(&config);
    if config.schedules.is_empty() && !may_list {
        return none(&args.verb);
    }
    let broker = client::open(&config, access).await?;
    let outcome = perform(&args.verb, &config.schedules, &*broker).await;
    broker.close().await?;
    outcome
}

/// Whether an application may have schedules of its own that supervisors fire.
fn apps_may_have_some(config: &ClientConfig) -> bool {
    config.broker.protocol != Protocol::Embedded && !config.broker.app_names_broker()
}

async fn perform(verb: &Verb, configs: &Configs, broker: &dyn Broker) -> Outcome {
    let schedules = broker.schedules()?;
    match verb {
        Verb::List(args) => list(schedules, configs, args.json).await,
        Verb::Run(args) => run_now(schedules, configs, &args.name).await,
        Verb::Pause(args) => pause(schedules, configs, args, true).await,
        Verb::Resume(args) => pause(schedules, configs, args, false).await,
    }
}

/// What is said where the configuration has no schedules.
fn none(verb: &Verb) -> Outcome {
    match verb {
        Verb::List(ListArgs { json: true, .. }) => Ok(()),
        Verb::List(_) => print("no schedules\n"),
        Verb::Run(_) | Verb::Pause(_) | Verb::Resume(_) => {
            let failure = Failure::new(Code::Usage, "the configuration has no schedules");
            Err(failure.hint("name the file with `--config PATH`, or add `[schedules.NAME]` to it"))
        }
    }
}

/// The next due time of a schedule; `None`: there is none any more.
pub fn next(timing: &Timing, known: Option<&ScheduleView>, now: Unix) -> Option<Unix> {
    let after = known.map_or(now, |known| known.mark.max(now));
    timing.rule.next_after(after)
}

/// The zone that a schedule's times are shown in.
pub fn zone_of(timing: &Timing) -> TimeZone {
    match &timing.rule {
        Rule::Cron(_, zone) => zone.rules.clone(),
        Rule::Every(_) => TimeZone::UTC,
    }
}

/// A schedule that is listed.
struct Listed {
    name: Arc<str>,
    timing: Timing,
    /// What the settings say of it; `None`: it is an application's.
    config: Option<ScheduleConfig>,
}

/// All that are to be listed: those of the settings, then those of applications.
async fn listed(schedules: &dyn Schedules, configs: &Configs) -> Result<Vec<Listed>, Failure> {
    let of_settings = configs.iter().filter_map(|(name, config)| {
        Some(Listed {
            name: Arc::clone(name),
            timing: config.timing()?,
            config: Some(config.clone()),
        })
    });
    let of_apps = schedules.of_apps().await?.into_iter().filter_map(|schedule| {
        Some(Listed {
            name: schedule.name,
            timing: of_app_timing(schedule.due).ok()?, // the supervisor's log has the reason
            config: None,
        })
    });
    Ok(of_settings.chain(of_apps).collect())
}

async fn list(schedules: &dyn Schedules, configs: &Configs, json: bool) -> Outcome {
    let all = listed(schedules, configs).await?;
    if all.is_empty() && !json {
        return print("no schedules\n");
    }
    let names: Vec<Arc<str>> = all.iter().map(|listed| Arc::clone(&listed.name)).collect();
    let views = schedules.look(&names).await?;
    let now = Unix::now();
    let mut table = Table::new(&["~NAME", "~WHEN", "NEXT", "LAST", "~STATE"]);
    let mut out = Out::new();
    for (listed, view) in all.iter().zip(views) {
        let next = next(&listed.timing, view.as_ref(), now);
        if json {
            out.json(&as_json(listed, next, view.as_ref()))?;
            continue;
        }
        let time = |at: Option<Unix>| at.map_or_else(|| "-".to_owned(), |at| due(at, &listed.timing, now));
        table.row([
            listed.name.to_string(),
            listed.timing.rule.to_string(),
            time(next),
            time(view.as_ref().and_then(|view| view.fired)),
            state(view.as_ref()).to_owned(),
        ]);
    }
    match json {
        true => out.flush(),
        false => print(&table.fit(screen::width())),
    }
}

/// A due time in the zone of its rule, without its year if it is near, and with seconds if the rule has them:
/// `12-01 09:00 +01`.
fn due(at: Unix, timing: &Timing, now: Unix) -> String {
    const NEAR: Duration = Duration::from_secs(180 * 86_400);
    let is_near = at.since(now).max(now.since(at)) < NEAR;
    let day = if is_near { "%m-%d" } else { "%Y-%m-%d" };
    let time = if timing.rule.has_seconds() {
        "%H:%M:%S"
    } else {
        "%H:%M"
    };
    at::formatted(at, &zone_of(timing), &format!("{day} {time}"))
}

fn state(view: Option<&ScheduleView>) -> &'static str {
    match view {
        None => "new",
        Some(view) if view.paused => "paused",
        Some(view) if view.held.is_some() => "waits for its last job",
        Some(_) => "active",
    }
}

fn as_json(listed: &Listed, next: Option<Unix>, view: Option<&ScheduleView>) -> String {
    let config = listed.config.as_ref();
    serde_json::json!({
        "name": listed.name,
        "task": config.map(|config| &config.task),
        "queue": config.map(|config| &config.queue),
        "rule": listed.timing.rule.to_string(),
        "next": next,
        "state": state(view),
        "known": view,
    })
    .to_string()
}

async fn run_now(schedules: &dyn Schedules, configs: &Configs, name: &str) -> Outcome {
    let (name, config) = find(configs, name)?;
    let firing = Firing {
        schedule: Arc::clone(name),
        due: None,
        job: Some(Make::Job(Box::new(config.job(Unix::now())))),
        overlap: config.overlap,
    };
    // So that it is known by its rule, should no supervisor have met it.
    schedules.meet(&[ruled(name, config)]).await?;
    match schedules.fire(vec![firing]).await?.pop() {
        Some(Fired::Enqueued(id)) => print(&format!("{id}\n")),
        other => Err(Failure::new(
            Code::Failed,
            format!("`{name}` was not run: the broker answered {other:?}"),
        )),
    }
}

async fn pause(schedules: &dyn Schedules, configs: &Configs, args: &ChosenArgs, paused: bool) -> Outcome {
    let chosen: Vec<Ruled> = if args.all {
        configs.iter().map(|(name, config)| ruled(name, config)).collect()
    } else {
        let found = args.names.iter().map(|name| find(configs, name));
        found
            .map(|found| found.map(|(name, config)| ruled(name, config)))
            .collect::<Result<_, _>>()?
    };
    schedules.pause(&chosen, paused).await?;
    let names: Vec<&str> = chosen.iter().map(|ruled| &*ruled.name).collect();
    let done = if paused { "paused" } else { "resumed" };
    print(&format!("{done} {}\n", names.join(", ")))
}

fn ruled(name: &Arc<str>, config: &ScheduleConfig) -> Ruled {
    Ruled {
        name: Arc::clone(name),
        rule: config
            .timing()
            .map(|timing| timing.rule.to_string())
            .unwrap_or_default(),
    }
}

fn find<'c>(configs: &'c Configs, name: &str) -> Result<(&'c Arc<str>, &'c ScheduleConfig), Failure> {
    configs.get_key_value(name).ok_or_else(|| {
        let names: Vec<&str> = configs.keys().map(|name| &**name).collect();
        Failure::new(Code::Usage, format!("there is no schedule `{name}`"))
            .hint(format!("the configuration has {}", names.join(", ")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::schedule::{CatchUp, Expression};
    use crate::policy::zone::Zone;

    const NOW: Unix = Unix(1_772_355_900_250);

    /// A due time so many days away.
    fn shown(days: i64, rule: Rule) -> String {
        let timing = Timing {
            rule,
            jitter: Duration::ZERO,
            catch_up: CatchUp::None,
            catch_up_max: 1,
        };
        due(Unix(NOW.0 + days * 86_400_000), &timing, NOW)
    }

    fn cron(expression: &str, zone: &str) -> Rule {
        Rule::Cron(Expression::parse(expression).unwrap(), Zone::named(zone).unwrap())
    }

    #[test]
    fn the_year_of_a_time_that_is_near_goes_without_saying() {
        let shown = |days| shown(days, cron("5 9 * * *", "UTC"));
        assert_eq!(
            (shown(1), shown(-1)),
            ("03-02 09:05 UTC".into(), "02-28 09:05 UTC".into())
        );
        assert_eq!(
            (shown(400), shown(-400)),
            ("2027-04-05 09:05 UTC".into(), "2025-01-25 09:05 UTC".into())
        );
    }

    #[test]
    fn a_time_names_its_offset_and_its_seconds_where_there_are_any() {
        assert_eq!(shown(1, cron("5 10 * * *", "Europe/Berlin")), "03-02 10:05 +01");
        assert_eq!(shown(60, cron("5 11 * * *", "Europe/Berlin")), "04-30 11:05 +02");
        assert_eq!(shown(1, cron("5 2 * * *", "Asia/Kolkata")), "03-02 14:35 +05:30");
        assert_eq!(shown(1, cron("0 5 9 * * *", "UTC")), "03-02 09:05:00 UTC");
        assert_eq!(
            shown(1, Rule::Every(Duration::from_secs(90))),
            "03-02 09:05:00 UTC"
        );
    }
}

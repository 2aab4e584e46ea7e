//! `pool simulate`: what the settings would make of a load, in virtual time.
//!
//! - `load`: the load that the flags describe. `history`: the load that came to the pool. `variants`: the settings side by side.
//! - `report`: tables and JSON. `pictures`: SVG and PNG.

mod history;
mod load;
mod pictures;
mod report;
mod variants;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::config::SettingsArgs;
use crate::sim::load::Load;
use crate::sim::replay::figures::Figures;
use crate::sim::replay::{self, Run, Setup, bound};
use crate::time::parse_duration;

use self::history::Recorded;
use self::load::LoadArgs;
use super::report::{Code, Failure, Outcome};
use variants::{Sweep, Variant};

/// See what the settings would make of a load, in virtual time
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "\
Loads add up: `--poisson 2 --burst 200/10m` is both. All settings of `pool run` are taken, as flags, as variables or in \
the file. The policy, the meter and the dispatch are those of `pool run`. The same seed gives the same result.

A load begins on a Monday at 00:00 UTC; a file with dates, and a history, begin when they were recorded. Floors hold by that clock.

Examples:
  pool simulate --poisson 2 --service 1s                     2 random jobs a second of 1 s each
  pool simulate --step 2..40 --max-workers 60 --svg a.svg    how fast a pool gets over a step
  pool simulate --poisson 5 --sweep utilization_threshold=0.3..0.9
  pool simulate --burst 500/10m --config a.toml --config b.toml --svg both.svg
  pool simulate --arrivals jobs.csv --columns arrival=when,service=seconds
  pool simulate --history --since 1d --max-workers 12        what would 12 workers at most have done with the last day?")]
pub struct SimulateArgs {
    #[command(flatten)]
    load: LoadArgs,
    /// Configuration file; given several times, the files are compared [env: POOL_CONFIG]
    #[arg(long, value_name = "FILE", help_heading = "Settings")]
    config: Vec<PathBuf>,
    /// Compare values of a setting: `KEY=0.3..0.9`, `KEY=2..20:2` (a step of 2) or `KEY=5s,10s,30s`; repeatable
    #[arg(long, value_name = "KEY=VALUES", help_heading = "Settings")]
    sweep: Vec<Sweep>,
    /// The pool that the load comes to, if the file has several
    #[arg(long, value_name = "NAME", help_heading = "Settings")]
    pool: Option<String>,
    /// How long a job may wait: OVER counts those that wait longer
    #[arg(long, allow_negative_numbers = true, value_name = "TIME", value_parser = parse_duration, default_value = "1s", help_heading = "Output")]
    slo: Duration,
    /// Print JSON
    #[arg(long, help_heading = "Output")]
    json: bool,
    /// Draw it: workers and waiting jobs over time, or the p95 wait of several settings against their worker-seconds
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    svg: Option<PathBuf>,
    /// The same as PNG
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    png: Option<PathBuf>,
    #[command(flatten)]
    settings: SettingsArgs,
}

/// What comes.
#[derive(Debug)]
struct Given {
    load: Arc<Load>,
    /// In words.
    words: String,
    /// What the pool itself made of it, where it is its history.
    recorded: Option<Recorded>,
}

impl Given {
    fn of(args: &SimulateArgs, variants: &[Variant]) -> Result<Self, Failure> {
        let history = args
            .load
            .history(&variants[0].config.history, args.pool.as_deref())?;
        let history = history.as_ref();
        let load = args.load.load(history)?;
        Ok(Given {
            words: args.load.words(&load, history),
            load: Arc::new(load),
            recorded: history.and_then(|history| history.recorded()),
        })
    }
}

/// A variant of the settings, and what it made of the load.
#[derive(Debug)]
struct Trial {
    variant: Variant,
    run: Run,
    figures: Figures,
}

/// Simulates, and prints what came out.
pub fn run(args: &SimulateArgs) -> Outcome {
    let cannot = |failure: Failure| failure.context("cannot simulate");
    let variants = variants::all(args).map_err(cannot)?;
    let given = Given::of(args, &variants).map_err(cannot)?;
    for variant in &variants {
        variant.check_queues(&given.load).map_err(cannot)?;
    }
    let trials = try_all(variants, &given, args);
    pictures::write(args, &given.words, &trials).map_err(cannot)?;
    if args.json {
        return report::print_json(args, &given, &trials);
    }
    report::print_text(args, &given, &trials)
}

/// Runs all of them, as many at once as there are processors.
fn try_all(variants: Vec<Variant>, given: &Given, args: &SimulateArgs) -> Vec<Trial> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        while let at = next.fetch_add(1, Ordering::Relaxed)
            && let Some(variant) = variants.get(at)
        {
            done.push((at, try_one(variant, given, args)));
        }
        done
    };
    let mut done = std::thread::scope(|scope| {
        let threads: Vec<_> = (1..threads.min(variants.len()))
            .map(|_| scope.spawn(work))
            .collect();
        let mut done = work();
        for thread in threads {
            match thread.join() {
                Ok(more) => done.extend(more),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        done
    });
    done.sort_by_key(|(at, _)| *at);
    let results = done.into_iter().map(|(_, result)| result);
    let trial = |(variant, (run, figures))| Trial {
        variant,
        run,
        figures,
    };
    variants.into_iter().zip(results).map(trial).collect()
}

fn try_one(variant: &Variant, given: &Given, args: &SimulateArgs) -> (Run, Figures) {
    let pool = &variant.config.pools[&variant.pool];
    let limits = (pool.min_workers, pool.max_workers);
    let run = replay::run(&Setup {
        config: variant.config.clone(),
        pool: variant.pool.clone(),
        load: Arc::clone(&given.load),
        cores: args.load.cores(),
        seed: args.load.seed(),
    });
    let bound = bound::clairvoyant(&given.load, limits);
    let figures = Figures::of(&run, &given.load, args.slo, bound);
    (run, figures)
}

fn usage(message: impl Into<String>) -> Failure {
    Failure::new(Code::Usage, message)
}

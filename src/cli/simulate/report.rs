//! What came out, for people and for programs.

use std::time::Duration;

use serde::Serialize;

use crate::sim::replay::{Change, MONDAY, Sample};
use crate::time::Human;

use super::super::chart;
use super::super::report::{Out, Outcome, print};
use super::super::screen;
use super::super::table::Table;
use super::history::Recorded;
use super::{Figures, Given, SimulateArgs, Trial};

pub(super) fn print_text(args: &SimulateArgs, given: &Given, trials: &[Trial]) -> Outcome {
    let mut text = format!(
        "{} jobs: {}, seed {}\n",
        given.load.arrivals.len(),
        given.words,
        args.load.seed()
    );
    if let Some(recorded) = &given.recorded {
        text.push_str(&format!("{}\n", recorded.words()));
    }
    if let [trial] = trials {
        let pool = &trial.variant.config.pools[&trial.variant.pool];
        text.push_str(&format!(
            "pool {}: {} to {} workers, policy {}\n\n",
            trial.variant.pool,
            pool.min_workers,
            pool.max_workers,
            pool.scaling.policy.as_str(),
        ));
        text.push_str(&chart::draw(&chart_samples(trial), screen::picture_width()));
    }
    text.push('\n');
    text.push_str(&table(args, given.recorded.as_ref(), trials));
    print(&text)
}

fn chart_samples(trial: &Trial) -> Vec<chart::Sample> {
    let sample = |sample: &Sample| chart::Sample {
        at_s: sample.at.as_secs_f64(),
        workers: sample.workers,
        busy: sample.busy,
        utilization: Some((sample.busy_average / f64::from(sample.workers.max(1))).min(1.0)),
        waiting: sample.waiting,
    };
    trial.run.samples.iter().map(sample).collect()
}

fn table(args: &SimulateArgs, recorded: Option<&Recorded>, trials: &[Trial]) -> String {
    let over = format!(">OVER {}", Human(args.slo));
    let best = front(trials);
    let mut headings = vec![
        "SETTINGS",
        ">P50",
        ">P95",
        ">P99",
        ">LONGEST",
        &over,
        ">RECOVERY",
        ">WORKER-S",
        ">×BOUND",
        ">MOST",
        ">CHANGES",
        ">REVERSALS",
    ];
    headings.extend(recorded.map(|_| ">IN RECORD"));
    let mut table = Table::new(&headings);
    for (trial, is_best) in trials.iter().zip(best) {
        let figures = &trial.figures;
        let mark = if is_best && trials.len() > 1 { " *" } else { "" };
        let mut row = vec![
            format!("{}{mark}", trial.variant.name),
            seconds(figures.wait_p50),
            seconds(figures.wait_p95),
            seconds(figures.wait_p99),
            seconds(figures.wait_max),
            format!("{:.1}%", figures.late_share * 100.0),
            seconds(figures.recovery),
            format!("{:.0}", figures.worker_seconds),
            format!("{:.2}", figures.worker_ratio),
            figures.workers_max.to_string(),
            figures.changes.to_string(),
            figures.reversals.to_string(),
        ];
        row.extend(recorded.map(|recorded| format!("{:.0}", recorded.worker_seconds_of(&trial.run))));
        table.row(row);
    }
    let mut text = table.print();
    if trials.len() > 1 {
        text.push_str("* no other has both a shorter p95 wait and fewer worker-seconds\n");
    }
    let unfinished: u64 = trials.iter().map(|trial| trial.figures.unfinished).sum();
    if unfinished > 0 {
        let longest = trials
            .iter()
            .map(|trial| trial.run.took)
            .max()
            .unwrap_or_default();
        text.push_str(&format!(
            "{unfinished} jobs never began, and were given up after {}: the pool had no worker for them\n",
            Human(Duration::from_secs(longest.as_secs()))
        ));
    }
    text
}

/// Which of them no other one is better than in both p95 wait and worker-seconds.
pub(super) fn front(trials: &[Trial]) -> Vec<bool> {
    let point = |trial: &Trial| (trial.figures.wait_p95, trial.figures.worker_seconds);
    let beats = |a: (f64, f64), b: (f64, f64)| a.0 <= b.0 && a.1 <= b.1 && a != b;
    let is_best = |trial: &Trial| !trials.iter().any(|other| beats(point(other), point(trial)));
    trials.iter().map(is_best).collect()
}

/// A time with as many digits as say something.
fn seconds(time: f64) -> String {
    match time {
        _ if time < 1.0 => format!("{:.1} ms", time * 1e3),
        _ if time < 100.0 => format!("{time:.2} s"),
        _ => format!("{time:.0} s"),
    }
}

/// What `--json` prints.
#[derive(Serialize)]
struct Document<'a> {
    load: LoadView<'a>,
    /// What the pool itself made of its history.
    #[serde(skip_serializing_if = "Option::is_none")]
    recorded: Option<&'a Recorded>,
    slo: f64,
    trials: Vec<TrialView<'a>>,
}

#[derive(Serialize)]
struct LoadView<'a> {
    words: &'a str,
    /// When it begins, by the clock of the simulation.
    begins: String,
    jobs: usize,
    span: f64,
    work: f64,
    seed: u64,
}

#[derive(Serialize)]
struct TrialView<'a> {
    settings: &'a str,
    #[serde(flatten)]
    figures: &'a Figures,
    /// Worker time in the recorded part of a history.
    #[serde(skip_serializing_if = "Option::is_none")]
    worker_seconds_in_record: Option<f64>,
    /// No other has both a shorter p95 wait and fewer worker-seconds.
    on_front: bool,
    /// Each change of the size: seconds, and the size since then.
    sizes: Vec<(f64, u32)>,
}

impl<'a> TrialView<'a> {
    fn of(trial: &'a Trial, on_front: bool, recorded: Option<&Recorded>) -> Self {
        let change = |change: &Change| (change.at.as_secs_f64(), change.to);
        let first = (0.0, trial.run.first_workers);
        TrialView {
            settings: &trial.variant.name,
            figures: &trial.figures,
            worker_seconds_in_record: recorded.map(|recorded| recorded.worker_seconds_of(&trial.run)),
            on_front,
            sizes: std::iter::once(first)
                .chain(trial.run.changes.iter().map(change))
                .collect(),
        }
    }
}

pub(super) fn print_json(args: &SimulateArgs, given: &Given, trials: &[Trial]) -> Outcome {
    let load = &given.load;
    let recorded = given.recorded.as_ref();
    let of_trials = trials.iter().zip(front(trials));
    let document = Document {
        load: LoadView {
            words: &given.words,
            begins: load.begins.unwrap_or(MONDAY).to_string(),
            jobs: load.arrivals.len(),
            span: load.span.as_secs_f64(),
            work: load.work().as_secs_f64(),
            seed: args.load.seed(),
        },
        recorded,
        slo: args.slo.as_secs_f64(),
        trials: of_trials
            .map(|(trial, on_front)| TrialView::of(trial, on_front, recorded))
            .collect(),
    };
    let json = serde_json::to_string_pretty(&document).expect("numbers and text");
    let mut out = Out::new();
    out.json(&json)?;
    out.flush()
}

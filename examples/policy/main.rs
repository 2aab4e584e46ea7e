//! Compares the scaling policies with the rules of other programs, in simulation: `scripts/policy`.
//!
//!     cargo run --release --example policy -- [--traces DIRECTORY] [--seeds N] [--svg FILE]
//!
//! It prints tables. `peers`: the rules. `loads`: what they are tried on.

mod compare;
mod loads;
mod peers;

use std::path::PathBuf;

use compare::{Row, Rule, WAIT_MIN_S};
use pool::picture::chart::{Axis, COLORS, Chart, Mark, Scale, Series};
use pool::picture::svg;

/// Loads of which there is a picture each.
const SHOWN: [&str; 2] = ["200 of 0.5 s each 5 min", "azure_llm_code"];

/// What is asked for.
struct Args {
    traces: PathBuf,
    seeds: u64,
    picture: Option<PathBuf>,
}

fn args() -> std::io::Result<Args> {
    let mut asked = Args {
        traces: PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/policy/traces")),
        seeds: 3,
        picture: None,
    };
    let mut args = std::env::args().skip(1);
    while let Some(flag) = args.next() {
        let seeds = |text: &str| text.parse().ok().filter(|seeds| *seeds > 0);
        match (flag.as_str(), args.next()) {
            ("--traces", Some(directory)) => asked.traces = directory.into(),
            ("--seeds", Some(text)) if seeds(&text).is_some() => asked.seeds = seeds(&text).unwrap_or(1),
            ("--svg", Some(file)) => asked.picture = Some(file.into()),
            _ => {
                let usage = "usage: policy [--traces DIRECTORY] [--seeds N] [--svg FILE]";
                return Err(std::io::Error::other(usage));
            }
        }
    }
    Ok(asked)
}

fn main() -> std::io::Result<()> {
    let args = args()?;
    let mut loads: Vec<_> = (1..=args.seeds).flat_map(loads::synthetic).collect();
    loads.extend(loads::recorded(&args.traces));
    let rules = compare::rules();
    let rows = compare::all(&rules, loads);
    println!("{}", summary(&rules, &rows));
    println!("{}", by_load(&rules, &rows));
    let Some(path) = args.picture else { return Ok(()) };
    let title = format!("geometric means over {} loads", rows.len());
    let mut charts = vec![chart(&rules, title, |at| means(&rows, at))];
    for row in rows.iter().filter(|row| SHOWN.contains(&row.name.as_str())) {
        let point = |at: usize| {
            let outcome = &row.outcomes[at];
            (outcome.wait_p95.max(WAIT_MIN_S), outcome.worker_ratio)
        };
        charts.push(chart(&rules, row.name.clone(), point));
    }
    std::fs::write(path, svg::encode(&Chart::stack(&charts, (960, 480))))
}

/// How many rules are policies of this pool. They come first.
fn own(rules: &[Rule]) -> usize {
    rules.iter().filter(|rule| rule.own.is_some()).count()
}

fn geometric_mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0.0), |(sum, count), value| (sum + value.ln(), count + 1.0));
    (sum / f64::max(count, 1.0)).exp()
}

/// Geometric means of the p95 wait in seconds and of the worker-seconds as a multiple of the bound.
fn means(rows: &[Row], rule: usize) -> (f64, f64) {
    let wait = geometric_mean(rows.iter().map(|row| row.outcomes[rule].wait_p95.max(WAIT_MIN_S)));
    let workers = geometric_mean(rows.iter().map(|row| row.outcomes[rule].worker_ratio));
    (wait, workers)
}

fn summary(rules: &[Rule], rows: &[Row]) -> String {
    let mut text = format!(
        "| Rule | within 5 % of the front, of {} | furthest behind | p95 wait, mean | worker-seconds × bound, mean | late jobs, mean | reversals |\n\
         |---|---:|---:|---:|---:|---:|---:|\n",
        rows.len()
    );
    for (at, rule) in rules.iter().enumerate() {
        let behind = || rows.iter().map(|row| row.behind(rules, at));
        let (wait, workers) = means(rows, at);
        let late: f64 = rows.iter().map(|row| row.outcomes[at].late_share).sum::<f64>() / rows.len() as f64;
        let reversals: u64 = rows.iter().map(|row| row.outcomes[at].reversals).sum();
        text.push_str(&format!(
            "| {} | {} | {:.0} % | {wait:.2} s | {workers:.2} | {:.1} % | {reversals} |\n",
            rule.name,
            behind().filter(|behind| *behind <= 0.05).count(),
            behind().fold(0.0, f64::max) * 100.0,
            late * 100.0,
        ));
    }
    text
}

/// The policies of this pool on each load, and who is better than the first one in both.
fn by_load(rules: &[Rule], rows: &[Row]) -> String {
    let own: Vec<usize> = (0..own(rules)).collect();
    let names: Vec<&str> = own.iter().map(|at| rules[*at].name.as_str()).collect();
    let mut text = format!(
        "| Load | {} |\n|---|{}\n",
        names.join(" | "),
        "---:|".repeat(own.len())
    );
    for row in rows {
        let cell = |at: &usize| {
            let outcome = &row.outcomes[*at];
            let behind = match row.behind(rules, *at) {
                behind if behind > 0.05 => format!(", {:.0} % behind", behind * 100.0),
                _ => String::new(),
            };
            format!("{:.2} s, {:.0}{behind}", outcome.wait_p95, outcome.worker_seconds)
        };
        let cells: Vec<String> = own.iter().map(cell).collect();
        text.push_str(&format!("| {} | {} |\n", row.name, cells.join(" | ")));
    }
    text
}

/// All rules in one picture. `point`: p95 wait and worker-seconds as a multiple of the bound.
fn chart(rules: &[Rule], title: String, point: impl Fn(usize) -> (f64, f64)) -> Chart {
    let points: Vec<(f64, f64)> = (0..rules.len())
        .map(point)
        .map(|(wait, workers)| (workers, wait))
        .collect();
    let own = own(rules);
    let series = |of: std::ops::Range<usize>, color| Series {
        name: String::new(),
        mark: Mark::Dots,
        color,
        values: points[of.clone()].to_vec(),
        labels: rules[of].iter().map(|rule| rule.name.clone()).collect(),
    };
    Chart {
        title,
        across: Axis::over(
            "worker-seconds, as a multiple of the bound",
            Scale::Linear,
            points.iter().map(|point| point.0),
        ),
        up: Axis::over(
            "p95 wait, s",
            Scale::Logarithmic,
            points.iter().map(|point| point.1),
        ),
        series: vec![series(own..rules.len(), COLORS[6]), series(0..own, COLORS[1])],
    }
}

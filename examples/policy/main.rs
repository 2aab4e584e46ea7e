//! Compares the scaling policies with the rules of other programs, in simulation: `scripts/policy`.
//!
//!     cargo run --release --example policy -- [--traces DIRECTORY] [--svg FILE]
//!
//! It prints tables. `peers`: the rules. `loads`: what they are tried on.

mod compare;
mod loads;
mod peers;

use std::path::PathBuf;

use compare::{Row, Rule, WAIT_MIN_S};
use pool::picture::chart::{Axis, COLORS, Chart, Mark, Scale, Series};
use pool::picture::svg;

fn main() -> std::io::Result<()> {
    let (mut traces, mut picture) = (None, None);
    let mut args = std::env::args_os().skip(1);
    while let Some(flag) = args.next() {
        let value = args.next().map(PathBuf::from);
        match flag.to_str() {
            Some("--traces") => traces = value,
            Some("--svg") => picture = value,
            _ => {
                return Err(std::io::Error::other(
                    "usage: policy [--traces DIRECTORY] [--svg FILE]",
                ));
            }
        }
    }
    let mut loads = loads::synthetic(1);
    loads.extend(traces.iter().flat_map(|directory| loads::recorded(directory)));
    let rules = compare::rules();
    let rows = compare::all(&rules, loads);
    println!("{}", summary(&rules, &rows));
    println!("{}", by_load(&rules, &rows));
    match picture {
        Some(path) => std::fs::write(
            path,
            svg::encode(&Chart::stack(&[chart(&rules, &rows)], (960, 600))),
        ),
        None => Ok(()),
    }
}

fn geometric_mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0.0), |(sum, count), value| (sum + value.ln(), count + 1.0));
    (sum / f64::max(count, 1.0)).exp()
}

/// Geometric means of the p95 wait in seconds and of the worker-seconds as a multiple of the bound.
fn means(rows: &[Row], rule: usize) -> (f64, f64) {
    let wait = geometric_mean(rows.iter().map(|row| row.figures[rule].wait_p95.max(WAIT_MIN_S)));
    let workers = geometric_mean(rows.iter().map(|row| row.figures[rule].worker_ratio));
    (wait, workers)
}

fn summary(rules: &[Rule], rows: &[Row]) -> String {
    let mut text = format!(
        "| Rule | within 5 % of the front, of {} | furthest behind | p95 wait, mean | worker-seconds × bound, mean | late jobs, mean | reversals |\n\
         |---|---:|---:|---:|---:|---:|---:|\n",
        rows.len()
    );
    for (at, rule) in rules.iter().enumerate() {
        let behind = || rows.iter().map(|row| row.behind(at));
        let (wait, workers) = means(rows, at);
        let late: f64 = rows.iter().map(|row| row.figures[at].late_share).sum::<f64>() / rows.len() as f64;
        let reversals: u64 = rows.iter().map(|row| row.figures[at].reversals).sum();
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
    let own: Vec<usize> = (0..3).collect();
    let names: Vec<&str> = own.iter().map(|at| rules[*at].name.as_str()).collect();
    let mut text = format!(
        "| Load | {} |\n|---|{}\n",
        names.join(" | "),
        "---:|".repeat(own.len())
    );
    for row in rows {
        let cell = |at: &usize| {
            let figures = &row.figures[*at];
            let behind = match row.behind(*at) {
                behind if behind > 0.05 => format!(", {:.0} % behind", behind * 100.0),
                _ => String::new(),
            };
            format!("{:.2} s, {:.0}{behind}", figures.wait_p95, figures.worker_seconds)
        };
        let cells: Vec<String> = own.iter().map(cell).collect();
        text.push_str(&format!("| {} | {} |\n", row.name, cells.join(" | ")));
    }
    text
}

fn chart(rules: &[Rule], rows: &[Row]) -> Chart {
    let points: Vec<(f64, f64)> = (0..rules.len())
        .map(|at| means(rows, at))
        .map(|(wait, workers)| (workers, wait))
        .collect();
    let series = |of: std::ops::Range<usize>, color| Series {
        name: String::new(),
        mark: Mark::Dots,
        color,
        values: points[of.clone()].to_vec(),
        labels: rules[of].iter().map(|rule| rule.name.clone()).collect(),
    };
    Chart {
        title: format!("geometric means over {} loads", rows.len()),
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
        series: vec![series(3..rules.len(), COLORS[6]), series(0..3, COLORS[1])],
    }
}

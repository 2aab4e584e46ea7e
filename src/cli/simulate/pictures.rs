//! Pictures of what came out: one run over time, or several variants against each other.

use std::path::Path;

use crate::picture::chart::{Axis, COLORS, Chart, LIGHT, Mark, Scale, Series};
use crate::picture::shapes::Picture;
use crate::picture::{png, svg};
use crate::sim::replay::Sample;

use super::super::report::{Code, Failure, Outcome};
use super::report::front;
use super::{SimulateArgs, Trial};

/// Pixels of a chart.
const CHART: (u32, u32) = (960, 300);
/// Pixels of the picture of several variants.
const COMPARISON: (u32, u32) = (960, 600);

/// Writes the pictures that were asked for.
pub(super) fn write(args: &SimulateArgs, words: &str, trials: &[Trial]) -> Outcome {
    if args.svg.is_none() && args.png.is_none() {
        return Ok(());
    }
    let picture = match trials {
        [trial] => over_time(words, trial),
        trials => comparison(words, trials),
    };
    if let Some(path) = &args.svg {
        save(path, svg::encode(&picture).as_bytes())?;
    }
    if let Some(path) = &args.png {
        let bytes = png::encode(&picture);
        save(
            path,
            &bytes.map_err(|error| Failure::new(Code::Failed, error.to_string()))?,
        )?;
    }
    Ok(())
}

fn save(path: &Path, bytes: &[u8]) -> Outcome {
    std::fs::write(path, bytes).map_err(|error| {
        let path = path.display();
        Failure::new(Code::Failed, format!("cannot write `{path}`: {error}"))
    })
}

/// Workers, busy ones and waiting jobs over time.
fn over_time(title: &str, trial: &Trial) -> Picture {
    let samples = &trial.run.samples;
    let values = |of: fn(&Sample) -> f64| -> Vec<(f64, f64)> {
        let value = |sample: &Sample| (sample.at.as_secs_f64(), of(sample));
        samples.iter().map(value).collect()
    };
    let series = |name: &str, mark, color, values: Vec<(f64, f64)>| Series {
        name: name.to_owned(),
        mark,
        color,
        values,
        labels: Vec::new(),
    };
    let busy = values(|sample| sample.busy_average);
    let workers = values(|sample| f64::from(sample.workers));
    let waiting = values(|sample| sample.waiting as f64);
    let seconds = || Axis::over("seconds", Scale::Linear, workers.iter().map(|value| value.0));
    let up =
        |title, values: &[(f64, f64)]| Axis::over(title, Scale::Linear, values.iter().map(|value| value.1));
    let charts = [
        Chart {
            title: title.to_owned(),
            across: seconds(),
            up: up("workers", &workers),
            series: vec![
                series("busy", Mark::Area, LIGHT, busy),
                series("workers", Mark::Steps, COLORS[0], workers.clone()),
            ],
        },
        Chart {
            title: String::new(),
            across: seconds(),
            up: up("jobs waiting", &waiting),
            series: vec![series("waiting", Mark::Steps, COLORS[1], waiting)],
        },
    ];
    Chart::stack(&charts, CHART)
}

/// The p95 wait against worker-seconds; a line through those that no other one beats in both.
fn comparison(title: &str, trials: &[Trial]) -> Picture {
    /// Shorter waits are drawn as one of this, in seconds: nobody notices them, and a logarithm has no zero.
    const WAIT_MIN: f64 = 0.001;
    let point = |trial: &Trial| (trial.figures.worker_seconds, trial.figures.wait_p95.max(WAIT_MIN));
    let values: Vec<(f64, f64)> = trials.iter().map(point).collect();
    let on_front = trials.iter().zip(front(trials)).filter(|(_, is_best)| *is_best);
    let mut best: Vec<(f64, f64)> = on_front.map(|(trial, _)| point(trial)).collect();
    best.sort_by(|a, b| a.0.total_cmp(&b.0));
    let chart = Chart {
        title: title.to_owned(),
        across: Axis::over(
            "worker-seconds",
            Scale::Linear,
            values.iter().map(|value| value.0),
        ),
        up: Axis::over(
            "p95 wait, s",
            Scale::Logarithmic,
            values.iter().map(|value| value.1),
        ),
        series: vec![
            Series {
                name: String::new(),
                mark: Mark::Line,
                color: COLORS[1],
                values: best,
                labels: Vec::new(),
            },
            Series {
                name: String::new(),
                mark: Mark::Dots,
                color: COLORS[0],
                values,
                labels: trials.iter().map(|trial| trial.variant.name.clone()).collect(),
            },
        ],
    };
    Chart::stack(&[chart], COMPARISON)
}

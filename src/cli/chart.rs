//! A small chart of how a pool grew and shrank, for `pool demo` and `pool simulate`. Pure: samples in, text out.

/// A pool at one instant.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// Seconds since the start.
    pub at_s: f64,
    /// Workers that serve jobs.
    pub workers: u32,
    /// Of these, busy.
    pub busy: u32,
    /// Over the window; `None` while no worker was alive.
    pub utilization: Option<f64>,
    /// Jobs that could run and wait.
    pub waiting: u64,
}

/// Columns for the names of the rows, on the left.
const MARGIN: usize = 13;
/// Most rows of workers; of more workers a row stands for several.
const ROWS_MAX: u32 = 16;

/// The chart, at most `width` columns wide and as high as the most workers, up to [`ROWS_MAX`], each line ended.
///
/// A column is a stretch of time: its height the most workers in it, its dark part those busy on average.
pub fn draw(samples: &[Sample], width: usize) -> String {
    let (Some(first), Some(last)) = (samples.first(), samples.last()) else {
        return String::new();
    };
    let columns = columns(samples, width.saturating_sub(MARGIN).max(10));
    let highest = columns.iter().map(|column| column.workers).max().unwrap_or(0);
    let mut text = String::new();
    let step = highest.div_ceil(ROWS_MAX).max(1);
    let rows = highest.div_ceil(step);
    for level in (1..=rows).rev().map(|row| row * step) {
        let bar: String = columns.iter().map(|column| column.cell(level, step)).collect();
        let name = if level == rows * step { "workers" } else { "" };
        text.push_str(&row(&format!("{name:<8}{level:>3}"), '┤', &bar));
    }
    text.push_str(&row("", '└', &axis(columns.len(), last.at_s - first.at_s).0));
    text.push_str(&row("", ' ', &axis(columns.len(), last.at_s - first.at_s).1));
    let shares = columns.iter().map(|column| column.utilization);
    text.push_str(&row("utilization", ' ', &spark(shares, 1.0)));
    let most = columns.iter().map(|column| column.waiting).max().unwrap_or(0);
    let waiting = columns.iter().map(|column| Some(column.waiting as f64));
    text.push_str(&row("waiting", ' ', &spark(waiting, most as f64)));
    text.push_str(&row(
        "",
        ' ',
        &format!("█ busy  ░ idle; utilization up to 1.00, waiting up to {most}"),
    ));
    text
}

fn row(name: &str, edge: char, cells: &str) -> String {
    let line = format!("{name:<12}{edge}{cells}");
    format!("{}\n", line.trim_end())
}

/// The samples of one column, put together.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Column {
    workers: u32,
    busy: f64,
    utilization: Option<f64>,
    waiting: u64,
}

impl Column {
    fn of(samples: &[Sample]) -> Self {
        let busy: u32 = samples.iter().map(|sample| sample.busy).sum();
        Column {
            workers: samples.iter().map(|sample| sample.workers).max().unwrap_or(0),
            busy: f64::from(busy) / samples.len().max(1) as f64,
            utilization: samples.iter().rev().find_map(|sample| sample.utilization),
            waiting: samples.iter().map(|sample| sample.waiting).max().unwrap_or(0),
        }
    }

    /// The cell of the workers up to `level`, of which it shows the last `step`.
    fn cell(&self, level: u32, step: u32) -> char {
        if level - step >= self.workers {
            ' '
        } else if self.busy >= f64::from(level) - f64::from(step) / 2.0 {
            '█'
        } else {
            '░'
        }
    }
}

/// The samples by time in at most `count` columns; a stretch without a sample repeats the one before.
fn columns(samples: &[Sample], count: usize) -> Vec<Column> {
    let (start, end) = (samples[0].at_s, samples[samples.len() - 1].at_s);
    let count = count.min(samples.len());
    let step = ((end - start) / count as f64).max(f64::MIN_POSITIVE);
    let mut columns: Vec<Column> = Vec::with_capacity(count);
    let mut rest = samples;
    for column in 1..=count {
        let until = start + step * column as f64;
        let taken = if column == count {
            rest.len()
        } else {
            rest.iter().take_while(|sample| sample.at_s < until).count()
        };
        let (these, later) = rest.split_at(taken);
        let same = columns.last().copied().unwrap_or_default();
        columns.push(if these.is_empty() { same } else { Column::of(these) });
        rest = later;
    }
    columns
}

/// The time axis and the numbers below it: a tick each five, ten, twenty … seconds, whatever leaves room.
fn axis(columns: usize, seconds: f64) -> (String, String) {
    /// Columns from one number to the next, at least.
    const ROOM: f64 = 8.0;
    let per_second = columns as f64 / seconds.max(f64::MIN_POSITIVE);
    let steps = [
        1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600, 7200, 14_400, 28_800, 86_400, 172_800,
    ];
    let step = steps
        .into_iter()
        .find(|step| f64::from(*step) * per_second >= ROOM)
        .unwrap_or(604_800);
    let (unit, size) = match step {
        3600.. => ("h", 3600),
        120.. => ("m", 60),
        _ => ("s", 1),
    };
    let (mut line, mut numbers) = (vec!['─'; columns], String::new());
    for tick in 0.. {
        let at = (f64::from(tick * step) * per_second) as usize;
        if at >= columns {
            break;
        }
        line[at] = '┬';
        let number = format!("{}{unit}", tick * step / size);
        numbers.push_str(&" ".repeat(at.saturating_sub(numbers.chars().count())));
        if at + number.len() <= columns {
            numbers.push_str(&number);
        }
    }
    (line.into_iter().collect(), numbers)
}

/// One character a value, from empty to full at `most`.
fn spark(values: impl Iterator<Item = Option<f64>>, most: f64) -> String {
    const LEVELS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let level = |value: f64| {
        let share = if most > 0.0 {
            (value / most).clamp(0.0, 1.0)
        } else {
            0.0
        };
        // What is not nothing shows.
        LEVELS[(share * 8.0).ceil() as usize]
    };
    values.map(|value| value.map_or(' ', level)).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sample(at_s: f64, workers: u32, busy: u32, utilization: f64, waiting: u64) -> Sample {
        Sample {
            at_s,
            workers,
            busy,
            utilization: Some(utilization),
            waiting,
        }
    }

    #[test]
    fn growth_and_shrinking_can_be_seen() {
        let samples: Vec<Sample> = (0..100)
            .map(|i| match i {
                0..10 => sample(f64::from(i) / 2.0, 2, 2, f64::from(i) / 10.0, 3),
                10..20 => sample(f64::from(i) / 2.0, 3, 2, 0.8, 1),
                20..60 => sample(f64::from(i) / 2.0, 4, 2, 0.5, 0),
                60..80 => sample(f64::from(i) / 2.0, 4 - u32::from(i > 70), 0, 0.2, 0),
                _ => sample(f64::from(i) / 2.0, 2, 0, 0.0, 0),
            })
            .collect();
        insta::assert_snapshot!(draw(&samples, 80));
    }

    #[test]
    fn nothing_measured_is_nothing_drawn() {
        assert_eq!(draw(&[], 80), "");
    }

    proptest! {
        #[test]
        fn the_chart_stays_within_its_width(
            steps in proptest::collection::vec((0.0f64..100.0, 0u32..20, 0u32..20, 0.0f64..1.0, 0u64..10_000), 1..300),
            width in 30usize..200,
        ) {
            let mut at_s = 0.0;
            let samples: Vec<Sample> = steps
                .into_iter()
                .map(|(passed, workers, busy, utilization, waiting)| {
                    at_s += passed;
                    sample(at_s, workers, busy, utilization, waiting)
                })
                .collect();
            for line in draw(&samples, width).lines().filter(|line| !line.contains("busy")) {
                prop_assert!(line.chars().count() <= width, "{line:?}");
            }
        }
    }
}

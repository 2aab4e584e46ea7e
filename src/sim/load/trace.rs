//! Loads that were recorded: the columns of a CSV file.

use std::fmt;
use std::io::Read;
use std::ops::Range;
use std::str::FromStr;
use std::time::Duration;

use csv::{Reader, StringRecord};
use fastrand::Rng;

use super::service::ServiceTime;
use super::shape::JOBS_MAX;
use super::{Arrival, KINDS_MAX, Load};
use crate::job::QueueName;
use crate::time::{Unix, parse_duration, parse_timestamp, seconds_to_duration};

/// Which column says what.
#[derive(Clone, Debug, PartialEq)]
pub struct Columns {
    /// When a job comes: seconds, or a date with a time.
    pub arrival: String,
    /// How long it runs: seconds, a duration, or a number of `service_unit`; `None`: the file does not say.
    pub service: Option<String>,
    /// What a bare number of the service column counts.
    pub service_unit: Duration,
    /// How many jobs a row stands for, evenly until the next row; `None`: one.
    pub count: Option<String>,
    /// The task; `None`: all are of one.
    pub task: Option<String>,
    /// The queue; `None`: the first one of the pool.
    pub queue: Option<String>,
}

impl Default for Columns {
    fn default() -> Self {
        Columns {
            arrival: "arrival".into(),
            service: None,
            service_unit: Duration::from_secs(1),
            count: None,
            task: None,
            queue: None,
        }
    }
}

/// Why a text names no columns.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected `ROLE=COLUMN`, separated by commas, with the roles arrival, service, count, task and queue; \
     `service=tokens*20ms` multiplies"
)]
pub struct ColumnsError;

/// `arrival=TIMESTAMP,service=GeneratedTokens*20ms`
impl FromStr for Columns {
    type Err = ColumnsError;

    fn from_str(text: &str) -> Result<Self, ColumnsError> {
        let mut columns = Columns::default();
        for part in text.split(',') {
            let (role, name) = part.split_once('=').ok_or(ColumnsError)?;
            let name = name.trim().to_owned();
            match role.trim() {
                _ if name.is_empty() => return Err(ColumnsError),
                "arrival" => columns.arrival = name,
                "service" => match name.rsplit_once('*') {
                    Some((name, unit)) => {
                        columns.service = Some(name.to_owned());
                        columns.service_unit = parse_duration(unit).map_err(|_| ColumnsError)?;
                    }
                    None => columns.service = Some(name),
                },
                "count" => columns.count = Some(name),
                "task" => columns.task = Some(name),
                "queue" => columns.queue = Some(name),
                _ => return Err(ColumnsError),
            }
        }
        Ok(columns)
    }
}

/// Why a file is no load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceError {
    /// The line; 0: the file as a whole.
    pub line: u64,
    /// What is wrong with it.
    pub message: String,
}

impl std::error::Error for TraceError {}

impl fmt::Display for TraceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => f.write_str(&self.message),
            line => write!(f, "line {line}: {}", self.message),
        }
    }
}

/// How a file is to be read.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Which columns; `None`: those that are named like their role.
    pub columns: Option<Columns>,
    /// What jobs take where the file does not say.
    pub service: ServiceTime,
    /// So many times faster than it was recorded: instants only, not what jobs take.
    pub speed: f64,
}

/// Reads a CSV file with a header.
///
/// # Errors
/// The first line that can't be read, and why.
pub fn read(file: impl Read, options: &Options, rng: &mut Rng) -> Result<Load, TraceError> {
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(file);
    let places = Places::find(&mut reader, options)?;
    let mut rows = Vec::new();
    let mut load = Load::default();
    for record in reader.records() {
        let record = record.map_err(|error| unreadable(&error))?;
        rows.push(places.row(&record, options, &mut load, rng)?);
        if rows.len() > JOBS_MAX {
            return Err(too_many(0));
        }
    }
    spread(rows, options.speed, load)
}

fn too_many(line: u64) -> TraceError {
    TraceError {
        line,
        message: format!("more than {JOBS_MAX} jobs"),
    }
}

fn unreadable(error: &csv::Error) -> TraceError {
    let line = error.position().map_or(0, csv::Position::line);
    let message = match error.kind() {
        csv::ErrorKind::UnequalLengths {
            expected_len, len, ..
        } => {
            format!("{len} columns, and the header has {expected_len}")
        }
        csv::ErrorKind::Utf8 { .. } => "not UTF-8".to_owned(),
        _ => error.to_string(),
    };
    TraceError { line, message }
}

/// One row: seconds of its arrival by the file's clock, and so many jobs.
struct Row {
    line: u64,
    at: f64,
    /// It said when that was, and not only how long after the others.
    is_dated: bool,
    count: u64,
    service: Duration,
    kind: u16,
}

/// Where the columns stand.
struct Places {
    arrival: usize,
    service: Option<usize>,
    service_unit: Duration,
    count: Option<usize>,
    task: Option<usize>,
    queue: Option<usize>,
}

impl Places {
    fn find(reader: &mut Reader<impl Read>, options: &Options) -> Result<Places, TraceError> {
        let header = reader.headers().map_err(|error| unreadable(&error))?.clone();
        let place = |name: &str| header.iter().position(|known| known == name);
        let named = |name: &str| {
            place(name).ok_or_else(|| TraceError {
                line: 1,
                message: format!(
                    "no column `{name}`; there are `{}`",
                    header.iter().collect::<Vec<_>>().join("`, `")
                ),
            })
        };
        let Some(columns) = &options.columns else {
            return Ok(Places {
                arrival: named("arrival")?,
                service: place("service"),
                service_unit: Duration::from_secs(1),
                count: place("count"),
                task: place("task"),
                queue: place("queue"),
            });
        };
        let of = |name: &Option<String>| name.as_deref().map(named).transpose();
        Ok(Places {
            arrival: named(&columns.arrival)?,
            service: of(&columns.service)?,
            service_unit: columns.service_unit,
            count: of(&columns.count)?,
            task: of(&columns.task)?,
            queue: of(&columns.queue)?,
        })
    }

    fn row(
        &self,
        record: &StringRecord,
        options: &Options,
        load: &mut Load,
        rng: &mut Rng,
    ) -> Result<Row, TraceError> {
        let line = record.position().map_or(0, csv::Position::line);
        let wrong = |message: String| TraceError { line, message };
        let text = |place: usize| record.get(place).unwrap_or_default();
        let at = text(self.arrival);
        let (at, is_dated) = seconds(at).ok_or_else(|| {
            wrong(format!(
                "arrival `{at}`; expected seconds such as `12.5`, or a date with a time such as `2026-03-01 09:05:00`"
            ))
        })?;
        let service = match self.service.map(text) {
            Some(service) => self.service_time(service).ok_or_else(|| {
                wrong(format!(
                    "service time `{service}`; expected seconds such as `0.25`, or a duration such as `250ms`"
                ))
            })?,
            None => options.service.draw(rng),
        };
        let count = match self.count.map(text) {
            // Some count with a fraction of nothing: `12.0`.
            Some(count) => count
                .parse::<f64>()
                .ok()
                .filter(|count| (0.0..=1e9).contains(count))
                .map(|count| count.round() as u64)
                .ok_or_else(|| wrong(format!("count `{count}`; expected a number of jobs")))?,
            None => 1,
        };
        let queue = self.queue.map(text).map(QueueName::new).transpose();
        let queue = queue.map_err(|error| wrong(format!("a queue's name {error}")))?;
        let task = self.task.map_or("job", text);
        let kind = load.kind(task, queue.as_ref());
        let kind = kind.ok_or_else(|| wrong(format!("more than {KINDS_MAX} tasks and queues")))?;
        Ok(Row {
            line,
            at,
            is_dated,
            count,
            service,
            kind,
        })
    }

    fn service_time(&self, text: &str) -> Option<Duration> {
        match text.parse::<f64>() {
            Ok(number) => seconds_to_duration(number * self.service_unit.as_secs_f64()).ok(),
            Err(_) => parse_duration(text).ok(),
        }
    }
}

/// Numbers that are Unix times, and not seconds since the start of a recording: those of 2001 to 2100.
const UNIX_TIMES: Range<f64> = 1e9..4.102_444_8e9;

/// Seconds since some instant that is the same for the whole file, and whether that is the Unix epoch.
fn seconds(text: &str) -> Option<(f64, bool)> {
    match text.parse::<f64>() {
        Ok(number) => number.is_finite().then(|| (number, UNIX_TIMES.contains(&number))),
        Err(_) => Some((parse_timestamp(text)?.0 as f64 / 1e3, true)),
    }
}

/// The jobs of all rows: a row of several spreads them until the next row.
fn spread(mut rows: Vec<Row>, speed: f64, mut load: Load) -> Result<Load, TraceError> {
    rows.sort_by(|a, b| a.at.total_cmp(&b.at));
    let Some(first) = rows.first() else {
        return Err(TraceError {
            line: 0,
            message: "no row: nothing but a header".into(),
        });
    };
    let start = first.at;
    load.begins = first.is_dated.then(|| Unix((start * 1e3).round() as i64));
    let mut interval = 0.0;
    let nexts = rows.iter().skip(1).map(|row| Some(row.at)).chain([None]);
    for (row, next) in rows.iter().zip(nexts) {
        // The last one has no next, and is taken to be as long as the one before it.
        interval = next.map_or(interval, |next| next - row.at);
        if load.arrivals.len() as u64 + row.count > JOBS_MAX as u64 {
            return Err(too_many(row.line));
        }
        for job in 0..row.count {
            let at = (row.at - start + interval * job as f64 / row.count as f64) / speed;
            load.arrivals.push(Arrival {
                at: seconds_to_duration(at).map_err(|error| TraceError {
                    line: row.line,
                    message: error.to_string(),
                })?,
                service: row.service,
                kind: row.kind,
            });
        }
    }
    load.arrivals.sort_by_key(|arrival| arrival.at);
    load.span = load.arrivals.last().map_or(Duration::ZERO, |last| last.at);
    Ok(load)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(columns: &str) -> Options {
        Options {
            columns: (!columns.is_empty()).then(|| columns.parse().unwrap()),
            service: ServiceTime::Fixed(Duration::from_secs(9)),
            speed: 1.0,
        }
    }

    fn read_text(text: &str, columns: &str) -> Result<Load, TraceError> {
        read(text.as_bytes(), &options(columns), &mut Rng::with_seed(1))
    }

    fn jobs(load: &Load) -> Vec<(f64, f64)> {
        let job = |arrival: &Arrival| (arrival.at.as_secs_f64(), arrival.service.as_secs_f64());
        load.arrivals.iter().map(job).collect()
    }

    #[test]
    fn columns_named_like_their_role_need_no_flag() {
        let load = read_text("service,arrival\n0.5,10\n250ms,12.5\n", "").unwrap();
        assert_eq!(jobs(&load), [(0.0, 0.5), (2.5, 0.25)]);
        assert_eq!(load.span, Duration::from_millis(2500));
    }

    #[test]
    fn other_columns_are_named_and_numbers_have_a_unit() {
        let text = "TIMESTAMP,Context,Tokens\n2023-11-16 18:15:46.6805900,1,10\n2023-11-16 18:15:50,2,8\n";
        let load = read_text(text, "arrival=TIMESTAMP,service=Tokens*20ms").unwrap();
        assert_eq!(load.arrivals[0].service, Duration::from_millis(200));
        assert_eq!(load.arrivals[1].at, Duration::from_millis(3320));
    }

    #[test]
    fn a_file_with_dates_begins_at_the_first_of_them() {
        for (arrivals, begins) in [
            (
                "2026-12-01T09:30:01Z\n2026-12-01T09:30:00.5Z",
                Some(1_796_117_400_500),
            ),
            ("1796117401\n1796117400.5", Some(1_796_117_400_500)),
            ("0\n12.5", None),
            ("0\n1796117401", None),
        ] {
            let options = Options {
                speed: 1e6,
                ..options("")
            };
            let text = format!("arrival\n{arrivals}\n");
            let load = read(text.as_bytes(), &options, &mut Rng::with_seed(1)).unwrap();
            assert_eq!(load.begins, begins.map(Unix), "{arrivals}");
        }
    }

    #[test]
    fn a_row_of_several_jobs_spreads_them_until_the_next_row() {
        let load = read_text("t,n\n0,2\n10,0.0\n20,4\n", "arrival=t,count=n").unwrap();
        let at: Vec<f64> = load.arrivals.iter().map(|job| job.at.as_secs_f64()).collect();
        assert_eq!(at, [0.0, 5.0, 20.0, 22.5, 25.0, 27.5]);
        assert!(
            load.arrivals
                .iter()
                .all(|job| job.service == Duration::from_secs(9))
        );
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        for (text, columns, message) in [
            (
                "a,b\n1,2\n",
                "",
                "line 1: no column `arrival`; there are `a`, `b`",
            ),
            (
                "arrival\n1\nsoon\n",
                "",
                "line 3: arrival `soon`; expected seconds such as `12.5`, or a date with a time such as `2026-03-01 09:05:00`",
            ),
            (
                "arrival,service\n1,1\n2,-1\n",
                "",
                "line 3: service time `-1`; expected seconds such as `0.25`, or a duration such as `250ms`",
            ),
            (
                "arrival,count\n1,many\n",
                "",
                "line 2: count `many`; expected a number of jobs",
            ),
            (
                "arrival,service\n1\n",
                "",
                "line 2: 1 columns, and the header has 2",
            ),
            ("arrival\n", "", "no row: nothing but a header"),
            (
                "arrival,queue\n1,\n",
                "arrival=arrival,queue=queue",
                "line 2: a queue's name is empty",
            ),
        ] {
            assert_eq!(
                read_text(text, columns).unwrap_err().to_string(),
                message,
                "{text}"
            );
        }
        for text in ["", "when=a", "arrival", "service=x*y", "arrival="] {
            assert_eq!(text.parse::<Columns>(), Err(ColumnsError), "{text}");
        }
    }
}

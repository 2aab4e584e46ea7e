//! Loads that were recorded: the columns of a CSV file.

use std::fmt;
use std::io::Read;
use std::ops::Range;
use std::time::Duration;

use csv::{Reader, StringRecord};
use fastrand::Rng;

use super::columns::Columns;
use super::service::ServiceTime;
use super::{Arrival, DAYS_MAX, Excess, JOBS_MAX, Load, SPAN_MAX};
use crate::job::QueueName;
use crate::time::{Unix, parse_duration, parse_timestamp, seconds_to_duration};

/// Why a file is no load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceError {
    /// The line; 0: the file as a whole.
    pub line: u64,
    /// What is wrong with it.
    pub message: String,
    /// What would mend it.
    pub about: About,
}

/// What is wrong with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum About {
    /// Its header: other columns may be meant.
    Columns,
    /// It says what jobs take, and somebody else does too.
    Service,
    /// Too many jobs, or too long a time: a part of it may do.
    Size,
    /// What it says.
    Content,
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
    /// That was asked for, and is for nothing else: a file that says it too is refused.
    pub service_is_for_it: bool,
    /// So many times faster than it was recorded: instants only, not what jobs take.
    pub speed: f64,
    /// Only what comes in so much time from its start, at that speed; `None`: all.
    pub lasts: Option<Duration>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            columns: None,
            service: ServiceTime::Fixed(Duration::from_secs(1)),
            service_is_for_it: false,
            speed: 1.0,
            lasts: None,
        }
    }
}

/// Reads a CSV file with a header.
///
/// # Errors
/// The first line that can't be read, and why.
pub fn read(file: impl Read, options: &Options, rng: &mut Rng) -> Result<Load, TraceError> {
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(file);
    let places = Places::find(&mut reader, options)?;
    if places.service.is_some() && options.service_is_for_it {
        return Err(TraceError {
            line: 1,
            message: "the file has a column of service times already".into(),
            about: About::Service,
        });
    }
    let mut rows = Vec::new();
    let mut load = Load::default();
    for record in reader.records() {
        let record = record.map_err(|error| unreadable(&error))?;
        rows.push(places.row(&record, options, &mut load, rng)?);
        if rows.len() > JOBS_MAX {
            return Err(content(
                0,
                format!("more than {JOBS_MAX} rows; simulate a part of the file"),
            ));
        }
    }
    spread(rows, options, load)
}

fn content(line: u64, message: String) -> TraceError {
    let about = About::Content;
    TraceError { line, message, about }
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
    content(line, message)
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

impl Row {
    fn unix(&self) -> Unix {
        Unix((self.at * 1e3).round() as i64)
    }

    /// When it came, as people read it.
    fn clock(&self) -> String {
        if self.is_dated {
            self.unix().to_string()
        } else {
            self.at.to_string()
        }
    }

    fn too_late(&self, first: &Row, speed: f64) -> TraceError {
        let speed = if speed == 1.0 {
            String::new()
        } else {
            format!(", at {speed} times the speed")
        };
        let message = format!(
            "arrival {} is more than {DAYS_MAX} days after the first one, {} in line {}{speed}",
            self.clock(),
            first.clock(),
            first.line
        );
        TraceError {
            line: self.line,
            message,
            about: About::Size,
        }
    }
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
        if header.iter().all(str::is_empty) {
            return Err(content(0, "no header: the file is empty".into()));
        }
        let named = |name: &str| {
            place(name).ok_or_else(|| TraceError {
                line: 1,
                message: format!(
                    "no column `{name}`; there are `{}`",
                    header.iter().collect::<Vec<_>>().join("`, `")
                ),
                about: About::Columns,
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
        let wrong = |message: String| content(line, message);
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
                    "service time `{service}`; expected seconds such as `0.25`, or a duration such as `250ms`, \
                     of at most {DAYS_MAX} days"
                ))
            })?,
            None => options.service.draw(rng),
        };
        let count = match self.count.map(text) {
            // Some count with a fraction of nothing: `12.0`.
            Some(count) => count
                .parse::<f64>()
                .ok()
                .filter(|count| (0.0..=JOBS_MAX as f64).contains(count))
                .map(|count| count.round() as u64)
                .ok_or_else(|| {
                    wrong(format!(
                        "count `{count}`; expected a number of jobs, at most {JOBS_MAX}"
                    ))
                })?,
            None => 1,
        };
        let queue = self.queue.map(text).map(QueueName::new).transpose();
        let queue = queue.map_err(|error| wrong(format!("a queue's name {error}")))?;
        let task = self.task.map_or("job", text);
        let kind = load.kind(task, queue.as_ref());
        let kind = kind.ok_or_else(|| wrong(Excess::Kinds.to_string()))?;
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
        let time = match text.parse::<f64>() {
            Ok(number) => seconds_to_duration(number * self.service_unit.as_secs_f64()),
            Err(_) => parse_duration(text),
        };
        time.ok().filter(|time| *time <= SPAN_MAX)
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
fn spread(mut rows: Vec<Row>, options: &Options, mut load: Load) -> Result<Load, TraceError> {
    rows.sort_by(|a, b| a.at.total_cmp(&b.at));
    let Some(first) = rows.first() else {
        return Err(content(0, "no row: nothing but a header".into()));
    };
    load.begins = first.is_dated.then(|| first.unix());
    let is_within = |at: &f64| options.lasts.is_none_or(|lasts| *at < lasts.as_secs_f64());
    let mut interval = 0.0;
    let nexts = rows.iter().skip(1).map(|row| Some(row.at)).chain([None]);
    for (row, next) in rows.iter().zip(nexts) {
        // The last one has no next, and is taken to be as long as the one before it.
        interval = next.map_or(interval, |next| next - row.at);
        let at = |job| (row.at - first.at + interval * job as f64 / row.count as f64) / options.speed;
        for at in (0..row.count).map(at).take_while(is_within) {
            let at = seconds_to_duration(at).ok().filter(|at| *at <= SPAN_MAX);
            let at = at.ok_or_else(|| row.too_late(first, options.speed))?;
            if load.arrivals.len() == JOBS_MAX {
                return Err(TraceError {
                    line: row.line,
                    message: Excess::Jobs.to_string(),
                    about: About::Size,
                });
            }
            load.arrivals.push(Arrival {
                at,
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
            ..Options::default()
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
    fn the_first_part_of_a_file_may_be_taken_whatever_comes_later() {
        let part = |speed, lasts_s| {
            let options = Options {
                speed,
                lasts: Some(Duration::from_secs(lasts_s)),
                ..options("")
            };
            let text = "arrival,count\n0,1\n5,2\n15,1\n1e18,1\n";
            let load = read(text.as_bytes(), &options, &mut Rng::with_seed(1)).unwrap();
            load.arrivals.len()
        };
        assert_eq!(
            [(1.0, 5), (1.0, 11), (1.0, 20), (5.0, 2)].map(|(speed, lasts)| part(speed, lasts)),
            [1, 3, 4, 2]
        );
        let slow = Options {
            speed: 1e-9,
            ..options("")
        };
        let error = read("arrival\n1\n2\n".as_bytes(), &slow, &mut Rng::with_seed(1)).unwrap_err();
        assert_eq!((error.line, error.about), (3, About::Size), "{error}");
    }

    #[test]
    fn a_service_time_beside_a_column_of_them_is_refused() {
        let asked = Options {
            service_is_for_it: true,
            ..options("")
        };
        let read = |text: &str| read(text.as_bytes(), &asked, &mut Rng::with_seed(1));
        assert_eq!(read("arrival,service\n1,1\n").unwrap_err().about, About::Service);
        assert!(read("arrival\n1\n").is_ok());
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
                "line 3: service time `-1`; expected seconds such as `0.25`, or a duration such as `250ms`, of at most 366 days",
            ),
            (
                "arrival,count\n1,many\n",
                "",
                "line 2: count `many`; expected a number of jobs, at most 20000000",
            ),
            (
                "arrival,service\n1\n",
                "",
                "line 2: 1 columns, and the header has 2",
            ),
            ("arrival\n", "", "no row: nothing but a header"),
            ("", "", "no header: the file is empty"),
            ("\n \n", "", "no header: the file is empty"),
            (
                "arrival\n1767225600\n1767225601\n0\n",
                "",
                "line 2: arrival 2026-01-01T00:00:00.000Z is more than 366 days after the first one, 0 in line 4",
            ),
            (
                "arrival\n2\n1e18\n",
                "",
                "line 3: arrival 1000000000000000000 is more than 366 days after the first one, 2 in line 2",
            ),
            (
                "arrival,count\n1,99999999999\n",
                "",
                "line 2: count `99999999999`; expected a number of jobs, at most 20000000",
            ),
            (
                "arrival,service\n1,367d\n",
                "",
                "line 2: service time `367d`; expected seconds such as `0.25`, or a duration such as `250ms`, of at most 366 days",
            ),
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
    }
}

//! The load that the flags describe.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use fastrand::Rng;

use crate::sim::load::columns::Columns;
use crate::sim::load::service::ServiceTime;
use crate::sim::load::shape::{Shape, Work};
use crate::sim::load::trace::{self, About};
use crate::sim::load::{DAYS_MAX, Excess, JOBS_MAX, Load, SPAN_MAX, counted};
use crate::time::{Human, Unix, parse_duration};

use super::super::report::{Code, Failure};
use super::history::{History, Part};
use super::usage;

/// How long jobs come if nobody says it.
const SPAN: Duration = Duration::from_secs(3600);

#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Load")]
pub(super) struct LoadArgs {
    /// Jobs a second at random instants: `2`, `90/m` or `100/h`
    #[arg(long, allow_negative_numbers = true, value_name = "RATE")]
    poisson: Option<Rate>,
    /// Jobs a second at even intervals
    #[arg(long, allow_negative_numbers = true, value_name = "RATE")]
    steady: Option<Rate>,
    /// Random jobs at one rate, and at another in the middle third of the time
    #[arg(long, allow_negative_numbers = true, value_name = "RATE..RATE")]
    step: Option<Rates>,
    /// So many jobs at once: at the start, or each so often, as in `200/10m`
    #[arg(
        long = "burst",
        id = "burst_of",
        allow_negative_numbers = true,
        value_name = "JOBS[/TIME]"
    )]
    burst: Option<Burst>,
    /// Random jobs at a rate that follows the day, at midnight and at noon
    #[arg(long, allow_negative_numbers = true, value_name = "RATE..RATE")]
    diurnal: Option<Rates>,
    /// A CSV file with a header: columns `arrival` and `service`, and if need be `count`, `task` and `queue`
    #[arg(long, value_name = "FILE")]
    arrivals: Option<PathBuf>,
    /// Which columns of the file say what: `arrival=when,service=tokens*20ms`
    #[arg(long, value_name = "ROLE=COLUMN,…", requires = "arrivals")]
    columns: Option<Columns>,
    /// Let the jobs of the file come so many times faster
    #[arg(long, allow_negative_numbers = true, value_name = "FACTOR", default_value = "1", value_parser = factor, requires = "arrivals")]
    speed: f64,
    /// How long a job takes: `1s`, `0.5s..2s` or `exp:1s` (exponential with that mean); of a history, where it was not measured [default: 1s]
    #[arg(long, allow_negative_numbers = true, value_name = "TIME")]
    service: Option<ServiceTime>,
    /// A share of the jobs that takes longer, as in `5%=1m`
    #[arg(long, allow_negative_numbers = true, value_name = "SHARE=TIME")]
    long: Option<Long>,
    /// What came to the pool, from its history: that which `pool run` keeps, or another file
    #[arg(long, value_name = "FILE", num_args = 0..=1)]
    history: Option<Option<PathBuf>>,
    /// Begin so long ago in the history [default: as far as it goes]
    #[arg(long, allow_negative_numbers = true, value_name = "TIME", value_parser = parse_duration, requires = "history")]
    since: Option<Duration>,
    /// Jobs compute, and share so many processors; by default each goes on by itself, as if it waited for others
    #[arg(long, allow_negative_numbers = true, value_name = "N", value_parser = processors)]
    cores: Option<u32>,
    /// How long jobs come [default: 1h; of a file or a history all]
    #[arg(long = "for", allow_negative_numbers = true, value_name = "TIME", value_parser = span)]
    span: Option<Duration>,
    /// Seed of all that is random
    #[arg(long, allow_negative_numbers = true, value_name = "N", default_value = "1", value_parser = seed)]
    seed: u64,
}

impl LoadArgs {
    pub fn seed(&self) -> u64 {
        self.seed
    }

    fn shapes(&self) -> Vec<Shape> {
        let shapes = [
            self.poisson.map(|rate| Shape::Poisson(rate.0)),
            self.steady.map(|rate| Shape::Steady(rate.0)),
            self.step.map(|rates| Shape::Step(rates.0, rates.1)),
            self.burst.map(|burst| Shape::Burst(burst.jobs, burst.every)),
            self.diurnal.map(|rates| Shape::Diurnal(rates.0, rates.1)),
        ];
        shapes.into_iter().flatten().collect()
    }

    pub fn cores(&self) -> Option<u32> {
        self.cores
    }

    fn span(&self) -> Duration {
        self.span.unwrap_or(SPAN)
    }

    /// The history that was asked for: in the file that is named, else in the supervisor's own.
    pub fn history(&self, own: &Path, pool: Option<&str>) -> Result<Option<History>, Failure> {
        let Some(path) = &self.history else {
            return Ok(None);
        };
        let part = Part {
            path: path.as_deref().unwrap_or(own),
            pool,
            since: self.since,
            lasts: self.span,
        };
        History::read(&part, Unix::now()).map(Some)
    }

    fn service(&self) -> ServiceTime {
        self.service.unwrap_or(ServiceTime::Fixed(Duration::from_secs(1)))
    }

    /// All that was asked for, together.
    pub fn load(&self, history: Option<&History>) -> Result<Load, Failure> {
        let mut rng = Rng::with_seed(self.seed);
        let shapes = self.shapes();
        let is_recorded = self.arrivals.is_some() || history.is_some();
        if self.long.is_some() && shapes.is_empty() && is_recorded {
            return Err(usage("--long has no effect on recorded jobs")
                .hint("it is a share of the jobs of --poisson, --steady, --step, --burst and --diurnal"));
        }
        let work = Work {
            service: self.service(),
            long: self.long.map(|long| (long.share, long.service)),
        };
        let mut load: Option<Load> = None;
        let mut add = |more: Load| -> Result<(), Failure> {
            let both = match load.take() {
                Some(load) => load.and(more).map_err(too_many)?,
                None => more,
            };
            load = Some(both);
            Ok(())
        };
        for shape in shapes {
            add(shape.load(&work, self.span(), &mut rng).map_err(too_many)?)?;
        }
        if let Some(path) = &self.arrivals {
            add(self.read(path, history.is_some(), &mut rng)?)?;
        }
        if let Some(history) = history {
            let rebuilt = counted::rebuild(&history.stretches(), self.service(), history.span, &mut rng);
            add(rebuilt.map_err(too_many)?)?;
        }
        let mut load = load.ok_or_else(|| {
            usage("no load").hint(
                "give one or several of --poisson, --steady, --step, --burst, --diurnal, --arrivals and --history",
            )
        })?;
        if load.arrivals.is_empty() {
            return Err(self.no_jobs(history));
        }
        load.begins = history.map(|history| history.begins).or(load.begins);
        Ok(load)
    }

    /// Why there are none.
    fn no_jobs(&self, history: Option<&History>) -> Failure {
        let failure = usage("the load has no jobs");
        let shapes = self.shapes();
        if history.is_some() {
            failure.hint("none came in this part of the history: --since and --for choose another one")
        } else if self.arrivals.is_some() {
            let time = self.span.map_or("", |_| " in the time of --for");
            failure.hint(format!("no row of the file counts a job{time}"))
        } else if shapes.iter().all(|shape| shape.expected(SPAN_MAX) == 0.0) {
            failure.hint("give a rate above 0, or a burst of 1 job or more")
        } else {
            failure.hint("the rate is low for so short a time: a longer --for brings jobs")
        }
    }

    fn read(&self, path: &Path, has_history: bool, rng: &mut Rng) -> Result<Load, Failure> {
        let file = File::open(path).map_err(|error| {
            Failure::new(Code::Usage, format!("cannot read `{}`: {error}", path.display()))
        })?;
        let options = trace::Options {
            columns: self.columns.clone(),
            service: self.service(),
            service_is_for_it: self.service.is_some() && self.shapes().is_empty() && !has_history,
            speed: self.speed,
            lasts: self.span,
        };
        let load = trace::read(BufReader::new(file), &options, rng);
        load.map_err(|error| {
            let failure = usage(format!("`{}`: {error}", path.display()));
            match error.about {
                About::Columns if self.columns.is_none() => {
                    failure.hint("name the columns with --columns arrival=COLUMN,service=COLUMN")
                }
                About::Service => failure
                    .hint("leave --service out, or the column: --columns arrival=COLUMN reads no other one"),
                About::Size => {
                    failure.hint("--for takes the first part of the file, --speed lets its jobs come faster")
                }
                About::Columns | About::Content => failure,
            }
        })
    }

    /// In words.
    pub fn words(&self, load: &Load, history: Option<&History>) -> String {
        let mut words = Vec::new();
        let span = format!("for {}", Human(self.span()));
        for shape in self.shapes() {
            words.push(match shape {
                Shape::Steady(rate) => format!("{rate} jobs a second {span}"),
                Shape::Poisson(rate) => format!("{rate} random jobs a second {span}"),
                Shape::Step(low, high) => {
                    format!("{low} random jobs a second {span}, in its middle third {high}")
                }
                Shape::Burst(jobs, None) => format!("{jobs} jobs at once"),
                Shape::Burst(jobs, Some(every)) => {
                    format!("{jobs} jobs at once each {} {span}", Human(every))
                }
                Shape::Diurnal(night, noon) => {
                    format!("{night} random jobs a second at midnight to {noon} at noon {span}")
                }
            });
        }
        if !words.is_empty() {
            let long = self
                .long
                .map(|long| format!(", {:.3} of them {}", long.share, long.service));
            words.push(format!("{} each{}", self.service(), long.unwrap_or_default()));
        }
        if let Some(path) = &self.arrivals {
            let speed = if self.speed == 1.0 {
                String::new()
            } else {
                format!(" {} times faster", self.speed)
            };
            let from = load.begins.filter(|_| history.is_none());
            let from = from.map_or(String::new(), |begins| format!(" from {begins}"));
            words.push(format!("{}{from}{speed}", path.display()));
        }
        words.extend(history.map(History::words));
        words.extend(self.cores.map(|cores| format!("on {cores} processors")));
        words.join(", ")
    }
}

fn too_many(excess: Excess) -> Failure {
    let failure = usage(format!("the load has {excess}"));
    match excess {
        Excess::Jobs => failure.hint("a shorter --for takes fewer"),
        Excess::Kinds => failure,
    }
}

fn span(text: &str) -> Result<Duration, String> {
    let span = parse_duration(text).map_err(|error| error.to_string())?;
    let is_short = span <= SPAN_MAX;
    is_short
        .then_some(span)
        .ok_or_else(|| format!("a load lasts at most {DAYS_MAX} days"))
}

fn processors(text: &str) -> Result<u32, String> {
    let number = text.parse().ok().filter(|number| *number > 0);
    number.ok_or_else(|| "expected a number of processors, 1 or more".to_owned())
}

fn seed(text: &str) -> Result<u64, String> {
    text.parse()
        .map_err(|_| format!("expected a whole number from 0 to {}", u64::MAX))
}

fn factor(text: &str) -> Result<f64, String> {
    let number = text.parse::<f64>().ok();
    number
        .filter(|number| number.is_finite() && *number > 0.0)
        .ok_or_else(|| "expected a number above 0".to_owned())
}

/// Jobs a second.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Rate(f64);

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (number, seconds) = match text.split_once('/') {
            None | Some((_, "s")) => (text.trim_end_matches("/s"), 1.0),
            Some((number, "m")) => (number, 60.0),
            Some((number, "h")) => (number, 3600.0),
            Some((number, "d")) => (number, 86_400.0),
            Some(_) => (text, 1.0),
        };
        let number = number
            .parse::<f64>()
            .ok()
            .filter(|rate| (0.0..=1e9).contains(rate));
        number.map(|number| Rate(number / seconds)).ok_or_else(|| {
            "expected jobs a second such as `2`, or `90/m`, `100/h`, `500/d`, from 0 to 1e9".to_owned()
        })
    }
}

/// Two rates.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Rates(f64, f64);

impl FromStr for Rates {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let rates = text.split_once("..");
        let (one, other) = rates.ok_or("expected two rates such as `2..40`")?;
        Ok(Rates(one.parse::<Rate>()?.0, other.parse::<Rate>()?.0))
    }
}

/// Jobs at once.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Burst {
    jobs: u32,
    every: Option<Duration>,
}

impl FromStr for Burst {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (jobs, every) = match text.split_once('/') {
            Some((jobs, every)) => (
                jobs,
                Some(parse_duration(every).map_err(|error| error.to_string())?),
            ),
            None => (text, None),
        };
        if every.is_some_and(|every| every.is_zero()) {
            return Err("the time between two bursts is 0".to_owned());
        }
        let jobs = jobs.parse().ok().filter(|jobs| *jobs as usize <= JOBS_MAX);
        let jobs = jobs.ok_or_else(|| {
            format!("expected a number of jobs such as `200`, or `200/10m`, at most {JOBS_MAX}")
        })?;
        Ok(Burst { jobs, every })
    }
}

/// A share of the jobs that takes longer.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Long {
    share: f64,
    service: ServiceTime,
}

impl FromStr for Long {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = "expected a share and a time such as `5%=1m`";
        let (share, service) = text.split_once('=').ok_or(expected)?;
        let number = |text: &str| text.parse::<f64>().ok();
        let share = match share.strip_suffix('%') {
            Some(percent) => number(percent).map(|percent| percent / 100.0),
            None => number(share),
        };
        let share = share
            .filter(|share| (0.0..=1.0).contains(share))
            .ok_or(expected)?;
        let service = service
            .parse::<ServiceTime>()
            .map_err(|error| error.to_string())?;
        Ok(Long { share, service })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_bursts_and_shares_read_as_people_write_them() {
        assert_eq!("2".parse(), Ok(Rate(2.0)));
        assert_eq!("90/m".parse(), Ok(Rate(1.5)));
        assert_eq!("2..40".parse(), Ok(Rates(2.0, 40.0)));
        let every = Some(Duration::from_secs(600));
        assert_eq!("200/10m".parse(), Ok(Burst { jobs: 200, every }));
        let service = ServiceTime::Fixed(Duration::from_secs(60));
        assert_eq!("5%=1m".parse(), Ok(Long { share: 0.05, service }));
        for text in ["", "-1", "2/x", "nan"] {
            assert!(text.parse::<Rate>().is_err(), "{text}");
        }
        for text in ["", "-1", "2/0s", "2/", "99999999999", "20000001"] {
            assert!(text.parse::<Burst>().is_err(), "{text}");
        }
        for text in ["5%", "200%=1s", "x=1s"] {
            assert!(text.parse::<Long>().is_err(), "{text}");
        }
    }
}

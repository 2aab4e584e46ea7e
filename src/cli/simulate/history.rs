//! The load that a pool's own history tells of, and what the pool made of it.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use crate::job::QueueName;
use crate::sim::load::counted::{Spread, Stretch};
use crate::sim::load::{DAYS_MAX, SPAN_MAX};
use crate::sim::replay::Run;
use crate::telemetry::history::file;
use crate::telemetry::history::record::{QueueStep, SLOT_S, Step};
use crate::telemetry::history::steps::{STEP_S, Steps};
use crate::time::{Human, Unix};

use super::super::report::{Code, Failure};
use super::usage;

/// A pool's history from one instant to another.
#[derive(Debug)]
pub(super) struct History {
    /// The file.
    path: PathBuf,
    /// The pool.
    pool: String,
    /// Its steps that have a part in that time.
    steps: Vec<Step>,
    /// When the last of all its steps ended, or now.
    until: Unix,
    /// From then.
    pub begins: Unix,
    /// For so long.
    pub span: Duration,
}

/// What the pool made of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Recorded {
    /// Seconds of which there is a record, in whole steps.
    seen: f64,
    /// Worker time in them.
    worker_seconds: f64,
    /// Fewest workers.
    workers_min: u32,
    /// Most workers.
    workers_max: u32,
    /// Changes of the size.
    changes: u32,
    /// Most jobs that waited at the end of a period.
    waiting_max: u64,
    /// The longest that one of them had waited.
    wait_max: f64,
    /// Its steps.
    #[serde(skip)]
    parts: Vec<RecordedPart>,
}

/// A whole step, as a part of the load.
#[derive(Clone, Debug, PartialEq)]
struct RecordedPart {
    /// Since the start of the load.
    within: Range<Duration>,
    /// The share of it that was seen.
    seen_share: f64,
}

/// Which part of it is wanted.
#[derive(Debug)]
pub(super) struct Part<'a> {
    /// The file.
    pub path: &'a Path,
    /// The pool; `None`: the one that there is.
    pub pool: Option<&'a str>,
    /// It begins so long ago; `None`: with the history.
    pub since: Option<Duration>,
    /// It lasts so long; `None`: to its end.
    pub lasts: Option<Duration>,
}

impl History {
    /// Reads it.
    pub fn read(part: &Part<'_>, now: Unix) -> Result<Self, Failure> {
        let shown = part.path.display().to_string();
        let records = file::read(part.path).map_err(|error| {
            Failure::new(Code::Usage, format!("cannot read the history `{shown}`: {error}"))
        })?;
        let mut pools: BTreeMap<String, Vec<Step>> = BTreeMap::new();
        for step in Steps::of(records) {
            pools.entry(step.pool.clone()).or_default().push(step);
        }
        let names = pools.keys().cloned().collect::<Vec<_>>().join(", ");
        let chosen = match part.pool {
            Some(pool) => pools.remove_entry(pool),
            None if pools.len() > 1 => {
                let failure = usage(format!("`{shown}` is the history of several pools"));
                return Err(failure.hint(format!("choose one with --pool: {names}")));
            }
            None => pools.pop_first(),
        };
        let Some((pool, steps)) = chosen else {
            let of = part
                .pool
                .map_or(String::new(), |pool| format!(" of a pool `{pool}`"));
            return Err(usage(format!("there is no history{of} in `{shown}`"))
                .hint("`pool run` keeps one; `--history FILE` names another file"));
        };
        let history = History {
            path: part.path.to_owned(),
            pool,
            begins: steps[0].at,
            span: Duration::ZERO,
            until: steps.last().map_or(now, |last| end_of(last).min(now)),
            steps,
        };
        history.within(part, now)
    }

    /// The part that is wanted.
    fn within(mut self, part: &Part<'_>, now: Unix) -> Result<Self, Failure> {
        if let Some(since) = part.since {
            self.begins = self.begins.max(before(now, since));
        }
        self.span = self.until.since(self.begins);
        if let Some(lasts) = part.lasts {
            self.span = self.span.min(lasts);
        }
        if self.span > SPAN_MAX {
            return Err(usage(format!(
                "the history `{}` lasts {}; a load lasts at most {DAYS_MAX} days",
                self.path.display(),
                Human(self.span)
            ))
            .hint("--since and --for choose a part of it"));
        }
        let (begins, ends) = (self.begins, after(self.begins, self.span));
        self.steps.retain(|step| end_of(step) > begins && step.at < ends);
        if self.steps.is_empty() {
            return Err(usage(format!(
                "the history `{}` has no step in that time",
                self.path.display()
            )));
        }
        Ok(self)
    }

    /// What came, as it was counted.
    pub fn stretches(&self) -> Vec<Stretch> {
        let times = self.service_times();
        let mut stretches = Vec::new();
        for step in &self.steps {
            for queue in &step.queues {
                let Ok(name) = QueueName::new(&queue.flow.queue) else {
                    continue; // no pool has such a queue
                };
                stretches.push(Stretch {
                    queue: name,
                    starts_s: (step.at.0 - self.begins.0) as f64 / 1e3,
                    slot_s: f64::from(SLOT_S),
                    until_s: (self.until.0 - self.begins.0) as f64 / 1e3,
                    slots: queue.arrivals.clone(),
                    service: times
                        .get(queue.flow.queue.as_str())
                        .and_then(|known| nearest(known, step.at)),
                });
            }
        }
        stretches
    }

    /// Service times of each queue, by the steps in which they were measured.
    fn service_times(&self) -> BTreeMap<&str, BTreeMap<Unix, Spread>> {
        let mut times: BTreeMap<&str, BTreeMap<Unix, Spread>> = BTreeMap::new();
        for step in &self.steps {
            for QueueStep { flow, .. } in &step.queues {
                if let (Some(mean_s), Some(deviation_s)) = (flow.mean_s(), flow.deviation_s()) {
                    let spread = Spread { mean_s, deviation_s };
                    times.entry(&flow.queue).or_default().insert(step.at, spread);
                }
            }
        }
        times
    }

    /// What the pool made of it, in whole steps.
    pub fn recorded(&self) -> Option<Recorded> {
        let ends = after(self.begins, self.span);
        let is_whole = |step: &&Step| step.at >= self.begins && end_of(step).min(self.until) <= ends;
        let steps: Vec<&Step> = self.steps.iter().filter(is_whole).collect();
        Some(Recorded {
            seen: steps.iter().map(|step| step.seen_s).sum(),
            worker_seconds: steps.iter().map(|step| step.worker_s).sum(),
            workers_min: steps.iter().map(|step| step.workers_min).min()?,
            workers_max: steps.iter().map(|step| step.workers_max).max()?,
            changes: steps.iter().map(|step| step.grew + step.shrank).sum(),
            waiting_max: steps.iter().map(|step| step.waiting_max).max()?,
            wait_max: steps
                .iter()
                .map(|step| step.oldest_waiting_s_max)
                .fold(0.0, f64::max),
            parts: steps.iter().map(|step| self.part(step)).collect(),
        })
    }

    fn part(&self, step: &Step) -> RecordedPart {
        let ends = end_of(step).min(self.until);
        RecordedPart {
            within: step.at.since(self.begins)..ends.since(self.begins),
            seen_share: (step.seen_s / ends.since(step.at).as_secs_f64()).min(1.0),
        }
    }

    /// In words.
    pub fn words(&self) -> String {
        format!(
            "the history of {} for {} from {}",
            self.pool,
            Human(Duration::from_secs(self.span.as_secs())),
            self.begins
        )
    }
}

impl Recorded {
    /// The worker-seconds that a simulation had in the time that is recorded: to compare with those that the pool had.
    pub fn worker_seconds_of(&self, run: &Run) -> f64 {
        let of_part = |part: &RecordedPart| run.worker_seconds(part.within.clone()) * part.seen_share;
        self.parts.iter().map(of_part).sum()
    }

    /// In words.
    pub fn words(&self) -> String {
        let seen = Human(Duration::from_secs(self.seen as u64));
        format!(
            "recorded in {seen} of whole steps: {:.0} worker-seconds (the simulation's in the same time: IN RECORD), \
             {} to {} workers, {} changes, at most {} jobs waited, the oldest that a decision saw for {:.1} s",
            self.worker_seconds,
            self.workers_min,
            self.workers_max,
            self.changes,
            self.waiting_max,
            self.wait_max
        )
    }
}

/// What was measured in a step, or last before it, or first after it.
fn nearest(known: &BTreeMap<Unix, Spread>, at: Unix) -> Option<Spread> {
    let before = known.range(..=at).next_back();
    before
        .or_else(|| known.range(at..).next())
        .map(|(_, spread)| *spread)
}

fn end_of(step: &Step) -> Unix {
    after(step.at, Duration::from_secs(u64::from(STEP_S)))
}

fn after(at: Unix, time: Duration) -> Unix {
    Unix(at.0.saturating_add(i64::try_from(time.as_millis()).unwrap_or(i64::MAX)))
}

fn before(at: Unix, time: Duration) -> Unix {
    Unix(at.0.saturating_sub(i64::try_from(time.as_millis()).unwrap_or(i64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::snapshot::QueueFlow;
    use crate::sim::replay::Change;
    use crate::telemetry::history::record::Record;

    const NOON: i64 = 1_700_000_100_000;

    /// A step that begins so many minutes after noon.
    fn step(pool: &str, minutes: i64, arrivals: &[u64], service_s: Option<f64>) -> Record {
        let jobs = arrivals.iter().sum::<u64>();
        let ended = service_s.map_or(0, |_| jobs);
        let service_s = service_s.unwrap_or(0.0);
        Record::Step(Step {
            pool: pool.into(),
            at: Unix(NOON + minutes * 60_000),
            seconds: STEP_S,
            seen_s: 300.0,
            worker_s: 600.0,
            workers_min: 2,
            workers_max: 3,
            queues: vec![QueueStep {
                flow: QueueFlow {
                    queue: "mail".into(),
                    arrived: jobs,
                    ended,
                    service_s: service_s * ended as f64,
                    service_s2: service_s * service_s * ended as f64,
                },
                arrivals: arrivals.to_vec(),
            }],
            ..Step::default()
        })
    }

    fn read(records: &[Record], part: &Part<'_>) -> Result<History, Failure> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pool.sock.history");
        file::replace(&path, records).unwrap();
        let now = Unix(NOON + 20 * 60_000);
        History::read(&Part { path: &path, ..*part }, now)
    }

    fn all() -> Part<'static> {
        Part {
            path: Path::new(""),
            pool: None,
            since: None,
            lasts: None,
        }
    }

    #[test]
    fn steps_become_stretches_with_the_service_times_that_were_measured_nearest() {
        let records = [
            step("web", 0, &[1], None),
            step("web", 5, &[0, 4], Some(0.5)),
            step("web", 10, &[2], None),
        ];
        let history = read(&records, &all()).unwrap();
        assert_eq!((history.begins, history.span.as_secs()), (Unix(NOON), 900));
        let stretches = history.stretches();
        let starts: Vec<f64> = stretches.iter().map(|stretch| stretch.starts_s).collect();
        assert_eq!(starts, [0.0, 300.0, 600.0]);
        let mean = |stretch: &Stretch| stretch.service.map(|spread| spread.mean_s);
        assert!(stretches.iter().all(|stretch| mean(stretch) == Some(0.5)));
        assert_eq!(stretches[1].slots, [0, 4]);
        let recorded = history.recorded().unwrap();
        assert_eq!((recorded.worker_seconds, recorded.workers_max), (1800.0, 3));
    }

    #[test]
    fn worker_seconds_are_compared_over_the_time_that_is_recorded() {
        // Nobody looked from minute 5 to 15.
        let records = [0, 15].map(|minutes| step("web", minutes, &[1], Some(1.0)));
        let recorded = read(&records, &all()).unwrap().recorded().unwrap();
        let run = Run {
            first_workers: 2,
            changes: vec![Change {
                at: Duration::from_secs(960),
                from: 2,
                to: 3,
            }],
            took: Duration::from_secs(1200),
            ..Run::default()
        };
        assert_eq!(recorded.worker_seconds, 1200.0);
        assert_eq!(recorded.worker_seconds_of(&run), 600.0 + 120.0 + 720.0);
    }

    #[test]
    fn a_part_of_it_can_be_chosen() {
        let records = [0, 5, 10, 15].map(|minutes| step("web", minutes, &[1], Some(1.0)));
        let part = Part {
            since: Some(Duration::from_secs(12 * 60)),
            lasts: Some(Duration::from_secs(6 * 60)),
            ..all()
        };
        let history = read(&records, &part).unwrap();
        assert_eq!(
            (history.begins, history.span.as_secs()),
            (Unix(NOON + 480_000), 360)
        );
        assert_eq!(history.stretches()[0].starts_s, -180.0);
        assert_eq!(history.steps.len(), 2);
    }

    #[test]
    fn a_history_of_more_than_a_year_is_taken_in_parts() {
        let records = [
            step("web", -400 * 24 * 60, &[1], None),
            step("web", 0, &[1], None),
        ];
        let error = format!("{:?}", read(&records, &all()).unwrap_err());
        assert!(error.contains("at most 366 days"), "{error}");
        let part = Part {
            since: Some(Duration::from_secs(3600)),
            ..all()
        };
        assert_eq!(read(&records, &part).unwrap().steps.len(), 1);
    }

    #[test]
    fn a_history_of_several_pools_needs_a_name() {
        let records = [step("web", 0, &[1], None), step("mail", 0, &[1], None)];
        let several = format!("{:?}", read(&records, &all()).unwrap_err());
        assert!(several.contains("--pool: mail, web"), "{several}");
        let part = Part {
            pool: Some("mail"),
            ..all()
        };
        assert_eq!(read(&records, &part).unwrap().pool, "mail");
        let part = Part {
            pool: Some("nosuch"),
            ..all()
        };
        assert!(read(&records, &part).is_err());
        assert!(read(&[], &all()).is_err());
    }
}

//! Growth that brings no throughput: jobs that wait for a processor, a lock or a database take longer when more of them run.
//!
//! The measure is how long the jobs of a task take. While a pool has a size that it has shown to be useful, that is learned.
//! After growth it is measured again, with the new workers busy. If jobs take `x` times as long, `m` workers do the work of
//! `m / x` of before. The *gain* is the share of the added workers that this leaves: 1 if jobs take no longer, 0 if the pool
//! does no more than before. Growth with a gain that is certainly small is taken back to the size that does as much, and held
//! for a while. Growth with a gain that is certainly large is the new measure. What is not certain stays, and is measured on.
//!
//! Jobs may take longer because there is more for them to do. So what was taken back is checked, too: if fewer workers certainly
//! do less, it was not the growth, and the hold ends.
//!
//! No clock: time is an argument. Scaled time gives the same verdicts.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::time::Mono;

/// Below this gain growth is taken back.
const GAIN_MIN: f64 = 0.25;
/// Above this gain growth is useful.
const GAIN_USEFUL: f64 = 0.5;
/// A verdict holds for this many standard errors.
const ERRORS: f64 = 2.0;
/// Measurements count only while this share of the workers is busy: else nobody waits for anybody.
const BUSY_MIN: f64 = 0.75;
/// Fewest jobs of a task with which its mean counts.
const JOBS_MIN: f64 = 2.0;
/// Tasks that are kept; names come with jobs, so their number is bounded.
const TASKS_MAX: usize = 256;
/// Jobs that a mean remembers: older ones fade.
const JOBS_REMEMBERED: f64 = 256.0;
/// The variation that is assumed of a task before anything is known of it, as if seen once.
const VARIATION_ASSUMED: f64 = 0.5;

/// How long the jobs of one task take, in seconds.
#[derive(Clone, Copy, Debug, Default)]
struct Times {
    jobs: f64,
    mean: f64,
    /// The sum of the squares of what the jobs differ from the mean.
    squares: f64,
}

impl Times {
    fn add(&mut self, took: f64) {
        let kept = (self.jobs.min(JOBS_REMEMBERED - 1.0)) / self.jobs.max(1.0);
        self.squares *= kept;
        self.jobs = self.jobs * kept + 1.0;
        let differs = took - self.mean;
        self.mean += differs / self.jobs;
        self.squares += differs * (took - self.mean);
    }

    /// The square of the relative standard error of the mean.
    fn error2(&self) -> f64 {
        let mean2 = (self.mean * self.mean).max(f64::MIN_POSITIVE);
        let assumed = VARIATION_ASSUMED * VARIATION_ASSUMED;
        let variation2 = (self.squares / mean2 + assumed) / (self.jobs + 1.0);
        variation2 / self.jobs.max(1.0)
    }
}

type Tasks = BTreeMap<Arc<str>, Times>;

fn record(tasks: &mut Tasks, task: &Arc<str>, took: f64) {
    if let Some(times) = tasks.get_mut(task) {
        times.add(took);
    } else if tasks.len() < TASKS_MAX {
        tasks.entry(task.clone()).or_default().add(took);
    }
}

/// How fast jobs ran at a size, compared with the measure: 1 is as fast, 0.5 is half as fast.
#[derive(Clone, Copy, Debug)]
struct Speed {
    value: f64,
    /// Standard error of its logarithm.
    error: f64,
}

impl Speed {
    /// Of these tasks, of those that the measure knows; each counts with the work of its jobs. `None`: there is none.
    fn of(measured: &Tasks, measure: &Tasks) -> Option<Speed> {
        let (mut expected, mut took, mut error2) = (0.0, 0.0, 0.0);
        for (task, times) in measured {
            let Some(base) = measure
                .get(task)
                .filter(|base| base.jobs >= JOBS_MIN && base.mean > 0.0)
            else {
                continue;
            };
            if times.jobs < JOBS_MIN {
                continue;
            }
            let work = times.jobs * times.mean;
            expected += times.jobs * base.mean;
            took += work;
            error2 += work * work * (times.error2() + base.error2());
        }
        (took > 0.0).then(|| Speed {
            value: expected / took,
            error: error2.sqrt() / took,
        })
    }

    fn most(&self) -> f64 {
        self.value * (ERRORS * self.error).exp()
    }

    fn least(&self) -> f64 {
        self.value * (-ERRORS * self.error).exp()
    }
}

/// What is measured after a change of the size.
#[derive(Clone, Debug)]
struct Trial {
    size: u32,
    since: Mono,
    /// Jobs that are not counted yet. The first of each worker began together: those of them that end first have waited
    /// for few others, and look quicker than jobs are at this size.
    first: u32,
    tasks: Tasks,
}

impl Trial {
    fn new(size: u32, since: Mono) -> Self {
        Trial {
            size,
            since,
            first: size,
            tasks: Tasks::new(),
        }
    }

    /// Jobs that ran at another size say nothing of this one. While more workers are busy than it has, some are still leaving.
    fn ran(&mut self, task: &Arc<str>, (started, took): (Mono, Duration), busy: u32) {
        if busy > self.size {
            self.since = self.since.max(started + took);
        } else if started >= self.since && f64::from(busy) >= BUSY_MIN * f64::from(self.size) {
            if self.first > 0 {
                self.first -= 1;
            } else {
                record(&mut self.tasks, task, took.as_secs_f64());
            }
        }
    }
}

/// Growth that was taken back.
#[derive(Clone, Debug)]
struct Held {
    /// The size that did as much.
    cap: u32,
    until: Mono,
    /// Workers of the measure that the taken size did the work of, at least.
    brought: f64,
    check: Trial,
}

/// What the guard found at the end of a period.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Verdict {
    /// Nothing new.
    None,
    /// The growth brought nothing: no more workers than `to` from now on.
    TakenBack {
        /// The size that did as much.
        to: u32,
        /// The share of the added workers that brought something, as estimated; may be below 0.
        gain: f64,
    },
    /// Growth is free again: the time is over, or it was not the growth.
    Released,
}

/// Watches what growth brings to one pool.
#[derive(Clone, Debug)]
pub struct Guard {
    /// How long growth is held.
    hold: Duration,
    /// The size of the measure.
    proven: u32,
    measure: Tasks,
    /// Since the last change of the size.
    since: Mono,
    trial: Option<Trial>,
    held: Option<Held>,
}

impl Guard {
    /// Holds growth that brings nothing for this long. `None` for 0: there is no guard.
    pub fn new(hold: Duration, size: u32, now: Mono) -> Option<Self> {
        (!hold.is_zero()).then(|| Guard {
            hold,
            proven: size,
            measure: Tasks::new(),
            since: now,
            trial: None,
            held: None,
        })
    }

    /// The most workers that it allows; `None`: it holds nothing.
    pub fn cap(&self) -> Option<u32> {
        self.held.as_ref().map(|held| held.cap)
    }

    /// The pool has another size.
    pub fn resized(&mut self, to: u32, now: Mono) {
        self.since = now;
        if let Some(held) = &mut self.held {
            held.check = Trial::new(to, now);
            return;
        }
        self.trial = (to > self.proven).then(|| Trial::new(to, now));
        self.proven = self.proven.min(to.max(1));
    }

    /// A job ended, while so many workers were busy, its own included.
    pub fn ran(&mut self, task: &Arc<str>, (started, took): (Mono, Duration), busy: u32) {
        match (&mut self.held, &mut self.trial) {
            (Some(held), _) => held.check.ran(task, (started, took), busy),
            (None, Some(trial)) => trial.ran(task, (started, took), busy),
            // What ran at a larger size took as long as it does there.
            (None, None) if busy > self.proven => self.since = self.since.max(started + took),
            (None, None) if started >= self.since => record(&mut self.measure, task, took.as_secs_f64()),
            (None, None) => {}
        }
    }

    /// A period ended.
    pub fn period(&mut self, now: Mono) -> Verdict {
        if self.held.is_some() {
            return self.check(now);
        }
        let Some(trial) = &self.trial else {
            return Verdict::None;
        };
        let Some(speed) = Speed::of(&trial.tasks, &self.measure) else {
            return Verdict::None;
        };
        let (before, after) = (f64::from(self.proven), f64::from(trial.size));
        let gain = |speed: f64| (after * speed - before) / (after - before);
        let brought = |speed: f64| after * speed;
        // A float converts saturating.
        let cap = self.proven.max((brought(speed.value) - GAIN_MIN).ceil() as u32);
        if gain(speed.most()) < GAIN_MIN && cap < trial.size {
            self.held = Some(Held {
                cap,
                until: now + self.hold,
                brought: brought(speed.least()),
                check: Trial::new(cap, now),
            });
            self.trial = None;
            return Verdict::TakenBack {
                to: cap,
                gain: gain(speed.value),
            };
        }
        if gain(speed.least()) > GAIN_USEFUL {
            self.proven = trial.size;
            let measured = std::mem::take(&mut self.trial).map(|trial| trial.tasks);
            // What did not run in the trial is known from before.
            self.measure.extend(measured.unwrap_or_default());
        }
        Verdict::None
    }

    /// Whether what is held stays held.
    fn check(&mut self, now: Mono) -> Verdict {
        let Some(held) = self.held.take_if(|held| {
            let speed = Speed::of(&held.check.tasks, &self.measure);
            let with_fewer = speed.map(|speed| f64::from(held.cap) * speed.most());
            now >= held.until || with_fewer.is_some_and(|fewer| fewer < held.brought * (1.0 - GAIN_MIN))
        }) else {
            return Verdict::None;
        };
        if now < held.until {
            // Jobs take longer than they did, whatever the size.
            self.proven = held.check.size;
            self.measure.extend(held.check.tasks);
        } else {
            self.proven = self.proven.min(held.check.size);
            self.trial = (held.check.size > self.proven).then_some(held.check);
        }
        Verdict::Released
    }
}

#[cfg(test)]
mod tests;

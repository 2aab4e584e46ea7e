//! The guard against a host with a number of processors.

use super::*;
use fastrand::Rng;
use proptest::prelude::*;

const HOLD: Duration = Duration::from_secs(300);

/// A saturated pool: each worker always runs a job.
struct Host {
    guard: Guard,
    task: Arc<str>,
    size: u32,
    now: Mono,
    /// What a job takes with a processor of its own.
    service: Duration,
    /// Jobs that compute share so many; `None`: they sleep.
    cores: Option<u32>,
    /// How much service times vary, relative to their mean.
    variation: f64,
    rng: Rng,
}

impl Host {
    fn new(cores: Option<u32>, size: u32) -> Self {
        let now = Mono(1_000_000_000_000);
        Host {
            guard: Guard::new(HOLD, size, now).unwrap(),
            task: "job".into(),
            size,
            now,
            service: Duration::from_millis(500),
            cores,
            variation: 0.1,
            rng: Rng::with_seed(1),
        }
    }

    fn resize(&mut self, to: u32) {
        self.size = to;
        self.guard.resized(to, self.now);
    }

    /// So many periods of 5 s in which all workers are busy. Returns the first verdict.
    fn periods(&mut self, count: u32) -> Verdict {
        for _ in 0..count {
            let share = self.cores.map_or(1.0, |cores| {
                f64::from(cores.min(self.size)) / f64::from(self.size)
            });
            let mean = self.service.as_secs_f64() / share;
            let jobs = (5.0 * f64::from(self.size) / mean) as u32;
            let begun = self.now;
            self.now = self.now + Duration::from_secs(5);
            for _ in 0..jobs {
                let factor = 1.0 + self.variation * (self.rng.f64() * 2.0 - 1.0) * 3_f64.sqrt();
                let took = Duration::from_secs_f64((mean * factor).max(0.0));
                self.guard.ran(&self.task, (begun, took), self.size);
            }
            match self.guard.period(self.now) {
                Verdict::None => {}
                verdict => return verdict,
            }
        }
        Verdict::None
    }
}

#[test]
fn more_workers_than_processors_are_taken_back_and_held_for_a_while() {
    let mut host = Host::new(Some(2), 2);
    assert_eq!(host.periods(4), Verdict::None);
    host.resize(24);
    let verdict = host.periods(4);
    assert!(
        matches!(verdict, Verdict::TakenBack { to: 2, gain } if gain.abs() < 0.1),
        "{verdict:?}"
    );
    assert_eq!(host.guard.cap(), Some(2));
    host.resize(2);
    assert_eq!(host.periods(50), Verdict::None);
    assert_eq!(host.periods(50), Verdict::Released, "after the hold");
    assert_eq!(host.guard.cap(), None);
}

#[test]
fn growth_is_taken_back_to_as_many_workers_as_there_are_processors() {
    let mut host = Host::new(Some(5), 2);
    host.periods(4);
    host.resize(24);
    assert!(matches!(host.periods(4), Verdict::TakenBack { to: 5, .. }));
    host.resize(5);
    assert_eq!(host.periods(20), Verdict::None, "these do as much");
}

#[test]
fn steps_of_one_worker_are_taken_back_as_soon_as_it_is_certain() {
    let mut host = Host::new(Some(2), 2);
    host.periods(6);
    for size in 3..=24 {
        host.resize(size);
        if let Verdict::TakenBack { to, .. } = host.periods(1) {
            assert_eq!(to, 2);
            assert!(size <= 6, "not before {size} workers");
            return;
        }
    }
    panic!("nothing was taken back");
}

#[test]
fn workers_that_wait_for_no_processor_are_never_taken_back() {
    let mut host = Host::new(None, 2);
    host.periods(2);
    for size in [3, 4, 12, 24] {
        host.resize(size);
        assert_eq!(host.periods(5), Verdict::None, "at {size}");
        assert_eq!(host.guard.proven, size);
    }
}

#[test]
fn growth_that_brings_half_of_what_it_promised_stays() {
    let mut host = Host::new(Some(8), 4);
    host.periods(4);
    host.resize(10);
    assert_eq!(host.periods(40), Verdict::None);
    host.resize(24);
    let verdict = host.periods(40);
    assert!(
        matches!(verdict, Verdict::TakenBack { to: 10, .. }),
        "{verdict:?}"
    );
}

#[test]
fn jobs_that_became_longer_by_themselves_end_the_hold() {
    let mut host = Host::new(None, 2);
    host.periods(4);
    host.service *= 12;
    host.resize(24);
    assert!(matches!(host.periods(8), Verdict::TakenBack { to: 2, .. }));
    host.resize(2);
    assert_eq!(host.periods(20), Verdict::Released);
    host.resize(24);
    assert_eq!(host.periods(20), Verdict::None, "the new times are the measure");
}

/// Jobs behind a lock, each as long as all that wait before it: of the first eight the last takes eight times as long as the
/// first. A period that ends amid them tells nothing wrong.
#[test]
fn the_first_jobs_of_a_size_do_not_end_its_hold() {
    for jobs_until_period in 5..=30 {
        let mut host = Host::new(None, 1);
        (host.variation, host.service) = (0.0, Duration::from_millis(50));
        host.periods(1);
        host.resize(8);
        for job in 0..jobs_until_period {
            let took = host.service * (job + 1).min(8);
            host.guard.ran(&host.task, (host.now, took), 8);
        }
        let mut verdict = host.guard.period(host.now);
        for _ in 0..20 {
            host.guard.ran(&host.task, (host.now, host.service * 8), 8);
        }
        if verdict == Verdict::None {
            verdict = host.guard.period(host.now);
        }
        let Verdict::TakenBack { to: to @ 1..=2, .. } = verdict else {
            panic!("after {jobs_until_period} jobs: {verdict:?}");
        };
        host.resize(to);
        for _ in 0..200 {
            host.guard.ran(&host.task, (host.now, host.service * to), to);
            assert_eq!(
                host.guard.period(host.now),
                Verdict::None,
                "after {jobs_until_period} jobs"
            );
        }
    }
}

/// Only idle workers leave: while the others finish, jobs take as long as before.
#[test]
fn workers_that_are_still_leaving_do_not_end_the_hold() {
    let mut host = Host::new(Some(2), 2);
    host.periods(4);
    host.resize(24);
    assert!(matches!(host.periods(4), Verdict::TakenBack { to: 2, .. }));
    host.resize(2);
    let slow = Duration::from_secs(6);
    for busy in (1..=24).rev() {
        host.guard.ran(&host.task, (host.now, slow), busy);
    }
    host.now = host.now + slow;
    assert_eq!(host.guard.period(host.now), Verdict::None);
    assert_eq!(host.periods(50), Verdict::None, "two do as much");
}

#[test]
fn growth_beyond_what_was_held_is_measured_against_the_first_size() {
    let mut host = Host::new(Some(5), 2);
    host.periods(4);
    host.resize(24);
    assert!(matches!(host.periods(4), Verdict::TakenBack { to: 5, .. }));
    host.resize(5);
    assert_eq!(host.periods(100), Verdict::Released, "after the hold");
    assert_eq!(host.periods(1), Verdict::None);
    assert_eq!(host.guard.proven, 5, "the three brought what they promised");
    host.resize(24);
    assert!(matches!(host.periods(4), Verdict::TakenBack { to: 5, .. }));
}

#[test]
fn workers_that_are_not_busy_prove_nothing() {
    let mut host = Host::new(None, 2);
    host.periods(4);
    host.resize(24);
    for _ in 0..100 {
        host.guard.ran(&host.task, (host.now, Duration::from_secs(60)), 3);
    }
    assert_eq!(host.guard.period(host.now), Verdict::None);
    assert_eq!(host.guard.proven, 2);
}

#[test]
fn tasks_that_were_not_measured_before_prove_nothing() {
    let mut host = Host::new(Some(2), 2);
    host.periods(4);
    host.resize(24);
    host.task = "report".into();
    assert_eq!(host.periods(20), Verdict::None);
    for task in 0..2 * TASKS_MAX {
        let task: Arc<str> = task.to_string().into();
        host.guard.ran(&task, (host.now, Duration::ZERO), 24);
    }
    let trial = host.guard.trial.expect("it goes on");
    assert_eq!(trial.tasks.len(), TASKS_MAX, "names are bounded");
}

#[test]
fn no_hold_is_no_guard() {
    assert!(Guard::new(Duration::ZERO, 2, Mono(0)).is_none());
}

proptest! {
    /// Whatever jobs take and however much they vary: what sleeps is never taken back, and the cap is never below 1.
    #[test]
    fn jobs_that_take_no_longer_are_never_held(
        seed in 0u64..1000,
        variation in 0.0f64..0.5,
        sizes in proptest::collection::vec(1u32..40, 1..12),
    ) {
        let mut host = Host::new(None, 2);
        (host.rng, host.variation) = (Rng::with_seed(seed), variation);
        for size in sizes {
            host.resize(size);
            prop_assert_eq!(host.periods(3), Verdict::None);
        }
    }

    /// All times multiplied give the same verdicts.
    #[test]
    fn there_is_no_unit_of_time(factor in 1u32..100, size in 3u32..30) {
        let verdict = |factor: u32| {
            let mut guard = Guard::new(HOLD * factor, 2, Mono(0)).unwrap();
            let task: Arc<str> = "job".into();
            let at = |second: u64| Mono(second * 1_000_000_000 * u64::from(factor));
            let ran = |guard: &mut Guard, second: u64, took: f64, busy: u32| {
                let took = Duration::from_secs_f64(took) * factor;
                (0..60).for_each(|_| guard.ran(&task, (at(second), took), busy));
            };
            ran(&mut guard, 0, 1.0, 2);
            guard.resized(size, at(5));
            ran(&mut guard, 5, f64::from(size) / 2.0, size);
            guard.period(at(10))
        };
        let (one, other) = (verdict(1), verdict(factor));
        match (one, other) {
            (Verdict::TakenBack { to, gain }, Verdict::TakenBack { to: other_to, gain: other_gain }) => {
                prop_assert_eq!(to, other_to);
                prop_assert!((gain - other_gain).abs() < 1e-6);
            }
            _ => prop_assert_eq!(one, other),
        }
    }
}

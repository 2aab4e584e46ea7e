//! The policy within limits: cases, and what holds for all inputs.

use super::*;
use crate::policy::decision::Decision;
use crate::policy::limits::{Limits, decide};
use crate::policy::memory::Budget;
use crate::policy::scaling::utilization::Utilization;
use crate::policy::share::Share;
use proptest::prelude::*;

/// The settings of a pool.
#[derive(Clone, Copy, Debug)]
struct Rules {
    min: u32,
    max: u32,
    threshold: f64,
    target_wait: Duration,
}

impl Rules {
    fn limits(&self) -> Limits {
        Limits {
            min: self.min,
            max: self.max,
            paused: false,
            loadable: true,
            memory: Budget::UNLIMITED,
            share: Share::UNLIMITED,
            held: None,
        }
    }

    fn policy(&self) -> Demand {
        let target_wait = self.target_wait;
        Demand::new(self.threshold, Settings { target_wait })
    }

    fn look(&self, sample: &Sample) -> Decision {
        decide(&self.limits(), sample, Some(self.policy().look(sample)))
    }

    fn period(&self, sample: &Sample) -> Decision {
        decide(&self.limits(), sample, Some(self.policy().period(sample)))
    }

    /// As the default policy decides.
    fn plain(&self, sample: &Sample) -> Decision {
        decide(
            &self.limits(),
            sample,
            Some(Utilization::new(self.threshold).period(sample)),
        )
    }
}

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const RULES: Rules = Rules {
    min: 2,
    max: 24,
    threshold: 0.5,
    target_wait: SECOND,
};

/// Workers, busy, waiting, the oldest's age and the work in seconds, busy on average, the peak.
fn sample(
    (workers, busy): (u32, u32),
    (waiting, oldest, work): (u64, f64, f64),
    busy_average: Option<f64>,
    peak_busy: u32,
) -> Sample {
    Sample {
        workers,
        busy,
        peak_busy,
        busy_average,
        waiting,
        oldest_waiting: Some(Duration::from_secs_f64(oldest)),
        work: Duration::from_secs_f64(work),
    }
}

fn check(case: &str, rules: Rules, sample: &Sample, (look, period): (u32, u32)) {
    assert_eq!(rules.look(sample).to, look, "{case}: look");
    assert_eq!(rules.period(sample).to, period, "{case}: period");
}

#[test]
fn without_late_jobs_it_grows_as_the_default_and_shrinks_to_what_it_needs() {
    let none = (0, 0.0, 0.0);
    for (case, workers, busy, average, peak, expected) in [
        ("steady: 1.5 of 4 is 0.375", 4, 2, 1.5, 3, 4),
        ("above the threshold: one more", 4, 2, 2.4, 3, 5),
        ("exactly the threshold: none", 4, 2, 2.0, 3, 4),
        ("exactly half of it: none", 4, 2, 1.0, 3, 4),
        ("below half: to the peak", 12, 2, 2.0, 6, 6),
        ("below half: to the need, above the peak", 12, 1, 2.6, 3, 6),
        ("below half, but all were busy at once", 12, 1, 2.0, 12, 12),
        ("idle: to the minimum at once", 12, 0, 0.0, 0, 2),
        ("at the minimum", 2, 0, 0.0, 0, 2),
    ] {
        let sample = sample((workers, busy), none, Some(average), peak);
        check(case, RULES, &sample, (workers, expected));
    }
}

#[test]
fn late_jobs_bring_as_many_workers_as_clear_them_in_time() {
    let busy = Some(1.9);
    for (case, of, waits, average, peak, expected) in [
        (
            "a batch of 500 x 0.2 s on 2",
            (2, 2),
            (498, 0.0, 99.6),
            Some(0.1),
            2,
            24,
        ),
        ("12 s of work on 4 busy", (4, 4), (6, 0.2, 12.0), busy, 4, 10),
        ("5 s of work on 4 busy: late", (4, 4), (50, 0.2, 5.0), busy, 4, 9),
        (
            "4 s of work on 4 busy: in time",
            (4, 4),
            (40, 0.2, 4.0),
            busy,
            4,
            4,
        ),
        ("one short job has waited 1 s", (4, 4), (1, 1.0, 0.01), busy, 4, 5),
        ("one short job waits 0.9 s", (4, 4), (1, 0.9, 0.01), busy, 4, 4),
        ("starting workers count", (9, 4), (5, 1.2, 5.0), busy, 4, 9),
        ("never past one a waiting job", (4, 4), (2, 0.0, 60.0), busy, 4, 6),
        ("utilization 1.0", (4, 4), (20, 3.0, 10.0), Some(4.0), 4, 14),
        ("at the maximum", (24, 24), (500, 9.0, 99.0), Some(24.0), 24, 24),
        (
            "no data, late job: still grows",
            (4, 4),
            (3, 1.5, 0.0),
            None,
            4,
            5,
        ),
    ] {
        let sample = sample(of, waits, average, peak);
        check(case, RULES, &sample, (expected, expected));
    }
    let rules = Rules {
        target_wait: Duration::ZERO,
        ..RULES
    };
    let late = sample((4, 4), (3, 0.0, 0.0), busy, 4);
    check("target_wait 0: one for each", rules, &late, (7, 7));
}

#[test]
fn without_data_and_without_a_minimum() {
    let none = (0, 0.0, 0.0);
    check("no data", RULES, &sample((12, 0), none, None, 0), (12, 12));
    let rules = Rules { min: 0, ..RULES };
    check(
        "empty pool, a job",
        rules,
        &sample((0, 0), (1, 0.0, 0.0), None, 0),
        (1, 1),
    );
    let last = |average| sample((1, 0), none, Some(average), 0);
    check("last worker, used in the window", rules, &last(0.01), (1, 1));
    check("last worker, unused", rules, &last(0.0), (1, 0));
    assert_eq!(rules.period(&last(0.0)).reason, Reason::Idle);
}

#[test]
fn two_jobs_a_second_of_one_second() {
    let busy = |workers| sample((workers, 2), (0, 0.0, 0.0), Some(2.0), 2);
    let story = Rules { max: 5, ..RULES };
    check("2 busy of 3", story, &busy(3), (3, 4));
    check("2 busy of 4", story, &busy(4), (4, 4));
    let high = Rules {
        threshold: 0.8,
        ..RULES
    };
    check("threshold 0.8: 2 busy of 3", high, &busy(3), (3, 3));
    check("threshold 0.8: 2 busy of 6", high, &busy(6), (6, 3));
}

#[test]
fn a_decision_tells_which_term_won() {
    let told = |sample| {
        let decision = RULES.period(&sample);
        (decision.reason, decision.term, decision.candidates.len())
    };
    let none = (0, 0.0, 0.0);
    let jump = sample((4, 4), (20, 3.0, 10.0), Some(4.0), 4);
    assert_eq!(told(jump), (Reason::JobsWaiting, Some(Term::Clears), 1));
    let more = sample((4, 2), none, Some(2.4), 3);
    assert_eq!(told(more), (Reason::Utilization, Some(Term::OneMore), 1));
    let peak = sample((12, 2), none, Some(2.0), 6);
    assert_eq!(told(peak), (Reason::Utilization, Some(Term::Peak), 3));
    let average = sample((12, 1), none, Some(2.6), 3);
    assert_eq!(told(average), (Reason::Utilization, Some(Term::Average), 3));
}

#[test]
fn a_quotient_just_above_a_whole_number_is_that_number() {
    assert_eq!(quotient(2.000_000_000_1, 1.0), 2);
    assert_eq!(quotient(2.000_1, 1.0), 3);
    assert_eq!((quotient(0.0, 1.0), quotient(f64::MAX, 1e-9)), (0, u64::MAX));
}

fn any_rules() -> impl Strategy<Value = Rules> {
    (0u32..8, 1u32..40, 0.05..=1.0f64, 0u32..4000).prop_map(|(min, more, threshold, target_ms)| Rules {
        min,
        max: min + more,
        threshold,
        target_wait: MS * target_ms,
    })
}

/// A pool within its limits.
fn any_case() -> impl Strategy<Value = (Rules, Sample)> {
    let of_pool = any_rules().prop_flat_map(|rules| {
        let workers = rules.min..=rules.max;
        (Just(rules), workers).prop_flat_map(|(rules, workers)| {
            let busy = (0..=workers, 0..=workers);
            let average = proptest::option::of(0.0..=f64::from(workers));
            (Just(rules), Just(workers), busy, average)
        })
    });
    let waits = prop_oneof![Just((0, 0, 0)), (1u64..300, 0u32..6000, 0u32..400_000)];
    (of_pool, waits).prop_map(
        |((rules, workers, (busy, more), busy_average), (waiting, oldest_ms, work_ms))| {
            let sample = Sample {
                workers,
                busy,
                peak_busy: busy.max(more),
                busy_average,
                waiting,
                oldest_waiting: Some(MS * oldest_ms),
                work: MS * work_ms,
            };
            (rules, sample)
        },
    )
}

/// The same with all times so many times as long.
fn stretched(rules: Rules, sample: Sample, times: u32) -> (Rules, Sample) {
    let rules = Rules {
        target_wait: rules.target_wait * times,
        ..rules
    };
    let sample = Sample {
        oldest_waiting: sample.oldest_waiting.map(|age| age * times),
        work: sample.work * times,
        ..sample
    };
    (rules, sample)
}

fn is_late(rules: &Rules, sample: &Sample) -> bool {
    let is_old = sample.waiting > 0 && sample.oldest_waiting.unwrap_or_default() >= rules.target_wait;
    is_old || sample.work > rules.target_wait * sample.workers
}

proptest! {
    #[test]
    fn the_result_stays_within_limits_and_a_look_never_shrinks((rules, sample) in any_case()) {
        let (look, period) = (rules.look(&sample).to, rules.period(&sample).to);
        prop_assert!((rules.min..=rules.max).contains(&look));
        prop_assert!((rules.min..=rules.max).contains(&period));
        prop_assert!(look >= sample.workers);
        prop_assert!(look == sample.workers || period >= look);
    }

    #[test]
    fn a_jump_never_goes_past_one_worker_for_each_job((rules, sample) in any_case()) {
        let most = u64::from(sample.busy) + sample.waiting;
        let look = rules.look(&sample).to;
        prop_assert!(look == sample.workers || u64::from(look) <= most);
    }

    #[test]
    fn it_never_shrinks_without_data_while_a_job_waits_or_below_the_peak((rules, sample) in any_case()) {
        let to = rules.period(&sample).to;
        if to < sample.workers {
            prop_assert!(sample.busy_average.is_some() && sample.waiting == 0 && to >= sample.peak_busy);
        }
    }

    #[test]
    fn it_never_shrinks_to_where_it_would_grow_again((rules, sample) in any_case()) {
        let to = rules.period(&sample).to;
        if to < sample.workers && to > 0 {
            let average = sample.busy_average.unwrap();
            prop_assert!(average / f64::from(to) <= rules.threshold + 1e-6);
        }
    }

    #[test]
    fn with_all_busy_a_late_job_and_room_there_is_one_more((rules, mut sample) in any_case()) {
        sample.busy = sample.workers;
        sample.peak_busy = sample.workers;
        if sample.waiting > 0 && is_late(&rules, &sample) && sample.workers < rules.max {
            prop_assert!(rules.look(&sample).to > sample.workers);
            prop_assert!(rules.period(&sample).to > sample.workers);
        }
    }

    #[test]
    fn more_load_never_gives_fewer_workers(
        (rules, less) in any_case(), waiting in 0u64..50, older in 0u32..3000, work in 0u32..50_000, busier in 0.0..5.0f64,
    ) {
        let more = Sample {
            waiting: less.waiting + waiting,
            oldest_waiting: less.oldest_waiting.map(|age| age + MS * older),
            work: less.work + MS * work,
            busy_average: less.busy_average.map(|average| average + busier),
            ..less
        };
        prop_assert!(rules.look(&more).to >= rules.look(&less).to);
        prop_assert!(rules.period(&more).to >= rules.period(&less).to, "{more:?}");
    }

    #[test]
    fn it_knows_no_unit_of_time((rules, sample) in any_case(), times in 1u32..1000) {
        let (scaled, stretched) = stretched(rules, sample, times);
        prop_assert_eq!(scaled.look(&stretched).to, rules.look(&sample).to);
        prop_assert_eq!(scaled.period(&stretched).to, rules.period(&sample).to);
    }

    /// While no job is late, growth is that of the default policy; it shrinks only where that one does, and goes further.
    #[test]
    fn a_calm_pool_grows_as_by_the_default_policy((rules, mut sample) in any_case()) {
        if is_late(&rules, &sample) {
            (sample.waiting, sample.oldest_waiting, sample.work) = (0, None, Duration::ZERO);
        }
        let (demand, plain) = (rules.period(&sample).to, rules.plain(&sample).to);
        prop_assert_eq!(demand.max(sample.workers), plain.max(sample.workers));
        if demand < sample.workers {
            prop_assert!(plain < sample.workers && demand <= plain);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    /// Closed loop: so many workers are busy on average, as far as there are so many.
    #[test]
    fn a_constant_load_settles_in_one_direction(rules in any_rules(), start in 0u32..48, load in 0.0..40.0f64) {
        let mut workers = start.clamp(rules.min.max(1), rules.max);
        let (mut grew, mut shrank) = (false, false);
        for _ in 0..60 {
            let busy = (load.ceil() as u32).min(workers);
            let average = load.min(f64::from(workers));
            let next = rules.period(&sample((workers, busy), (0, 0.0, 0.0), Some(average), busy)).to;
            grew |= next > workers;
            shrank |= next < workers;
            workers = next;
        }
        prop_assert!(!(grew && shrank), "a reversal");
        let busy = (load.ceil() as u32).min(workers);
        let rest = sample((workers, busy), (0, 0.0, 0.0), Some(load.min(f64::from(workers))), busy);
        prop_assert_eq!(rules.period(&rest).to, workers, "it has not settled");
    }
}

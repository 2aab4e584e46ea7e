//! Due times of spring and autumn in three zones, and what is fired after a pause.

use std::time::Duration;

use jiff::{Timestamp, ZonedDateTime};
use proptest::prelude::*;

use super::*;

fn utc(text: &str) -> Unix {
    Unix(text.parse::<Timestamp>().unwrap().as_millisecond())
}

fn cron(expression: &str, zone: &str) -> Rule {
    Rule::Cron(Expression::parse(expression).unwrap(), Zone::named(zone).unwrap())
}

/// Its due times after the first instant and up to the second, in the time of its zone with the offset.
fn dues(rule: &Rule, from: &str, until: &str) -> Vec<String> {
    let Rule::Cron(_, zone) = rule else {
        panic!("an interval has no zone");
    };
    let all = std::iter::successors(rule.next_after(utc(from)), |due| rule.next_after(*due));
    let all = all.take_while(|due| *due <= utc(until));
    let shown = |due: Unix| {
        let at = Timestamp::from_millisecond(due.0).unwrap();
        ZonedDateTime::new(at, zone.rules.clone())
            .strftime("%d %H:%M%:z")
            .to_string()
    };
    all.map(shown).collect()
}

#[test]
fn a_time_of_day_follows_the_wall_clock() {
    let daily = cron("0 9 * * mon-fri", "Europe/Berlin");
    assert_eq!(
        dues(&daily, "2026-03-26T12:00:00Z", "2026-03-31T12:00:00Z"),
        ["27 09:00+01:00", "30 09:00+02:00", "31 09:00+02:00"]
    );
}

#[test]
fn a_time_that_spring_skips_fires_at_the_next_instant_that_exists() {
    for (zone, from, until, expression, expected) in [
        (
            "Europe/Berlin",
            "2026-03-28T12:00:00Z",
            "2026-03-30T12:00:00Z",
            "30 2 * * *",
            ["29 03:00+02:00", "30 02:30+02:00"],
        ),
        (
            "America/New_York",
            "2026-03-07T18:00:00Z",
            "2026-03-09T18:00:00Z",
            "30 2 * * *",
            ["08 03:00-04:00", "09 02:30-04:00"],
        ),
        // The clock goes from 02:00 to 02:30.
        (
            "Australia/Lord_Howe",
            "2026-10-03T04:00:00Z",
            "2026-10-05T04:00:00Z",
            "10 2 * * *",
            ["04 02:30+11:00", "05 02:10+11:00"],
        ),
    ] {
        assert_eq!(dues(&cron(expression, zone), from, until), expected, "{zone}");
    }
}

#[test]
fn several_times_that_spring_skips_fire_once() {
    let often = cron("*/20 2 * * *", "Europe/Berlin");
    assert_eq!(
        dues(&often, "2026-03-29T00:00:00Z", "2026-03-29T12:00:00Z"),
        ["29 03:00+02:00"]
    );
    // Also where the end of the gap is due by itself.
    let twice = cron("30 2,3 * * *", "Europe/Berlin");
    assert_eq!(
        dues(&twice, "2026-03-29T00:00:00Z", "2026-03-29T12:00:00Z"),
        ["29 03:00+02:00", "29 03:30+02:00"]
    );
}

#[test]
fn a_time_that_comes_twice_in_autumn_fires_the_first_time_only() {
    for (zone, from, until, expression, expected) in [
        (
            "Europe/Berlin",
            "2026-10-24T12:00:00Z",
            "2026-10-26T12:00:00Z",
            "30 2 * * *",
            ["25 02:30+02:00", "26 02:30+01:00"],
        ),
        (
            "America/New_York",
            "2026-10-31T18:00:00Z",
            "2026-11-02T18:00:00Z",
            "30 1 * * *",
            ["01 01:30-04:00", "02 01:30-05:00"],
        ),
        // The clock goes from 02:00 back to 01:30.
        (
            "Australia/Lord_Howe",
            "2026-04-04T04:00:00Z",
            "2026-04-06T04:00:00Z",
            "45 1 * * *",
            ["05 01:45+11:00", "06 01:45+10:30"],
        ),
    ] {
        assert_eq!(dues(&cron(expression, zone), from, until), expected, "{zone}");
    }
}

#[test]
fn an_expression_of_every_hour_fires_in_both_hours() {
    let often = cron("*/30 * * * *", "Europe/Berlin");
    assert_eq!(
        dues(&often, "2026-10-24T23:59:00Z", "2026-10-25T02:00:00Z"),
        [
            "25 02:00+02:00",
            "25 02:30+02:00",
            "25 02:00+01:00",
            "25 02:30+01:00",
            "25 03:00+01:00"
        ]
    );
    let half_hour = cron("*/15 * * * *", "Australia/Lord_Howe");
    assert_eq!(
        dues(&half_hour, "2026-04-04T14:20:00Z", "2026-04-04T15:30:00Z"),
        [
            "05 01:30+11:00",
            "05 01:45+11:00",
            "05 01:30+10:30",
            "05 01:45+10:30",
            "05 02:00+10:30"
        ]
    );
    // In spring it goes on behind the gap, once.
    assert_eq!(
        dues(&often, "2026-03-29T00:29:00Z", "2026-03-29T01:30:00Z"),
        ["29 01:30+01:00", "29 03:00+02:00", "29 03:30+02:00"]
    );
}

#[test]
fn an_interval_knows_no_daylight_saving() {
    let hourly = Rule::Every(Duration::from_secs(3600));
    let mut at = utc("2026-10-24T22:30:00Z");
    for expected in ["23:00", "00:00", "01:00", "02:00"] {
        at = hourly.next_after(at).unwrap();
        assert!(at.to_string().contains(&format!("T{expected}:00")), "{at}");
    }
}

#[test]
fn seconds_are_a_sixth_field_and_names_stand_for_expressions() {
    let second = cron("*/10 * * * * *", "UTC");
    assert_eq!(
        second.next_after(utc("2026-01-01T00:00:05.5Z")),
        Some(utc("2026-01-01T00:00:10Z"))
    );
    let daily = cron("@daily", "UTC");
    assert_eq!(
        daily.next_after(utc("2026-01-01T00:00:00Z")),
        Some(utc("2026-01-02T00:00:00Z"))
    );
    let leap = cron("0 0 29 2 *", "UTC");
    assert_eq!(
        leap.next_after(utc("2026-01-01T00:00:00Z")),
        Some(utc("2028-02-29T00:00:00Z"))
    );
}

#[test]
fn what_is_no_expression_is_refused_in_words() {
    for text in ["", "* * *", "61 * * * *", "* * 30 2 *", "@never", "* * * * * * *"] {
        assert!(Expression::parse(text).is_err(), "{text}");
    }
}

fn timing(every_s: u64, catch_up: CatchUp, catch_up_max: u32) -> Timing {
    Timing {
        rule: Rule::Every(Duration::from_secs(every_s)),
        jitter: Duration::ZERO,
        catch_up,
        catch_up_max,
    }
}

fn known(mark_s: i64) -> Known {
    Known {
        mark: Unix(mark_s * 1000),
        held: None,
    }
}

fn seconds(dues: &[Unix]) -> Vec<i64> {
    dues.iter().map(|due| due.0 / 1000).collect()
}

#[test]
fn what_is_due_is_fired_and_the_next_one_waited_for() {
    let plan = plan(&timing(10, CatchUp::None, 10), "a", known(100), Unix(121_000));
    assert_eq!(seconds(&plan.fire), [110, 120]);
    assert_eq!((plan.missed, plan.wake), (0, Some(Unix(130_000))));
}

#[test]
fn missed_times_are_left_out_or_caught_up() {
    let at = |catch_up, max, now_s: i64| {
        let plan = plan(&timing(100, catch_up, max), "a", known(1000), Unix(now_s * 1000));
        (plan.missed, seconds(&plan.fire))
    };
    // 1100 to 1500 were missed by more than the grace.
    assert_eq!(at(CatchUp::None, 10, 1590), (5, vec![]));
    assert_eq!(at(CatchUp::Last, 10, 1590), (4, vec![1500]));
    assert_eq!(
        at(CatchUp::All, 10, 1590),
        (0, vec![1100, 1200, 1300, 1400, 1500])
    );
    assert_eq!(at(CatchUp::All, 2, 1590), (3, vec![1400, 1500]));
    // 1500 is still on time, and stands for those before it.
    assert_eq!(at(CatchUp::None, 10, 1560), (4, vec![1500]));
    assert_eq!(at(CatchUp::Last, 10, 1560), (4, vec![1500]));
}

#[test]
fn years_of_missed_seconds_are_no_work() {
    let year = 365 * 86_400;
    let plan = plan(&timing(1, CatchUp::All, 3), "a", known(0), Unix(year * 1000));
    assert_eq!(plan.fire.len(), 3 + 61);
    assert_eq!(plan.fire.last(), Some(&Unix(year * 1000)));
    assert_eq!(plan.missed, 1000);
    assert_eq!(plan.missed_until, Some(Unix((year - 64) * 1000)));
}

#[test]
fn one_run_stands_for_all_that_came_while_it_waited() {
    let held = Known {
        held: Some(Unix(110_000)),
        ..known(100)
    };
    let plan = plan(&timing(10, CatchUp::None, 10), "a", held, Unix(500_000));
    assert_eq!((plan.missed, seconds(&plan.fire)), (0, vec![500]));
    assert_eq!(plan.wake, Some(Unix(510_000)));
}

#[test]
fn a_clock_that_is_set_back_fires_nothing_again() {
    let plan = plan(&timing(10, CatchUp::All, 10), "a", known(200), Unix(150_000));
    assert_eq!((plan.missed, plan.fire.len()), (0, 0));
    assert_eq!(plan.wake, Some(Unix(210_000)));
}

#[test]
fn a_jitter_is_the_same_everywhere_and_within_its_bound() {
    let jittered = Timing {
        jitter: Duration::from_secs(30),
        ..timing(60, CatchUp::None, 10)
    };
    let at: Vec<i64> = (0..100)
        .map(|n| jittered.fires_at("a", Unix(n * 60_000)).0 - n * 60_000)
        .collect();
    assert!(at.iter().all(|late| (0..=30_000).contains(late)));
    assert!(
        at.iter().max() > Some(&25_000) && at.iter().min() < Some(&5_000),
        "{at:?}"
    );
    assert_ne!(jittered.fires_at("b", Unix(0)), jittered.fires_at("a", Unix(0)));
    // A supervisor of another version has to draw the same.
    assert_eq!(
        jittered.fires_at("report", Unix(1_772_355_900_000)),
        Unix(1_772_355_900_000 + DRAWN)
    );
}

/// What the schedule `report` draws for one due time.
const DRAWN: i64 = 19_306;

proptest! {
    /// However a schedule is looked at, each due time is fired once and in order, as long as no look is late.
    #[test]
    fn each_due_time_is_fired_once(steps in prop::collection::vec(1i64..50_000, 1..60), jitter in 0u64..90, every in 1u64..90) {
        let timing = Timing {
            jitter: Duration::from_secs(jitter),
            ..timing(every, CatchUp::None, 10)
        };
        let (mut known, mut now, mut fired) = (known(0), 0, Vec::new());
        for step in steps {
            now += step;
            let plan = plan(&timing, "a", known, Unix(now));
            prop_assert_eq!(plan.missed, 0);
            known.mark = plan.fire.last().copied().unwrap_or(known.mark);
            fired.extend(plan.fire);
            prop_assert!(plan.wake.is_some_and(|wake| wake > Unix(now)));
        }
        let expected: Vec<Unix> = std::iter::successors(timing.rule.next_after(Unix(0)), |due| timing.rule.next_after(*due))
            .take(fired.len())
            .collect();
        prop_assert_eq!(fired, expected);
    }

    /// Due times grow, and none between two of them is passed over.
    #[test]
    fn due_times_grow(start in 1_700_000_000_000i64..1_900_000_000_000, zone in 0usize..4, expression in 0usize..6) {
        let zone = ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "UTC"][zone];
        let expression = ["*/15 * * * *", "30 1,2 * * *", "0 */6 * * *", "*/7 2 * * *", "15 3 1 * *", "30 30 1 * * 0"][expression];
        let rule = cron(expression, zone);
        let next = rule.next_after(Unix(start)).unwrap();
        prop_assert!(next > Unix(start));
        // From any instant before it, the next one is no later.
        prop_assert_eq!(rule.next_after(Unix(next.0 - 1)), Some(next));
        prop_assert_eq!(rule.next_after(Unix(i64::midpoint(start, next.0 - 1))), Some(next));
    }
}

//! A small version of `scripts/policy`: the loads that are quick to simulate.

#[path = "../examples/policy/compare.rs"]
mod compare;
#[allow(dead_code)]
#[path = "../examples/policy/loads.rs"]
mod loads;
#[path = "../examples/policy/peers.rs"]
mod peers;

use std::sync::Arc;

use loads::Named;

/// Of the loads, those of few jobs.
const JOBS_MAX: usize = 4000;

fn small_loads() -> Vec<Named> {
    let mut loads = loads::synthetic(1);
    loads.retain(|named| named.load.arrivals.len() <= JOBS_MAX);
    assert!(loads.len() >= 5, "there are enough of them");
    loads
}

#[test]
fn demand_is_near_the_front_on_most_loads_and_far_behind_on_none() {
    let rules = compare::rules();
    let rows = compare::all(&rules, small_loads());
    let at = |name| rules.iter().position(|rule| rule.name == name);
    let (demand, brisk) = (at("demand"), at("demand brisk"));
    let (demand, brisk) = (demand.expect("a rule"), brisk.expect("a rule"));
    is_near_the_front(&rows, |row| row.behind(&rules, demand));
    // Of the other settings of this policy none is ahead, either.
    let ahead = |row: &compare::Row| {
        (0..rules.len())
            .map(|other| row.ahead(other, brisk))
            .fold(0.0, f64::max)
    };
    is_near_the_front(&rows, ahead);
}

/// `behind`: by how much another row is ahead of it on this load.
fn is_near_the_front(rows: &[compare::Row], behind: impl Fn(&compare::Row) -> f64) {
    let behind: Vec<(f64, &str)> = rows.iter().map(|row| (behind(row), row.name.as_str())).collect();
    let near = behind.iter().filter(|(behind, _)| *behind <= 0.05).count();
    assert!(near * 10 >= behind.len() * 8, "{behind:?}");
    assert!(behind.iter().all(|(behind, _)| *behind <= 0.10), "{behind:?}");
}

#[test]
fn no_policy_of_ours_turns_back_under_a_constant_load() {
    let steady = loads::synthetic(1)
        .into_iter()
        .find(|named| named.name.starts_with("steady"));
    let load = Arc::new(steady.expect("it is among them").load);
    for rule in compare::rules().iter().filter(|rule| rule.own.is_some()) {
        let figures = rule.run(&load, 1);
        assert_eq!(
            (figures.reversals, figures.unfinished),
            (0, 0),
            "{}: {figures:?}",
            rule.name
        );
    }
}

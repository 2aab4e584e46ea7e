//! The supervisor of `pool::sim` in worlds where anything may die, freeze, lie or be changed at any moment. After every step
//! the world is checked: no job lost, none on two live workers, sizes within limits, no busy worker retired, queues bounded.
//!
//! A failing run names its seed; `POOL_SIM_SEED=N cargo test --test sim` repeats it and shows its last steps.
//! `POOL_SIM_RUNS=N` runs more seeds than CI does.

mod checks;
mod faults;
mod permits;
mod settings;
mod trial;
mod watch;

use std::time::Duration;

use faults::Mood;
use trial::Trial;

/// Names one seed to run, and to show the last steps of if it fails.
const SEED_VARIABLE: &str = "POOL_SIM_SEED";
/// Names a number of seeds to run in each test.
const RUNS_VARIABLE: &str = "POOL_SIM_RUNS";
/// Seeds of one test if nobody says otherwise.
const RUNS: u64 = 20;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

fn single_seed() -> Option<u64> {
    number(SEED_VARIABLE)
}

/// Runs a test in many worlds. Seeds of different tests differ, so that a seed names its test too.
fn for_each_seed(test: u64, run: impl Fn(u64)) {
    let first = test * 1_000_000;
    let of_test = first..first + 1_000_000;
    match single_seed() {
        Some(seed) if of_test.contains(&seed) => run(seed),
        Some(_) => {}
        None => of_test
            .take(number(RUNS_VARIABLE).unwrap_or(RUNS) as usize)
            .for_each(run),
    }
}

#[test]
fn nothing_is_lost_whatever_dies_freezes_or_lies() {
    for_each_seed(1, |seed| {
        let mut world = Trial::new(seed, Mood::Wild);
        world.run_for(Duration::from_secs(60));
        world.calm_down();
        world.finish_all_jobs();
        world.come_to_rest();
        world.stop();
    });
}

#[test]
fn a_calm_world_runs_each_job_exactly_once() {
    for_each_seed(2, |seed| {
        let mut world = Trial::new(seed, Mood::Calm);
        world.run_for(Duration::from_secs(30));
        world.finish_all_jobs();
        checks::each_job_ran_once(&world);
        checks::each_job_was_counted(&world);
        world.come_to_rest();
        world.stop();
    });
}

#[test]
fn people_may_change_anything_while_jobs_run() {
    for_each_seed(3, |seed| {
        let mut world = Trial::new(seed, Mood::People);
        world.run_for(Duration::from_secs(60));
        world.calm_down();
        world.finish_all_jobs();
        checks::each_job_ran_once(&world);
        world.come_to_rest();
        world.stop();
    });
}

#[test]
fn a_stop_at_any_moment_gives_back_what_it_does_not_finish() {
    for_each_seed(4, |seed| {
        let mut world = Trial::new(seed, Mood::Wild);
        let moment = Duration::from_millis(world.pick(20_000));
        world.run_for(moment);
        world.calm_down();
        world.stop();
    });
}

#[test]
fn a_stop_counts_nothing_against_the_jobs_that_it_interrupts() {
    for_each_seed(5, |seed| {
        let mut world = Trial::new(seed, Mood::Calm);
        let moment = Duration::from_millis(world.pick(20_000));
        world.run_for(moment);
        world.stop();
        checks::no_job_is_blamed(&world);
    });
}

#[test]
fn a_stop_ends_although_every_template_hangs() {
    for_each_seed(6, |seed| {
        let mut world = Trial::new(seed, Mood::People);
        let moment = Duration::from_millis(world.pick(20_000));
        world.run_for(moment);
        world.freeze_templates();
        world.run_for(Duration::from_secs(1));
        world.stop();
    });
}

#[test]
fn a_pool_gets_over_a_template_that_hangs() {
    for_each_seed(7, |seed| {
        let mut world = Trial::new(seed, Mood::People);
        let moment = Duration::from_millis(world.pick(20_000));
        world.run_for(moment);
        world.freeze_templates();
        world.run_for(Duration::from_secs(5));
        world.stop_faults();
        world.finish_all_jobs();
        checks::each_job_ran_once(&world);
    });
}

//! The contract of the runtimes that this crate runs itself: real templates and workers, a test for a supervisor.
//!
//! This binary is its own app: started as a template it serves [`apps`] or the example, so it has a `main` of its own.

#![allow(clippy::unwrap_used)] // a test, though one without the standard harness

#[path = "runtime/apps.rs"]
mod apps;
#[path = "runtime/command.rs"]
mod command;
#[path = "runtime/cost.rs"]
mod cost;
#[allow(dead_code)] // its `main` is ours
#[path = "../examples/shipping.rs"]
mod example;
#[path = "runtime/harness.rs"]
mod harness;
#[path = "runtime/lifelines.rs"]
mod lifelines;
#[path = "runtime/native.rs"]
mod native;
#[allow(dead_code)] // not every crate needs all of it
#[path = "support/program.rs"]
mod program;
#[path = "runtime/python.rs"]
mod python;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some(pool::runtime::TEMPLATE_ROLE) => return apps::template(),
        Some(lifelines::SUPERVISOR_ROLE) => return lifelines::supervisor(),
        _ => {}
    }
    // Workers of killed templates become ours, as they become a supervisor's.
    pool::sys::process::set_child_subreaper().expect("Linux has it");
    let costs = vec![
        trial("cost::job", cost::a_job_costs_its_worker_a_few_microseconds).with_ignored_flag(true),
        trial("cost::fork", cost::a_fork_takes_less_than_a_start).with_ignored_flag(true),
    ];
    let has_python = python::is_there();
    let python = python::trials()
        .into_iter()
        .map(|trial| trial.with_ignored_flag(!has_python))
        .collect();
    let trials = [
        native::trials(),
        command::trials(),
        lifelines::trials(),
        python,
        costs,
    ];
    libtest_mimic::run(&Arguments::from_args(), trials.into_iter().flatten().collect()).exit_code()
}

/// Test functions as trials under their own names.
macro_rules! trials {
    ($($test:ident),* $(,)?) => {
        pub fn trials() -> Vec<libtest_mimic::Trial> {
            vec![$(crate::trial(concat!(module_path!(), "::", stringify!($test)), $test)),*]
        }
    };
}
pub(crate) use trials;

fn trial(name: &str, test: fn()) -> Trial {
    let name = name.trim_start_matches("runtime::").to_owned();
    Trial::test(name, move || {
        test();
        Ok(())
    })
}

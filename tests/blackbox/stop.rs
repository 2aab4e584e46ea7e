//! Stopping loses nothing.

use nix::sys::signal::Signal;

use crate::harness::Pool;

#[test]
fn a_stop_lets_running_jobs_finish() {
    let mut pool = Pool::start("");
    let ids = pool.enqueue(&["app.start_then_nap", "[\"job\", 1]"]);
    pool.pid_of(&ids[0]);
    pool.assert_clean_stop();
    pool.assert_finished(&ids);
    assert_eq!(pool.ledger(), ["job"]);
}

#[test]
fn a_job_that_outlasts_the_deadline_goes_back_to_its_queue() {
    let mut pool = Pool::start("[defaults]\nstop_timeout = \"300ms\"\n");
    let long = pool.enqueue(&["app.start_then_nap", "[\"long\", 100]"]);
    pool.pid_of(&long[0]);
    pool.assert_clean_stop();
    pool.launch();
    pool.wait_for("it to run again", |pool| pool.ledger().len() == 2);
}

#[test]
fn jobs_that_wait_stay_where_they_are() {
    let mut pool = Pool::start("[defaults]\nmin_workers = 1\nmax_workers = 1\n");
    let ids: Vec<String> = (0..30)
        .flat_map(|job| pool.enqueue(&["app.nap", &format!("[0.05, \"{job}\"]")]))
        .collect();
    pool.assert_clean_stop();
    let before = pool.ledger().len();
    pool.launch();
    pool.assert_finished(&ids);
    assert_eq!(
        pool.ledger().len(),
        30,
        "{before} ran before the stop, none of them twice"
    );
}

#[test]
fn a_second_term_stops_at_once() {
    let mut pool = Pool::start("");
    let ids = pool.enqueue(&["app.start_then_nap", "[\"job\", 100]"]);
    pool.pid_of(&ids[0]);
    pool.signal(Signal::SIGTERM);
    pool.wait_for("the drain", |pool| pool.state()["state"] == "draining");
    pool.signal(Signal::SIGTERM);
    assert!(pool.ended().success());
}

#[test]
fn quit_stops_at_once() {
    let mut pool = Pool::start("");
    let ids = pool.enqueue(&["app.start_then_nap", "[\"job\", 100]"]);
    pool.pid_of(&ids[0]);
    pool.signal(Signal::SIGQUIT);
    assert!(pool.ended().success());
}

#[test]
fn the_verb_stop_waits_for_the_end() {
    let mut pool = Pool::start("");
    let (_, ok) = pool.run(&["stop"]);
    assert!(ok, "{}", pool.log());
    assert!(pool.ended().success());
}

//! What probes are told.

use std::fs;

use nix::sys::signal::Signal;

use crate::harness::Pool;

/// Settings with short periods.
const SHORT: &str =
    "[defaults]\nmin_workers = 1\nmax_workers = 1\nscaling_period = \"1s\"\nutilization_window = \"5s\"\n";

#[test]
fn a_pool_that_runs_jobs_is_ready_until_it_drains() {
    let mut pool = Pool::start(SHORT);
    pool.wait_for("the pool to be ready", |pool| pool.run(&["health"]).1);
    for (args, said) in [
        (&["health"][..], "ready\n"),
        (&["health", "--live"], "alive\n"),
        (&["health", "--started"], "started\n"),
    ] {
        assert_eq!(pool.run(args), (said.to_owned(), true));
    }
    let path = pool.path("gate");
    let nap = pool.enqueue(&["app.wait_for", &format!("{:?}", path.display().to_string())]);
    pool.wait_for("the job to run", |pool| pool.default_pool()["busy"] == 1);
    let mut drain = pool.begin(&["drain"]);
    pool.wait_for("the drain", |pool| pool.state()["state"] == "draining");
    assert!(pool.refused(&["health"]).contains("it is draining"));
    assert!(pool.run(&["health", "--live"]).1);
    fs::write(path, "").expect("the gate opens");
    assert!(drain.wait().expect("it ends").success());
    assert!(pool.ended().success());
    pool.launch();
    pool.assert_finished(&nap);
    pool.assert_clean_stop();
}

#[test]
fn a_pool_whose_workers_can_not_start_is_not_ready() {
    let mut pool = Pool::start_with_app("after_fork = [\"app.die\"]\n", SHORT);
    pool.enqueue(&["app.add", "[1, 2]"]);
    pool.wait_for("the standstill to be seen", |pool| {
        let (said, is_ready) = pool.run(&["health"]);
        assert!(is_ready == (said == "ready\n"), "{said}");
        !is_ready
    });
    assert!(pool.run(&["health", "--started"]).1);
    let said = pool.refused(&["health"]);
    assert!(
        said.contains("pool `default` runs nothing, and 1 job waits"),
        "{said}"
    );
    pool.assert_clean_stop();
}

#[test]
fn a_pool_that_somebody_paused_is_ready_whatever_waits() {
    const POOLS: &str = "[defaults]\nmin_workers = 1\nmax_workers = 1\nscaling_period = \"1s\"\nutilization_window = \"5s\"\n\
        [pools.held]\nqueues = [\"held\"]\n[pools.broken]\nqueues = [\"broken\"]\n";
    let mut pool = Pool::start_with_app("after_fork = [\"app.die\"]\n", POOLS);
    pool.run(&["pause", "--pool", "held"]);
    pool.enqueue(&["app.add", "[1, 2]", "--queue", "held"]);
    pool.wait_for("the held job to be counted", |pool| {
        pool.state()["pools"]["held"]["waiting"] == 1
    });
    // The other pool has the same periods, and its job comes later.
    pool.enqueue(&["app.add", "[1, 2]", "--queue", "broken"]);
    pool.wait_for("the standstill to be seen", |pool| !pool.run(&["health"]).1);
    let said = pool.refused(&["health"]);
    assert!(said.contains("pool `broken`") && !said.contains("held"), "{said}");
    pool.assert_clean_stop();
}

#[test]
fn a_probe_does_not_wait_long_for_a_supervisor_that_hangs() {
    let mut pool = Pool::start(SHORT);
    pool.signal(Signal::SIGSTOP);
    for (args, patience) in [
        (&["health", "--live"][..], "900ms"),
        (&["health", "--timeout", "50ms"], "50ms"),
    ] {
        let output = pool.command(args).output().expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{said}");
        assert!(
            said.contains(&format!("did not answer within {patience}")),
            "{said}"
        );
    }
    pool.signal(Signal::SIGCONT);
    pool.wait_for("the answer", |pool| pool.run(&["health", "--live"]).1);
    pool.assert_clean_stop();
}

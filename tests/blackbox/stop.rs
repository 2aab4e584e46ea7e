//! Stopping loses nothing.

use nix::sys::signal::Signal;

use crate::harness::{Pool, wait_gone};

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
    // One that comes within a second is the first one again.
    pool.wait_for("the stop", |pool| {
        pool.signal(Signal::SIGTERM);
        pool.state()["state"] != "draining"
    });
    assert!(pool.ended().success());
}

#[test]
fn the_first_term_after_a_drain_lets_running_jobs_finish() {
    let mut pool = Pool::start("");
    let gate = pool.path("gate");
    let job = pool.enqueue(&["app.wait_for", &format!("{gate:?}")]);
    pool.pid_of(&job[0]);
    let mut drain = pool.begin(&["drain"]);
    pool.wait_log("draining: running jobs may finish, however long they take");
    pool.signal(Signal::SIGTERM);
    pool.wait_log("a second ^C or TERM ends them");
    assert_eq!(pool.state()["state"], "draining");
    std::fs::write(&gate, "").expect("the gate opens");
    assert!(pool.ended().success());
    assert!(drain.wait().expect("it ends").success());
    pool.assert_finished(&job);
    assert_eq!(pool.ledger().len(), 1, "{}", pool.log());
}

#[test]
fn two_terms_of_one_moment_are_one() {
    let mut pool = Pool::start("[log]\nlevel = \"debug\"\n");
    let gate = pool.path("gate");
    let job = pool.enqueue(&["app.wait_for", &format!("{gate:?}")]);
    pool.pid_of(&job[0]);
    // As `timeout` sends them.
    pool.signal(Signal::SIGTERM);
    pool.wait_for("the drain", |pool| pool.state()["state"] == "draining");
    pool.signal(Signal::SIGTERM);
    pool.wait_log("the same signal again");
    std::fs::write(&gate, "").expect("the gate opens");
    assert!(pool.ended().success());
    pool.assert_finished(&job);
    assert_eq!(pool.ledger().len(), 1, "{}", pool.log());
}

#[test]
fn an_interrupt_says_what_it_waits_for_and_what_another_does() {
    let mut pool = Pool::start("[defaults]\nstop_timeout = \"40s\"\n");
    let gate = pool.path("gate");
    let job = pool.enqueue(&["app.wait_for", &format!("{gate:?}")]);
    pool.pid_of(&job[0]);
    pool.signal(Signal::SIGINT);
    pool.wait_log("a second ^C or TERM ends them");
    let log = pool.log();
    let line = log
        .lines()
        .find(|line| line.contains("a second ^C"))
        .unwrap_or_default();
    let named = format!("running=1 at_most=40s jobs=\"app.wait_for {}\"", job[0]);
    assert!(line.contains(&named), "{line}");
    std::fs::write(&gate, "").expect("the gate opens");
    assert!(pool.ended().success());
    pool.assert_finished(&job);
}

/// Starts the supervisor again in the foreground of a terminal of its own, which closes when the child ends.
fn relaunch_in_a_terminal(pool: &mut Pool, launch: &str) -> std::process::Child {
    pool.assert_clean_stop();
    let code = format!("import pty, sys\n{launch}\npty.spawn(sys.argv[1:])");
    let before = pool.log().matches("app loaded").count();
    let terminal = std::process::Command::new("python3")
        .args(["-c", &code, "sh", "-c", "exec \"$@\" 2>>log", "sh"])
        .args([env!("CARGO_BIN_EXE_pool"), "run", "--config", "pool.toml"])
        .current_dir(pool.path(""))
        .env("LEDGER", pool.path("ledger"))
        .stdin(std::process::Stdio::null())
        .spawn()
        .expect("python3 runs");
    pool.wait_for("the app to load again", |pool| {
        pool.log().matches("app loaded").count() > before
    });
    terminal
}

#[test]
fn a_pool_ends_with_its_terminal() {
    let mut pool = Pool::start("");
    // The tests themselves may run under `nohup`.
    let plainly = "import signal; signal.signal(signal.SIGHUP, signal.SIG_DFL)";
    let mut terminal = relaunch_in_a_terminal(&mut pool, plainly);
    let supervisor = i32::try_from(pool.state()["pid"].as_i64().unwrap_or(0)).expect("a process id");
    terminal.kill().expect("the terminal closes");
    terminal.wait().expect("it is our child");
    wait_gone(supervisor);
    pool.wait_log("the terminal was closed");
    assert!(!pool.log().contains("reloading"), "{}", pool.log());
}

#[test]
fn under_nohup_it_outlives_its_terminal() {
    let mut pool = Pool::start("");
    let nohup = "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)";
    let mut terminal = relaunch_in_a_terminal(&mut pool, nohup);
    terminal.kill().expect("the terminal closes");
    terminal.wait().expect("it is our child");
    pool.wait_log("reloading");
    let (_, stopped) = pool.run(&["stop"]);
    assert!(stopped, "{}", pool.log());
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
fn idle_workers_that_are_stopped_at_once_did_not_die() {
    let mut pool = Pool::start("[pools.default]\nmin_workers = 2\n");
    let ids = pool.enqueue(&["app.mark", "[\"ready\"]"]);
    pool.assert_finished(&ids);
    pool.signal(Signal::SIGQUIT);
    assert!(pool.ended().success());
    assert!(!pool.log().contains("worker died"), "{}", pool.log());
}

#[test]
fn the_verb_stop_waits_for_the_end() {
    let mut pool = Pool::start("");
    let (_, ok) = pool.run(&["stop"]);
    assert!(ok, "{}", pool.log());
    assert!(pool.ended().success());
}

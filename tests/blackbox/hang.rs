//! Templates that hang: nothing waits for them for ever.

use nix::sys::signal::Signal;

use crate::harness::{Pool, send, wait_gone};

/// Appends to the application's code.
fn extend_app(pool: &Pool, code: &str) {
    let path = pool.path("app.py");
    let app = std::fs::read_to_string(&path).expect("the app is there");
    std::fs::write(path, format!("{app}\n{code}\n")).expect("the app is written");
}

/// A pool whose template never ends by itself.
fn pool_that_does_not_unload() -> Pool {
    let pool = Pool::start("[defaults]\nmin_workers = 1\nmax_workers = 1\n");
    extend_app(
        &pool,
        "import atexit, threading\natexit.register(threading.Event().wait)",
    );
    let (said, ok) = pool.run(&["reload"]);
    assert!(ok, "{said}\n{}", pool.log());
    pool
}

#[test]
fn an_exit_function_that_never_returns_holds_no_stop_up() {
    let mut pool = pool_that_does_not_unload();
    let template = pool.template();
    pool.assert_clean_stop();
    assert!(
        pool.log().contains("the template does not leave; it is killed"),
        "{}",
        pool.log()
    );
    wait_gone(template);
}

#[test]
fn a_second_request_to_stop_does_not_wait_for_the_template() {
    let mut pool = pool_that_does_not_unload();
    let template = pool.template();
    pool.signal(Signal::SIGQUIT);
    pool.wait_for("the workers to be gone", |pool| pool.workers().is_empty());
    pool.signal(Signal::SIGQUIT);
    assert!(pool.ended().success());
    assert!(
        !pool.log().contains("does not leave"),
        "it was not waited for\n{}",
        pool.log()
    );
    wait_gone(template);
}

#[test]
fn a_stopped_template_is_replaced_when_it_does_not_fork() {
    let mut pool = Pool::start("[defaults]\nmin_workers = 0\nmax_workers = 2\nscaling_period = \"200ms\"\n");
    let template = pool.template();
    send(template, Signal::SIGSTOP);
    let ids = pool.enqueue(&["app.add", "[1, 2]", "--count", "20"]);
    pool.assert_finished(&ids);
    assert!(
        pool.log().contains("the template does not fork; it is killed"),
        "{}",
        pool.log()
    );
    wait_gone(template);
    pool.assert_clean_stop();
}

#[test]
fn a_stopped_template_holds_no_stop_up() {
    let mut pool = Pool::start("");
    let template = pool.template();
    send(template, Signal::SIGSTOP);
    pool.assert_clean_stop();
    wait_gone(template);
}

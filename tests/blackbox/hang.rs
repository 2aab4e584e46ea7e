//! Templates that hang or lie: nothing waits for them for ever, and nobody else is killed.

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

/// Answers each request to fork with the next of these process ids, and forks nothing.
const LIAR: &str = r#"#!/usr/bin/env python3
import json, os, socket

control = socket.socket(fileno=3)
lies = [-1, 0, 1, os.getpid(), os.getppid(), 2**31 - 1]
while True:
    data, descriptors, _, _ = socket.recv_fds(control, 65536, 4)
    for descriptor in descriptors:
        os.close(descriptor)
    message = json.loads(data) if data else {"type": "stop"}
    if message["type"] == "load":
        control.send(json.dumps({"type": "ready"}).encode())
    elif message["type"] == "fork":
        lie = lies.pop(0) if lies else -1
        control.send(json.dumps({"type": "forked", "worker": message["worker"], "pid": lie}).encode())
    else:
        break
"#;

#[test]
fn a_process_id_that_is_no_descendant_is_not_believed() {
    let mut pool = Pool::start_template(LIAR, "[defaults]\nmin_workers = 1\nmax_workers = 1\n");
    for why in [
        "process id -1 is no number of a process",
        "process id 0 is no number of a process",
        "process 1 does not descend from the supervisor",
        "is a template or another worker",
        "is the supervisor itself",
    ] {
        pool.wait_log(why);
    }
    assert!(pool.state()["pid"].is_number(), "it lives\n{}", pool.log());
    pool.assert_clean_stop();
}

#[test]
fn a_minimum_beyond_all_limits_is_refused() {
    let pool = Pool::start("");
    let said = pool.refused(&["scale", "--min", "30000", "--max", "30000"]);
    assert!(said.contains("above 10000"), "{said}");
}

#[test]
fn many_workers_are_forked_bit_by_bit_while_others_are_served() {
    let mut pool = Pool::start("");
    let (said, ok) = pool.run(&["scale", "--min", "150", "--max", "200"]);
    assert!(ok, "{said}\n{}", pool.log());
    let ids = pool.enqueue(&["app.add", "[1, 2]", "--count", "20"]);
    pool.assert_finished(&ids);
    pool.wait_for("all workers", |pool| pool.workers().len() == 150);
    pool.assert_clean_stop();
}

//! Claims whose answer is lost: what they took is found, and one that reaches the server too late takes nothing.

use std::fs;

use nix::sys::stat::Mode;
use redis::Connection;

use crate::jobs::{self, Job};
use crate::ledger::Ledger;
use crate::pool::{Pool, TWO_QUEUES};
use crate::proxy::Proxy;
use crate::server::{Server, clients};
use crate::wait_for;

/// A pool that waits for jobs behind a proxy.
fn idle_pool(server: &Server) -> (Proxy, Pool) {
    let proxy = Proxy::start(server.port(), Ledger::new().rng);
    let pool = Pool::start(&proxy.url(), "");
    pool.wait_until_idle(); // a worker with the housekeeping has a connection of its own
    wait_for(
        "the pool to wait for jobs",
        || pool.log(),
        || (!waiting(&mut server.connection()).is_empty()).then_some(()),
    );
    (proxy, pool)
}

/// The server's view of who waits for a job.
fn waiting(connection: &mut Connection) -> Vec<String> {
    let waits = |client: &String| client.contains("cmd=blmove") && client.contains("flags=b");
    clients(connection).into_iter().filter(waits).collect()
}

/// How many jobs of the queue are taken.
fn claims(connection: &mut Connection) -> u64 {
    redis::cmd("ZCARD")
        .arg("rq:wip:default")
        .query(connection)
        .unwrap()
}

#[test]
fn what_a_claim_took_whose_answer_is_lost_waits_again_after_a_stop() {
    crate::side_by_side(&[
        || assert_waits_again(Job::mark("plain")),
        || assert_waits_again(Job::mark("callback").with_callback()),
        || assert_waits_again(Job::mark("whole").whole()),
    ]);
}

fn assert_waits_again(job: Job) {
    let server = Server::start(&[]);
    let (proxy, mut pool) = idle_pool(&server);
    let connection = &mut server.connection();
    proxy.lose_answers();
    let names = [job.name.clone()];
    jobs::enqueue(connection, "default", &[job]);
    wait_for(
        "the job to be taken",
        || pool.log(),
        || (claims(connection) == 1).then_some(()),
    );
    pool.assert_clean_stop();
    assert_eq!(waiting(connection), Vec::<String>::new());
    assert_eq!(jobs::statuses(connection, &names), ["queued"], "{}", pool.log());
    assert_eq!(claims(connection), 0);
    let ledger = Ledger::new();
    assert_eq!(ledger.progress(&pool), 0, "{}", pool.log());
    pool.launch();
    wait_for(
        "the job to run",
        || pool.log(),
        || (jobs::statuses(connection, &names) == ["finished"]).then_some(()),
    );
    assert_eq!(ledger.progress(&pool), 1);
    pool.assert_clean_stop();
}

#[test]
fn a_claim_that_reaches_the_server_after_its_pool_stopped_takes_nothing() {
    let server = Server::start(&[]);
    let (proxy, mut pool) = idle_pool(&server);
    let connection = &mut server.connection();
    proxy.hold_calls();
    let names = ["late".to_owned()];
    jobs::enqueue(connection, "default", &[Job::mark("late")]);
    pool.wait_for("the claim to be on its way", |_| {
        waiting(&mut server.connection()).is_empty() && proxy.held() > 0
    });
    pool.assert_clean_stop();
    assert_eq!(jobs::statuses(connection, &names), ["queued"], "{}", pool.log());
    proxy.release();
    // The server takes in the end of a connection behind all that was said on it.
    wait_for(
        "the server to be left alone",
        || pool.log(),
        || clients(connection).is_empty().then_some(()),
    );
    assert_eq!(jobs::statuses(connection, &names), ["queued"], "{}", pool.log());
    assert_eq!(claims(connection), 0);
}

#[test]
fn an_idle_pool_that_stops_or_is_paused_takes_nothing() {
    let server = Server::start(&[]);
    let mut pool = Pool::start(&server.url(), "");
    let connection = &mut server.connection();
    pool.wait_until_idle();
    pool.ask("pause");
    jobs::enqueue(connection, "default", &[Job::mark("while-paused")]);
    let names = ["while-paused".to_owned()];
    // Whoever were to take it would be sooner than this is answered twice.
    pool.state();
    pool.state();
    assert_eq!(jobs::statuses(connection, &names), ["queued"]);
    pool.ask("resume");
    wait_for(
        "the job to run",
        || pool.log(),
        || (jobs::statuses(connection, &names) == ["finished"]).then_some(()),
    );
    pool.assert_clean_stop();
    assert_eq!(waiting(connection), Vec::<String>::new());
    jobs::enqueue(connection, "default", &[Job::mark("left")]);
    assert_eq!(jobs::statuses(connection, &["left".to_owned()]), ["queued"]);
}

#[test]
fn a_pool_without_room_leaves_what_comes() {
    let server = Server::start(&[]);
    let workers = "min_workers = 2\nmax_workers = 2\nprefetch = 0\n";
    let mut pool = Pool::start(&server.url(), &format!("{TWO_QUEUES}{workers}"));
    let connection = &mut server.connection();
    let gate = pool.path("gate");
    nix::unistd::mkfifo(&gate, Mode::S_IRWXU).unwrap();
    let long = ["one", "two"].map(|name| Job::hold(name, &gate));
    jobs::enqueue(connection, "default", &long);
    pool.wait_for("both to run", |pool| {
        let state = pool.state();
        let processes = state["pools"]["default"]["processes"].as_array();
        let job = |worker: &serde_json::Value| worker["job"].as_str().map(str::to_owned);
        let run: Vec<_> = processes.into_iter().flatten().filter_map(job).collect();
        ["one", "two"]
            .iter()
            .all(|name| run.iter().any(|job| job == name))
    });
    jobs::enqueue(connection, "high", &[Job::mark("next")]);
    // Whoever were to take it would be sooner than this is answered.
    pool.state();
    let names = ["one", "two", "next"].map(str::to_owned);
    assert_eq!(
        jobs::statuses(connection, &names),
        ["started", "started", "queued"]
    );
    let _open = fs::OpenOptions::new().write(true).open(&gate).unwrap();
    let ended = || (jobs::statuses(connection, &names) == ["finished"; 3]).then_some(());
    wait_for("all to end", || pool.log(), ended);
    pool.assert_clean_stop();
}

//! An idle pool whose connections fail, each in another way: jobs that come then run, within the times that docs/rq.md
//! states, and nobody sits there connected while they wait.

use std::time::Duration;

use redis::Connection;

use crate::jobs::{self, Job};
use crate::ledger::{Ledger, assert_one_more_job_runs};
use crate::pool::{Pool, TWO_QUEUES};
use crate::proxy::Proxy;
use crate::server::{Server, clients};
use crate::support::wait_for_within;

/// Before the blocking read would find out by itself, which takes 70 s.
const BEFORE_THE_BELLS: Duration = Duration::from_secs(60);

/// A pool behind a proxy, which waits for jobs.
fn idle_pool(server: &Server, options: &str) -> (Proxy, Pool) {
    let proxy = Proxy::start(server.port(), Ledger::new().rng);
    let pool = Pool::start_with(&proxy.url(), options);
    assert_one_more_job_runs(&pool, &mut server.connection(), "first");
    // The first housekeeping, which is RQ's code, would wait on its own connection for as long as RQ's worker does.
    pool.wait_until_idle();
    wait_until_it_listens(&pool, &mut server.connection());
    (proxy, pool)
}

/// Until the blocking read for jobs is on its way.
fn wait_until_it_listens(pool: &Pool, connection: &mut Connection) {
    pool_waits(pool, || {
        let clients = clients(connection);
        clients
            .iter()
            .any(|client| client.contains("cmd=blmove") && client.contains("flags=b"))
    });
}

fn pool_waits(pool: &Pool, mut check: impl FnMut() -> bool) {
    crate::wait_for(
        "the pool to wait for jobs",
        || pool.log(),
        || check().then_some(()),
    );
}

/// A job that comes now runs before this time is over.
fn assert_a_job_runs_within(limit: Duration, pool: &Pool, connection: &mut Connection) {
    jobs::enqueue(connection, "default", &[Job::mark("silent")]);
    let names = ["silent".to_owned()];
    wait_for_within(
        limit,
        "a job to run",
        || pool.log(),
        || (jobs::statuses(connection, &names) == ["finished"]).then_some(()),
    );
}

#[test]
fn silence_is_found_out() {
    crate::side_by_side(&[
        when_all_connections_fall_silent_a_heartbeat_finds_out,
        || a_blocking_read_that_fell_silent_alone_is_asked_again(""),
        || a_blocking_read_that_fell_silent_alone_is_asked_again(TWO_QUEUES),
        crate::faults::a_server_that_stands_still_for_longer_than_anybody_waits_loses_nothing,
    ]);
}

fn when_all_connections_fall_silent_a_heartbeat_finds_out() {
    let server = Server::start(&[]);
    let (proxy, mut pool) = idle_pool(&server, "");
    proxy.silence(false);
    assert_a_job_runs_within(BEFORE_THE_BELLS, &pool, &mut server.connection());
    pool.assert_clean_stop();
}

fn a_blocking_read_that_fell_silent_alone_is_asked_again(tables: &str) {
    let server = Server::start(&[]);
    // The server answers it after a second.
    let (proxy, mut pool) = idle_pool(&server, &format!("worker_ttl = \"16s\"\n{tables}"));
    proxy.silence(true);
    assert_a_job_runs_within(BEFORE_THE_BELLS, &pool, &mut server.connection());
    pool.assert_clean_stop();
}

#[test]
fn each_connection_may_be_killed_by_the_server() {
    let server = Server::start(&[]);
    let mut pool = Pool::start(&server.url(), "");
    let connection = &mut server.connection();
    assert_one_more_job_runs(&pool, connection, "first");
    wait_until_it_listens(&pool, connection);
    let killed = clients(connection);
    assert!(
        killed.len() >= 3,
        "for calls, for jobs and for orders: {killed:?}"
    );
    for (at, client) in killed.iter().enumerate() {
        let id = client.split(['=', ' ']).nth(1).unwrap();
        let _: u32 = redis::cmd("CLIENT")
            .arg("KILL")
            .arg("ID")
            .arg(id)
            .query(connection)
            .unwrap();
        assert_one_more_job_runs(&pool, connection, &format!("after-{at}"));
    }
    wait_until_it_listens(&pool, connection);
    let mut kill = redis::cmd("CLIENT");
    kill.arg("KILL")
        .arg("TYPE")
        .arg("normal")
        .arg("SKIPME")
        .arg("yes");
    let _: u32 = kill.query(connection).unwrap();
    assert_one_more_job_runs(&pool, connection, "after-all");
    pool.assert_clean_stop();
}

#[test]
fn a_server_that_pauses_its_clients_is_waited_for() {
    let server = Server::start(&[]);
    let mut pool = Pool::start(&server.url(), "");
    let connection = &mut server.connection();
    assert_one_more_job_runs(&pool, connection, "first");
    for mode in ["WRITE", "ALL"] {
        wait_until_it_listens(&pool, connection);
        let mut pause = redis::cmd("CLIENT");
        let () = pause.arg("PAUSE").arg(1500).arg(mode).query(connection).unwrap();
        // This is held back, too, and reaches the server in one moment with what the pool has to say.
        assert_one_more_job_runs(&pool, connection, mode);
    }
    pool.assert_clean_stop();
}

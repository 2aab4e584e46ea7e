//! A server that fails: running jobs go on, their outcomes are settled later, nothing is lost and nothing runs twice.

use std::time::Duration;

use nix::sys::signal::Signal;
use redis::{Connection, RedisResult};

use crate::jobs::Job;
use crate::ledger::{Ledger, assert_one_more_job_runs, count};
use crate::pool::Pool;
use crate::proxy::Proxy;
use crate::server::{DURABLE, Server};
use crate::{jobs, wait_for};

#[test]
fn a_server_that_is_killed_and_started_again_loses_nothing() {
    let (mut ledger, mut server) = (Ledger::new(), Server::start(&DURABLE));
    let mut pool = Pool::start(&server.url(), "");
    let jobs = ledger.jobs(count(3000));
    for part in jobs.chunks(jobs.len().div_ceil(6)) {
        jobs::enqueue(&mut server.connection(), "default", part);
        let lines = ledger.rng.usize(0..part.len());
        ledger.wait_for_progress(&pool, lines);
        server.kill();
        server.launch(&[]);
    }
    let connection = &mut server.connection();
    let summary = ledger.assert_settled(&pool, connection);
    assert_eq!((summary.lost, summary.repeated), (0, 0));
    assert_one_more_job_runs(&pool, connection, "more");
    pool.assert_clean_stop();
}

/// Run by `idle::silence_is_found_out`.
pub fn a_server_that_stands_still_for_longer_than_anybody_waits_loses_nothing() {
    let (mut ledger, server) = (Ledger::new(), Server::start(&[]));
    let mut pool = Pool::start(&server.url(), "");
    let jobs = ledger.jobs(count(2000));
    let connection = &mut server.connection();
    jobs::enqueue(connection, "default", &jobs);
    ledger.wait_for_progress(&pool, jobs.len() / 4);
    server.signal(Signal::SIGSTOP);
    // What was sent before lies in the server's socket, and is carried out when nobody waits for it any more.
    pool.wait_for("the supervisor to give up waiting", |pool| {
        pool.state()["broker_error"].is_string()
    });
    std::thread::sleep(Duration::from_millis(200));
    server.signal(Signal::SIGCONT);
    let summary = ledger.assert_settled(&pool, connection);
    assert_eq!((summary.lost, summary.repeated), (0, 0));
    assert_one_more_job_runs(&pool, connection, "more");
    pool.assert_clean_stop();
}

#[test]
fn connections_that_are_cut_in_the_middle_of_scripts_lose_nothing() {
    let (mut ledger, server) = (Ledger::new(), Server::start(&[]));
    let proxy = Proxy::start(server.port(), ledger.rng.fork());
    let mut pool = Pool::start(&proxy.url(), "");
    let jobs = ledger.jobs(count(3000));
    let connection = &mut server.connection();
    for part in jobs.chunks(jobs.len().div_ceil(6)) {
        let (cuts, ran) = (proxy.cuts(), ledger.progress(&pool));
        proxy.be_bad(true);
        jobs::enqueue(connection, "default", part);
        wait_for(
            "connections to be cut",
            || pool.log(),
            || (proxy.cuts() > cuts).then_some(()),
        );
        // Of those that are there by now: many may have run before a connection was cut.
        let lines = ran + ledger.rng.usize(0..part.len());
        pool.wait_for("jobs to run", |pool| ledger.progress(pool) >= lines);
        proxy.be_bad(false);
    }
    println!("{} connections were cut", proxy.cuts());
    let summary = ledger.assert_settled(&pool, connection);
    assert_eq!((summary.lost, summary.repeated), (0, 0));
    assert_one_more_job_runs(&pool, connection, "more");
    pool.assert_clean_stop();
}

#[test]
fn while_only_writes_are_refused_the_log_has_one_error_and_one_line_at_the_end() {
    let server = Server::start(&[]);
    let one_worker = "[pools.default]\nmin_workers = 1\nmax_workers = 1\nprefetch = 0\n";
    let mut pool = Pool::start(&server.url(), one_worker);
    let connection = &mut server.connection();
    let gate = pool.path("gate");
    nix::unistd::mkfifo(&gate, nix::sys::stat::Mode::S_IRWXU).unwrap();
    // While its only worker is busy the pool does not wait for jobs. It begins to when nothing can be written any more.
    jobs::enqueue(connection, "default", &[Job::hold("held", &gate)]);
    let opened = std::fs::File::options().write(true).open(&gate).unwrap();
    run(connection, "CONFIG SET maxmemory 1").unwrap();
    drop(opened);
    let refused = |connection: &mut Connection| {
        let stats: String = redis::cmd("INFO").arg("errorstats").query(connection).unwrap();
        let line = stats
            .lines()
            .find_map(|line| line.strip_prefix("errorstat_OOM:count="));
        line.map_or(0, |count| count.trim().parse::<u32>().unwrap())
    };
    // Settlements and heartbeats that only renew still work: they don't say that jobs can be waited for.
    pool.wait_for("several refusals", |pool| {
        refused(connection) >= 8 && pool.whole_log().contains("cannot wait for jobs")
    });
    run(connection, "CONFIG SET maxmemory 0").unwrap();
    pool.wait_for("the end of it to be told", |pool| {
        pool.log().contains("works again")
    });
    let log = pool.whole_log();
    let told = |words: &str| log.lines().filter(|line| line.contains(words)).count();
    assert_eq!(told("works again"), 1, "{log}");
    assert_eq!(told("ERROR"), 1, "{log}");
    assert_one_more_job_runs(&pool, connection, "more");
    pool.assert_clean_stop();
}

/// What makes a server refuse, and what ends it.
const REFUSALS: [(&str, &str); 4] = [
    ("CONFIG SET maxmemory 1", "CONFIG SET maxmemory 0"),
    (
        "CONFIG SET min-replicas-to-write 1",
        "CONFIG SET min-replicas-to-write 0",
    ),
    ("REPLICAOF 127.0.0.1 1", "REPLICAOF NO ONE"),
    ("EVAL while(1)do	end 0", "SCRIPT KILL"),
];

#[test]
fn a_server_that_refuses_for_a_while_loses_nothing() {
    let (mut ledger, server) = (Ledger::new(), Server::start(&["--lua-time-limit", "100"]));
    let mut pool = Pool::start(&server.url(), "");
    let jobs = ledger.jobs(count(2000));
    for ((refuse, end), part) in REFUSALS
        .iter()
        .zip(jobs.chunks(jobs.len().div_ceil(REFUSALS.len())))
    {
        // On a busy machine a script of the pool's may take longer than this server's limit just then.
        wait_for(
            "jobs to be enqueued",
            || server.log(),
            || jobs::try_to_enqueue(&mut server.connection(), "default", part).ok(),
        );
        let (mut one, mut other) = (server.connection(), server.connection());
        let lines = ledger.rng.usize(0..part.len() / 2);
        ledger.wait_for_progress(&pool, lines);
        std::thread::scope(|scope| {
            if refuse.starts_with("EVAL") {
                // A script that never ends holds the one who calls it.
                scope.spawn(|| run(&mut one, refuse));
            } else {
                command(&mut one, refuse, &server);
            }
            // Without memory claims and settlements go on, since what they begin with frees some: then no more than
            // the log tells of it.
            let is_logged = |pool: &Pool| refuse.contains("maxmemory") && pool.whole_log().contains("OOM");
            pool.wait_for("the refusal", |pool| {
                pool.state()["broker_error"].is_string() || is_logged(pool)
            });
            command(&mut other, end, &server);
        });
    }
    let connection = &mut server.connection();
    let summary = ledger.assert_settled(&pool, connection);
    assert_eq!((summary.lost, summary.repeated), (0, 0));
    assert_one_more_job_runs(&pool, connection, "more");
    pool.assert_clean_stop();
}

/// Not at once, for the same reason.
fn command(connection: &mut Connection, words: &str, server: &Server) {
    let taken = || run(connection, words).ok();
    wait_for(&format!("{words} to be taken"), || server.log(), taken);
}

fn run(connection: &mut Connection, words: &str) -> RedisResult<redis::Value> {
    let words: Vec<&str> = words.split(' ').collect();
    redis::cmd(words[0]).arg(&words[1..]).query(connection)
}

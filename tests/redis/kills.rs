//! Processes that are killed at any moment: each job is finished, or failed with a reason; none runs twice but those
//! whose process was killed.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use redis::Connection;

use crate::jobs::{self, Job};
use crate::ledger::{Ledger, assert_one_more_job_runs, count};
use crate::pool::Pool;
use crate::server::Server;
use crate::wait_for;

#[test]
fn workers_and_templates_that_are_killed_lose_nothing() {
    let (mut ledger, server) = (Ledger::new(), Server::start(&[]));
    let mut pool = Pool::start(&server.url(), "");
    let jobs = ledger.jobs(count(3000));
    let connection = &mut server.connection();
    for (round, part) in jobs.chunks(jobs.len().div_ceil(10)).enumerate() {
        jobs::enqueue(connection, "default", part);
        let lines = ledger.rng.usize(0..part.len());
        ledger.wait_for_progress(&pool, lines);
        let victim = if round % 3 == 2 {
            pool.template()
        } else {
            let workers: Vec<i32> = pool.workers().into_iter().collect();
            ledger.rng.choice(workers)
        };
        // One that is being replaced may be gone already.
        if let Some(pid) = victim.filter(|pid| *pid > 0) {
            ledger.killed.insert(pid);
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
    ledger.assert_settled(&pool, connection);
    assert_one_more_job_runs(&pool, connection, "more");
    pool.assert_clean_stop();
}

#[test]
fn jobs_of_a_supervisor_that_is_killed_are_found_by_the_housekeeping() {
    let (mut ledger, server) = (Ledger::new(), Server::start(&[]));
    let mut pool = Pool::start(&server.url(), "");
    let jobs = ledger.jobs(count(3000));
    let connection = &mut server.connection();
    for part in jobs.chunks(jobs.len().div_ceil(5)) {
        jobs::enqueue(connection, "default", part);
        let lines = ledger.rng.usize(0..part.len());
        ledger.wait_for_progress(&pool, lines);
        ledger.killed_lives.insert(pool.life());
        pool.kill();
        jobs::let_time_pass(connection);
        pool.launch();
    }
    let summary = ledger.assert_settled(&pool, connection);
    // What had not begun waits again, but for what a worker was just about to begin.
    assert!(summary.lost_unbegun <= 3 * 5, "{summary:?}");
    assert_one_more_job_runs(&pool, connection, "more");
    pool.assert_clean_stop();
}

#[test]
fn workers_leave_cleanly_when_the_pool_stops() {
    let server = Server::start(&[]);
    let mut pool = Pool::start(&server.url(), "");
    let connection = &mut server.connection();
    let names = registered(&pool, connection);
    pool.assert_clean_stop();
    let mut look = redis::pipe();
    look.scard("rq:workers").scard("rq:workers:default");
    let left: Vec<u64> = look.query(connection).unwrap();
    assert_eq!(left, [0, 0]);
    for name in names {
        let mut look = redis::pipe();
        look.hexists(&name, "death")
            .ttl(&name)
            .exists(format!("{name}:executions"));
        let (has_death, ttl, has_executions): (bool, i64, bool) = look.query(connection).unwrap();
        assert!(
            has_death && (0..=60).contains(&ttl) && !has_executions,
            "{name}: {has_death} {ttl}"
        );
    }
}

#[test]
fn workers_of_a_killed_supervisor_are_forgotten_in_time() {
    let server = Server::start(&[]);
    let mut pool = Pool::start(&server.url(), "");
    let connection = &mut server.connection();
    let names = registered(&pool, connection);
    jobs::enqueue(connection, "default", &[Job::nap("long", 100.0)]);
    let lists = |connection: &mut Connection| -> Vec<String> {
        let mut look = redis::pipe();
        names.iter().for_each(|name| {
            look.smembers(format!("{name}:executions"));
        });
        let found: Vec<Vec<String>> = look.query(connection).unwrap();
        found.concat()
    };
    wait_for(
        "the job to be shown",
        || pool.log(),
        || (!lists(connection).is_empty()).then_some(()),
    );
    pool.kill();
    // A worker's key lives for worker_ttl and a minute at most (RQ's rule), and that of its executions no longer.
    for name in &names {
        let mut look = redis::pipe();
        look.ttl(name).ttl(format!("{name}:executions"));
        let ttls: [i64; 2] = look.query(connection).unwrap();
        assert!((1..=480).contains(&ttls[0]), "{name} lives for {ttls:?}");
        assert!(
            ttls[1] == -2 || (1..=480).contains(&ttls[1]),
            "{name} lives for {ttls:?}"
        );
    }
}

/// Keys of the workers, once all three are registered.
fn registered(pool: &Pool, connection: &mut Connection) -> Vec<String> {
    wait_for(
        "three workers to be registered",
        || pool.log(),
        || {
            let names: Vec<String> = redis::cmd("SMEMBERS")
                .arg("rq:workers")
                .query(connection)
                .unwrap();
            (names.len() == 3).then_some(names)
        },
    )
}

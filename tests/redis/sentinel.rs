//! A master, its replica and a Sentinel: the supervisor follows a failover, and nothing is lost.

use std::time::Duration;

use redis::Connection;

use crate::jobs;
use crate::ledger::{Ledger, assert_one_more_job_runs};
use crate::pool::Pool;
use crate::server::{self, Server};
use crate::wait_for;

/// A master whose replica left takes no writes: they would be thrown away.
const SAFE: [&str; 2] = ["--min-replicas-to-write", "1"];

struct Group {
    master: Server,
    replica: Server,
    sentinels: Vec<Server>,
}

impl Group {
    fn start(options: &[&str]) -> Group {
        let master = Server::start(options);
        let of = ["--replicaof", "127.0.0.1", &master.port().to_string()];
        let replica = Server::start(&[&of, options].concat());
        let sentinels = (0..3).map(|_| Server::sentinel(master.port(), "")).collect();
        let group = Group {
            master,
            replica,
            sentinels,
        };
        let connection = &mut group.master.connection();
        wait_for(
            "the replica to follow",
            || group.log(),
            || {
                let info: String = redis::cmd("INFO").arg("replication").query(connection).ok()?;
                info.contains("state=online").then_some(())
            },
        );
        for sentinel in &group.sentinels {
            let connection = &mut sentinel.connection();
            wait_for(
                "Sentinels to know the servers",
                || group.log(),
                || {
                    let state: Vec<(String, String)> = redis::cmd("SENTINEL")
                        .arg("MASTER")
                        .arg("main")
                        .query(connection)
                        .ok()?;
                    let count = |name: &str| {
                        state
                            .iter()
                            .find(|(key, _)| key == name)
                            .map(|(_, value)| value.clone())
                    };
                    (count("num-slaves")? == "1" && count("num-other-sentinels")? == "2").then_some(())
                },
            );
        }
        group
    }

    fn url(&self) -> String {
        let addresses: Vec<String> = self
            .sentinels
            .iter()
            .map(|sentinel| format!("127.0.0.1:{}", sentinel.port()))
            .collect();
        format!("redis+sentinel://{}/main/0", addresses.join(","))
    }

    /// What the Sentinels say.
    fn log(&self) -> String {
        let logs: Vec<String> = self.sentinels.iter().map(Server::log).collect();
        logs.join("\n\n")
    }

    /// Enqueues at the master, and waits until the replica has them too.
    fn enqueue(&self, jobs: &[jobs::Job]) {
        let connection = &mut self.master.connection();
        jobs::enqueue(connection, "default", jobs);
        let kept: u32 = redis::cmd("WAIT").arg(1).arg(10_000).query(connection).unwrap();
        assert_eq!(kept, 1);
    }

    /// A connection to the replica, once it is the master.
    fn new_master(&self) -> Connection {
        wait_for(
            "the replica to be promoted",
            || self.log(),
            || {
                // A server that changes its role drops its clients.
                let mut connection = self.replica.connection();
                let role: Vec<redis::Value> = redis::cmd("ROLE").query(&mut connection).ok()?;
                let role: String = redis::from_redis_value(role.first()?.clone()).ok()?;
                (role == "master").then_some(connection)
            },
        )
    }
}

#[test]
fn the_master_may_be_another_one() {
    crate::side_by_side(&[
        a_failover_in_the_middle_of_work_loses_nothing,
        a_master_that_dies_is_replaced_although_a_sentinel_hangs,
        a_settings_module_names_sentinels_and_their_passwords,
    ]);
}

fn a_failover_in_the_middle_of_work_loses_nothing() {
    let (mut ledger, group) = (Ledger::new(), Group::start(&SAFE));
    ledger.is_forgetful = true;
    let mut pool = Pool::start(&group.url(), "");
    group.enqueue(&ledger.jobs(1000));
    ledger.wait_for_progress(&pool, 200);
    let mut failover = redis::cmd("SENTINEL");
    failover.arg("FAILOVER").arg("main");
    let () = failover.query(&mut group.sentinels[0].connection()).unwrap();
    let connection = &mut group.new_master();
    assert_one_more_job_runs(&pool, connection, "more");
    pool.wait_until_idle();
    pool.assert_clean_stop();
    // The new master may not have heard how a job ended that it knows to be taken: the next pool finds it in time.
    jobs::let_time_pass(connection);
    pool.launch();
    ledger.assert_settled(&pool, connection);
    pool.assert_clean_stop();
}

fn a_master_that_dies_is_replaced_although_a_sentinel_hangs() {
    let (mut ledger, mut group) = (Ledger::new(), Group::start(&[]));
    let mut pool = Pool::start(&group.url(), "");
    group.enqueue(&ledger.jobs(500));
    ledger.wait_for_progress(&pool, 500);
    pool.wait_until_idle();
    std::thread::sleep(Duration::from_millis(200));
    group.master.kill();
    group.sentinels[0].signal(nix::sys::signal::Signal::SIGSTOP);
    let connection = &mut group.new_master();
    assert_one_more_job_runs(&pool, connection, "more");
    ledger.assert_settled(&pool, connection);
    pool.assert_clean_stop();
}

fn a_settings_module_names_sentinels_and_their_passwords() {
    let server = Server::start(&["--requirepass", "secret"]);
    let sentinel = Server::sentinel(
        server.port(),
        "sentinel auth-pass main secret\nrequirepass sentinel-secret\n",
    );
    let mut pool = Pool::with_settings(&format!(
        "SENTINEL = {{
            'INSTANCES': [('127.0.0.1', {}), ('127.0.0.1', {})],
            'MASTER_NAME': 'main',
            'PASSWORD': 'secret',
            'DB': 2,
            'SENTINEL_KWARGS': {{'password': 'sentinel-secret'}},
        }}",
        server::free_port(), // where no Sentinel is
        sentinel.port()
    ));
    pool.launch();
    let url = format!("redis://:secret@127.0.0.1:{}/2", server.port());
    let connection = &mut server::connection(&url, || server.log());
    let mut ledger = Ledger::new();
    let mut jobs = ledger.jobs(100);
    jobs.push(ledger.whole_job());
    jobs::enqueue(connection, "default", &jobs);
    ledger.assert_settled(&pool, connection);
    pool.assert_clean_stop();
    assert!(!pool.whole_log().contains("secret"), "{}", pool.log());
}

#[test]
fn a_name_that_no_sentinel_knows_is_told() {
    let server = Server::start(&[]);
    let sentinel = Server::sentinel(server.port(), "");
    let mut pool = Pool::new(
        &format!("redis+sentinel://127.0.0.1:{}/other", sentinel.port()),
        "",
    );
    pool.spawn();
    assert_eq!(pool.ended().code(), Some(3));
    assert!(
        pool.log()
            .contains("do these Sentinels watch a master of this name"),
        "{}",
        pool.log()
    );
}

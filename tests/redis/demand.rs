//! The policy `demand` on RQ's Redis.

use crate::jobs::{self, Job};
use crate::pool::Pool;
use crate::server::Server;

const SETTINGS: &str = "[pools.default]\nmin_workers = 2\nmax_workers = 12\npolicy = \"demand\"\n\
                        scaling_period = \"1s\"\nutilization_window = \"3s\"\n";

#[test]
fn a_burst_grows_the_pool_in_one_jump_and_it_shrinks_again() {
    let server = Server::start(&[]);
    let pool = Pool::start(&server.url(), SETTINGS);
    pool.wait_for("two workers", |pool| pool.workers().len() == 2);
    let naps: Vec<Job> = (0..60).map(|nap| Job::nap(&format!("nap {nap}"), 0.5)).collect();
    let mut connection = server.connection();
    jobs::enqueue(&mut connection, "default", &naps);
    pool.wait_for("all workers", |pool| pool.workers().len() == 12);
    let names: Vec<String> = naps.iter().map(|nap| nap.name.clone()).collect();
    pool.wait_for("all jobs", |_| {
        let statuses = jobs::statuses(&mut connection, &names);
        statuses.iter().all(|status| status == "finished")
    });
    pool.wait_for("two workers again", |pool| pool.workers().len() == 2);
    let log = pool.whole_log();
    let changes = |what: &str| log.lines().filter(|line| line.contains(what)).count();
    assert!((1..=3).contains(&changes("INFO scaled up")), "it jumped: {log}");
    assert!((1..=3).contains(&changes("INFO scaled down")), "and back: {log}");
    // Two workers with 58 jobs before them: what waits is known, not only that something does.
    assert!(log.contains("waiting=") && log.contains("work="), "{log}");
}

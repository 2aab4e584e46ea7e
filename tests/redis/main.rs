//! `pool --runtime rq` on real servers: how it connects, and what it makes of a server that fails.
//!
//! Each test has servers of its own on free loopback ports. The ledger, a file to which each job appends a line when it
//! runs, knows what ran without asking Redis.

#![allow(clippy::unwrap_used)] // a test says what is wrong by failing

mod certificates;
mod connections;
mod demand;
mod faults;
mod idle;
mod jobs;
mod kills;
mod ledger;
mod lost_answers;
mod names;
mod pool;
mod sentinel;
mod served;
#[path = "../support/mod.rs"]
mod support;

use support::{proxy, server, wait_for};

/// Rules that are seconds of waiting, for the limits of a pool or of a server, and little else: all at once, where the test
/// harness has no more in hand than there are processors.
fn side_by_side(rules: &[fn()]) {
    std::thread::scope(|scope| {
        for rule in rules {
            scope.spawn(rule);
        }
    });
}

//! `pool --runtime rq` on real servers: how it connects, and what it makes of a server that fails.
//!
//! Each test has servers of its own on free loopback ports. The ledger, a file to which each job appends a line when it
//! runs, knows what ran without asking Redis.

#![allow(clippy::unwrap_used)] // a test says what is wrong by failing

mod certificates;
mod connections;
mod faults;
mod jobs;
mod kills;
mod ledger;
mod pool;
mod proxy;
mod sentinel;
mod server;

use std::time::Duration;

use ::pool::time::Mono;

/// Longest wait for anything; generous, for a busy machine. A test that waits so long has failed.
const PATIENCE: Duration = Duration::from_secs(120);

/// Waits until `check` gives something; `state` tells a failure more.
fn wait_for<T>(what: &str, state: impl Fn() -> String, mut check: impl FnMut() -> Option<T>) -> T {
    let until = Mono::now() + PATIENCE;
    loop {
        if let Some(found) = check() {
            return found;
        }
        assert!(Mono::now() < until, "waited in vain for {what}\n{}", state());
        std::thread::sleep(Duration::from_millis(10));
    }
}

//! What tests of more than one crate stand on; each takes what it needs.
#![allow(dead_code)] // not every crate needs all of it

pub mod log;
pub mod program;
pub mod proxy;
pub mod rabbit;
pub mod server;

use std::time::Duration;

use pool::time::Mono;

/// Longest wait for anything; generous, for a busy machine. A test that waits so long has failed.
const PATIENCE: Duration = Duration::from_secs(120);

/// Waits until `check` gives something; `state` tells a failure more.
pub fn wait_for<T>(what: &str, state: impl Fn() -> String, check: impl FnMut() -> Option<T>) -> T {
    wait_for_within(PATIENCE, what, state, check)
}

/// The same, where so much patience would hide a failure.
pub fn wait_for_within<T>(
    patience: Duration,
    what: &str,
    state: impl Fn() -> String,
    mut check: impl FnMut() -> Option<T>,
) -> T {
    let until = Mono::now() + patience;
    loop {
        if let Some(found) = check() {
            return found;
        }
        assert!(Mono::now() < until, "waited in vain for {what}\n{}", state());
        std::thread::sleep(Duration::from_millis(10));
    }
}

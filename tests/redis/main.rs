//! `pool --runtime rq` on real servers: how it connects, and what it makes of a server that fails.
//!
//! Each test has servers of its own on free loopback ports. The ledger, a file to which each job appends a line when it
//! runs, knows what ran without asking Redis.

#![allow(clippy::unwrap_used)] // a test says what is wrong by failing

mod certificates;
mod connections;
mod faults;
mod idle;
mod jobs;
mod kills;
mod ledger;
mod names;
mod pool;
mod proxy;
mod sentinel;
mod standing;
#[path = "../support/mod.rs"]
mod support;

use support::{server, wait_for};

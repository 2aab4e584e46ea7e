//! The contracts: one suite that every implementation of a trait passes.

#![allow(clippy::unwrap_used)] // a test says what is wrong by failing

mod broker;
#[path = "../support/mod.rs"]
mod support;

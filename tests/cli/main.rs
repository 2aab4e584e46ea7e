//! The command line as its users meet it: the real binary, its words, its exit codes.
#![allow(clippy::unwrap_used)] // helpers outside #[test] functions are tests too

mod brokers;
mod flow;
mod help;
mod jobs;
mod kit;
mod limits;
mod mistakes;
mod output;
mod own_lines;
#[allow(dead_code)] // not every crate needs all of it
#[path = "../support/program.rs"]
mod program;
mod rq_words;
mod schedules;
mod simulate;
mod surroundings;

//! `pool`: an autoscaling worker-pool supervisor.
//!
//! It loads an application once, forks workers from it on demand, measures exactly how busy
//! they are, and adds or retires one worker at a time. The modules, in reading order:
//!
//! - [`job`], [`death`], [`time`], [`text`]: what a job is; how a process ended; the two clocks as two types; text within
//!   limits.
//! - [`policy`]: decisions as pure functions: numbers in, a decision and its reason out.
//! - [`fleet`]: the template and its workers as data: event and time in, actions out.
//! - [`config`]: flags, environment and TOML become one checked [`config::Config`].
//! - [`broker`]: where jobs wait: one trait, its implementations side by side.
//! - [`wire`]: frames and messages between our own processes.
//! - [`sys`]: the one room with `unsafe`: fork, exec, descriptor passing, memory advice.
//! - [`template`], [`worker`]: the process that loads the application; what it forks.
//! - [`runtime`]: native tasks and commands as the worker runs them; how each template starts.
//! - [`supervisor`]: the one loop that performs what `fleet` and `policy` decide.
//! - [`sim`]: a supervisor simulated from a seed: the real fleet and traffic in virtual time, under any load.
//! - [`picture`]: charts as SVG and PNG.
//! - [`control`], [`telemetry`]: the Unix socket for people; logs and systemd. [`metrics`]: what Prometheus reads, [`http`]: where it and
//!   probes read it.
//! - [`cli`]: one file per verb. [`role`]: template or command line, decided before any thread exists.
//!
//! A program with tasks of its own starts at [`App`].

pub mod broker;
pub mod cli;
pub mod config;
pub mod control;
pub mod death;
pub mod fleet;
pub mod http;
pub mod job;
pub mod metrics;
pub mod picture;
pub mod policy;
pub mod role;
pub mod runtime;
pub mod sim;
pub mod supervisor;
pub mod sys;
pub mod telemetry;
pub mod template;
pub mod text;
pub mod time;
pub mod wire;
pub mod worker;

pub use runtime::native::App;
pub use runtime::task::{Context, JobRef, TaskError, TaskResult};

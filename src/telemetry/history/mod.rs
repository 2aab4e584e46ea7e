//! What pools decided, kept in a small file.
//!
//! The last hour of decisions is kept in full, a week in steps of five minutes. The file is a line of JSON for each record,
//! and survives restarts and torn writes: a line that can't be read is left out.
//!
//! - [`record`]: what is kept. [`steps`]: decisions become steps. [`retention`]: how long. All three are pure.
//! - [`file`](mod@file): reading and writing. [`writer`]: a thread that writes, so that the supervisor's loop never waits for a disk.

pub mod file;
pub mod record;
pub mod retention;
pub mod steps;
pub mod writer;

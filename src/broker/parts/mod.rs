//! What several sources are made of: plain values, with the time as an argument, and after-work that waits.

pub mod after_work;
pub mod backoff;
pub mod held;
pub mod inbox;
pub mod room;
pub mod turns;

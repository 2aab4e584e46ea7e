//! What several sources are made of: plain values, with the time as an argument.

pub mod backoff;
pub mod held;
pub mod room;
pub mod turns;

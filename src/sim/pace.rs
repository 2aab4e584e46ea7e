//! How long things take that no job decides, in microseconds.

use std::ops::Range;

/// Durations are drawn from ranges of microseconds.
#[derive(Clone, Debug)]
pub struct Pace {
    /// A message between two processes.
    pub message: Range<u64>,
    /// One message in so many takes up to so long instead; `None`: none does.
    pub late: Option<(u8, u64)>,
    /// An application loads.
    pub load: Range<u64>,
    /// From a fork until the worker is ready.
    pub start: Range<u64>,
    /// One turn of the loop in so many takes longer, and more happens meanwhile; `None`: none does.
    pub busy_turns: Option<u8>,
}

/// Wide ranges, so that things happen in every order.
impl Default for Pace {
    fn default() -> Self {
        Pace {
            message: 1..200,
            late: Some((50, 20_000)),
            load: 10_000..2_000_000,
            start: 500..20_000,
            busy_turns: Some(4),
        }
    }
}

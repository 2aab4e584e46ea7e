//! Schedules: when they are due, and what is to be fired at an instant.
//!
//! A due time depends on the settings alone, so that all supervisors know the same ones. The broker remembers the last one that
//! was handled, and takes each only once.

mod cron;
mod plan;
#[cfg(test)]
mod tests;

use std::time::Duration;

use super::zone::Zone;
use crate::time::{Human, Unix};

pub use cron::{Expression, instant};
pub use plan::{Known, Plan, plan};

/// A due time that is fired no later than this is on time: a short stall of the supervisor or its broker loses none.
pub const GRACE: Duration = Duration::from_secs(60);

/// When a schedule is due.
#[derive(Clone, Debug, PartialEq)]
pub enum Rule {
    /// At the times of the wall clock that an expression names.
    Cron(Expression, Zone),
    /// At each multiple of this time since 1970-01-01T00:00:00Z, whatever clocks on walls do. More than zero.
    Every(Duration),
}

/// What becomes of due times at which no supervisor ran.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CatchUp {
    /// They are left out.
    #[default]
    None,
    /// One run stands for all of them.
    Last,
    /// Each is run, up to a bound.
    All,
}

/// When a schedule fires.
#[derive(Clone, Debug, PartialEq)]
pub struct Timing {
    /// When it is due.
    pub rule: Rule,
    /// It fires up to this much later than it is due.
    pub jitter: Duration,
    /// What becomes of missed due times.
    pub catch_up: CatchUp,
    /// Missed due times that are fired at the most: the newest.
    pub catch_up_max: u32,
}

impl Rule {
    /// The first due time after an instant; `None`: there is none any more.
    pub fn next_after(&self, after: Unix) -> Option<Unix> {
        match self {
            Rule::Cron(expression, zone) => expression.next_after(after, &zone.rules),
            Rule::Every(interval) => {
                let interval = i64::try_from(interval.as_millis())
                    .ok()
                    .filter(|every| *every > 0)?;
                let next = after.0.div_euclid(interval).checked_add(1)?;
                next.checked_mul(interval).map(Unix)
            }
        }
    }

    /// Whether its due times may lie between two minutes.
    pub fn has_seconds(&self) -> bool {
        match self {
            Rule::Cron(expression, _) => expression.has_seconds(),
            Rule::Every(_) => true,
        }
    }
}

/// As people read it, and as the broker keeps it to see that it changed.
impl std::fmt::Display for Rule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Rule::Cron(expression, zone) => write!(f, "{} {}", expression.as_str(), zone.name),
            Rule::Every(interval) => write!(f, "every {}", Human(*interval)),
        }
    }
}

impl Timing {
    /// When the schedule of this name fires for a due time. Every supervisor draws the same jitter.
    pub fn fires_at(&self, name: &str, due: Unix) -> Unix {
        let span = u64::try_from(self.jitter.as_millis()).unwrap_or(u64::MAX);
        let drawn = match span.checked_add(1) {
            Some(choices) => seed(name, due) % choices,
            None => 0,
        };
        due + Duration::from_millis(drawn)
    }
}

/// A number that depends on nothing but these two.
/// Source: FNV-1a over the bytes, then the finalizer of `SplitMix64` (Steele, Lea, Flood 2014).
fn seed(name: &str, due: Unix) -> u64 {
    let bytes = name.bytes().chain(due.0.to_le_bytes());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let mixed = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

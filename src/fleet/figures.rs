//! Everything that can be measured from outside: the snapshot, and what was counted since the start.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::snapshot::Snapshot;
use super::tally::Tally;

/// The figures of a supervisor at one instant: what metrics show.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    /// How things are.
    pub snapshot: Arc<Snapshot>,
    /// What each pool has counted, by name.
    pub pools: BTreeMap<String, Tally>,
    /// What was counted of templates.
    pub templates: Templates,
    /// What was counted of the broker.
    pub broker: BrokerCalls,
}

/// What became of templates since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Templates {
    /// They loaded the app.
    pub loads: u64,
    /// They did not.
    pub load_failures: u64,
    /// They died after they had loaded it.
    pub deaths: u64,
}

/// How the broker served us.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BrokerCalls {
    /// Calls that failed.
    pub failures: u64,
    /// Outcomes that it has not taken yet.
    pub unsettled: u64,
    /// Outcomes that came after their lease had run out.
    pub late: u64,
}

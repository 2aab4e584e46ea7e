//! What is kept: decisions, and steps of five minutes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::fleet::snapshot::{Decision, QueueFlow};
use crate::time::Unix;

/// One line of the file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Record {
    /// A decision.
    Decision(Decided),
    /// Five minutes of a pool.
    Step(Step),
}

impl Record {
    /// When it was: a step, when it began.
    pub fn at(&self) -> Unix {
        match self {
            Record::Decision(decided) => decided.decision.at,
            Record::Step(step) => step.at,
        }
    }

    /// Whose it is.
    pub fn pool(&self) -> &str {
        match self {
            Record::Decision(decided) => &decided.pool,
            Record::Step(step) => &step.pool,
        }
    }
}

/// A decision of a pool, and what passed through its queues since its last period.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Decided {
    /// Which pool.
    pub pool: String,
    /// What was decided.
    #[serde(flatten)]
    pub decision: Decision,
    /// At the end of a period: the flow through each queue since the last one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub queues: Vec<QueueFlow>,
}

/// Five minutes of a pool.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Which pool.
    pub pool: String,
    /// When it began: a multiple of its length.
    pub at: Unix,
    /// How long it is, in seconds.
    pub seconds: u32,
    /// Seconds of it that were seen: fewer while the supervisor was not there.
    pub seen_s: f64,
    /// Workers that were wanted, times seconds.
    pub worker_s: f64,
    /// Workers that were busy on average, times seconds.
    pub busy_s: f64,
    /// Fewest workers that were wanted.
    pub workers_min: u32,
    /// Most workers that were wanted.
    pub workers_max: u32,
    /// Most jobs that waited.
    pub waiting_max: u64,
    /// Longest age of a waiting job, in seconds.
    pub oldest_waiting_s_max: f64,
    /// Changes to more workers.
    pub grew: u32,
    /// Changes to fewer.
    pub shrank: u32,
    /// How often each limit held.
    pub limits: BTreeMap<String, u32>,
    /// The flow through each queue.
    pub queues: Vec<QueueStep>,
}

/// How long a slot of a step is, in seconds: arrivals are counted in each.
pub const SLOT_S: u32 = 5;

/// What passed through a queue in a step.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct QueueStep {
    /// All of it.
    #[serde(flatten)]
    pub flow: QueueFlow,
    /// Executions that became due in each slot of [`SLOT_S`]; those of the end without any are left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub arrivals: Vec<u64>,
}

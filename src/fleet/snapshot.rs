//! The plain picture of a supervisor that every reader renders: `status`, logs, tests.
//! Its JSON form is a contract (`pool status --json`); fields may be added, never renamed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::time::Unix;

/// The supervisor at one instant.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The supervisor's process id.
    pub pid: i32,
    /// Version of the program.
    pub version: String,
    /// `starting`, `running`, `paused`, `draining`, `stopping`.
    pub state: String,
    /// When it started.
    pub started: Unix,
    /// The broker's URL without secrets.
    pub broker: String,
    /// Why the broker can't be used right now, if so.
    pub broker_error: Option<String>,
    /// Generation of the newest loaded template; 0 before the first.
    pub generation: u64,
    /// Its process id, while it lives.
    pub template_pid: Option<i32>,
    /// Why the last load failed, if it did.
    pub load_error: Option<String>,
    /// Why the newest generation that loaded was given up, and an older one went on; until one loads.
    #[serde(default)]
    pub reload_error: Option<String>,
    /// PSS of template and workers in bytes, at the last scaling period.
    pub pss_bytes: u64,
    /// Most that they may occupy (`supervisor.max_total_memory`) in bytes, as resolved at the last scaling period.
    #[serde(default)]
    pub max_total_bytes: Option<u64>,
    /// Most workers of all pools together (`supervisor.max_total_workers`).
    #[serde(default)]
    pub max_total_workers: Option<u32>,
    /// By name.
    pub pools: BTreeMap<String, PoolSnapshot>,
    /// By name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub schedules: BTreeMap<String, ScheduleSnapshot>,
}

/// One schedule, as this supervisor knows it since its start.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ScheduleSnapshot {
    /// Jobs that this supervisor made for it.
    pub fired: u64,
    /// Due times that this supervisor left out, by reason: `missed`, `overlap`, `paused`.
    pub left_out: BTreeMap<String, u64>,
    /// How late the last one was fired, in seconds.
    pub late_s: f64,
    /// When it fires next; `None`: not known yet, or never again.
    pub next: Option<Unix>,
}

/// One pool.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PoolSnapshot {
    /// Queues that it serves.
    pub queues: Vec<String>,
    /// Workers that serve jobs (starting, idle or busy; spares and retiring ones not counted).
    pub workers: u32,
    /// Of these, busy.
    pub busy: u32,
    /// Limits in force.
    pub min: u32,
    /// Limits in force.
    pub max: u32,
    /// What `max` comes from, such as `2/cpu with 4 processors`; `None`: it is a number that was given.
    #[serde(default)]
    pub max_from: Option<String>,
    /// Workers wanted; `workers` follows as they start, or fall idle and leave.
    #[serde(default)]
    pub target: u32,
    /// Workers that it may always have: no other pool's growth takes their room.
    #[serde(default)]
    pub floor: u32,
    /// Memory that is kept for its floor and for workers that have not run a job yet, in bytes.
    #[serde(default)]
    pub kept_bytes: u64,
    /// Claims no jobs until it is resumed.
    pub paused: bool,
    /// Workers that were busy on average over the window, divided by `target`; `None` without workers. Above 1 for a
    /// while after the pool has shrunk.
    pub utilization: Option<f64>,
    /// Jobs that could run now.
    pub waiting: u64,
    /// Age of the oldest of them in seconds.
    pub oldest_waiting_s: f64,
    /// Jobs due later.
    pub scheduled: u64,
    /// For two scaling periods jobs waited, and nobody ran any.
    #[serde(default)]
    pub standstill: bool,
    /// Executions that ended in the last minute, by queue; queues without any are left out.
    #[serde(default)]
    pub ended_last_minute: BTreeMap<String, u64>,
    /// Jobs finished since the start.
    pub done: u64,
    /// Jobs dead-lettered since the start.
    pub failed: u64,
    /// Executions that ended with their worker's death.
    pub lost: u64,
    /// Executions that will be run again (failures and asked-for retries).
    pub retried: u64,
    /// Jobs claimed and held for workers, not running yet.
    pub prefetched: u64,
    /// Of these, jobs of batch tasks that wait for their batch to fill or for a worker.
    #[serde(default)]
    pub gathering: u64,
    /// Why its last worker did not start, until one does.
    #[serde(default)]
    pub start_error: Option<String>,
    /// Unread jobs that were taken back for others, since the one before them was long; since the start.
    #[serde(default)]
    pub taken_back: u64,
    /// Utilization above which a worker is added.
    #[serde(default)]
    pub threshold: f64,
    /// Its tasks by name: as many as are told apart, then one for the rest.
    #[serde(default)]
    pub tasks: Vec<TaskSnapshot>,
    /// The last decision.
    pub last_decision: Option<Decision>,
    /// Its workers.
    pub processes: Vec<ProcessSnapshot>,
}

/// One task, as one pool knows it since the start.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TaskSnapshot {
    /// Its name; `(other)`: all that are not told apart.
    pub task: String,
    /// Jobs finished.
    pub done: u64,
    /// Jobs dead-lettered.
    pub failed: u64,
    /// Executions that failed and are run again.
    pub retried: u64,
    /// What the next job is expected to take, in seconds: smoothed mean and mean deviation of those measured. Prefetch
    /// goes by it. `None`: nothing measured, or tasks that are not told apart.
    pub service_s: Option<f64>,
    /// Jobs that one worker may hold at once now, the running one included; of a batch task, the size of a batch.
    pub depth: Option<u32>,
    /// Jobs sent to a worker while it still ran another one.
    pub sent_ahead: u64,
    /// Batches sent; 0 for a task without batches.
    pub batches: u64,
    /// Jobs in them.
    pub batch_jobs: u64,
}

/// One scaling decision: the same record in the log, in `status` and in tests.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// When.
    pub at: Unix,
    /// Workers before.
    pub from: u32,
    /// Workers wanted.
    pub to: u32,
    /// Why: `utilization`, `below minimum`, `at maximum`, `memory budget` …
    pub reason: String,
    /// Workers busy on average over the window, divided by `from`; `None` without workers.
    pub utilization: Option<f64>,
    /// Threshold in force.
    pub threshold: f64,
    /// Window in seconds.
    pub window_s: f64,
    /// Jobs that waited, at the broker or at hand.
    pub waiting: u64,
    /// The policy: `utilization` or `demand`.
    #[serde(default)]
    pub policy: String,
    /// `period`, `look` (at jobs that wait) or `limits` (they were changed).
    #[serde(default)]
    pub occasion: String,
    /// Workers that were busy.
    #[serde(default)]
    pub busy: u32,
    /// Most workers that were busy at once since the last period.
    #[serde(default)]
    pub peak_busy: u32,
    /// Workers that were busy on average over the window; `None` while no time had passed.
    #[serde(default)]
    pub busy_average: Option<f64>,
    /// How long the oldest waiting job had waited, in seconds; `None`: that was not known, or none waited.
    #[serde(default)]
    pub oldest_waiting_s: Option<f64>,
    /// Worker time that waited, in seconds: each waiting job counts with the mean service time of its queue.
    #[serde(default)]
    pub work_s: f64,
    /// How long a job may wait by the policy `demand`, in seconds; `None`: another policy.
    #[serde(default)]
    pub target_wait_s: Option<f64>,
    /// Limits in force.
    #[serde(default)]
    pub min: u32,
    /// Limits in force.
    #[serde(default)]
    pub max: u32,
    /// What each term of the policy asked for.
    #[serde(default)]
    pub candidates: Vec<Candidate>,
    /// The term that won: `one more`, `clears what waits` …; `None`: no change was wished.
    #[serde(default)]
    pub term: Option<String>,
    /// The size that the policy wished.
    #[serde(default)]
    pub wished: u32,
    /// The limit that held: `max_workers`, `max_memory` …; `None`: none did.
    #[serde(default)]
    pub limit: Option<String>,
    /// Of growth that is taken back: the share of the added workers that brought something, as estimated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub growth_gain: Option<f64>,
    /// It was not carried out: the supervisor only says what it would do.
    #[serde(default)]
    pub dry_run: bool,
}

/// What passed through a queue of a pool in some time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct QueueFlow {
    /// Its name.
    pub queue: String,
    /// Executions that became due: those that ended, and what more waits or runs now than before.
    pub arrived: u64,
    /// Executions that ended.
    pub ended: u64,
    /// How long these ran together, in seconds.
    pub service_s: f64,
    /// The sum of the squares of these times: with it their deviation is known.
    pub service_s2: f64,
}

impl QueueFlow {
    /// An execution ran for so long.
    pub fn ran(&mut self, took_s: f64) {
        self.ended += 1;
        self.service_s += took_s;
        self.service_s2 += took_s * took_s;
    }

    /// With what passed at another time.
    pub fn add(&mut self, other: &QueueFlow) {
        self.arrived += other.arrived;
        self.ended += other.ended;
        self.service_s += other.service_s;
        self.service_s2 += other.service_s2;
    }

    /// How long an execution ran on average, in seconds; `None`: none ended.
    pub fn mean_s(&self) -> Option<f64> {
        (self.ended > 0).then(|| self.service_s / self.ended as f64)
    }

    /// The standard deviation of these times, in seconds; `None`: none ended.
    pub fn deviation_s(&self) -> Option<f64> {
        let mean = self.mean_s()?;
        let variance = self.service_s2 / self.ended as f64 - mean * mean;
        Some(variance.max(0.0).sqrt())
    }
}

/// The size that one term of a policy asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidate {
    /// Which: `one more`, `clears what waits` …
    pub term: String,
    /// Workers.
    pub workers: u32,
}

/// One worker.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ProcessSnapshot {
    /// Its number, unique in the supervisor's life.
    pub worker: u64,
    /// Process id; `None` until forked.
    pub pid: Option<i32>,
    /// Generation of the template that forked it.
    pub generation: u64,
    /// `starting`, `spare`, `idle`, `busy`, `retiring`, `killed`.
    pub state: String,
    /// The running job.
    pub job: Option<String>,
    /// Its task.
    pub task: Option<String>,
    /// Seconds in this state.
    pub since_s: f64,
    /// Jobs that it finished.
    pub jobs: u64,
    /// Jobs that it holds beyond the running one.
    pub held: u64,
    /// Jobs of the batch that it runs as one; 0: it runs one job at a time.
    #[serde(default)]
    pub batch: u64,
    /// Proportional set size in bytes, at the last scaling period.
    pub pss_bytes: u64,
    /// Bytes that it shares with other processes, at the last scaling period.
    #[serde(default)]
    pub shared_bytes: u64,
    /// Bytes of its own, at the last scaling period.
    pub private_bytes: u64,
    /// Of them: memory mapped without a file, which is Python's heap and large blocks of the C library.
    #[serde(default)]
    pub private_anonymous_bytes: u64,
    /// Of them: the C library's heap.
    #[serde(default)]
    pub private_heap_bytes: u64,
    /// Of them: data of programs and libraries, stacks.
    #[serde(default)]
    pub private_other_bytes: u64,
}

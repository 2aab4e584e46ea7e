//! What holds for the whole application: its settings, those of its tasks, and what its code declares.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::config::{AppConfig, BATCH_SIZE_MAX, Config, Isolation, PoolConfig, RuntimeKind, TaskConfig};
use crate::job::Job;
use crate::policy::{recycle, retry};
use crate::wire::message::BatchTask;

/// How long a batch waits to fill where neither code nor settings say.
const LINGER: Duration = Duration::from_millis(50);

/// How jobs of one task are gathered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    /// Most jobs of a batch; at least 2.
    pub size: usize,
    /// Longest wait, from the first job on.
    pub linger: Duration,
    /// A batch that failed as a whole runs again in halves.
    pub split: bool,
}

/// The application as its settings and its code describe it.
#[derive(Debug)]
pub(super) struct App {
    config: AppConfig,
    tasks: BTreeMap<Arc<str>, TaskConfig>,
    /// Batch tasks of the newest generation, as its code declares them.
    declared_batches: BTreeMap<String, BatchTask>,
}

impl App {
    pub fn new(config: &Config) -> Self {
        App {
            config: config.app.clone(),
            tasks: config.tasks.clone(),
            declared_batches: BTreeMap::new(),
        }
    }

    /// New settings.
    pub fn configure(&mut self, config: &Config) {
        self.config = config.app.clone();
        self.tasks = config.tasks.clone();
    }

    /// What the code of a new generation declares.
    pub fn declare(&mut self, batches: &BTreeMap<String, BatchTask>) {
        self.declared_batches.clone_from(batches);
    }

    /// The program that carries the tasks in place of ours.
    pub fn program(&self) -> Option<&Path> {
        self.config.program.as_deref()
    }

    /// A worker ends with its job.
    pub fn one_job_a_worker(&self) -> bool {
        self.config.isolation == Isolation::Fresh && !self.config.worker_forks()
    }

    /// When a worker of a pool with these settings is replaced.
    pub fn recycle_rules(&self, pool: &PoolConfig) -> recycle::Rules {
        recycle::Rules {
            max_jobs: if self.one_job_a_worker() {
                Some(1)
            } else {
                pool.max_jobs
            },
            max_age: pool.max_age,
            max_worker_memory: pool.max_worker_memory,
            max_worker_private: pool.max_worker_private,
        }
    }

    /// How often a job runs again.
    pub fn retry_rules(&self, job: &Job, pool: &PoolConfig) -> retry::Rules {
        let task = self.tasks.get(&job.task).and_then(|task| task.retries);
        retry::Rules {
            retries: job.retries.or(task).unwrap_or(pool.retry.retries),
            backoff: pool.retry.backoff,
            backoff_max: pool.retry.backoff_max,
            max_worker_losses: pool.retry.max_worker_losses,
        }
    }

    /// The longest run of a job: its own, its task's or its pool's.
    pub fn timeout_of(&self, job: &Job, pool: &PoolConfig) -> Option<Duration> {
        let of_task = || self.tasks.get(&job.task).and_then(|task| task.timeout);
        job.timeout.or_else(of_task).or(pool.job_timeout)
    }

    /// How jobs of this task are gathered; `None`: they run one by one. The settings win over the code.
    pub fn batch_rule(&self, job: &Job) -> Option<Rule> {
        if !job.batches {
            return None;
        }
        let set = self.tasks.get(&job.task);
        let declared = self.declared_batches.get(&*job.task);
        let size = self.batch_size(&job.task)?;
        let linger = set
            .and_then(|set| set.batch_linger)
            .or(declared.map(|declared| Duration::from_millis(declared.linger_ms.into())));
        Some(Rule {
            size: size as usize,
            linger: linger.unwrap_or(LINGER),
            split: self.splits(&job.task),
        })
    }

    /// Most jobs that one call of this task gets; `None`: it has no batches.
    pub fn batch_size(&self, task: &str) -> Option<u32> {
        // A process for each job has no use for a batch, and a program runs one job.
        if self.config.isolation == Isolation::Fresh || self.config.runtime == RuntimeKind::Command {
            return None;
        }
        let set = self.tasks.get(task).and_then(|set| set.batch_size);
        let declared = || self.declared_batches.get(task).map(|declared| declared.size);
        let size = set.or_else(declared)?;
        (size > 1).then(|| size.min(BATCH_SIZE_MAX))
    }

    /// A batch of this task that failed as a whole runs again in halves.
    pub fn splits(&self, task: &str) -> bool {
        self.tasks.get(task).is_some_and(|task| task.batch_split)
    }
}

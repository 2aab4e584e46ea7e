//! What comes with time: deadlines, scaling periods with their measurements.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::task::JoinHandle;

use super::input::Input;
use super::{Supervisor, memory};
use crate::broker::{Backlog, BrokerError};
use crate::fleet::{Event, Memory, Now};
use crate::job::PoolName;
use crate::telemetry::notify;
use crate::time::Mono;

/// The scaling periods of the pools.
#[derive(Debug, Default)]
pub(super) struct Periods {
    /// When the present one of each pool ends.
    ends: BTreeMap<PoolName, Mono>,
}

impl Periods {
    /// The next end of a period.
    pub fn deadline(&self) -> Option<Mono> {
        self.ends.values().copied().min()
    }

    /// Pools whose period has ended; another one begins. Of the pools that there are now, with their periods.
    fn take_ended(&mut self, pools: &[(PoolName, Duration)], now: Mono) -> Vec<PoolName> {
        self.ends
            .retain(|known, _| pools.iter().any(|(pool, _)| pool == known));
        let mut ended = Vec::new();
        for (pool, period) in pools {
            let at = self.ends.entry(pool.clone()).or_insert(now + *period);
            if *at <= now {
                // Periods that were missed (a suspended machine) are not made up for.
                let next = *at + *period;
                *at = if next > now { next } else { now + *period };
                ended.push(pool.clone());
            }
        }
        ended
    }
}

/// systemd's watchdog, if it is on.
#[derive(Debug)]
pub(super) struct Watchdog(Option<(Duration, Mono)>);

impl Watchdog {
    /// As the unit says.
    pub fn new(now: Mono) -> Self {
        Watchdog(notify::watchdog_interval().map(|every| (every, now + every)))
    }

    /// When it is to be told next.
    pub fn deadline(&self) -> Option<Mono> {
        self.0.map(|(_, at)| at)
    }

    /// Tells it that the loop turns, if it is time to.
    fn due(&mut self, now: Mono) {
        if let Some((every, at)) = &mut self.0
            && *at <= now
        {
            notify::watchdog();
            *at = now + *every;
        }
    }
}

impl Supervisor {
    pub(super) fn due(&mut self, now: Now) {
        if self.fleet.next_deadline().is_some_and(|at| at <= now.mono) {
            self.fleet.on(Event::Tick, now, &mut self.actions);
        }
        self.watchdog.due(now.mono);
        self.renew_view(now);
        let names = self.fleet.pool_names().into_iter();
        let pools: Vec<(PoolName, Duration)> = names
            .filter_map(|pool| {
                let period = self.fleet.pool_config(&pool)?.scaling_period;
                Some((pool, period))
            })
            .collect();
        for pool in self.periods.take_ended(&pools, now.mono) {
            self.traffic.told(&pool, false);
            self.measure(&pool, false);
        }
    }

    /// Gathers what a decision needs, off the loop: memory, and the backlog unless it is known to be empty.
    pub(super) fn measure(&self, pool: &PoolName, is_look: bool) {
        let Some(config) = self.fleet.pool_config(pool) else {
            return;
        };
        let empty = self.traffic.is_empty(pool);
        let measured = self.measurement();
        let (broker, inputs) = (self.broker.clone(), self.inputs.clone());
        let (pool, queues) = (pool.clone(), config.queues.clone());
        tokio::spawn(async move {
            let memory = measured.await.unwrap_or_default();
            // Last: jobs that come after they were counted would be counted twice.
            let backlog = match &broker {
                Some(broker) if !empty => Some(broker.queues().backlog(&queues).await),
                _ => None,
            };
            let _ = inputs.send(Input::Measured {
                pool,
                is_look,
                backlog,
                memory,
            });
        });
    }

    /// Measures the processes that live now, on a thread that may wait for it.
    pub(super) fn measurement(&self) -> JoinHandle<Memory> {
        let templates: Vec<i32> = self.processes.template_pids().collect();
        let limit_of = |pool: PoolName| {
            let limit = self.fleet.pool_config(&pool)?.max_memory?;
            Some((pool, limit))
        };
        let limits: Vec<_> = self.fleet.pool_names().into_iter().filter_map(limit_of).collect();
        let workers = self.fleet.pids();
        let total = self.config.supervisor.max_total_memory;
        let fork = self.config.app.worker_forks();
        tokio::task::spawn_blocking(move || memory::measure(&templates, (&workers, fork), &limits, total))
    }

    /// What waits for a pool, as it was found.
    pub(super) fn backlog_of(
        &self,
        pool: &PoolName,
        found: Option<Result<Backlog, BrokerError>>,
    ) -> Option<Backlog> {
        match found {
            // Its queues are empty until the broker says something else.
            None => Some(Backlog {
                scheduled: self.fleet.scheduled(pool),
                ..Backlog::default()
            }),
            Some(Ok(backlog)) => Some(backlog),
            Some(Err(error)) => {
                tracing::debug!(%error, pool = %pool, "the backlog is not known");
                None
            }
        }
    }
}

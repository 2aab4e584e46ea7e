//! What comes with time: deadlines, scaling periods with their measurements.

use tokio::task::JoinHandle;

use super::input::Input;
use super::template::Template;
use super::{Supervisor, memory};
use crate::broker::{Backlog, BrokerError};
use crate::fleet::{Event, Memory, Now};
use crate::job::PoolName;
use crate::telemetry::notify;

impl Supervisor {
    pub(super) fn due(&mut self, now: Now) {
        if self.fleet.next_deadline().is_some_and(|at| at <= now.mono) {
            self.fleet.on(Event::Tick, now, &mut self.actions);
        }
        if let Some((every, at)) = self.watchdog
            && at <= now.mono
        {
            notify::watchdog();
            self.watchdog = Some((every, now.mono + every));
        }
        self.renew_view(now);
        let pools = self.fleet.pool_names();
        self.periods.retain(|pool, _| pools.contains(pool));
        for pool in pools {
            let Some(period) = self.fleet.pool_config(&pool).map(|config| config.scaling_period) else {
                continue;
            };
            let at = *self.periods.entry(pool.clone()).or_insert(now.mono + period);
            if at <= now.mono {
                // Periods that were missed (a suspended machine) are not made up for.
                let next = at + period;
                self.periods.insert(
                    pool.clone(),
                    if next > now.mono { next } else { now.mono + period },
                );
                self.traffic.told(&pool, false);
                self.measure(&pool);
            }
        }
    }

    /// Gathers what a decision needs, off the loop: memory, and the backlog unless it is known to be empty.
    pub(super) fn measure(&self, pool: &PoolName) {
        let Some(config) = self.fleet.pool_config(pool) else {
            return;
        };
        let empty = self.traffic.is_empty(pool);
        let measured = self.measurement();
        let (broker, inputs) = (self.broker.clone(), self.inputs.clone());
        let (pool, queues) = (pool.clone(), config.queues.clone());
        tokio::spawn(async move {
            let backlog = if empty {
                None
            } else {
                Some(broker.queues().backlog(&queues).await)
            };
            let memory = measured.await;
            let memory = memory.unwrap_or_default();
            let _ = inputs.send(Input::Measured {
                pool,
                backlog,
                memory,
            });
        });
    }

    /// Measures the processes that live now, on a thread that may wait for it.
    pub(super) fn measurement(&self) -> JoinHandle<Memory> {
        let templates: Vec<i32> = self.templates.values().map(Template::pid).collect();
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

    pub(super) fn measured(
        &mut self,
        pool: PoolName,
        backlog: Option<Result<Backlog, BrokerError>>,
        memory: Memory,
    ) -> Event {
        let backlog = match backlog {
            // Its queues are empty until the broker says something else.
            None => Some(Backlog {
                scheduled: self.fleet.scheduled(&pool),
                ..Backlog::default()
            }),
            Some(Ok(backlog)) => Some(backlog),
            Some(Err(error)) => {
                tracing::debug!(%error, pool = %pool, "the backlog is not known");
                None
            }
        };
        Event::Period {
            pool,
            backlog,
            memory,
        }
    }
}

//! What people ask over the control socket or by signal, and what they are told.

use std::collections::BTreeSet;

use tokio::sync::mpsc::{self, UnboundedSender};
use tokio::sync::oneshot;

use super::input::Input;
use super::{Supervisor, notices};
use crate::config::{Config, Effect, reload_changes};
use crate::control::server::Call;
use crate::control::{Reply, Request};
use crate::fleet::health::Health;
use crate::fleet::snapshot::Snapshot;
use crate::fleet::{Command, Now};
use crate::job::PoolName;
use crate::telemetry::notify;
use crate::text::first_line;

/// Requests become inputs until the supervisor leaves; then `calls` closes, which ends the listener.
pub(super) fn listen(mut calls: mpsc::Receiver<Call>, inputs: UnboundedSender<Input>) {
    tokio::spawn(async move {
        loop {
            tokio::select! {
                Some(call) = calls.recv() => {
                    if inputs.send(Input::Call(call)).is_err() {
                        return;
                    }
                }
                () = inputs.closed() => return,
            }
        }
    });
}

impl Supervisor {
    pub(super) fn call(&mut self, Call { request, reply }: Call, now: Now) {
        let command = match request {
            Request::Status => return self.show_status(reply),
            Request::Serving => {
                let _ = reply.send(self.serving());
                return;
            }
            Request::Health => {
                let health = Health::of(&self.snapshot(now));
                let _ = reply.send(Reply::Health { health });
                return;
            }
            Request::Facts => {
                let facts = self.opening.facts().map(str::to_owned);
                let _ = reply.send(Reply::Facts { facts });
                return;
            }
            Request::Metrics { openmetrics } => return self.show_metrics(openmetrics, reply),
            Request::Reload => return self.reload(Some(reply), now),
            Request::Drain => {
                self.ending.wait(reply);
                return self.stop(Command::Drain { patient: true }, now);
            }
            Request::Stop { now: at_once } => {
                self.ending.wait(reply);
                let command = if at_once {
                    Command::Stop
                } else {
                    Command::Drain { patient: false }
                };
                return self.stop(command, now);
            }
            Request::Scale { pool, min, max } => {
                let pool = self
                    .named(pool)
                    .and_then(|pool| pool.map_or_else(|| self.only_pool(), Ok));
                match pool {
                    Ok(pool) => return self.weigh_before(Command::Scale { pool, min, max }, reply),
                    Err(message) => Err(message),
                }
            }
            Request::Pause { pool } => self.named(pool).map(|pool| Command::Pause { pool }),
            Request::Resume { pool } => self.named(pool).map(|pool| Command::Resume { pool }),
        };
        self.answer(command, reply, now);
    }

    /// Carries out a command, and tells who asked.
    pub(super) fn answer(
        &mut self,
        command: Result<Command, String>,
        reply: oneshot::Sender<Reply>,
        now: Now,
    ) {
        let done = command.and_then(|command| self.fleet.command(command, now, &mut self.actions));
        let _ = reply.send(match done {
            Ok(message) => {
                tracing::info!("{message}");
                Reply::done(message)
            }
            Err(message) => Reply::error(message),
        });
    }

    fn named(&self, pool: Option<String>) -> Result<Option<PoolName>, String> {
        pool.map(|name| PoolName::new(&name).map_err(|error| format!("the pool's name {error}")))
            .transpose()
    }

    fn only_pool(&self) -> Result<PoolName, String> {
        match &self.fleet.pool_names()[..] {
            [only] => Ok(only.clone()),
            several => {
                let names = several
                    .iter()
                    .map(ToString::to_string)
                    .collect::<Vec<_>>()
                    .join(", ");
                Err(format!("say which pool: {names} (see --pool)"))
            }
        }
    }

    /// A command that asks for more workers is answered by the memory of this moment.
    fn weigh_before(&self, command: Command, reply: oneshot::Sender<Reply>) {
        let (measured, inputs) = (self.measurement(), self.inputs.clone());
        tokio::spawn(async move {
            let memory = measured.await.unwrap_or_default();
            let _ = inputs.send(Input::Weighed {
                command,
                memory,
                reply,
            });
        });
    }

    fn serving(&self) -> Reply {
        let pools = self.fleet.pool_names();
        let configs = pools.iter().filter_map(|pool| self.fleet.pool_config(pool));
        let queues: BTreeSet<String> = configs
            .flat_map(|config| config.queues.iter().map(ToString::to_string))
            .collect();
        Reply::Serving {
            pid: nix::unistd::getpid().as_raw(),
            directory: self.config.app.directory.display().to_string(),
            queues: queues.into_iter().collect(),
        }
    }

    pub(super) fn snapshot(&self, now: Now) -> Snapshot {
        Snapshot {
            pid: nix::unistd::getpid().as_raw(),
            version: env!("CARGO_PKG_VERSION").into(),
            started: self.started,
            broker: match &self.broker {
                Some(broker) => broker.url().into(),
                None => self.config.broker.url.to_string(),
            },
            broker_error: self.traffic.error(),
            template_pid: self.processes.template_pids().max(),
            schedules: self.schedules.snapshot(),
            ..self.fleet.snapshot(now)
        }
    }

    /// One line about everything.
    pub(super) fn summary(&self, now: Now) -> String {
        let snapshot = self.snapshot(now);
        let sum = |of: fn(&crate::fleet::snapshot::PoolSnapshot) -> u64| -> u64 {
            snapshot.pools.values().map(of).sum()
        };
        format!(
            "{}: {} workers, {} busy, {} waiting",
            snapshot.state,
            sum(|pool| pool.workers.into()),
            sum(|pool| pool.busy.into()),
            sum(|pool| pool.waiting)
        )
    }

    pub(super) fn log_status(&self, now: Now) {
        let snapshot = self.snapshot(now);
        for (name, pool) in &snapshot.pools {
            tracing::info!(
                pool = %name,
                state = %snapshot.state,
                generation = snapshot.generation,
                workers = pool.workers,
                busy = pool.busy,
                min = pool.min,
                max = pool.max,
                utilization = pool.utilization,
                waiting = pool.waiting,
                done = pool.done,
                failed = pool.failed,
                lost = pool.lost,
                pss_mib = snapshot.pss_bytes >> 20,
                "status"
            );
        }
    }

    /// TTIN and TTOU: one worker more or less on every pool's maximum.
    pub(super) fn change_max(&mut self, by: i64, now: Now) {
        for pool in self.fleet.pool_names() {
            let Some((old_min, old_max)) = self.fleet.pool_limits(&pool) else {
                continue;
            };
            let max = u32::try_from(i64::from(old_max) + by).unwrap_or(0).max(1);
            let min = (old_min > max).then_some(max);
            let command = Command::Scale {
                pool,
                min,
                max: Some(max),
            };
            match self.fleet.command(command, now, &mut self.actions) {
                Ok(message) | Err(message) => tracing::info!("{message}"),
            }
        }
    }

    /// Reads the configuration again and loads the app anew beside what runs.
    pub(super) fn reload(&mut self, reply: Option<oneshot::Sender<Reply>>, now: Now) {
        notify::reloading(now.mono);
        // Beside the loop: it reads files, and a dialect's settings module is the user's code.
        let (read, inputs) = (self.options.reload.clone(), self.inputs.clone());
        tokio::task::spawn_blocking(move || {
            let result = Box::new(read());
            let _ = inputs.send(Input::Reread { result, reply });
        });
    }

    /// The configuration was read again.
    pub(super) fn reread(
        &mut self,
        result: Result<Config, String>,
        reply: Option<oneshot::Sender<Reply>>,
        now: Now,
    ) {
        match result {
            Ok(config) => {
                let changes = reload_changes(&self.config, &config);
                changes.iter().for_each(notices::setting_changed);
                let waiting = changes
                    .into_iter()
                    .filter(|change| change.effect == Effect::Restart);
                let needs_restart = waiting.map(|change| change.key).collect();
                // A broker and a socket are for life; the rest changes under running jobs.
                self.config = Config {
                    broker: self.config.broker.clone(),
                    socket: self.config.socket.clone(),
                    log: self.config.log.clone(),
                    metrics: self.config.metrics.clone(),
                    ..config
                };
                self.reloads.begin(needs_restart, reply);
                self.schedules.change(&self.config.schedules);
                self.ending.limit_idleness(self.config.supervisor.max_idle_time);
                tracing::info!("reloading");
                let config = self.with_app_queues();
                self.fleet.reload(&config, true, now, &mut self.actions);
            }
            Err(error) => {
                notify::ready();
                let (what, detail) = first_line(&error);
                tracing::error!(
                    detail,
                    "the configuration was not reloaded; everything stays as it is: {what}"
                );
                if let Some(reply) = reply {
                    let _ = reply.send(Reply::error(error));
                }
            }
        }
    }
}

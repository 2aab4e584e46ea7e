//! Heartbeats of what is in hand. Source: `rq/worker/base.py`, `maintain_heartbeats`.

use super::held::Kind;
use super::{RqBroker, text};
use crate::broker::BrokerError;
use crate::time::{Mono, Unix};

impl RqBroker {
    /// Renews executions, started jobs and their last heartbeat; no more often than the monitoring interval says.
    pub(super) async fn renew(&self) -> Result<(), BrokerError> {
        let now = Mono::now();
        if !self.beats.is_due(self.options.job_monitoring_interval, now) {
            return Ok(());
        }
        let at = Unix::now();
        let mut call = self.scripts.extend.prepare_invoke();
        call.arg(self.keys.names())
            .arg(text::score(at))
            .arg(text::seconds(at))
            .arg(text::iso(at))
            .arg(self.options.job_monitoring_interval.as_secs());
        let mut count = 0;
        for (number, held) in &self.hand().jobs {
            if matches!(held.kind, Kind::After(_)) {
                continue;
            }
            call.arg(&held.job)
                .arg(&held.queue)
                .arg(self.execution(*number))
                .arg(u8::from(held.shown.is_none()));
            count += 1;
        }
        if count > 0 {
            let _: i64 = self.link.run_script(&call).await?;
        }
        self.beats.made(now);
        Ok(())
    }
}

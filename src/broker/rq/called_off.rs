//! What users do to a job between its claim and its begin: they cancel or delete it, and it is not to run.

use super::RqBroker;
use crate::broker::BrokerError;
use crate::broker::redis::tracking::Tracker;
use crate::broker::source::StopHow;
use crate::job::Claim;

impl RqBroker {
    /// Returns when jobs of these claims are canceled or gone, with the place of each. The server tells when one of them
    /// changes; it is asked once before.
    pub(super) async fn hear_of_called_off(
        &self,
        claims: &[Claim],
    ) -> Result<Vec<(usize, StopHow)>, BrokerError> {
        let mut tracker = self.called_off.lock().await;
        let heard = self.hear_on(&mut tracker, claims).await;
        if heard.is_err() {
            *tracker = None; // it is made anew
        }
        heard
    }

    async fn hear_on(
        &self,
        tracker: &mut Option<Tracker>,
        claims: &[Claim],
    ) -> Result<Vec<(usize, StopHow)>, BrokerError> {
        let tell = |error: redis::RedisError| self.link.endpoint.error(&error);
        let tracker = match tracker {
            Some(tracker) => tracker,
            none => none.insert(Tracker::open(&self.link.endpoint).await.map_err(tell)?),
        };
        loop {
            let keys = claims.iter().map(|claim| self.keys.job(claim.job.as_str()));
            tracker.watch(keys).await.map_err(tell)?;
            let called_off = self.look_for_called_off(claims).await?;
            if !called_off.is_empty() {
                return Ok(called_off);
            }
            tracker.changed().await.map_err(tell)?;
        }
    }

    async fn look_for_called_off(&self, claims: &[Claim]) -> Result<Vec<(usize, StopHow)>, BrokerError> {
        let mut pipeline = redis::pipe();
        for claim in claims {
            let key = self.keys.job(claim.job.as_str());
            pipeline.cmd("HGET").arg(key).arg("status");
        }
        let statuses: Vec<Option<Vec<u8>>> = self.link.run_pipeline(&pipeline).await?;
        let is_off = |(_, status): &(usize, Option<Vec<u8>>)| {
            status.as_ref().is_none_or(|status| status == b"canceled")
        };
        let off = statuses.into_iter().enumerate().filter(is_off);
        Ok(off.map(|(at, _)| (at, StopHow::IfNotBegun)).collect())
    }
}

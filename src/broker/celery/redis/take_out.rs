//! Taking messages that wait out of their lists, for tasks that are canceled.

use std::collections::HashSet;

use async_trait::async_trait;
use redis::Value;

use super::RedisBroker;
use super::settle::log_refused;
use crate::broker::celery::address::database;
use crate::broker::celery::cancel::{TakenOut, Waiting, ends_by_worker};
use crate::broker::celery::envelope::{Message, unacked};
use crate::broker::celery::mark::Mark;
use crate::broker::celery::options::StoredIn;
use crate::broker::{BrokerError, Canceled, Control, Queues};
use crate::job::JobId;

/// Messages that one script call looks at: the server does nothing else meanwhile.
const BATCH_MAX: usize = 1000;

/// A message that waits in a list.
struct Found {
    list: String,
    raw: Vec<u8>,
    message: Message,
    id: JobId,
}

impl RedisBroker {
    /// Looks through one list, from its newest end: what comes meanwhile moves the others on, and hides none. `wanted`: ids
    /// that were not found yet.
    async fn look_in(
        &self,
        list: &str,
        wanted: &mut HashSet<JobId>,
        taken: &mut TakenOut,
    ) -> Result<(), BrokerError> {
        let mut first = 0;
        while !wanted.is_empty() {
            let mut call = self.scripts.find.prepare_invoke();
            call.arg(list).arg(first).arg(BATCH_MAX);
            for id in &*wanted {
                call.arg(id.as_str());
            }
            let mut answer = self.link.run_script::<Vec<Value>>(&call).await?.into_iter();
            let looked_at = match answer.next() {
                Some(Value::Int(count)) => usize::try_from(count).unwrap_or(0),
                _ => 0,
            };
            let found = answer.filter_map(|raw| found(list, redis::from_redis_value(raw).ok()?));
            let found: Vec<Found> = found.filter(|found| wanted.remove(&found.id)).collect();
            let before = taken.gone.len();
            self.take_found(found, taken).await?;
            if looked_at < BATCH_MAX {
                return Ok(());
            }
            first += looked_at - (taken.gone.len() - before);
        }
        Ok(())
    }

    /// Those that somebody has taken and not acknowledged stay: to a worker they come, or come again.
    async fn look_in_unacked(
        &self,
        wanted: &mut HashSet<JobId>,
        taken: &mut TakenOut,
    ) -> Result<(), BrokerError> {
        let mut step = 0;
        while !wanted.is_empty() {
            let mut scan = redis::cmd("HSCAN");
            scan.arg(self.keys.unacked())
                .arg(step)
                .arg("COUNT")
                .arg(BATCH_MAX);
            let (next, entries): (u64, Vec<(String, Vec<u8>)>) = self.link.run_command(&scan).await?;
            for (_, entry) in entries {
                let id = unacked(&entry).and_then(|(raw, _)| Some(found("", raw)?.id));
                if let Some(id) = id.filter(|id| wanted.remove(id)) {
                    taken.stay.insert(id.to_string());
                }
            }
            if next == 0 {
                break;
            }
            step = next;
        }
        Ok(())
    }

    /// Takes these out, as far as they are there still.
    async fn take_found(&self, found: Vec<Found>, taken: &mut TakenOut) -> Result<(), BrokerError> {
        let (stay, found): (Vec<Found>, Vec<Found>) = found
            .into_iter()
            .partition(|found| ends_by_worker(&found.message.payload));
        taken
            .stay
            .extend(stay.into_iter().map(|found| found.id.to_string()));
        if found.is_empty() {
            return Ok(());
        }
        let results = self.consumer.app.results.as_ref();
        let database = database(&self.transport.server);
        let (of_results, is_here) = match results.and_then(|results| results.stored_by_us) {
            Some(StoredIn::Broker(of_results)) => (of_results, true),
            Some(StoredIn::Other) | None => (database, false),
        };
        let mut call = self.scripts.take_out.prepare_invoke();
        call.arg(database).arg(of_results);
        let mut stores = Vec::with_capacity(found.len());
        for found in &found {
            let store = Mark::Revoked("revoked").stored(results, &found.id, &found.message.payload);
            let [key, value, life] = match store.as_ref().filter(|_| is_here) {
                Some(store) => [store.key.clone(), store.value.clone(), store.life()],
                None => Default::default(),
            };
            call.arg(&found.list)
                .arg(&found.raw)
                .arg(key)
                .arg(value)
                .arg(life);
            stores.push(store.filter(|_| !is_here));
        }
        let mut answers: Vec<Value> = self.link.run_script(&call).await?;
        log_refused(answers.split_off(found.len().min(answers.len())));
        let was_there = answers.into_iter().map(|answer| answer == Value::Int(1));
        let mut elsewhere = Vec::new();
        for ((found, store), _) in found
            .into_iter()
            .zip(stores)
            .zip(was_there)
            .filter(|(_, was)| *was)
        {
            taken.gone.insert(found.id.to_string());
            elsewhere.extend(store);
        }
        match &self.consumer.results {
            Some(results) if !elsewhere.is_empty() => {
                results.store(&elsewhere.iter().collect::<Vec<_>>()).await
            }
            _ => Ok(()),
        }
    }
}

fn found(list: &str, raw: Vec<u8>) -> Option<Found> {
    let message = Message::read(&raw, false).ok()?;
    let id = JobId::new(message.id.as_deref()?).ok()?;
    Some(Found {
        list: list.to_owned(),
        raw,
        message,
        id,
    })
}

#[async_trait]
impl Waiting for RedisBroker {
    async fn take_out(&self, ids: &[JobId]) -> Result<Option<TakenOut>, BrokerError> {
        let mut wanted: HashSet<JobId> = ids.iter().cloned().collect();
        let mut taken = TakenOut::default();
        for queue in self.names().await? {
            for list in self.keys.lists(queue.as_str()) {
                self.look_in(&list, &mut wanted, &mut taken).await?;
            }
        }
        self.look_in_unacked(&mut wanted, &mut taken).await?;
        Ok(Some(taken))
    }
}

#[async_trait]
impl Control for RedisBroker {
    async fn cancel(&self, ids: &[JobId]) -> Result<Vec<Canceled>, BrokerError> {
        self.open_still()?;
        self.consumer.cancel(ids, self).await
    }

    async fn stop(&self, ids: &[JobId]) -> Result<Vec<Canceled>, BrokerError> {
        self.open_still()?;
        self.consumer.stop(ids, self).await
    }
}

//! What stands in queues, which there are, and who serves them.

use std::collections::BTreeSet;
use std::time::Duration;

use async_trait::async_trait;

use super::RedisBroker;
use crate::broker::redis::sorted_set::literal;
use crate::broker::{Backlog, BrokerError, Queues};
use crate::job::QueueName;
use crate::time::Mono;

/// Keys that one step of a walk looks at, where none of them is read.
const WIDE_STEP: usize = 20_000;
/// Longest walk over all keys.
const WALK_MAX: Duration = Duration::from_secs(2);
/// What the queue of a node begins with that gets what is broadcast: what is published there is in no list.
/// Source: `kombu/common.py`, `Broadcast`.
const BROADCAST: &str = "bcast.";

impl RedisBroker {
    /// Exchanges that somebody bound to a queue. Redis keeps no list of them.
    async fn exchanges(&self) -> Result<Vec<String>, BrokerError> {
        let (start, until) = (self.keys.bindings(""), Mono::now() + WALK_MAX);
        let mut exchanges = Vec::new();
        let mut step = 0;
        loop {
            let mut scan = redis::cmd("SCAN");
            scan.arg(step)
                .arg("MATCH")
                .arg(format!("{}*", literal(&start)))
                .arg("COUNT")
                .arg(WIDE_STEP);
            let (next, keys): (u64, Vec<Vec<u8>>) = self.link.run_command(&scan).await?;
            let names = keys
                .iter()
                .filter_map(|key| std::str::from_utf8(key).ok()?.strip_prefix(&start));
            exchanges.extend(names.filter(|name| self.is_of_tasks(name)).map(str::to_owned));
            if next == 0 || Mono::now() >= until {
                return Ok(exchanges);
            }
            step = next;
        }
    }

    /// Those of remote control and of events have queues of their own.
    fn is_of_tasks(&self, exchange: &str) -> bool {
        !exchange.ends_with(".pidbox") && exchange != self.consumer.app.events.exchange
    }
}

#[async_trait]
impl Queues for RedisBroker {
    /// Lists hold no times: how long the oldest has waited is not known.
    async fn backlog(&self, queues: &[QueueName]) -> Result<Backlog, BrokerError> {
        self.open_still()?;
        // A list for each queue and priority.
        let list = |queue| {
            self.keys
                .lists(QueueName::as_str(queue))
                .map(move |list| (queue, list))
        };
        let (of, lists): (Vec<&QueueName>, Vec<_>) = queues.iter().flat_map(list).unzip();
        let mut pipeline = redis::pipe();
        for list in lists {
            pipeline.cmd("LLEN").arg(list);
        }
        let lengths: Vec<u64> = match queues.is_empty() {
            true => Vec::new(),
            false => self.link.run_pipeline(&pipeline).await?,
        };
        let mut waiting: Vec<(QueueName, u64)> = queues.iter().map(|queue| (queue.clone(), 0)).collect();
        for (queue, length) in of.into_iter().zip(lengths) {
            let counted = waiting.iter_mut().find(|(name, _)| name == queue);
            counted.into_iter().for_each(|(_, jobs)| *jobs += length);
        }
        let hand = self.consumer.hand();
        Ok(Backlog {
            by_queue: waiting,
            scheduled: queues.iter().map(|queue| hand.etas.len_of(queue) as u64).sum(),
            oldest: None,
        })
    }

    /// Those that the application names, and those that a consumer or a sender declared.
    async fn names(&self) -> Result<Vec<QueueName>, BrokerError> {
        self.open_still()?;
        let of_app = self.consumer.app.queues.iter().map(|queue| queue.name.clone());
        let mut names: BTreeSet<String> = of_app.collect();
        let exchanges = self.exchanges().await?;
        let mut get = redis::pipe();
        for exchange in &exchanges {
            get.cmd("SMEMBERS").arg(self.keys.bindings(exchange));
        }
        let bindings: Vec<Vec<String>> = match exchanges.is_empty() {
            true => Vec::new(),
            false => self.link.run_pipeline(&get).await?,
        };
        let bound = bindings
            .iter()
            .flatten()
            .filter_map(|binding| self.keys.queue_of(binding));
        let bound = bound.filter(|queue| !queue.starts_with(BROADCAST));
        names.extend(bound.map(|queue| self.keys.known_as(queue).to_owned()));
        Ok(names
            .iter()
            .filter_map(|name| QueueName::new(name).ok())
            .collect())
    }

    async fn unserved(&self, queues: &[QueueName]) -> Result<Option<Vec<QueueName>>, BrokerError> {
        self.open_still()?;
        self.consumer.unserved(queues, self).await
    }
}

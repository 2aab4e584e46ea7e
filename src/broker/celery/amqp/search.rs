//! Looking through results. Messages can't be seen: RabbitMQ shows one only to who takes it.

use async_trait::async_trait;

use super::AmqpBroker;
use crate::broker::BrokerError;
use crate::broker::celery::search::{look_at_results, results_that_begin, unseen_results};
use crate::broker::filter::JobFilter;
use crate::broker::search::{Budget, Cursor, IdsFound, Look, Page, Search, Unseen};
use crate::job::JobState;

/// Why messages are not listed.
const WHY: &str = "a queue of RabbitMQ shows its messages only to who takes them; `pool queues` counts them, and \
                   `celery inspect` asks workers for what they hold";

#[async_trait]
impl Search for AmqpBroker {
    async fn search(
        &self,
        filter: &JobFilter,
        after: Option<&Cursor>,
        budget: Budget,
    ) -> Result<Page, BrokerError> {
        let mut look = Look::begin(filter, after, &self.unseen(), budget);
        while let Some(place) = look.next_place() {
            if let Some(results) = &self.consumer.results {
                look_at_results(results, place, &mut look).await?;
            }
        }
        Ok(look.end())
    }

    /// Only among results.
    async fn begins_with(&self, start: &str, budget: Budget) -> Result<IdsFound, BrokerError> {
        match &self.consumer.results {
            Some(results) => results_that_begin(results, start, budget).await,
            None => Ok(IdsFound::default()),
        }
    }

    fn unseen(&self) -> Vec<Unseen> {
        let places = JobState::ALL.into_iter();
        let messages = places.filter(|place| !place.is_final());
        let mut unseen: Vec<Unseen> = messages.map(|place| Unseen { place, why: WHY }).collect();
        unseen.extend(unseen_results(self.consumer.results.as_ref()));
        unseen
    }
}

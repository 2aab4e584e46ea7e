//! What producers and readers ask of the file.

use std::sync::Arc;

use async_trait::async_trait;

use super::SqliteBroker;
use super::engine::Engine;
use super::store::Access;
use crate::broker::flow::{check_chain, check_group};
use crate::broker::source::StopHow;
use crate::broker::wait::{WaitAny, watch};
use crate::broker::{
    Backlog, BrokerError, Canceled, Chains, Control, DeadFilter, DeadLetters, Enqueued, GroupView, Groups,
    NewGroup, Producer, Queues, Reader, Watch, check,
};
use crate::job::{GroupId, JobId, JobView, NewJob, QueueName};

#[async_trait]
impl Producer for SqliteBroker {
    async fn enqueue(&self, jobs: Vec<NewJob>) -> Result<Vec<Enqueued>, BrokerError> {
        check::new_jobs(&jobs, self.payload_len_max)?;
        self.engine
            .run(Access::Write, move |store| store.enqueue(&jobs))
            .await
    }
}

#[async_trait]
impl Queues for SqliteBroker {
    async fn backlog(&self, queues: &[QueueName]) -> Result<Backlog, BrokerError> {
        let queues = queues.to_vec();
        // Writing: jobs that came due are moved first, so that they count as waiting.
        self.engine
            .run(Access::Write, move |store| store.backlog(&queues))
            .await
    }

    async fn blocked(&self, queues: &[QueueName]) -> Result<Vec<u64>, BrokerError> {
        let queues = queues.to_vec();
        self.engine
            .run(Access::Read, move |store| store.blocked(&queues))
            .await
    }

    async fn names(&self) -> Result<Vec<QueueName>, BrokerError> {
        self.engine.run(Access::Read, |store| store.queue_names()).await
    }
}

#[async_trait]
impl Reader for SqliteBroker {
    async fn find(&self, ids: &[JobId]) -> Result<Vec<Option<JobView>>, BrokerError> {
        let ids = ids.to_vec();
        self.engine
            .run(Access::Read, move |store| {
                let views = ids.iter().map(|id| Ok(store.find(id)?.map(|(_, view)| view)));
                views.collect()
            })
            .await
    }

    fn watch(&self, ids: Vec<JobId>) -> Box<dyn Watch> {
        watch(ids, Arc::clone(&self.engine))
    }
}

#[async_trait]
impl WaitAny for Arc<Engine> {
    async fn wait_any(&mut self, ids: &[JobId]) -> Result<Vec<(usize, Option<JobView>)>, BrokerError> {
        self.ended(ids.to_vec()).await
    }
}

#[async_trait]
impl DeadLetters for SqliteBroker {
    async fn list(&self, filter: &DeadFilter) -> Result<Vec<JobView>, BrokerError> {
        let filter = filter.clone();
        self.engine
            .run(Access::Read, move |store| store.dead(&filter))
            .await
    }

    async fn retry(&self, ids: &[JobId]) -> Result<Vec<JobId>, BrokerError> {
        let ids = ids.to_vec();
        self.engine
            .run(Access::Write, move |store| store.retry_dead(&ids))
            .await
    }

    async fn delete(&self, ids: &[JobId]) -> Result<Vec<JobId>, BrokerError> {
        let ids = ids.to_vec();
        self.engine
            .run(Access::Write, move |store| store.delete_dead(&ids))
            .await
    }
}

#[async_trait]
impl Control for SqliteBroker {
    async fn cancel(&self, ids: &[JobId]) -> Result<Vec<Canceled>, BrokerError> {
        self.call_off(ids, StopHow::IfNotBegun).await
    }

    async fn stop(&self, ids: &[JobId]) -> Result<Vec<Canceled>, BrokerError> {
        self.call_off(ids, StopHow::ForGood).await
    }
}

impl SqliteBroker {
    async fn call_off(&self, ids: &[JobId], how: StopHow) -> Result<Vec<Canceled>, BrokerError> {
        let ids = ids.to_vec();
        self.engine
            .run(Access::Write, move |store| store.cancel(&ids, how))
            .await
    }
}

#[async_trait]
impl Groups for SqliteBroker {
    async fn enqueue(&self, group: NewGroup) -> Result<(), BrokerError> {
        check_group(&group, self.payload_len_max)?;
        self.engine
            .run(Access::Write, move |store| store.enqueue_group(&group))
            .await
    }

    async fn find(&self, id: &GroupId) -> Result<Option<GroupView>, BrokerError> {
        let id = id.clone();
        self.engine
            .run(Access::Read, move |store| store.find_group(&id))
            .await
    }

    async fn members(&self, id: &GroupId) -> Result<Vec<JobId>, BrokerError> {
        let id = id.clone();
        self.engine
            .run(Access::Read, move |store| store.group_jobs(&id))
            .await
    }

    async fn wait(&self, id: &GroupId, beyond: u64) -> Result<Option<GroupView>, BrokerError> {
        self.engine.group(id.clone(), beyond).await
    }
}

#[async_trait]
impl Chains for SqliteBroker {
    async fn enqueue(&self, jobs: Vec<NewJob>) -> Result<(), BrokerError> {
        check_chain(&jobs, self.payload_len_max)?;
        self.engine
            .run(Access::Write, move |store| store.enqueue_chain(&jobs))
            .await
    }
}

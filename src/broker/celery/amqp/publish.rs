//! Publishing, on a connection of its own.

use std::collections::HashSet;

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{BasicProperties, Channel, Connection};
use serde_json::Map;
use tokio::sync::Mutex;

use super::AmqpBroker;
use super::declare::{Declaring, table};
use crate::broker::BrokerError;
use crate::broker::celery::new_task::NewTask;

/// Connects with the first message.
#[derive(Debug, Default)]
pub(super) struct Publisher(Mutex<Option<Open>>);

#[derive(Debug)]
struct Open {
    connection: Connection,
    channel: Channel,
    /// Queues that were declared.
    declared: HashSet<String>,
}

impl Publisher {
    /// Sends these. The server has all of them then.
    pub async fn tasks(&self, broker: &AmqpBroker, tasks: &[NewTask<'_>]) -> Result<(), BrokerError> {
        let mut slot = self.0.lock().await;
        let open = match slot.take().filter(|open| open.channel.status().connected()) {
            Some(open) => open,
            None => Open::new(broker).await?,
        };
        let open = slot.insert(open);
        let sent = open.send(broker, tasks).await;
        sent.map_err(|error| broker.link.error(&error))
    }

    pub async fn close(&self) {
        if let Some(open) = self.0.lock().await.take() {
            let _ = open.connection.close(200, "goodbye".into()).await; // it may be gone already
        }
    }
}

impl Open {
    async fn new(broker: &AmqpBroker) -> Result<Self, BrokerError> {
        let connection = broker.link.another().await?;
        let begin = async {
            let channel = connection.create_channel().await?;
            channel.confirm_select(ConfirmSelectOptions::default()).await?;
            lapin::Result::Ok(channel)
        };
        let channel = begin.await.map_err(|error| broker.link.error(&error))?;
        Ok(Open {
            connection,
            channel,
            declared: HashSet::new(),
        })
    }

    async fn send(&mut self, broker: &AmqpBroker, tasks: &[NewTask<'_>]) -> lapin::Result<()> {
        let mut confirms = Vec::with_capacity(tasks.len());
        for task in tasks {
            let queue = task.queue();
            if self.declared.insert(queue.to_owned()) {
                Declaring::on(&self.connection)
                    .queue(&broker.declared(queue))
                    .await?;
            }
            let none = Map::new();
            let headers = task.headers.as_object().unwrap_or(&none);
            let properties = BasicProperties::default()
                .with_content_type("application/json".into())
                .with_content_encoding("utf-8".into())
                .with_correlation_id(task.id().into())
                .with_delivery_mode(2)
                .with_priority(0)
                .with_headers(table(headers));
            let sent = self.channel.basic_publish(
                "".into(),
                queue.into(),
                BasicPublishOptions::default(),
                task.body.as_bytes(),
                properties,
            );
            confirms.push(sent.await?);
        }
        for confirm in confirms {
            confirm.await?;
        }
        Ok(())
    }
}

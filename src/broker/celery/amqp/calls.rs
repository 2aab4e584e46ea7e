//! What the server is asked, and what it answers.

use std::sync::Arc;

use lapin::options::{BasicCancelOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::ShortString;
use lapin::{Channel, Connection};

use super::AmqpBroker;
use super::declare::{Declaring, short, table};
use super::deliveries::{Identity, Place};
use super::outbox::Batch;
use crate::broker::BrokerError;
use crate::broker::celery::envelope::Message;
use crate::job::{PoolName, QueueName};

/// What may fail by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Connect,
    Open,
    Consume,
    Store,
    Count,
}

impl Kind {
    pub fn doing(self) -> &'static str {
        match self {
            Kind::Connect => "reach the server",
            Kind::Open => "open a channel",
            Kind::Consume => "consume queues",
            Kind::Store => "store results",
            Kind::Count => "count what waits",
        }
    }
}

/// What came of a call.
#[derive(Debug)]
pub(super) enum Answer {
    Connected(Result<Arc<Connection>, BrokerError>),
    Opened {
        pool: PoolName,
        result: Result<Channel, BrokerError>,
    },
    /// Consumers ended and began on a channel.
    Arranged {
        pool: PoolName,
        channel: u64,
        result: Result<Vec<Started>, BrokerError>,
    },
    /// How many messages wait in a pool's queues, asked after so many deliveries and settlements.
    Counted {
        pool: PoolName,
        at: (u64, u64),
        result: Result<u64, BrokerError>,
    },
    /// The chain of delaying queues has it, or not.
    Delayed {
        number: i64,
        arrival: Box<Arrival>,
        result: Result<(), BrokerError>,
    },
    Stored {
        batch: Batch,
        result: Result<(), BrokerError>,
    },
}

/// A message that came and can be read.
#[derive(Debug)]
pub(super) struct Arrival {
    pub pool: PoolName,
    pub queue: QueueName,
    pub task: Message,
    pub identity: Identity,
    pub place: Place,
    /// How often it came back to its queue, as far as the server counts that.
    pub returns: u32,
}

/// A consumer that began.
#[derive(Debug)]
pub(super) struct Started {
    pub queue: QueueName,
    pub limit: u16,
    pub stream: lapin::Consumer,
}

/// Consumers that are to end and to begin, in the server's terms.
#[derive(Debug)]
pub(super) struct Change {
    pub connection: Arc<Connection>,
    pub channel: Channel,
    pub cancel: Vec<ShortString>,
    /// Consumers that end behind the others' begin.
    pub cancel_last: Vec<ShortString>,
    /// A queue, how many messages its consumer may hold, and whether it is declared first.
    pub start: Vec<(QueueName, u16, bool)>,
}

/// Carries it out.
pub(super) async fn arrange(broker: &AmqpBroker, change: Change) -> Result<Vec<Started>, BrokerError> {
    let done = carry_out(broker, &change).await;
    done.map_err(|error| {
        // Nobody knows which consumers stand there by now: with the channel they are gone.
        let closing = change.channel;
        tokio::spawn(async move {
            closing
                .close(200, "consumers are not what they should be".into())
                .await
        });
        broker.link.error(&error)
    })
}

async fn carry_out(broker: &AmqpBroker, change: &Change) -> lapin::Result<Vec<Started>> {
    let channel = &change.channel;
    cancel(channel, &change.cancel).await?;
    let mut started = Vec::with_capacity(change.start.len());
    for (queue, limit, is_declared) in &change.start {
        let declared = broker.declared(queue.as_str());
        if *is_declared {
            Declaring::on(&change.connection).queue(&declared).await?;
        }
        // It holds for consumers that begin after it, each by itself.
        channel.basic_qos(*limit, BasicQosOptions::default()).await?;
        let stream = channel
            .basic_consume(
                short(&declared.name),
                ShortString::default(),
                BasicConsumeOptions::default(),
                table(&declared.consumer_arguments),
            )
            .await?;
        started.push(Started {
            queue: queue.clone(),
            limit: *limit,
            stream,
        });
    }
    cancel(channel, &change.cancel_last).await?;
    Ok(started)
}

async fn cancel(channel: &Channel, tags: &[ShortString]) -> lapin::Result<()> {
    for tag in tags {
        channel
            .basic_cancel(tag.clone(), BasicCancelOptions::default())
            .await?;
    }
    Ok(())
}

/// How many messages wait in these queues. What the server had pushed on this channel until then has come before the answer.
pub(super) async fn count(
    broker: &AmqpBroker,
    channel: &Channel,
    queues: &[QueueName],
) -> Result<u64, BrokerError> {
    let lengths = broker.lengths(queues).await?;
    // Its answer comes behind what was delivered before it. The next consumer says a limit of its own.
    let barrier = channel.basic_qos(1, BasicQosOptions::default()).await;
    barrier.map_err(|error| broker.link.error(&error))?;
    Ok(lengths.into_iter().sum())
}

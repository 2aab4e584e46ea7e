//! Reaching the server, and what is lost with it or with a channel.

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::stream::StreamExt;
use lapin::{Connection, Event as Told};

use super::calls::{Answer, Kind};
use super::deliveries::Lost;
use super::pool::{Pool, Way};
use super::session::{Look, Server, Session};
use super::source::Feed;
use crate::broker::source::Event;
use crate::broker::{Broker, BrokerError};
use crate::time::Mono;

impl Feed {
    pub(super) fn reach_server(&mut self, now: Mono) {
        if matches!(self.server, Server::Away) && self.may_try(Kind::Connect, now) {
            self.server = Server::Connecting;
            let broker = Arc::clone(&self.broker);
            self.calls.spawn(async move {
                let connected = async {
                    let connection = broker.link.connection().await?;
                    broker.declare_all().await?;
                    Ok(connection)
                };
                Answer::Connected(connected.await)
            });
        }
    }

    pub(super) fn connected(&mut self, result: Result<Arc<Connection>, BrokerError>, now: Mono) {
        self.server = match self.check(Kind::Connect, result, now) {
            None => Server::Away,
            Some(connection) => Server::Up(Session {
                events: connection.events_listener().boxed(),
                declared: self.broker.app_queues().into_iter().collect(),
                connection,
                look: None,
            }),
        };
        self.outcomes.server_is_back(now);
    }

    /// The library says that something is wrong with the connection or with a channel.
    pub(super) fn told(&mut self, told: Option<Told>) {
        let now = Mono::now();
        match told {
            Some(Told::Error(error)) if error.is_amqp_soft_error() => {
                if let Server::Up(session) = &mut self.server {
                    session.look = Some(Look::after(&error, now));
                }
            }
            Some(Told::Error(error)) => self.lose_server(&self.broker.link.error(&error), now),
            Some(Told::ConnectionBlocked(reason)) => {
                tracing::warn!(
                    reason,
                    "the server is short of memory or disk: it takes no new messages"
                );
            }
            Some(Told::ConnectionUnblocked) => tracing::info!("the server takes new messages again"),
            Some(_) => {}
            None => {
                let error = lapin::Error::from(std::io::Error::from(std::io::ErrorKind::ConnectionAborted));
                self.lose_server(&self.broker.link.error(&error), now);
            }
        }
    }

    pub(super) fn lose_server(&mut self, error: &BrokerError, now: Mono) {
        if !matches!(self.server, Server::Up(_)) {
            return;
        }
        self.server = Server::Away;
        let _: Option<()> = self.check(Kind::Connect, Err(error.clone()), now);
        let open = |pool: &Pool| match &pool.channel {
            Way::Open(open) => Some(open.number),
            Way::None | Way::Opening => None,
        };
        let lost: Vec<u64> = self.pools.values().filter_map(open).collect();
        for channel in lost {
            self.lose_channel(channel, now);
        }
    }

    /// A pool's channel is closed, for this reason of the server's; `None`: a call on it failed, and that was said.
    pub(super) fn lose_closed(&mut self, channel: u64, reason: Option<&str>, now: Mono) {
        if let Some(reason) = reason {
            tracing::warn!(
                reason,
                "the server closed a channel: what has not begun is delivered again (is a task longer than its consumer_timeout?)"
            );
        }
        self.lose_channel(channel, now);
    }

    /// The answer to a call; `None`: it failed with its connection. That is said once, not of each call.
    pub(super) fn unless_server_is_lost<T>(
        &mut self,
        result: Result<T, BrokerError>,
    ) -> Option<Result<T, BrokerError>> {
        if result.is_ok() {
            return Some(result);
        }
        // What the library has said by now.
        while let Server::Up(session) = &mut self.server
            && let Some(told) = session.events.next().now_or_never()
        {
            self.told(told);
        }
        self.is_up().then_some(result)
    }

    /// A channel is lost: what the supervisor does not have is not ours any more, and the rest waits for its copy.
    pub(super) fn lose_channel(&mut self, channel: u64, now: Mono) {
        for pool in self.pools.values_mut() {
            if matches!(&pool.channel, Way::Open(open) if open.number == channel) {
                pool.lose_channel();
            }
        }
        let Lost { forgotten, recalled } = self.deliveries.lose(channel, now);
        self.broker.consumer.hand().forget(&forgotten);
        self.broker
            .waiting()
            .retain(|number, _| !forgotten.contains(number));
        for token in recalled {
            self.events.send(Event::Recall { token });
        }
    }

    /// Looks at the channels of all pools.
    pub(super) fn look_at_channels(&mut self, now: Mono) {
        let Server::Up(session) = &mut self.server else {
            return;
        };
        let Some(Look { reason, .. }) = session.look.take_if(|look| look.at <= now) else {
            return;
        };
        if !session.connection.status().connected() {
            let error = lapin::Error::from(std::io::Error::from(std::io::ErrorKind::ConnectionAborted));
            return self.lose_server(&self.broker.link.error(&error), now);
        }
        let closed = |pool: &Pool| match &pool.channel {
            Way::Open(open) if !open.channel.status().connected() => Some(open.number),
            _ => None,
        };
        let closed: Vec<u64> = self.pools.values().filter_map(closed).collect();
        for channel in closed {
            self.lose_closed(channel, Some(&reason), now);
        }
    }
}

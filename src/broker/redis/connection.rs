//! The connection that all short calls share: opened when needed, opened again when broken.

use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{ErrorKind, FromRedisValue, RedisError, RedisResult, ScriptInvocation, ServerErrorKind};
use tokio::sync::{Mutex, watch};

use super::endpoint::Endpoint;
use crate::broker::BrokerError;
use crate::time::{Mono, Unix};

/// Longest wait for an answer; a script over a batch of thousands takes some of it.
pub(in crate::broker) const ANSWER: Duration = Duration::from_secs(15);
/// How long a call that carries a deadline may take to be begun by the server.
pub(in crate::broker) const IN_TIME: Duration = Duration::from_secs(5);

/// The one connection that all short calls share.
#[derive(Debug)]
pub(in crate::broker) struct Link {
    pub endpoint: Arc<Endpoint>,
    current: Mutex<Current>,
    /// How many connections were given up.
    losses: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Current {
    line: Option<Line>,
    /// Connections opened so far.
    opened: u64,
    /// The last attempt to open one, if it failed, and when that was clear.
    failed: Option<(Mono, RedisError)>,
}

/// A connection in use.
#[derive(Clone, Debug)]
pub(in crate::broker) struct Line {
    connection: MultiplexedConnection,
    number: u64,
    /// How far the server's clock is ahead of ours, or less, in milliseconds.
    ahead_ms: i64,
}

impl Line {
    /// `millis`: what the server's clock has just shown.
    fn new(connection: MultiplexedConnection, number: u64, millis: i64) -> Self {
        Line {
            connection,
            number,
            // What has passed since the server looked makes this too little, never too much.
            ahead_ms: millis - Unix::now().0,
        }
    }

    /// Until when the server may carry out a call that is made now and may take so long to be begun, by its own
    /// clock, in milliseconds.
    ///
    /// A server that was stopped, or a network that was slow, delivers a call whose answer nobody waits for any more.
    /// One that must not be carried out by then carries this, and its script looks at the time.
    pub fn deadline(&self, wait: Duration) -> i64 {
        let wait = i64::try_from(wait.as_millis()).unwrap_or(i64::MAX);
        Unix::now().0.saturating_add(self.ahead_ms).saturating_add(wait)
    }
}

impl Link {
    pub fn new(endpoint: Arc<Endpoint>) -> Self {
        Link {
            endpoint,
            current: Mutex::default(),
            losses: watch::Sender::new(0),
        }
    }

    /// Opens the first connection, and returns what the server says of itself: a line `name:value` each.
    pub async fn begin(&self) -> RedisResult<String> {
        let mut current = self.current.lock().await;
        let (line, about) = self.open(current.opened + 1).await?;
        current.opened = line.number;
        current.line = Some(line);
        Ok(about)
    }

    /// The connection, opened if there is none.
    pub async fn line(&self) -> RedisResult<Line> {
        let asked = Mono::now();
        let mut current = self.current.lock().await;
        if let Some(line) = &current.line {
            return Ok(line.clone());
        }
        match &current.failed {
            // Who waited for an attempt that failed need not fail at one more, each after the other.
            Some((at, error)) if *at >= asked => return Err(error.clone()),
            _ => {}
        }
        let opened = self.open(current.opened + 1).await.map(|(line, _)| line);
        match &opened {
            Ok(line) => {
                current.opened = line.number;
                current.line = Some(line.clone());
            }
            Err(error) => current.failed = Some((Mono::now(), error.clone())),
        }
        opened
    }

    /// A new connection, and what the server says of itself.
    async fn open(&self, number: u64) -> RedisResult<(Line, String)> {
        let mut connection = self.endpoint.connect(ANSWER).await?;
        let mut info = redis::cmd("INFO");
        let about: String = info.arg("server").query_async(&mut connection).await?;
        let told = about
            .lines()
            .find_map(|line| line.strip_prefix("server_time_usec:")?.trim().parse::<i64>().ok());
        let millis = match told {
            Some(micros) => micros / 1000,
            None => time(&mut connection).await?,
        };
        Ok((Line::new(connection, number, millis), about))
    }

    /// Runs a script.
    pub async fn script<T: FromRedisValue>(&self, call: &ScriptInvocation<'_>) -> RedisResult<T> {
        self.script_on(self.line().await?, call).await
    }

    /// Runs a script that carries the deadline of this connection.
    pub async fn script_on<T: FromRedisValue>(
        &self,
        mut line: Line,
        call: &ScriptInvocation<'_>,
    ) -> RedisResult<T> {
        let answer = call.invoke_async(&mut line.connection).await;
        self.check(answer, &line).await
    }

    /// Runs one command.
    pub async fn command<T: FromRedisValue>(&self, command: &redis::Cmd) -> RedisResult<T> {
        let mut line = self.line().await?;
        let answer = command.query_async(&mut line.connection).await;
        self.check(answer, &line).await
    }

    /// Runs several commands in one round trip, not as a transaction.
    pub async fn pipeline<T: FromRedisValue>(&self, pipeline: &redis::Pipeline) -> RedisResult<T> {
        let mut line = self.line().await?;
        let answer = pipeline.query_async(&mut line.connection).await;
        self.check(answer, &line).await
    }

    /// As [`Link::script`], with an error for people.
    pub async fn run_script<T: FromRedisValue>(&self, call: &ScriptInvocation<'_>) -> Result<T, BrokerError> {
        let answer = self.script(call).await;
        answer.map_err(|error| self.endpoint.error(&error))
    }

    /// As [`Link::command`], with an error for people.
    pub async fn run_command<T: FromRedisValue>(&self, command: &redis::Cmd) -> Result<T, BrokerError> {
        let answer = self.command(command).await;
        answer.map_err(|error| self.endpoint.error(&error))
    }

    /// As [`Link::pipeline`], with an error for people.
    pub async fn run_pipeline<T: FromRedisValue>(
        &self,
        pipeline: &redis::Pipeline,
    ) -> Result<T, BrokerError> {
        let answer = self.pipeline(pipeline).await;
        answer.map_err(|error| self.endpoint.error(&error))
    }

    /// Gives up a connection that failed, so that the next call opens another one.
    async fn check<T>(&self, answer: RedisResult<T>, line: &Line) -> RedisResult<T> {
        if let Err(error) = &answer
            && (is_broken(error) || is_replica(error))
        {
            self.leave(line).await;
        }
        answer
    }

    /// Gives up the connection that there is, so that the next call opens another one.
    pub async fn renew(&self) {
        if self.current.lock().await.line.take().is_some() {
            self.losses.send_modify(|count| *count += 1);
        }
    }

    /// Gives up this connection, if no other one has taken its place.
    pub async fn leave(&self, line: &Line) {
        let mut current = self.current.lock().await;
        if current.line.as_ref().is_some_and(|now| now.number == line.number) {
            current.line = None;
            self.losses.send_modify(|count| *count += 1);
        }
    }

    /// Tells each time that a connection was given up. One that only listens to the same server may be as dead, and
    /// would not find out for long: a network that lost its way, a server that hangs, close nothing.
    pub fn losses(&self) -> watch::Receiver<u64> {
        self.losses.subscribe()
    }
}

/// What the server's clock shows, in milliseconds.
async fn time(connection: &mut MultiplexedConnection) -> RedisResult<i64> {
    let (seconds, micros): (i64, i64) = redis::cmd("TIME").query_async(connection).await?;
    Ok(seconds * 1000 + micros / 1000)
}

/// Whether nothing is known about what the server did.
pub(in crate::broker) fn is_broken(error: &RedisError) -> bool {
    !matches!(error.kind(), ErrorKind::Server(_) | ErrorKind::Extension)
}

/// Whether this is no master, or none any more: the next connection may find the new one.
fn is_replica(error: &RedisError) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Server(ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown)
    )
}

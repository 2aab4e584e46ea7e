//! The connection that all short calls share: opened when needed, opened again when broken.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{ErrorKind, FromRedisValue, RedisError, RedisResult, ScriptInvocation, ServerErrorKind};
use tokio::sync::{Mutex, watch};

use super::endpoint::Endpoint;
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
    /// Each connection's number is asked for, so that it can be ended on another one.
    asks_numbers: AtomicBool,
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

/// A connection as its server knows it.
///
/// Others have the same number after a restart, so it goes with the id that a server gives itself when it starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::broker) struct ClientId {
    run_id: Arc<str>,
    number: i64,
}

impl ClientId {
    /// A command about this connection, to be sent on another one: `CLIENT VERB … NUMBER`.
    pub fn command(&self, words: &[&str]) -> redis::Cmd {
        redis::cmd("CLIENT").arg(words).arg(self.number).to_owned()
    }

    #[cfg(test)]
    pub fn of_test(number: i64) -> Self {
        ClientId {
            run_id: "a-run".into(),
            number,
        }
    }
}

/// What the server says of itself and of a new connection.
#[derive(Debug)]
pub(in crate::broker) struct Greeting {
    /// A line `name:value` each.
    about: String,
    /// The connection's number, if it was asked for and this user may know.
    number: Option<i64>,
}

impl Greeting {
    /// `asks_number`: one command more.
    pub async fn hear(connection: &mut MultiplexedConnection, asks_number: bool) -> RedisResult<Self> {
        let number = if asks_number {
            number_of(connection).await?
        } else {
            None
        };
        // The later one: a server's clock is told by it.
        let about = redis::cmd("INFO").arg("server").query_async(connection).await?;
        Ok(Greeting { about, number })
    }

    fn says(&self, name: &str) -> Option<&str> {
        let mut lines = self.about.lines();
        let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        Some(value.trim())
    }

    fn run_id(&self) -> Option<Arc<str>> {
        self.says("run_id").filter(|id| !id.is_empty()).map(Arc::from)
    }

    /// `None`: this user may not know, or nobody asked, or the server does not say.
    pub fn client(&self) -> Option<ClientId> {
        Some(ClientId {
            run_id: self.run_id()?,
            number: self.number?,
        })
    }
}

/// The number of this connection at its server, if this user may know.
async fn number_of(connection: &mut MultiplexedConnection) -> RedisResult<Option<i64>> {
    match redis::cmd("CLIENT").arg("ID").query_async(connection).await {
        Ok(number) => Ok(Some(number)),
        Err(error) if is_broken(&error) => Err(error),
        Err(_) => Ok(None),
    }
}

/// A connection in use.
#[derive(Clone, Debug)]
pub(in crate::broker) struct Line {
    connection: MultiplexedConnection,
    number: u64,
    /// Which life of which server it leads to, if that says so.
    run_id: Option<Arc<str>>,
    /// What it is to that server, if that was asked and this user may know.
    pub client: Option<ClientId>,
    /// How far the server's clock is ahead of ours, or less, in milliseconds.
    ahead_ms: i64,
}

impl Line {
    /// `millis`: what the server's clock has just shown.
    fn new(connection: MultiplexedConnection, number: u64, greeting: &Greeting, millis: i64) -> Self {
        Line {
            connection,
            number,
            run_id: greeting.run_id(),
            client: greeting.client(),
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

    /// How far the server's clock is ahead of ours, or less, in milliseconds.
    pub fn ahead_ms(&self) -> i64 {
        self.ahead_ms
    }
}

impl Link {
    pub fn new(endpoint: Arc<Endpoint>) -> Self {
        Link {
            endpoint,
            current: Mutex::default(),
            asks_numbers: AtomicBool::new(false),
            losses: watch::Sender::new(0),
        }
    }

    /// Opens the first connection, and returns what the server says of itself: a line `name:value` each.
    pub async fn begin(&self) -> RedisResult<String> {
        let mut current = self.current.lock().await;
        let (line, greeting) = self.open(current.opened + 1).await?;
        current.opened = line.number;
        current.line = Some(line);
        Ok(greeting.about)
    }

    /// From now on it is known of each connection what it is to the server: for who takes jobs.
    pub async fn know_numbers(&self) -> RedisResult<()> {
        self.asks_numbers.store(true, Ordering::Relaxed);
        let mut current = self.current.lock().await;
        let Some(line) = &mut current.line else {
            return Ok(());
        };
        let number = number_of(&mut line.connection).await?;
        let client = |(run_id, number)| ClientId { run_id, number };
        line.client = line.run_id.clone().zip(number).map(client);
        Ok(())
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

    async fn open(&self, number: u64) -> RedisResult<(Line, Greeting)> {
        let mut connection = self.endpoint.connect(ANSWER).await?;
        let asks = self.asks_numbers.load(Ordering::Relaxed);
        let greeting = Greeting::hear(&mut connection, asks).await?;
        let told = greeting.says("server_time_usec");
        let millis = match told.and_then(|micros| micros.parse::<i64>().ok()) {
            Some(micros) => micros / 1000,
            None => time(&mut connection).await?,
        };
        let line = Line::new(connection, number, &greeting, millis);
        Ok((line, greeting))
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

    /// Runs a command about another connection. `None`: the server that knew it is no more, or no more the one that is
    /// used, and its number may be somebody else's by now.
    pub async fn command_about(&self, client: &ClientId, words: &[&str]) -> RedisResult<Option<i64>> {
        let mut line = self.line().await?;
        if line.run_id.as_ref() != Some(&client.run_id) {
            return Ok(None);
        }
        let answer = client.command(words).query_async(&mut line.connection).await;
        self.check(answer, &line).await.map(Some)
    }

    /// Runs several commands in one round trip, not as a transaction.
    pub async fn pipeline<T: FromRedisValue>(&self, pipeline: &redis::Pipeline) -> RedisResult<T> {
        let mut line = self.line().await?;
        let answer = pipeline.query_async(&mut line.connection).await;
        self.check(answer, &line).await
    }

    /// The server's clock has just shown so many milliseconds.
    pub async fn hear_time(&self, millis: i64) {
        if let Some(line) = &mut self.current.lock().await.line {
            line.ahead_ms = millis - Unix::now().0;
        }
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

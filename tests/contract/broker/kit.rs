//! What the rules are written with.

use std::future::Future;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use pool::broker::memory::MemoryBroker;
use pool::broker::parts::turns::Turns;
use pool::broker::{Backlog, Broker, BrokerError, DeadFilter, Enqueued, GroupView, NewGroup, Pull};
use pool::config::{BrokerConfig, BrokerUrl, Dialects};
use pool::job::{
    Claimed, GroupId, JobError, JobId, JobState, JobView, NewJob, QueueName, Settlement, Verdict, Work,
};

use super::{celery, rq};
use crate::support::proxy::Proxy;
use crate::support::server::Server;

/// Far longer than anything takes, so that only a fault gets there.
const DEADLINE: Duration = Duration::from_secs(60);

/// One store of jobs, and handles on it.
pub enum Kit {
    Memory(Box<MemoryBroker>),
    Sqlite(tempfile::TempDir),
    /// With RQ's jobs.
    Redis(Box<RedisServer>),
    Celery(Box<RedisServer>),
}

/// A server of Redis, and the way to it.
pub struct RedisServer {
    server: Mutex<Server>,
    proxy: OnceLock<Proxy>,
}

impl RedisServer {
    fn start() -> Self {
        // It keeps what it was told, should it be killed.
        let server = Mutex::new(Server::start(&["--appendonly", "yes", "--appendfsync", "no"]));
        let proxy = OnceLock::new();
        RedisServer { server, proxy }
    }

    pub fn lock(&self) -> MutexGuard<'_, Server> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A network that may fail.
    pub fn proxy(&self) -> &Proxy {
        let start = || Proxy::start(self.lock().port(), fastrand::Rng::new());
        self.proxy.get_or_init(start)
    }
}

/// The settings of the suite: a lease that never runs out by itself.
pub fn config() -> BrokerConfig {
    BrokerConfig {
        url: BrokerUrl::Memory,
        lease: Duration::from_secs(3600),
        heartbeat: Duration::from_secs(1200),
        result_ttl: Duration::from_secs(3600),
        max_payload: 1000,
        max_result: 1000,
        fsync: false,
        dialects: Dialects {
            rq: rq::config(),
            ..Dialects::default()
        },
        ..BrokerConfig::default()
    }
}

impl Kit {
    pub fn memory() -> Self {
        Kit::Memory(Box::new(MemoryBroker::new(&config().memory())))
    }

    pub fn sqlite() -> Self {
        Kit::Sqlite(tempfile::tempdir().unwrap())
    }

    pub fn redis() -> Self {
        Kit::Redis(Box::new(RedisServer::start()))
    }

    pub fn celery() -> Self {
        Kit::Celery(Box::new(RedisServer::start()))
    }

    /// The file of the embedded broker.
    pub fn path(&self) -> PathBuf {
        match self {
            Kit::Memory(_) | Kit::Redis(_) | Kit::Celery(_) => unreachable!("a rule of the embedded broker"),
            Kit::Sqlite(dir) => dir.path().join("state/pool.db"),
        }
    }

    /// A handle, as a process of its own has.
    pub async fn handle(&self) -> Arc<dyn Pull> {
        self.handle_with(config()).await
    }

    /// A handle that finds jobs in these queues although it is not told to look there.
    pub async fn handle_that_knows(&self, queues: &[&str]) -> Arc<dyn Pull> {
        match self {
            Kit::Celery(server) => {
                let port = server.lock().port();
                celery::open_with_queues(port, &config(), queues).await
            }
            Kit::Memory(_) | Kit::Sqlite(_) | Kit::Redis(_) => self.handle().await,
        }
    }

    /// A handle whose claims are soon given back unless it renews its lease.
    pub async fn short_lived(&self) -> Arc<dyn Pull> {
        let lease = Duration::from_millis(200);
        self.handle_with(BrokerConfig { lease, ..config() }).await
    }

    pub async fn handle_with(&self, config: BrokerConfig) -> Arc<dyn Pull> {
        match self {
            Kit::Memory(first) => Arc::new(first.another(&config.memory())),
            Kit::Sqlite(_) => {
                let url = BrokerUrl::Sqlite(self.path());
                open(&BrokerConfig { url, ..config }).await
            }
            Kit::Redis(server) => {
                let url = server.lock().url();
                rq::open(&url, config).await
            }
            Kit::Celery(server) => {
                let port = server.lock().port();
                celery::open(port, &config).await
            }
        }
    }

    /// A handle that reaches its server, if it has one, by a network that may fail.
    pub async fn over_the_network(&self) -> Arc<dyn Pull> {
        match self {
            Kit::Redis(server) => rq::open(&server.proxy().url(), config()).await,
            Kit::Celery(server) => celery::open(server.proxy().port(), &config()).await,
            Kit::Memory(_) | Kit::Sqlite(_) => self.handle().await,
        }
    }

    pub fn redis_server(&self) -> &RedisServer {
        match self {
            Kit::Redis(server) | Kit::Celery(server) => server,
            Kit::Memory(_) | Kit::Sqlite(_) => unreachable!("it has no server"),
        }
    }
}

/// The broker that the settings name, as one that is asked for jobs.
pub async fn open(config: &BrokerConfig) -> Arc<dyn Pull> {
    pool::broker::open_pulled(&config.options().unwrap())
        .await
        .unwrap()
}

pub fn queue(name: &str) -> QueueName {
    QueueName::new(name).unwrap()
}

/// A job with this id and its name for an argument, in this queue.
pub fn job(id: &str, in_queue: &str) -> NewJob {
    NewJob {
        id: JobId::new(id).unwrap(),
        ..NewJob::new(queue(in_queue), "work", arguments_of(id))
    }
}

/// The arguments of [`job`].
pub fn arguments_of(id: &str) -> String {
    serde_json::json!([id]).to_string()
}

/// Jobs with ids `from` to `to` in this queue.
pub fn jobs(of: std::ops::Range<u32>, in_queue: &str) -> Vec<NewJob> {
    of.map(|number| job(&format!("{number:05}"), in_queue)).collect()
}

pub fn id(text: &str) -> JobId {
    JobId::new(text).unwrap()
}

pub async fn enqueue(broker: &Arc<dyn Pull>, jobs: Vec<NewJob>) -> Vec<Enqueued> {
    broker.enqueue(jobs).await.unwrap()
}

/// Claims jobs. After-work that the broker hands out with them is done at once, as a worker would, and is not counted.
pub async fn claim(broker: &Arc<dyn Pull>, names: &[&str], limit: usize) -> Vec<Claimed> {
    let queues: Vec<QueueName> = names.iter().map(|name| queue(name)).collect();
    let (mut jobs, mut after_work) = (Vec::new(), 1);
    while after_work > 0 {
        let claimed = broker
            .claim(&queues, Turns::Strict, limit - jobs.len())
            .await
            .unwrap();
        let (done, claimed): (Vec<_>, Vec<_>) = claimed
            .into_iter()
            .partition(|claimed| claimed.job.work == Work::After);
        for work in &done {
            assert!(settle(broker, work, finish()).await);
        }
        after_work = done.len();
        jobs.extend(claimed);
    }
    jobs
}

/// Ids of what a claim on `default` takes.
pub async fn claim_ids(broker: &Arc<dyn Pull>, limit: usize) -> Vec<String> {
    ids_of(&claim(broker, &["default"], limit).await)
}

pub fn ids_of(claimed: &[Claimed]) -> Vec<String> {
    claimed.iter().map(|claimed| claimed.job.id.to_string()).collect()
}

pub async fn settle(broker: &Arc<dyn Pull>, claimed: &Claimed, verdict: Verdict) -> bool {
    let of = claimed.claim.clone();
    let done = broker
        .settle(vec![Settlement {
            of,
            verdict,
            run: None,
        }])
        .await
        .unwrap();
    assert_eq!(done.len(), 1, "one answer a settlement");
    done[0]
}

pub fn finish() -> Verdict {
    Verdict::Finish {
        result: b"42".to_vec(),
    }
}

pub fn give_back() -> Verdict {
    Verdict::GiveBack
}

pub fn bury(message: &str) -> Verdict {
    Verdict::Bury {
        error: JobError::new("ValueError", message),
        failures: 1,
        losses: 0,
    }
}

pub async fn state(broker: &Arc<dyn Pull>, of: &str) -> Option<JobState> {
    let views = broker.find(&[id(of)]).await.unwrap();
    assert_eq!(views.len(), 1, "one answer an id");
    views[0].as_ref().map(|view| view.state)
}

/// What `future` gives; it must come.
pub async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(DEADLINE, future)
        .await
        .expect("this should have happened long ago")
}

/// Whether `future` waits: polled, with time given to threads that may answer it.
pub async fn waits<F: Future + Unpin>(future: &mut F) -> bool {
    tokio::time::timeout(Duration::from_millis(100), future)
        .await
        .is_err()
}

/// The ids of [`jobs`].
pub fn ids(of: std::ops::Range<u32>) -> Vec<JobId> {
    of.map(|number| id(&format!("{number:05}"))).collect()
}

/// What rules ask of a broker, whichever of its abilities that is.
#[async_trait]
pub trait Verbs {
    async fn enqueue(&self, jobs: Vec<NewJob>) -> Result<Vec<Enqueued>, BrokerError>;
    async fn backlog(&self, queues: &[QueueName]) -> Result<Backlog, BrokerError>;
    async fn queue_names(&self) -> Result<Vec<QueueName>, BrokerError>;
    async fn find(&self, ids: &[JobId]) -> Result<Vec<Option<JobView>>, BrokerError>;
    /// What the first look of a watch gives.
    async fn wait_any(&self, ids: &[JobId]) -> Result<Vec<(usize, Option<JobView>)>, BrokerError>;
    async fn dead(&self, filter: &DeadFilter) -> Result<Vec<JobView>, BrokerError>;
    async fn retry_dead(&self, ids: &[JobId]) -> Result<Vec<JobId>, BrokerError>;
    async fn delete_dead(&self, ids: &[JobId]) -> Result<Vec<JobId>, BrokerError>;
    async fn enqueue_group(&self, group: NewGroup) -> Result<(), BrokerError>;
    async fn group(&self, id: &GroupId) -> Result<Option<GroupView>, BrokerError>;
    async fn group_jobs(&self, id: &GroupId) -> Result<Vec<JobId>, BrokerError>;
    async fn wait_group(&self, id: &GroupId, beyond: u64) -> Result<Option<GroupView>, BrokerError>;
    async fn enqueue_chain(&self, jobs: Vec<NewJob>) -> Result<(), BrokerError>;
}

#[async_trait]
impl<B: Broker + ?Sized> Verbs for B {
    async fn enqueue(&self, jobs: Vec<NewJob>) -> Result<Vec<Enqueued>, BrokerError> {
        self.producer()?.enqueue(jobs).await
    }
    async fn backlog(&self, queues: &[QueueName]) -> Result<Backlog, BrokerError> {
        self.queues().backlog(queues).await
    }
    async fn queue_names(&self) -> Result<Vec<QueueName>, BrokerError> {
        self.queues().names().await
    }
    async fn find(&self, ids: &[JobId]) -> Result<Vec<Option<JobView>>, BrokerError> {
        self.reader()?.find(ids).await
    }
    async fn wait_any(&self, ids: &[JobId]) -> Result<Vec<(usize, Option<JobView>)>, BrokerError> {
        let ended = self.reader()?.watch(ids.to_vec()).next().await?;
        Ok(ended.into_iter().map(|ended| (ended.at, ended.job)).collect())
    }
    async fn dead(&self, filter: &DeadFilter) -> Result<Vec<JobView>, BrokerError> {
        self.dead_letters()?.list(filter).await
    }
    async fn retry_dead(&self, ids: &[JobId]) -> Result<Vec<JobId>, BrokerError> {
        self.dead_letters()?.retry(ids).await
    }
    async fn delete_dead(&self, ids: &[JobId]) -> Result<Vec<JobId>, BrokerError> {
        self.dead_letters()?.delete(ids).await
    }
    async fn enqueue_group(&self, group: NewGroup) -> Result<(), BrokerError> {
        self.groups()?.enqueue(group).await
    }
    async fn group(&self, id: &GroupId) -> Result<Option<GroupView>, BrokerError> {
        self.groups()?.find(id).await
    }
    async fn group_jobs(&self, id: &GroupId) -> Result<Vec<JobId>, BrokerError> {
        self.groups()?.members(id).await
    }
    async fn wait_group(&self, id: &GroupId, beyond: u64) -> Result<Option<GroupView>, BrokerError> {
        self.groups()?.wait(id, beyond).await
    }
    async fn enqueue_chain(&self, jobs: Vec<NewJob>) -> Result<(), BrokerError> {
        self.chains()?.enqueue(jobs).await
    }
}

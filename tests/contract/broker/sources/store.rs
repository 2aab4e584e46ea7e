//! What rules may do to a store of jobs, of each kind.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use pool::broker::Broker;
use pool::job::Verdict;
use pool::time::Mono;

use super::asked::Asked;
use super::odd;
use crate::broker::kit::{Kit, RedisServer, id};
use crate::broker::push::Server;

/// One store of jobs, and what a rule may do to it.
#[async_trait]
pub trait Store: Send + Sync {
    /// A handle, as a process of its own has.
    async fn handle(&self) -> Arc<dyn Broker>;

    /// A handle whose jobs soon count as given up, unless it renews its lease.
    async fn short_lived(&self) -> Arc<dyn Broker>;

    /// A handle that soon takes such jobs back.
    async fn housekeeper(&self) -> Arc<dyn Broker>;

    /// The leases of those who are gone run out.
    fn let_leases_run_out(&self);

    /// A handle, and what is asked through it. So many settlements are refused at first.
    async fn asked(&self, refusals: u32) -> (Arc<dyn Broker>, Arc<dyn Calls>);

    /// Jobs come to `default` that can't be read, each spoilt in another way, as other programs may leave them. `name` tells
    /// them from those of other calls. Returns what they are known by.
    async fn add_unreadable(&self, name: &str) -> Vec<String>;

    /// Why such a job failed, or what is kept of it aside; `None`: nobody has looked at it yet.
    async fn reason(&self, unreadable: &str) -> Option<String>;

    /// A job comes to `default` that is for the application's own code to end, should it be stopped.
    async fn add_with_after_work(&self, id: &str);

    /// Whether such a job has failed, or left nothing to do.
    async fn has_ended(&self, id: &str) -> bool;

    /// The other side, where there is one.
    fn remote(&self) -> &dyn Remote;

    /// The same, where jobs are delivered on channels.
    fn channels(&self) -> &dyn Channels;
}

/// What is asked of a store, and when.
pub trait Calls: Send + Sync {
    fn all(&self) -> BTreeMap<&'static str, Vec<Mono>>;

    fn of(&self, call: &str) -> Vec<Mono> {
        self.all().get(call).cloned().unwrap_or_default()
    }

    /// Nothing more need be asked now, if nothing happens.
    fn may_be_idle(&self) -> bool {
        true
    }

    fn count(&self) -> usize {
        self.all().values().map(Vec::len).sum()
    }
}

/// A server, and the way to it.
pub trait Remote: Send + Sync {
    /// What is said next is heard, and its answer is lost.
    fn lose_answers(&self);

    /// It goes away, with all its connections.
    fn go_away(&self);

    /// It is back, with all that it had.
    fn come_back(&self);

    /// How often this job has ended there.
    fn ends(&self, job: &str) -> usize;
}

/// A server that delivers on channels.
pub trait Channels: Send + Sync {
    /// From now on a message is acknowledged when its job begins.
    fn acknowledge_early(&self);

    /// All channels are closed.
    fn close_channels(&self);

    /// Messages that wait, and those that are delivered and not acknowledged.
    fn counts(&self) -> (usize, usize);

    /// Whether the message of this job was acknowledged before its end.
    fn was_acked_early(&self, job: &str) -> bool;

    /// Whether this job has ended.
    fn has_ended(&self, job: &str) -> bool;
}

#[async_trait]
impl Store for Kit {
    async fn handle(&self) -> Arc<dyn Broker> {
        self.over_the_network().await
    }

    async fn short_lived(&self) -> Arc<dyn Broker> {
        Kit::short_lived(self).await
    }

    async fn housekeeper(&self) -> Arc<dyn Broker> {
        Kit::housekeeper(self).await
    }

    fn let_leases_run_out(&self) {
        Kit::let_leases_run_out(self);
    }

    async fn asked(&self, refusals: u32) -> (Arc<dyn Broker>, Arc<dyn Calls>) {
        let asked = Asked::over(Kit::handle(self).await, refusals);
        (asked.clone(), asked)
    }

    async fn add_unreadable(&self, name: &str) -> Vec<String> {
        odd::add_unreadable(self, name).await
    }

    async fn reason(&self, unreadable: &str) -> Option<String> {
        odd::reason(self, unreadable).await
    }

    async fn add_with_after_work(&self, id: &str) {
        odd::add_with_after_work(self, id).await;
    }

    async fn has_ended(&self, id: &str) -> bool {
        odd::has_ended(self, id).await
    }

    fn remote(&self) -> &dyn Remote {
        self.redis_server()
    }

    fn channels(&self) -> &dyn Channels {
        unreachable!("no broker that is asked has channels")
    }
}

#[async_trait]
impl Store for Server {
    async fn handle(&self) -> Arc<dyn Broker> {
        Server::handle(self)
    }

    async fn short_lived(&self) -> Arc<dyn Broker> {
        Server::handle(self)
    }

    async fn housekeeper(&self) -> Arc<dyn Broker> {
        Server::handle(self)
    }

    /// Who is gone has no channel any more.
    fn let_leases_run_out(&self) {}

    async fn asked(&self, _refusals: u32) -> (Arc<dyn Broker>, Arc<dyn Calls>) {
        (Server::handle(self), Arc::new(self.clone()))
    }

    async fn add_unreadable(&self, name: &str) -> Vec<String> {
        Server::add_unreadable(self, name);
        vec![name.to_owned()]
    }

    async fn reason(&self, unreadable: &str) -> Option<String> {
        match self.ended(unreadable)? {
            Verdict::Bury { error, .. } => Some(error.message),
            other => panic!("{other:?}"),
        }
    }

    async fn add_with_after_work(&self, _id: &str) {
        unreachable!("it has none")
    }

    async fn has_ended(&self, id: &str) -> bool {
        self.ended(id).is_some()
    }

    fn remote(&self) -> &dyn Remote {
        self
    }

    fn channels(&self) -> &dyn Channels {
        self
    }
}

impl Remote for RedisServer {
    fn lose_answers(&self) {
        self.proxy().lose_answers();
    }

    fn go_away(&self) {
        self.lock().kill();
    }

    fn come_back(&self) {
        self.lock().launch(&[]);
    }

    /// In RQ each end of a job is a result of its own; in Celery the first stands.
    fn ends(&self, job: &str) -> usize {
        let mut connection = self.lock().connection();
        let mut results = redis::cmd("XLEN");
        results.arg(format!("rq:results:{job}"));
        let of_rq: usize = results.query(&mut connection).unwrap();
        let mut result = redis::cmd("EXISTS");
        result.arg(format!("celery-task-meta-{job}"));
        let _: () = redis::cmd("SELECT").arg(1).query(&mut connection).unwrap();
        let of_celery: usize = result.query(&mut connection).unwrap();
        of_rq + of_celery
    }
}

impl Calls for Server {
    fn all(&self) -> BTreeMap<&'static str, Vec<Mono>> {
        self.state().calls.clone()
    }
}

impl Remote for Server {
    /// An acknowledgement has no answer: the channel on which it is said is lost, and nobody knows whether it was heard.
    fn lose_answers(&self) {
        Server::close_channels(self);
    }

    fn go_away(&self) {
        Server::go_away(self);
    }

    fn come_back(&self) {
        Server::come_back(self);
    }

    fn ends(&self, job: &str) -> usize {
        self.state().ends.get(&id(job)).copied().unwrap_or(0)
    }
}

impl Channels for Server {
    fn acknowledge_early(&self) {
        Server::acknowledge_early(self);
    }

    fn close_channels(&self) {
        Server::close_channels(self);
    }

    fn counts(&self) -> (usize, usize) {
        Server::counts(self)
    }

    fn was_acked_early(&self, job: &str) -> bool {
        Server::was_acked_early(self, job)
    }

    fn has_ended(&self, job: &str) -> bool {
        self.ended(job).is_some()
    }
}

//! Those who wait for jobs to claim or for jobs to end.
//!
//! They are looked at when one is added, when the bell rang, after own commits, and when the
//! alarm goes off. A waiter whose future was dropped is forgotten at the next look.

use super::engine::{Reply, transact_one};
use super::error::Failure;
use super::store::{Access, Store};
use crate::broker::BrokerError;
use crate::job::{JobId, JobView, QueueName};
use crate::time::Unix;

/// Jobs that have ended, with their position among those asked for.
pub(super) type Ended = Vec<(usize, Option<JobView>)>;

#[derive(Default)]
pub(super) struct Waiters {
    ready: Vec<(Vec<QueueName>, Reply<()>)>,
    /// Added since the last look.
    new: Vec<(Vec<JobId>, Reply<Ended>)>,
    ended: Vec<Following>,
}

/// A caller who waits for one of these jobs, all of which were there and had not ended.
struct Following {
    ids: Vec<JobId>,
    handles: Vec<i64>,
    reply: Reply<Ended>,
}

impl Waiters {
    pub(super) fn await_ready(&mut self, queues: Vec<QueueName>, reply: Reply<()>) {
        self.ready.push((queues, reply));
    }

    pub(super) fn await_ended(&mut self, ids: Vec<JobId>, reply: Reply<Ended>) {
        self.new.push((ids, reply));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ready.is_empty() && self.new.is_empty() && self.ended.is_empty()
    }

    /// Answers all with an error.
    pub(super) fn fail(&mut self, error: impl Fn() -> BrokerError) {
        for (_, reply) in self.ready.drain(..) {
            let _ = reply.send(Err(error()));
        }
        let new = self.new.drain(..).map(|(_, reply)| reply);
        let ended = self.ended.drain(..).map(|following| following.reply);
        for reply in new.chain(ended) {
            let _ = reply.send(Err(error()));
        }
    }

    /// Answers those whose wait is over. Returns when to look again if nothing happens before.
    pub(super) fn look(&mut self, store: &mut Store) -> Result<Option<Unix>, Failure> {
        self.ready.retain(|(_, reply)| !reply.is_closed());
        self.ended.retain(|following| !following.reply.is_closed());
        let mut next = None;
        if !self.ready.is_empty() {
            next = self.look_for_ready(store)?;
        }
        if !self.new.is_empty() || !self.ended.is_empty() {
            transact_one(store, Access::Read, |store| {
                self.admit(store)?;
                self.look_for_ended(store)
            })?;
        }
        Ok(next)
    }

    fn look_for_ready(&mut self, store: &mut Store) -> Result<Option<Unix>, Failure> {
        let overdue = transact_one(store, Access::Read, |store| store.is_overdue())?;
        if overdue {
            transact_one(store, Access::Write, |store| {
                store.promote()?;
                store.recover()
            })?;
            store.ring();
        }
        let ready = &mut self.ready;
        transact_one(store, Access::Read, |store| {
            for waiter in std::mem::take(ready) {
                if store.any_waiting(&waiter.0)? {
                    let _ = waiter.1.send(Ok(()));
                } else {
                    ready.push(waiter);
                }
            }
            match ready.is_empty() {
                true => Ok(None),
                false => store.next_change(),
            }
        })
    }

    /// Looks the jobs of new callers up, once; from then on their handles do.
    fn admit(&mut self, store: &Store) -> Result<(), Failure> {
        for (ids, reply) in std::mem::take(&mut self.new) {
            let mut handles = Vec::with_capacity(ids.len());
            let mut ended = Vec::new();
            for (at, id) in ids.iter().enumerate() {
                match store.find(id)? {
                    None => ended.push((at, None)),
                    Some((_, view)) if view.state.is_final() => ended.push((at, Some(view))),
                    Some((handle, _)) => handles.push(handle),
                }
            }
            if ended.is_empty() {
                self.ended.push(Following { ids, handles, reply });
            } else {
                let _ = reply.send(Ok(ended));
            }
        }
        Ok(())
    }

    fn look_for_ended(&mut self, store: &Store) -> Result<(), Failure> {
        for following in std::mem::take(&mut self.ended) {
            let mut ended = Vec::new();
            for (at, &handle) in following.handles.iter().enumerate() {
                if store.has_ended(handle)? {
                    let view = store.find(&following.ids[at])?.map(|(_, view)| view);
                    ended.push((at, view));
                }
            }
            if ended.is_empty() {
                self.ended.push(following);
            } else {
                let _ = following.reply.send(Ok(ended));
            }
        }
        Ok(())
    }
}

//! Those who wait for jobs to claim or for jobs to end.
//!
//! They are looked at when one is added, when the bell rang, after own commits, and when the
//! alarm goes off. A waiter whose future was dropped is forgotten at the next look.

use std::time::Duration;

use tokio::sync::oneshot;

use super::error::Failure;
use super::store::{Access, Store, transact_one};
use crate::broker::source::StopHow;
use crate::broker::{BrokerError, GroupView};
use crate::job::{Claim, GroupId, JobId, JobView, QueueName};
use crate::time::{Mono, Unix};

/// A look at jobs that are followed is free up to this time.
const LOOK_COST_FREE: Duration = Duration::from_millis(2);

/// Where an answer goes.
pub(super) type Reply<R> = oneshot::Sender<Result<R, BrokerError>>;

/// Jobs that have ended, with their position among those asked for.
pub(super) type Ended = Vec<(usize, Option<JobView>)>;

/// Claims that were called off, by their position among those asked for.
pub(super) type CalledOff = Vec<(usize, StopHow)>;

#[derive(Default)]
pub(super) struct Waiters {
    ready: Vec<(Vec<QueueName>, Reply<()>)>,
    /// Added since the last look.
    new: Vec<(Vec<JobId>, Reply<Ended>)>,
    ended: Vec<Following>,
    /// Each until more members than it names have ended.
    groups: Vec<(GroupId, u64, Reply<Option<GroupView>>)>,
    called_off: Vec<(Vec<Claim>, Reply<CalledOff>)>,
    /// No look at `ended` before.
    rest_until: Option<Unix>,
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

    pub(super) fn await_group(&mut self, id: GroupId, beyond: u64, reply: Reply<Option<GroupView>>) {
        self.groups.push((id, beyond, reply));
    }

    pub(super) fn await_called_off(&mut self, claims: Vec<Claim>, reply: Reply<CalledOff>) {
        self.called_off.push((claims, reply));
    }

    pub(super) fn is_empty(&self) -> bool {
        let jobs = self.ready.is_empty() && self.new.is_empty() && self.ended.is_empty();
        jobs && self.groups.is_empty() && self.called_off.is_empty()
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
        for (.., reply) in self.groups.drain(..) {
            let _ = reply.send(Err(error()));
        }
        for (_, reply) in self.called_off.drain(..) {
            let _ = reply.send(Err(error()));
        }
    }

    /// Answers those whose wait is over. Returns when to look again if nothing happens before.
    pub(super) fn look(&mut self, store: &mut Store) -> Result<Option<Unix>, Failure> {
        self.ready.retain(|(_, reply)| !reply.is_closed());
        self.ended.retain(|following| !following.reply.is_closed());
        let ready = match self.ready.is_empty() {
            true => expire_due(store)?,
            false => self.look_for_ready(store)?,
        };
        let ended = match self.new.is_empty() && self.ended.is_empty() {
            true => None,
            false => self.look_for_ended(store)?,
        };
        self.groups.retain(|(.., reply)| !reply.is_closed());
        if !self.groups.is_empty() {
            transact_one(store, Access::Read, |store| self.answer_groups(store))?;
        }
        self.called_off.retain(|(_, reply)| !reply.is_closed());
        if !self.called_off.is_empty() {
            transact_one(store, Access::Read, |store| self.answer_called_off(store))?;
        }
        Ok(ready.into_iter().chain(ended).min())
    }

    fn answer_called_off(&mut self, store: &Store) -> Result<(), Failure> {
        let found = self.called_off.iter().map(|(claims, _)| store.called_off(claims));
        let mut found = found.collect::<Result<Vec<_>, _>>()?.into_iter();
        for (claims, reply) in std::mem::take(&mut self.called_off) {
            match found.next() {
                Some(marks) if !marks.is_empty() => drop(reply.send(Ok(marks))),
                _ => self.called_off.push((claims, reply)),
            }
        }
        Ok(())
    }

    fn answer_groups(&mut self, store: &Store) -> Result<(), Failure> {
        let found = self
            .groups
            .iter()
            .map(|(id, ..)| told_alone(store, store.find_group(id)));
        let mut found = found.collect::<Result<Vec<_>, _>>()?.into_iter();
        for (id, beyond, reply) in std::mem::take(&mut self.groups) {
            match found.next() {
                Some(Ok(Some(view))) if view.ended.is_none() && view.ended_jobs() <= beyond => {
                    self.groups.push((id, beyond, reply));
                }
                Some(over) => drop(reply.send(over)),
                None => {}
            }
        }
        Ok(())
    }

    fn look_for_ready(&mut self, store: &mut Store) -> Result<Option<Unix>, Failure> {
        loop {
            let next = transact_one(store, Access::Read, |store| match store.is_overdue()? {
                true => Ok(None),
                false => self.answer_ready(store).map(Some),
            })?;
            if let Some(next) = next {
                return Ok(next);
            }
            transact_one(store, Access::Write, |store| {
                store.promote()?;
                store.recover()?;
                store.expire()
            })?;
        }
    }

    fn answer_ready(&mut self, store: &mut Store) -> Result<Option<Unix>, Failure> {
        // All looked at before any is answered: after an error all are still here to hear of it.
        let found = self.ready.iter().map(|(queues, _)| store.any_waiting(queues));
        let mut found = found.collect::<Result<Vec<bool>, _>>()?.into_iter();
        for (_, reply) in self.ready.extract_if(.., |_| found.next() == Some(true)) {
            let _ = reply.send(Ok(()));
        }
        match self.ready.is_empty() {
            true => Ok(None),
            false => store.next_change(),
        }
    }

    fn look_for_ended(&mut self, store: &mut Store) -> Result<Option<Unix>, Failure> {
        let rests = self.rest_until.filter(|until| *until > Unix::now());
        if self.new.is_empty() && rests.is_some() {
            return Ok(rests);
        }
        let cost = transact_one(store, Access::Read, |store| {
            self.admit(store)?;
            // A new caller's jobs are looked up once; what counts is the look that each ring brings.
            let begun = Mono::now();
            if rests.is_none() {
                self.answer_ended(store)?;
            }
            Ok(Mono::now().since(begun))
        })?;
        if rests.is_none() {
            // Whoever follows very many jobs takes a tenth of a processor for it and no more.
            self.rest_until = (cost > LOOK_COST_FREE).then(|| Unix::now() + cost * 9);
        }
        Ok(self.rest_until.filter(|_| !self.ended.is_empty()))
    }

    /// Looks the jobs of new callers up, once; from then on their handles do.
    fn admit(&mut self, store: &Store) -> Result<(), Failure> {
        while let Some((ids, _)) = self.new.last() {
            let mut handles = Vec::with_capacity(ids.len());
            let (mut ended, mut unreadable) = (Vec::new(), None);
            for (at, id) in ids.iter().enumerate() {
                match told_alone(store, store.find(id))? {
                    Ok(None) => ended.push((at, None)),
                    Ok(Some((_, view))) if view.state.is_final() => ended.push((at, Some(view))),
                    Ok(Some((handle, _))) => handles.push(handle),
                    Err(error) => unreadable = unreadable.or(Some(error)),
                }
            }
            if let Some((ids, reply)) = self.new.pop() {
                match unreadable {
                    Some(error) if ended.is_empty() => drop(reply.send(Err(error))),
                    None if ended.is_empty() => self.ended.push(Following { ids, handles, reply }),
                    // Those who ask for the rest hear of it next.
                    _ => drop(reply.send(Ok(ended))),
                }
            }
        }
        Ok(())
    }

    fn answer_ended(&mut self, store: &Store) -> Result<(), Failure> {
        let found = self
            .ended
            .iter()
            .map(|following| told_alone(store, following.ended(store)));
        let mut found = found.collect::<Result<Vec<_>, _>>()?.into_iter();
        for following in std::mem::take(&mut self.ended) {
            match found.next() {
                Some(Ok(ended)) if ended.is_empty() => self.ended.push(following),
                Some(ended) => drop(following.reply.send(ended)),
                None => {}
            }
        }
        Ok(())
    }
}

/// Ends jobs whose time is over. Returns when the next one expires.
fn expire_due(store: &mut Store) -> Result<Option<Unix>, Failure> {
    loop {
        let next = transact_one(store, Access::Read, |store| {
            let next = store.next_expiry()?;
            Ok((next, next.is_some_and(|next| next <= store.now)))
        })?;
        match next {
            (_, true) => transact_one(store, Access::Write, Store::expire)?,
            (next, false) => return Ok(next),
        };
    }
}

/// A row that can't be read is the affair of who asked for it; any other failure is everybody's.
fn told_alone<T>(store: &Store, looked: Result<T, Failure>) -> Result<Result<T, BrokerError>, Failure> {
    match looked {
        Err(failure) if failure.is_of_a_row() => Ok(Err(failure.tell(&super::url(&store.path)))),
        looked => looked.map(Ok),
    }
}

impl Following {
    /// Those of its jobs that have ended or are gone.
    fn ended(&self, store: &Store) -> Result<Ended, Failure> {
        let mut ended = Vec::new();
        for (at, (&handle, id)) in self.handles.iter().zip(&self.ids).enumerate() {
            if store.has_ended(handle)? {
                ended.push((at, store.find(id)?.map(|(_, view)| view)));
            }
        }
        Ok(ended)
    }
}

//! Schedules in memory.

use std::sync::Arc;

use async_trait::async_trait;

use super::MemoryBroker;
use super::store::{Place, Store};
use super::ties::Ties;
use crate::broker::{BrokerError, Fired, Firing, Make, Overlap, Ruled, ScheduleView, Schedules, check};
use crate::job::JobId;
use crate::time::Unix;

#[async_trait]
impl Schedules for MemoryBroker {
    async fn meet(&self, schedules: &[Ruled]) -> Result<Vec<ScheduleView>, BrokerError> {
        let (mut store, now) = (self.store()?, Unix::now());
        Ok(schedules
            .iter()
            .map(|ruled| store.meet(ruled, now).clone())
            .collect())
    }

    async fn look(&self, names: &[Arc<str>]) -> Result<Vec<Option<ScheduleView>>, BrokerError> {
        let store = self.store()?;
        let view = |name| store.schedules.get(name).map(|known| known.view.clone());
        Ok(names.iter().map(view).collect())
    }

    async fn fire(&self, firings: Vec<Firing>) -> Result<Vec<Fired>, BrokerError> {
        check::new_jobs(
            firings.iter().filter_map(|firing| firing.new_job()),
            self.options.payload_len_max,
        )?;
        self.changing(|store| store.fire(firings, Unix::now()))
    }

    async fn pause(&self, schedules: &[Ruled], paused: bool) -> Result<(), BrokerError> {
        let (mut store, now) = (self.store()?, Unix::now());
        for ruled in schedules {
            let view = store.meet(ruled, now);
            if view.paused && !paused {
                view.mark = now;
            }
            view.paused = paused;
        }
        Ok(())
    }
}

impl Store {
    fn meet(&mut self, ruled: &Ruled, now: Unix) -> &mut ScheduleView {
        let known = self.schedules.entry(Arc::clone(&ruled.name)).or_default();
        if known.rule != ruled.rule {
            known.rule.clone_from(&ruled.rule);
            known.view.mark = known.view.mark.max(now);
            known.view.held = None;
        }
        &mut known.view
    }

    fn fire(&mut self, firings: Vec<Firing>, now: Unix) -> Vec<Fired> {
        self.promote(now);
        firings
            .into_iter()
            .map(|firing| self.fire_one(firing, now))
            .collect()
    }

    fn fire_one(&mut self, firing: Firing, now: Unix) -> Fired {
        let known = self.schedules.get(&firing.schedule);
        let view = known.map(|known| known.view.clone()).unwrap_or_default();
        if let Some(due) = firing.due {
            let open = view.job.as_ref().filter(|id| self.is_open(id));
            if known.is_some() && due <= view.mark {
                return Fired::Known;
            }
            let left_out = match (&firing.job, open, firing.overlap) {
                _ if view.paused => Some(Fired::Paused),
                (None, ..) => Some(Fired::LeftOut),
                (Some(_), Some(open), Overlap::Skip) => Some(Fired::Overlaps(open.clone())),
                (Some(_), Some(open), Overlap::Queue) => {
                    let open = open.clone();
                    let known = self.schedules.entry(firing.schedule).or_default();
                    known.view.held.get_or_insert(due);
                    return Fired::Waits(open);
                }
                (Some(_), ..) => None,
            };
            let known = self.schedules.entry(Arc::clone(&firing.schedule)).or_default();
            known.view.mark = due;
            known.view.held = None;
            if let Some(left_out) = left_out {
                return left_out;
            }
        }
        // There are no schedules of an application here.
        let Some(Make::Job(job)) = firing.job else {
            return Fired::LeftOut;
        };
        let id = self.enqueue_one(*job, Ties::default(), now).id().clone();
        let known = self.schedules.entry(firing.schedule).or_default();
        known.view.job = Some(id.clone());
        known.view.fired = Some(now);
        Fired::Enqueued(id)
    }

    /// Whether this job is there and has not ended.
    fn is_open(&self, id: &JobId) -> bool {
        let job = self.ids.get(id).and_then(|handle| self.jobs.get(handle));
        job.is_some_and(|job| !matches!(job.place, Place::Finished { .. } | Place::Dead { .. }))
    }
}

//! Schedules: one row each, with the last due time that was handled. A due time and its job are one transaction.

use std::sync::Arc;

use async_trait::async_trait;
use rusqlite::{OptionalExtension, Row};

use super::SqliteBroker;
use super::error::Failure;
use super::store::{Access, Store, job_id, text};
use super::ties::Ties;
use crate::broker::{BrokerError, Enqueued, Fired, Firing, Overlap, Ruled, ScheduleView, Schedules, check};
use crate::job::{JobId, NewJob};
use crate::time::Unix;

#[async_trait]
impl Schedules for SqliteBroker {
    async fn meet(&self, schedules: &[Ruled]) -> Result<Vec<ScheduleView>, BrokerError> {
        let schedules = schedules.to_vec();
        self.engine
            .run(Access::Write, move |store| store.meet_schedules(&schedules))
            .await
    }

    async fn look(&self, names: &[Arc<str>]) -> Result<Vec<Option<ScheduleView>>, BrokerError> {
        let names = names.to_vec();
        self.engine
            .run(Access::Read, move |store| {
                names.iter().map(|name| store.find_schedule(name)).collect()
            })
            .await
    }

    async fn fire(&self, firings: Vec<Firing>) -> Result<Vec<Fired>, BrokerError> {
        let jobs = firings.iter().filter_map(|firing| firing.new_job());
        check::new_jobs(jobs, self.payload_len_max)?;
        self.engine
            .run(Access::Write, move |store| store.fire(&firings))
            .await
    }

    async fn pause(&self, schedules: &[Ruled], paused: bool) -> Result<(), BrokerError> {
        let schedules = schedules.to_vec();
        self.engine
            .run(Access::Write, move |store| {
                store.meet_schedules(&schedules)?;
                schedules
                    .iter()
                    .try_for_each(|ruled| store.pause_schedule(&ruled.name, paused))
            })
            .await
    }
}

impl Store {
    fn meet_schedules(&self, schedules: &[Ruled]) -> Result<Vec<ScheduleView>, Failure> {
        let mut meet = self.conn.prepare_cached(
            "INSERT INTO schedules (name, rule, mark) VALUES (?1, ?2, ?3)
             ON CONFLICT (name) DO UPDATE SET rule = excluded.rule, mark = max(mark, excluded.mark), held = NULL
             WHERE rule <> excluded.rule",
        )?;
        for Ruled { name, rule } in schedules {
            meet.execute((&**name, rule, self.now.0))?;
        }
        let views = schedules
            .iter()
            .map(|ruled| Ok(self.find_schedule(&ruled.name)?.unwrap_or_default()));
        views.collect()
    }

    fn find_schedule(&self, name: &str) -> Result<Option<ScheduleView>, Failure> {
        let mut find = self.conn.prepare_cached(
            "SELECT mark, held, paused, fired, jobs.id FROM schedules LEFT JOIN jobs ON jobs.handle = schedules.job
             WHERE schedules.name = ?1",
        )?;
        let mut rows = find.query([name])?;
        rows.next()?.map(view).transpose()
    }

    fn fire(&mut self, firings: &[Firing]) -> Result<Vec<Fired>, Failure> {
        self.promote()?;
        firings.iter().map(|firing| self.fire_one(firing)).collect()
    }

    fn fire_one(&mut self, firing: &Firing) -> Result<Fired, Failure> {
        let name = &*firing.schedule;
        if let Some(due) = firing.due {
            let known = self.find_schedule(name)?;
            if known.as_ref().is_some_and(|known| due <= known.mark) {
                return Ok(Fired::Known);
            }
            let known = known.unwrap_or_default();
            let left_out = match (&firing.job, firing.overlap) {
                _ if known.paused => Some(Fired::Paused),
                (None, _) => Some(Fired::LeftOut),
                (Some(_), Overlap::Allow) => None,
                (Some(_), overlap) => match known.job {
                    Some(last) if !self.last_has_ended(name)? => {
                        if overlap == Overlap::Queue {
                            self.hold_schedule(name, due)?;
                            return Ok(Fired::Waits(last));
                        }
                        Some(Fired::Overlaps(last))
                    }
                    _ => None,
                },
            };
            self.mark_schedule(name, due)?;
            if let Some(left_out) = left_out {
                return Ok(left_out);
            }
        }
        // There are no schedules of an application here.
        match firing.new_job() {
            Some(job) => Ok(Fired::Enqueued(self.enqueue_scheduled(name, job)?)),
            None => Ok(Fired::LeftOut),
        }
    }

    /// Whether the job that a schedule made last has ended, or there is none.
    fn last_has_ended(&self, name: &str) -> Result<bool, Failure> {
        let mut last = self
            .conn
            .prepare_cached("SELECT job FROM schedules WHERE name = ?1 AND job NOTNULL")?;
        let last: Option<i64> = last.query_row([name], |row| row.get(0)).optional()?;
        last.map_or(Ok(true), |handle| self.has_ended(handle))
    }

    fn enqueue_scheduled(&mut self, name: &str, job: &NewJob) -> Result<JobId, Failure> {
        let added = self.enqueue_tied(std::slice::from_ref(job), Ties::default())?;
        let id = added.first().map_or(&job.id, Enqueued::id).clone();
        let mut note = self.conn.prepare_cached(
            "INSERT INTO schedules (name, rule, mark, job, fired)
             VALUES (?1, '', ?2, (SELECT handle FROM jobs WHERE id = ?3), ?2)
             ON CONFLICT (name) DO UPDATE SET job = excluded.job, fired = excluded.fired",
        )?;
        note.execute((name, self.now.0, id.as_str()))?;
        Ok(id)
    }

    /// A due time is handled.
    fn mark_schedule(&self, name: &str, due: Unix) -> Result<(), Failure> {
        let mut mark = self.conn.prepare_cached(
            "INSERT INTO schedules (name, rule, mark) VALUES (?1, '', ?2)
             ON CONFLICT (name) DO UPDATE SET mark = excluded.mark, held = NULL",
        )?;
        mark.execute((name, due.0))?;
        Ok(())
    }

    /// A due time waits; the first one that does is kept.
    fn hold_schedule(&self, name: &str, due: Unix) -> Result<(), Failure> {
        let mut hold = self
            .conn
            .prepare_cached("UPDATE schedules SET held = ifnull(held, ?2) WHERE name = ?1")?;
        hold.execute((name, due.0))?;
        Ok(())
    }

    fn pause_schedule(&self, name: &str, paused: bool) -> Result<(), Failure> {
        let mut pause = self.conn.prepare_cached(
            "UPDATE schedules SET mark = iif(paused AND NOT ?2, ?3, mark), held = iif(?2, NULL, held), paused = ?2
             WHERE name = ?1",
        )?;
        pause.execute((name, paused, self.now.0))?;
        Ok(())
    }
}

fn view(row: &Row<'_>) -> Result<ScheduleView, Failure> {
    let id: Option<JobId> = match row.get_ref(4)? {
        rusqlite::types::ValueRef::Null => None,
        _ => Some(job_id(text(row, 4, "jobs.id")?)?),
    };
    Ok(ScheduleView {
        mark: Unix(row.get(0)?),
        held: row.get::<_, Option<i64>>(1)?.map(Unix),
        paused: row.get(2)?,
        fired: row.get::<_, Option<i64>>(3)?.map(Unix),
        job: id,
    })
}

//! Schedules beside RQ's jobs. A due time and its job are one script, so that it is fired once by any number of supervisors.

use std::sync::Arc;

use async_trait::async_trait;

use super::RqBroker;
use super::enqueue::Row;
use crate::broker::{BrokerError, Fired, Firing, Overlap, Ruled, ScheduleView, Schedules, check};
use crate::job::JobId;
use crate::time::Unix;

/// Fields of a schedule that the script answers with.
const FIELDS: usize = 5;

#[async_trait]
impl Schedules for RqBroker {
    async fn meet(&self, schedules: &[Ruled]) -> Result<Vec<ScheduleView>, BrokerError> {
        let views = self.schedules_as("meet", schedules).await?;
        Ok(views.into_iter().map(Option::unwrap_or_default).collect())
    }

    async fn look(&self, names: &[Arc<str>]) -> Result<Vec<Option<ScheduleView>>, BrokerError> {
        let ruled = |name: &Arc<str>| Ruled {
            name: Arc::clone(name),
            rule: String::new(),
        };
        let named: Vec<Ruled> = names.iter().map(ruled).collect();
        self.schedules_as("look", &named).await
    }

    async fn fire(&self, firings: Vec<Firing>) -> Result<Vec<Fired>, BrokerError> {
        self.open_still()?;
        let jobs = firings.iter().filter_map(|firing| firing.job.as_ref());
        check::new_jobs(jobs, self.options.payload_len_max)?;
        let now = Unix::now();
        let row = |firing: &Firing| firing.job.as_ref().map(|job| self.row(job, now)).transpose();
        let rows: Vec<Option<Row>> = firings.iter().map(row).collect::<Result<_, _>>()?;
        let mut fired = Vec::with_capacity(firings.len());
        for (firing, row) in firings.iter().zip(&rows) {
            fired.push(self.fire_one(firing, row.as_ref(), "", now).await?);
        }
        Ok(fired)
    }

    async fn pause(&self, schedules: &[Ruled], paused: bool) -> Result<(), BrokerError> {
        let what = if paused { "pause" } else { "resume" };
        self.schedules_as(what, schedules).await.map(drop)
    }
}

impl RqBroker {
    /// Does something with schedules, and tells what is known of them then.
    async fn schedules_as(
        &self,
        what: &str,
        schedules: &[Ruled],
    ) -> Result<Vec<Option<ScheduleView>>, BrokerError> {
        self.open_still()?;
        let mut call = self.scripts.schedules.prepare_invoke();
        call.arg(self.keys.names()).arg(what).arg(Unix::now().0);
        for Ruled { name, rule } in schedules {
            call.arg(&**name).arg(rule);
        }
        let answer: Vec<String> = self.link.run_script(&call).await?;
        answer.chunks(FIELDS).map(|fields| self.view(fields)).collect()
    }

    /// What the fields of a schedule say; nothing without a mark.
    fn view(&self, fields: &[String]) -> Result<Option<ScheduleView>, BrokerError> {
        let [mark, held, paused, job, fired] = fields else {
            return Err(self.unexpected(&fields.join(", ")));
        };
        let time = |text: &String| match text.as_str() {
            "" => Ok(None),
            text => text
                .parse()
                .map(|time| Some(Unix(time)))
                .map_err(|_| self.unexpected(text)),
        };
        let Some(mark) = time(mark)? else {
            return Ok(None);
        };
        let job = Some(job).filter(|job| !job.is_empty());
        Ok(Some(ScheduleView {
            mark,
            held: time(held)?,
            paused: paused == "1",
            job: job
                .map(|job| JobId::new(job).map_err(|_| self.unexpected(job)))
                .transpose()?,
            fired: time(fired)?,
        }))
    }

    /// Handles one due time. `cron`: the name of the cron job of RQ's whose history gets the job, or nothing.
    async fn fire_one(
        &self,
        firing: &Firing,
        row: Option<&Row>,
        cron: &str,
        now: Unix,
    ) -> Result<Fired, BrokerError> {
        let mut call = self.scripts.fire.prepare_invoke();
        call.arg(self.keys.names()).arg("").arg(0);
        if let Some(row) = row {
            row.write(&mut call);
        }
        call.arg(&*firing.schedule)
            .arg(firing.due.map_or_else(String::new, |due| due.0.to_string()))
            .arg(match firing.overlap {
                Overlap::Skip => "skip",
                Overlap::Queue => "queue",
                Overlap::Allow => "allow",
            })
            .arg(now.0)
            .arg(cron);
        let (what, job): (String, String) = self.link.run_script(&call).await?;
        let about = || JobId::new(&job).map_err(|_| self.unexpected(&job));
        Ok(match what.as_str() {
            "enqueued" => Fired::Enqueued(about()?),
            "known" => Fired::Known,
            "left_out" => Fired::LeftOut,
            "paused" => Fired::Paused,
            "overlaps" => Fired::Overlaps(about()?),
            "waits" => Fired::Waits(about()?),
            "taken" => return Err(BrokerError::IdTaken(about()?)),
            _ => return Err(self.unexpected(&what)),
        })
    }

    fn unexpected(&self, found: &str) -> BrokerError {
        BrokerError::Corrupt {
            url: self.link.endpoint.shown.clone(),
            reason: format!("a schedule has {found:?}"),
        }
    }
}

//! Schedules beside RQ's jobs. A due time and its job are one script, so that it is fired once by any number of supervisors.

use std::sync::Arc;

use async_trait::async_trait;

use super::cron::CronJob;
use super::enqueue::Row;
use super::{RqBroker, text};
use crate::broker::{
    AppSchedule, BrokerError, Fired, Firing, Make, Overlap, Ruled, ScheduleView, Schedules, check,
};
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
        check::new_jobs(
            firings.iter().filter_map(Firing::new_job),
            self.options.payload_len_max,
        )?;
        let now = Unix::now();
        let made = firings.iter().map(|firing| self.make(firing, now));
        let made: Vec<Made> = made.collect::<Result<_, _>>()?;
        let mut fired = Vec::with_capacity(firings.len());
        for (firing, made) in firings.iter().zip(&made) {
            fired.push(self.fire_one(firing, made, now).await?);
        }
        Ok(fired)
    }

    async fn of_apps(&self) -> Result<Vec<AppSchedule>, BrokerError> {
        self.open_still()?;
        self.recorded_cron_jobs().await
    }

    async fn pause(&self, schedules: &[Ruled], paused: bool) -> Result<(), BrokerError> {
        let what = if paused { "pause" } else { "resume" };
        self.schedules_as(what, schedules).await.map(drop)
    }
}

/// What a due time makes.
#[derive(Default)]
struct Made {
    /// `None`: nothing.
    row: Option<Row>,
    /// The cron job of RQ's that it is made for.
    cron: Option<Arc<CronJob>>,
}

impl RqBroker {
    /// The job of a due time.
    fn make(&self, firing: &Firing, now: Unix) -> Result<Made, BrokerError> {
        match &firing.job {
            None => Ok(Made::default()),
            Some(Make::Job(job)) => Ok(Made {
                row: Some(self.row(job, now)?),
                cron: None,
            }),
            Some(Make::OfApp) => {
                let cron = self.cron.find(&firing.schedule).ok_or_else(|| {
                    let name = &firing.schedule;
                    BrokerError::Refused(format!("the application has no cron job `{name}` any more"))
                })?;
                Ok(Made {
                    row: Some(cron.row(now)),
                    cron: Some(cron),
                })
            }
        }
    }

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

    /// Handles one due time.
    async fn fire_one(&self, firing: &Firing, made: &Made, now: Unix) -> Result<Fired, BrokerError> {
        let mut call = self.scripts.fire.prepare_invoke();
        call.arg(self.keys.names())
            .arg("")
            .arg(0)
            .arg(text::iso(now))
            .arg(text::score(now));
        if let Some(row) = &made.row {
            row.write(&mut call);
        }
        let cron = made.cron.as_deref();
        call.arg(&*firing.schedule)
            .arg(firing.due.map_or_else(String::new, |due| due.0.to_string()))
            .arg(match firing.overlap {
                Overlap::Skip => "skip",
                Overlap::Queue => "queue",
                Overlap::Allow => "allow",
            })
            .arg(now.0)
            .arg(
                cron.and_then(|cron| cron.ttl_s)
                    .map_or_else(String::new, |ttl| ttl.to_string()),
            )
            .arg(cron.map_or("", |cron| &cron.history));
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

//! What must hold for `[schedules.NAME]`.

use std::time::Duration;

use crate::config::findings::Rules;
use crate::config::values::{Config, ScheduleConfig};
use crate::job::check_name;
use crate::policy::schedule::CatchUp;

/// Shortest interval: what is more frequent is a loop, and belongs into a job.
const EVERY_MIN: Duration = Duration::from_secs(1);
/// Longest interval and jitter.
const TIME_MAX: Duration = Duration::from_secs(366 * 86_400);
/// Missed due times that one catch-up may run at the most.
const CATCH_UP_MAX: u32 = 1000;

impl Rules<'_> {
    pub(super) fn schedule(&mut self, at: &str, schedule: &ScheduleConfig, config: &Config) {
        let path = |key: &str| format!("{at}.{key}");
        let is_bad = |key: &str, rules: &Self| rules.is_bad(&path(key));
        if schedule.task.is_empty() && !is_bad("task", self) {
            let message = format!("`{at}.task` is missing; expected the task that it runs");
            self.add(&format!("{at}."), message, "for example `task = \"shop.report\"`");
        } else if let Err(error) = check_name(&schedule.task) {
            self.value(&path("task"), false, &format!("a task's name; this one {error}"));
        }
        match (&schedule.cron, schedule.every) {
            (None, None) if !is_bad("cron", self) && !is_bad("every", self) => {
                let message = format!("nothing says when `{at}` is due; expected `cron` or `every`");
                self.add(
                    &format!("{at}."),
                    message,
                    "for example `cron = \"30 2 * * *\"`, or `every = \"5m\"`",
                );
            }
            (Some(_), Some(_)) => {
                let message = format!("`{at}` has both `cron` and `every`; expected one of them");
                self.add(&path("every"), message, "");
            }
            _ => {}
        }
        let ok = |time: Duration| (EVERY_MIN..=TIME_MAX).contains(&time);
        self.value(
            &path("every"),
            schedule.every.is_none_or(ok),
            "from 1s to 366 days",
        );
        self.value(&path("jitter"), schedule.jitter <= TIME_MAX, "366 days or less");
        if let Some(every) = schedule.every {
            let hint = "with more, a run could be later than the next one";
            self.pair(
                &path("jitter"),
                schedule.jitter <= every,
                "longer than",
                &path("every"),
                hint,
            );
        }
        if schedule.cron.is_none() && schedule.every.is_some() && self.is_set(&path("time_zone")) {
            let message = format!("`{at}.time_zone` is only for `cron`: an interval has no time of day");
            self.add(&path("time_zone"), message, "");
        }
        if schedule.catch_up != CatchUp::All && self.is_set(&path("catch_up_max")) {
            let message = format!("`{at}.catch_up_max` is only for `catch_up = \"all\"`");
            self.add(&path("catch_up_max"), message, "");
        }
        let expected = format!("1 to {CATCH_UP_MAX}");
        let ok = (1..=CATCH_UP_MAX).contains(&schedule.catch_up_max);
        self.value(&path("catch_up_max"), ok, &expected);
        self.value(
            &path("timeout"),
            schedule.timeout != Some(Duration::ZERO),
            "more than 0s, or \"none\"",
        );
        self.timeout(&path("timeout"), schedule.timeout);
        self.value(
            &path("expires"),
            schedule.expires != Some(Duration::ZERO),
            "more than 0s, or \"none\"",
        );
        let fits = schedule.args.0.len() <= config.broker.max_payload;
        self.pair(&path("args"), fits, "longer than", "broker.max_payload", "");
    }
}

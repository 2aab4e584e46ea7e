//! Jobs for people: lists, one job with all that is known of it, how far a search went. Pure.

use std::time::Duration;

use crate::broker::{JobFilter, Page, Searched, StateName};
use crate::job::{JobState, JobView, QueueName};
use crate::text::{escaped, escaped_lines};
use crate::time::{Human, Unix};

use super::render::{self, age};
use super::table::{Table, one_line};

/// Characters of a line in which each column of `pool jobs` has room.
const WIDE: usize = 100;

/// `pool jobs`: a row a job, in lines of so many characters.
pub fn jobs(jobs: &[JobView], filter: &JobFilter, now: Unix, width: usize) -> String {
    let shows_state = filter.states.len() != 1;
    let shows_error = jobs.iter().any(|job| job.error.is_some());
    let mut headings = vec!["JOB"];
    headings.extend(shows_state.then_some("STATE"));
    headings.push(">WHEN");
    headings.extend(filter.queue.is_none().then_some("~QUEUE"));
    headings.push("~TASK");
    let shows_more = !shows_state || width >= WIDE;
    headings.extend(shows_more.then_some(if shows_error { "~ERROR" } else { "~ARGUMENTS" }));
    let mut table = Table::new(&headings);
    for job in jobs {
        let mut cells = vec![job.id.to_string()];
        cells.extend(shows_state.then(|| StateName::of(job).to_string()));
        cells.push(when(job, now));
        cells.extend(filter.queue.is_none().then(|| queue(job)));
        cells.push(or_dash(&job.task));
        cells.extend(shows_more.then(|| match &job.error {
            Some(error) if shows_error => one_line(&error.to_string()),
            None if shows_error => String::new(),
            _ => String::from_utf8_lossy(&job.payload).into_owned(),
        }));
        table.row(cells);
    }
    table.fit(width)
}

/// `pool dead list`: a row a dead letter.
pub fn dead_letters(jobs: &[JobView], now: Unix, width: usize) -> String {
    let mut table = Table::new(&["JOB", ">ENDED", "~QUEUE", "~TASK", "~ERROR"]);
    for job in jobs {
        let error = job.error.as_ref().map_or(String::new(), ToString::to_string);
        table.row([
            job.id.to_string(),
            when(job, now),
            queue(job),
            or_dash(&job.task),
            one_line(&error),
        ]);
    }
    table.fit(width)
}

/// How long ago it ended, or was enqueued; in what time it is due, or since when.
fn when(job: &JobView, now: Unix) -> String {
    let ago = |at: Unix| format!("{} ago", age(now.since(at)));
    match (job.due, job.ended) {
        (Some(due), _) => render::due(due, now),
        (None, Some(ended)) => ago(ended),
        // The broker does not say.
        (None, None) if job.enqueued == Unix::default() => "-".to_owned(),
        (None, None) => ago(job.enqueued),
    }
}

fn queue(job: &JobView) -> String {
    or_dash(job.queue.as_ref().map_or("", QueueName::as_str))
}

fn or_dash(text: &str) -> String {
    match text {
        "" => "-".to_owned(),
        text => one_line(text),
    }
}

/// `pool jobs show`: all that is known of a job, its runs in lines of so many characters. `running`: who runs it, if
/// somebody says so.
pub fn job(job: &JobView, running: Option<&str>, now: Unix, width: usize) -> String {
    let mut text = String::new();
    let mut fact = |name: &str, value: String| text.push_str(&format!("{name:<9} {value}\n"));
    fact("job", escaped(job.id.as_str()).into_owned());
    fact("queue", queue(job));
    fact("task", or_dash(&job.task));
    let state = StateName::of(job);
    fact(
        "state",
        running.map_or(state.to_string(), |who| format!("{state} {who}")),
    );
    if let Some(progress) = &job.progress {
        fact("progress", progress.to_string());
    }
    if job.enqueued != Unix::default() {
        fact("enqueued", moment(job.enqueued, now));
    }
    if let Some(due) = job.due {
        fact("due", format!("{due} ({})", render::due(due, now)));
    }
    if let Some(started) = job.started {
        fact("started", moment(started, now));
    }
    if let Some(ended) = job.ended {
        let ran = (state != StateName::Canceled).then(|| took(job.started, ended));
        let ran = ran
            .flatten()
            .map_or(String::new(), |took| format!(", after {took}"));
        fact("ended", format!("{}{ran}", moment(ended, now)));
    }
    for (name, count) in [("failures", job.failures), ("losses", job.losses)] {
        if let Some(count) = count {
            fact(name, count.to_string());
        }
    }
    fact("arguments", String::from_utf8_lossy(&job.payload).into_owned());
    if let Some(error) = &job.error {
        fact("error", error.to_string().replace('\n', "\n          "));
    }
    if let Some(death) = job.error.as_ref().and_then(|error| error.death.as_ref()) {
        fact("death", death.to_string());
    }
    if !job.attempts.is_empty() {
        text.push_str(&format!("\n{}", attempts(job, width)));
    }
    match &job.error {
        Some(error) if !error.detail.is_empty() => {
            text.push_str(&format!("\n{}\n", error.detail.trim_end()));
        }
        _ => {}
    }
    escaped_lines(&text).into_owned()
}

fn moment(at: Unix, now: Unix) -> String {
    format!("{at} ({} ago)", age(now.since(at)))
}

/// A row a run that did not succeed, with its number if all were counted.
fn attempts(job: &JobView, width: usize) -> String {
    let counted = job.failures.unwrap_or(0) + job.losses.unwrap_or(0);
    let before = (counted as usize).saturating_sub(job.attempts.len());
    let mut table = Table::new(&[">RUN", "STARTED", ">TOOK", "~WORKER", "~ERROR"]);
    for (number, attempt) in (before + 1..).zip(&job.attempts) {
        let known = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        table.row([
            number.to_string(),
            known(attempt.started.map(|at| at.to_string())),
            known(attempt.ended.and_then(|ended| took(attempt.started, ended))),
            known(attempt.worker.clone()),
            one_line(&attempt.error.to_string()),
        ]);
    }
    table.fit(width)
}

fn took(started: Option<Unix>, ended: Unix) -> Option<String> {
    let took = ended.since(started?);
    Some(match took.as_secs() {
        0..10 => Human(took).to_string(),
        _ => age(took),
    })
}

/// What a look went through, if it ended before it had found all or a full page; `is_first`: it began at the beginning.
///
/// `searched the newest 20000 of 1000000 waiting jobs in 200ms`
pub fn searched(page: &Page, limit: usize, took: Duration, is_first: bool) -> Option<String> {
    let next = page.next.as_ref()?;
    if page.jobs.len() >= limit {
        return None;
    }
    let is_cut = |searched: &Searched| searched.place == next.place;
    let parts: Vec<String> = page
        .searched
        .iter()
        .filter(|searched| searched.rows > 0 || is_cut(searched))
        .map(|searched| {
            let part = searched_part(searched, is_cut(searched));
            match (searched.place, is_cut(searched) && is_first) {
                (JobState::Scheduled, true) => format!("the next {part}"),
                (_, true) => format!("the newest {part}"),
                _ => part,
            }
        })
        .collect();
    let took = Human(Duration::from_millis(
        u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
    ));
    Some(format!("searched {} jobs in {took}", listed(&parts)))
}

fn searched_part(searched: &Searched, is_cut: bool) -> String {
    let place = searched.place.as_str();
    match searched.of.filter(|_| is_cut) {
        Some(of) => format!("{} of {} {place}", grouped(searched.rows), grouped(of)),
        None => format!("{} {place}", grouped(searched.rows)),
    }
}

/// `a`, `a and b`, `a, b and c`.
fn listed(parts: &[String]) -> String {
    match parts {
        [] => "no".to_owned(),
        [only] => only.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

/// A number with its thousands apart: `1,000,000`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::Cursor;
    use crate::job::{Attempt, JobError, JobId, QueueName};

    const NOW: Unix = Unix(1_772_355_900_250);

    fn of_state(state: JobState) -> JobView {
        let id = JobId::new("0199aaaa-bbbb-7ccc-8ddd-eeeeeeeeeeee").unwrap();
        JobView {
            payload: br#"{"to": "ada@example.org"}"#.to_vec(),
            enqueued: Unix(NOW.0 - 70_000),
            failures: Some(0),
            losses: Some(0),
            ..JobView::new(id, QueueName::new("mail").unwrap(), "mail.send", state)
        }
    }

    fn dead_letter() -> JobView {
        let run = |number: i64, worker: Option<&str>| Attempt {
            started: Some(Unix(NOW.0 - 70_000 + number * 1000)),
            ended: Some(Unix(NOW.0 - 69_750 + number * 1000)),
            worker: worker.map(str::to_owned),
            error: JobError::new("SMTPRecipientsRefused", "mailbox unavailable"),
        };
        JobView {
            ended: Some(Unix(NOW.0 - 65_000)),
            failures: Some(4),
            attempts: vec![
                run(1, Some("3")),
                Attempt {
                    started: None,
                    ..run(2, None)
                },
            ],
            error: Some(JobError {
                kind: "SMTPRecipientsRefused".into(),
                message: "mailbox unavailable:\n".to_owned() + &"x".repeat(99),
                detail: "Traceback (most recent call last):\n  File \"mail.py\", line 3\n".into(),
                ..JobError::default()
            }),
            ..of_state(JobState::Dead)
        }
    }

    fn of_all_kinds() -> Vec<JobView> {
        let later = JobView {
            due: Some(Unix(NOW.0 + 300_000)),
            ..of_state(JobState::Scheduled)
        };
        vec![of_state(JobState::Waiting), later, dead_letter()]
    }

    #[test]
    fn jobs_take_a_line_each_that_fits() {
        let text = jobs(&of_all_kinds(), &JobFilter::default(), NOW, 80);
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        insta::assert_snapshot!(text + &jobs(&of_all_kinds(), &JobFilter::default(), NOW, WIDE));
    }

    #[test]
    fn a_job_whose_time_has_come_is_overdue() {
        let at = |ms: i64| JobView {
            due: Some(Unix(NOW.0 + ms)),
            ..of_state(JobState::Scheduled)
        };
        assert_eq!(when(&at(300_000), NOW), "in 5m");
        assert_eq!(
            (when(&at(0), NOW), when(&at(-5_000), NOW)),
            ("overdue 0.0s".into(), "overdue 5.0s".into())
        );
        assert!(job(&at(-90_000), None, NOW, 80).contains("(overdue 1m30s)"));
    }

    #[test]
    fn what_is_asked_for_is_not_shown_again() {
        let filter = JobFilter {
            states: vec![StateName::Waiting],
            queue: Some(QueueName::new("mail").unwrap()),
            ..JobFilter::default()
        };
        insta::assert_snapshot!(jobs(&[of_state(JobState::Waiting)], &filter, NOW, 80));
    }

    #[test]
    fn dead_letters_take_a_line_each_that_fits() {
        let text = dead_letters(&[dead_letter()], NOW, 80);
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        insta::assert_snapshot!(text);
    }

    #[test]
    fn a_dead_letter_shows_everything() {
        insta::assert_snapshot!(job(&dead_letter(), None, NOW, 120));
    }

    #[test]
    fn a_job_that_ended_shows_how_long_it_ran() {
        let lines = |view: JobView| -> Vec<String> {
            let shown = job(&view, None, NOW, 120);
            let is_time = |line: &&str| line.starts_with("started") || line.starts_with("ended");
            shown.lines().filter(is_time).map(str::to_owned).collect()
        };
        let ended = JobView {
            started: Some(Unix(NOW.0 - 65_250)),
            ended: Some(Unix(NOW.0 - 65_000)),
            ..of_state(JobState::Finished)
        };
        let canceled = JobView {
            state: JobState::Dead,
            error: Some(JobError::canceled()),
            ..ended.clone()
        };
        let [started, ended] = &lines(ended)[..] else {
            panic!("two times");
        };
        assert!(started.ends_with("(1m5s ago)"), "{started}");
        assert!(ended.ends_with("(1m5s ago), after 250ms"), "{ended}");
        assert!(
            lines(canceled)[1].ends_with("ago)"),
            "that run was an earlier one"
        );
    }

    #[test]
    fn a_job_that_runs_shows_who_runs_it() {
        let who = Some("for 12s, by worker 3 (pid 4711) of pool default");
        insta::assert_snapshot!(job(&of_state(JobState::Running), who, NOW, 120));
    }

    #[test]
    fn a_search_says_how_far_it_went() {
        let went = |place, rows, of| Searched { place, rows, of };
        let until = |place| {
            let at = "1:2".to_owned();
            Some(Cursor { place, at })
        };
        let mut page = Page {
            jobs: Vec::new(),
            next: until(JobState::Waiting),
            searched: vec![
                went(JobState::Running, 12, None),
                went(JobState::Waiting, 19_988, Some(1_000_000)),
            ],
        };
        let took = Duration::from_micros(200_700);
        assert_eq!(
            searched(&page, 50, took, true).unwrap(),
            "searched 12 running and the newest 19,988 of 1,000,000 waiting jobs in 200ms"
        );
        page.searched.remove(0);
        assert_eq!(
            searched(&page, 50, took, false).unwrap(),
            "searched 19,988 of 1,000,000 waiting jobs in 200ms"
        );
        page.jobs = vec![of_state(JobState::Waiting)];
        assert_eq!(searched(&page, 1, took, true), None, "a full page is no search");
        page.next = None;
        assert_eq!(searched(&page, 50, took, true), None, "all was looked at");
    }

    #[test]
    fn thousands_stand_apart() {
        let shown = [0, 999, 1_000, 20_000, 1_234_567].map(grouped);
        assert_eq!(shown, ["0", "999", "1,000", "20,000", "1,234,567"]);
    }
}

//! Looking through the jobs of the file: each place in the order of an index, a row at a time.

use std::sync::LazyLock;

use async_trait::async_trait;
use rusqlite::Row;

use super::SqliteBroker;
use super::error::Failure;
use super::inspect::{read_view, unreadable_view};
use super::store::{Access, Store, job_id, text};
use crate::broker::BrokerError;
use crate::broker::filter::JobFilter;
use crate::broker::search::{Budget, Cursor, IdsFound, Look, Page, Search};
use crate::job::{JobState, JobView};

/// How one place is gone through.
pub(super) struct Place {
    state: JobState,
    /// Its jobs behind a position, which is ?1 and ?2, at the time ?3. Columns as [`read_view`] expects them, and behind
    /// them the two numbers of the position.
    pub(super) sql: String,
    /// The position ahead of all.
    start: [i64; 2],
    /// How many jobs it has, in the queue ?1 if that is not null.
    count: &'static str,
}

impl Place {
    /// `times`: what is shown as due and as ended. `key`: its order. Result and attempts are left out: they may be large,
    /// and no filter asks for them. So is what is stored behind a result.
    fn new(state: JobState, from: &str, times: [&str; 2], key: [&str; 2], count: &'static str) -> Self {
        let (name, [due, ended], [first, second]) = (state.as_str(), times, key);
        let (is_behind, direction, start) = match state {
            JobState::Scheduled => (">", "ASC", [i64::MIN; 2]),
            _ => ("<", "DESC", [i64::MAX; 2]),
        };
        let progress = match state {
            JobState::Running => "p.progress",
            _ => "NULL",
        };
        let is_kept = match state {
            JobState::Finished => "p.expires > ?3",
            _ => "?3 NOTNULL",
        };
        // A place without a key of two parts has one that never changes.
        let (behind, order) = match first {
            ALONE => (
                format!("?1 NOTNULL AND {second} {is_behind} ?2"),
                format!("{second} {direction}"),
            ),
            first => (
                format!("({first}, {second}) {is_behind} (?1, ?2)"),
                format!("{first} {direction}, {second} {direction}"),
            ),
        };
        let sql = format!(
            "SELECT j.handle, j.id, q.name, j.task, j.payload, j.enqueued, {due}, {ended},
                    a.failures, a.losses, NULL, a.error, '{name}', NULL, {progress}, NULL, {first}, {second}
             FROM {from} CROSS JOIN jobs j ON j.handle = p.handle CROSS JOIN queues q ON q.queue = j.queue
                  LEFT JOIN attempts a ON a.handle = p.handle
             WHERE {behind} AND {is_kept} ORDER BY {order}"
        );
        Place {
            state,
            sql,
            start,
            count,
        }
    }
}

/// The first part of a key that has only one.
const ALONE: &str = "0";

/// Where jobs can be, each with its own order: by an index of the schema, so that no row is read before its turn.
pub(super) static PLACES: LazyLock<[Place; 7]> = LazyLock::new(|| {
    let by_handle = [ALONE, "p.handle"];
    [
        Place::new(
            JobState::Running,
            "running p",
            ["NULL", "NULL"],
            by_handle,
            "SELECT count(*) FROM running WHERE ?1 ISNULL OR queue = ?1",
        ),
        Place::new(
            JobState::Waiting,
            "waiting p",
            ["NULL", "NULL"],
            ["p.queue", "p.position"],
            "SELECT sum(waiting) FROM queues WHERE ?1 ISNULL OR queue = ?1",
        ),
        Place::new(
            JobState::Blocked,
            "blocked p INDEXED BY blocked_queue",
            ["NULL", "NULL"],
            ["p.queue", "p.position"],
            "SELECT count(*) FROM blocked WHERE ?1 ISNULL OR queue = ?1",
        ),
        Place::new(
            JobState::Scheduled,
            "scheduled p INDEXED BY scheduled_due",
            ["p.due", "NULL"],
            ["p.due", "p.handle"],
            "SELECT sum(scheduled) FROM queues WHERE ?1 ISNULL OR queue = ?1",
        ),
        Place::new(
            JobState::Deferred,
            "deferred p",
            ["NULL", "NULL"],
            by_handle,
            "SELECT count(*) FROM deferred WHERE ?1 ISNULL OR true",
        ),
        Place::new(
            JobState::Dead,
            "dead p INDEXED BY dead_ended",
            ["NULL", "p.ended"],
            ["p.ended", "p.handle"],
            "SELECT count(*) FROM dead WHERE ?1 ISNULL OR true",
        ),
        Place::new(
            JobState::Finished,
            "finished p",
            ["NULL", "p.ended"],
            by_handle,
            "SELECT count(*) FROM finished WHERE ?1 ISNULL OR true",
        ),
    ]
});

/// Ids that begin like ?1 and come before ?2: by the index of all ids.
pub(super) const BEGINS_WITH: &str = "
    SELECT j.id FROM jobs j LEFT JOIN finished f ON f.handle = j.handle
    WHERE j.id >= ?1 AND j.id < ?2 AND coalesce(f.expires > ?3, 1) ORDER BY j.id LIMIT ?4";

impl Store {
    /// One look at the jobs that match.
    fn search(
        &mut self,
        filter: &JobFilter,
        after: Option<&Cursor>,
        budget: Budget,
    ) -> Result<Page, Failure> {
        let mut look = Look::begin(filter, after, &[], budget);
        while let Some(state) = look.next_place() {
            if let Some(place) = PLACES.iter().find(|place| place.state == state) {
                self.search_place(place, &mut look)?;
            }
        }
        Ok(look.end())
    }

    fn search_place(&mut self, place: &Place, look: &mut Look<'_>) -> Result<(), Failure> {
        let filter = look.filter();
        let queue = match &filter.queue {
            None => None,
            Some(name) => match self.queue(name)? {
                None => return Ok(()), // no job was ever in it
                known => known,
            },
        };
        let only_queue = queue.filter(|_| matches!(place.state, JobState::Waiting | JobState::Blocked));
        let mut at = match look.start() {
            Some(cursor) => cursor.numbers()?,
            None => [only_queue.unwrap_or(place.start[0]), place.start[1]],
        };
        let mut rows = self.conn.prepare_cached(&place.sql)?;
        let mut rows = rows.query([at[0], at[1], self.now.0])?;
        while let Some(row) = rows.next()? {
            let next = [row.get(16)?, row.get(17)?];
            let is_past = only_queue.is_some_and(|queue| queue != next[0])
                || (place.state == JobState::Dead && filter.since.is_some_and(|since| next[0] < since.0));
            if is_past {
                return Ok(());
            }
            if look.is_over() {
                let of = self.conn.prepare_cached(place.count)?;
                let of: Option<i64> = { of }.query_row([queue], |row| row.get(0))?;
                look.stop(format!("{}:{}", at[0], at[1]), of.map(i64::cast_unsigned));
                return Ok(());
            }
            at = next;
            look.count_row();
            look.offer(read_wanted(row, place.state, filter)?);
        }
        Ok(())
    }

    /// Ids that begin like this.
    fn begins_with(&self, start: &str, limit: usize) -> Result<IdsFound, Failure> {
        let end = format!("{start}{}", char::MAX);
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let mut find = self.conn.prepare_cached(BEGINS_WITH)?;
        let mut rows = find.query((start, end, self.now.0, limit))?;
        let mut ids = Vec::new();
        while let Some(row) = rows.next()? {
            ids.push(job_id(text(row, 0, "jobs.id")?)?);
        }
        Ok(IdsFound {
            ids,
            is_complete: true,
        })
    }
}

/// The job in a row, if its queue and task are wanted: else its arguments are not read. One that can't be read is shown
/// with the reason.
fn read_wanted(row: &Row<'_>, state: JobState, filter: &JobFilter) -> Result<Option<JobView>, Failure> {
    let is_wanted = |at, name, wants: &dyn Fn(&str) -> bool| text(row, at, name).map_or(true, wants);
    let is_wanted = is_wanted(2, "queues.name", &|queue| filter.wants_queue(queue))
        && is_wanted(3, "jobs.task", &|task| filter.wants_task(task));
    if !is_wanted {
        return Ok(None);
    }
    match read_view(row) {
        Ok((_, view)) => Ok(Some(view)),
        Err(failure) if failure.is_of_a_row() => {
            let view = unreadable_view(row, failure.reason())?;
            Ok(Some(JobView { state, ..view }))
        }
        Err(failure) => Err(failure),
    }
}

#[async_trait]
impl Search for SqliteBroker {
    async fn search(
        &self,
        filter: &JobFilter,
        after: Option<&Cursor>,
        budget: Budget,
    ) -> Result<Page, BrokerError> {
        let (filter, after) = (filter.clone(), after.cloned());
        let look = move |store: &mut Store| store.search(&filter, after.as_ref(), budget);
        self.engine.run(Access::Read, look).await
    }

    async fn begins_with(&self, start: &str, budget: Budget) -> Result<IdsFound, BrokerError> {
        let start = start.to_owned();
        let look = move |store: &mut Store| store.begins_with(&start, budget.jobs);
        self.engine.run(Access::Read, look).await
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::{Connection, params_from_iter};

    use super::*;
    use crate::broker::sqlite::open::MIGRATIONS;

    /// How SQLite goes about a query, a line a step.
    fn plan(database: &Connection, sql: &str) -> Vec<String> {
        let mut explain = database.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let nothing = params_from_iter(std::iter::repeat_n(0_i64, explain.parameter_count()));
        let steps = explain.query_map(nothing, |row| row.get("detail")).unwrap();
        steps.collect::<Result<_, _>>().unwrap()
    }

    #[test]
    fn each_look_goes_by_an_index_and_sorts_nothing() {
        let database = Connection::open_in_memory().unwrap();
        for migration in MIGRATIONS {
            database.execute_batch(migration).unwrap();
        }
        for sql in PLACES.iter().map(|place| place.sql.as_str()).chain([BEGINS_WITH]) {
            let plan = plan(&database, sql);
            let is_search = |step: &String| step.starts_with("SEARCH ");
            assert!(plan.len() > 1 && plan.iter().all(is_search), "{plan:#?}\n{sql}");
        }
    }
}

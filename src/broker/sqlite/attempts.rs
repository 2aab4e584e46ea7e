//! What is kept of runs that did not succeed. A job that succeeds at first leaves nothing here.

use super::control::RETURNS_MAX;
use super::error::Failure;
use super::store::Store;
use crate::job::{Attempt, JobError, RunStamp, Verdict};

impl Store {
    /// Keeps what went wrong last, and how often something did.
    pub(super) fn remember(
        &self,
        handle: i64,
        failures: u32,
        losses: u32,
        error: &JobError,
    ) -> Result<(), Failure> {
        let mut remember = self.conn.prepare_cached(
            "INSERT INTO attempts (handle, failures, losses, error) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (handle) DO UPDATE SET failures = excluded.failures, losses = excluded.losses,
                                                error = excluded.error, returned = 0",
        )?;
        remember.execute((handle, failures, losses, json(error)?))?;
        Ok(())
    }

    /// Adds a run that did not succeed to those that are kept of its job, of which something is remembered already.
    pub(super) fn note_attempt(
        &self,
        handle: i64,
        verdict: &Verdict,
        run: Option<&RunStamp>,
    ) -> Result<(), Failure> {
        let Some(attempt) = Attempt::of(verdict, run) else {
            return Ok(());
        };
        let note = format!("UPDATE attempts SET {} WHERE handle = ?1", with_attempt("?2"));
        self.conn
            .prepare_cached(&note)?
            .execute((handle, json(&attempt)?))?;
        Ok(())
    }

    /// Adds the runs that a session has lost with its holder.
    pub(super) fn note_lost(&self, session: i64) -> Result<(), Failure> {
        let attempt = Attempt::new(&JobError::supervisor_lost(), None);
        let note = format!(
            "UPDATE attempts SET {}
             WHERE handle IN (SELECT handle FROM running WHERE session = ?1 AND (begun > 0 OR returned >= ?3))",
            with_attempt("?2")
        );
        self.conn
            .prepare_cached(&note)?
            .execute((session, json(&attempt)?, RETURNS_MAX))?;
        Ok(())
    }
}

/// The assignment that adds one to column `history`, without the oldest if it is full. What is no array there begins anew.
fn with_attempt(attempt: &str) -> String {
    let full = Attempt::KEPT_MAX;
    format!(
        "history = json_insert(
             CASE WHEN NOT coalesce(json_valid(history), 0) OR json_type(history) <> 'array' THEN '[]'
                  WHEN json_array_length(history) >= {full} THEN json_remove(history, '$[0]')
                  ELSE history END,
             '$[#]', json({attempt}))"
    )
}

fn json(value: &impl serde::Serialize) -> Result<String, Failure> {
    serde_json::to_string(value).map_err(|problem| Failure::Corrupt(problem.to_string()))
}

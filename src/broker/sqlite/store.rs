//! The database as its thread sees it: transactions, numbers, queues, and what time alone changes.
//!
//! All methods but `begin` run inside a transaction, at the one instant `now` that it has. The
//! verbs of producers are in `produce.rs`, those of supervisors in `consume.rs`, those of readers
//! in `inspect.rs`.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OptionalExtension, Row};

use super::bell::Bell;
use super::error::Failure;
use crate::broker::BrokerError;
use crate::job::{JobId, QueueName};
use crate::time::{Mono, Unix};

/// Expired results deleted by one transaction: some milliseconds of work.
pub(super) const EXPIRED_MAX: u64 = 1000;

/// Scheduled jobs that one transaction moves into their queues at the most.
const PROMOTED_MAX: i64 = 2000;

/// What the settings say about jobs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    pub(super) lease: Duration,
    pub(super) result_ttl: Duration,
    pub(super) dead_ttl: Option<Duration>,
}

/// Whether a transaction changes anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Access {
    Read,
    Write,
}

/// One connection to the database, and the lease that this handle takes with its first claim.
#[derive(Debug)]
pub(super) struct Store {
    pub(super) conn: Connection,
    pub(super) bell: Bell,
    pub(super) settings: Settings,
    /// Names this handle's lease; drawn at random, so that a rolled back claim leaves no trace.
    pub(super) session: i64,
    /// The time of the running transaction.
    pub(super) now: Unix,
    /// The same by CLOCK_MONOTONIC, in milliseconds.
    pub(super) monotonic: i64,
    /// The running transaction leaves something to see for those who wait.
    pub(super) rings: bool,
    /// Limits of which the running transaction has freed a place: see [`Store::unblock`].
    pub(super) freed: RefCell<BTreeSet<String>>,
    pub(super) path: PathBuf,
    pub(super) inode: u64,
    queues: HashMap<QueueName, i64>,
}

impl Store {
    pub(super) fn new(conn: Connection, bell: Bell, settings: Settings, path: PathBuf, inode: u64) -> Self {
        Store {
            conn,
            bell,
            settings,
            session: fastrand::i64(1..i64::MAX),
            now: Unix::now(),
            monotonic: monotonic_ms(),
            rings: false,
            freed: RefCell::default(),
            path,
            inode,
            queues: HashMap::new(),
        }
    }

    /// Begins a transaction; a writing one waits for its turn among all processes.
    pub(super) fn begin(&mut self, access: Access) -> Result<(), Failure> {
        self.check_file()?;
        let begin = match access {
            Access::Read => "BEGIN",
            Access::Write => "BEGIN IMMEDIATE",
        };
        self.conn.prepare_cached(begin)?.execute([])?;
        self.rings = false;
        self.freed.get_mut().clear();
        self.now = Unix::now();
        self.monotonic = monotonic_ms();
        Ok(())
    }

    /// Commits. After an error nothing has happened.
    pub(super) fn commit(&mut self) -> Result<(), Failure> {
        let done = self.conn.prepare_cached("COMMIT")?.execute([]);
        if done.is_err() {
            self.rollback();
        }
        done?;
        Ok(())
    }

    /// Undoes the running transaction, if SQLite has not done so itself.
    pub(super) fn rollback(&mut self) {
        // A queue that the transaction made is gone with it.
        self.queues.clear();
        self.rings = false;
        if !self.conn.is_autocommit()
            && let Err(error) = self.conn.execute_batch("ROLLBACK")
        {
            tracing::error!(%error, "the broker could not roll back");
        }
    }

    /// Does a piece of work that fails alone: if a row can't be read, nothing of it is done, and the reason is returned.
    pub(super) fn alone<T>(
        &self,
        work: impl FnOnce() -> Result<T, Failure>,
    ) -> Result<Result<T, String>, Failure> {
        let run = |sql: &str| self.conn.prepare_cached(sql)?.execute([]);
        run("SAVEPOINT alone")?;
        let done = match work() {
            Err(failure) if failure.is_of_a_row() => {
                run("ROLLBACK TO alone")?;
                Err(failure.reason())
            }
            done => Ok(done?),
        };
        run("RELEASE alone")?;
        Ok(done)
    }

    /// Wakes those who wait for what the last transaction did.
    pub(super) fn ring(&self) {
        if self.rings
            && let Err(error) = self.bell.ring()
        {
            tracing::warn!(%error, "the broker could not wake other processes");
        }
    }

    /// Refuses to work on a file that has lost its name: others would never see what we write.
    pub(super) fn check_file(&self) -> Result<(), Failure> {
        if std::fs::metadata(&self.path).is_ok_and(|file| file.ino() == self.inode) {
            return Ok(());
        }
        // Closing would remove the log of whatever database has the name by now.
        let keep_log = rusqlite::config::DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE;
        self.conn.set_db_config(keep_log, true)?;
        Err(Failure::Told(BrokerError::Unreachable {
            url: super::url(&self.path),
            reason: "the file was deleted or replaced while it was in use".into(),
            hint: "put it back or restart the programs that use it",
        }))
    }

    /// Reserves `count` numbers and returns the first one.
    pub(super) fn numbers(&self, count: usize) -> Result<i64, Failure> {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        let mut reserve = self
            .conn
            .prepare_cached("UPDATE sequence SET last = last + ?1 RETURNING last")?;
        let last: i64 = reserve.query_row([count], |row| row.get(0))?;
        Ok(last - count + 1)
    }

    /// The number of a queue, if any job was ever in it.
    pub(super) fn queue(&mut self, name: &QueueName) -> Result<Option<i64>, Failure> {
        if let Some(&queue) = self.queues.get(name) {
            return Ok(Some(queue));
        }
        let mut find = self
            .conn
            .prepare_cached("SELECT queue FROM queues WHERE name = ?1")?;
        let queue: Option<i64> = find.query_row([name.as_str()], |row| row.get(0)).optional()?;
        if let Some(queue) = queue {
            self.queues.insert(name.clone(), queue);
        }
        Ok(queue)
    }

    /// The number of a queue, made if need be.
    pub(super) fn queue_or_new(&mut self, name: &QueueName) -> Result<i64, Failure> {
        if let Some(queue) = self.queue(name)? {
            return Ok(queue);
        }
        let mut make = self
            .conn
            .prepare_cached("INSERT INTO queues (name) VALUES (?1)")?;
        let queue = make.insert([name.as_str()])?;
        self.queues.insert(name.clone(), queue);
        Ok(queue)
    }

    /// Adds to a queue's counts.
    pub(super) fn count(&self, queue: i64, waiting: i64, scheduled: i64) -> Result<(), Failure> {
        if (waiting, scheduled) != (0, 0) {
            let mut count = self.conn.prepare_cached(
                "UPDATE queues SET waiting = waiting + ?2, scheduled = scheduled + ?3 WHERE queue = ?1",
            )?;
            match count.execute([queue, waiting, scheduled]) {
                // Somebody else has changed them: they can't fall below zero.
                Err(error) if error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) => {
                    self.count_again(queue)?;
                }
                done => _ = done?,
            }
        }
        Ok(())
    }

    /// Counts what a queue holds, if somebody else has changed it; what table `jobs` lacks leaves it. Says so.
    pub(super) fn count_again(&self, queue: i64) -> Result<(), Failure> {
        let mut lacking = 0;
        for lacks in [
            "DELETE FROM waiting WHERE queue = ?1 AND handle NOT IN (SELECT handle FROM jobs)",
            "DELETE FROM scheduled WHERE queue = ?1 AND handle NOT IN (SELECT handle FROM jobs)",
        ] {
            lacking += self.conn.prepare_cached(lacks)?.execute([queue])?;
        }
        let mut count = self.conn.prepare_cached(
            "UPDATE queues SET waiting = n.waiting, scheduled = n.scheduled FROM (SELECT
                 (SELECT count(*) FROM waiting WHERE queue = ?1) AS waiting,
                 (SELECT count(*) FROM scheduled WHERE queue = ?1) AS scheduled) AS n
             WHERE queue = ?1 AND (queues.waiting, queues.scheduled) <> (n.waiting, n.scheduled)
             RETURNING name",
        )?;
        let mut changed = count.query([queue])?;
        if let Some(row) = changed.next()? {
            let name = String::from_utf8_lossy(row.get_ref(0)?.as_bytes()?).into_owned();
            tracing::warn!(
                queue = %name,
                lacking,
                "another program changed the broker's file: the queue is counted again, without jobs that table `jobs` lacks"
            );
        }
        Ok(())
    }

    /// Moves scheduled jobs that are due into their queues.
    ///
    /// Each writing transaction begins with this: so positions follow the time at which jobs
    /// became ready, and the oldest of a queue is found at its end.
    pub(super) fn promote(&self) -> Result<(), Failure> {
        let mut due = self.conn.prepare_cached(
            "SELECT handle, due, queue, at_front, epoch FROM scheduled INDEXED BY scheduled_due
             WHERE due <= ?1 ORDER BY due, handle LIMIT ?2",
        )?;
        let due: Vec<(i64, i64, i64, bool, i64)> = due
            .query_map([self.now.0, PROMOTED_MAX], |row| row.try_into())?
            .collect::<Result<_, _>>()?;
        if due.is_empty() {
            return Ok(());
        }
        let number = self.numbers(due.len())?;
        let mut leave = self
            .conn
            .prepare_cached("DELETE FROM scheduled WHERE handle = ?1")?;
        let mut counts: HashMap<i64, i64> = HashMap::new();
        for (number, (handle, since, queue, at_front, epoch)) in (number..).zip(due) {
            leave.execute([handle])?;
            let position = if at_front { -number } else { number };
            self.wait(queue, position, handle, since, epoch)?;
            *counts.entry(queue).or_default() += 1;
        }
        for (queue, moved) in counts {
            self.count(queue, moved, -moved)?;
        }
        Ok(())
    }

    /// Puts a job into its queue; the caller counts it.
    pub(super) fn wait(
        &self,
        queue: i64,
        position: i64,
        handle: i64,
        since: i64,
        epoch: i64,
    ) -> Result<(), Failure> {
        let mut wait = self.conn.prepare_cached(
            "INSERT INTO waiting (queue, position, handle, since, epoch) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?;
        wait.execute([queue, position, handle, since, epoch])?;
        Ok(())
    }

    /// Gives back the claims of all sessions whose lease ran out or whose holder is dead.
    pub(super) fn recover(&mut self) -> Result<u64, Failure> {
        let mut recovered = 0;
        for session in self.ended_sessions()? {
            recovered += self.give_back(session, true)?;
        }
        Ok(recovered)
    }

    /// Other sessions whose lease ran out or whose holder is dead.
    fn ended_sessions(&self) -> Result<Vec<i64>, Failure> {
        let mut ended = Vec::new();
        for lease in self.other_leases()? {
            if self.left_ms(&lease) <= 0
                || (self.has_our_bell(&lease) && !self.bell.is_held(lease.session)?)
            {
                ended.push(lease.session);
            }
        }
        Ok(ended)
    }

    fn other_leases(&self) -> Result<Vec<Lease>, Failure> {
        let mut others = self.conn.prepare_cached(
            "SELECT session, expires, expires_monotonic, bell FROM sessions WHERE session <> ?1",
        )?;
        let lease = |row: &Row<'_>| {
            Ok(Lease {
                session: row.get(0)?,
                expires: row.get(1)?,
                expires_monotonic: row.get(2)?,
                bell: row.get(3)?,
            })
        };
        Ok(others
            .query_map([self.session], lease)?
            .collect::<Result<_, _>>()?)
    }

    /// How long a lease lasts yet, in milliseconds. Where somebody may have set the clock of the wall, a lease does not hang on it.
    fn left_ms(&self, lease: &Lease) -> i64 {
        match self.has_our_bell(lease) && lease.expires_monotonic > 0 {
            true => lease.expires_monotonic - self.monotonic,
            false => lease.expires.saturating_sub(self.now.0),
        }
    }

    fn has_our_bell(&self, lease: &Lease) -> bool {
        lease.bell == self.bell.inode().cast_signed()
    }

    /// Ends a session: its claims return to the places that they were claimed from. `lost`: its holder is no more.
    pub(super) fn give_back(&mut self, session: i64, lost: bool) -> Result<u64, Failure> {
        self.free_limits(session)?;
        self.settle_lost(session, lost)?;
        let conn = &self.conn;
        conn.prepare_cached(
            "UPDATE queues SET waiting = waiting + (
                 SELECT count(*) FROM running WHERE session = ?1 AND running.queue = queues.queue)
             WHERE queue IN (SELECT queue FROM running WHERE session = ?1)",
        )?
        .execute([session])?;
        conn.prepare_cached(
            "INSERT INTO waiting (queue, position, handle, since, epoch)
             SELECT queue, position, handle, since, epoch FROM running WHERE session = ?1",
        )?
        .execute([session])?;
        let back = conn
            .prepare_cached("DELETE FROM running WHERE session = ?1")?
            .execute([session])?;
        conn.prepare_cached("DELETE FROM sessions WHERE session = ?1")?
            .execute([session])?;
        self.unblock()?;
        self.rings |= back > 0;
        Ok(back as u64)
    }

    /// Whether a scheduled job is due, one expires, or another handle's claims are to be taken back.
    pub(super) fn is_overdue(&self) -> Result<bool, Failure> {
        let next = self.next_due()?.into_iter().chain(self.next_expiry()?).min();
        Ok(next.is_some_and(|at| at <= self.now) || !self.ended_sessions()?.is_empty())
    }

    /// When time alone changes something: a job is due, one expires, or another's lease ends.
    pub(super) fn next_change(&self) -> Result<Option<Unix>, Failure> {
        let left = self.other_leases()?.iter().map(|lease| self.left_ms(lease)).min();
        let next = self.next_due()?.into_iter().chain(self.next_expiry()?);
        Ok(next
            .chain(left.map(|left| Unix(self.now.0.saturating_add(left))))
            .min())
    }

    fn next_due(&self) -> Result<Option<Unix>, Failure> {
        let mut due = self.conn.prepare_cached("SELECT min(due) FROM scheduled")?;
        let due: Option<i64> = due.query_row([], |row| row.get(0))?;
        Ok(due.map(Unix))
    }
}

/// What the file says of the lease of another handle.
struct Lease {
    session: i64,
    expires: i64,
    expires_monotonic: i64,
    bell: i64,
}

fn monotonic_ms() -> i64 {
    millis(Mono::now().since(Mono(0)))
}

/// A duration in milliseconds, as columns hold it.
pub(super) fn millis(of: Duration) -> i64 {
    i64::try_from(of.as_millis()).unwrap_or(i64::MAX)
}

/// The duration that a column holds.
pub(super) fn duration(millis: i64) -> Duration {
    Duration::from_millis(u64::try_from(millis).unwrap_or(0))
}

/// Runs one piece of work in a transaction of its own.
pub(super) fn transact_one<R>(
    store: &mut Store,
    access: Access,
    work: impl FnOnce(&mut Store) -> Result<R, Failure>,
) -> Result<R, Failure> {
    store.begin(access)?;
    let done = work(store);
    match done {
        Ok(_) => store.commit()?,
        Err(_) => store.rollback(),
    }
    store.ring();
    done
}

/// The text in a column, which SQLite also keeps if it is no UTF-8. `name`: the column, for the error.
pub(super) fn text<'a>(row: &'a Row<'_>, at: usize, name: &str) -> Result<&'a str, Failure> {
    let text = row.get_ref(at)?.as_str();
    text.map_err(|_| Failure::Corrupt(format!("`{name}` is not UTF-8")))
}

/// An id as the database holds it.
pub(super) fn job_id(text: &str) -> Result<JobId, Failure> {
    JobId::new(text).map_err(|problem| Failure::Corrupt(format!("a job id in table `jobs` {problem}")))
}

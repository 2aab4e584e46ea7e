//! Opening the database file: making it, recognising it, bringing its schema up to date.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::Path;

use nix::errno::Errno;
use nix::sys::stat::{Mode, SFlag, mknod};
use nix::sys::statfs::{NFS_SUPER_MAGIC, SMB_SUPER_MAGIC, statfs};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::bell::Bell;
use super::error::Failure;
use super::store::{Settings, Store};
use super::{BUSY_TIMEOUT, url};
use crate::broker::BrokerError;
use crate::sys::limits::TOO_LOW;

/// Marks the file as ours, at bytes 68 to 71: "pool".
const APPLICATION_ID: i32 = i32::from_be_bytes(*b"pool");

/// Each brings the schema from the version that is its index to the next one.
pub(super) const MIGRATIONS: [&str; 9] = [
    include_str!("schema.sql"),
    include_str!("schema_2.sql"),
    include_str!("schema_3.sql"),
    include_str!("schema_4.sql"),
    include_str!("schema_5.sql"),
    include_str!("schema_6.sql"),
    include_str!("schema_7.sql"),
    include_str!("schema_8.sql"),
    include_str!("schema_9.sql"),
];

/// Pages that the write-ahead log holds before they are copied into the database: 16 MiB.
const CHECKPOINT_PAGES: i64 = 4096;
/// Size in bytes to which the write-ahead log is cut after a burst.
const LOG_LEN_KEPT: i64 = 64 << 20;
/// Page cache in KiB.
const CACHE_KIB: i64 = 32 << 10;
/// Distinct statements of this module, and some more.
const STATEMENTS: usize = 112;

const WRITABLE: &str = "choose a place where you may write, as `sqlite:PATH`, or set STATE_DIRECTORY";
const SHARED: &str = "run this as the user who owns the files, or share them (docs/embedded-broker.md)";

/// Opens the database at `path`, made with its directory if it is not there.
pub(super) fn open(path: &Path, settings: Settings, fsync: bool) -> Result<Store, BrokerError> {
    let unreachable = |problem: &str, error: &io::Error, hint| BrokerError::Unreachable {
        url: url(path),
        reason: format!("{problem}: {error}"),
        hint: match error.raw_os_error().map(Errno::from_raw) {
            Some(Errno::EMFILE | Errno::ENFILE) => TOO_LOW,
            _ => hint,
        },
    };
    make_directory(path).map_err(|error| unreachable("cannot make its directory", &error, WRITABLE))?;
    make_file(path).map_err(|error| unreachable("cannot make the file", &error, WRITABLE))?;
    warn_of_network(path);
    let bell = Bell::open(path).map_err(|error| {
        let bell = Bell::path_of(path);
        let hint = if bell.exists() { SHARED } else { WRITABLE };
        unreachable(&format!("cannot open `{}`", bell.display()), &error, hint)
    })?;
    let tell = |failure: Failure| failure.tell(&url(path));
    // No lock of its own in SQLite: the connection stays on one thread.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(path, flags).map_err(|error| tell(error.into()))?;
    configure(&conn, fsync).map_err(tell)?;
    if version(&conn, path).map_err(tell)? < MIGRATIONS.len() {
        bell.alone(|| migrate(&conn, path))
            .map_err(|error| unreachable("cannot lock the bell file beside it", &error, WRITABLE))?
            .map_err(tell)?;
    }
    let inode = std::fs::metadata(path)
        .map_err(|error| unreachable("it went away", &error, WRITABLE))?
        .ino();
    Ok(Store::new(conn, bell, settings, path.to_owned(), inode))
}

fn make_directory(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(directory) if !directory.as_os_str().is_empty() => {
            DirBuilder::new().recursive(true).mode(0o700).create(directory)
        }
        _ => Ok(()),
    }
}

/// Makes an empty file for this user alone; SQLite gives its other files the same mode.
///
/// By mknod(2), which opens nothing: closing a descriptor of the database would drop all the locks
/// that this process's other connections hold on it.
fn make_file(path: &Path) -> io::Result<()> {
    match mknod(path, SFlag::S_IFREG, Mode::S_IRUSR | Mode::S_IWUSR, 0) {
        Ok(()) | Err(Errno::EEXIST) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn warn_of_network(path: &Path) {
    if let Ok(system) = statfs(path)
        && [NFS_SUPER_MAGIC, SMB_SUPER_MAGIC].contains(&system.filesystem_type())
    {
        tracing::warn!(
            file = %path.display(),
            "the embedded broker is on a network file system: it works for one host only, and may lose jobs",
        );
    }
}

fn configure(conn: &Connection, fsync: bool) -> Result<(), Failure> {
    conn.busy_timeout(BUSY_TIMEOUT)?;
    conn.set_prepared_statement_cache_capacity(STATEMENTS);
    // Plans that do not depend on the values that are looked for: else SQLite plans again for each of them.
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    conn.pragma_update(None, "synchronous", if fsync { "FULL" } else { "NORMAL" })?;
    conn.pragma_update(None, "foreign_keys", false)?;
    conn.pragma_update(None, "temp_store", "MEMORY")?;
    conn.pragma_update(None, "cache_size", -CACHE_KIB)?;
    conn.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
    conn.pragma_update(None, "journal_size_limit", LOG_LEN_KEPT)?;
    Ok(())
}

/// The schema's version, 0 for an empty file. Refuses files that are not ours or too new.
fn version(conn: &Connection, path: &Path) -> Result<usize, Failure> {
    let number = |pragma: &str| conn.pragma_query_value(None, pragma, |row| row.get::<_, i32>(0));
    let is_empty = number("schema_version")? == 0;
    let application = number("application_id")?;
    if is_empty && application == 0 {
        return Ok(0);
    }
    if application != APPLICATION_ID {
        return Err(Failure::Corrupt("it is a database of another program".into()));
    }
    let version = number("user_version")?;
    match usize::try_from(version) {
        Ok(version) if version <= MIGRATIONS.len() => Ok(version),
        _ => Err(Failure::Told(BrokerError::Unreachable {
            url: url(path),
            reason: format!(
                "its schema has version {version}, this program knows those up to {}",
                MIGRATIONS.len()
            ),
            hint: "a newer `pool` has used it: use that version or a newer one",
        })),
    }
}

/// Brings the schema up to date, in one transaction; the caller sees to it that nobody else does.
fn migrate(conn: &Connection, path: &Path) -> Result<(), Failure> {
    let mode: String = conn.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
    if mode != "wal" {
        return Err(Failure::Told(BrokerError::Unreachable {
            url: url(path),
            reason: "its file system has no shared memory for a write-ahead log".into(),
            hint: "choose a local directory, as `sqlite:PATH`",
        }));
    }
    conn.execute_batch("BEGIN IMMEDIATE")?;
    let migrated = (|| {
        let from = version(conn, path)?;
        for migration in &MIGRATIONS[from..] {
            conn.execute_batch(migration)?;
        }
        conn.pragma_update(None, "application_id", APPLICATION_ID)?;
        conn.pragma_update(None, "user_version", MIGRATIONS.len() as i64)?;
        conn.execute_batch("COMMIT")?;
        Ok(())
    })();
    if migrated.is_err() && !conn.is_autocommit() {
        conn.execute_batch("ROLLBACK")?;
    }
    migrated
}

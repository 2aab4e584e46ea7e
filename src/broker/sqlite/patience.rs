//! How long a transaction waits for those of other processes: less once its handle is being closed.
//!
//! SQLite asks a handler each time that it finds the file locked. The kernel tells nobody when such a lock goes, so
//! the handler pauses, as SQLite's own does.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rusqlite::Connection;

use super::BUSY_TIMEOUT;
use crate::time::Mono;

/// Longest wait while the handle is being closed: what is not given up then runs out, or is seen to be nobody's.
const CLOSING_TIMEOUT: Duration = Duration::from_secs(1);
/// Pauses between two tries, in milliseconds; then the last one. Source: `sqliteDefaultBusyCallback` in SQLite.
const PAUSES_MS: [u64; 12] = [1, 2, 5, 10, 15, 20, 25, 25, 25, 50, 50, 100];

thread_local! {
    /// Whether the handle whose connection this thread owns is being closed.
    static CLOSING: RefCell<Arc<AtomicBool>> = RefCell::default();
    /// When the present wait began.
    static SINCE: Cell<Mono> = Cell::new(Mono::default());
}

/// Makes the connection, which must stay on this thread, wait until `closing` is true, and a moment from then on.
pub(super) fn set(conn: &mut Connection, closing: Arc<AtomicBool>) -> rusqlite::Result<()> {
    CLOSING.set(closing);
    conn.busy_handler(Some(waits_on))
}

/// Pauses, unless there was enough of that. `pauses`: how many there were in this wait.
fn waits_on(pauses: i32) -> bool {
    let now = Mono::now();
    if pauses == 0 {
        SINCE.set(now);
    }
    let is_closing = CLOSING.with_borrow(|closing| closing.load(Ordering::Relaxed));
    let limit = if is_closing { CLOSING_TIMEOUT } else { BUSY_TIMEOUT };
    if now.since(SINCE.get()) >= limit {
        return false;
    }
    let at = usize::try_from(pauses).unwrap_or(0).min(PAUSES_MS.len() - 1);
    std::thread::park_timeout(Duration::from_millis(PAUSES_MS[at]));
    true
}

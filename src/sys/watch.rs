//! Descriptors that the supervisor's event loop waits for. The only file here that knows the loop; templates and
//! workers block instead.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::pidfd::PidFd;

/// Registers a descriptor with the event loop. Must run inside a tokio runtime.
pub fn watch(fd: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: the descriptor is owned, so it stays open and the same until the AsyncFd is dropped.
    registered(unsafe { AsyncFd::register_with_interest(fd, interest) })
}

/// Registers a process with the event loop: it is readable when the process has ended.
pub fn watch_process(process: Arc<PidFd>) -> io::Result<AsyncFd<Arc<PidFd>>> {
    // SAFETY: a PidFd owns its one descriptor and never replaces it; the Arc keeps it.
    registered(unsafe { AsyncFd::register_with_interest(process, Interest::READABLE) })
}

fn registered<T: AsRawFd>(
    result: Result<AsyncFd<T>, tokio::io::unix::AsyncFdRegisterError<T>>,
) -> io::Result<AsyncFd<T>> {
    result.map_err(|error| error.into_parts().1)
}

//! The copy of this process, and its end. Only a template forks.

use nix::unistd::ForkResult;

use super::process::thread_count;
use super::{SysError, failed};

/// Which of the two a process is after [`fork`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forked {
    /// The one that asked; the child's number.
    Parent(i32),
    /// The copy.
    Child,
}

/// Copies this process. The caller is a template; nothing else forks without exec.
///
/// # Panics
/// When more than one thread runs: a lock held by another thread would stay locked in the copy for ever.
pub fn fork() -> Result<Forked, SysError> {
    assert_eq!(thread_count()?, 1, "only a single-threaded process may fork");
    // SAFETY: one thread, checked above, so nobody holds a lock or is amid a change during the copy.
    match unsafe { nix::unistd::fork() }.map_err(failed("fork"))? {
        ForkResult::Parent { child } => Ok(Forked::Parent(child.as_raw())),
        ForkResult::Child => Ok(Forked::Child),
    }
}

/// Ends a forked copy at once. What the process that it was copied from registered for its exit (C libraries do) is
/// that process's to do, once; buffered output is the caller's to flush.
pub fn exit_copy(code: i32) -> ! {
    // SAFETY: _exit takes an integer and does not return.
    unsafe { libc::_exit(code) }
}

#[cfg(test)]
mod tests {
    #[test]
    #[should_panic(expected = "only a single-threaded process may fork")]
    fn a_process_with_threads_may_not_fork() {
        let (_keep, running) = std::sync::mpsc::channel::<()>();
        std::thread::spawn(move || running.recv());
        let _ = super::fork();
    }
}

//! The copy of this process. Only a template calls it.

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

//! What signals do to this process.

use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicI32, Ordering};

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal, sigaction, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::{SysError, failed};

/// Every signal at its default action and none blocked: what a program expects at its start.
/// Async-signal-safe.
pub fn default_signals() -> Result<(), SysError> {
    let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    for signal in Signal::iterator() {
        if matches!(signal, Signal::SIGKILL | Signal::SIGSTOP) {
            continue;
        }
        // SAFETY: the default action runs no code of ours.
        unsafe { sigaction(signal, &default) }.map_err(failed("sigaction"))?;
    }
    unblock_signals()
}

/// Blocks SIGCHLD and makes it readable: a descriptor that wakes a poll when children have ended. It never
/// blocks a read. A forked copy that wants the signal back calls [`unblock_signals`].
pub fn child_signals() -> Result<SignalFd, SysError> {
    let mut mask = SigSet::empty();
    mask.add(Signal::SIGCHLD);
    sigprocmask(SigmaskHow::SIG_BLOCK, Some(&mask), None).map_err(failed("sigprocmask"))?;
    SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).map_err(failed("signalfd"))
}

/// The process that leaves politely, and its socket; see [`close_on_term`].
static LEAVING: (AtomicI32, AtomicI32) = (AtomicI32::new(0), AtomicI32::new(-1));

/// From now on the first SIGTERM closes the reading side of `socket`, which must stay open: what has arrived
/// can still be read, then comes the end of file. A second one ends the process at once.
///
/// No call is interrupted by it, and processes forked from this one are not affected.
pub fn close_on_term(socket: impl AsFd) -> Result<(), SysError> {
    LEAVING.0.store(nix::unistd::getpid().as_raw(), Ordering::Relaxed);
    LEAVING.1.store(socket.as_fd().as_raw_fd(), Ordering::Relaxed);
    let flags = SaFlags::SA_RESTART | SaFlags::SA_RESETHAND;
    let action = SigAction::new(SigHandler::Handler(close_reading_side), flags, SigSet::empty());
    // SAFETY: the handler makes two system calls, both async-signal-safe by POSIX, and reads two atomics.
    let answer = unsafe { sigaction(Signal::SIGTERM, &action) };
    answer.map(drop).map_err(failed("sigaction"))
}

extern "C" fn close_reading_side(_signal: libc::c_int) {
    let (pid, socket) = (&LEAVING.0, &LEAVING.1);
    // SAFETY: both calls take integers alone and touch no memory of ours.
    unsafe {
        if libc::getpid() == pid.load(Ordering::Relaxed) {
            libc::shutdown(socket.load(Ordering::Relaxed), libc::SHUT_RD);
        }
    }
}

/// Blocks no signal any more; what happens on each stays as it is.
pub fn unblock_signals() -> Result<(), SysError> {
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None).map_err(failed("sigprocmask"))
}

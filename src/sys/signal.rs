//! What signals do to this process.

use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal, sigaction, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::{SysError, failed};

/// Every signal at its default action and none blocked: what a program expects at its start.
/// Async-signal-safe.
pub fn default_signals() -> Result<(), SysError> {
    for signal in Signal::iterator() {
        if matches!(signal, Signal::SIGKILL | Signal::SIGSTOP) {
            continue;
        }
        handle(signal, SigHandler::SigDfl, SaFlags::empty())?;
    }
    unblock_signals()
}

/// A write above the limit of file sizes is an error of the write from now on, not the end of the process (SIGXFSZ).
/// Programs started by [`super::spawn`] get the default action back.
pub fn survive_file_size_limit() -> Result<(), SysError> {
    handle(Signal::SIGXFSZ, SigHandler::SigIgn, SaFlags::empty())
}

/// Whether this process was told to take no notice of a signal, as `nohup` tells of SIGHUP.
pub fn is_ignored(signal: Signal) -> bool {
    let mut found = std::mem::MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: no action is given, so nothing changes; the kernel writes one whole `sigaction`, for which there is room.
    let answer = unsafe { libc::sigaction(signal as libc::c_int, std::ptr::null(), found.as_mut_ptr()) };
    // SAFETY: all of its fields are integers, which may be zero.
    answer == 0 && unsafe { found.assume_init() }.sa_sigaction == libc::SIG_IGN
}

/// Ends this process by a signal that it handles otherwise. Returns only if the system refuses.
pub fn end_by(signal: Signal) -> Result<(), SysError> {
    handle(signal, SigHandler::SigDfl, SaFlags::empty())?;
    nix::sys::signal::raise(signal).map_err(failed("raise"))
}

/// Blocks these signals and makes them readable: the descriptor wakes a poll when one has come, and a read of
/// it never blocks. A forked copy that wants them back calls [`unblock_signals`].
pub fn readable_signals(signals: &[Signal]) -> Result<SignalFd, SysError> {
    let mask = SigSet::from_iter(signals.iter().copied());
    sigprocmask(SigmaskHow::SIG_BLOCK, Some(&mask), None).map_err(failed("sigprocmask"))?;
    SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).map_err(failed("signalfd"))
}

/// Reads the next signal that has come; `None` when there is none.
pub fn next_signal(signals: &SignalFd) -> Option<Signal> {
    let told = signals.read_signal().ok().flatten()?;
    i32::try_from(told.ssi_signo).ok()?.try_into().ok()
}

/// Lets a signal pass without effect. Programs that this process starts have its default again: they would
/// inherit an ignored signal, but no handler.
pub fn pass_over(signal: Signal) -> Result<(), SysError> {
    handle(signal, SigHandler::Handler(do_nothing), SaFlags::SA_RESTART)
}

extern "C" fn do_nothing(_signal: libc::c_int) {}

fn handle(signal: Signal, handler: SigHandler, flags: SaFlags) -> Result<(), SysError> {
    let action = SigAction::new(handler, flags, SigSet::empty());
    // SAFETY: the handlers of this file make async-signal-safe calls alone, on atomics and integers.
    let answer = unsafe { sigaction(signal, &action) };
    answer.map(drop).map_err(failed("sigaction"))
}

/// What the SIGTERM of a process that leaves politely finds; see [`leave_on_term`].
struct Leaving {
    pid: AtomicI32,
    socket: AtomicI32,
    asked: AtomicBool,
}

static LEAVING: Leaving = Leaving {
    pid: AtomicI32::new(0),
    socket: AtomicI32::new(-1),
    asked: AtomicBool::new(false),
};

/// From now on the first SIGTERM makes [`asked_to_leave`] true and ends a read that waits at `socket`, which must
/// stay open. A second one ends the process at once.
///
/// It interrupts no call of user code, and does nothing in processes forked from this one.
pub fn leave_on_term(socket: impl AsFd) -> Result<(), SysError> {
    LEAVING
        .pid
        .store(nix::unistd::getpid().as_raw(), Ordering::Relaxed);
    LEAVING
        .socket
        .store(socket.as_fd().as_raw_fd(), Ordering::Relaxed);
    let flags = SaFlags::SA_RESTART | SaFlags::SA_RESETHAND;
    handle(Signal::SIGTERM, SigHandler::Handler(close_reading_side), flags)
}

/// Whether SIGTERM has come.
pub fn asked_to_leave() -> bool {
    LEAVING.asked.load(Ordering::Relaxed)
}

extern "C" fn close_reading_side(_signal: libc::c_int) {
    // SAFETY: both calls take integers alone and touch no memory of ours.
    unsafe {
        if libc::getpid() == LEAVING.pid.load(Ordering::Relaxed) {
            LEAVING.asked.store(true, Ordering::Relaxed);
            // A read that comes after a look at `asked` and before this finds the end of file too.
            libc::shutdown(LEAVING.socket.load(Ordering::Relaxed), libc::SHUT_RD);
        }
    }
}

/// Blocks no signal any more; what happens on each stays as it is.
pub fn unblock_signals() -> Result<(), SysError> {
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None).map_err(failed("sigprocmask"))
}

//! Nothing outlives the supervisor: the kernel kills a process group when the write end of its pipe is closed.
//!
//! The supervisor holds the write end, and nobody else. However it dies, the kernel closes that end, and the
//! hang-up sends SIGKILL to the group that the read end was armed for: the process and the processes
//! that its jobs started. No thread, no polling, no help from user code. Nobody writes to the pipe.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{SysError, failed, retry};

/// `fcntl` command: the signal that announces input. Source: Linux, include/uapi/asm-generic/fcntl.h.
const F_SETSIG: libc::c_int = 10;

/// A new lifeline: the write end, for the supervisor alone, and the read end, to be armed in the process
/// whose life hangs on it. Both are closed on exec.
pub fn pair() -> Result<(OwnedFd, OwnedFd), SysError> {
    let (read, write) = nix::unistd::pipe2(OFlag::O_CLOEXEC).map_err(failed("pipe2"))?;
    Ok((write, read))
}

/// Ties the life of this process's group to `read_end`, which must stay open.
///
/// The group must be its own alone: this is called by its leader. Fails with [`SysError::SupervisorGone`] when the
/// write end was closed before: the caller exits. Async-signal-safe.
pub fn arm(read_end: impl AsFd) -> Result<(), SysError> {
    let fd = read_end.as_fd();
    let group = nix::unistd::getpgrp().as_raw();
    set(fd.as_raw_fd(), libc::F_SETOWN, -group, "fcntl(F_SETOWN)")?;
    set(fd.as_raw_fd(), F_SETSIG, libc::SIGKILL, "fcntl(F_SETSIG)")?;
    fcntl(fd, FcntlArg::F_SETFL(OFlag::O_ASYNC)).map_err(failed("fcntl(O_ASYNC)"))?;
    // Closed before it was armed, it sends no signal any more; closed after, it does.
    let mut polled = [PollFd::new(fd, PollFlags::POLLIN)];
    let ready = retry(|| poll(&mut polled, PollTimeout::ZERO)).map_err(failed("poll"))?;
    if ready > 0 {
        return Err(SysError::SupervisorGone);
    }
    Ok(())
}

fn set(
    fd: libc::c_int,
    command: libc::c_int,
    value: libc::c_int,
    call: &'static str,
) -> Result<(), SysError> {
    // SAFETY: both commands take an int and touch no memory of ours.
    let answer = unsafe { libc::fcntl(fd, command, value) };
    Errno::result(answer).map(drop).map_err(failed(call))
}

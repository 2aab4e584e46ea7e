//! A process as a descriptor: readable when it ends, whoever its parent is; never another process of the same number.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;

use super::process::raw_status;
use super::{SysError, failed, retry};

/// Refers to one process, and keeps to it after its number is used again.
#[derive(Debug)]
pub struct PidFd(OwnedFd);

/// What [`PidFd::wait`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waited {
    /// It has not ended.
    Running,
    /// It ended and is reaped: its raw wait status, as waitpid(2) gives it.
    Ended(i32),
    /// It is not our child, or was reaped before.
    NotOurs,
}

impl PidFd {
    /// Refers to the process that has this number now; `None` when there is none.
    pub fn open(pid: i32) -> Result<Option<PidFd>, SysError> {
        // SAFETY: pidfd_open takes two integers and returns a new descriptor or an error.
        let answer = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
        match Errno::result(answer) {
            Ok(fd) => {
                let fd = RawFd::try_from(fd).expect("a descriptor fits its own type");
                // SAFETY: the kernel made this descriptor for us in this call; nobody else knows it.
                Ok(Some(PidFd(unsafe { OwnedFd::from_raw_fd(fd) })))
            }
            Err(Errno::ESRCH) => Ok(None),
            Err(errno) => Err(failed("pidfd_open")(errno)),
        }
    }

    /// Sends a signal. Returns whether there was a process to receive it.
    pub fn send_signal(&self, signal: Signal) -> Result<bool, SysError> {
        // SAFETY: a live descriptor, a signal, no siginfo, no flags; no memory of ours is touched.
        let answer = unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                self.0.as_raw_fd(),
                signal as libc::c_int,
                std::ptr::null::<libc::siginfo_t>(),
                0,
            )
        };
        reached(Errno::result(answer).map(drop), "pidfd_send_signal")
    }

    /// Reaps the process if it is a child of ours that has ended. Never waits.
    pub fn wait(&self) -> Result<Waited, SysError> {
        let options = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG;
        match retry(|| waitid(Id::PIDFd(self.0.as_fd()), options)) {
            Ok(status) => Ok(raw_status(status).map_or(Waited::Running, Waited::Ended)),
            Err(Errno::ECHILD) => Ok(Waited::NotOurs),
            Err(errno) => Err(failed("waitid")(errno)),
        }
    }
}

impl AsFd for PidFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for PidFd {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// Sends a signal to a process group. Returns whether anybody was there.
///
/// To be called while a member is known to exist, dead but unreaped included: a group's number is free for
/// others only after that.
pub fn kill_group(group: i32, signal: Signal) -> Result<bool, SysError> {
    reached(killpg(Pid::from_raw(group), signal), "killpg")
}

fn reached(answer: nix::Result<()>, call: &'static str) -> Result<bool, SysError> {
    match answer {
        Ok(()) => Ok(true),
        Err(Errno::ESRCH) => Ok(false),
        Err(errno) => Err(failed(call)(errno)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use std::process::Command;

    #[test]
    fn a_killed_child_is_seen_to_end_and_reaped_once() {
        #[allow(clippy::zombie_processes)] // reaped through its pidfd
        let child = Command::new("sleep").arg("1000").spawn().unwrap();
        let pidfd = PidFd::open(i32::try_from(child.id()).unwrap()).unwrap().unwrap();
        assert_eq!(pidfd.wait().unwrap(), Waited::Running);
        assert!(pidfd.send_signal(Signal::SIGKILL).unwrap());
        let mut polled = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
        assert_eq!(poll(&mut polled, PollTimeout::from(10_000u16)).unwrap(), 1);
        assert_eq!(pidfd.wait().unwrap(), Waited::Ended(Signal::SIGKILL as i32));
        assert_eq!(pidfd.wait().unwrap(), Waited::NotOurs);
        assert!(!pidfd.send_signal(Signal::SIGKILL).unwrap());
        assert!(PidFd::open(i32::try_from(child.id()).unwrap()).unwrap().is_none());
    }
}

//! A process as a descriptor: readable when it ends, whoever its parent is; never another process of the same number.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::process::peak_memory;
use super::{SysError, failed, retry};
use crate::death::ProcessEnd;

/// Signals the group that the process leads. Source: Linux 6.9, include/uapi/linux/pidfd.h.
const PIDFD_SIGNAL_PROCESS_GROUP: libc::c_uint = 1 << 2;
/// How many generations of a process are looked at for a known ancestor.
const ANCESTORS_MAX: usize = 64;

/// Refers to one process, and keeps to it after its number is used again.
#[derive(Debug)]
pub struct PidFd {
    fd: OwnedFd,
    /// Its number, also that of the group that it leads.
    number: i32,
}

/// Why a process id that somebody names is not taken for a process of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Stranger {
    /// It is no number of a process.
    #[error("process id {0} is no number of a process")]
    NoNumber(i32),
    /// It is this process itself.
    #[error("process id {0} is the supervisor itself")]
    Ourselves(i32),
    /// It is a process that does not descend from this one.
    #[error("process {0} does not descend from the supervisor")]
    NotOurs(i32),
}

/// What [`PidFd::wait`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waited {
    /// It has not ended.
    Running,
    /// It ended and is reaped. Whether memory had run out is not known here.
    Ended(ProcessEnd),
    /// It is not our child, or was reaped before.
    NotOurs,
}

impl Waited {
    /// The raw wait status of a process that ended.
    pub fn status(&self) -> Option<i32> {
        match self {
            Waited::Ended(end) => end.status,
            Waited::Running | Waited::NotOurs => None,
        }
    }
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
                let fd = unsafe { OwnedFd::from_raw_fd(fd) };
                Ok(Some(PidFd { fd, number: pid }))
            }
            Err(Errno::ESRCH) => Ok(None),
            Err(errno) => Err(failed("pidfd_open")(errno)),
        }
    }

    /// Refers to a process that somebody else named, if it descends from this one; `None`: there is none any more.
    pub fn open_descendant(pid: i32) -> Result<Option<PidFd>, Stranger> {
        if pid <= 0 {
            return Err(Stranger::NoNumber(pid));
        }
        let own = nix::unistd::getpid().as_raw();
        if pid == own {
            return Err(Stranger::Ourselves(pid));
        }
        // First the reference, then the look: what is looked at is what is referred to, or the process has ended.
        let Ok(Some(found)) = PidFd::open(pid) else {
            return Ok(None);
        };
        let mut ancestors = std::iter::successors(Some(pid), |pid| parent_of(*pid)).take(ANCESTORS_MAX);
        if ancestors.any(|ancestor| ancestor == own) {
            return Ok(Some(found));
        }
        match found.is_reaped() {
            true => Ok(None),
            false => Err(Stranger::NotOurs(pid)),
        }
    }

    /// Its number. It may be another's once this one is reaped: for comparing and for showing.
    pub fn number(&self) -> i32 {
        self.number
    }

    /// Sends a signal. Returns whether there was a process to receive it.
    pub fn send_signal(&self, signal: Signal) -> Result<bool, SysError> {
        reached(self.signal(signal, 0), "pidfd_send_signal")
    }

    /// Signals all of the group that this process leads, or led: also when it is reaped, and never a group of others
    /// that has its number by now. Returns whether anybody was there.
    pub fn signal_group(&self, signal: Signal) -> Result<bool, SysError> {
        match self.signal(signal, PIDFD_SIGNAL_PROCESS_GROUP) {
            // Before Linux 6.9.
            Err(Errno::EINVAL) => self.signal_members(signal),
            answer => reached(answer, "pidfd_send_signal"),
        }
    }

    fn signal(&self, signal: Signal, flags: libc::c_uint) -> nix::Result<()> {
        // SAFETY: a live descriptor, a signal, no siginfo, known flags; no memory of ours is touched.
        let answer = unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                self.fd.as_raw_fd(),
                signal as libc::c_int,
                std::ptr::null::<libc::siginfo_t>(),
                flags,
            )
        };
        Errno::result(answer).map(drop)
    }

    /// Signals each member of the group by a reference of its own.
    fn signal_members(&self, signal: Signal) -> Result<bool, SysError> {
        // A process of this number that is another one leads another group.
        let is_used_again = self.is_reaped() && group_of(self.number).is_some();
        let mut reached = false;
        for pid in if is_used_again { Vec::new() } else { processes() } {
            if group_of(pid) != Some(self.number) {
                continue;
            }
            let member = PidFd::open(pid)?.filter(|_| group_of(pid) == Some(self.number));
            if let Some(member) = member {
                reached |= member.send_signal(signal)?;
            }
        }
        Ok(reached)
    }

    /// Whether it has ended and its parent knows: its number may be another's.
    fn is_reaped(&self) -> bool {
        // No signal: it is only asked whether there is somebody.
        // SAFETY: a live descriptor, no signal, no siginfo, no flags; no memory of ours is touched.
        let answer = unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                self.fd.as_raw_fd(),
                0,
                std::ptr::null::<libc::siginfo_t>(),
                0,
            )
        };
        Errno::result(answer) == Err(Errno::ESRCH)
    }

    /// Reaps the process if it is a child of ours that has ended. Never waits.
    pub fn wait(&self) -> Result<Waited, SysError> {
        // By number, since neither nix nor the C library hands on what the child used. All zero is a valid value of both.
        // SAFETY: plain integers and pointers.
        let (mut info, mut usage): (libc::siginfo_t, libc::rusage) = unsafe { std::mem::zeroed() };
        let answer = retry(|| {
            // SAFETY: a live descriptor; the kernel writes to two places of ours, which outlive the call.
            Errno::result(unsafe {
                libc::syscall(
                    libc::SYS_waitid,
                    libc::P_PIDFD,
                    self.fd.as_raw_fd(),
                    &raw mut info,
                    libc::WEXITED | libc::WNOHANG,
                    &raw mut usage,
                )
            })
        });
        match answer {
            Ok(_) => Ok(raw_status(&info).map_or(Waited::Running, |status| {
                Waited::Ended(ProcessEnd {
                    status: Some(status),
                    peak_memory: peak_memory(&usage),
                    ..ProcessEnd::default()
                })
            })),
            Err(Errno::ECHILD) => Ok(Waited::NotOurs),
            Err(errno) => Err(failed("waitid")(errno)),
        }
    }
}

/// The status as waitpid(2) gives it; `None` unless it says that the process has ended. Source: waitid(2).
fn raw_status(info: &libc::siginfo_t) -> Option<i32> {
    // SAFETY: waitid(2) fills it, or leaves the zeros.
    let status = unsafe { info.si_status() };
    match info.si_code {
        libc::CLD_EXITED => Some((status & 0xff) << 8),
        libc::CLD_KILLED => Some(status),
        libc::CLD_DUMPED => Some(status | 0x80),
        _ => None,
    }
}

impl AsFd for PidFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for PidFd {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

/// Sends a signal to a process group. Returns whether anybody was there.
///
/// To be called while a member is known to exist, dead but unreaped included: a group's number is free for
/// others only after that.
pub fn kill_group(group: i32, signal: Signal) -> Result<bool, SysError> {
    reached(killpg(Pid::from_raw(group), signal), "killpg")
}

/// A field of /proc/PID/stat by its number in proc(5), from 4 on; `None`: there is no such process.
fn stat_number(pid: i32, field: usize) -> Option<i32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name in parentheses, which may contain anything.
    let (_, rest) = stat.rsplit_once(") ")?;
    rest.split_ascii_whitespace().nth(field - 3)?.parse().ok()
}

fn parent_of(pid: i32) -> Option<i32> {
    stat_number(pid, 4).filter(|parent| *parent > 0)
}

fn group_of(pid: i32) -> Option<i32> {
    stat_number(pid, 5)
}

/// Every process that /proc shows.
fn processes() -> Vec<i32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let number = |entry: std::fs::DirEntry| entry.file_name().to_str()?.parse().ok();
    entries.filter_map(number).collect()
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
    use std::os::unix::process::CommandExt;
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
        assert_eq!(pidfd.wait().unwrap().status(), Some(Signal::SIGKILL as i32));
        assert_eq!(pidfd.wait().unwrap(), Waited::NotOurs);
        assert!(!pidfd.send_signal(Signal::SIGKILL).unwrap());
        assert!(PidFd::open(i32::try_from(child.id()).unwrap()).unwrap().is_none());
    }

    fn wait_for_end(pidfd: &PidFd) {
        let mut polled = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
        assert_eq!(poll(&mut polled, PollTimeout::from(10_000u16)).unwrap(), 1);
    }

    /// The leader of a group whose other member outlives it, and that member.
    fn group_without_leader() -> (PidFd, PidFd) {
        let script = "sleep 1000 </dev/null >/dev/null 2>&1 & echo $!";
        let mut command = Command::new("sh");
        command.args(["-c", script]).process_group(0);
        #[allow(clippy::zombie_processes)] // reaped through its pidfd
        let child = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
        let leader = PidFd::open(i32::try_from(child.id()).unwrap()).unwrap().unwrap();
        let mut printed = String::new();
        std::io::Read::read_to_string(&mut child.stdout.unwrap(), &mut printed).unwrap();
        let member = PidFd::open(printed.trim().parse().unwrap()).unwrap().unwrap();
        wait_for_end(&leader);
        assert_eq!(leader.wait().unwrap().status(), Some(0));
        (leader, member)
    }

    #[test]
    fn a_group_is_reached_after_its_leader_was_reaped() {
        let (leader, member) = group_without_leader();
        assert!(leader.signal_group(Signal::SIGKILL).unwrap());
        wait_for_end(&member);
    }

    #[test]
    fn on_an_older_kernel_each_member_of_the_group_is_reached() {
        let (leader, member) = group_without_leader();
        assert!(leader.signal_members(Signal::SIGKILL).unwrap());
        wait_for_end(&member);
    }

    #[test]
    fn only_a_descendant_is_taken_for_one() {
        let own = nix::unistd::getpid().as_raw();
        let refused = |pid| PidFd::open_descendant(pid).err();
        assert_eq!(refused(0), Some(Stranger::NoNumber(0)));
        assert_eq!(refused(-1), Some(Stranger::NoNumber(-1)));
        assert_eq!(refused(own), Some(Stranger::Ourselves(own)));
        assert_eq!(refused(1), Some(Stranger::NotOurs(1)));
        let parent = nix::unistd::getppid().as_raw();
        assert_eq!(refused(parent), Some(Stranger::NotOurs(parent)));
        let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        assert_eq!(
            PidFd::open_descendant(pid).unwrap().map(|found| found.number()),
            Some(pid)
        );
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(PidFd::open_descendant(pid).unwrap().is_none(), "it is gone");
    }
}

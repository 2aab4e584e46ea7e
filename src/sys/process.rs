//! Properties of this process, and the reaping of children.

use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::sync::OnceLock;

use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::Signal;

use super::{SysError, failed, retry};
use crate::death::ProcessEnd;

/// The limit of open files (soft) before [`raise_nofile_limit`], which children get back.
static NOFILE_BEFORE: OnceLock<u64> = OnceLock::new();

/// Makes orphans below this process its children, so that it can reap them.
pub fn set_child_subreaper() -> Result<(), SysError> {
    nix::sys::prctl::set_child_subreaper(true).map_err(failed("prctl(PR_SET_CHILD_SUBREAPER)"))
}

/// Raises the limit of open files to the highest allowed and returns it. Programs started
/// by [`super::spawn`] get the old one back: those that use select(2) rely on it.
pub fn raise_nofile_limit() -> Result<u64, SysError> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).map_err(failed("getrlimit"))?;
    NOFILE_BEFORE.get_or_init(|| soft);
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).map_err(failed("setrlimit"))?;
    Ok(hard)
}

/// Gives a child the limit of open files that we were started with. Async-signal-safe.
pub(super) fn restore_nofile_limit() -> nix::Result<()> {
    let Some(soft) = NOFILE_BEFORE.get() else {
        return Ok(());
    };
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, *soft, hard)
}

/// Makes a child that was just forked (or this process: 0) the leader of a process group of its own.
pub fn lead_group(pid: i32) -> Result<(), SysError> {
    let pid = nix::unistd::Pid::from_raw(pid);
    nix::unistd::setpgid(pid, pid).map_err(failed("setpgid"))
}

/// Sends what this process prints to these descriptors from now on.
pub fn redirect_output(stdout: impl AsFd, stderr: impl AsFd) -> Result<(), SysError> {
    nix::unistd::dup2_stdout(stdout).map_err(failed("dup2"))?;
    nix::unistd::dup2_stderr(stderr).map_err(failed("dup2"))
}

/// Reaps one child that has ended, whichever it is: its process id and its end; `None` when none has. Whether memory had
/// run out is not known here.
///
/// For a process that starts its children through this module alone: it would take the status away
/// from a `std::process::Child`.
pub fn wait_any_nohang() -> Result<Option<(i32, ProcessEnd)>, SysError> {
    let mut status = 0;
    let mut usage = MaybeUninit::<libc::rusage>::uninit();
    // nix has no wait4(2), which alone tells what the child used.
    let answer = retry(|| {
        // SAFETY: the kernel writes to two places of ours, which outlive the call.
        Errno::result(unsafe { libc::wait4(-1, &raw mut status, libc::WNOHANG, usage.as_mut_ptr()) })
    });
    match answer {
        Ok(0) => Ok(None),
        Ok(pid) => {
            // SAFETY: wait4(2) fills it for each child that it reaps.
            let usage = unsafe { usage.assume_init() };
            let end = ProcessEnd {
                status: Some(status),
                peak_memory: peak_memory(&usage),
                ..ProcessEnd::default()
            };
            Ok(Some((pid, end)))
        }
        Err(Errno::ECHILD) => Ok(None),
        Err(errno) => Err(failed("wait4")(errno)),
    }
}

/// The most memory that a process that ended had resident at once, in bytes. Source: getrusage(2): in kibibytes.
pub(super) fn peak_memory(usage: &libc::rusage) -> Option<u64> {
    u64::try_from(usage.ru_maxrss).ok().map(|kib| kib << 10)
}

/// The number of threads of this process that can still run code of ours.
///
/// A join returns when a thread has run its last instruction, which is a moment before the kernel stops counting
/// it: threads that it is taking down do not count here.
pub fn thread_count() -> Result<usize, SysError> {
    let path = "/proc/self/stat";
    let listed: usize = stat_field(20)?.parse().map_err(|error| SysError::Proc {
        path,
        reason: format!("thread count: {error}"),
    })?;
    Ok(if listed == 1 {
        1
    } else {
        1 + other_thread_names().len()
    })
}

/// The names of this process's threads beside the main one, as [`thread_count`] counts them.
pub fn other_thread_names() -> Vec<String> {
    let main = std::process::id().to_string();
    let Ok(threads) = std::fs::read_dir("/proc/self/task") else {
        return Vec::new();
    };
    let others = threads.flatten().filter(|thread| *thread.file_name() != *main);
    others
        .filter_map(|thread| std::fs::read_to_string(thread.path().join("stat")).ok())
        .filter_map(|stat| live_thread_name(&stat))
        .collect()
}

/// The name in a thread's `stat`, unless the kernel is taking it down.
fn live_thread_name(stat: &str) -> Option<String> {
    /// Flag of a task that is exiting. Source: Linux, include/linux/sched.h.
    const PF_EXITING: u32 = 0x4;
    let (head, rest) = stat.rsplit_once(") ")?;
    let (_, name) = head.split_once('(')?;
    // The rest begins with the third field of proc(5); the flags are the ninth.
    let flags: u32 = rest.split_ascii_whitespace().nth(9 - 3)?.parse().ok()?;
    (flags & PF_EXITING == 0).then(|| name.to_owned())
}

/// A field of /proc/self/stat by its number in proc(5), from 3 on.
pub(super) fn stat_field(number: usize) -> Result<String, SysError> {
    let path = "/proc/self/stat";
    let fail = |reason: String| SysError::Proc { path, reason };
    let stat = std::fs::read_to_string(path).map_err(|error| fail(error.to_string()))?;
    // The second field is the program's name in parentheses, which may contain anything.
    let (_, rest) = stat.rsplit_once(") ").ok_or_else(|| fail("no name".into()))?;
    let field = rest.split_ascii_whitespace().nth(number - 3);
    field
        .map(str::to_owned)
        .ok_or_else(|| fail(format!("no field {number}")))
}

/// A raw wait status in words: `exit status 1`, `killed by signal 9 (SIGKILL)`.
pub fn describe_status(raw: i32) -> String {
    if libc::WIFEXITED(raw) {
        return format!("exit status {}", libc::WEXITSTATUS(raw));
    }
    let signal = libc::WTERMSIG(raw);
    let core = if libc::WCOREDUMP(raw) { ", core dumped" } else { "" };
    match Signal::try_from(signal) {
        Ok(name) => format!("killed by signal {signal} ({name}{core})"),
        Err(_) => format!("killed by signal {signal}{core}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exit_status_reads_as_words() {
        assert_eq!(describe_status(0), "exit status 0");
        assert_eq!(describe_status(3 << 8), "exit status 3");
        assert_eq!(describe_status(9), "killed by signal 9 (SIGKILL)");
        assert_eq!(
            describe_status(11 | 0x80),
            "killed by signal 11 (SIGSEGV, core dumped)"
        );
        assert_eq!(describe_status(40), "killed by signal 40");
    }

    #[test]
    fn a_thread_that_is_being_taken_down_does_not_count() {
        let stat = |flags: &str| format!("7 (a) b (c) S 1 7 7 0 -1 {flags} 0 0 0");
        assert_eq!(live_thread_name(&stat("4194368")).as_deref(), Some("a) b (c"));
        assert_eq!(live_thread_name(&stat("4194372")), None);
        assert_eq!(live_thread_name("nonsense"), None);
    }

    #[test]
    fn threads_are_counted_and_named() {
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let (started, running) = std::sync::mpsc::channel();
        let thread = std::thread::Builder::new().name("culprit".into());
        let thread = thread.spawn(move || {
            started.send(()).unwrap();
            stopped.recv().unwrap_err();
        });
        running.recv().unwrap();
        assert!(thread_count().unwrap() >= 2);
        assert!(other_thread_names().contains(&"culprit".to_owned()));
        drop(stop);
        thread.unwrap().join().unwrap();
    }
}

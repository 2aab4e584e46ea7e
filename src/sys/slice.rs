//! How long a process runs in one go, as the scheduler sees it.

use nix::errno::Errno;

use super::{SysError, failed};

/// The shortest slice that the kernel grants. What leads from a job's arrival to the start of its function takes less.
/// Source: `kernel/sched/syscalls.c`, `__setparam_fair`.
const SLICE_NS: u64 = 100_000;

/// Which slices a process runs in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slices {
    /// As every process does.
    Usual,
    /// Its turn comes sooner when it wakes, and it gives way sooner when it has run for a while. Its share of the
    /// processor is the same; but where it wakes often, others are interrupted often.
    Short,
}

/// Asks that a process (0: this thread) run in such slices. What it starts runs in usual ones.
///
/// Linux 6.12 and later; an older kernel accepts and ignores it. Nothing is changed where the process has a policy of
/// its own or a nice value below 0: it comes first anyway, and what it starts would lose that.
pub fn set(pid: i32, slices: Slices) -> Result<(), SysError> {
    let mut attributes = read(pid)?;
    if attributes.sched_policy != libc::SCHED_OTHER.cast_unsigned() || attributes.sched_nice < 0 {
        return Ok(());
    }
    attributes.sched_flags = u64::from(libc::SCHED_FLAG_RESET_ON_FORK.cast_unsigned());
    attributes.sched_runtime = match slices {
        Slices::Usual => 0,
        Slices::Short => SLICE_NS,
    };
    // SAFETY: the kernel reads `size` bytes of the structure, which `read` set to its length.
    let answer = unsafe { libc::syscall(libc::SYS_sched_setattr, pid, &raw const attributes, 0) };
    Errno::result(answer).map(drop).map_err(failed("sched_setattr"))
}

fn read(pid: i32) -> Result<libc::sched_attr, SysError> {
    const LEN: u32 = size_of::<libc::sched_attr>() as u32;
    let mut attributes = libc::sched_attr {
        size: LEN,
        sched_policy: 0,
        sched_flags: 0,
        sched_nice: 0,
        sched_priority: 0,
        sched_runtime: 0,
        sched_deadline: 0,
        sched_period: 0,
    };
    // SAFETY: the kernel writes at most `LEN` bytes, the length of the structure.
    let answer = unsafe { libc::syscall(libc::SYS_sched_getattr, pid, &raw mut attributes, LEN, 0) };
    Errno::result(answer).map_err(failed("sched_getattr"))?;
    attributes.size = LEN;
    Ok(attributes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slice_ns() -> u64 {
        read(0).unwrap().sched_runtime
    }

    /// Older kernels show no slice.
    fn kernel_has_slices() -> bool {
        slice_ns() > 0
    }

    #[test]
    fn a_thread_gets_short_slices_and_those_it_starts_do_not() {
        let usual = slice_ns();
        let in_thread = || {
            set(0, Slices::Short).unwrap();
            let (short, of_started) = (slice_ns(), std::thread::spawn(slice_ns).join().unwrap());
            set(0, Slices::Usual).unwrap();
            (short, of_started, slice_ns())
        };
        let seen = std::thread::spawn(in_thread).join().unwrap();
        let short = if kernel_has_slices() { SLICE_NS } else { 0 };
        assert_eq!(seen, (short, usual, usual));
    }

    #[test]
    fn a_process_that_is_no_more_is_an_error() {
        let mut ended = std::process::Command::new("true").spawn().unwrap();
        let pid = i32::try_from(ended.id()).unwrap();
        ended.wait().unwrap();
        let errno = set(pid, Slices::Short).unwrap_err().errno();
        assert_eq!(errno, Some(Errno::ESRCH));
    }
}

//! Limits of the resources that a program may take, by setrlimit(2), and those that we ourselves may meet.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// What a user can do where the system refuses another process or another open file.
pub const TOO_LOW: &str = "the limit of processes or of open files may be too low";

/// Files that a process of ours must be allowed to open. With fewer even a small pool meets the limit in the middle of its
/// work, and tokio panics where it has none left at the start.
pub const OPEN_FILES_MIN: u64 = 64;

/// The open files that this process may have, with its soft limit raised as far as it goes.
pub fn open_files_max() -> io::Result<u64> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    Ok(hard)
}

/// What to add to an error's words: [`TOO_LOW`], if a limit is why no file could be opened.
pub(super) fn note(errno: Errno) -> String {
    match errno {
        Errno::EMFILE | Errno::ENFILE => format!("; {TOO_LOW}"),
        _ => String::new(),
    }
}

/// The same for an error of starting a process.
pub(super) fn note_of_start(error: &io::Error) -> String {
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EAGAIN) => format!("; {TOO_LOW}"),
        Some(errno) => note(errno),
        None => String::new(),
    }
}

/// What each process of a program may take; `None`: as much as we may.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ResourceLimits {
    /// Address space in bytes: an allocation above it fails.
    pub address_space: Option<u64>,
    /// Processor time in seconds: SIGXCPU at it, SIGKILL a second later.
    pub cpu_s: Option<u64>,
    /// Size of a file that it writes, in bytes: SIGXFSZ at it.
    pub file_size: Option<u64>,
}

impl ResourceLimits {
    /// Puts the limits in force in the program that this command starts.
    pub fn hold_for(self, command: &mut Command) {
        if self == ResourceLimits::default() {
            return;
        }
        // SAFETY: between fork and exec only system calls are made: no allocation, no lock.
        unsafe { command.pre_exec(move || self.put_in_force()) };
    }

    fn put_in_force(self) -> io::Result<()> {
        let both = |limit: Option<u64>| limit.map(|limit| (limit, limit));
        for (resource, limit) in [
            (Resource::RLIMIT_AS, both(self.address_space)),
            (
                Resource::RLIMIT_CPU,
                self.cpu_s.map(|limit| (limit, limit.saturating_add(1))),
            ),
            (Resource::RLIMIT_FSIZE, both(self.file_size)),
        ] {
            let Some((soft, hard)) = limit else { continue };
            // What we may not exceed ourselves, nobody may raise.
            let (_, most) = getrlimit(resource)?;
            setrlimit(resource, soft.min(most), hard.min(most))?;
        }
        Ok(())
    }
}

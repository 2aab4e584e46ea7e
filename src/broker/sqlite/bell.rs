//! The bell: a file beside the database through which its processes hear of each other.
//!
//! *Ringing* is opening the file for writing and closing it: inotify reports that as
//! `IN_CLOSE_WRITE` to all who watch, nothing reaches the disk, and it works on a full one. It is
//! rung after a commit that gave others something to see. Watching the write-ahead log instead
//! would be a race: the log is written *before* the commit can be seen (with `fsync` on,
//! milliseconds before), so that a watcher may look too early and then sleep on.
//!
//! *Death* rings as well: each process keeps the file open for writing, and the kernel closes it
//! when the process ends in whatever way. So a producer that is killed between its commit and
//! its ring is still heard, and so is the end of a supervisor that holds claims.
//!
//! *Life* can be seen: the holder of a lease keeps one byte of the file locked, at the offset of
//! its session's number. The kernel drops the lock with the process, in any container, so that
//! jobs of a killed supervisor come back at once instead of at the end of its lease.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

/// Byte that is locked while the schema is made; sessions have positive numbers.
const SCHEMA_BYTE: i64 = 0;

/// One process's hold on the bell of one database.
#[derive(Debug)]
pub(super) struct Bell {
    path: PathBuf,
    file: File,
    inode: u64,
    watch: Option<Inotify>,
}

impl Bell {
    /// The bell of the database at `database`, made if it is not there.
    pub(super) fn open(database: &Path) -> io::Result<Self> {
        let path = Bell::path_of(database);
        let file = open_for_writing(&path)?;
        let inode = file.metadata()?.ino();
        Ok(Bell {
            path,
            file,
            inode,
            watch: None,
        })
    }

    /// Where the bell of the database at `database` is.
    pub(super) fn path_of(database: &Path) -> PathBuf {
        let mut path = database.as_os_str().to_owned();
        path.push("-bell");
        path.into()
    }

    /// The file's inode: locks are comparable only on the same one.
    pub(super) fn inode(&self) -> u64 {
        self.inode
    }

    /// Wakes all who watch.
    pub(super) fn ring(&self) -> io::Result<()> {
        open_for_writing(&self.path).map(drop)
    }

    /// Begins to watch. From here on, no ring is missed.
    pub(super) fn watch(&mut self) -> io::Result<()> {
        if self.watch.is_none() {
            let watch = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
            watch.add_watch(&self.path, events())?;
            self.watch = Some(watch);
        }
        Ok(())
    }

    /// Becomes readable at a ring; `None` before [`Bell::watch`].
    pub(super) fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        self.watch.as_ref().map(AsFd::as_fd)
    }

    /// Takes note of all rings so far. Follows the file when somebody removed or replaced it.
    pub(super) fn hush(&mut self) -> io::Result<()> {
        let Some(watch) = &self.watch else {
            return Ok(());
        };
        let mut moved = false;
        loop {
            match watch.read_events() {
                Ok(events) => moved |= events.iter().any(|e| e.mask != AddWatchFlags::IN_CLOSE_WRITE),
                Err(Errno::EAGAIN) => break,
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        if moved {
            self.file = open_for_writing(&self.path)?;
            self.inode = self.file.metadata()?.ino();
            watch.add_watch(&self.path, events())?;
        }
        Ok(())
    }

    /// Locks the byte of `session` for as long as this process lives.
    pub(super) fn hold(&self, session: i64) -> io::Result<()> {
        fcntl(&self.file, FcntlArg::F_OFD_SETLK(&lock(libc::F_WRLCK, session)))?;
        Ok(())
    }

    /// Unlocks the byte of `session`.
    pub(super) fn release(&self, session: i64) -> io::Result<()> {
        fcntl(&self.file, FcntlArg::F_OFD_SETLK(&lock(libc::F_UNLCK, session)))?;
        Ok(())
    }

    /// Whether another handle, of this or another process, has the byte of `session` locked.
    pub(super) fn is_held(&self, session: i64) -> io::Result<bool> {
        let mut probe = lock(libc::F_WRLCK, session);
        fcntl(&self.file, FcntlArg::F_OFD_GETLK(&mut probe))?;
        Ok(i32::from(probe.l_type) != libc::F_UNLCK)
    }

    /// Runs `work` while no other handle runs such work; waits for its turn.
    pub(super) fn alone<R>(&self, work: impl FnOnce() -> R) -> io::Result<R> {
        let turn = lock(libc::F_WRLCK, SCHEMA_BYTE);
        while let Err(error) = fcntl(&self.file, FcntlArg::F_OFD_SETLKW(&turn)) {
            if error != Errno::EINTR {
                return Err(error.into());
            }
        }
        let done = work();
        self.release(SCHEMA_BYTE)?;
        Ok(done)
    }
}

fn events() -> AddWatchFlags {
    AddWatchFlags::IN_CLOSE_WRITE
        | AddWatchFlags::IN_ATTRIB // the last name was removed while we have it open
        | AddWatchFlags::IN_MOVE_SELF
        | AddWatchFlags::IN_DELETE_SELF
}

fn open_for_writing(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        // Others may write where the database is; nothing of theirs is made or opened.
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)
        .map_err(|error| match error.raw_os_error() {
            Some(libc::ELOOP) => {
                let path = path.display();
                io::Error::other(format!("`{path}` is a symbolic link, which is not followed"))
            }
            _ => error,
        })
}

/// A lock of one byte, for the open file (not the process: handles of one process differ).
fn lock(kind: i32, byte: i64) -> libc::flock {
    libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: byte,
        l_len: 1,
        l_pid: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    fn bells() -> (tempfile::TempDir, Bell, Bell) {
        let dir = tempfile::tempdir().unwrap();
        let database = dir.path().join("db");
        let bells = (Bell::open(&database).unwrap(), Bell::open(&database).unwrap());
        (dir, bells.0, bells.1)
    }

    fn heard(bell: &Bell, within: Duration) -> bool {
        let mut fds = [PollFd::new(bell.as_fd().unwrap(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::try_from(within).unwrap()).unwrap() > 0
    }

    const SOON: Duration = Duration::from_secs(10);

    #[test]
    fn a_ring_is_heard_by_the_others_and_heard_once() {
        let (_dir, mut listener, ringer) = bells();
        listener.watch().unwrap();
        assert!(!heard(&listener, Duration::ZERO));
        ringer.ring().unwrap();
        assert!(heard(&listener, SOON));
        listener.hush().unwrap();
        assert!(!heard(&listener, Duration::ZERO));
    }

    #[test]
    fn a_planted_link_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("target");
        std::os::unix::fs::symlink(&target, dir.path().join("db-bell")).unwrap();
        let said = Bell::open(&dir.path().join("db")).unwrap_err().to_string();
        assert!(said.contains("symbolic link"), "{said}");
        assert!(!target.exists());
    }

    #[test]
    fn the_end_of_a_process_rings() {
        let (_dir, mut listener, other) = bells();
        listener.watch().unwrap();
        drop(other); // as the kernel does to a killed one
        assert!(heard(&listener, SOON));
    }

    #[test]
    fn a_removed_bell_is_followed() {
        let (_dir, mut listener, ringer) = bells();
        listener.watch().unwrap();
        std::fs::remove_file(&listener.path).unwrap();
        assert!(heard(&listener, SOON));
        listener.hush().unwrap();
        listener.hush().unwrap();
        ringer.ring().unwrap();
        assert!(heard(&listener, SOON));
    }

    #[test]
    fn a_lock_is_seen_by_the_others_while_its_holder_lives() {
        let (_dir, holder, other) = bells();
        assert!(!other.is_held(7).unwrap());
        holder.hold(7).unwrap();
        assert!(other.is_held(7).unwrap());
        assert!(!other.is_held(8).unwrap());
        drop(holder);
        assert!(!other.is_held(7).unwrap());
    }
}

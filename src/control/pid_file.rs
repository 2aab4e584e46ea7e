//! Files that hold a process id, as `SOCKET.lock` does and the file of `--pid`.
//!
//! They may lie where others can write. So no symbolic link is followed, and nothing is written over that is not
//! such a file.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

/// Bytes of a process id with its line break, and room to spare.
const LEN_MAX: usize = 24;

/// Opens such a file, made with this mode if it is not there.
///
/// # Errors
/// What the system says; a symbolic link; something that is no such file.
pub fn open(path: &Path, mode: u32) -> io::Result<File> {
    let opened = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(mode)
        // A named pipe must not hold us up.
        .custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK)
        .open(path);
    let file = opened.map_err(|error| match error.raw_os_error() {
        Some(nix::libc::ELOOP) => io::Error::other("it is a symbolic link, which is not followed"),
        _ => error,
    })?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    let text = contents(&file)?;
    if !text.trim().is_empty() && process_id(&text).is_none() {
        return Err(io::Error::other(
            "it holds something else than a process id, and is left alone",
        ));
    }
    Ok(file)
}

/// The process id in such a file, if there is one.
pub fn read(file: &File) -> Option<i32> {
    process_id(&contents(file).ok()?)
}

/// Puts the id of this process into the file, and nothing else: shells read it whole.
pub fn write(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    write!(file, "{}", std::process::id())
}

fn process_id(text: &str) -> Option<i32> {
    text.trim().parse().ok().filter(|pid| *pid > 0)
}

/// The text of the file, longer than any process id if it holds something else.
fn contents(file: &File) -> io::Result<String> {
    let mut bytes = [0; LEN_MAX];
    let len = file.read_at(&mut bytes, 0)?;
    Ok(String::from_utf8_lossy(&bytes[..len]).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_id_is_written_over_another() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pid");
        std::fs::write(&path, "4711").unwrap();
        let mut file = open(&path, 0o600).unwrap();
        assert_eq!(read(&file), Some(4711));
        write(&mut file).unwrap();
        assert_eq!(
            read(&open(&path, 0o600).unwrap()),
            i32::try_from(std::process::id()).ok()
        );
    }

    #[test]
    fn what_others_have_put_there_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (precious, link, absent) = (dir.path().join("a"), dir.path().join("b"), dir.path().join("c"));
        std::fs::write(&precious, "4711 reasons to keep this file").unwrap();
        let said = open(&precious, 0o600).unwrap_err().to_string();
        assert!(said.contains("something else than a process id"), "{said}");
        for target in [&precious, &absent] {
            std::os::unix::fs::symlink(target, &link).unwrap();
            let said = open(&link, 0o600).unwrap_err().to_string();
            assert!(said.contains("symbolic link"), "{said}");
            std::fs::remove_file(&link).unwrap();
        }
        assert!(!absent.exists());
        assert_eq!(
            std::fs::read_to_string(&precious).unwrap(),
            "4711 reasons to keep this file"
        );
        assert!(open(dir.path(), 0o600).is_err());
    }
}

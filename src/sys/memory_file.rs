//! Files that are in memory alone.

use std::ffi::CStr;
use std::fs::File;
use std::os::fd::{FromRawFd, RawFd};

use nix::errno::Errno;
use nix::libc;

use super::SysError;

/// A file without a place in any directory, gone with its last descriptor, which a started program does not get.
///
/// By the number of memfd_create(2): the C library has a function for it since glibc 2.27, and the program runs with 2.17.
pub fn memory_file(name: &CStr) -> Result<File, SysError> {
    // SAFETY: the name ends with a zero byte and outlives the call, which keeps no pointer to it.
    let answer = unsafe { libc::syscall(libc::SYS_memfd_create, name.as_ptr(), libc::MFD_CLOEXEC) };
    let call = |errno| SysError::Call {
        call: "memfd_create",
        errno,
    };
    let descriptor = Errno::result(answer).map_err(call)?;
    let descriptor = RawFd::try_from(descriptor).map_err(|_| call(Errno::EBADF))?;
    // SAFETY: the call has just opened it, and nobody else knows it.
    Ok(unsafe { File::from_raw_fd(descriptor) })
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Seek, Write};

    use super::*;

    #[test]
    fn what_was_written_is_read_again() {
        let mut file = memory_file(c"test").unwrap();
        file.write_all(b"some text").unwrap();
        file.rewind().unwrap();
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "some text");
    }
}

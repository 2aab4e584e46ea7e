//! What `ps` and `top` show of this process: its role, its pool and its state.

use std::ffi::CString;
use std::sync::atomic::{AtomicBool, Ordering};

use super::process::stat_field;
use super::{SysError, failed};

static CLAIMED: AtomicBool = AtomicBool::new(false);

/// The memory that the kernel shows as this process's command line: where its arguments stood at its start.
///
/// There is one in a process; a forked copy goes on with its own. Writing it changes what
/// `std::env::args` returns, so arguments are read before.
#[derive(Debug)]
pub struct Title {
    area: *mut u8,
    len: usize,
    used: usize,
}

impl Title {
    /// Takes the area; `None` when it is taken already or the kernel does not say where it is.
    pub fn claim() -> Option<Title> {
        let start: usize = stat_field(48).ok()?.parse().ok()?;
        let end: usize = stat_field(49).ok()?.parse().ok()?;
        if start == 0 || end <= start || CLAIMED.swap(true, Ordering::Relaxed) {
            return None;
        }
        Some(Title {
            area: std::ptr::with_exposed_provenance_mut(start),
            len: end - start,
            used: end - start,
        })
    }

    /// Shows `parts`, one after the other, cut where the area ends. No system call.
    pub fn set(&mut self, parts: &[&str]) {
        // The last byte stays zero: the kernel would else read on into the environment.
        let room = self.len - 1;
        let mut at = 0;
        for part in parts {
            let part = &part.as_bytes()[..part.len().min(room - at)];
            // SAFETY: `at + part.len() <= len - 1`, and the kernel mapped `area..area + len` readable and
            // writable for this process's life. `claim` gives it out once, so nobody else writes it. What reads
            // it (`std::env::args`) takes bytes up to a zero, and the last byte is one.
            unsafe { std::ptr::copy_nonoverlapping(part.as_ptr(), self.area.add(at), part.len()) };
            at += part.len();
        }
        if at < self.used {
            // SAFETY: as above; `used <= len`.
            unsafe { std::ptr::write_bytes(self.area.add(at), 0, self.used - at) };
        }
        self.used = at;
    }
}

/// Sets the short name (15 bytes) that `top` and the kernel's log show.
pub fn set_name(name: &str) -> Result<(), SysError> {
    let name: Vec<u8> = name.bytes().filter(|byte| *byte != 0).take(15).collect();
    let name = CString::new(name).expect("zero bytes were removed");
    nix::sys::prctl::set_name(&name).map_err(failed("prctl(PR_SET_NAME)"))
}

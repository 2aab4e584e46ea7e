//! The terminal that this process was started from, if any.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;

/// Whether this process has a controlling terminal and belongs to the group that reads from it: whoever started it
/// sits before it. A process of a shell's background, of a service manager or of cron does not.
pub fn is_in_foreground() -> bool {
    let Some(terminal) = controlling_terminal() else {
        return false;
    };
    nix::unistd::tcgetpgrp(terminal).is_ok_and(|group| group == nix::unistd::getpgrp())
}

/// Whether this process has a controlling terminal. The kernel takes it away when the terminal is closed, before
/// anybody hears of that by SIGHUP.
pub fn has_terminal() -> bool {
    controlling_terminal().is_some()
}

/// `/dev/tty` can't be opened without one (ENXIO). Source: tty(4).
fn controlling_terminal() -> Option<File> {
    OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOCTTY | libc::O_NONBLOCK)
        .open("/dev/tty")
        .ok()
}

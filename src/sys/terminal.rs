//! The terminal that this process was started from, if any.

use std::fs::{File, OpenOptions};
use std::io::{Read, Stdin, stdin};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};

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

/// The keys of the terminal on standard input, as they are pressed: not shown, and ^C among them. The terminal is as
/// before once this is dropped.
#[derive(Debug)]
pub struct Keys {
    terminal: Stdin,
    before: Termios,
}

impl Keys {
    /// `None`: standard input is no terminal, or another process group reads from it.
    pub fn open() -> Option<Self> {
        // Who changes a terminal from the background is stopped by SIGTTOU.
        if !is_in_foreground() {
            return None;
        }
        let terminal = stdin();
        let before = tcgetattr(&terminal).ok()?;
        let mut by_key = before.clone();
        by_key
            .local_flags
            .remove(LocalFlags::ICANON | LocalFlags::ECHO | LocalFlags::ISIG);
        tcsetattr(&terminal, SetArg::TCSANOW, &by_key).ok()?;
        Some(Keys { terminal, before })
    }

    /// The key that is pressed within this time, as a byte; the end of input counts as ^D.
    pub fn pressed_within(&self, time: Duration) -> Option<u8> {
        let mut input = [PollFd::new(self.terminal.as_fd(), PollFlags::POLLIN)];
        // A signal, such as that to go on after a stop, ends the wait as well.
        poll(&mut input, timeout(time)).ok().filter(|ready| *ready > 0)?;
        let mut key = [0];
        match self.terminal.lock().read(&mut key) {
            Ok(1) => Some(key[0]),
            _ => Some(4),
        }
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing.
        let _ = tcsetattr(&self.terminal, SetArg::TCSANOW, &self.before);
    }
}

/// Waits for this time, or for a signal.
pub fn pause(time: Duration) {
    let _ = poll(&mut [], timeout(time));
}

fn timeout(time: Duration) -> PollTimeout {
    PollTimeout::try_from(time).unwrap_or(PollTimeout::MAX)
}

//! Signals become inputs.

use std::time::Duration;

use nix::sys::signal::Signal::SIGHUP;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::UnboundedSender;

use super::input::{Input, Signal};
use crate::sys::{self, process, terminal};
use crate::time::Mono;

/// A TERM or INT that follows the first one within this time is the same wish: `timeout` of coreutils sends
/// two, one to the process and one to its group.
const SAME_STOP: Duration = Duration::from_secs(1);

const MEANING: [(SignalKind, Signal); 8] = [
    (SignalKind::terminate(), Signal::Terminate),
    (SignalKind::interrupt(), Signal::Interrupt),
    (SignalKind::quit(), Signal::Quit),
    (SignalKind::hangup(), Signal::Hangup),
    (SignalKind::user_defined1(), Signal::Status),
    (SignalKind::from_raw(libc::SIGTTIN), Signal::More),
    (SignalKind::from_raw(libc::SIGTTOU), Signal::Less),
    (SignalKind::child(), Signal::Child),
];

/// Listens to every signal that means something, from now on.
pub(super) fn listen(inputs: &UnboundedSender<Input>) -> std::io::Result<Signals> {
    // First: to listen changes what SIGHUP does.
    let signals = Signals::new();
    for (kind, meaning) in MEANING {
        let mut stream = signal(kind)?;
        let inputs = inputs.clone();
        tokio::spawn(async move {
            while stream.recv().await.is_some() && inputs.send(Input::Signal(meaning)).is_ok() {}
        });
    }
    Ok(signals)
}

/// What the signals before this one say about it.
#[derive(Debug)]
pub(super) struct Signals {
    /// When the first TERM or INT came.
    asked_to_stop: Option<Mono>,
    /// It was started in the foreground of a terminal, and SIGHUP was not ignored then (`nohup`).
    ends_with_terminal: bool,
}

impl Signals {
    fn new() -> Self {
        Signals {
            asked_to_stop: None,
            ends_with_terminal: terminal::is_in_foreground() && !sys::signal::is_ignored(SIGHUP),
        }
    }

    /// Whether this TERM or INT is the first one over again: `timeout` and some service managers signal a process and
    /// then its group, so that one wish arrives twice.
    pub fn repeats_a_stop(&mut self, now: Mono) -> bool {
        match self.asked_to_stop {
            Some(first) => now.since(first) < SAME_STOP,
            None => {
                self.asked_to_stop = Some(now);
                false
            }
        }
    }

    /// Whether a SIGHUP means that the terminal was closed. Otherwise somebody asks for a reload.
    pub fn terminal_is_closed(&self) -> bool {
        self.ends_with_terminal && !terminal::has_terminal()
    }
}

/// Reaps every child that ended. One process reaps, in one place: workers of a dead template are our children
/// too, and so are orphans that jobs left behind.
pub(super) fn reap(inputs: &UnboundedSender<Input>) {
    while let Ok(Some((pid, end))) = process::wait_any_nohang() {
        let _ = inputs.send(Input::Reaped { pid, end });
    }
}

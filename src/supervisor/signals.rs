//! Signals become inputs.

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::UnboundedSender;

use super::input::{Input, Signal};
use crate::sys::process;

const MEANING: [(SignalKind, Signal); 8] = [
    (SignalKind::terminate(), Signal::Stop),
    (SignalKind::interrupt(), Signal::Stop),
    (SignalKind::quit(), Signal::Quit),
    (SignalKind::hangup(), Signal::Reload),
    (SignalKind::user_defined1(), Signal::Status),
    (SignalKind::from_raw(libc::SIGTTIN), Signal::More),
    (SignalKind::from_raw(libc::SIGTTOU), Signal::Less),
    (SignalKind::child(), Signal::Child),
];

/// Listens to every signal that means something, from now on.
pub(super) fn listen(inputs: &UnboundedSender<Input>) -> std::io::Result<()> {
    for (kind, meaning) in MEANING {
        let mut stream = signal(kind)?;
        let inputs = inputs.clone();
        tokio::spawn(async move {
            while stream.recv().await.is_some() && inputs.send(Input::Signal(meaning)).is_ok() {}
        });
    }
    Ok(())
}

/// Reaps every child that ended. One process reaps, in one place: workers of a dead template are our children
/// too, and so are orphans that jobs left behind.
pub(super) fn reap(inputs: &UnboundedSender<Input>) {
    while let Ok(Some((pid, status))) = process::wait_any_nohang() {
        let _ = inputs.send(Input::Reaped { pid, status });
    }
}

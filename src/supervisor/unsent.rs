//! Packets for which a worker's socket had no room yet.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;

use crate::sys::socket::{self, Sent, Wait};
use crate::sys::watch::watch;

/// They wait in order.
#[derive(Debug, Default)]
pub(super) struct Unsent {
    packets: std::sync::Mutex<VecDeque<Vec<u8>>>,
    added: Notify,
}

impl Unsent {
    /// Those that wait.
    pub fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<Vec<u8>>> {
        self.packets
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// More wait: [`flush`] is to send them.
    pub fn wake(&self) {
        self.added.notify_one();
    }
}

/// Sends what did not fit before, as the worker reads; returns only when the socket is broken.
pub(super) async fn flush(socket: &AsyncFd<OwnedFd>, unsent: &Unsent) -> std::io::Result<()> {
    loop {
        while unsent.lock().is_empty() {
            unsent.added.notified().await;
        }
        // Room is waited for only where there was none: who always does is woken by each packet that a worker reads.
        let full = watch(socket.get_ref().try_clone()?, Interest::WRITABLE)?;
        while !unsent.lock().is_empty() {
            let mut guard = full.writable().await?;
            if !send_all(full.get_ref(), &mut unsent.lock()) {
                guard.clear_ready();
            }
        }
    }
}

/// Returns whether there was room for all of them.
fn send_all(socket: &OwnedFd, packets: &mut VecDeque<Vec<u8>>) -> bool {
    while let Some(packet) = packets.front() {
        match socket::send(socket, packet, Wait::Never) {
            Ok(Sent::Full) => return false,
            Ok(Sent::Whole | Sent::Closed) | Err(_) => {
                packets.pop_front();
            }
        }
    }
    true
}

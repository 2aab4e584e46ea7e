//! Sleeping until a time of the wall clock, whatever happens to that clock meanwhile.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::time::{TimeSpec, TimeValLike};
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::sys::watch::watch;
use crate::time::Unix;

/// A timer of the wall clock. It counts while the host sleeps, and wakes early when the clock is set.
#[derive(Debug)]
pub(super) struct WallTimer {
    timer: TimerFd,
    /// A duplicate of its descriptor, which becomes readable.
    expired: AsyncFd<OwnedFd>,
}

impl WallTimer {
    /// Must be called inside a tokio runtime.
    pub fn new() -> io::Result<Self> {
        let flags = TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK;
        let timer = TimerFd::new(ClockId::CLOCK_REALTIME, flags)?;
        let expired = watch(timer.as_fd().try_clone_to_owned()?, Interest::READABLE)?;
        Ok(WallTimer { timer, expired })
    }

    /// Waits until this time, or until the clock is set; for ever without a time. May be dropped at any moment.
    pub async fn until(&mut self, at: Option<Unix>) -> io::Result<()> {
        let Some(at) = at else {
            return std::future::pending().await;
        };
        // A time of zero would disarm it.
        let at = Expiration::OneShot(TimeSpec::milliseconds(at.0.max(1)));
        let flags = TimerSetTimeFlags::TFD_TIMER_ABSTIME | TimerSetTimeFlags::TFD_TIMER_CANCEL_ON_SET;
        self.timer.set(at, flags)?;
        loop {
            let mut ready = self.expired.readable().await?;
            let read = self.timer.wait();
            ready.clear_ready();
            match read {
                // Canceled: the clock was set. Source: timerfd_create(2).
                Ok(()) | Err(Errno::ECANCELED) => return Ok(()),
                Err(Errno::EAGAIN) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn it_wakes_at_its_time_and_at_once_for_one_that_has_passed() {
        let mut timer = WallTimer::new().unwrap();
        let at = Unix::now() + Duration::from_millis(30);
        timer.until(Some(at)).await.unwrap();
        assert!(Unix::now() >= at);
        timer.until(Some(Unix(0))).await.unwrap();
        timer.until(Some(at)).await.unwrap();
    }
}

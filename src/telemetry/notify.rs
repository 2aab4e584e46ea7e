//! What systemd hears of a service of `Type=notify`: readiness, status, watchdog, reload, stop.
//!
//! Without `NOTIFY_SOCKET` in the environment everything here does nothing. A failure to notify is
//! logged and otherwise ignored: the service manager draws its own conclusions from silence.

use std::time::Duration;

use sd_notify::NotifyState;

use crate::time::Mono;

/// The app is loaded and jobs are served.
pub fn ready() {
    send(&[NotifyState::Ready]);
}

/// One line about the state, shown by `systemctl status`: `4 workers, 2 busy, 12 waiting`.
pub fn status(text: &str) {
    send(&[NotifyState::Status(text)]);
}

/// A reload has begun; [`ready`] ends it. `now` tells systemd which reload is meant.
pub fn reloading(now: Mono) {
    let micros = i128::from(now.0 / 1000);
    send(&[NotifyState::Reloading, NotifyState::MonotonicUsec(micros)]);
}

/// The service is on its way out.
pub fn stopping() {
    send(&[NotifyState::Stopping]);
}

/// A sign of life, to be given each [`watchdog_interval`].
pub fn watchdog() {
    send(&[NotifyState::Watchdog]);
}

/// How often to give a sign of life: half of what systemd allows (`WATCHDOG_USEC`); `None`: nobody waits for one.
pub fn watchdog_interval() -> Option<Duration> {
    sd_notify::watchdog_enabled()
        .map(|allowed| allowed / 2)
        .filter(|interval| !interval.is_zero())
}

fn send(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "cannot notify the service manager");
    }
}

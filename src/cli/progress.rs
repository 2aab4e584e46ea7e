//! Progress of long enqueues and waits: on standard error, on a terminal only, and only when it takes a while.

use std::future::Future;
use std::io::IsTerminal;
use std::pin::pin;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// What is over sooner than this shows no progress.
const DELAY: Duration = Duration::from_millis(500);

/// From one picture to the next while nothing advances.
const FRAME: Duration = Duration::from_millis(200);

/// A bar that counts jobs; gone when dropped.
pub struct Progress {
    bar: ProgressBar,
    is_terminal: bool,
}

impl Progress {
    /// Counts up to `total` jobs; `what` is happening to them, as in `enqueued`.
    pub fn new(total: u64, what: &'static str) -> Self {
        let template = if total > 1 {
            "{spinner} {pos} of {len} {msg} [{bar:30}] {elapsed}"
        } else {
            "{spinner} {msg} for {elapsed}"
        };
        Progress::hidden(Some(total), template, what)
    }

    /// Counts jobs of which nobody knows how many there will be.
    pub fn counting(what: &'static str) -> Self {
        Progress::hidden(None, "{spinner} {pos} {msg} for {elapsed}", what)
    }

    fn hidden(total: Option<u64>, template: &str, what: &'static str) -> Self {
        let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::hidden());
        bar.set_style(
            ProgressStyle::with_template(template).expect("all templates are constants that parse"),
        );
        bar.set_message(what);
        let is_terminal = std::io::stderr().is_terminal();
        Progress { bar, is_terminal }
    }

    /// So many more jobs are done.
    pub fn advance(&self, by: u64) {
        self.bar.inc(by);
    }

    /// What it says beside the bar from now on.
    pub fn say(&self, what: impl Into<std::borrow::Cow<'static, str>>) {
        self.bar.set_message(what);
    }

    /// Whether anybody sees it.
    pub fn is_seen(&self) -> bool {
        self.is_terminal
    }

    /// Runs what writes to standard output without the bar in its way.
    pub fn aside<T>(&self, write: impl FnOnce() -> T) -> T {
        self.bar.suspend(write)
    }

    /// Does the work, and keeps the bar moving meanwhile.
    pub async fn during<F: Future>(&self, work: F) -> F::Output {
        if !self.is_terminal {
            return work.await;
        }
        let mut work = pin!(work);
        let mut pause = DELAY;
        loop {
            tokio::select! {
                done = &mut work => return done,
                () = tokio::time::sleep(pause) => {}
            }
            if self.bar.is_hidden() {
                self.bar.set_draw_target(ProgressDrawTarget::stderr());
            }
            self.bar.tick();
            pause = FRAME;
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

//! What readers see: one picture, taken for all who ask at the time, and the next one after a pause.
//!
//! A request asks neither the broker nor `/proc`. It waits for the next picture, and the first one that waits has it
//! taken. So any number of readers costs as much as one, and nobody is shown what was before they asked. A picture that
//! is quickly taken is soon followed by another. One of many processes, or of a slow broker, is not.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::Supervisor;
use super::input::Input;
use crate::broker::Backlog;
use crate::control::Reply;
use crate::fleet::figures::Figures;
use crate::fleet::snapshot::Snapshot;
use crate::fleet::{Memory, Now};
use crate::job::PoolName;
use crate::metrics::{self, Format};
use crate::time::Mono;

/// From the beginning of one picture to that of the next, at the least and at the most.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_millis(200);
/// The pause between is so many times what the last picture took.
const PAUSE_SHARE: u32 = 4;
/// Longest wait for fresh figures of the broker; then the last ones are shown.
const FRESH: Duration = Duration::from_secs(1);

/// Somebody who asks.
#[derive(Debug)]
enum Reader {
    /// How things are, with what waits at the broker now and what is occupied now.
    Status(oneshot::Sender<Reply>),
    /// What was counted, with what the last scaling period found.
    Metrics {
        format: Format,
        reply: oneshot::Sender<Reply>,
    },
}

/// Who waits for a picture.
#[derive(Debug)]
pub(super) struct View {
    /// For the next one.
    waiting: Vec<Reader>,
    /// For one that the broker is being asked for.
    counting: Vec<Reader>,
    /// When the last one was taken.
    taken: Option<Mono>,
    /// From then to the next one.
    pause: Duration,
}

impl Default for View {
    fn default() -> Self {
        View {
            waiting: Vec::new(),
            counting: Vec::new(),
            taken: None,
            pause: PAUSE_MIN,
        }
    }
}

impl View {
    /// When the next picture is to be taken.
    pub fn deadline(&self) -> Option<Mono> {
        // What is being counted was not asked for by those who came later.
        let can_begin = |reader: &Reader| self.counting.is_empty() || !matches!(reader, Reader::Status(_));
        let wanted = self.waiting.iter().any(can_begin);
        wanted.then(|| self.taken.map_or(Mono(0), |taken| taken + self.pause))
    }

    /// Takes those who wait for a picture that can be taken at once, and begins with those who need a count.
    fn begin(&mut self, now: Mono) -> (Vec<Reader>, bool) {
        self.taken = Some(now);
        let all = std::mem::take(&mut self.waiting);
        let (counted, at_once): (Vec<_>, Vec<_>) = all
            .into_iter()
            .partition(|reader| matches!(reader, Reader::Status(_)));
        if self.counting.is_empty() {
            self.counting = counted;
            let counts = !self.counting.is_empty();
            return (at_once, counts);
        }
        self.waiting = counted;
        (at_once, false)
    }

    /// The count that was begun is there: those who need it.
    fn end(&mut self, now: Mono) -> Vec<Reader> {
        let took = self.taken.map_or(Duration::ZERO, |taken| now.since(taken));
        self.pause = took.saturating_mul(PAUSE_SHARE).clamp(PAUSE_MIN, PAUSE_MAX);
        std::mem::take(&mut self.counting)
    }
}

impl Supervisor {
    /// Somebody asks how things are.
    pub(super) fn show_status(&mut self, reply: oneshot::Sender<Reply>) {
        self.view.waiting.push(Reader::Status(reply));
    }

    /// Somebody asks for metrics.
    pub(super) fn show_metrics(&mut self, openmetrics: bool, reply: oneshot::Sender<Reply>) {
        let format = if openmetrics {
            Format::OpenMetrics
        } else {
            Format::Prometheus
        };
        self.view.waiting.push(Reader::Metrics { format, reply });
    }

    /// Takes a picture if somebody waits for one and the last one is old enough.
    pub(super) fn renew_view(&mut self, now: Now) {
        if self.view.deadline().is_none_or(|at| at > now.mono) {
            return;
        }
        let (at_once, counts) = self.view.begin(now.mono);
        if counts {
            self.count_backlogs();
        }
        if !at_once.is_empty() {
            let snapshot = self.snapshot(now);
            self.publish(snapshot, at_once);
        }
    }

    /// Fresh figures first: what is shown is what waits now, not what waited at the last scaling period.
    fn count_backlogs(&self) {
        let pools: Vec<_> = self
            .fleet
            .pool_names()
            .into_iter()
            .filter_map(|pool| Some((self.fleet.pool_config(&pool)?.queues.clone(), pool)))
            .collect();
        let measured = self.measurement();
        let (broker, inputs) = (self.broker.clone(), self.inputs.clone());
        tokio::spawn(async move {
            let mut backlogs = Vec::with_capacity(pools.len());
            for (queues, pool) in pools {
                // Who asks is told of a broker that hangs, not left to hang with it.
                let Some(broker) = &broker else { break };
                match tokio::time::timeout(FRESH, broker.queues().backlog(&queues)).await {
                    Ok(Ok(backlog)) => backlogs.push((pool, backlog)),
                    Ok(Err(_)) | Err(_) => break,
                }
            }
            let memory = measured.await.unwrap_or_default();
            let _ = inputs.send(Input::Counted { backlogs, memory });
        });
    }

    /// The broker said what waits, and the processes are weighed.
    pub(super) fn counted(&mut self, backlogs: &[(PoolName, Backlog)], memory: &Memory, now: Now) {
        self.fleet.weigh(memory);
        let mut snapshot = self.snapshot(now);
        for (pool, backlog) in backlogs {
            if let Some(shown) = snapshot.pools.get_mut(pool.as_str()) {
                shown.waiting = backlog.waiting();
                shown.scheduled = backlog.scheduled;
                shown.oldest_waiting_s = backlog.oldest_age(now.unix).as_secs_f64();
            }
        }
        let readers = self.view.end(now.mono);
        self.publish(snapshot, readers);
    }

    /// Gives one picture to all of them.
    fn publish(&self, snapshot: Snapshot, readers: Vec<Reader>) {
        let figures = Arc::new(self.fleet.figures(snapshot, self.traffic.calls()));
        for reader in readers {
            match reader {
                Reader::Status(reply) => {
                    let snapshot = figures.snapshot.clone();
                    let _ = reply.send(Reply::Snapshot { snapshot });
                }
                Reader::Metrics { format, reply } => render(figures.clone(), format, reply),
            }
        }
    }
}

/// Beside the loop: with many tasks it is a long text.
fn render(figures: Arc<Figures>, format: Format, reply: oneshot::Sender<Reply>) {
    tokio::task::spawn_blocking(move || {
        let text = metrics::text(&figures, format);
        let _ = reply.send(Reply::Metrics { text });
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn status() -> Reader {
        Reader::Status(oneshot::channel().0)
    }

    fn metrics() -> Reader {
        let (reply, _) = oneshot::channel();
        let format = Format::Prometheus;
        Reader::Metrics { format, reply }
    }

    #[test]
    fn nobody_who_reads_no_picture() {
        assert_eq!(View::default().deadline(), None);
    }

    #[test]
    fn who_asks_together_is_shown_one_picture() {
        let mut view = View::default();
        view.waiting.extend([status(), status(), metrics()]);
        assert_eq!(view.deadline(), Some(Mono(0)), "the first one is taken at once");
        let (at_once, counts) = view.begin(Mono(0) + MS);
        assert_eq!((at_once.len(), counts, view.counting.len()), (1, true, 2));
        assert_eq!(view.deadline(), None);
    }

    #[test]
    fn who_asks_during_a_count_waits_for_the_next() {
        let mut view = View::default();
        view.waiting.push(status());
        view.begin(Mono(0) + MS);
        view.waiting.push(status());
        assert_eq!(view.deadline(), None, "one count at a time");
        view.end(Mono(0) + MS * 2);
        assert_eq!(view.deadline(), Some(Mono(0) + MS + PAUSE_MIN));
    }

    #[test]
    fn the_longer_a_picture_takes_the_rarer_they_are() {
        let mut view = View::default();
        for (took, pause) in [(1, PAUSE_MIN), (30, MS * 120), (700, PAUSE_MAX), (2, PAUSE_MIN)] {
            view.waiting.push(status());
            let now = Mono(0) + MS;
            view.begin(now);
            view.waiting.push(status());
            assert_eq!(view.end(now + MS * took).len(), 1);
            assert_eq!(
                view.deadline(),
                Some(now + pause),
                "after one that took {took} ms"
            );
            view.waiting.clear();
        }
    }

    #[test]
    fn metrics_do_not_wait_for_a_count() {
        let mut view = View::default();
        view.waiting.push(status());
        view.begin(Mono(0) + MS);
        view.waiting.extend([status(), metrics()]);
        assert_eq!(view.deadline(), Some(Mono(0) + MS + PAUSE_MIN));
        let (at_once, counts) = view.begin(Mono(0) + MS + PAUSE_MIN);
        assert_eq!((at_once.len(), counts, view.waiting.len()), (1, false, 1));
    }
}

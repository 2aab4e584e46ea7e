//! How many workers were busy on average, exactly, over a sliding window.
//!
//! [`Meter`] is told when workers come and go and when jobs start and end, and integrates. Nothing
//! is sampled. Spans that touch are kept as one; spans that fall together into one *cell* (1/4096 of the
//! window) are kept as one with their sum, so that memory is bounded whatever the rate of jobs: at most two
//! spans a cell, 200 KB a worker. Only where the window's edge cuts such a sum is the reading an
//! estimate: wrong by at most half a cell a worker, 3.7 ms of worker time in a window of 30 s.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::time::Mono;

/// Cells in a window: the resolution that short spans are kept at.
const CELLS: u32 = 4096;

/// Measures how busy workers are; see the module.
///
/// Workers are named by their number, unique in the meter's life. Events of one worker come in order;
/// `at` and `now` are the caller's own clock, `started` and `ended` of [`Meter::job_ended`] are a
/// worker's word and are clamped to what is possible.
#[derive(Clone, Debug)]
pub struct Meter {
    window: Duration,
    /// Before this instant the record is not complete: a shorter window dropped it.
    complete_from: Mono,
    alive: BTreeMap<u64, Track>,
    /// Workers that run a job now.
    busy: u32,
    /// Most of them at once since the last [`Meter::take_peak`].
    peak: u32,
    /// When the first worker came.
    since: Option<Mono>,
    /// Workers that are gone, by the time of their end, as long as the window can see them.
    gone: VecDeque<Gone>,
}

/// One worker: what it ran.
#[derive(Clone, Debug)]
struct Track {
    /// Start of the job that runs now, by the supervisor's stamp.
    running: Option<Mono>,
    /// End of the last job: nothing of the next one can lie before it.
    last_end: Mono,
    /// Ended jobs: disjoint, in order.
    spans: VecDeque<Span>,
}

#[derive(Clone, Debug)]
struct Gone {
    track: Track,
    at: Mono,
}

/// A stretch of time with `busy_ns` of work in it: all of it, or the sum of a cell's short jobs.
#[derive(Clone, Copy, Debug)]
struct Span {
    start: Mono,
    end: Mono,
    busy_ns: u64,
}

impl Meter {
    /// A meter with nobody alive.
    pub fn new(window: Duration) -> Self {
        Meter {
            window,
            complete_from: Mono(0),
            alive: BTreeMap::new(),
            busy: 0,
            peak: 0,
            since: None,
            gone: VecDeque::new(),
        }
    }

    /// Measures over another window from now on. A longer one fills up as time passes: until then the
    /// reading covers what is known. Sums of an earlier, longer window keep their coarser cell.
    pub fn set_window(&mut self, window: Duration, now: Mono) {
        self.complete_from = self.edge(now);
        self.window = window;
        self.forget(now);
    }

    /// The window in force.
    pub fn window(&self) -> Duration {
        self.window
    }

    /// A worker takes jobs from `at` on.
    pub fn worker_alive(&mut self, worker: u64, at: Mono) {
        let track = Track {
            running: None,
            last_end: at,
            spans: VecDeque::new(),
        };
        self.since.get_or_insert(at);
        let known = self.alive.insert(worker, track);
        debug_assert!(known.is_none(), "worker {worker} came alive twice");
    }

    /// A worker died or takes no more jobs; a job that still runs counts up to `at`.
    pub fn worker_gone(&mut self, worker: u64, at: Mono) {
        self.job_lost(worker, at);
        if let Some(track) = self.alive.remove(&worker) {
            self.gone.push_back(Gone { track, at });
        }
        self.forget_gone(at);
    }

    /// A job starts, as far as the supervisor can know: when it was sent to an idle worker, or when the
    /// one before it ended. No effect while one runs. [`Meter::job_ended`] puts the start right.
    pub fn job_started(&mut self, worker: u64, at: Mono) {
        if let Some(track) = self.alive.get_mut(&worker) {
            let earliest = track.last_end;
            self.busy += u32::from(track.running.is_none());
            self.peak = self.peak.max(self.busy);
            track.running.get_or_insert(at.max(earliest));
        }
    }

    /// The job that was thought to run had not started: it was taken back.
    pub fn job_withdrawn(&mut self, worker: u64) {
        if let Some(track) = self.alive.get_mut(&worker) {
            self.busy -= u32::from(track.running.take().is_some());
        }
    }

    /// A job ended; `started` and `ended` are the worker's own stamps, which arrive late and replace the
    /// provisional start. They are clamped to lie between the end of its job before and `now`.
    pub fn job_ended(&mut self, worker: u64, started: Mono, ended: Mono, now: Mono) {
        let (edge, cell) = (self.edge(now), self.window / CELLS);
        if let Some(track) = self.alive.get_mut(&worker) {
            self.busy -= u32::from(track.running.take().is_some());
            let now = now.max(track.last_end);
            let started = started.clamp(track.last_end, now);
            track.add(started, ended.clamp(started, now), cell);
            track.forget_before(edge);
        }
    }

    /// The running job, if there is one, ended at `at` without a word of its worker.
    pub fn job_lost(&mut self, worker: u64, at: Mono) {
        let running = self.alive.get(&worker).and_then(|track| track.running);
        if let Some(started) = running {
            self.job_ended(worker, started, at, at);
        }
    }

    /// Workers that were busy on average over the window that ends at `now`, or since the first worker came, if that is
    /// shorter: busy worker time divided by that span.
    ///
    /// A running job counts up to `now`; one begun before the window, from the window's edge.
    /// Linear in the spans kept; changes nothing. Exact but for half a cell a worker, see the module.
    /// Returns `None` while no worker has come, or no time has passed since: nobody there is not idle.
    pub fn busy_average(&self, now: Mono) -> Option<f64> {
        let from = self.edge(now).max(self.since?);
        let span_ns = now.since(from).as_nanos();
        (span_ns > 0).then(|| self.busy_ns(now) as f64 / span_ns as f64)
    }

    /// Busy worker time in the window.
    fn busy_ns(&self, now: Mono) -> u128 {
        let edge = self.edge(now);
        let alive = self.alive.values().map(|track| (track, now));
        let gone = self.gone.iter().map(|gone| (&gone.track, gone.at.min(now)));
        let all = alive.chain(gone);
        all.map(|(track, until)| u128::from(track.busy_ns(edge, until)))
            .sum()
    }

    /// Workers alive now.
    pub fn alive(&self) -> usize {
        self.alive.len()
    }

    /// Of these, busy.
    pub fn busy(&self) -> u32 {
        self.busy
    }

    /// Most workers that were busy at once since the last [`Meter::take_peak`].
    pub fn peak(&self) -> u32 {
        self.peak
    }

    /// The same, and it begins anew.
    pub fn take_peak(&mut self) -> u32 {
        std::mem::replace(&mut self.peak, self.busy)
    }

    /// Drops what no reading at `now` or later can see. Events do so for the worker they name; this
    /// does it for all, and is worth a call at each scaling period.
    pub fn forget(&mut self, now: Mono) {
        let edge = self.edge(now);
        for track in self.alive.values_mut() {
            track.forget_before(edge);
        }
        self.forget_gone(now);
    }

    fn forget_gone(&mut self, now: Mono) {
        let edge = self.edge(now);
        while self.gone.front().is_some_and(|gone| gone.at <= edge) {
            self.gone.pop_front();
        }
    }

    /// Where the window that ends at `now` begins.
    fn edge(&self, now: Mono) -> Mono {
        now.saturating_sub(self.window).max(self.complete_from)
    }
}

impl Track {
    fn add(&mut self, start: Mono, end: Mono, cell: Duration) {
        self.last_end = end;
        let busy_ns = end.0.saturating_sub(start.0);
        if busy_ns == 0 {
            return;
        }
        if let Some(last) = self.spans.back_mut() {
            let touches = last.end == start && last.is_full();
            if touches || end.since(last.start) <= cell {
                last.end = end;
                last.busy_ns += busy_ns;
                return;
            }
        }
        self.spans.push_back(Span { start, end, busy_ns });
    }

    fn forget_before(&mut self, edge: Mono) {
        while self.spans.front().is_some_and(|span| span.end <= edge) {
            self.spans.pop_front();
        }
    }

    fn busy_ns(&self, edge: Mono, until: Mono) -> u64 {
        let ended: u64 = self.spans.iter().map(|span| span.busy_within(edge, until)).sum();
        let running = self
            .running
            .map_or(0, |start| overlap_ns(start, until, edge, until));
        ended + running
    }
}

impl Span {
    fn is_full(&self) -> bool {
        self.busy_ns == self.len_ns()
    }

    fn len_ns(&self) -> u64 {
        self.end.0.saturating_sub(self.start.0)
    }

    /// Work inside `from..to`; of a cell's sum that is cut, the part in proportion.
    fn busy_within(&self, from: Mono, to: Mono) -> u64 {
        let inside = overlap_ns(self.start, self.end, from, to);
        let len = self.len_ns();
        if inside == len {
            return self.busy_ns;
        }
        if self.is_full() {
            return inside;
        }
        // A sum spans at most a cell, so the product fits and no more than half a cell is guessed.
        u64::try_from(u128::from(self.busy_ns) * u128::from(inside) / u128::from(len)).unwrap_or(inside)
    }
}

/// Nanoseconds that `start..end` has in common with `from..to`.
fn overlap_ns(start: Mono, end: Mono, from: Mono, to: Mono) -> u64 {
    end.min(to).0.saturating_sub(start.max(from).0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const WINDOW: Duration = Duration::from_secs(30);

    fn secs(seconds: f64) -> Mono {
        Mono((seconds * 1e9) as u64)
    }

    fn meter_with(workers: u64) -> Meter {
        let mut meter = Meter::new(WINDOW);
        (1..=workers).for_each(|worker| meter.worker_alive(worker, secs(0.0)));
        meter
    }

    #[test]
    fn nobody_there_is_not_idle() {
        let mut meter = Meter::new(WINDOW);
        assert_eq!(meter.busy_average(secs(1.0)), None);
        meter.worker_alive(1, secs(1.0));
        assert_eq!(meter.busy_average(secs(1.0)), None, "no time has passed");
        assert_eq!(meter.busy_average(secs(2.0)), Some(0.0));
    }

    #[test]
    fn a_job_longer_than_the_window_counts_as_fully_busy() {
        let mut meter = meter_with(2);
        meter.job_started(1, secs(0.0));
        for second in 1..200 {
            meter.forget(secs(f64::from(second)));
            assert_eq!(meter.busy_average(secs(f64::from(second))), Some(1.0));
        }
        meter.job_ended(1, secs(0.0), secs(200.0), secs(200.0));
        assert_eq!(meter.busy_average(secs(200.0)), Some(1.0));
        assert_eq!(meter.busy_average(secs(215.0)), Some(0.5));
        assert_eq!(meter.busy_average(secs(230.0)), Some(0.0));
    }

    #[test]
    fn two_hundred_short_jobs_a_second_on_four_workers_read_what_arithmetic_says() {
        let mut meter = meter_with(4);
        for job in 0..200 * 60 {
            let started = Mono(job * 5_000_000);
            let ended = started + Duration::from_millis(5);
            meter.job_started(1 + job % 4, started);
            meter.job_ended(1 + job % 4, started, ended, ended + Duration::from_micros(300));
        }
        let busy = meter.busy_average(secs(60.0)).unwrap();
        assert!((busy - 1.0).abs() < 0.01, "{busy}");
    }

    #[test]
    fn a_dead_worker_counts_until_its_death_leaves_the_window() {
        let mut meter = meter_with(2);
        meter.job_started(1, secs(0.0));
        meter.worker_gone(1, secs(10.0));
        assert_eq!((meter.alive(), meter.busy()), (1, 0));
        assert_eq!(meter.busy_average(secs(10.0)), Some(1.0));
        assert_eq!(meter.busy_average(secs(20.0)), Some(0.5));
        assert_eq!(meter.busy_average(secs(35.0)), Some(5.0 / 30.0));
        assert_eq!(meter.busy_average(secs(40.0)), Some(0.0));
        meter.forget(secs(40.0));
        assert!(meter.gone.is_empty());
    }

    #[test]
    fn the_workers_stamps_replace_the_provisional_start() {
        let mut meter = meter_with(1);
        meter.job_started(1, secs(0.0));
        assert_eq!(meter.busy_average(secs(10.0)), Some(1.0));
        meter.job_ended(1, secs(4.0), secs(8.0), secs(10.0));
        assert_eq!(meter.busy_average(secs(10.0)), Some(0.4));
    }

    #[test]
    fn stamps_that_cannot_be_are_clamped_to_what_can() {
        let mut meter = meter_with(1);
        meter.job_ended(1, secs(2.0), secs(4.0), secs(4.0));
        meter.job_ended(1, secs(0.0), secs(99.0), secs(5.0)); // begun before its predecessor's end, ended in the future
        assert_eq!(meter.busy_average(secs(5.0)), Some(0.6));
        meter.job_ended(1, secs(9.0), secs(6.0), secs(10.0)); // ended before it began
        assert_eq!(meter.busy_average(secs(10.0)), Some(0.3));
    }

    #[test]
    fn a_job_that_was_taken_back_never_ran() {
        let mut meter = meter_with(1);
        meter.job_started(1, secs(0.0));
        meter.job_withdrawn(1);
        assert_eq!((meter.busy(), meter.busy_average(secs(10.0))), (0, Some(0.0)));
    }

    #[test]
    fn the_average_counts_workers_and_the_peak_those_at_once() {
        let mut meter = meter_with(3);
        assert_eq!(meter.busy_average(secs(0.0)), None);
        meter.job_started(1, secs(0.0));
        meter.job_started(2, secs(5.0));
        meter.job_ended(1, secs(0.0), secs(10.0), secs(10.0));
        assert_eq!(meter.busy_average(secs(10.0)), Some(1.5));
        assert_eq!((meter.busy(), meter.take_peak()), (1, 2));
        meter.worker_gone(2, secs(10.0));
        assert_eq!((meter.busy(), meter.take_peak(), meter.take_peak()), (0, 1, 0));
        assert_eq!(meter.busy_average(secs(30.0)), Some(0.5), "over the whole window");
    }

    #[test]
    fn a_longer_window_fills_up_and_invents_no_idle_time() {
        let mut meter = meter_with(1);
        meter.job_started(1, secs(0.0));
        meter.job_ended(1, secs(0.0), secs(100.0), secs(100.0));
        meter.set_window(Duration::from_secs(300), secs(100.0));
        assert_eq!(meter.busy_average(secs(100.0)), Some(1.0));
        assert_eq!(meter.busy_average(secs(130.0)), Some(0.5));
    }

    #[test]
    fn memory_is_bounded_at_any_rate_of_jobs() {
        let mut meter = meter_with(1);
        for job in 0..50_000 * 40 {
            let started = Mono(job * 20_000);
            let ended = Mono(started.0 + 19_000);
            meter.job_ended(1, started, ended, ended);
        }
        assert!(meter.alive[&1].spans.len() <= 2 * CELLS as usize + 2);
        let busy = meter.busy_average(secs(40.0)).unwrap();
        assert!((busy - 0.95).abs() < 0.001, "{busy}");
    }

    #[test]
    fn a_long_job_is_kept_exact_behind_a_sum_of_short_ones() {
        let mut meter = meter_with(1);
        for (started, ended) in [(0.0, 0.001), (0.005, 0.006), (0.006, 10.0)] {
            meter.job_ended(1, secs(started), secs(ended), secs(ended));
        }
        assert_eq!(meter.busy_average(secs(35.0)), Some(5.0 / 30.0));
    }

    /// What the meter is told, kept whole, to be summed job by job.
    #[derive(Default)]
    struct Record {
        workers: Vec<(u64, Option<u64>)>,
        busy: Vec<(usize, u64, u64)>,
        running: BTreeMap<usize, u64>,
    }

    impl Record {
        fn busy(&self, from: u64, now: u64) -> u64 {
            let overlap = |start: u64, end: u64| end.min(now).saturating_sub(start.max(from));
            let running = self.running.values().map(|start| overlap(*start, now));
            let ended = self.busy.iter().map(|(_, start, end)| overlap(*start, *end));
            running.sum::<u64>() + ended.sum::<u64>()
        }

        fn last_end(&self, worker: usize) -> u64 {
            let ends = self
                .busy
                .iter()
                .filter(|(of, ..)| *of == worker)
                .map(|(.., end)| *end);
            ends.max().unwrap_or(self.workers[worker].0)
        }

        fn alive(&self, pick: usize) -> Option<usize> {
            let alive: Vec<usize> = (0..self.workers.len())
                .filter(|w| self.workers[*w].1.is_none())
                .collect();
            alive.get(pick % alive.len().max(1)).copied()
        }
    }

    proptest! {
        /// Windows of fewer and of more nanoseconds than cells: with and without sums.
        #[test]
        fn the_reading_is_the_integral_of_what_happened(
            window in prop_oneof![50u64..500, 10_000u64..60_000],
            events in proptest::collection::vec((0u8..8, 0usize..8, 0u64..60, 0u64..60), 1..120),
        ) {
            let mut meter = Meter::new(Duration::from_nanos(window));
            let (mut record, mut now) = (Record::default(), 1000u64);
            for (kind, pick, wait, back) in events {
                now += wait;
                let Some(worker) = record.alive(pick).filter(|_| kind > 0) else {
                    meter.worker_alive(record.workers.len() as u64, Mono(now));
                    record.workers.push((now, None));
                    continue;
                };
                let id = worker as u64;
                match kind {
                    1 => {
                        meter.worker_gone(id, Mono(now));
                        record.workers[worker].1 = Some(now);
                        record.busy.extend(record.running.remove(&worker).map(|start| (worker, start, now)));
                    }
                    2 => meter.forget(Mono(now)),
                    3..=4 => {
                        meter.job_started(id, Mono(now));
                        record.running.entry(worker).or_insert(now);
                    }
                    _ => {
                        let ended = now.saturating_sub(back / 2).max(record.last_end(worker));
                        let started = ended.saturating_sub(back).max(record.last_end(worker));
                        meter.job_ended(id, Mono(started), Mono(ended), Mono(now));
                        record.running.remove(&worker);
                        record.busy.push((worker, started, ended));
                    }
                }
                let from = now.saturating_sub(window).max(record.workers[0].0);
                let (busy, span) = (record.busy(from, now), now - from);
                let reading = meter.busy_average(Mono(now));
                prop_assert_eq!(reading.is_some(), span > 0);
                if let Some(average) = reading {
                    let bound = record.workers.len() as f64 * (window / u64::from(CELLS)) as f64 / 2.0 + 1e-3;
                    let wrong = (average * span as f64 - busy as f64).abs();
                    prop_assert!(wrong <= bound, "{wrong} ticks of {span}, bound {bound}");
                }
            }
        }
    }
}

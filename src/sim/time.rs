//! Virtual time: what is on its way, and one turn of the supervisor's loop after another.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use super::script::Script;
use super::{STARTED, World};
use crate::fleet::Event;
use crate::job::PoolName;
use crate::time::{Mono, Now, Unix};

/// How long a world without anything to do stands still at once.
const NOTHING: Duration = Duration::from_secs(1);
/// Ticks at one instant after which the loop spins.
const TICKS_MAX: u32 = 20;

/// Something that happens at an instant.
#[derive(Debug)]
pub(super) enum Happening {
    /// An alarm of the script.
    Alarm(u32),
    Period(PoolName),
    Look(PoolName),
    /// The broker reads what it was told, and looks at its jobs.
    BrokerActs,
    HearBroker,
    TemplateLoads(u64),
    TemplateActs(u64),
    HearTemplate(u64),
    WorkerActs(u64),
    CallEnds {
        worker: u64,
        execution: u64,
    },
    /// A call may have ended that shares the processors.
    ComputedEnds,
    HearWorker(u64),
    Reap(u64),
}

/// What is on its way.
#[derive(Debug, Default)]
pub(super) struct EventQueue {
    /// By its instant, and at one instant in the order in which it was added.
    by_time: BTreeMap<(Mono, u64), Happening>,
    added: u64,
    /// Ticks of the fleet since time went on.
    ticks_in_place: u32,
}

impl EventQueue {
    fn add(&mut self, at: Mono, happening: Happening) {
        self.added += 1;
        self.by_time.insert((at, self.added), happening);
    }

    fn next(&self) -> Option<Mono> {
        self.by_time.first_key_value().map(|((at, _), _)| *at)
    }

    fn take_due(&mut self, now: Mono) -> Option<Happening> {
        let first = self.by_time.first_entry()?;
        (first.key().0 <= now).then(|| first.remove())
    }

    /// What concerns the supervisor and its processes is forgotten.
    pub fn forget_supervisor(&mut self) {
        let is_other =
            |happening: &Happening| matches!(happening, Happening::Alarm(_) | Happening::BrokerActs);
        self.by_time.retain(|_, happening| is_other(happening));
    }
}

impl<S: Script> World<S> {
    /// Sets an alarm of the script.
    pub fn alarm(&mut self, after: Duration, which: u32) {
        self.after(after, Happening::Alarm(which));
    }

    /// No alarm that was set goes off.
    pub fn forget_alarms(&mut self) {
        let is_alarm = |happening: &Happening| matches!(happening, Happening::Alarm(_));
        self.pending.by_time.retain(|_, happening| !is_alarm(happening));
    }

    /// A time between so many microseconds; the second above the first.
    pub fn between(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_micros(self.rng.u64(from..to))
    }

    pub(super) fn after(&mut self, time: Duration, happening: Happening) {
        self.pending.add(self.now.mono + time, happening);
    }

    /// As fast as a message between two processes takes, mostly.
    pub(super) fn soon(&mut self, happening: Happening) {
        let Range { start, mut end } = self.conditions.pace.message;
        if let Some((rare, late)) = self.conditions.pace.late
            && self.rng.u8(..rare) == 0
        {
            end = late;
        }
        let time = self.between(start, end);
        self.after(time, happening);
    }

    /// One turn of the supervisor's loop, as the real one: some things that happened, what is due, then the
    /// actions that all of that led to.
    ///
    /// # Panics
    /// If the fleet asks to be called again at the same instant, for ever.
    pub fn step(&mut self) {
        let busy = self.go_on();
        let most = if busy { self.rng.usize(1..20) } else { 1 };
        for _ in 0..most {
            let Some(happening) = self.pending.take_due(self.now.mono) else {
                break;
            };
            self.happen(happening);
            if let Some(at) = self.pending.next().filter(|_| busy) {
                // The loop was busy: more has happened when it comes to look.
                self.advance(at.min(self.now.mono + Duration::from_millis(1)));
            }
        }
        let is_due = self.deadline.is_some_and(|at| at <= self.now.mono);
        // What processes do among themselves wakes no supervisor.
        if self.left || !self.told && !is_due {
            return;
        }
        if is_due && self.fleet.next_deadline().is_some_and(|at| at <= self.now.mono) {
            self.pending.ticks_in_place += 1;
            assert!(
                self.pending.ticks_in_place < TICKS_MAX,
                "the loop spins: {:?} is due for ever",
                self.fleet.next_deadline()
            );
            self.tell(Event::Tick);
        }
        self.end_turn();
        let deadlines = [self.fleet.next_deadline(), self.traffic.next_deadline()];
        self.deadline = deadlines.into_iter().flatten().min();
        self.told = false;
    }

    /// To the next instant at which there is something to do. Returns whether the loop is busy there.
    fn go_on(&mut self) -> bool {
        let deadline = self.deadline.filter(|_| !self.left);
        let idle = self.now.mono + NOTHING;
        // Who was told something meanwhile has its turn at once.
        let next = if self.told && !self.left {
            Some(self.now.mono)
        } else {
            self.pending.next()
        };
        self.advance(deadline.into_iter().chain(next).min().unwrap_or(idle));
        let rare = self.conditions.pace.busy_turns;
        rare.is_some_and(|rare| self.rng.u8(..rare) == 0)
    }

    fn advance(&mut self, to: Mono) {
        if to > self.now.mono {
            self.pending.ticks_in_place = 0;
            let passed_ms = i64::try_from(to.since(STARTED).as_millis()).unwrap_or(i64::MAX);
            self.now = Now {
                mono: to,
                unix: Unix(self.conditions.starts.0.saturating_add(passed_ms)),
            };
        }
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Alarm(which) => S::alarm(self, which),
            Happening::Period(pool) => self.period(pool),
            Happening::Look(pool) => self.measure(pool, true),
            Happening::BrokerActs => self.broker_acts(),
            Happening::HearBroker => self.hear_broker(),
            Happening::TemplateLoads(id) => self.template_loads(id),
            Happening::TemplateActs(id) => self.template_acts(id),
            Happening::HearTemplate(id) => self.hear_template(id),
            Happening::WorkerActs(id) => self.worker_acts(id),
            Happening::CallEnds { worker, execution } => self.call_ends(worker, execution),
            Happening::ComputedEnds => self.computed_ends(),
            Happening::HearWorker(id) => self.hear_worker(id),
            Happening::Reap(id) => self.reap(id),
        }
    }
}

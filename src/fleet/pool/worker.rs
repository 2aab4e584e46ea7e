//! One worker, with what belongs to its state.

use crate::policy::memory::Occupied;
use crate::policy::recycle;
use crate::time::Mono;

use super::fate::{Expiry, Fate};
use super::hand::{Hand, Held};
use super::life::{Fault, State, Step, step};
use crate::fleet::Unread;
use crate::fleet::death::KillReason;

/// For whom a worker is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Duty {
    /// Kept ready beyond the pool's size; takes no job until it is promoted.
    Spare,
    /// Runs jobs. The ordinal was the smallest free number from 1 when it began to.
    Serves { ordinal: u16 },
    /// It did; its ordinal may be another's by now.
    Served { ordinal: u16 },
}

/// How long a worker stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tenure {
    /// As long as the pool needs it.
    Stays,
    /// It is to be replaced.
    Expires(Expiry),
    /// It takes no more jobs, and retires when it falls idle.
    Closes(Expiry),
}

/// A worker that is not to live on.
#[derive(Clone, Debug)]
struct Death {
    /// Why it was killed; `None`: its template died without a word of it.
    why: Option<KillReason>,
    fate: Fate,
    hand: Option<Hand>,
}

/// A state with what belongs to it alone.
#[derive(Clone, Debug)]
enum Life {
    Starting,
    Idle,
    Busy(Hand),
    /// Why it was told to leave.
    Retiring(&'static str),
    Dying(Death),
}

/// What a dead worker leaves behind.
#[derive(Debug)]
pub(super) struct Remains {
    /// The state in which it died.
    pub state: State,
    /// Why it was killed, if it was.
    pub why: Option<KillReason>,
    /// What becomes of what it held.
    pub fate: Fate,
    pub hand: Option<Hand>,
    /// Why it was told to leave, if it was.
    pub leave_reason: Option<&'static str>,
}

/// What a worker's answer changed.
#[derive(Debug)]
pub(super) struct Finished {
    /// When the job began and ended: the worker's own stamps, not trusted beyond what can be true.
    pub times: (Mono, Mono),
    /// Nothing is held any more.
    pub is_last: bool,
    /// With the last answer: the jobs of its batch that failed together.
    pub failed_together: Vec<u64>,
}

/// One worker process.
#[derive(Clone, Debug)]
pub(super) struct Worker {
    /// The template that forks it.
    template: u64,
    /// That template's generation.
    generation: u64,
    /// Process id, once forked.
    pid: Option<i32>,
    life: Life,
    /// Since when it is in this state.
    since: Mono,
    /// When it became ready.
    ready: Option<Mono>,
    duty: Duty,
    tenure: Tenure,
    /// It did not read a job when it was expected to, and has not ended one since.
    suspect: bool,
    /// Jobs sent to it, less those taken back.
    assigned: u64,
    /// Jobs that it ended.
    jobs: u64,
    /// Drawn once, so that workers forked together do not all grow old together.
    age_jitter: f64,
    /// What it occupied when it was last measured.
    occupied: Occupied,
}

impl Worker {
    /// A worker that was just asked for, of this template and generation. `ordinal`: `None` for a spare.
    pub fn new((template, generation): (u64, u64), ordinal: Option<u16>, age_jitter: f64, now: Mono) -> Self {
        Worker {
            template,
            generation,
            pid: None,
            life: Life::Starting,
            since: now,
            ready: None,
            duty: ordinal.map_or(Duty::Spare, |ordinal| Duty::Serves { ordinal }),
            tenure: Tenure::Stays,
            suspect: false,
            assigned: 0,
            jobs: 0,
            age_jitter,
            occupied: Occupied::default(),
        }
    }

    // ---- what others ask ----

    /// Where it is in its life.
    pub fn state(&self) -> State {
        match &self.life {
            Life::Starting => State::Starting,
            Life::Idle => State::Idle,
            Life::Busy(_) => State::Busy,
            Life::Retiring(_) => State::Retiring,
            Life::Dying(_) => State::Dying,
        }
    }

    /// Since when it is in this state.
    pub fn since(&self) -> Mono {
        self.since
    }

    pub fn template(&self) -> u64 {
        self.template
    }

    pub fn generation(&self) -> u64 {
        self.generation
    }

    pub fn pid(&self) -> Option<i32> {
        self.pid
    }

    /// When it became ready.
    pub fn ready(&self) -> Option<Mono> {
        self.ready
    }

    /// Its ordinal, also when it does not serve any more; 0: it never did.
    pub fn ordinal(&self) -> u16 {
        match self.duty {
            Duty::Spare => 0,
            Duty::Serves { ordinal } | Duty::Served { ordinal } => ordinal,
        }
    }

    pub fn is_spare(&self) -> bool {
        self.duty == Duty::Spare
    }

    /// A spare that can be promoted, now or when it is ready.
    pub fn is_good_spare(&self) -> bool {
        let comes = matches!(self.life, Life::Idle | Life::Starting);
        self.is_spare() && comes && self.expiry().is_none()
    }

    /// Part of the pool's size: it runs jobs, or is about to.
    pub fn counted(&self) -> bool {
        matches!(self.duty, Duty::Serves { .. })
    }

    /// Can be sent a job.
    pub fn takes_jobs(&self) -> bool {
        self.counted() && !self.is_closing() && matches!(self.life, Life::Idle | Life::Busy(_))
    }

    /// Another job may begin on it: it takes some, or will, or has one that it has not read.
    pub fn may_begin_another(&self) -> bool {
        let lives = matches!(self.life, Life::Starting | Life::Idle | Life::Busy(_));
        lives && (!self.is_closing() || self.prefetched() > 0)
    }

    /// Why it is to be replaced.
    pub fn expiry(&self) -> Option<Expiry> {
        match self.tenure {
            Tenure::Stays => None,
            Tenure::Expires(why) | Tenure::Closes(why) => Some(why),
        }
    }

    /// Takes no more jobs.
    pub fn is_closing(&self) -> bool {
        matches!(self.tenure, Tenure::Closes(_))
    }

    /// It did not read a job when it was expected to.
    pub fn is_suspect(&self) -> bool {
        self.suspect
    }

    /// What it holds, also while it dies.
    pub fn hand(&self) -> Option<&Hand> {
        match &self.life {
            Life::Busy(hand) => Some(hand),
            Life::Dying(death) => death.hand.as_ref(),
            Life::Starting | Life::Idle | Life::Retiring(_) => None,
        }
    }

    fn hand_mut(&mut self) -> Option<&mut Hand> {
        match &mut self.life {
            Life::Busy(hand) => Some(hand),
            Life::Dying(death) => death.hand.as_mut(),
            Life::Starting | Life::Idle | Life::Retiring(_) => None,
        }
    }

    /// How many jobs it holds.
    pub fn held(&self) -> usize {
        self.hand().map_or(0, Hand::len)
    }

    /// Jobs that it holds beyond what it runs.
    pub fn prefetched(&self) -> usize {
        self.hand().map_or(0, Hand::prefetched)
    }

    /// The execution that it runs now.
    pub fn running(&self) -> Option<u64> {
        self.hand().map(|hand| hand.front().execution)
    }

    /// Jobs sent to it, less those taken back.
    pub fn assigned(&self) -> u64 {
        self.assigned
    }

    /// Jobs that it ended.
    pub fn jobs(&self) -> u64 {
        self.jobs
    }

    /// What it occupied when it was last measured.
    pub fn occupied(&self) -> &Occupied {
        &self.occupied
    }

    /// Whether it comes to its end, by these rules.
    fn wear(&self, rules: &recycle::Rules, now: Mono) -> recycle::Wear {
        // One that has not run a job is as large as the one that would replace it.
        let measured = (self.occupied.pss > 0 && self.jobs > 0).then_some(self.occupied);
        recycle::Wear {
            // Its replacement is to be ready when it has taken its last job.
            jobs: self.assigned + rules.max_jobs.map_or(0, |max| u64::from(max.div_ceil(10))),
            age: now.since(self.ready.unwrap_or(now)),
            pss: measured.map(|occupied| occupied.pss),
            private: measured.map(|occupied| occupied.private),
            jitter: self.age_jitter,
        }
    }

    /// The state as `status` shows it.
    pub fn state_name(&self) -> &'static str {
        match self.state() {
            State::Starting => "starting",
            State::Idle if self.is_spare() => "spare",
            State::Idle => "idle",
            State::Busy => "busy",
            State::Retiring => "retiring",
            State::Dying => "killed",
            State::Gone => "gone",
        }
    }

    // ---- what happens to it ----

    /// What the table says; a misstep of ours is a defect, and stops here.
    fn allowed(&self, event: Step) -> Result<State, String> {
        match step(self.state(), event) {
            Ok(to) => Ok(to),
            Err(Fault::Theirs) => Err(format!("{event:?} while {:?}", self.state())),
            Err(Fault::Ours) => panic!(
                "{event:?} happens to a worker that is {:?}: {self:?}",
                self.state()
            ),
        }
    }

    fn live_on(&mut self, life: Life, now: Mono) {
        let before = self.state();
        self.life = life;
        if self.state() != before {
            self.since = now;
        }
    }

    /// Its process exists. Returns false if that was known.
    pub fn forked(&mut self, pid: i32) -> bool {
        let is_new = self.pid.is_none();
        self.pid = self.pid.or(Some(pid));
        is_new
    }

    /// It says that it takes jobs. The error says what it does wrong.
    pub fn becomes_ready(&mut self, now: Mono) -> Result<(), String> {
        let to = self.allowed(Step::Ready)?;
        self.ready = Some(now);
        if to == State::Idle {
            self.live_on(Life::Idle, now);
        }
        Ok(())
    }

    /// A spare serves from now on.
    pub fn promote(&mut self, ordinal: u16) {
        assert!(self.is_good_spare(), "only a spare is promoted: {self:?}");
        self.duty = Duty::Serves { ordinal };
    }

    /// It is to be replaced, unless there is a reason already.
    pub fn expire(&mut self, why: Expiry) {
        if self.tenure == Tenure::Stays {
            self.tenure = Tenure::Expires(why);
        }
    }

    /// It is not to be replaced any more, if this was the reason and it takes jobs still.
    pub fn stay_if(&mut self, was: Expiry) {
        if self.tenure == Tenure::Expires(was) {
            self.tenure = Tenure::Stays;
        }
    }

    /// It takes no more jobs, for this reason if there is none yet. Returns whether it did until now.
    pub fn close(&mut self, why: Expiry) -> bool {
        let took = !self.is_closing();
        self.tenure = Tenure::Closes(self.expiry().unwrap_or(why));
        took
    }

    /// Looks whether it comes to its end. Returns whether it takes no more jobs from now on.
    pub fn wear_out(&mut self, rules: &recycle::Rules, now: Mono) -> bool {
        if let Some(reason) = recycle::due(rules, &self.wear(rules, now)) {
            self.expire(Expiry::Worn(reason));
        }
        // A limit of jobs is strict: it takes no more, replaced or not.
        let is_used_up = recycle::jobs_left(rules, self.assigned) == 0;
        is_used_up && self.close(Expiry::Worn(recycle::Reason::MaxJobs))
    }

    /// It is sent a job, or a batch of several. Returns whether it was idle.
    pub fn give(&mut self, mut jobs: Vec<Held>, now: Mono) -> bool {
        assert!(
            self.takes_jobs(),
            "{jobs:?} for a worker that takes no jobs: {self:?}"
        );
        let to = self.allowed(Step::Assigned);
        assert_eq!(to, Ok(State::Busy));
        self.assigned += jobs.len() as u64;
        if let Life::Busy(hand) = &mut self.life {
            assert_eq!(jobs.len(), 1, "a batch travels alone");
            jobs.into_iter().for_each(|job| hand.add(job));
            return false;
        }
        self.live_on(Life::Busy(Hand::new(std::mem::take(&mut jobs), now)), now);
        true
    }

    /// This job of its batch failed with the whole of it.
    pub fn fails_together(&mut self, execution: u64) {
        let hand = self.hand_mut().expect("a worker with a batch holds it");
        hand.fails_together(execution);
    }

    /// The job that it runs has ended, by its own stamps.
    pub fn finish(&mut self, execution: u64, (started, ended): (Mono, Mono), now: Mono) -> Finished {
        let since = self.hand().map_or(now, Hand::since);
        let ended = ended.clamp(since, now.max(since));
        let started = started.clamp(since, ended);
        let is_last = self.held() == 1;
        let to = self.allowed(if is_last {
            Step::FinishedLast
        } else {
            Step::Finished
        });
        self.jobs += 1;
        self.suspect = false;
        let (rest, failed_together) = match self.take_hand().finish(execution, ended) {
            Ok(rest) => (Some(rest), Vec::new()),
            Err(together) => (None, together),
        };
        self.put_hand(rest, to, now);
        Finished {
            times: (started, ended),
            is_last,
            failed_together,
        }
    }

    /// What it had not read was taken from its socket. Returns whether it holds nothing any more.
    pub fn taken_back(&mut self, executions: &[u64], now: Mono) -> bool {
        let is_last = self.held() == executions.len();
        let to = self.allowed(if is_last {
            Step::TakenBackLast
        } else {
            Step::TakenBack
        });
        self.assigned = self.assigned.saturating_sub(executions.len() as u64);
        let rest = self.take_hand().take_out(executions);
        self.put_hand(rest, to, now);
        is_last
    }

    /// Takes what it holds out of it, to be changed and put back.
    fn take_hand(&mut self) -> Hand {
        let hand = match &mut self.life {
            Life::Dying(death) => death.hand.take(),
            life => match std::mem::replace(life, Life::Idle) {
                Life::Busy(hand) => Some(hand),
                Life::Starting | Life::Idle | Life::Retiring(_) | Life::Dying(_) => None,
            },
        };
        hand.expect("it holds something")
    }

    /// Puts back what is left; `to`: the state that follows.
    fn put_hand(&mut self, hand: Option<Hand>, to: Result<State, String>, now: Mono) {
        match (&mut self.life, hand) {
            (Life::Dying(death), hand) => death.hand = hand,
            (life, Some(hand)) => *life = Life::Busy(hand),
            (life, None) => {
                *life = Life::Idle;
                self.since = now;
            }
        }
        assert_eq!(to, Ok(self.state()), "the state is what the table says");
    }

    /// It is looked now whether it reads what it was sent.
    pub fn look_for_unread(&mut self) {
        if let Some(hand) = self.hand_mut() {
            hand.look();
        }
    }

    /// It is asked now whether it has the job that it should be running. Returns that one.
    pub fn ask(&mut self) -> Option<u64> {
        self.hand_mut().map(Hand::ask)
    }

    /// What it holds first is another job than was thought, and may have begun now.
    pub fn begin_anew(&mut self, now: Mono) {
        if let Some(hand) = self.hand_mut() {
            hand.begin_anew(now);
        }
    }

    /// It is looked now whether it has begun what it was sent.
    pub fn look_for_begin(&mut self, now: Mono) {
        if let Some(hand) = self.hand_mut() {
            hand.look_for_begin(now);
        }
    }

    /// This lies unread on its socket: what stands before it has begun. Returns those of which somebody wants to know.
    pub fn begin(&mut self, unread: &Unread) -> Vec<u64> {
        self.hand_mut().map_or_else(Vec::new, |hand| hand.begin(unread))
    }

    /// It did not read a job when it was expected to.
    pub fn suspect(&mut self) {
        self.suspect = true;
    }

    /// We tell it to leave. Returns whether that is new.
    pub fn retire(&mut self, reason: &'static str, now: Mono) -> bool {
        let to = self.allowed(Step::Retire);
        let is_new = to == Ok(State::Retiring) && self.state() != State::Retiring;
        if is_new {
            self.live_on(Life::Retiring(reason), now);
        }
        is_new
    }

    /// It is not to live on; `why`: `None` if its template died without a word of it. Returns whether that is new.
    pub fn kill(&mut self, why: Option<KillReason>, fate: Fate, now: Mono) -> bool {
        assert_eq!(self.allowed(Step::Kill), Ok(State::Dying));
        let hand = match &mut self.life {
            Life::Dying(death) => {
                death.fate = death.fate.max(fate);
                return false;
            }
            Life::Busy(hand) => Some(hand.clone()),
            Life::Starting | Life::Idle | Life::Retiring(_) => None,
        };
        self.live_on(Life::Dying(Death { why, fate, hand }), now);
        true
    }

    /// It does not serve any more. Returns the ordinal that is free by that.
    pub fn leave_service(&mut self) -> Option<u16> {
        let Duty::Serves { ordinal } = self.duty else {
            return None;
        };
        self.duty = Duty::Served { ordinal };
        Some(ordinal)
    }

    /// It is dead.
    pub fn exited(&mut self, now: Mono) -> Remains {
        assert_eq!(self.allowed(Step::Exited), Ok(State::Gone));
        let state = self.state();
        let nothing = Death {
            why: None,
            fate: Fate::Lost,
            hand: None,
        };
        let life = std::mem::replace(&mut self.life, Life::Dying(nothing.clone()));
        self.since = now;
        let (death, leave_reason) = match life {
            Life::Starting | Life::Idle => (nothing, None),
            Life::Busy(hand) => {
                let hand = Some(hand);
                (Death { hand, ..nothing }, None)
            }
            Life::Retiring(reason) => (nothing, Some(reason)),
            Life::Dying(death) => (death, None),
        };
        Remains {
            state,
            why: death.why,
            fate: death.fate,
            hand: death.hand,
            leave_reason,
        }
    }

    /// Takes note of what it occupies.
    pub fn weigh(&mut self, occupied: Occupied) {
        self.occupied = occupied;
    }
}

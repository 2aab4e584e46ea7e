//! Templates: one forks; others load beside it, or wait for their last workers to go.
//!
//! Whatever is asked of a template has a deadline: to load, to fork, to leave, to die. One that misses it is killed, and
//! one that does not even die is given up, so that a stop always ends.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use crate::policy::restart::Restarts;
use crate::policy::shutdown::KILL_WAIT;
use crate::time::{Human, Mono};

use super::figures;
use super::{Action, Asked, Notice, Now};
use crate::wire::message::LoadReport;

/// Longest wait for the answer to a request to fork. They are answered one after the other: each answer begins it anew.
pub(super) const FORK_LIMIT: Duration = Duration::from_secs(15);
/// From telling a template to leave to killing it: time for what the application registered for its exit.
pub(super) const UNLOAD_LIMIT: Duration = Duration::from_secs(10);
/// Requests to fork that one template has at a time; the next ones follow as it answers.
pub(super) const FORKS_AT_ONCE: usize = 64;

/// That a template ended without a word of why. `program`: the one that the settings name in place of ours.
pub fn ended_unready(program: Option<&Path>, how: &str) -> String {
    match program {
        Some(program) => format!(
            "`{}` ended before it had loaded its tasks: {how}; `app.program` must name a program that calls \
             `pool::App::main`, see docs/native.md",
            program.display()
        ),
        None => format!("the template ended before it had loaded the app: {how}"),
    }
}

/// Where a template is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Loads the app.
    Loading,
    /// Forks.
    Ready,
    /// Superseded; leaves with its last worker.
    Leaving,
    /// Told to leave.
    Unloading,
    /// Sent SIGKILL, and what its end means.
    Killed(End),
}

/// What the end of a template means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The app does not load.
    LoadFailed,
    /// Workers can't be forked any more. It did so for this long.
    Died(Duration),
    /// Nothing: it was to go.
    Expected,
}

/// One template process.
#[derive(Clone, Debug)]
struct Template {
    generation: u64,
    state: State,
    /// Since when.
    since: Mono,
    /// Why its load failed, once it said so, or why it was killed.
    error: Option<String>,
    /// What it found, once it is loaded.
    report: LoadReport,
    /// One of its workers came to work.
    is_proven: bool,
    /// Workers that it was asked for and that are not gone.
    workers: BTreeSet<u64>,
    /// Of these, those that it has not answered for.
    asked: BTreeSet<u64>,
    /// Since when its next answer is awaited.
    awaited: Mono,
}

impl Template {
    fn enter(&mut self, state: State, now: Mono) {
        let killed = matches!(self.state, State::Killed(_));
        assert!(!killed, "nothing follows a kill but death: {self:?}");
        self.state = state;
        self.since = now;
    }

    /// What it means if it ends now.
    fn end(&self, now: Mono) -> End {
        match self.state {
            State::Loading => End::LoadFailed,
            State::Ready => End::Died(now.since(self.since)),
            State::Leaving | State::Unloading => End::Expected,
            State::Killed(end) => end,
        }
    }

    /// Until when it may take for what it was asked, how long that is, and what that is.
    fn deadline(&self, load_timeout: Duration) -> Option<(Mono, Duration, Asked)> {
        let (from, limit, asked) = match self.state {
            State::Loading => (self.since, load_timeout, Asked::Load),
            State::Ready | State::Leaving if self.asked.is_empty() => return None,
            State::Ready | State::Leaving => (self.awaited, FORK_LIMIT, Asked::Fork),
            State::Unloading => (self.since, UNLOAD_LIMIT, Asked::Leave),
            State::Killed(_) => (self.since, KILL_WAIT, Asked::Die),
        };
        Some((from + limit, limit, asked))
    }
}

/// A newer generation that loaded, and whose workers do not start: the one before it forks again.
#[derive(Debug)]
pub(super) struct GoneBack {
    /// The newer one.
    pub from: u64,
    /// The one that forks.
    pub to: u64,
    /// What its template had found.
    pub report: LoadReport,
    /// Why the newer one's workers do not start.
    pub error: String,
}

/// All templates, and which of them forks.
#[derive(Debug, Default)]
pub(super) struct Templates {
    live: BTreeMap<u64, Template>,
    load_timeout: Duration,
    /// The number given last.
    last: u64,
    /// Generation asked for last.
    generation: u64,
    /// Generation loaded last.
    loaded: Option<u64>,
    /// The template that forks, if it lives.
    current: Option<u64>,
    /// Why the newest load failed, until one succeeds.
    load_error: Option<String>,
    /// Why the newest one that loaded was given up, until one loads.
    reload_error: Option<String>,
    /// A worker of this template did not start, for this reason. Only of one of which none ever did.
    unstarted: Option<(u64, String)>,
    restarts: Restarts,
    /// When to start a template again.
    restart_at: Option<Mono>,
    counted: figures::Templates,
}

impl Templates {
    pub fn new(load_timeout: Duration) -> Self {
        Templates {
            load_timeout,
            ..Templates::default()
        }
    }

    pub fn set_load_timeout(&mut self, load_timeout: Duration) {
        self.load_timeout = load_timeout;
    }

    // ---- what others ask ----

    /// Nobody is there.
    pub fn is_empty(&self) -> bool {
        self.live.is_empty()
    }

    /// A template is loaded, so that a worker could be forked, be it a little later.
    pub fn is_loaded(&self) -> bool {
        self.current.is_some()
    }

    /// The generation loaded last.
    pub fn loaded(&self) -> Option<u64> {
        self.loaded
    }

    /// Why the newest load failed, until one succeeds.
    pub fn load_error(&self) -> Option<&str> {
        self.load_error.as_deref()
    }

    /// Why the newest one that loaded was given up, until one loads.
    pub fn reload_error(&self) -> Option<&str> {
        self.reload_error.as_deref()
    }

    /// What became of all that there were.
    pub fn counted(&self) -> figures::Templates {
        self.counted
    }

    /// No template lives, and none will be started by itself.
    pub fn is_hopeless(&self) -> bool {
        self.current.is_none() && self.live.is_empty() && self.restart_at.is_none()
    }

    /// Newer code than that of this generation is loaded, or may be before long.
    pub fn is_superseded(&self, generation: u64) -> bool {
        let comes = |template: &Template| match template.state {
            State::Loading | State::Ready => template.generation > generation,
            State::Leaving | State::Unloading | State::Killed(_) => false,
        };
        let starts = self.restart_at.is_some() && self.generation > generation;
        starts || self.live.values().any(comes)
    }

    /// The template that may be asked for a worker now, and its generation.
    pub fn to_fork(&self) -> Option<(u64, u64)> {
        let id = self.current?;
        let template = self.live.get(&id)?;
        assert_eq!(template.state, State::Ready, "the current template forks");
        (template.asked.len() < FORKS_AT_ONCE).then_some((id, template.generation))
    }

    /// When something is due even if nothing happens.
    pub fn deadline(&self) -> Option<Mono> {
        let due = |template: &Template| template.deadline(self.load_timeout).map(|(at, ..)| at);
        let due = self.live.values().filter_map(due);
        due.chain(self.restart_at).min()
    }

    // ---- their life ----

    /// Loads the app anew beside what runs; a load in progress is given up.
    pub fn next_generation(&mut self, now: Now, out: &mut Vec<Action>) {
        let loading = |template: &Template| template.state == State::Loading;
        self.kill(loading, End::Expected, now, out);
        self.generation += 1;
        self.restart_at = None;
        self.restarts.reset();
        self.start(now, out);
    }

    fn start(&mut self, now: Now, out: &mut Vec<Action>) {
        let generation = self.generation;
        assert!(self.loaded.is_none_or(|loaded| loaded <= generation));
        self.last += 1;
        let template = Template {
            generation,
            state: State::Loading,
            since: now.mono,
            error: None,
            report: LoadReport::default(),
            is_proven: false,
            workers: BTreeSet::new(),
            asked: BTreeSet::new(),
            awaited: now.mono,
        };
        self.live.insert(self.last, template);
        out.push(Action::StartTemplate {
            template: self.last,
            generation,
        });
    }

    /// A template has loaded the app and forks from now on. Returns its generation; `None`: it is to go anyway.
    pub fn ready(&mut self, id: u64, report: &LoadReport, now: Now, out: &mut Vec<Action>) -> Option<u64> {
        let template = self.live.get_mut(&id)?;
        if template.state != State::Loading {
            return None;
        }
        template.enter(State::Ready, now.mono);
        template.report = report.clone();
        let generation = template.generation;
        if let Some(old) = self.current.replace(id) {
            let old = self.live.get_mut(&old).expect("the current template lives");
            old.enter(State::Leaving, now.mono);
        }
        self.load_error = None;
        self.reload_error = None;
        self.loaded = Some(generation);
        self.counted.loads += 1;
        self.let_go(now, out);
        Some(generation)
    }

    /// A worker of this template came to work.
    pub fn started(&mut self, id: u64) {
        if let Some(template) = self.live.get_mut(&id) {
            template.is_proven = true;
        }
    }

    /// One did not.
    pub fn start_failed(&mut self, id: u64, error: &str) {
        let is_unproven = |template: &Template| !template.is_proven;
        if self.current == Some(id) && self.live.get(&id).is_some_and(is_unproven) {
            self.unstarted = Some((id, error.to_owned()));
        }
    }

    /// If no worker of the template that forks has ever started, and one has not now: the newest before it of which some
    /// did, and that is there still, forks again. Not one of before `oldest`.
    pub fn go_back(&mut self, oldest: u64, now: Now, out: &mut Vec<Action>) -> Option<GoneBack> {
        let (id, error) = self
            .unstarted
            .take()
            .filter(|(id, _)| self.current == Some(*id))?;
        let proven = |(_, template): &(&u64, &Template)| {
            template.state == State::Leaving && template.is_proven && template.generation >= oldest
        };
        let old_id = *self.live.iter().rfind(proven)?.0;
        let new = self.live.get_mut(&id).expect("the current template lives");
        new.enter(State::Leaving, now.mono);
        let from = new.generation;
        let old = self.live.get_mut(&old_id).expect("it was just found");
        old.enter(State::Ready, now.mono);
        let gone_back = GoneBack {
            from,
            to: old.generation,
            report: old.report.clone(),
            error,
        };
        self.current = Some(old_id);
        self.loaded = Some(gone_back.to);
        let error = &gone_back.error;
        self.reload_error = Some(format!("workers of generation {from} do not start: {error}"));
        self.let_go(now, out);
        Some(gone_back)
    }

    /// It says why the app does not load; it ends next.
    pub fn failed(&mut self, id: u64, error: String) {
        if let Some(template) = self.live.get_mut(&id) {
            template.error = Some(error);
        }
    }

    /// A template was asked for a worker.
    pub fn asked(&mut self, id: u64, worker: u64, now: Now) {
        let template = self.live.get_mut(&id).expect("a template that lives is asked");
        if template.asked.is_empty() {
            template.awaited = now.mono;
        }
        let is_new = template.workers.insert(worker) && template.asked.insert(worker);
        assert!(is_new, "worker {worker} was asked for twice");
        assert!(template.asked.len() <= FORKS_AT_ONCE);
    }

    /// It forked the worker, or said that it can't. Returns whether that makes room for another request.
    pub fn answered(&mut self, id: u64, worker: u64, now: Now) -> bool {
        let Some(template) = self.live.get_mut(&id) else {
            return false;
        };
        let was_full = template.asked.len() == FORKS_AT_ONCE;
        template.asked.remove(&worker);
        template.awaited = now.mono;
        was_full
    }

    /// A worker is no more.
    pub fn worker_gone(&mut self, id: u64, worker: u64, now: Now, out: &mut Vec<Action>) {
        // Its template may have died before it.
        let Some(template) = self.live.get_mut(&id) else {
            return;
        };
        template.asked.remove(&worker);
        let was_there = template.workers.remove(&worker);
        assert!(was_there, "worker {worker} is gone twice");
        self.let_go(now, out);
    }

    /// A superseded template leaves with its last worker: until then it reaps them.
    fn let_go(&mut self, now: Now, out: &mut Vec<Action>) {
        for (id, template) in &mut self.live {
            if template.state == State::Leaving && template.workers.is_empty() {
                template.enter(State::Unloading, now.mono);
                out.push(Action::StopTemplate { template: *id });
            }
        }
    }

    /// Everybody is gone or given up: the templates go too.
    pub fn stop(&mut self, now: Now, out: &mut Vec<Action>) {
        self.current = None;
        self.restart_at = None;
        let loading = |template: &Template| template.state == State::Loading;
        self.kill(loading, End::Expected, now, out);
        for (id, template) in &mut self.live {
            if matches!(template.state, State::Ready | State::Leaving) {
                template.enter(State::Unloading, now.mono);
                out.push(Action::StopTemplate { template: *id });
            }
        }
    }

    /// They are waited for no longer.
    pub fn stop_at_once(&mut self, now: Now, out: &mut Vec<Action>) {
        self.stop(now, out);
        self.kill(|_| true, End::Expected, now, out);
    }

    /// No template is started any more.
    pub fn start_no_more(&mut self) {
        self.restart_at = None;
    }

    fn kill(&mut self, which: impl Fn(&Template) -> bool, end: End, now: Now, out: &mut Vec<Action>) {
        for (id, template) in &mut self.live {
            if which(template) && !matches!(template.state, State::Killed(_)) {
                template.enter(State::Killed(end), now.mono);
                out.push(Action::KillTemplate { template: *id });
            }
        }
    }

    /// A template's process ended, see [`ended_unready`]. Returns the workers that it was asked for and has said nothing of.
    pub fn exited(
        &mut self,
        id: u64,
        (program, how): (Option<&Path>, &str),
        stopping: bool,
        now: Now,
        out: &mut Vec<Action>,
    ) -> BTreeSet<u64> {
        let Some(template) = self.live.remove(&id) else {
            return BTreeSet::new();
        };
        if self.current == Some(id) {
            self.current = None;
        }
        match template.end(now.mono) {
            _ if stopping => {}
            End::LoadFailed => self.load_failed(&template, (program, how), now, out),
            End::Died(ready_for) => {
                let restart = self.restarts.ended(Some(ready_for));
                // One that loads already takes its place.
                let loads = self.live.values().any(|other| other.state == State::Loading);
                self.restart_at = (!loads).then(|| now.mono + restart.wait);
                self.counted.deaths += 1;
                out.push(Action::Notice(Notice::TemplateDied {
                    generation: template.generation,
                    how: template.error.unwrap_or_else(|| how.to_owned()),
                    retry_in: restart.wait,
                    crash_loop: restart.crash_loop_begins,
                }));
            }
            End::Expected => {}
        }
        template.asked
    }

    /// A load that fails leaves what runs alone. Where nothing runs but something did, it is tried again;
    /// the very first load that fails ends the supervisor, which can't do its work.
    fn load_failed(
        &mut self,
        template: &Template,
        (program, how): (Option<&Path>, &str),
        now: Now,
        out: &mut Vec<Action>,
    ) {
        let said = template.error.clone();
        let error = said.unwrap_or_else(|| ended_unready(program, how));
        self.load_error = Some(error.clone());
        self.counted.load_failures += 1;
        let staying = self.current.and_then(|id| self.live.get(&id));
        let staying = staying.map(|current| current.generation);
        let mut restart = None;
        if let Some(generation) = staying {
            self.generation = generation;
        } else if self.loaded.is_some() {
            let next = self.restarts.ended(None);
            self.restart_at = Some(now.mono + next.wait);
            restart = Some(next);
        }
        out.push(Action::Notice(Notice::LoadFailed {
            generation: template.generation,
            error,
            staying,
            retry_in: restart.map(|restart| restart.wait),
            crash_loop: restart.is_some_and(|restart| restart.crash_loop_begins),
        }));
    }

    /// Does what is due. Returns the templates that did not even die, which count as gone from now on.
    pub fn tick(&mut self, now: Now, out: &mut Vec<Action>) -> Vec<u64> {
        if self.restart_at.is_some_and(|at| at <= now.mono) {
            self.restart_at = None;
            self.start(now, out);
        }
        let load_timeout = self.load_timeout;
        let mut given_up = Vec::new();
        for (id, template) in &mut self.live {
            let due = template.deadline(load_timeout);
            let Some((_, limit, asked)) = due.filter(|(at, ..)| *at <= now.mono) else {
                continue;
            };
            if asked != Asked::Load {
                let generation = template.generation;
                let notice = Notice::TemplateHangs {
                    generation,
                    asked,
                    limit,
                };
                out.push(Action::Notice(notice));
            }
            let limit = Human(limit);
            match asked {
                Asked::Load => {
                    let error = format!("the app did not load within {limit} (app.load_timeout)");
                    template.error = Some(error);
                }
                Asked::Fork => template.error = Some(format!("it did not fork a worker within {limit}")),
                Asked::Leave => {}
                Asked::Die => {
                    given_up.push(*id);
                    continue;
                }
            }
            let end = template.end(now.mono);
            template.enter(State::Killed(end), now.mono);
            out.push(Action::KillTemplate { template: *id });
            self.current = self.current.filter(|current| current != id);
        }
        given_up
    }
}

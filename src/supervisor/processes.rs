//! The processes of the supervisor: its templates and workers, and our ends of them.
//!
//! A process is one template or one worker: no two of them are told apart by the same id.

use std::collections::HashMap;

use nix::sys::signal::Signal;
use tokio::sync::mpsc::UnboundedSender;

use super::input::Input;
use super::link::Link;
use super::template::Template;
use crate::death::ProcessEnd;
use crate::fleet::Unread;
use crate::job::PoolName;
use crate::runtime::TemplateCommand;
use crate::wire::frame::{Packets, Run};
use crate::wire::message::{Load, ToTemplate};

/// All templates and workers that live, or whose end was not taken in yet.
#[derive(Debug)]
pub(super) struct Processes {
    templates: HashMap<u64, Template>,
    links: HashMap<u64, Link>,
    /// For frames, used again for each.
    packets: Packets,
    inputs: UnboundedSender<Input>,
}

impl Processes {
    /// None yet; what they say and print becomes inputs.
    pub fn new(inputs: UnboundedSender<Input>) -> Self {
        Processes {
            templates: HashMap::new(),
            links: HashMap::new(),
            packets: Packets::default(),
            inputs,
        }
    }

    /// Closes our end of all: what is left of them ends.
    pub fn close(&mut self) {
        self.links.clear();
        self.templates.clear();
    }

    // ---- templates ----

    /// Starts a template. Errors say what could not be done.
    pub fn start_template(
        &mut self,
        template: u64,
        command: &TemplateCommand,
        load: Load,
    ) -> Result<(), String> {
        let started = Template::start(template, command, load, &self.inputs)?;
        self.templates.insert(template, started);
        Ok(())
    }

    /// Tells a template to leave; one that can't be told is killed.
    pub fn stop_template(&self, template: u64) {
        if let Some(live) = self.templates.get(&template)
            && live.send(&ToTemplate::Stop, &[]).is_err()
        {
            live.kill();
        }
    }

    pub fn kill_template(&self, template: u64) {
        if let Some(template) = self.templates.get(&template) {
            template.kill();
        }
    }

    /// Its end was seen.
    pub fn forget_template(&mut self, template: u64) {
        self.templates.remove(&template);
    }

    /// Process ids of the templates.
    pub fn template_pids(&self) -> impl Iterator<Item = i32> {
        self.templates.values().map(Template::pid)
    }

    // ---- workers ----

    /// Asks a template for a worker, whose frames are no longer than this. Errors say what could not be done.
    pub fn fork(
        &mut self,
        template: u64,
        worker: u64,
        pool: &PoolName,
        frame_len_max: usize,
    ) -> Result<(), String> {
        let live = self.templates.get(&template).ok_or("the template is gone")?;
        let (link, ends) =
            Link::open(worker, frame_len_max, &self.inputs).map_err(|error| error.to_string())?;
        let message = ToTemplate::Fork {
            worker,
            pool: pool.to_string(),
        };
        live.send(&message, &ends.descriptors())?;
        self.links.insert(worker, link);
        Ok(())
    }

    /// A template names the process of a worker. Returns whether that is new; the error says why it can't be, and
    /// whatever was forked does not stay: its lifeline closes.
    pub fn is_born(&mut self, worker: u64, pid: i32) -> Result<bool, String> {
        let born = self.name(worker, pid);
        if born.is_err() {
            self.links.remove(&worker);
        }
        born
    }

    fn name(&mut self, worker: u64, pid: i32) -> Result<bool, String> {
        let reported = |why: &dyn std::fmt::Display| format!("its template reported a wrong process: {why}");
        let is_template = self.template_pids().any(|template| template == pid);
        let mut others = self.links.iter().filter(|(id, _)| **id != worker);
        if is_template || others.any(|(_, link)| link.pid() == Some(pid)) {
            return Err(reported(&format_args!(
                "process {pid} is a template or another worker"
            )));
        }
        let Some(link) = self.links.get_mut(&worker) else {
            return Ok(false);
        };
        link.forked(pid).map_err(|error| reported(&error))
    }

    /// It was not forked.
    pub fn forget_worker(&mut self, worker: u64) {
        self.links.remove(&worker);
    }

    /// Sends one job; `another_follows`: the next one is of the same batch.
    pub fn send(&mut self, worker: u64, run: &Run<'_>, another_follows: bool) {
        if let Some(link) = self.links.get(&worker) {
            link.send(run, another_follows, &mut self.packets);
        }
    }

    /// Asks a worker whether it has begun this execution.
    pub fn ping(&mut self, worker: u64, execution: u64) {
        if let Some(link) = self.links.get(&worker) {
            link.ping(execution, &mut self.packets);
        }
    }

    /// Takes back what a worker has not read; `None`: it is gone.
    pub fn take_back(&self, worker: u64) -> Option<Unread> {
        self.links.get(&worker).map(Link::take_back)
    }

    /// What lies first of what a worker has not read; `None`: it is gone, or that can't be told.
    pub fn first_unread(&self, worker: u64) -> Option<Unread> {
        self.links.get(&worker).and_then(Link::first_unread)
    }

    /// Closes our end of its socket.
    pub fn retire(&self, worker: u64) {
        if let Some(link) = self.links.get(&worker) {
            link.retire();
        }
    }

    /// Kills a worker and its process group.
    pub fn kill(&mut self, worker: u64) {
        if let Some(link) = self.links.get_mut(&worker) {
            link.kill();
        }
    }

    /// Sends a signal to a worker alone.
    pub fn signal(&self, worker: u64, signal: Signal) {
        if let Some(link) = self.links.get(&worker) {
            link.signal(signal);
        }
    }

    /// Lets go of a worker, whose lifeline closes. Returns what it had not read.
    pub fn abandon(&mut self, worker: u64) -> Unread {
        let link = self.links.remove(&worker);
        link.map(|link| link.take_back()).unwrap_or_default()
    }

    /// A worker is dead: what its job left running in its group goes with it. Returns what it had not read; `None`:
    /// its end was taken in before.
    pub fn bury(&mut self, worker: u64) -> Option<Unread> {
        let mut link = self.links.remove(&worker)?;
        link.kill();
        Some(link.take_back())
    }

    // ---- how they ended ----

    /// A template says how its worker ended.
    pub fn worker_ended(&mut self, worker: u64, end: ProcessEnd) {
        if let Some(link) = self.links.get_mut(&worker) {
            link.ended(end);
        }
    }

    /// A child of ours was reaped: a template, a worker whose template died, or an orphan that a job left.
    pub fn reaped(&mut self, pid: i32, end: ProcessEnd) {
        if let Some(template) = self.templates.values_mut().find(|template| template.pid() == pid) {
            template.ended(end);
        } else if let Some(link) = self.links.values_mut().find(|link| link.pid() == Some(pid)) {
            link.ended(end);
        }
    }
}

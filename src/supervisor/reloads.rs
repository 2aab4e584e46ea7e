//! Who waits for the end of a reload, and what they are told.

use tokio::sync::oneshot;

use crate::control::Reply;

/// The reloads that are on their way.
#[derive(Debug, Default)]
pub(super) struct Reloads {
    waiting: Vec<oneshot::Sender<Reply>>,
    /// Settings that the last one found changed, and that only a restart puts in force.
    needs_restart: Vec<String>,
}

impl Reloads {
    /// One begins. `needs_restart`: keys that it can't put in force; `reply`: who asked, if somebody waits.
    pub fn begin(&mut self, needs_restart: Vec<String>, reply: Option<oneshot::Sender<Reply>>) {
        self.needs_restart = needs_restart;
        self.waiting.extend(reply);
    }

    /// What the application changed and only a restart puts in force.
    pub fn need_restart_for(&mut self, what: Vec<String>) {
        self.needs_restart.extend(what);
    }

    /// All that began are done: this generation has taken over.
    pub fn succeed(&mut self, generation: u64) {
        let mut message = format!("generation {generation} is loaded; no older worker gets another job");
        if !self.needs_restart.is_empty() {
            message += &format!("; only a restart changes {}", self.needs_restart.join(", "));
        }
        self.tell(&Reply::done(message));
    }

    /// They failed.
    pub fn fail(&mut self, why: String) {
        self.tell(&Reply::error(why));
    }

    fn tell(&mut self, reply: &Reply) {
        for waiting in self.waiting.drain(..) {
            let _ = waiting.send(reply.clone()); // who asked may be gone
        }
    }
}

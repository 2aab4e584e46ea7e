//! The Lua scripts. All begin with `lua/common.lua`.

use redis::Script;

use super::RedisBroker;
use crate::broker::BrokerError;

/// A script of `lua/`, behind `common.lua`.
macro_rules! script {
    ($name:literal) => {
        Script::new(concat!(
            include_str!("lua/common.lua"),
            include_str!(concat!("lua/", $name, ".lua"))
        ))
    };
}

/// One that stores results, behind `store.lua`, too.
macro_rules! storing_script {
    ($name:literal) => {
        Script::new(concat!(
            include_str!("lua/common.lua"),
            include_str!("lua/store.lua"),
            include_str!(concat!("lua/", $name, ".lua"))
        ))
    };
}

/// Each is sent once to a server and then called by its hash.
#[derive(Debug)]
pub(super) struct Scripts {
    pub claim: Script,
    pub settle: Script,
    pub renew: Script,
    pub look: Script,
    pub handles: Script,
    pub rights: Script,
    pub find: Script,
    pub take_out: Script,
}

impl Scripts {
    pub fn new() -> Self {
        Scripts {
            claim: script!("claim"),
            settle: storing_script!("settle"),
            renew: script!("renew"),
            look: script!("look"),
            handles: script!("handles"),
            rights: script!("rights"),
            find: script!("find"),
            take_out: storing_script!("take_out"),
        }
    }
}

/// Stores results, whichever transport brought their tasks.
pub(in crate::broker::celery) fn store_results() -> Script {
    storing_script!("results")
}

impl RedisBroker {
    /// Whether all that the scripts do can be done: a right that is missing, or a key of another type, would be found when a
    /// message has left its list.
    pub(super) async fn find_rights(&self) -> Result<(), BrokerError> {
        let mut call = self.scripts.rights.prepare_invoke();
        call.arg(self.keys.unacked())
            .arg(self.keys.unacked_index())
            .arg(self.keys.handles())
            .arg(self.keys.unreadable())
            .arg(format!("pool:nobody:{}", self.handle));
        for queue in &self.consumer.app.queues {
            self.keys.lists(&queue.name).for_each(|list| {
                call.arg(list);
            });
        }
        let refused: Vec<String> = self.link.run_script(&call).await?;
        let refused: Vec<String> = refused
            .chunks_exact(2)
            .map(|pair| format!("{}: {}", pair[0], pair[1]))
            .collect();
        match refused.is_empty() {
            true => Ok(()),
            false => Err(BrokerError::Refused(format!(
                "{} refuses what a pool needs: {}",
                self.link.endpoint.shown,
                refused.join("; ")
            ))),
        }
    }
}

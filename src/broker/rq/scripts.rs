//! The Lua scripts, each made of the files that it needs. All begin with `lua/common.lua`.
//!
//! None fails half way: what can fail is looked at before the first write, or each job of a call stands for itself.

use redis::Script;

/// A script of these files of `lua/`, behind `common.lua`.
macro_rules! script {
    ($($name:literal),+) => {
        Script::new(concat!(include_str!("lua/common.lua"), $(include_str!(concat!("lua/", $name, ".lua"))),+))
    };
}

/// Each is sent once to a server and then called by its hash.
#[derive(Debug)]
pub(super) struct Scripts {
    pub claim: Script,
    pub enqueue: Script,
    pub recover: Script,
    pub reclaim: Script,
    pub settle: Script,
    pub whole: Script,
    pub extend: Script,
    pub roster: Script,
    pub backlog: Script,
    pub requeue: Script,
    pub schedule: Script,
    pub look_at_groups: Script,
}

impl Scripts {
    pub fn new() -> Self {
        Scripts {
            enqueue: script!("enqueue"),
            claim: script!("fail", "job", "start", "claim"),
            recover: script!("job", "recover"),
            reclaim: script!("reclaim"),
            settle: script!("fail", "first_failure", "wake", "settle"),
            whole: script!("first_failure", "whole"),
            extend: script!("extend"),
            roster: script!("roster"),
            backlog: script!("backlog"),
            requeue: script!("requeue"),
            schedule: script!("fail", "schedule"),
            look_at_groups: script!("first_failure", "look_at_groups"),
        }
    }
}

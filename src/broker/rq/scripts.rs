//! The Lua scripts, each made of the files that it needs. All begin with `lua/common.lua`.
//!
//! None fails half way: what can fail is looked at before the first write, or each job of a call stands for itself.

use redis::{ErrorKind, RedisResult, Script, ServerErrorKind};

use super::RqBroker;
use crate::broker::BrokerError;
use crate::broker::redis::tracking::Tracker;

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
    pub take_over: Script,
    pub settle: Script,
    pub extend: Script,
    pub roster: Script,
    pub backlog: Script,
    pub requeue: Script,
    pub schedule: Script,
    pub look_at_groups: Script,
    pub rights: Script,
    pub give_up: Script,
    pub cancel: Script,
    pub purge: Script,
    pub schedules: Script,
    pub fire: Script,
    pub progress: Script,
}

impl Scripts {
    pub fn new() -> Self {
        Scripts {
            enqueue: script!("rate_limit", "enqueue"),
            claim: script!("fail", "job", "start", "claim"),
            recover: script!("job", "recover"),
            reclaim: script!("give_back", "reclaim"),
            take_over: script!("give_back", "take_over"),
            settle: script!("fail", "first_failure", "wake", "rate_limit", "settle"),
            extend: script!("extend"),
            roster: script!("roster"),
            backlog: script!("backlog"),
            requeue: script!("rate_limit", "requeue"),
            schedule: script!("fail", "schedule"),
            look_at_groups: script!("first_failure", "look_at_groups"),
            rights: script!("rights"),
            give_up: script!("fail", "first_failure", "wake", "give_up"),
            cancel: script!("rate_limit", "cancel"),
            purge: script!("rate_limit", "purge"),
            schedules: script!("schedules"),
            // The due time and the job are one: what adds jobs is a function of what fires.
            fire: Script::new(concat!(
                include_str!("lua/common.lua"),
                include_str!("lua/rate_limit.lua"),
                "local function enqueue_jobs()\n",
                include_str!("lua/enqueue.lua"),
                "\nend\n",
                include_str!("lua/fire.lua")
            )),
            progress: script!("progress"),
        }
    }
}

impl RqBroker {
    /// Whether this user may run every command that the scripts use and that a pool sends; names those that are refused.
    pub(super) async fn find_rights(&self) -> Result<(), BrokerError> {
        let unused = uuid::Uuid::now_v7().to_string();
        let mut call = self.scripts.rights.prepare_invoke();
        call.arg(self.keys.names()).arg(&unused);
        let mut refused: Vec<String> = self.link.run_script(&call).await?;
        let key = format!("{}:nothing:{unused}", self.keys.prefix());
        for (name, words) in [
            (
                "BLMOVE",
                &[key.as_str(), key.as_str(), "LEFT", "LEFT", "0.001"][..],
            ),
            ("XREAD", &["COUNT", "1", "STREAMS", key.as_str(), "0"]),
            ("ZREVRANGE", &[key.as_str(), "0", "0"]),
        ] {
            let answer = self
                .link
                .command::<redis::Value>(redis::cmd(name).arg(words))
                .await;
            if self.is_forbidden(answer)? {
                refused.push(name.to_owned());
            }
        }
        let channel = self.keys.channel(&unused);
        let subscribed = async { self.link.endpoint.subscriber().await?.subscribe(&channel).await }.await;
        if self.is_forbidden(subscribed)? {
            refused.push(format!("SUBSCRIBE to {}", self.keys.channel("*")));
        }
        if self.is_forbidden(Tracker::open(&self.link.endpoint).await)? {
            refused.push("CLIENT TRACKING".to_owned());
        }
        if refused.is_empty() {
            return Ok(());
        }
        Err(BrokerError::Refused(format!(
            "{} refuses commands that a pool needs: {} (docs/rq.md has the rights that a user needs)",
            self.link.endpoint.shown,
            refused.join(", ")
        )))
    }

    /// Whether this answer says that the user lacks a right. Any other error is one.
    fn is_forbidden<T>(&self, answer: RedisResult<T>) -> Result<bool, BrokerError> {
        match answer {
            Ok(_) => Ok(false),
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoPerm) => Ok(true),
            Err(error) => Err(self.link.endpoint.error(&error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    /// The commands that a text of Lua calls: the first argument of `call`, `redis.call` and `redis.pcall`.
    fn commands(lua: &str) -> BTreeSet<&str> {
        let calls = lua.split("call(").skip(1);
        let quoted = calls.flat_map(|call| {
            call.lines()
                .next()
                .unwrap_or_default()
                .split('\'')
                .skip(1)
                .step_by(2)
        });
        let is_command = |word: &&str| word.len() > 2 && word.bytes().all(|byte| byte.is_ascii_uppercase());
        quoted.filter(is_command).collect()
    }

    #[test]
    fn each_command_of_the_scripts_is_asked_for() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/broker/rq/lua");
        let asked = include_str!("lua/rights.lua");
        let options = ["COUNT", "MAXLEN", "RANK", "LIMIT", "WITHSCORES"];
        let mut seen = 0;
        for file in std::fs::read_dir(folder).unwrap() {
            let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
            for command in commands(&text).difference(&options.into()) {
                assert!(
                    asked.contains(&format!("{{'{command}'")),
                    "{command} is not in rights.lua"
                );
                seen += 1;
            }
        }
        assert!(seen > 100, "{seen} commands");
    }
}

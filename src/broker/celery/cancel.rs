//! `pool cancel` and `pool stop-job`: tasks are revoked, as `celery control revoke` does it, and what can be known of them is
//! said.
//!
//! Each node keeps in its memory what was revoked, and ends such a task when its turn comes. Where messages can be seen, one
//! that waits is taken out of its queue besides: then it never runs, whoever listens.

use std::collections::HashSet;

use async_trait::async_trait;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Value, json};

use super::consumer::Consumer;
use super::control::Question;
use crate::broker::{BrokerError, Canceled};
use crate::job::{JobId, JobState, JobView};

/// Why nothing is known of a task after nobody answered.
const NOBODY: &str = "no worker answers, and only workers keep what was revoked";

/// Messages that wait in queues.
#[async_trait]
pub(super) trait Waiting: Send + Sync {
    /// Takes the messages of these tasks out of their queues, and stores that they were revoked. `None`: the server shows
    /// no messages.
    async fn take_out(&self, ids: &[JobId]) -> Result<Option<TakenOut>, BrokerError>;
}

/// What became of messages that waited.
#[derive(Debug, Default)]
pub(super) struct TakenOut {
    /// They are gone, and never run.
    pub gone: HashSet<String>,
    /// They wait still, see [`ends_by_worker`].
    pub stay: HashSet<String>,
}

/// What all nodes together say.
#[derive(Debug, Default, PartialEq, Eq)]
struct Nodes {
    /// How many answered.
    count: usize,
    /// Tasks that run.
    running: HashSet<String>,
    /// Tasks that are in hand and have not begun, or that are being terminated.
    held: HashSet<String>,
}

/// Who asks nodes and looks into queues.
pub(super) trait Transport: Question + Waiting {}

impl<T: Question + Waiting> Transport for T {}

impl Consumer {
    /// Those that run are left alone.
    pub async fn cancel(&self, ids: &[JobId], at: &dyn Transport) -> Result<Vec<Canceled>, BrokerError> {
        let states = self.states(ids).await?;
        let open = open_of(ids, &states);
        let mut nodes = Nodes::default();
        let about = json!({ "ids": open });
        for answer in self.ask(at, "query_task", &about, &open).await? {
            nodes.hear_of_tasks(&answer);
        }
        let runs = |id: &str| nodes.running.contains(id) || states.runs(id);
        let unbegun: Vec<JobId> = open.into_iter().filter(|id| !runs(id.as_str())).collect();
        let revoke = json!({ "task_id": unbegun });
        nodes.count = self.ask(at, "revoke", &revoke, &unbegun).await?.len();
        let taken = take_out(at, &unbegun).await?;
        let answer = |id: &JobId| match id.as_str() {
            id if states.ended.contains(id) => Canceled::Ended,
            id if runs(id) => Canceled::Runs,
            id => nodes.unbegun(id, taken.as_ref()),
        };
        Ok(ids.iter().map(answer).collect())
    }

    /// The processes of those that run are ended.
    pub async fn stop(&self, ids: &[JobId], at: &dyn Transport) -> Result<Vec<Canceled>, BrokerError> {
        let states = self.states(ids).await?;
        let open = open_of(ids, &states);
        let terminate = json!({ "task_id": open, "terminate": true, "signal": "SIGTERM" });
        let mut nodes = Nodes::default();
        for answer in self.ask(at, "revoke", &terminate, &open).await? {
            nodes.hear_of_terminated(&answer);
        }
        let taken = take_out(at, &open).await?;
        let answer = |id: &JobId| match (id.as_str(), nodes.unbegun(id.as_str(), taken.as_ref())) {
            (id, _) if states.ended.contains(id) => Canceled::Ended,
            // It said that it runs, and nobody knows of it: its node has no ear.
            (id, Canceled::Unknown | Canceled::Told(_) | Canceled::Refused(_)) if states.runs(id) => {
                Canceled::Runs
            }
            (_, answer) => answer,
        };
        Ok(ids.iter().map(answer).collect())
    }

    /// What each node answers that does what it is asked. About none of them nobody is asked.
    async fn ask(
        &self,
        at: &dyn Transport,
        method: &str,
        arguments: &Value,
        about: &[JobId],
    ) -> Result<Vec<Value>, BrokerError> {
        if about.is_empty() {
            return Ok(Vec::new());
        }
        let answers = self.ask_all(at, method, arguments).await?;
        let answers = answers.unwrap_or_default().into_iter();
        Ok(answers.filter(|answer| answer.get("error").is_none()).collect())
    }

    /// What results say; nothing where they can't be read.
    async fn states(&self, ids: &[JobId]) -> Result<States, BrokerError> {
        let Some(results) = &self.results else {
            return Ok(States::default());
        };
        let views = results.find(ids).await?;
        let those = |is: fn(&JobView) -> bool| {
            let them = views.iter().filter(|view| is(view));
            them.map(|view| view.id.to_string()).collect()
        };
        Ok(States {
            ended: those(|view| view.state.is_final()),
            running: those(|view| view.state == JobState::Running),
        })
    }
}

/// Tasks by what their results say.
#[derive(Debug, Default)]
struct States {
    ended: HashSet<String>,
    running: HashSet<String>,
}

impl States {
    fn runs(&self, id: &str) -> bool {
        self.running.contains(id)
    }
}

fn open_of(ids: &[JobId], states: &States) -> Vec<JobId> {
    let is_open = |id: &&JobId| !states.ended.contains(id.as_str());
    ids.iter().filter(is_open).cloned().collect()
}

async fn take_out(at: &dyn Transport, ids: &[JobId]) -> Result<Option<TakenOut>, BrokerError> {
    match ids.is_empty() {
        true => Ok(Some(TakenOut::default())),
        false => at.take_out(ids).await,
    }
}

impl Nodes {
    /// Source: `celery/worker/control.py`, `query_task`: of each task its state and more.
    fn hear_of_tasks(&mut self, answer: &Value) {
        self.count += 1;
        for (id, said) in answer.as_object().into_iter().flatten() {
            match said[0].as_str() {
                Some("active") => self.running.insert(id.clone()),
                Some(_) => self.held.insert(id.clone()),
                None => false,
            };
        }
    }

    /// Source: the same, `_revoke`: it names those that it knows.
    fn hear_of_terminated(&mut self, answer: &Value) {
        self.count += 1;
        let text = answer["ok"].as_str().unwrap_or_default();
        let known = text
            .strip_prefix("terminate: ")
            .filter(|known| *known != "tasks unknown");
        let ids = known.into_iter().flat_map(|known| known.split(", "));
        self.held.extend(ids.map(str::to_owned));
    }

    /// What became of one that has not begun. `taken`: what waited; `None`: nobody can see that.
    fn unbegun(&self, id: &str, taken: Option<&TakenOut>) -> Canceled {
        let is_among =
            |of: fn(&TakenOut) -> &HashSet<String>| taken.is_some_and(|taken| of(taken).contains(id));
        if is_among(|taken| &taken.gone) {
            return Canceled::Done;
        }
        if self.held.contains(id) {
            return Canceled::Asked;
        }
        let waits_unseen = taken.is_none() || is_among(|taken| &taken.stay);
        match (waits_unseen, self.count) {
            (true, 0) => Canceled::Refused(NOBODY.to_owned()),
            (true, count) => Canceled::Told(count),
            (false, _) => Canceled::Unknown,
        }
    }
}

/// Whether more hangs on this message than its own result: a chord that counts its parts, which a worker does when the turn of
/// a revoked task comes. Also where that can't be read. `payload`: what a worker gets.
pub(super) fn ends_by_worker(payload: &[u8]) -> bool {
    /// Source: `celery/app/amqp.py`, `as_task_v2`, `as_task_v1`.
    #[derive(Deserialize)]
    #[serde(untagged)]
    #[allow(dead_code)] // arguments
    enum Body {
        V2(IgnoredAny, IgnoredAny, Embed),
        V1(Embed),
    }
    #[derive(Deserialize)]
    struct Embed {
        #[serde(default)]
        chord: Option<IgnoredAny>,
    }
    let body = || {
        let (len, rest) = payload.split_first_chunk::<4>()?;
        let body = rest.get(usize::try_from(u32::from_le_bytes(*len)).ok()?..)?;
        serde_json::from_slice(body).ok()
    };
    match body() {
        Some(Body::V2(_, _, embed) | Body::V1(embed)) => embed.chord.is_some(),
        None => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nodes_say_tells_what_became_of_a_task() {
        let mut nodes = Nodes::default();
        nodes.hear_of_tasks(&json!({"runs": ["active", {}], "held": ["reserved", {}], "odd": 5}));
        nodes.hear_of_tasks(&Value::Null);
        assert_eq!((nodes.count, nodes.running.len(), nodes.held.len()), (2, 1, 1));
        nodes.hear_of_terminated(&json!({"ok": "terminate: a, b"}));
        nodes.hear_of_terminated(&json!({"ok": "terminate: tasks unknown"}));
        let taken = TakenOut {
            gone: HashSet::from(["gone".to_owned()]),
            stay: HashSet::from(["stays".to_owned()]),
        };
        let of = |id| nodes.unbegun(id, Some(&taken));
        assert_eq!(
            [of("gone"), of("held"), of("b"), of("stays"), of("other")],
            [
                Canceled::Done,
                Canceled::Asked,
                Canceled::Asked,
                Canceled::Told(4),
                Canceled::Unknown
            ]
        );
        assert_eq!(nodes.unbegun("other", None), Canceled::Told(4));
        let nobody = Nodes::default();
        assert_eq!(nobody.unbegun("gone", Some(&taken)), Canceled::Done);
        assert!(matches!(
            nobody.unbegun("stays", Some(&taken)),
            Canceled::Refused(_)
        ));
        assert!(matches!(nobody.unbegun("other", None), Canceled::Refused(_)));
    }

    #[test]
    fn a_part_of_a_chord_is_left_to_a_worker() {
        let payload = |body: &str| [&2_u32.to_le_bytes()[..], b"{}", body.as_bytes()].concat();
        for (body, is_left) in [
            (
                r#"[[1], {}, {"callbacks": null, "chain": null, "chord": null}]"#,
                false,
            ),
            (r#"[[1], {}, {"chord": {"task": "sum"}}]"#, true),
            (r#"{"task": "add", "args": [1], "chord": null}"#, false),
            (r#"{"task": "add", "chord": {"task": "sum"}}"#, true),
            ("pickled", true),
        ] {
            assert_eq!(ends_by_worker(&payload(body)), is_left, "{body}");
        }
    }
}

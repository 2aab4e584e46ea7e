//! What only the application's own code can do about a request, in some worker: its own commands, what is no plain JSON.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::Mailbox;
use super::supervisor::Supervisor;
use crate::broker::celery::consumer::Consumer;
use crate::broker::celery::held::Chore;
use crate::broker::celery::publish::Content;
use crate::broker::celery::remote::{Answer, Heard, Request};

impl Consumer {
    /// Answers a request with the help of the application's code.
    pub(super) async fn respond_by_application(
        self: Arc<Self>,
        heard: Heard,
        mailbox: Arc<dyn Mailbox>,
        supervisor: Supervisor,
    ) {
        let request = match heard {
            Heard::Plain(request) => request,
            Heard::Encoded { content, .. } => match self.decoded(content, &supervisor).await {
                Some(request) => request,
                None => return,
            },
        };
        if !self.node.is_for_application(&request) {
            return self.respond(request, &*mailbox, &supervisor).await;
        }
        let answer = self.carry_out_command(&request, &supervisor).await;
        let reply = match answer {
            Ok(content) => self.node.reply_with(request, content),
            Err(why) => self.node.reply(request, Ok(json!({ "error": why }))),
        };
        self.send_reply(reply, &*mailbox).await;
    }

    /// A command of the application's; its answer as the application writes it.
    async fn carry_out_command(&self, request: &Request, supervisor: &Supervisor) -> Result<Content, String> {
        let name = self.node.name();
        let chore = json!({"do": "command", "node": name});
        let told = self.ask_application(&request.content, &chore, supervisor).await?;
        content_of(&told).ok_or_else(|| "the command's answer can't be read".to_owned())
    }

    /// The answer as who asks expects it: in the application's own way.
    pub(super) async fn encoded(&self, answer: Answer, supervisor: &Supervisor) -> Result<Content, String> {
        let answer = self.node.shown(answer);
        let chore = json!({"do": "encode", "value": answer});
        let told = self
            .ask_application(&Content::default(), &chore, supervisor)
            .await?;
        content_of(&told).ok_or_else(|| "the answer can't be written".to_owned())
    }

    /// What a message says that is no plain JSON; `None`: nobody can read it, or it means somebody else.
    async fn decoded(&self, content: Content, supervisor: &Supervisor) -> Option<Request> {
        let told = self
            .ask_application(&content, &json!({"do": "decode"}), supervisor)
            .await;
        match told {
            Ok(body) if body.is_object() => self.node.hear_decoded(&body, content),
            Ok(_) => None, // its worker has said why
            Err(reason) => {
                tracing::warn!(%reason, "a remote control request can't be read");
                None
            }
        }
    }

    /// Has a chore done about a message, and returns what its worker says.
    async fn ask_application(
        &self,
        content: &Content,
        chore: &Value,
        supervisor: &Supervisor,
    ) -> Result<Value, String> {
        let pools = supervisor.picture().await?.pools;
        let queue = pools.into_iter().flat_map(|pool| pool.queues).next();
        let queue = queue.ok_or("no pool serves a queue")?;
        let number = self.hand().numbers(1);
        let chore = Chore::command(number, content, chore, queue);
        let answer = self.answers.expect(chore.of);
        self.chores.add(vec![chore]);
        answer
            .await
            .unwrap_or_else(|_| Err("the supervisor is leaving".to_owned()))
    }
}

fn content_of(told: &Value) -> Option<Content> {
    let text = |name: &str| Some(told[name].as_str()?.to_owned());
    Some(Content {
        content_type: text("content_type")?.into(),
        encoding: text("encoding")?.into(),
        compression: None,
        body: STANDARD.decode(told["body"].as_str()?).ok()?,
    })
}

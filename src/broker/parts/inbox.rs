//! The supervisor's end of a source: each verb leaves a message for the task that does the work.

use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::sync::oneshot;
use tokio::task::JoinError;

use crate::broker::source::{Demand, Event, Events, Source};
use crate::job::{Begun, Progress, Settlement, Token};

/// What the supervisor says.
#[derive(Debug)]
pub enum Message {
    /// See [`Source::demand`].
    Demand(Demand),
    /// See [`Source::began`].
    Began(Vec<Begun>),
    /// See [`Source::progressed`].
    Progress(Token, Progress),
    /// See [`Source::settle`].
    Settle(Vec<Settlement>),
    /// See [`Source::close`].
    Close {
        /// How long outcomes may take to be handed over.
        within: Duration,
        /// Told how many were not.
        unsettled: oneshot::Sender<usize>,
    },
}

#[derive(Debug)]
struct Inbox(UnboundedSender<Message>);

impl Source for Inbox {
    fn demand(&mut self, demand: Demand) {
        let _ = self.0.send(Message::Demand(demand));
    }

    fn began(&mut self, begun: Vec<Begun>) {
        let _ = self.0.send(Message::Began(begun));
    }

    fn progressed(&mut self, of: Token, progress: Progress) {
        let _ = self.0.send(Message::Progress(of, progress));
    }

    fn settle(&mut self, outcomes: Vec<Settlement>) {
        let _ = self.0.send(Message::Settle(outcomes));
    }

    fn close(self: Box<Self>, within: Duration) -> BoxFuture<'static, usize> {
        let (unsettled, answer) = oneshot::channel();
        let _ = self.0.send(Message::Close { within, unsettled });
        Box::pin(async { answer.await.unwrap_or(0) })
    }
}

/// Starts the task that works on what the supervisor says. Should it panic, the supervisor hears that the source has ended.
///
/// Must be called inside a tokio runtime.
pub fn start<W>(events: Events, work: impl FnOnce(UnboundedReceiver<Message>) -> W) -> Box<dyn Source>
where
    W: Future<Output = ()> + Send + 'static,
{
    let (sender, inbox) = mpsc::unbounded_channel();
    let work = tokio::spawn(work(inbox));
    tokio::spawn(async move {
        if let Err(error) = work.await {
            events.send(Event::Ended { why: why(error) });
        }
    });
    Box::new(Inbox(sender))
}

/// What a panic said.
fn why(error: JoinError) -> String {
    let Ok(panic) = error.try_into_panic() else {
        return "it was canceled".to_owned();
    };
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string))
        .unwrap_or_else(|| "it panicked".to_owned())
}

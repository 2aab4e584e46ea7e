//! What a source does about deliveries that have begun, and about those that are called off before.

use super::Pulled;
use super::message::{Answer, Kind};
use crate::broker::BrokerError;
use crate::broker::source::{Event, StopHow};
use crate::job::{Claim, Token};
use crate::time::Mono;

impl Pulled {
    pub(super) fn may_watch(&self, now: Mono) -> bool {
        let may_try = |kind| {
            self.backoffs
                .get(&kind)
                .is_none_or(|backoff| backoff.may_try(now))
        };
        may_try(Kind::Begin) && may_try(Kind::Watch)
    }

    /// Notes what has begun, and hears of what is called off.
    pub(super) fn watch_begins(&mut self, now: Mono) {
        if !self.begins.is_watching()
            && let Some((watch, _)) = self.watch.take()
        {
            watch.abort();
        }
        if self.closing.is_some() || !self.may_watch(now) {
            return;
        }
        let due = self.begins.due(now);
        let with_claims = |tokens: Vec<Token>| -> (Vec<Token>, Vec<Claim>) {
            let with_claim = |token| Some((token, self.held.get(token)?.clone()));
            tokens.into_iter().filter_map(with_claim).unzip()
        };
        if !due.note.is_empty() {
            let (broker, (tokens, claims)) = (self.broker.clone(), with_claims(due.note));
            self.calls.spawn(async move {
                let result = broker.note_begun(claims).await;
                Answer::Noted { tokens, result }
            });
        }
        if let Some(tokens) = due.watch {
            let (broker, (tokens, claims)) = (self.broker.clone(), with_claims(tokens));
            self.watches += 1;
            let number = self.watches;
            let watch = self.calls.spawn(async move {
                let called_off = broker.called_off(&claims).await;
                let of = |(at, how): (usize, StopHow)| Some((*tokens.get(at)?, how));
                Answer::CalledOff {
                    watch: number,
                    result: called_off.map(|called_off| called_off.into_iter().filter_map(of).collect()),
                }
            });
            if let Some((before, _)) = self.watch.replace((watch, number)) {
                before.abort();
            }
        }
    }

    /// Some of those that are watched were called off.
    pub(super) fn called_off(
        &mut self,
        watch: u64,
        result: Result<Vec<(Token, StopHow)>, BrokerError>,
        now: Mono,
    ) {
        // Another one may have taken its place just now.
        if self.watch.take_if(|(_, number)| *number == watch).is_some() {
            self.begins.watch_ended(now);
        }
        let called_off = match result {
            Ok(called_off) => {
                self.backoff(Kind::Watch).worked();
                called_off
            }
            Err(error) => {
                // Jobs go on without it.
                tracing::debug!(%error, "cannot hear of jobs that are canceled");
                let jitter = self.rng.f64();
                self.backoff(Kind::Watch).failed(now, jitter);
                Vec::new()
            }
        };
        for (token, how) in called_off {
            if self.held.get(token).is_some() {
                self.begins.call_off(token, how, now);
                self.events.send(Event::Stop { token, how });
            }
        }
    }
}

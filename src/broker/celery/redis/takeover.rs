//! What a process that died held goes back to the front of its queues as soon as another one of ours knows of the death.
//! Stock workers do it after the visibility timeout, and their lock (`unacked_mutex`) is none of ours: a claim is given
//! back by whoever removes its tag.

use std::sync::{Mutex, PoisonError};

use super::RedisBroker;
use super::keys::number_of;
use super::settle::Line;
use crate::broker::BrokerError;
use crate::broker::celery::envelope::{returned, unacked};
use crate::time::Unix;

/// Fields of `unacked` that the server looks at in one call.
const SCAN: usize = 1000;

/// When other handles' leases end, as far as is known.
#[derive(Debug, Default)]
pub(super) struct Peers(Mutex<Option<i64>>);

impl Peers {
    /// The first lease of another handle ends then; `None`: there is none. In seconds of the server's clock.
    pub fn first_lease_ends(&self, at: Option<i64>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = at;
    }

    /// When that is.
    pub fn next(&self) -> Option<Unix> {
        let next = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A score counts whole seconds, and a lease ends behind its last one.
        next.map(|seconds| Unix(seconds.saturating_add(1).saturating_mul(1000)))
    }
}

impl RedisBroker {
    /// Gives back what dead handles held, if a lease may have ended by now. Returns how many messages that were.
    pub(super) async fn take_over_when_due(&self) -> Result<u64, BrokerError> {
        match self.peers.next() {
            Some(at) if at <= Unix::now() => self.take_over().await,
            _ => Ok(0),
        }
    }

    /// Gives back what dead handles held. Returns how many messages that were.
    pub(super) async fn take_over(&self) -> Result<u64, BrokerError> {
        let mut count = 0;
        let mut dead = self.dead_handles(&[]).await?;
        while !dead.is_empty() {
            for handle in &dead {
                count += self.give_back_of(handle).await?;
            }
            let before = std::mem::take(&mut dead);
            dead = self.dead_handles(&before).await?;
            dead.retain(|handle| !before.contains(handle));
        }
        Ok(count)
    }

    /// Those whose lease has ended; of `done` nothing is left.
    async fn dead_handles(&self, done: &[String]) -> Result<Vec<String>, BrokerError> {
        let mut call = self.scripts.handles.prepare_invoke();
        call.arg(self.keys.handles()).arg(&self.handle);
        for handle in done {
            call.arg(handle);
        }
        let mut answer: Vec<String> = self.link.run_script(&call).await?;
        if answer.is_empty() {
            return Ok(answer);
        }
        let first = answer.remove(0);
        self.peers
            .first_lease_ends(first.parse::<f64>().ok().map(|seconds| seconds as i64));
        Ok(answer)
    }

    async fn give_back_of(&self, handle: &str) -> Result<u64, BrokerError> {
        let mut held: Vec<(i64, Line)> = Vec::new();
        let mut cursor = 0u64;
        loop {
            let mut scan = redis::cmd("HSCAN");
            scan.arg(self.keys.unacked()).arg(cursor);
            scan.arg("MATCH")
                .arg(format!("pool:{handle}:*"))
                .arg("COUNT")
                .arg(SCAN);
            let (next, flat): (u64, Vec<Vec<u8>>) = self.link.run_command(&scan).await?;
            for pair in flat.chunks_exact(2) {
                held.extend(self.returned_entry(&pair[0], &pair[1]));
            }
            cursor = next;
            if cursor == 0 {
                break;
            }
        }
        // Each one goes in front of those before it; a scan may tell of one twice.
        held.sort_by_key(|(number, _)| std::cmp::Reverse(*number));
        held.dedup_by_key(|(number, _)| *number);
        let lines: Vec<Line> = held.into_iter().map(|(_, line)| line).collect();
        let given_back = self.carry_out(&lines).await?;
        let count = given_back.iter().filter(|back| **back).count();
        Ok(count as u64)
    }

    fn returned_entry(&self, tag: &[u8], entry: &[u8]) -> Option<(i64, Line)> {
        let tag = String::from_utf8(tag.to_vec()).ok()?;
        let number = number_of(&tag)?;
        let line = match unacked(entry) {
            Some((raw, queue)) => {
                let (raw, priority) = returned(&raw, 0);
                Line::back(tag, self.keys.list_for(&queue, priority), raw)
            }
            None => Line::unreadable(tag),
        };
        Some((number, line))
    }
}

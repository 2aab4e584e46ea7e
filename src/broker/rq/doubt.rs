//! Claims whose answer never came: the server may have carried them out, or may still do so.
//!
//! Each claim for the same queues, or for these and more, looks first for what an earlier one took, which is known by the
//! numbers of its executions. A look settles it once nothing more can come of it: when the server has closed the connection by which it
//! came, which it is told to do on another one (`CLIENT KILL`); when that server was started anew since; or, where none
//! of this can be known, when the claim's deadline has passed (see [`super::connection::Line::deadline`]).

use std::collections::BTreeSet;
use std::time::Duration;

use redis::Value;

use super::RqBroker;
use super::claim::row;
use super::connection::{ClientId, is_broken};
use crate::broker::BrokerError;
use crate::job::{Claimed, QueueName};
use crate::time::Mono;

/// How soon a server that can't be asked is tried again by who must know: this doubles up to the second.
const PAUSE: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// One such claim.
#[derive(Debug)]
struct Doubt {
    /// The queues that it asked for.
    queues: Vec<QueueName>,
    /// Its executions have the numbers from here…
    first: i64,
    /// …to before here.
    end: i64,
    /// From then on it is not carried out any more.
    until: Mono,
    /// The connection by which it came, as long as that may be there and may be ended.
    by: Option<ClientId>,
    /// What was found of it.
    found: BTreeSet<i64>,
}

impl Doubt {
    /// It asked for none but these: one of a pool's queues, or all.
    fn is_within(&self, queues: &[QueueName]) -> bool {
        self.queues.iter().all(|queue| queues.contains(queue))
    }
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Doubts(Vec<Doubt>);

impl Doubts {
    /// No answer came to a claim of `count` executions from `first` on, which was sent on the connection `by`.
    pub fn add(&mut self, queues: &[QueueName], first: i64, count: usize, until: Mono, by: Option<ClientId>) {
        let end = first.saturating_add(i64::try_from(count).unwrap_or(i64::MAX));
        self.0.push(Doubt {
            queues: queues.to_vec(),
            first,
            end,
            until,
            by,
            found: BTreeSet::new(),
        });
    }

    /// The numbers to look for before the next claim for these queues, from and to before.
    pub fn ranges(&self, queues: &[QueueName]) -> Vec<(i64, i64)> {
        self.of(queues).map(|doubt| (doubt.first, doubt.end)).collect()
    }

    /// When the next look for these queues makes sure of one more claim.
    pub fn next(&self, queues: &[QueueName]) -> Option<Mono> {
        self.of(queues).map(|doubt| doubt.until).min()
    }

    /// The claim that is made sure of first: its queues, and when.
    pub fn first(&self) -> Option<(Vec<QueueName>, Mono)> {
        let doubt = self.0.iter().min_by_key(|doubt| doubt.until)?;
        Some((doubt.queues.clone(), doubt.until))
    }

    /// Takes note that this execution was found. Returns whether it is news.
    pub fn find(&mut self, number: i64) -> bool {
        let mut of_it = self.0.iter_mut();
        of_it
            .find(|doubt| (doubt.first..doubt.end).contains(&number))
            .is_some_and(|doubt| doubt.found.insert(number))
    }

    /// The connections by which such claims for these queues came, and which may still be there.
    fn connections(&self, queues: &[QueueName]) -> Vec<ClientId> {
        self.of(queues).filter_map(|doubt| doubt.by.clone()).collect()
    }

    /// This connection is no more: nothing that came by it is carried out from `at` on.
    fn ended(&mut self, by: &ClientId, at: Mono) {
        for doubt in self.by(by) {
            doubt.until = doubt.until.min(at);
            doubt.by = None;
        }
    }

    /// This connection can't be ended: time decides.
    fn cannot_end(&mut self, by: &ClientId) {
        self.by(by).for_each(|doubt| doubt.by = None);
    }

    fn by(&mut self, by: &ClientId) -> impl Iterator<Item = &mut Doubt> {
        self.0
            .iter_mut()
            .filter(move |doubt| doubt.by.as_ref() == Some(by))
    }

    /// A look that began at `began` found all that there was for these queues.
    pub fn looked(&mut self, queues: &[QueueName], began: Mono) {
        self.0
            .retain(|doubt| !doubt.is_within(queues) || doubt.until > began);
    }

    fn of<'a>(&'a self, queues: &'a [QueueName]) -> impl Iterator<Item = &'a Doubt> {
        self.0.iter().filter(move |doubt| doubt.is_within(queues))
    }
}

impl RqBroker {
    /// What an earlier claim for these queues took although its answer never came.
    pub(super) async fn recover(&self, queues: &[QueueName]) -> Result<Vec<Claimed>, BrokerError> {
        let ranges = self.doubts().ranges(queues);
        if ranges.is_empty() {
            return Ok(Vec::new());
        }
        self.end_connections(queues).await?;
        let began = Mono::now();
        let mut call = self.scripts.recover.prepare_invoke();
        call.arg(self.keys.prefix())
            .arg(&self.execution_prefix)
            .arg(ranges.len());
        for (first, end) in ranges {
            call.arg(first).arg(end);
        }
        for queue in queues {
            call.arg(queue.as_str());
        }
        let found: Vec<Value> = self.run(&call).await?;
        let jobs: Vec<Claimed> = found.into_iter().filter_map(|job| self.recovered(job)).collect();
        self.doubts().looked(queues, began);
        if !jobs.is_empty() {
            tracing::info!(
                jobs = jobs.len(),
                "jobs were taken although no answer came; they run now"
            );
        }
        Ok(jobs)
    }

    /// Ends the connections by which these claims came.
    async fn end_connections(&self, queues: &[QueueName]) -> Result<(), BrokerError> {
        let connections = self.doubts().connections(queues);
        for client in connections {
            match self.link.command_about(&client, &["KILL", "ID"]).await {
                // Ended, or ended before, or its server was.
                Ok(_) => self.doubts().ended(&client, Mono::now()),
                Err(error) => match self.link.endpoint.error(&error) {
                    later if is_broken(&error) || matches!(later, BrokerError::Busy { .. }) => {
                        return Err(later);
                    }
                    // This server, or this user there, does no such thing.
                    _ => self.doubts().cannot_end(&client),
                },
            }
        }
        Ok(())
    }

    /// Makes sure of all claims whose answer never came; what they took is in hand then.
    pub(super) async fn recover_all(&self) -> Result<(), BrokerError> {
        let mut pause = PAUSE;
        loop {
            let Some((queues, until)) = self.doubts().first() else {
                return Ok(());
            };
            let left = until.since(Mono::now());
            match self.recover(&queues).await {
                Ok(_) => {
                    // Of those that are left nobody can say more before their time is over.
                    let next = self.doubts().next(&queues);
                    tokio::time::sleep(next.map_or(Duration::ZERO, |at| at.since(Mono::now()))).await;
                }
                Err(error) if left.is_zero() => return Err(error),
                Err(_) => {
                    tokio::time::sleep(pause.min(left)).await;
                    pause = (pause * 2).min(PAUSE_MAX);
                }
            }
        }
    }

    /// One of those, if it is not known already.
    fn recovered(&self, job: Value) -> Option<Claimed> {
        let row = row(job)?;
        let number = String::from_utf8_lossy(&row[2]).parse().ok()?;
        let is_new = self.doubts().find(number);
        is_new.then(|| self.taken(&row)).flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queues(names: &[&str]) -> Vec<QueueName> {
        names.iter().map(|name| QueueName::new(name).unwrap()).collect()
    }

    #[test]
    fn a_claim_is_looked_for_until_a_look_began_after_its_time() {
        let (mut doubts, mail) = (Doubts::default(), queues(&["mail"]));
        doubts.add(&mail, 5, 3, Mono(100), None);
        doubts.looked(&mail, Mono(99));
        assert_eq!(doubts.ranges(&mail), [(5, 8)]);
        assert_eq!(doubts.next(&mail), Some(Mono(100)));
        doubts.looked(&mail, Mono(100));
        assert_eq!(doubts.ranges(&mail), []);
        assert_eq!(doubts.next(&mail), None);
    }

    #[test]
    fn a_claim_whose_connection_is_no_more_is_settled_by_the_next_look() {
        let (mut doubts, mail) = (Doubts::default(), queues(&["mail"]));
        let [cut, other] = [7, 8].map(ClientId::of_test);
        doubts.add(&mail, 1, 1, Mono(100), Some(cut.clone()));
        doubts.add(&mail, 2, 1, Mono(100), Some(other.clone()));
        assert_eq!(doubts.connections(&mail), [cut.clone(), other.clone()]);
        doubts.ended(&cut, Mono(50));
        doubts.looked(&mail, Mono(49));
        assert_eq!(doubts.ranges(&mail), [(1, 2), (2, 3)], "a look that began before");
        doubts.looked(&mail, Mono(50));
        assert_eq!(doubts.ranges(&mail), [(2, 3)]);
        doubts.cannot_end(&other);
        assert_eq!(doubts.connections(&mail), []);
        assert_eq!(doubts.next(&mail), Some(Mono(100)), "its time is waited for");
    }

    #[test]
    fn what_was_found_once_is_not_found_again() {
        let (mut doubts, mail) = (Doubts::default(), queues(&["mail"]));
        doubts.add(&mail, 5, 3, Mono(100), None);
        assert!(doubts.find(7));
        assert!(!doubts.find(7));
        assert!(!doubts.find(8), "of no claim in doubt");
    }

    #[test]
    fn a_claim_belongs_to_who_serves_all_its_queues() {
        let mut doubts = Doubts::default();
        doubts.add(&queues(&["a", "b"]), 1, 1, Mono(100), None);
        doubts.add(&queues(&["b"]), 2, 1, Mono(100), None);
        assert_eq!(doubts.ranges(&queues(&["b", "a"])), [(1, 2), (2, 3)]);
        assert_eq!(doubts.ranges(&queues(&["b"])), [(2, 3)]);
        assert_eq!(doubts.ranges(&queues(&["a"])), []);
        doubts.looked(&queues(&["b"]), Mono(100));
        assert_eq!(doubts.ranges(&queues(&["a", "b"])), [(1, 2)]);
    }
}

//! Tasks that were revoked: they do not run, whenever they come. Source: `celery/worker/state.py`, `revoked`.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use crate::time::Mono;

/// Ids that are remembered. Source: `REVOKES_MAX`.
const COUNT_MAX: usize = 50_000;
/// How long each is. Source: `REVOKE_EXPIRES`.
pub(super) const LIFE: Duration = Duration::from_secs(10_800);

/// Their ids.
#[derive(Debug, Default)]
pub(super) struct Revoked {
    /// When each was revoked last.
    since: HashMap<String, Mono>,
    /// The oldest first; those that were revoked again stand here twice.
    order: VecDeque<(Mono, String)>,
}

impl Revoked {
    pub fn add(&mut self, ids: impl IntoIterator<Item = String>, now: Mono) {
        for id in ids {
            self.since.insert(id.clone(), now);
            self.order.push_back((now, id));
        }
        self.purge(now);
    }

    pub fn contains(&mut self, id: &str, now: Mono) -> bool {
        self.purge(now);
        self.since.contains_key(id)
    }

    /// The oldest first.
    pub fn list(&mut self, now: Mono) -> Vec<String> {
        self.purge(now);
        let is_last = |(since, id): &&(Mono, String)| self.since.get(id) == Some(since);
        let mut list: Vec<String> = self
            .order
            .iter()
            .filter(is_last)
            .map(|(_, id)| id.clone())
            .collect();
        list.dedup();
        list
    }

    fn purge(&mut self, now: Mono) {
        while let Some((since, id)) = self.order.front() {
            let is_old = self.since.get(id) != Some(since);
            if !is_old && self.since.len() <= COUNT_MAX && now.since(*since) < LIFE {
                return;
            }
            if !is_old {
                self.since.remove(id);
            }
            self.order.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_are_forgotten() {
        let texts = |texts: &[&str]| texts.iter().map(ToString::to_string).collect::<Vec<_>>();
        let (mut revoked, start) = (Revoked::default(), Mono(0));
        revoked.add(texts(&["a", "b"]), start);
        revoked.add(texts(&["a"]), start + LIFE / 2);
        assert_eq!(revoked.list(start + LIFE / 2), ["b", "a"]);
        assert_eq!(revoked.list(start + LIFE), ["a"]);
        assert!(!revoked.contains("b", start + LIFE) && revoked.contains("a", start + LIFE));
        revoked.add((0..COUNT_MAX).map(|number| number.to_string()), start + LIFE);
        assert!(!revoked.contains("a", start + LIFE) && revoked.contains("0", start + LIFE));
        assert_eq!(revoked.list(start + LIFE * 3), [""; 0]);
        assert!(revoked.order.is_empty());
    }
}

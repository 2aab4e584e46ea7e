//! What comes again by itself: the renewal of the lease, and housekeeping at the broker.

use std::time::Duration;

use crate::broker::{BrokerError, Maintained};
use crate::time::Mono;

/// Housekeeping after work, and without.
const MAINTAIN_ACTIVE: Duration = Duration::from_secs(30);
const MAINTAIN_IDLE: Duration = Duration::from_secs(600);

/// When each of them is due.
#[derive(Debug)]
pub(super) struct Upkeep {
    heartbeat: Duration,
    next_heartbeat: Option<Mono>,
    renewing: bool,
    next_maintenance: Mono,
    /// Something was settled since the last housekeeping.
    active: bool,
}

impl Upkeep {
    /// The lease is renewed so often while something is held under it.
    pub fn new(heartbeat: Duration, now: Mono) -> Self {
        Upkeep {
            heartbeat,
            next_heartbeat: None,
            renewing: false,
            next_maintenance: now + MAINTAIN_ACTIVE,
            active: true,
        }
    }

    /// Whether the lease is to be renewed now. `holds`: something is held under it.
    pub fn begins_renewal(&mut self, holds: bool, now: Mono) -> bool {
        if !holds {
            self.next_heartbeat = None;
            return false;
        }
        let due = *self.next_heartbeat.get_or_insert(now + self.heartbeat);
        let begins = due <= now && !self.renewing;
        if begins {
            self.next_heartbeat = Some(now + self.heartbeat);
            self.renewing = true;
        }
        begins
    }

    pub fn renewed(&mut self) {
        self.renewing = false;
    }

    /// The lease could not be renewed, and may run out before the next time: it is tried again then.
    pub fn renews_again(&mut self, at: Option<Mono>) {
        self.next_heartbeat = at;
    }

    /// Whether housekeeping is to be done now: often while there is work, seldom without.
    pub fn begins_maintenance(&mut self, now: Mono) -> bool {
        let begins = self.next_maintenance <= now;
        if begins {
            let active = std::mem::take(&mut self.active);
            self.next_maintenance = now + if active { MAINTAIN_ACTIVE } else { MAINTAIN_IDLE };
        }
        begins
    }

    /// There is work.
    pub fn work_goes_on(&mut self) {
        self.active = true;
    }

    /// When the lease is due next.
    pub fn next_renewal(&self) -> Option<Mono> {
        self.next_heartbeat.filter(|_| !self.renewing)
    }

    /// When housekeeping is.
    pub fn next_maintenance(&self) -> Mono {
        self.next_maintenance
    }
}

/// Tells what housekeeping did.
pub(super) fn maintained(result: Result<Maintained, BrokerError>) {
    match result {
        Ok(done) if done.recovered > 0 => tracing::warn!(
            jobs = done.recovered,
            "took back jobs of a supervisor that is gone"
        ),
        Ok(_) => {}
        Err(error) => tracing::debug!(%error, "housekeeping at the broker failed"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_renewed_while_something_is_held_one_call_at_a_time() {
        let beat = Duration::from_secs(10);
        let start = Mono(0);
        let mut upkeep = Upkeep::new(beat, start);
        assert!(!upkeep.begins_renewal(true, start));
        assert_eq!(upkeep.next_renewal(), Some(start + beat));
        assert!(upkeep.begins_renewal(true, start + beat));
        assert!(
            !upkeep.begins_renewal(true, start + beat * 3),
            "one is on its way"
        );
        upkeep.renewed();
        upkeep.renews_again(Some(start + beat * 3));
        assert!(upkeep.begins_renewal(true, start + beat * 3));
        upkeep.renewed();
        assert!(!upkeep.begins_renewal(false, start + beat * 9));
        assert_eq!(upkeep.next_renewal(), None);
    }

    #[test]
    fn housekeeping_is_seldom_without_work() {
        let start = Mono(0);
        let mut upkeep = Upkeep::new(Duration::from_secs(10), start);
        assert!(!upkeep.begins_maintenance(start));
        let first = start + MAINTAIN_ACTIVE;
        assert!(upkeep.begins_maintenance(first));
        let second = first + MAINTAIN_ACTIVE;
        assert_eq!(upkeep.next_maintenance(), second);
        assert!(upkeep.begins_maintenance(second));
        assert_eq!(upkeep.next_maintenance(), second + MAINTAIN_IDLE);
    }
}

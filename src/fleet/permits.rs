//! Permits that processes hold: from the fork to the end of each, whatever it does in between.

use std::collections::{BTreeMap, BTreeSet};

use crate::job::PoolName;
use crate::policy::permits::Permits;

use super::register::Register;

/// Lets a process of a pool be forked only while there are permits for it.
#[derive(Debug, Default)]
pub(super) struct HeldPermits {
    /// What there is of each kind.
    total: Permits,
    /// What each process of a pool takes; pools that take nothing are left out.
    each: BTreeMap<PoolName, Permits>,
    /// Pools that lack workers, and have no permits for them.
    lacking: BTreeSet<PoolName>,
    /// One of those may have what it needs now.
    is_due: bool,
}

impl HeldPermits {
    /// Takes new settings: what there is, and what a process of each pool takes.
    pub fn configure<'a>(
        &mut self,
        total: &Permits,
        pools: impl Iterator<Item = (&'a PoolName, &'a Permits)>,
    ) {
        self.total = total.clone();
        let takes = pools.filter(|(_, permits)| !permits.0.is_empty());
        self.each = takes
            .map(|(name, permits)| (name.clone(), permits.clone()))
            .collect();
        self.lacking.clear();
    }

    /// Whether there are permits for one more process of a pool.
    pub fn are_free(&self, pool: &PoolName, register: &Register) -> bool {
        let Some(each) = self.each.get(pool) else {
            return true;
        };
        each.0.iter().all(|(kind, count)| {
            let held = self.each.iter().map(|(holder, permits)| {
                let processes = u32::try_from(register.processes(holder)).unwrap_or(u32::MAX);
                processes.saturating_mul(permits.of(kind))
            });
            let held = held.fold(0, u32::saturating_add);
            held.saturating_add(count.get()) <= self.total.of(kind)
        })
    }

    /// A pool lacks workers, or has all that it should have. If it lacks permits for them, it is told when some come back.
    pub fn lacks(&mut self, pool: &PoolName, lacks: bool, register: &Register) {
        if lacks && !self.are_free(pool, register) {
            self.lacking.insert(pool.clone());
        } else {
            self.lacking.remove(pool);
        }
    }

    /// Whether another pool lacks workers for want of permits.
    pub fn are_wanted_beside(&self, pool: &PoolName) -> bool {
        self.each.contains_key(pool) && self.lacking.iter().any(|other| other != pool)
    }

    /// A process is gone.
    pub fn process_gone(&mut self) {
        self.is_due = !self.lacking.is_empty();
    }

    /// Whether pools that lack workers are to try again; once.
    pub fn take_due(&mut self) -> bool {
        std::mem::take(&mut self.is_due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::num::NonZeroU32;

    fn permits(counts: &[(&str, u32)]) -> Permits {
        let count = |(kind, count): &(&str, u32)| (kind.to_string(), NonZeroU32::new(*count).unwrap());
        Permits(counts.iter().map(count).collect())
    }

    #[test]
    fn processes_hold_their_permits_to_their_end() {
        let name = |name: &str| PoolName::new(name).unwrap();
        let (mail, reports, other) = (name("mail"), name("reports"), name("other"));
        let (one, three, none) = (
            permits(&[("database", 1)]),
            permits(&[("database", 3)]),
            Permits::default(),
        );
        let mut held = HeldPermits::default();
        let pools = [(&mail, &one), (&reports, &three), (&other, &none)];
        held.configure(&permits(&[("database", 5)]), pools.into_iter());
        let mut register = Register::new(0);
        assert!(held.are_free(&reports, &register));
        let report = register.new_worker(&reports);
        assert!(!held.are_free(&reports, &register), "2 are left of 5");
        assert!(held.are_free(&mail, &register));
        register.new_worker(&mail);
        register.new_worker(&mail);
        assert!(!held.are_free(&mail, &register));
        assert!(held.are_free(&other, &register), "it takes none");
        held.process_gone();
        assert!(!held.take_due(), "nobody waits");
        held.lacks(&mail, true, &register);
        assert!(
            held.are_wanted_beside(&reports)
                && !held.are_wanted_beside(&mail)
                && !held.are_wanted_beside(&other)
        );
        register.worker_gone(report);
        held.process_gone();
        assert!(held.take_due() && !held.take_due());
        held.lacks(&mail, true, &register);
        assert!(held.are_free(&mail, &register) && !held.are_wanted_beside(&reports));
    }
}

//! What processes take of permits, and that it is never more than there is.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use fastrand::Rng;
use pool::config::{Config, PoolConfig};
use pool::fleet::snapshot::Snapshot;
use pool::job::PoolName;
use pool::policy::permits::Permits;

/// The one kind that there is.
const KIND: &str = "database";

fn some(count: u32) -> Permits {
    let count = NonZeroU32::new(count);
    Permits(count.map(|count| (KIND.to_owned(), count)).into_iter().collect())
}

/// What a worker of a pool takes: often nothing.
pub fn draw(rng: &mut Rng) -> Permits {
    some(rng.u32(0..3))
}

/// Enough for the floors, and often no more.
pub fn draw_total(rng: &mut Rng, pools: &BTreeMap<PoolName, PoolConfig>) -> Permits {
    let floors = pools.values().map(|pool| pool.floor() * pool.permits.of(KIND));
    some((floors.sum::<u32>() + rng.u32(0..4)).max(1))
}

/// What a test knows of them.
#[derive(Debug, Default)]
pub struct Known {
    total: u32,
    /// What a process of each pool takes.
    each: BTreeMap<String, u32>,
    /// What was held at the last check. `None`: it is counted by other settings.
    held: Option<u32>,
}

impl Known {
    /// Other settings. Pools that they leave out take what they took until they are gone.
    pub fn configure(&mut self, config: &Config) {
        self.total = config.supervisor.permits.of(KIND);
        let each = config.pools.iter();
        self.each
            .extend(each.map(|(name, pool)| (name.to_string(), pool.permits.of(KIND))));
        self.held = None;
    }

    /// Whether processes of a pool take any.
    pub fn are_taken_by(&self, pool: &str) -> bool {
        self.each.get(pool).is_some_and(|each| *each > 0)
    }

    /// No more processes are forked than there are permits for. Those that were there before a reload may stay.
    pub fn check(&mut self, picture: &Snapshot) {
        let held = picture.pools.iter().map(|(name, pool)| {
            let processes = u32::try_from(pool.processes.len()).expect("few");
            processes * self.each.get(name).copied().unwrap_or(0)
        });
        let held: u32 = held.sum();
        let most = self.held.map(|before| self.total.max(before));
        assert!(
            most.is_none_or(|most| held <= most),
            "{held} permits are held of {}, before {:?}: {picture:#?}",
            self.total,
            self.held
        );
        self.held = Some(held);
    }
}

//! What the supervisor's loop asks of the fleet.

use crate::config::PoolConfig;
use crate::job::PoolName;
use crate::policy::memory::Occupied;

use super::pool::Pool;
use super::{Execution, Fleet, Revision};

impl Fleet {
    /// A job that was sent to a worker, as `Action::Send` names both.
    pub fn execution(&self, worker: u64, execution: u64) -> Option<&Execution> {
        self.home(worker)?.execution(execution)
    }

    /// The job that a worker runs now, for log lines.
    pub fn running_job(&self, worker: u64) -> Option<&Execution> {
        self.home(worker)?.running_job(worker)
    }

    /// A worker printed a line. Returns the job that it runs, for the log.
    pub fn printed(&mut self, worker: u64) -> Option<&Execution> {
        let name = self.register.home(worker)?;
        self.pools.get_mut(name)?.printed(worker)
    }

    /// The pool that a worker works for.
    pub fn pool_of(&self, worker: u64) -> Option<&PoolName> {
        self.register.home(worker)
    }

    /// Whether jobs wait at hand that no worker of this one's pool has room for.
    pub fn is_behind(&self, worker: u64) -> bool {
        self.home(worker).is_some_and(Pool::is_behind)
    }

    /// Numbers of workers that live, their process ids, and what they occupied when they were last measured.
    pub fn pids(&self) -> Vec<(u64, i32, Occupied)> {
        self.pools.values().flat_map(Pool::pids).collect()
    }

    /// What changed so far, for those who look only when something did.
    pub fn revision(&self) -> Revision {
        self.register.revision()
    }

    /// A worker's ordinal; 0 while it has none.
    pub fn ordinal_of(&self, worker: u64) -> u16 {
        self.home(worker).map_or(0, |pool| pool.ordinal_of(worker))
    }

    /// Names of the pools.
    pub fn pool_names(&self) -> Vec<PoolName> {
        self.pools.keys().cloned().collect()
    }

    /// The settings of a pool in force.
    pub fn pool_config(&self, pool: &PoolName) -> Option<&PoolConfig> {
        self.pools.get(pool).map(Pool::config)
    }

    /// The limits of a pool's settings, or what `pool scale` said since.
    pub fn pool_limits(&self, pool: &PoolName) -> Option<(u32, u32)> {
        self.pools.get(pool).map(Pool::limits)
    }

    /// How many jobs to claim for a pool now; 0: none.
    pub fn wants(&self, pool: &PoolName) -> usize {
        let pool = self.pools.get(pool);
        pool.map_or(0, |pool| pool.wants(self.running()))
    }

    /// Whether a pool runs jobs: it is neither paused nor at its end.
    pub fn serves(&self, pool: &PoolName) -> bool {
        let pool = self.pools.get(pool);
        pool.is_some_and(|pool| pool.serves(self.running()))
    }

    /// Jobs due later, as last counted.
    pub fn scheduled(&self, pool: &PoolName) -> u64 {
        self.pools.get(pool).map_or(0, Pool::scheduled)
    }

    /// A pool without workers that would run jobs if there were any.
    pub fn asleep(&self, pool: &PoolName) -> bool {
        self.running() && self.pools.get(pool).is_some_and(Pool::is_asleep)
    }

    /// A pool whose policy looks at jobs that wait, and has nobody free: it wants to be told when one does.
    pub fn is_open_to_looks(&self, pool: &PoolName) -> bool {
        let pool = self.pools.get(pool);
        pool.is_some_and(|pool| pool.is_open_to_looks(self.running()))
    }

    /// Whether any job is in hand; after-work is none.
    pub fn has_jobs(&self) -> bool {
        self.pools.values().any(Pool::has_jobs)
    }

    /// Jobs held under the lease: buffered, sent or running.
    pub fn in_hand(&self) -> usize {
        self.pools.values().map(Pool::in_hand).sum()
    }

    /// A generation has loaded, and workers of an older one can still begin jobs.
    pub fn is_renewing(&self) -> bool {
        self.renewing.is_some()
    }

    /// No worker of some pool starts, however often it is tried; why the last one did not.
    pub fn never_starts(&self) -> Option<&str> {
        self.pools.values().find_map(Pool::never_starts)
    }

    /// The first load failed before any ever succeeded: the supervisor can't do its work.
    pub fn never_loaded(&self) -> Option<&str> {
        let hopeless = self.templates.is_hopeless() && self.running();
        self.templates.load_error().filter(|_| hopeless)
    }
}

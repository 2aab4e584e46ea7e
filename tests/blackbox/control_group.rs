//! A real control group with a limit, which goes with the test.

use std::fs;
use std::path::{Path, PathBuf};

/// Where the limit of a kind is set: the directory of the group's parent, and the limit's file. Source: cgroups(7), for both
/// versions.
type Kind = (&'static str, &'static str);

/// Its directory.
pub struct ControlGroup(PathBuf);

impl ControlGroup {
    /// One with so many bytes of memory; `None` where that is not allowed.
    pub fn with_memory(bytes: u64) -> Option<Self> {
        let limit = bytes.to_string();
        Self::new(("/sys/fs/cgroup", "memory.max"), &limit)
            .or_else(|| Self::new(("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), &limit))
    }

    /// One with the time of so many processors; `None` where that is not allowed.
    pub fn with_processors(count: u32) -> Option<Self> {
        const PERIOD_US: u32 = 100_000; // what the kernel takes by itself
        let quota = count * PERIOD_US;
        Self::new(("/sys/fs/cgroup", "cpu.max"), &format!("{quota} {PERIOD_US}"))
            .or_else(|| Self::new(("/sys/fs/cgroup/cpu", "cpu.cfs_quota_us"), &quota.to_string()))
    }

    fn new((parent, limit): Kind, value: &str) -> Option<Self> {
        let path = Path::new(parent).join(format!("pool-test-{}", std::process::id()));
        // A plain directory would take the limit as a file.
        let is_root = Path::new(parent).join("cgroup.procs").exists();
        let group = (is_root && fs::create_dir(&path).is_ok()).then_some(ControlGroup(path))?;
        let is_set = fs::write(group.0.join(limit), value).is_ok();
        is_set.then_some(group)
    }

    /// The file of its members.
    pub fn members(&self) -> PathBuf {
        self.0.join("cgroup.procs")
    }
}

impl Drop for ControlGroup {
    fn drop(&mut self) {
        // It goes once its members have: they are killed, and may be dying.
        for _ in 0..500 {
            match fs::remove_dir(&self.0) {
                Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
                    std::thread::sleep(std::time::Duration::from_millis(10));
                }
                _ => return,
            }
        }
    }
}

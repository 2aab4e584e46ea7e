//! Whether a process that was killed from outside was killed by the kernel, since memory had run out.
//!
//! The kernel sends SIGKILL as anybody does. It counts what it killed for want of memory, for each control group, before
//! it sends the signal. So the count is read when a process of ours dies of SIGKILL, and a rise explains as many deaths.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::time::Mono;

/// A rise of the count explains deaths of this time at most: a process of a job may have been what was killed.
const EXPLAINS_FOR: Duration = Duration::from_secs(5);

/// The kernel's count, and which deaths it has explained.
#[derive(Debug)]
pub struct OutOfMemory {
    counter: Option<Counter>,
    kills: Kills,
}

impl Default for OutOfMemory {
    /// Counts from now on.
    fn default() -> Self {
        let counter = Counter::find(Path::new("/"));
        let kills = Kills {
            seen: counter.as_ref().and_then(Counter::read).unwrap_or(0),
            unexplained: 0,
            until: Mono::default(),
        };
        OutOfMemory { counter, kills }
    }
}

impl OutOfMemory {
    /// Whether the kernel killed the process that just died of SIGKILL. Reads one small file of the kernel's.
    pub fn killed_one(&mut self, now: Mono) -> bool {
        let count = self.counter.as_ref().and_then(Counter::read);
        count.is_some_and(|count| self.kills.explain(count, now))
    }
}

/// Kills that were counted, and the deaths that they may still explain.
#[derive(Debug)]
struct Kills {
    seen: u64,
    unexplained: u64,
    until: Mono,
}

impl Kills {
    /// The count is this now, and a process of ours died of SIGKILL: whether one of the kernel's kills explains it.
    fn explain(&mut self, count: u64, now: Mono) -> bool {
        if now > self.until {
            self.unexplained = 0;
        }
        let new = count.saturating_sub(self.seen);
        if new > 0 {
            self.until = now + EXPLAINS_FOR;
        }
        self.seen = count;
        self.unexplained += new;
        let explained = self.unexplained > 0;
        self.unexplained = self.unexplained.saturating_sub(1);
        explained
    }
}

/// Where the kernel counts: a file of lines `NAME COUNT`.
#[derive(Debug)]
struct Counter(PathBuf);

impl Counter {
    /// The nearest file that has the count: that of our control group, else the whole host's.
    ///
    /// `root`: where `/proc` and `/sys` are. Source: Documentation/admin-guide/cgroup-v2.rst (`memory.events`), the
    /// same of cgroup-v1 (`memory.oom_control`), and proc_vmstat(5).
    fn find(root: &Path) -> Option<Self> {
        let groups = std::fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
        let files = groups.lines().filter_map(places).flatten();
        files
            .chain(["proc/vmstat".to_owned()])
            .map(|file| Counter(root.join(file)))
            .find(|counter| counter.read().is_some())
    }

    fn read(&self) -> Option<u64> {
        let text = std::fs::read_to_string(&self.0).ok()?;
        let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "))?;
        count.trim().parse().ok()
    }
}

/// Where the count of a control group may be, from its line in `/proc/self/cgroup`: within a container the group's path may
/// be the host's, and its files at the top.
fn places(line: &str) -> Option<[String; 2]> {
    let (_, rest) = line.split_once(':')?;
    let (controllers, path) = rest.split_once(':')?;
    let (mount, file) = if controllers.is_empty() {
        ("sys/fs/cgroup", "memory.events")
    } else if controllers.split(',').any(|one| one == "memory") {
        ("sys/fs/cgroup/memory", "memory.oom_control")
    } else {
        return None;
    };
    Some([path.trim_end_matches('/'), ""].map(|path| format!("{mount}{path}/{file}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Mono {
        Mono::default() + Duration::from_secs(seconds)
    }

    #[test]
    fn a_rise_explains_as_many_deaths_and_not_for_long() {
        let mut kills = Kills {
            seen: 7,
            unexplained: 0,
            until: Mono::default(),
        };
        assert!(!kills.explain(7, at(1)));
        assert!(kills.explain(9, at(2)));
        assert!(kills.explain(9, at(3)));
        assert!(!kills.explain(9, at(3)));
        assert!(kills.explain(11, at(4)));
        assert!(!kills.explain(11, at(60)));
    }

    #[test]
    fn the_count_is_read_where_it_is() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let count = || Counter::find(root.path()).and_then(|counter| counter.read());
        assert_eq!(count(), None);
        write("proc/vmstat", "nr_free_pages 5\noom_kill 2\n");
        assert_eq!(count(), Some(2));
        write("proc/self/cgroup", "4:cpu,memory:/a/b\n3:cpu:/x\n0::/\n");
        write(
            "sys/fs/cgroup/memory/memory.oom_control",
            "under_oom 0\noom_kill 3\n",
        );
        assert_eq!(count(), Some(3));
        write(
            "sys/fs/cgroup/memory/a/b/memory.oom_control",
            "under_oom 0\noom_kill 4\n",
        );
        assert_eq!(count(), Some(4));
        write("proc/self/cgroup", "0::/pool.service\n");
        write(
            "sys/fs/cgroup/pool.service/memory.events",
            "oom 1\noom_kill 5\noom_group_kill 0\n",
        );
        assert_eq!(count(), Some(5));
    }
}

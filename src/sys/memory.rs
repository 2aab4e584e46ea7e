//! Huge pages for the template's heap, and what a process really costs.

use std::fs;
use std::ops::Range;

use nix::errno::Errno;

use nix::unistd::{SysconfVar, sysconf};

/// What a process costs, from `/proc/PID/smaps_rollup`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Proportional set size in bytes: private pages, and its share of each shared one.
    pub pss: u64,
    /// Bytes that no other process shares: what its end would free.
    pub private: u64,
    /// Bytes of pages that others map too.
    pub shared: u64,
    /// Bytes of its own in huge pages.
    pub huge: u64,
}

/// What private pages are, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PrivateParts {
    /// Mapped without a file and a name: by allocators, such as Python's; large blocks of the C library.
    pub anonymous: u64,
    /// `[heap]`: what the C library has from brk(2).
    pub heap: u64,
    /// Mapped from files, stacks.
    pub other: u64,
}

/// Reads what a process costs; `None` when it is gone or not ours to look at.
pub fn smaps_rollup(pid: i32) -> Option<Memory> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    Some(parse_rollup(&text))
}

/// What the private pages of a process are, from `/proc/PID/smaps`; `None` when it is gone or not ours to look at.
/// Costs the kernel three times as much as [`smaps_rollup`].
pub fn private_parts(pid: i32) -> Option<PrivateParts> {
    let text = fs::read(format!("/proc/{pid}/smaps")).ok()?;
    Some(parse_parts(&String::from_utf8_lossy(&text)))
}

/// The children of a process's first thread; none when it is gone, or where the kernel does not tell.
pub fn children_of(pid: i32) -> Vec<i32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace()
        .filter_map(|child| child.parse().ok())
        .collect()
}

/// Collapses this process's own anonymous memory into huge pages, where most of a huge page is
/// in use: a fork then copies 512 times fewer page-table entries, and shares the same memory.
///
/// Returns the bytes in huge pages afterwards that were not before, or why there are none.
pub fn collapse_heap() -> Result<u64, String> {
    let own = || smaps_rollup(own_pid()).unwrap_or_default().huge;
    let pages = PageSizes::read().ok_or("this kernel has no transparent huge pages")?;
    let maps = fs::read_to_string("/proc/self/maps").map_err(|error| format!("/proc/self/maps: {error}"))?;
    let before = own();
    let mut refusal = None;
    for region in maps.lines().filter_map(private_writable) {
        for block in huge_blocks(&region, pages.huge) {
            if let Err(refused) = collapse_if_used(block, &pages) {
                refusal = Some(refused);
            }
        }
    }
    match (own().saturating_sub(before), refusal) {
        (0, Some(refused)) => Err(refused.to_string()),
        (bytes, _) => Ok(bytes),
    }
}

/// Collapsing fills the holes, so it must be worth the memory.
fn collapse_if_used(block: usize, pages: &PageSizes) -> Result<(), Refused> {
    match used_bytes(block, pages) {
        Ok(used) if used >= pages.huge / 2 => collapse(block, pages.huge).map_err(Refused::Collapse),
        // Not mapped any more: the list of what is was read a moment ago.
        Ok(_) | Err(Errno::ENOMEM) => Ok(()),
        Err(errno) => Err(Refused::Look(errno)),
    }
}

/// What the kernel, or a filter before it, does not let us do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum Refused {
    #[error("mincore, which tells how much of a page is in use: {}", .0.desc())]
    Look(Errno),
    #[error("{}", refused_collapse(*.0))]
    Collapse(Errno),
}

fn refused_collapse(errno: Errno) -> String {
    match errno {
        Errno::EINVAL => "the kernel can't collapse memory on request (Linux 6.1 can)".into(),
        errno => format!("madvise(MADV_COLLAPSE): {}", errno.desc()),
    }
}

/// Bytes of a page and of a huge page.
struct PageSizes {
    small: usize,
    huge: usize,
}

impl PageSizes {
    fn read() -> Option<PageSizes> {
        let small = sysconf(SysconfVar::PAGE_SIZE).ok()??;
        let huge = fs::read_to_string("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size").ok()?;
        Some(PageSizes {
            small: usize::try_from(small).ok()?,
            huge: huge.trim().parse().ok()?,
        })
    }
}

fn own_pid() -> i32 {
    nix::unistd::getpid().as_raw()
}

/// The address range of a line of /proc/PID/maps, if it is private, writable, anonymous and no stack.
fn private_writable(line: &str) -> Option<Range<usize>> {
    let mut words = line.split_ascii_whitespace();
    let (start, end) = words.next()?.split_once('-')?;
    let (mode, _offset, _device, inode) = (words.next()?, words.next()?, words.next()?, words.next()?);
    let name = words.next().unwrap_or("");
    let anonymous = inode == "0" && (name.is_empty() || name == "[heap]" || name.starts_with("[anon"));
    if !anonymous || !mode.starts_with("rw") || !mode.ends_with('p') {
        return None;
    }
    Some(usize::from_str_radix(start, 16).ok()?..usize::from_str_radix(end, 16).ok()?)
}

/// The addresses of the whole, aligned huge pages in a range.
fn huge_blocks(region: &Range<usize>, huge: usize) -> impl Iterator<Item = usize> + use<> {
    let end = region.end;
    (region.start.next_multiple_of(huge)..end)
        .step_by(huge)
        .take_while(move |block| end - block >= huge)
}

/// How much of the huge page at `block` is in memory.
fn used_bytes(block: usize, pages: &PageSizes) -> nix::Result<usize> {
    let mut present = vec![0u8; pages.huge / pages.small];
    // SAFETY: the call writes one byte a page of the range into `present`, which has just that many; an
    // address range that is not mapped is an error, not a fault.
    let answer = unsafe {
        libc::mincore(
            std::ptr::without_provenance_mut(block),
            pages.huge,
            present.as_mut_ptr(),
        )
    };
    Errno::result(answer)?;
    Ok(present.iter().filter(|page| **page & 1 == 1).count() * pages.small)
}

fn collapse(block: usize, huge: usize) -> nix::Result<()> {
    let block = std::ptr::without_provenance_mut(block);
    // SAFETY: MADV_COLLAPSE moves the same bytes to other physical pages under the same addresses;
    // an address range that is not mapped is an error, not a fault.
    let answer = unsafe { libc::madvise(block, huge, libc::MADV_COLLAPSE) };
    Errno::result(answer).map(drop)
}

fn parse_rollup(text: &str) -> Memory {
    let kib = |key: &str| -> u64 {
        let line = text.lines().find_map(|line| line.strip_prefix(key));
        let number = line.and_then(|rest| rest.split_ascii_whitespace().next());
        number.and_then(|number| number.parse::<u64>().ok()).unwrap_or(0) * 1024
    };
    Memory {
        pss: kib("Pss:"),
        shared: kib("Shared_Clean:") + kib("Shared_Dirty:"),
        private: kib("Private_Clean:") + kib("Private_Dirty:"),
        huge: kib("AnonHugePages:"),
    }
}

/// Sums up the private pages of all mappings by what they are.
fn parse_parts(smaps: &str) -> PrivateParts {
    let mut parts = PrivateParts::default();
    let mut name = "";
    for line in smaps.lines() {
        if line.starts_with("Private_") {
            let kib = line
                .split_ascii_whitespace()
                .nth(1)
                .and_then(|number| number.parse::<u64>().ok());
            let bytes = kib.unwrap_or(0) * 1024;
            match name {
                // Python names its arenas from 3.15 on.
                "" => parts.anonymous += bytes,
                "[heap]" => parts.heap += bytes,
                _ if name.starts_with("[anon:cpython") => parts.anonymous += bytes,
                _ if name.starts_with("[anon: glibc: malloc") => parts.heap += bytes,
                _ => parts.other += bytes,
            }
        } else if line.starts_with(|first: char| first.is_ascii_digit() || first.is_ascii_lowercase()) {
            // Addresses, mode, offset, device, inode, and a name that may hold blanks.
            let rest = line.splitn(6, ' ').nth(5).unwrap_or_default();
            name = rest.trim_start();
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rollup_is_read_in_bytes() {
        let text = "00400000-7ffd [rollup]\nRss: 900 kB\nPss:     120 kB\nPss_Dirty: 5 kB\n\
                    Shared_Clean: 700 kB\nShared_Dirty: 100 kB\n\
                    Private_Clean: 8 kB\nPrivate_Dirty:   92 kB\nAnonHugePages: 2048 kB\n";
        let expected = Memory {
            pss: 120 << 10,
            shared: 800 << 10,
            private: 100 << 10,
            huge: 2048 << 10,
        };
        assert_eq!(parse_rollup(text), expected);
    }

    #[test]
    fn private_pages_are_told_apart_by_their_mappings() {
        let dirty = |header: &str, kib: u64| {
            format!(
                "{header}\nSize: 9000 kB\nPrivate_Clean: 0 kB\nPrivate_Dirty:  {kib} kB\nVmFlags: rd wr mr mw me ac\n"
            )
        };
        let text = dirty(
            "5581c000-5581d000 rw-p 00000000 00:00 0                          [heap]",
            1,
        ) + &dirty("7f00c000-7f00d000 rw-p 00000000 00:00 0 ", 2)
            + &dirty(
                "7f10c000-7f10d000 rw-p 00000000 00:00 0                          [anon:cpython:pymalloc]",
                4,
            )
            + &dirty(
                "7f20c000-7f20d000 rw-p 00000000 fd:01 77                         /lib/a library.so",
                8,
            )
            + &dirty(
                "7f30c000-7f30d000 rw-p 00000000 00:00 0                          [anon: glibc: malloc]",
                16,
            )
            + &dirty(
                "7ffdc000-7ffdd000 rw-p 00000000 00:00 0                          [stack]",
                32,
            );
        let expected = PrivateParts {
            anonymous: 6 << 10,
            heap: 17 << 10,
            other: 40 << 10,
        };
        assert_eq!(parse_parts(&text), expected);
        let own = private_parts(own_pid()).unwrap();
        assert!(own.anonymous > 0 && own.heap > 0 && own.other > 0, "{own:?}");
    }

    #[test]
    fn our_own_memory_can_be_read_and_a_dead_process_has_none() {
        assert!(smaps_rollup(own_pid()).unwrap().pss > 0);
        assert_eq!(smaps_rollup(0), None);
    }

    #[test]
    fn only_private_writable_anonymous_memory_is_collapsed() {
        let lines = [
            ("7f0000000000-7f0000400000 rw-p 00000000 00:00 0 ", true),
            ("55d000000000-55d000400000 rw-p 00000000 00:00 0    [heap]", true),
            (
                "7f0000000000-7f0000400000 rw-s 00000000 00:01 77   /dev/shm/x",
                false,
            ),
            (
                "7f0000000000-7f0000400000 r--p 00000000 fd:01 77   /lib/x.so",
                false,
            ),
            (
                "7f0000000000-7f0000400000 rw-p 00000000 fd:01 77   /lib/x.so",
                false,
            ),
            (
                "7ffd00000000-7ffd00400000 rw-p 00000000 00:00 0    [stack]",
                false,
            ),
        ];
        for (line, expected) in lines {
            assert_eq!(private_writable(line).is_some(), expected, "{line}");
        }
    }

    #[test]
    fn huge_blocks_are_whole_and_aligned() {
        let mib = 1 << 20;
        let blocks: Vec<usize> = huge_blocks(&(mib..7 * mib), 2 * mib).collect();
        assert_eq!(blocks, [2 * mib, 4 * mib]);
        assert_eq!(huge_blocks(&(mib..2 * mib), 2 * mib).count(), 0);
    }

    #[test]
    fn the_reason_names_the_call_that_was_refused() {
        let reasons = [
            Refused::Look(Errno::EPERM),
            Refused::Collapse(Errno::EPERM),
            Refused::Collapse(Errno::EINVAL),
        ];
        assert_eq!(
            reasons.map(|refused| refused.to_string()),
            [
                "mincore, which tells how much of a page is in use: Operation not permitted",
                "madvise(MADV_COLLAPSE): Operation not permitted",
                "the kernel can't collapse memory on request (Linux 6.1 can)",
            ]
        );
    }

    #[test]
    fn memory_that_is_not_mapped_any_more_is_no_refusal() {
        let pages = PageSizes {
            small: 4096,
            huge: 2 << 20,
        };
        assert_eq!(collapse_if_used(0, &pages), Ok(()));
    }

    #[test]
    fn a_filled_heap_collapses_or_says_why_not() {
        let filled = vec![7u8; 16 << 20];
        match collapse_heap() {
            Ok(bytes) => assert!(bytes.is_multiple_of(2 << 20), "{bytes}"),
            Err(reason) => assert!(!reason.is_empty()),
        }
        assert!(filled.iter().all(|byte| *byte == 7));
    }
}

//! Fork-safety: what the load left behind that a fork would copy wrongly, or workers would share, in words that
//! name the culprit and the remedy.

use std::collections::BTreeMap;

use crate::job::JobError;
use crate::sys::{process, socket};

/// Refuses an app whose load left threads running: a fork copies none of them, but whatever they have locked.
pub fn check_threads() -> Result<(), JobError> {
    let names = process::other_thread_names();
    if names.is_empty() {
        return Ok(());
    }
    Err(JobError::new("not safe to fork", threads_message(&names)))
}

fn threads_message(names: &[String]) -> String {
    let noun = if names.len() == 1 { "thread" } else { "threads" };
    format!(
        "loading the app left {} {noun} running ({}), and a fork copies no threads; \
         start them in the `after_fork` hook, which runs in each worker",
        names.len(),
        names.join(", "),
    )
}

/// This process's open descriptors: what each one is, by number.
pub fn open_descriptors() -> BTreeMap<i32, String> {
    let Ok(entries) = std::fs::read_dir("/proc/self/fd") else {
        return BTreeMap::new();
    };
    entries
        .flatten()
        .filter_map(|entry| {
            let number = entry.file_name().to_str()?.parse().ok()?;
            // The directory that is being read is gone by now, and so is its link.
            let target = std::fs::read_link(entry.path()).ok()?;
            Some((number, target.to_string_lossy().into_owned()))
        })
        .collect()
}

/// What was opened since `before` that workers should not share.
pub fn shared_descriptors(before: &BTreeMap<i32, String>) -> Vec<String> {
    let now = open_descriptors();
    let new = now
        .iter()
        .filter(|(number, target)| before.get(*number) != Some(*target));
    new.filter_map(|(number, target)| warning(*number, target, socket::peer_name(*number).as_deref()))
        .collect()
}

fn warning(number: i32, target: &str, peer: Option<&str>) -> Option<String> {
    let what = match (target, peer) {
        (target, Some(peer)) if target.starts_with("socket:") => format!("a socket connected to {peer}"),
        (target, None) if target.starts_with("socket:") => "a socket".to_owned(),
        ("anon_inode:[eventpoll]", _) => "an event loop (epoll)".to_owned(),
        _ => return None,
    };
    Some(format!(
        "loading the app left descriptor {number} open, {what}: all workers would share it and take each other's \
         data; open it in the `after_fork` hook, which runs in each worker",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_left_behind_are_named_with_the_remedy() {
        assert_eq!(
            threads_message(&["rayon-0".into(), "rayon-1".into()]),
            "loading the app left 2 threads running (rayon-0, rayon-1), and a fork copies no threads; start them \
             in the `after_fork` hook, which runs in each worker"
        );
    }

    #[test]
    fn a_connection_opened_by_the_load_is_named_with_its_peer() {
        let before = open_descriptors();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let connection = std::net::TcpStream::connect(address).unwrap();
        let warnings = shared_descriptors(&before);
        let expected = format!("a socket connected to {address}:");
        assert!(
            warnings.iter().any(|text| text.contains(&expected)),
            "{warnings:?}"
        );
        drop(connection);
        assert_eq!(warning(5, "/etc/hosts", None), None);
    }
}

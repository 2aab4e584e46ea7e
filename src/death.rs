//! How a process ended, as data: for the log, the metrics and the record of the job that it ran.

use std::fmt;

use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

/// How a process ended, as far as its parent and the kernel say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProcessEnd {
    /// Its raw wait status, as waitpid(2) gives it.
    pub status: Option<i32>,
    /// The kernel killed it since memory had run out.
    pub out_of_memory: bool,
    /// The most memory that it, or a child that it waited for, had resident at once, in bytes.
    pub peak_memory: Option<u64>,
}

impl ProcessEnd {
    /// The signal that ended it. Source: wait(2): the low seven bits, 0 for an exit.
    pub fn signal(&self) -> Option<i32> {
        self.status
            .map(|status| status & 0x7f)
            .filter(|signal| *signal != 0)
    }

    /// SIGKILL ended it.
    pub fn was_killed(&self) -> bool {
        self.signal() == Some(Signal::SIGKILL as i32)
    }

    /// What it exited with, if no signal ended it. Source: wait(2): the second byte.
    pub fn exit_code(&self) -> Option<i32> {
        let status = self.status?;
        (status & 0x7f == 0).then_some((status >> 8) & 0xff)
    }
}

/// The death of a worker as the record of its job keeps it. What is not known is left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Death {
    /// What it exited with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// The signal that ended it: `SIGSEGV`, or a number that has no name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signal: Option<String>,
    /// The kernel killed it since memory had run out.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub out_of_memory: bool,
    /// The most memory that was resident at once, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peak_memory: Option<u64>,
    /// Why the supervisor killed it, if it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub killed_for: Option<String>,
}

impl Death {
    /// Of a process that ended so; `killed_for`: why the supervisor killed it, if it did.
    pub fn new(end: &ProcessEnd, killed_for: Option<String>) -> Self {
        Death {
            exit_code: end.exit_code(),
            signal: end.signal().map(signal_name),
            out_of_memory: end.out_of_memory,
            peak_memory: end.peak_memory,
            killed_for,
        }
    }
}

impl fmt::Display for Death {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let facts = [
            self.exit_code.map(|code| format!("exit code {code}")),
            self.signal.clone(),
            self.out_of_memory.then(|| "memory had run out".to_owned()),
            self.killed_for
                .as_ref()
                .map(|why| format!("the supervisor killed it: {why}")),
            self.peak_memory
                .map(|bytes| format!("{} MiB of memory at most", bytes >> 20)),
        ];
        let known: Vec<String> = facts.into_iter().flatten().collect();
        f.write_str(&known.join(", "))
    }
}

fn signal_name(signal: i32) -> String {
    Signal::try_from(signal).map_or_else(|_| signal.to_string(), |known| known.as_str().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(status: i32) -> ProcessEnd {
        ProcessEnd {
            status: Some(status),
            ..ProcessEnd::default()
        }
    }

    #[test]
    fn a_wait_status_is_a_signal_or_a_code() {
        assert_eq!((end(3 << 8).exit_code(), end(3 << 8).signal()), (Some(3), None));
        assert_eq!(
            (end(11 | 0x80).exit_code(), end(11 | 0x80).signal()),
            (None, Some(11))
        );
        assert_eq!(
            (ProcessEnd::default().exit_code(), ProcessEnd::default().signal()),
            (None, None)
        );
    }

    #[test]
    fn a_record_leaves_out_what_is_not_known() {
        let json = |death: &Death| serde_json::to_string(death).unwrap();
        assert_eq!(json(&Death::new(&ProcessEnd::default(), None)), "{}");
        let killed = Death::new(
            &ProcessEnd {
                out_of_memory: true,
                peak_memory: Some(1024),
                ..end(9)
            },
            None,
        );
        let text = r#"{"signal":"SIGKILL","out_of_memory":true,"peak_memory":1024}"#;
        assert_eq!(json(&killed), text);
        assert_eq!(serde_json::from_str::<Death>(text).unwrap(), killed);
        assert_eq!(
            killed.to_string(),
            "SIGKILL, memory had run out, 0 MiB of memory at most"
        );
        assert_eq!(Death::new(&end(60), None).signal.as_deref(), Some("60"));
    }
}

//! Why workers are killed, and what their death is counted as.

use std::fmt;

use nix::sys::signal::Signal;

use crate::death::ProcessEnd;

/// Why a worker is killed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KillReason {
    /// It said what it must not say.
    Protocol(String),
    /// It does not read the job that it was sent.
    Unread,
    /// The rest of what it had begun to read, a job or a batch, was taken back.
    UnreadRest(&'static str),
    /// It did not become ready.
    NotReady,
    /// It did not leave.
    NotLeaving,
    /// Its job ran past its timeout.
    Timeout,
    /// Somebody asked for it.
    Asked,
    /// Somebody stopped its job.
    JobStopped,
    /// The supervisor stops.
    Stopping,
}

impl KillReason {
    /// In a word, for counting.
    fn label(&self) -> &'static str {
        match self {
            KillReason::Protocol(_) => "protocol",
            KillReason::Unread | KillReason::UnreadRest(_) => "unread",
            KillReason::NotReady => "not ready",
            KillReason::NotLeaving => "not leaving",
            KillReason::Timeout => "timeout",
            KillReason::Asked => "asked",
            KillReason::JobStopped => "job stopped",
            KillReason::Stopping => "stopping",
        }
    }
}

impl fmt::Display for KillReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            KillReason::Protocol(what) => return write!(f, "broke the protocol: {what}"),
            KillReason::UnreadRest(of) => return write!(f, "does not read the rest of its {of}"),
            KillReason::Unread => "does not read its jobs",
            KillReason::NotReady => "it did not become ready in time",
            KillReason::NotLeaving => "it did not leave in time",
            KillReason::Timeout => "its job ran past its timeout",
            KillReason::Asked => "somebody asked for it",
            KillReason::JobStopped => "somebody stopped its job",
            KillReason::Stopping => "the supervisor stops",
        })
    }
}

/// What a death is counted as: why we killed the worker, else that memory had run out, its signal or its own exit.
pub(super) fn counted_as(killed: Option<&KillReason>, end: &ProcessEnd) -> &'static str {
    if let Some(reason) = killed {
        return reason.label();
    }
    if end.out_of_memory {
        return "out of memory";
    }
    match end.signal() {
        None if end.status.is_none() => "unknown",
        None => "exit",
        Some(signal) => match Signal::try_from(signal) {
            Ok(Signal::SIGKILL) => "signal kill",
            Ok(Signal::SIGSEGV) => "signal segv",
            Ok(Signal::SIGABRT) => "signal abrt",
            Ok(Signal::SIGBUS) => "signal bus",
            Ok(Signal::SIGTERM) => "signal term",
            Ok(_) | Err(_) => "signal other",
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_death_is_counted_by_who_is_to_blame() {
        let end = |status| ProcessEnd {
            status,
            ..ProcessEnd::default()
        };
        assert_eq!(counted_as(None, &end(Some(3 << 8))), "exit");
        assert_eq!(counted_as(None, &end(Some(9))), "signal kill");
        assert_eq!(counted_as(None, &end(Some(11 | 0x80))), "signal segv");
        assert_eq!(counted_as(None, &end(None)), "unknown");
        let mut starved = end(Some(9));
        starved.out_of_memory = true;
        assert_eq!(counted_as(None, &starved), "out of memory");
        assert_eq!(counted_as(Some(&KillReason::Timeout), &starved), "timeout");
    }
}

//! The one room with `unsafe`: one system call a function, a proof at each block, an error that names the call.
//!
//! - [`socket`]: packet socket pairs, packets with descriptors attached;
//! - [`lifeline`]: the pipe by which the kernel kills a process group when its supervisor is gone;
//! - [`pidfd`]: a process as a descriptor: signal it, see it end, reap it;
//! - [`spawn`]: fork+exec of a template, ready to serve;
//! - [`fork`]: the copy of a single-threaded process;
//! - [`local_time`]: the local time zone;
//! - [`process`]: limits, threads, reaping; what an exit status means in words; [`signal`]: what signals do;
//! - [`memory`]: huge pages, proportional set size;
//! - [`memory_file`]: a file in memory alone;
//! - [`terminal`]: the terminal that this process was started from;
//! - [`title`]: what `ps` shows;
//! - [`watch`]: descriptors that the event loop waits for.

#![allow(unsafe_code)]

pub mod cpu;
pub mod fork;
pub mod lifeline;
pub mod limits;
pub mod local_time;
pub mod memory;
pub mod memory_file;
pub mod out_of_memory;
pub mod pidfd;
pub mod process;
pub mod signal;
pub mod socket;
pub mod spawn;
pub mod terminal;
pub mod title;
pub mod watch;

use std::io;
use std::path::PathBuf;

use nix::errno::Errno;

/// What the operating system refused, and what was asked of it.
#[derive(Debug, thiserror::Error)]
pub enum SysError {
    /// A system call failed.
    #[error("{call} failed: {}{}", errno.desc(), limits::note(*errno))]
    Call {
        /// The call, with what it was for where that is not plain.
        call: &'static str,
        /// What it said.
        errno: Errno,
    },
    /// A packet is longer than the receiver's buffer; its rest is lost.
    #[error("a packet of {len} bytes does not fit into {room}")]
    PacketTooLong {
        /// The packet.
        len: usize,
        /// The buffer.
        room: usize,
    },
    /// More descriptors came with a packet than any message carries.
    #[error("more than {0} descriptors came with one packet")]
    TooManyDescriptors(usize),
    /// The write end of the lifeline is closed: whom we would serve is gone.
    #[error("the supervisor is gone")]
    SupervisorGone,
    /// A program could not be started.
    #[error("cannot start `{}`: {reason}", program.display())]
    Spawn {
        /// The program.
        program: PathBuf,
        /// Which part of it failed, in words.
        reason: String,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// Asked to be a template by somebody who is not a supervisor.
    #[error("descriptor {number} is not open ({}): a template is started by a supervisor", errno.desc())]
    NotATemplate {
        /// The descriptor.
        number: i32,
        /// What the system said.
        errno: Errno,
    },
    /// `/proc` did not tell what it should.
    #[error("cannot read {path}: {reason}")]
    Proc {
        /// The file.
        path: &'static str,
        /// Why.
        reason: String,
    },
}

impl SysError {
    /// The error number, when a system call failed.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            SysError::Call { errno, .. } => Some(*errno),
            _ => None,
        }
    }
}

/// Names the call that failed: `.map_err(failed("pipe2"))`.
fn failed(call: &'static str) -> impl Fn(Errno) -> SysError {
    move |errno| SysError::Call { call, errno }
}

/// Repeats a call for as long as a signal interrupts it.
fn retry<T>(mut call: impl FnMut() -> nix::Result<T>) -> nix::Result<T> {
    loop {
        match call() {
            Err(Errno::EINTR) => {}
            other => return other,
        }
    }
}

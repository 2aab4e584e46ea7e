//! Frames and messages between our own processes; `docs/protocol.md` is their specification.
//!
//! Two kinds of socket, both `AF_UNIX`/`SOCK_SEQPACKET`, so that the kernel keeps packets whole:
//! - the *control socket* of a template carries one JSON object a packet ([`message`]), with
//!   descriptors attached to a `fork`;
//! - the *job socket* of a worker carries binary frames ([`frame`]), one frame a packet unless it
//!   is too long for one (`packets`).
//!
//! This module knows bytes and their meaning; it does no I/O.

pub mod facts;
pub mod frame;
pub mod message;
mod packets;

//! Packet sockets between our processes: `AF_UNIX`/`SOCK_SEQPACKET` pairs.
//!
//! Whether a call may wait is said per call, by `MSG_DONTWAIT`: `O_NONBLOCK` belongs to the open description, and the
//! supervisor shares the worker's end with the worker, whose reads must block.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::sys::socket::{
    self, AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, SockaddrStorage,
    sockopt,
};

use super::{SysError, failed, retry};

/// Most descriptors that one packet carries.
pub const DESCRIPTORS_MAX: usize = 8;

/// Room for unread packets in each direction, in bytes. The kernel doubles it (so counting its own
/// ~700 bytes a packet) and caps it at `net.core.wmem_max`; enough for some hundred small frames.
const SEND_BUFFER: usize = 256 * 1024;

/// Whether a call may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Until it can be done.
    Block,
    /// Not at all.
    Never,
}

/// What a receive found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// A packet of so many bytes, at the start of the buffer.
    Packet(usize),
    /// Nothing is there now (only with [`Wait::Never`]).
    Nothing,
    /// The peer is gone and everything that it sent has been read.
    Closed,
}

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// It is on its way, whole.
    Whole,
    /// No room now (only with [`Wait::Never`]); nothing was sent.
    Full,
    /// The peer is gone.
    Closed,
}

/// Two connected ends, closed on exec.
pub fn seqpacket_pair() -> Result<(OwnedFd, OwnedFd), SysError> {
    let (ours, theirs) = socket::socketpair(
        AddressFamily::Unix,
        SockType::SeqPacket,
        None,
        SockFlag::SOCK_CLOEXEC,
    )
    .map_err(failed("socketpair"))?;
    for end in [&ours, &theirs] {
        socket::setsockopt(end, sockopt::SndBuf, &SEND_BUFFER).map_err(failed("setsockopt(SO_SNDBUF)"))?;
    }
    Ok((ours, theirs))
}

/// Sends one packet; never raises SIGPIPE.
pub fn send(fd: impl AsFd, packet: &[u8], wait: Wait) -> Result<Sent, SysError> {
    let fd = fd.as_fd().as_raw_fd();
    sent(retry(|| {
        socket::send(fd, packet, flags(wait) | MsgFlags::MSG_NOSIGNAL)
    }))
}

/// Sends one packet with descriptors attached, which stay open here.
pub fn send_with_fds(
    fd: impl AsFd,
    packet: &[u8],
    fds: &[BorrowedFd<'_>],
    wait: Wait,
) -> Result<Sent, SysError> {
    if fds.len() > DESCRIPTORS_MAX {
        return Err(SysError::TooManyDescriptors(DESCRIPTORS_MAX));
    }
    let fd = fd.as_fd().as_raw_fd();
    let raw: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&raw)];
    let attached: &[ControlMessage<'_>] = if raw.is_empty() { &[] } else { &rights };
    sent(retry(|| {
        let flags = flags(wait) | MsgFlags::MSG_NOSIGNAL;
        socket::sendmsg::<()>(fd, &[IoSlice::new(packet)], attached, flags, None)
    }))
}

/// Receives one packet. A packet longer than `buffer` is an error, and lost.
pub fn recv(fd: impl AsFd, buffer: &mut [u8], wait: Wait) -> Result<Received, SysError> {
    let fd = fd.as_fd().as_raw_fd();
    // MSG_TRUNC on the way in: the kernel answers with the packet's true length.
    received(
        retry(|| socket::recv(fd, buffer, flags(wait) | MsgFlags::MSG_TRUNC)),
        buffer.len(),
    )
}

/// Looks at the beginning of the next packet, and leaves it there. Returns how much of `buffer` it fills, 0 where there is
/// none.
pub fn peek(fd: impl AsFd, buffer: &mut [u8]) -> Result<usize, SysError> {
    let fd = fd.as_fd().as_raw_fd();
    match retry(|| socket::recv(fd, buffer, MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT)) {
        Ok(len) => Ok(len),
        Err(Errno::EAGAIN | Errno::ECONNRESET) => Ok(0),
        Err(errno) => Err(failed("recv(MSG_PEEK)")(errno)),
    }
}

/// Receives one packet and the descriptors that came with it, closed on exec.
pub fn recv_with_fds(
    fd: impl AsFd,
    buffer: &mut [u8],
    wait: Wait,
) -> Result<(Received, Vec<OwnedFd>), SysError> {
    let fd = fd.as_fd().as_raw_fd();
    let room = buffer.len();
    let flags = flags(wait) | MsgFlags::MSG_TRUNC | MsgFlags::MSG_CMSG_CLOEXEC;
    let mut control = nix::cmsg_space!([RawFd; DESCRIPTORS_MAX]);
    let mut parts = [IoSliceMut::new(buffer)];
    let message = loop {
        match socket::recvmsg::<()>(fd, &mut parts, Some(&mut control), flags) {
            Err(Errno::EINTR) => {}
            Err(errno) => return Ok((received(Err(errno), room)?, Vec::new())),
            // Borrowed from `parts` and `control`, so it leaves the loop as plain values.
            Ok(message) => break (message.bytes, message.flags, owned_fds(&message)),
        }
    };
    let (len, flags, fds) = message;
    if flags.contains(MsgFlags::MSG_CTRUNC) {
        return Err(SysError::TooManyDescriptors(DESCRIPTORS_MAX));
    }
    Ok((received(Ok(len), room)?, fds?))
}

/// Bytes that wait to be read at this end.
pub fn unread_bytes(fd: impl AsFd) -> Result<usize, SysError> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: FIONREAD writes one int, to a live one of ours.
    let answer = unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), libc::FIONREAD, &raw mut bytes) };
    Errno::result(answer).map_err(failed("ioctl(FIONREAD)"))?;
    Ok(usize::try_from(bytes).unwrap_or(0))
}

/// Where a socket of this process is connected to, for messages; `None` when it is not.
pub fn peer_name(fd: RawFd) -> Option<String> {
    let peer = socket::getpeername::<SockaddrStorage>(fd).ok()?;
    Some(peer.to_string())
}

fn owned_fds(message: &socket::RecvMsg<'_, '_, ()>) -> Result<Vec<OwnedFd>, SysError> {
    let mut owned = Vec::new();
    for part in message.cmsgs().map_err(failed("recvmsg"))? {
        if let ControlMessageOwned::ScmRights(raw) = part {
            // SAFETY: the kernel made these descriptors for us in this call; nobody else knows them.
            owned.extend(raw.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
        }
    }
    Ok(owned)
}

fn flags(wait: Wait) -> MsgFlags {
    match wait {
        Wait::Block => MsgFlags::empty(),
        Wait::Never => MsgFlags::MSG_DONTWAIT,
    }
}

fn sent(answer: nix::Result<usize>) -> Result<Sent, SysError> {
    match answer {
        Ok(_) => Ok(Sent::Whole),
        Err(Errno::EAGAIN | Errno::ENOBUFS) => Ok(Sent::Full),
        Err(Errno::EPIPE | Errno::ECONNRESET | Errno::ENOTCONN) => Ok(Sent::Closed),
        Err(errno) => Err(failed("send on a socket pair")(errno)),
    }
}

fn received(answer: nix::Result<usize>, room: usize) -> Result<Received, SysError> {
    match answer {
        // No message of ours is empty: zero bytes are the end of the stream.
        Ok(0) | Err(Errno::ECONNRESET) => Ok(Received::Closed),
        Ok(len) if len > room => Err(SysError::PacketTooLong { len, room }),
        Ok(len) => Ok(Received::Packet(len)),
        Err(Errno::EAGAIN) => Ok(Received::Nothing),
        Err(errno) => Err(failed("recv on a socket pair")(errno)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    #[test]
    fn packets_stay_whole_and_in_order() {
        let (a, b) = seqpacket_pair().unwrap();
        assert_eq!(send(&a, b"one", Wait::Block).unwrap(), Sent::Whole);
        assert_eq!(send(&a, b"three", Wait::Block).unwrap(), Sent::Whole);
        let mut buffer = [0; 16];
        assert_eq!(recv(&b, &mut buffer, Wait::Block).unwrap(), Received::Packet(3));
        assert_eq!(&buffer[..3], b"one");
        assert_eq!(unread_bytes(&b).unwrap(), 5);
        assert_eq!(recv(&b, &mut buffer, Wait::Block).unwrap(), Received::Packet(5));
        assert_eq!(recv(&b, &mut buffer, Wait::Never).unwrap(), Received::Nothing);
    }

    #[test]
    fn what_was_sent_before_the_end_is_read_first() {
        let (a, b) = seqpacket_pair().unwrap();
        send(&a, b"last words", Wait::Block).unwrap();
        drop(a);
        let mut buffer = [0; 16];
        assert_eq!(recv(&b, &mut buffer, Wait::Block).unwrap(), Received::Packet(10));
        assert_eq!(recv(&b, &mut buffer, Wait::Block).unwrap(), Received::Closed);
        assert_eq!(send(&b, b"anyone?", Wait::Never).unwrap(), Sent::Closed);
    }

    #[test]
    fn a_packet_longer_than_the_buffer_is_an_error() {
        let (a, b) = seqpacket_pair().unwrap();
        let mut buffer = [0; 4];
        for with_fds in [false, true] {
            send(&a, b"too long", Wait::Block).unwrap();
            let error = if with_fds {
                recv_with_fds(&b, &mut buffer, Wait::Block).map(|_| ())
            } else {
                recv(&b, &mut buffer, Wait::Block).map(|_| ())
            };
            assert!(
                matches!(error, Err(SysError::PacketTooLong { len: 8, room: 4 })),
                "{error:?}"
            );
        }
    }

    #[test]
    fn the_unread_end_holds_a_hundred_small_packets_and_says_when_it_is_full() {
        let (a, b) = seqpacket_pair().unwrap();
        let mut held = 0;
        while send(&a, &[0; 100], Wait::Never).unwrap() == Sent::Whole {
            held += 1;
        }
        assert!(held >= 128, "only {held} packets fit");
        // A duplicate of the reading end takes them back.
        let duplicate = b.try_clone().unwrap();
        let mut buffer = [0; 200];
        for _ in 0..held {
            assert_eq!(
                recv(&duplicate, &mut buffer, Wait::Never).unwrap(),
                Received::Packet(100)
            );
        }
        assert_eq!(recv(&b, &mut buffer, Wait::Never).unwrap(), Received::Nothing);
    }

    #[test]
    fn descriptors_travel_with_their_packet() {
        let (a, b) = seqpacket_pair().unwrap();
        let (reader, writer) = std::io::pipe().unwrap();
        send_with_fds(&a, b"take this", &[writer.as_fd()], Wait::Block).unwrap();
        drop(writer);
        let mut buffer = [0; 16];
        let (received, mut fds) = recv_with_fds(&b, &mut buffer, Wait::Block).unwrap();
        assert_eq!(received, Received::Packet(9));
        let mut pipe = std::fs::File::from(fds.pop().unwrap());
        assert!(fds.is_empty());
        pipe.write_all(b"through").unwrap();
        drop(pipe);
        let mut text = String::new();
        { reader }.read_to_string(&mut text).unwrap();
        assert_eq!(text, "through");
    }

    #[test]
    fn a_packet_without_descriptors_is_received_the_same_way() {
        let (a, b) = seqpacket_pair().unwrap();
        send_with_fds(&a, b"plain", &[], Wait::Never).unwrap();
        let mut buffer = [0; 16];
        let (received, fds) = recv_with_fds(&b, &mut buffer, Wait::Never).unwrap();
        assert_eq!((received, fds.len()), (Received::Packet(5), 0));
        let (received, _) = recv_with_fds(&b, &mut buffer, Wait::Never).unwrap();
        assert_eq!(received, Received::Nothing);
    }
}

"""The frames on a job socket; `docs/protocol.md` is their specification.

A frame is handled as one `bytes` that begins with the header of its first packet.
"""

from __future__ import annotations

import socket
import struct
from typing import NamedTuple, Optional

PACKET_LEN_MAX = 65_536
HEADER_LEN = 4
#: Longest frame that is put together. The supervisor's own limits are far below.
FRAME_LEN_MAX = 1 << 30

_VERSION = 2
_KIND_RUN = 1
_KIND_PING = 2
_KIND_READY = 16
_KIND_DONE = 17
_KIND_PONG = 18
_KIND_PROGRESS = 19
_MORE = 1
_BATCH = 2

#: What the first four bytes of a Run frame in one packet are.
RUN_HEADER = _VERSION | _KIND_RUN << 8

#: header | execution | timeout_ms | attempt | id_len | queue_len | task_len | ordinal | kind of job
RUN = struct.Struct("<IQQIHHHHB3x")
#: header | execution | started_ns | ended_ns | outcome | after_ms
DONE = struct.Struct("<IQQQB3xI")
DONE_HEADER = _VERSION | _KIND_DONE << 8
READY_FRAME = struct.pack("<I", _VERSION | _KIND_READY << 8)
#: header | execution
_PING = struct.Struct("<IQ")

SUCCESS, FAILURE, REJECTED, TIMED_OUT, RETRY, GIVEN_BACK, SETTLED, BATCH_FAILURE = range(8)
#: `after_ms` of a retry whose wait the policy chooses, and of every other outcome.
AFTER_BY_POLICY = 0xFFFF_FFFF


class FrameError(Exception):
    """Bytes that are no frame."""


def run_frame(task: bytes, payload: bytes, timeout_ms: int) -> bytes:
    """A Run frame in one packet, of a job without id and queue."""
    return RUN.pack(RUN_HEADER, 0, timeout_ms, 1, 0, 0, len(task), 0, 0) + task + payload


def too_short(packet: bytes) -> FrameError:
    """The error for a packet that does not hold a Run frame's fixed fields."""
    return FrameError(f"a packet of {len(packet)} bytes is shorter than the fixed fields of a Run frame")


def pong(packet: bytes) -> Optional[bytes]:
    """The answer if this packet is a Ping, else None."""
    if len(packet) != _PING.size:
        return None
    header, execution = _PING.unpack(packet)
    if header != _VERSION | _KIND_PING << 8:
        return None
    return _PING.pack(_VERSION | _KIND_PONG << 8, execution)


def progress(execution: int, told: bytes) -> bytes:
    """The frame that tells how far a job is: `told` is its JSON, which fits one packet."""
    return _PING.pack(_VERSION | _KIND_PROGRESS << 8, execution) + told


def complete_run(sock: socket.SocketType, first: bytes) -> bytes:
    """Reads the rest of a Run frame whose first packet says that more follow; refuses any other packet."""
    if len(first) < HEADER_LEN:
        raise too_short(first)
    version, kind = first[0], first[1]
    if version != _VERSION:
        raise FrameError(f"a packet of protocol version {version}, expected {_VERSION}")
    if kind != _KIND_RUN:
        raise FrameError(f"a frame of kind {kind}, expected {_KIND_RUN} (Run)")
    if first[3] != 0:
        raise FrameError("a frame whose beginning was taken back")
    parts, total, number = [first], len(first), 0
    more = first[2] & _MORE
    while more:
        number = number % 255 + 1
        packet = sock.recv(PACKET_LEN_MAX)
        if not packet:
            raise FrameError("the job socket was closed in the middle of a frame")
        if len(packet) < HEADER_LEN or packet[:2] != first[:2]:
            raise FrameError("a frame was interrupted by another one")
        if packet[3] != number:
            raise FrameError("a packet is missing in the middle of a frame")
        total += len(packet)
        if total > FRAME_LEN_MAX:
            raise FrameError(f"a frame of more than {FRAME_LEN_MAX} bytes")
        parts.append(packet[HEADER_LEN:])
        more = packet[2] & _MORE
    return b"".join(parts)


def another_follows(frame: bytes) -> bool:
    """Whether the next frame is another job of the same batch."""
    return frame[2] & _BATCH != 0


def rest_of_batch(sock: socket.SocketType, first: bytes) -> list[bytes]:
    """Reads the frames behind the first one of a batch: all of them, the first one included."""
    run_frames = [first]
    while another_follows(run_frames[-1]):
        packet = sock.recv(PACKET_LEN_MAX)
        if not packet:
            raise FrameError("the job socket was closed in the middle of a batch")
        run_frames.append(complete_run(sock, packet))
    return run_frames


class RunFrame(NamedTuple):
    """The fields of a Run frame."""

    execution: int
    timeout_ms: int
    attempt: int
    job: bytes
    queue: bytes
    task: bytes
    payload: bytes
    kind: int

    @classmethod
    def read(cls, frame: bytes) -> RunFrame:
        """Takes a frame apart."""
        if len(frame) < RUN.size:
            raise too_short(frame)
        _, execution, timeout_ms, attempt, *lengths, _, kind = RUN.unpack_from(frame)
        names, at = [], RUN.size
        for length in lengths:
            names.append(frame[at : at + length])
            at += length
        if at > len(frame):
            raise FrameError("a length field points past the end of the frame")
        return cls(execution, timeout_ms, attempt, *names, frame[at:], kind)


def send_frame(sock: socket.SocketType, frame: bytes) -> None:
    """Sends a frame of any length, in as many packets as it takes."""
    header, body = bytearray(frame[:HEADER_LEN]), memoryview(frame)[HEADER_LEN:]
    room = PACKET_LEN_MAX - HEADER_LEN
    while True:
        part, body = body[:room], body[room:]
        header[2] = _MORE if body else 0
        sock.send(bytes(header) + bytes(part))
        if not body:
            return

"""The control socket between supervisor and template: one JSON object a packet."""

from __future__ import annotations

import json
import os
import socket
import struct
from dataclasses import dataclass, field, fields
from typing import Any, Optional

PACKET_LEN_MAX = 65_536
#: Room that a report's other fields may take beside the longest one.
_TEXT_LEN_MAX = 16_000
#: Characters of a part of the facts; a character takes up to six bytes.
_PART_LEN = 10_000
FORK_DESCRIPTORS = 4
_DESCRIPTOR = struct.Struct("i")


class ControlError(Exception):
    """A message that can't be understood."""


@dataclass
class Load:
    """What to load; the fields of the `load` message that concern Python."""

    generation: int = 0
    preload: list[str] = field(default_factory=list)
    modules: list[str] = field(default_factory=list)
    #: Whether those of `modules` are imported, too: to find out whether they can be.
    import_modules: bool = False
    #: Tasks to look for once all is loaded: to find out whether they are there.
    find_tasks: list[str] = field(default_factory=list)
    before_fork: list[str] = field(default_factory=list)
    after_fork: list[str] = field(default_factory=list)
    max_result: int = 1 << 20
    huge_pages: bool = True
    #: Whether what is loaded is made immortal, where it can be; see `memory.immortal`.
    immortal: bool = True
    #: Whether forks of workers leave nothing out; see `at_fork`.
    all_fork_hooks: bool = False
    #: Whether each job gets a process of its own; see `fresh`.
    fresh: bool = False
    #: In which dialect jobs are written; empty: as `jobs.functions` reads them.
    dialect: str = ""
    #: What the dialect's runner needs to know.
    options: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def from_message(cls, message: dict[str, Any]) -> Load:
        """Takes the fields known here out of a message; others are not Python's."""
        known = {each.name for each in fields(cls)}
        return cls(**{name: value for name, value in message.items() if name in known})


class ControlSocket:
    """The template's end."""

    def __init__(self, fd: int) -> None:
        self._socket = socket.socket(fileno=fd)

    def fileno(self) -> int:
        """For poll."""
        return self._socket.fileno()

    def receive(self) -> Optional[tuple[dict[str, Any], list[int]]]:
        """The next message and the descriptors that came with it; None when the supervisor has hung up."""
        # Not `socket.recv_fds`: up to Python 3.11 it drops the flags, and descriptors would leak into jobs' programs.
        packet, ancillary, flags, _ = self._socket.recvmsg(
            PACKET_LEN_MAX, socket.CMSG_LEN(FORK_DESCRIPTORS * _DESCRIPTOR.size), socket.MSG_CMSG_CLOEXEC
        )
        if not packet:
            return None
        descriptors = [fd for _, _, data in ancillary for (fd,) in _DESCRIPTOR.iter_unpack(data)]
        try:
            message = json.loads(packet)
            if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC) or not isinstance(message, dict):
                raise ValueError("cut, or no object")
        except ValueError as error:
            close_all(descriptors)
            raise ControlError(f"a control packet of {len(packet)} bytes is not a message: {error}") from error
        return message, descriptors

    def send(self, kind: str, **values: Any) -> None:
        """Sends one message, its texts cut where it would not fit into a packet."""
        packet = _encode({"type": kind, **values})
        if len(packet) > PACKET_LEN_MAX:
            short = {name: _shorten(value) for name, value in values.items()}
            packet = _encode({"type": kind, **short})
        self._socket.send(packet)

    def send_facts(self, text: str) -> None:
        """Sends this text in parts that fit into packets; an empty one is not sent."""
        for at in range(0, len(text), _PART_LEN):
            self.send("facts", part=text[at : at + _PART_LEN])


def _encode(message: dict[str, Any]) -> bytes:
    # A lone surrogate, as in a file name that is not UTF-8, is no character: no reader but Python's takes it.
    return json.dumps(message, ensure_ascii=False).encode(errors="replace")


def close_all(descriptors: list[int]) -> None:
    """Closes them."""
    for descriptor in descriptors:
        os.close(descriptor)


def _shorten(value: Any) -> Any:
    if isinstance(value, str) and len(value) > _TEXT_LEN_MAX:
        return value[: _TEXT_LEN_MAX // 2] + "\n…\n" + value[-_TEXT_LEN_MAX // 2 :]
    if isinstance(value, list):
        kept = [text[:500] for text in value[:20]]
        return kept + ([f"… and {len(value) - 20} more"] if len(value) > 20 else [])
    return value

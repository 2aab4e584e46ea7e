"""What the broker read of a job that it took; see `add_hash` in `lua/job.lua`."""

from __future__ import annotations

from typing import Optional

_EXECUTION_LEN = 32
_LENGTH_LEN = 4
#: Source: `rq/queue.py`, `Queue.DEFAULT_TIMEOUT`.
_DEFAULT_TIMEOUT = 180


class Taken:
    """The id of the job's execution, and the fields of its hash."""

    __slots__ = ("execution", "fields")

    def __init__(self, payload: bytes) -> None:
        """Raises `ValueError` where the payload is cut off."""
        at, end, texts = _EXECUTION_LEN, len(payload), []
        while at < end:
            start = at + _LENGTH_LEN
            at = start + int.from_bytes(payload[at:start], "big")
            texts.append(payload[start:at])
        if at != end or len(texts) % 2:
            raise ValueError(f"the fields of a job end at byte {at} of {end}")
        self.execution = payload[:_EXECUTION_LEN].decode()
        self.fields = dict(zip(texts[::2], texts[1::2]))

    def timeout(self) -> Optional[int]:
        """Whole seconds that the job may take. None: it says so in another way, or has no limit."""
        text = self.fields.get(b"timeout") or b"0"
        return (int(text) or _DEFAULT_TIMEOUT) if text.isdigit() else None

"""How far a job says that it is, on its way to the supervisor."""

from __future__ import annotations

import json
import time
from typing import Optional

#: Longest message, in characters: the supervisor keeps fewer.
_MESSAGE_MAX = 400
#: Calls in a row that are all told, and how many a second are told for ever: a loop may tell each of a million rows.
_BURST = 10.0
_A_SECOND = 10.0


class Allowance:
    """Says which of many calls are told."""

    def __init__(self) -> None:
        self._left = _BURST
        self._at = time.monotonic()

    def takes_one(self) -> bool:
        """Whether this call is told."""
        now = time.monotonic()
        self._left = min(_BURST, self._left + (now - self._at) * _A_SECOND)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


def encoded(fraction: Optional[float], message: str) -> bytes:
    """The JSON of a frame."""
    told = {"fraction": fraction, "message": message[:_MESSAGE_MAX]}
    return json.dumps(told).encode()

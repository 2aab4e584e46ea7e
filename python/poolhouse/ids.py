"""Ids that sort by the time of their making: UUIDs of version 7. Source: RFC 9562, 5.7."""

from __future__ import annotations

import os
import time
from typing import List


def new_id() -> str:
    """A fresh id."""
    return new_ids(1)[0]


def new_ids(count: int) -> List[str]:
    """Fresh ids in their order."""
    random = os.urandom(10)
    head = "%012x%04x" % (time.time_ns() // 1_000_000, 0x7000 | int.from_bytes(random[:2], "big") & 0xFFF)
    variant = 0x8000 | int.from_bytes(random[2:4], "big") & 0x3FFF
    prefix = f"{head[:8]}-{head[8:12]}-{head[12:]}-{variant:04x}-"
    # Counted up from a random start; the upper half is kept free, so that it does not run over.
    first = int.from_bytes(random[4:], "big") >> 1
    return [prefix + format(number, "012x") for number in range(first, first + count)]

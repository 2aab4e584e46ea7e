"""Times as people write them: "500ms", "5s", "1m30s", "2h", "7d", a number of seconds, or a `timedelta`."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Union

#: A length of time: a text such as "1m30s", seconds, or a `timedelta`.
Duration = Union[str, float, int, timedelta]

_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
#: Ten thousand years: what the program `pool` takes at most.
_MS_MAX = 10_000 * 365 * 86_400_000


def milliseconds(duration: Duration, what: str = "duration") -> int:
    """A length of time in milliseconds. Raises `ValueError`, which names it by `what`."""
    if isinstance(duration, str):
        ms = _of_text(duration.strip())
    elif isinstance(duration, timedelta):
        ms = duration.total_seconds() * 1000
    elif isinstance(duration, (int, float)) and not isinstance(duration, bool):
        ms = duration * 1000
    else:
        ms = -1
    if not 0 <= ms <= _MS_MAX:
        raise ValueError(
            f"{what} is {duration!r}; expected a time such as \"500ms\", \"5s\", \"1m30s\" or \"2h\", seconds, or a timedelta"
        )
    return round(ms)


def seconds(duration: Duration, what: str = "duration") -> float:
    """The same in seconds."""
    return milliseconds(duration, what) / 1000


def _of_text(text: str) -> float:
    try:
        return float(text) * 1000
    except ValueError:
        parts = list(_PART.finditer(text))
    if not parts or "".join(part[0] for part in parts) != text:
        return -1
    return sum(float(part[1]) * _MS[part[2]] for part in parts)

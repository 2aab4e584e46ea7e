"""What the application logs reaches the supervisor's log with its level and its logger.

A handler that writes to standard output or error writes each record as one line: a mark and a JSON object with `level`,
`logger` and `message`. The message is what the handler's own formatter makes of the record. See "What it starts with" in
docs/protocol.md.
"""

from __future__ import annotations

import json
import sys
from functools import partial
from typing import Any, Callable, Iterator

#: The record separator of RFC 7464 (JSON text sequences). No text begins with it.
MARK = "\x1e"
#: Bytes of a line, the mark included: the supervisor cuts longer ones.
_LINE_LEN_MAX = 16_000


def _marked(plain: Callable[[Any], str], record: Any) -> str:
    """Stands for `format` of a handler; `plain` is its own."""
    message = plain(record)
    line = _line(record, message)
    length = len(message)
    while len(line) > _LINE_LEN_MAX and length > 1:
        length //= 2
        line = _line(record, f"{message[: length // 2]}\n…\n{message[len(message) - length // 2 :]}")
    return line


def _line(record: Any, message: str) -> str:
    return MARK + json.dumps({"level": _level(record.levelno), "logger": record.name, "message": message})


def _level(number: int) -> str:
    """The supervisor has no more than these."""
    if number >= 40:
        return "error"
    if number >= 30:
        return "warn"
    return "info" if number >= 20 else "debug"


def mark_records() -> None:
    """Marks what is logged from now on, by the handlers that there are now. Does nothing if nobody logs."""
    logging = sys.modules.get("logging")
    if logging is None:
        return
    for handler in _handlers(logging):
        is_plain = isinstance(handler, logging.StreamHandler) and type(handler).emit is logging.StreamHandler.emit
        # The instance has a `format` of its own if it is marked already, or somebody else did likewise.
        if is_plain and handler.stream in _standard_streams() and "format" not in vars(handler):
            handler.format = partial(_marked, handler.format)


def _handlers(logging: Any) -> Iterator[Any]:
    if logging.lastResort is not None:
        yield logging.lastResort
    loggers = [logging.root, *logging.root.manager.loggerDict.values()]
    for logger in loggers:
        yield from getattr(logger, "handlers", ())  # a placeholder has none


def _standard_streams() -> tuple[Any, ...]:
    return (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__)

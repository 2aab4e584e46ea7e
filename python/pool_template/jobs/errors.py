"""Errors as their reader meets them: kind, message, and a traceback of the user's own frames."""

from __future__ import annotations

import json
import traceback
from types import TracebackType
from typing import Optional

#: The kind of an error that says that there is no such task.
UNKNOWN_TASK = "unknown task"

_MESSAGE_LEN_MAX = 4_000
_DETAIL_LEN_MAX = 24_000
_WHOLE_LEN_MAX = 200_000
#: Frames of ours, of the import system and of the event loop: they tell a user nothing.
_FOREIGN = ("<pool>/", "<string>", "<frozen importlib", "<frozen runpy")
_FOREIGN_FILES = ("/importlib/__init__.py", "/asyncio/runners.py", "/asyncio/base_events.py")


def type_name(value: object) -> str:
    """The type of a value or exception: `ValueError`, `shop.errors.OutOfStock`."""
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def mark_unknown(error: BaseException) -> None:
    """This error says that there is no such task: while newer code loads, the supervisor gives the job to that."""
    try:
        error.__dict__["_pool_unknown_task"] = True
    except AttributeError:  # an exception without a dictionary
        pass


def kind_of(error: BaseException) -> str:
    """What kind of error it is, for the supervisor: its type, or that there is no such task."""
    marked = getattr(error, "__dict__", {}).get("_pool_unknown_task", False)
    return UNKNOWN_TASK if marked else type_name(error)


def message_of(error: BaseException) -> str:
    """What the exception says; an exception that can't say it does no harm."""
    try:
        return _shortened(str(error), _MESSAGE_LEN_MAX)
    except Exception as second:
        return f"(its text can't be read: {type(second).__name__})"


def traceback_of(error: BaseException) -> str:
    """The traceback with its causes, less the frames that are not the user's."""
    try:
        report = traceback.TracebackException.from_exception(error)
        _trim(report)
        return _shortened("".join(report.format()), _DETAIL_LEN_MAX)
    except Exception as second:
        return f"(the traceback can't be read: {type(second).__name__})"


def whole_traceback_of(error: BaseException) -> str:
    """As `traceback` prints it, less our own frames at its top."""
    trace = error.__traceback__
    while trace is not None and _is_foreign(trace.tb_frame.f_code.co_filename):
        trace = trace.tb_next
    try:
        text = "".join(traceback.format_exception(type(error), error, trace))
    except Exception as second:
        return f"(the traceback can't be read: {type(second).__name__})"
    return _shortened(text, _WHOLE_LEN_MAX)


def has_user_frames(trace: Optional[TracebackType]) -> bool:
    """Whether the exception came out of a function of the user, and not out of calling it."""
    while trace is not None:
        if not _is_foreign(trace.tb_frame.f_code.co_filename):
            return True
        trace = trace.tb_next
    return False


def encode(kind: str, message: str, detail: str = "") -> bytes:
    """The JSON of a Done frame that is no success."""
    value = {"kind": _encodable(kind), "message": _encodable(message)}
    if detail:
        value["detail"] = _encodable(detail)
    return json.dumps(value).encode()


def _encodable(text: str) -> str:
    """The text with escapes for lone surrogates, which stand for bytes of file names that are not UTF-8. `json` writes
    them as half a character, and no other reader of JSON takes that."""
    return text.encode(errors="backslashreplace").decode()


def _is_foreign(filename: str) -> bool:
    return filename.startswith(_FOREIGN) or filename.endswith(_FOREIGN_FILES)


def _trim(report: traceback.TracebackException) -> None:
    seen = {id(report)}
    waiting = [report]
    while waiting:
        each = waiting.pop()
        each.stack[:] = [frame for frame in each.stack if not _is_foreign(frame.filename)]
        for other in (each.__cause__, each.__context__, *(getattr(each, "exceptions", None) or ())):
            if other is not None and id(other) not in seen:
                seen.add(id(other))
                waiting.append(other)


def _shortened(text: str, limit: int) -> str:
    """Beginning and end of a text that is too long."""
    if len(text) <= limit:
        return text
    return f"{text[: limit // 2]}\n… ({len(text) - limit} characters left out) …\n{text[-limit // 2 :]}"

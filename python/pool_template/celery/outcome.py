"""What the supervisor is told of a run: a state, what to do with the message, and a result to store.

One JSON object; the broker reads it. `then` is what Celery's own late acknowledgement would do.
"""

from __future__ import annotations

import json
from json.encoder import encode_basestring_ascii as quoted
from typing import Any, NamedTuple, Optional

from pool_template.jobs import errors, frames
from pool_template.jobs.loop import Outcome

SUCCESS, FAILURE, RETRY, IGNORED, REJECTED, REVOKED = "SUCCESS", "FAILURE", "RETRY", "IGNORED", "REJECTED", "REVOKED"
#: Its time has not come: only a message whose body had to be decoded to know.
LATER = "LATER"
ACK, REJECT, REQUEUE = "ack", "reject", "requeue"

#: Texts are for events and logs; a result itself is stored whole.
_TEXT_LEN_MAX, _TRACEBACK_LEN_MAX = 10_000, 100_000


class Store(NamedTuple):
    """A result that the supervisor stores together with its acknowledgement."""

    key: str
    value: str
    #: Seconds; None or 0: for good.
    expires: Optional[int]


def succeeded(store: Optional[Store], runtime: Optional[float], text: Optional[str]) -> Outcome:
    """The usual outcome. `text`: the result as events show it."""
    kept = "null" if store is None else _store(store)
    took = "null" if runtime is None else repr(runtime)
    shown = "null" if text is None else quoted(text)
    data = f'{{"state":"SUCCESS","then":"ack","store":{kept},"runtime":{took},"result":{shown}}}'
    return frames.SUCCESS, frames.AFTER_BY_POLICY, data.encode()


def told(state: str, then: Optional[str], **more: Any) -> Outcome:
    """An outcome that is no failure."""
    value = {"state": state, "then": then, "store": None, **more}
    return frames.SUCCESS, frames.AFTER_BY_POLICY, _encode(value).encode()


def failed(
    error: BaseException, traceback: str, then: Optional[str], store: Optional[Store] = None, **more: Any
) -> Outcome:
    """A failure for good; as it is counted and logged, and as the broker is to settle it."""
    value = {"state": FAILURE, "then": then, "store": store and store._asdict(), **texts(error, traceback), **more}
    whole = {
        "kind": errors.type_name(error),
        "message": errors.message_of(error),
        "detail": shortened(traceback, _TRACEBACK_LEN_MAX),
        "broker": _encode(value),
    }
    return frames.REJECTED, frames.AFTER_BY_POLICY, _encode(whole).encode()


def refused(error: BaseException, then: str) -> Outcome:
    """No task ran for the message: counted and logged as a failure; monitors are told nothing of it, as by Celery."""
    return failed(error, "", then, state=REJECTED, events=[])


def unwrapped(data: bytes) -> Outcome:
    """What `failed` tells the broker, as the outcome of something that did not fail itself."""
    return frames.SUCCESS, frames.AFTER_BY_POLICY, json.loads(data)["broker"].encode()


def broken(error: BaseException) -> Outcome:
    """It was not the task that failed: another run may do better."""
    data = errors.encode(errors.type_name(error), errors.message_of(error), errors.whole_traceback_of(error))
    return frames.FAILURE, frames.AFTER_BY_POLICY, data


def texts(error: Any, traceback: Optional[str]) -> dict[str, Any]:
    """An exception as events show it."""
    return {
        "exception": shortened(safe_repr(error), _TEXT_LEN_MAX),
        "traceback": traceback and shortened(traceback, _TRACEBACK_LEN_MAX),
    }


def safe_repr(value: Any) -> str:
    """Its representation, if it has one."""
    try:
        return repr(value)
    except Exception as error:
        return f"<{type(value).__name__}: no representation: {type(error).__name__}>"


def shortened(text: str, limit: int) -> str:
    """Beginning and end of a text that is too long."""
    if len(text) <= limit:
        return text
    return f"{text[: limit // 2]}\n… ({len(text) - limit} characters left out) …\n{text[-limit // 2 :]}"


def _store(store: Store) -> str:
    return f'{{"key":{quoted(store.key)},"value":{quoted(store.value)},"expires":{int(store.expires or 0) or "null"}}}'


def _encode(value: Any) -> str:
    """All of it in ASCII; a lone surrogate, which no other reader of JSON takes, becomes a question mark."""
    return json.dumps(_clean(value), default=safe_repr)


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode(errors="replace").decode()
    if isinstance(value, dict):
        return {str(key): _clean(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_clean(each) for each in value]
    return value

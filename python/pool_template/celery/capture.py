"""Results that the supervisor stores, in the step in which it acknowledges the task.

Celery stores a result by a round trip to read what is there, and another to write. Where nothing can tell the
difference, the last step of the backend is kept back: what it would write goes to the supervisor, which writes it by
the same rules. All else of a backend (states on the way, chords, errbacks) is as ever.
"""

from __future__ import annotations

import os
from datetime import datetime, timezone
from functools import partial
from json.encoder import encode_basestring_ascii as quoted
from types import FunctionType
from typing import Any, Callable, Optional
from weakref import ReferenceType
from zoneinfo import ZoneInfo

import celery
from celery import signals, states
from celery.app.trace import task_has_custom
from kombu.serialization import registry
from kombu.utils.encoding import bytes_to_str
from kombu.utils.json import JSONEncoder
from kombu.utils.json import dumps as json_dumps

from pool_template.celery.outcome import Store

_CELERY_DIRECTORY = os.path.dirname(os.path.abspath(celery.__file__)) + os.sep
#: What lies between the end of a task and its result in Redis; one that was replaced must be called.
_WAY_OF_A_RESULT = (
    "_encode", "_get_result_meta", "_set", "_set_with_state", "_store_result", "current_task_children", "encode",
    "encode_result", "get_key_for_task", "mark_as_done", "mark_as_failure", "prepare_exception", "prepare_value", "set",
    "store_result",
)  # fmt: skip
#: Waits of up to 10 s: about four minutes.
_RETRIES = 40
#: Receivers that look at no result.
_HARMLESS = ("celery.fixups.django",)
_encode = JSONEncoder().encode
_utc = timezone.utc


class Capture:
    """Stands before the backend of the app, and keeps back the result of the running task if that was asked for."""

    def __init__(self, app: Any, max_result: int, on_end: Callable[[Optional[BaseException]], None]) -> None:
        """`on_end` is called when the task's own code has ended, ahead of anything that is stored."""
        self._app = app
        self._on_end = on_end
        self._backend: Any = app.backend
        self._is_extended = bool(app.conf.find_value_for_key("extended", "result"))
        #: Half of what may be sent: the result stands in a text inside of another.
        self._value_len_max = max_result // 2
        #: Whether this backend's results can be kept back at all.
        self.is_possible = _is_stock_redis(self._backend)
        #: The id of the task whose result is to be kept back.
        self._armed: Optional[str] = None
        self._takes_failures = False
        self._store: Optional[Store] = None
        #: What the key of every result begins with, if nothing is special about it.
        self._prefix = bytes_to_str(self._backend.task_keyprefix) if self.is_possible else ""
        self._now = datetime.now if self._is_in_utc() else lambda _: app.now()
        self._stand_before()

    def allows(self, task: Any) -> bool:
        """Whether nothing of this task looks at its result once it is stored."""
        return (
            self.is_possible
            and task.backend is self._backend
            and not task_has_custom(task, "on_success")
            and not task_has_custom(task, "after_return")
        )

    @staticmethod
    def allows_failures(task: Any) -> bool:
        """The same of its failures, for a task that is allowed."""
        return not task_has_custom(task, "on_failure")

    @staticmethod
    def is_watched() -> bool:
        """Whether receivers of signals may look at results."""
        success, postrun = signals.task_success, signals.task_postrun
        return bool((success.receivers or postrun.receivers) and (_strangers(success) or _strangers(postrun)))

    def arm(self, task_id: str, takes_failures: bool) -> None:
        """Keep back the final result of this task."""
        self._armed, self._takes_failures, self._store = task_id, takes_failures, None

    def take(self) -> Optional[Store]:
        """What was kept back, once."""
        store, self._store, self._armed = self._store, None, None
        return store

    def _stand_before(self) -> None:
        """Instances, not classes: a backend of another app or of a task is let alone."""
        backend = self._backend
        self._mark_as_done, self._mark_as_failure = backend.mark_as_done, backend.mark_as_failure
        backend.mark_as_done, backend.mark_as_failure = self._done, self._failure

    def _done(
        self, task_id: str, result: Any, request: Any = None, store_result: bool = True, state: str = states.SUCCESS
    ) -> Any:
        """In place of the backend's `mark_as_done`."""
        self._on_end(None)
        store_now = partial(self._store_now, self._mark_as_done, task_id, result)
        if task_id != self._armed or state != states.SUCCESS or request is None or request.chord:
            return store_now(request=request, store_result=store_result, state=state)
        if store_result and not request.ignore_result:
            value = self._value_of(task_id, result, request)
            if len(value) > self._value_len_max:
                self._armed = None
                return store_now(request=request, store_result=store_result, state=state)
            self._store = Store(self._prefix + task_id, value, self._backend.expires)
        self._armed = None
        return None

    def _failure(
        self,
        task_id: str,
        exc: Any,
        traceback: Optional[str] = None,
        request: Any = None,
        store_result: bool = True,
        call_errbacks: bool = True,
        state: str = states.FAILURE,
    ) -> Any:
        """In place of the backend's `mark_as_failure`."""
        self._on_end(exc)
        is_ours = task_id == self._armed and state == states.FAILURE and self._takes_failures
        if is_ours and not (request is None or request.chord or request.chain or request.errbacks):
            if not _strangers(signals.task_failure):
                self._armed = None
                if not store_result:
                    return None
                value = self._whole_value(task_id, exc, state, request, traceback)
                if len(value) <= self._value_len_max:
                    backend = self._backend
                    expires = getattr(backend, "failure_expires", None)  # not before Celery 5.7
                    expires = backend.expires if expires is None else expires
                    self._store = Store(self._prefix + task_id, value, expires)
                    return None
        self._armed = None
        return self._store_now(
            self._mark_as_failure,
            task_id,
            exc,
            traceback=traceback,
            request=request,
            store_result=store_result,
            call_errbacks=call_errbacks,
            state=state,
        )

    def _store_now(self, store: Callable[..., Any], task_id: str, result: Any, **values: Any) -> Any:
        """By Celery's own code, which waits for a store that is away, as `result_backend_always_retry` has it wait: the
        task has run, and its result must not be lost for that."""
        backend = self._backend
        before = backend.always_retry, backend.max_retries
        if before[0]:
            return store(task_id, result, **values)
        backend.always_retry, backend.max_retries = True, min(_RETRIES, backend.max_retries)
        try:
            return store(task_id, result, **values)
        finally:
            backend.always_retry, backend.max_retries = before

    def _value_of(self, task_id: str, result: Any, request: Any) -> str:
        """What Celery's own code makes of a success, in a fifth of its time where nothing is special."""
        if self._is_extended or request._children:
            return self._whole_value(task_id, result, states.SUCCESS, request, None)
        text = _encoded(result)
        if text is None:
            return self._whole_value(task_id, result, states.SUCCESS, request, None)
        more = ""
        if request.group:
            more = f', "group_id": {_encode(request.group)}'
        if request.parent_id:
            more += f', "parent_id": {_encode(request.parent_id)}'
        return (
            f'{{"status": "SUCCESS", "result": {text}, "traceback": null, "children": [], '
            f'"date_done": "{self._now(_utc).isoformat()}"{more}, "task_id": {quoted(task_id)}}}'
        )

    def _is_in_utc(self) -> bool:
        """Whether results are dated as they usually are: then it need not be found out for each of them."""
        app = self._app
        return is_of_celery(app.now) and app.now().tzinfo in (_utc, ZoneInfo("UTC"))

    def _whole_value(self, task_id: str, result: Any, state: str, request: Any, traceback: Optional[str]) -> str:
        """Source: `celery/backends/base.py`, `store_result` and `_store_result`."""
        backend = self._backend
        encoded = backend.encode_result(result, state)
        meta = backend._get_result_meta(result=encoded, state=state, traceback=traceback, request=request)
        meta["task_id"] = bytes_to_str(task_id)
        return bytes_to_str(backend.encode(meta))


def _encoded(result: Any) -> Optional[str]:
    """Its JSON; `None`: a result of Celery's own, or one that is no JSON. Celery's own code knows what to do with it, and
    is called when this error is over: else its traceback would show it too."""
    try:
        return _encode(result)
    except Exception:
        return None


def _is_stock_redis(backend: Any) -> bool:
    """Whether it stores results as the supervisor does: Celery's own class over Redis, with JSON as it comes."""
    kind = type(backend)
    if (kind.__module__, kind.__name__) != ("celery.backends.redis", "RedisBackend"):
        return False
    if backend.serializer != "json" or getattr(backend, "compression", None):
        return False
    if getattr(registry._encoders.get("json"), "encoder", None) is not json_dumps:
        return False
    return all(is_of_celery(getattr(backend, name, None)) for name in _WAY_OF_A_RESULT if hasattr(backend, name))


def is_of_celery(value: Any) -> bool:
    """Whether it is a function of Celery's own. A wrapper may pretend to be what it wraps."""
    function = getattr(value, "__func__", value)
    return type(function) is FunctionType and function.__code__.co_filename.startswith(_CELERY_DIRECTORY)


def _strangers(signal: Any) -> int:
    """How many receivers are none of Celery's own."""
    count = 0
    for _, receiver in signal.receivers or ():
        found = receiver() if isinstance(receiver, ReferenceType) else receiver
        if found is not None and getattr(found, "__module__", None) not in _HARMLESS:
            count += 1
    return count

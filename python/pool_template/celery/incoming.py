"""What Celery's parent process does with a message ahead of a task, by Celery's own request objects.

A worker is both here: child, and parent of its own tasks. The fast way (`runner`) needs none of this. It is for
messages of an older protocol, compressed or refused ones, those that expire, tasks with a request class of their own,
and for all that ends a task from outside (`chores`).
"""

from __future__ import annotations

import json
import logging
from types import SimpleNamespace
from typing import Any, Optional

from celery import signals
from celery.exceptions import InvalidTaskError, NotRegistered
from celery.utils.imports import symbol_by_name
from celery.worker.request import create_request_cls
from celery.worker.strategy import hybrid_to_proto2, proto1_to_proto2
from kombu.exceptions import ContentDisallowed, DecodeError
from kombu.message import Message
from kombu.serialization import prepare_accept_content

from pool_template.celery import outcome
from pool_template.celery.application import Application
from pool_template.jobs.loop import Outcome

logger = logging.getLogger("celery.worker.consumer.consumer")
_LOGGED_LEN_MAX = 2_000
_decode = json.JSONDecoder().decode
#: The event that says how a task ended, and the state that it means.
_STATES = {
    "task-succeeded": outcome.SUCCESS,
    "task-failed": outcome.FAILURE,
    "task-retried": outcome.RETRY,
    "task-rejected": outcome.REJECTED,
    "task-revoked": outcome.REVOKED,
}


class Refused(Exception):
    """No task runs for this message."""

    def __init__(self, answer: Outcome) -> None:
        super().__init__(answer)
        self.answer = answer


class Verdict:
    """Stands for the message and for the sender of events: keeps what Celery's code would tell them."""

    enabled = True

    def __init__(self) -> None:
        #: What becomes of the message; None: nothing was said.
        self.then: Optional[str] = None
        self.events: list[tuple[str, dict[str, Any]]] = []

    def on_ack(self, *_: Any, **__: Any) -> None:
        """The message is acknowledged."""
        self.then = self.then or outcome.ACK

    def on_reject(self, _logger: Any, _errors: Any, requeue: bool = False, **__: Any) -> None:
        """The message is rejected."""
        self.then = self.then or (outcome.REQUEUE if requeue else outcome.REJECT)

    def event(self, request: Any, kind: str, **values: Any) -> None:
        """An event of this task."""
        self.events.append((kind, {"uuid": request.id, **values}))

    def show(self, error: BaseException) -> None:
        """The event of the failure shows this error: a wrapper stands in its place where it came from a process."""
        for kind, values in self.events:
            if kind == "task-failed":
                values["exception"] = outcome.safe_repr(error)

    @property
    def state(self) -> Optional[str]:
        """The state that the events tell of. A rejection follows the failure that it goes with."""
        found = [_STATES[kind] for kind, _ in self.events if kind in _STATES]
        return next((state for state in found if state != outcome.REJECTED), found[0] if found else None)


class Incoming:
    """Makes requests of messages. Source: `celery/worker/consumer/consumer.py` and `celery/worker/strategy.py`."""

    def __init__(self, application: Application) -> None:
        self._app, self._node = application.app, application.node
        self._consumer = application.worker.consumer
        self._pool = application.worker.pool
        #: The request classes as Celery's worker makes them of the tasks' own, by task.
        self._classes: dict[str, Any] = {}
        self._accept = prepare_accept_content(self._app.conf.accept_content)

    def message(self, meta: dict[str, Any], body: bytes) -> Message:
        """The message as kombu shows it."""
        properties = meta.get("properties") or {}
        return Message(
            body=body,
            content_type=meta.get("content_type"),
            content_encoding=meta.get("content_encoding"),
            delivery_info=properties.get("delivery_info") or {},
            properties=properties,
            headers=meta.get("headers") or {},
            accept=self._accept,
            postencode="utf-8",
        )

    def request(self, meta: dict[str, Any], body: bytes) -> tuple[Any, Verdict]:
        """The request of this message, and what its code says of it. Raises `Refused`."""
        message = self.message(meta, body)
        if message.errors:  # can't be decompressed
            raise self._undecodable(message, message.errors[0][1])
        payload = None
        if "task" not in message.headers:
            try:
                payload = message.decode()
            except Exception as error:
                raise self._undecodable(message, error) from None
        name = (message.headers if payload is None else _mapping(payload)).get("task")
        if not isinstance(name, str):
            raise self.rejected(message, None)
        task = self._app._tasks.get(name)
        if task is None:
            raise self.unknown(message, payload, NotRegistered(name))
        try:
            return self._made(message, payload, task)
        except DecodeError as error:
            raise self._undecodable(message, error) from None
        except Exception as error:  # Celery's consumer knows of two kinds, and ends with the others
            is_known = isinstance(error, (InvalidTaskError, ContentDisallowed))
            raise self.rejected(message, error if is_known else InvalidTaskError(str(error) or repr(error))) from None

    def received(self, meta: dict[str, Any], body: bytes) -> tuple[Any, Verdict, Optional[Outcome]]:
        """The request of a message that came in, what its code says of it, and an outcome if its task is not to run.
        Raises `Refused`."""
        request, verdict = self.request(meta, body)
        return request, verdict, self._receive(request, verdict, bool(meta.get("due")))

    def _receive(self, request: Any, verdict: Verdict, is_due: bool) -> Optional[Outcome]:
        """What is done when a message comes in. An outcome if its task is not to run: it has expired, or is early."""
        if logger.isEnabledFor(logging.INFO):
            log_received(request.id, request.name, request.argsrepr, request.kwargsrepr, request.eta)
        if request.expires and request.revoked():
            return self.answer(request, verdict)
        signals.task_received.send(sender=self._consumer, request=request)
        if request.decoded and request.eta and not is_due:
            return outcome.told(outcome.LATER, None, eta=request.eta.timestamp())
        return None

    def answer(self, request: Any, verdict: Verdict, error: Optional[BaseException] = None, **more: Any) -> Outcome:
        """The outcome that Celery's code has told `verdict` of."""
        events = [event for event in verdict.events if request.task.send_events]
        state = verdict.state or outcome.IGNORED
        then = verdict.then or (outcome.ACK if request.acknowledged else None)
        values = _values_of(verdict, state)
        if state == outcome.FAILURE and error is not None:
            trace = str(values.get("traceback") or "")
            return outcome.failed(error, trace, then, events=events, **more)
        return outcome.told(state, then, events=events, **values, **more)

    def unknown(self, message: Message, payload: Any, error: NotRegistered) -> Refused:
        """Source: `Consumer.on_unknown_task`."""
        headers = message.headers if payload is None else _mapping(payload)
        task_id, name = headers.get("id"), headers.get("task")
        logger.error("Received unregistered task of type %s.\nIts id is %s.", error, task_id)
        request = SimpleNamespace(
            name=name,
            chord=None,
            chain=None,
            root_id=headers.get("root_id"),
            correlation_id=message.properties.get("correlation_id"),
            reply_to=message.properties.get("reply_to"),
            errbacks=None,
            id=task_id,
            group=None,
            children=[],
        )
        if task_id:
            self._app.backend.mark_as_failure(task_id, error, request=request)
        missing = KeyError(name)
        signals.task_unknown.send(sender=self._consumer, message=message, exc=missing, name=name, id=task_id)
        events = [("task-failed", {"uuid": task_id, "exception": f"NotRegistered({name!r})"})]
        return Refused(outcome.failed(error, "", outcome.REJECT, events=events))

    def rejected(self, message: Message, error: Optional[Exception]) -> Refused:
        """Source: `Consumer.on_unknown_message` and `Consumer.on_invalid_task`."""
        why = "it names no task" if error is None else str(error)
        logger.error("Received a message that is rejected: %s. Its headers: %s", why, _shown(message.headers))
        signals.task_rejected.send(sender=self._consumer, message=message, exc=error)
        return Refused(outcome.refused(error or InvalidTaskError(why), outcome.REJECT))

    def _undecodable(self, message: Message, error: BaseException) -> Refused:
        """Source: `Consumer.on_decode_error`: such a message is acknowledged, or it would come again for ever."""
        if isinstance(error, ContentDisallowed) and "task" in message.headers:
            return self.rejected(message, error)
        logger.critical(
            "Can't decode message body: %r [type:%r encoding:%r headers:%s]",
            error,
            message.content_type,
            message.content_encoding,
            _shown(message.headers),
        )
        return Refused(outcome.refused(error, outcome.ACK))

    def _class_of(self, task: Any) -> Any:
        known = self._classes.get(task.name)
        if known is None:
            base = symbol_by_name(task.Request)
            known = create_request_cls(base, task, self._pool, self._node, Verdict(), app=self._app)
            self._classes[task.name] = known
        return known

    def _made(self, message: Message, payload: Any, task: Any) -> tuple[Any, Verdict]:
        if payload is not None:
            made = proto1_to_proto2(message, payload)
        elif "args" in message.payload:
            made = hybrid_to_proto2(message, message.payload)
        else:
            made = message.body, message.headers, False, self._app.uses_utc_timezone()
        body, headers, decoded, utc = made
        if not headers.get("id"):
            raise InvalidTaskError("the message has no id")
        if not are_limits(headers.get("timelimit")):
            raise InvalidTaskError(f"invalid time limits {headers['timelimit']!r}")
        verdict = Verdict()
        request = self._class_of(task)(
            message,
            on_ack=verdict.on_ack,
            on_reject=verdict.on_reject,
            app=self._app,
            hostname=self._node,
            eventer=verdict,
            task=task,
            body=body,
            headers=headers,
            decoded=decoded,
            utc=utc,
        )
        if not hasattr(request.kwargs, "items"):
            raise InvalidTaskError("Task keyword arguments is not a mapping")
        if not isinstance(request._payload[2] or {}, dict):
            raise InvalidTaskError("what goes with the arguments is not a mapping")
        request.decoded = decoded
        request.send_event = lambda kind, **values: verdict.event(request, kind, **values)
        return request, verdict


def parted(payload: bytes) -> tuple[dict[str, Any], bytes]:
    """A frame's payload: what is said of the body, and the body."""
    meta_end = 4 + int.from_bytes(payload[:4], "little")
    return _decode(payload[4:meta_end].decode()), payload[meta_end:]


def log_received(task_id: str, name: str, args: Any, kwargs: Any, eta: Any) -> None:
    """Says that a task came in, as Celery's worker does."""
    from celery.app import trace

    context = {"id": task_id, "name": name, "args": args, "kwargs": kwargs, "eta": eta}
    logging.getLogger("celery.worker.strategy").info(trace.LOG_RECEIVED, context, extra={"data": context})


def are_limits(value: Any) -> bool:
    """Whether it is a hard and a soft limit in seconds, or nothing."""
    if not value:
        return value is None or isinstance(value, (list, tuple))
    return isinstance(value, (list, tuple)) and len(value) == 2 and all(map(_is_limit, value))


def _is_limit(value: Any) -> bool:
    return value is None or (isinstance(value, (int, float)) and 0 <= value < 1e9)


def _shown(headers: Any) -> str:
    return outcome.shortened(outcome.safe_repr(headers), _LOGGED_LEN_MAX)


def _mapping(payload: Any) -> dict[str, Any]:
    return payload if isinstance(payload, dict) else {}


def _values_of(verdict: Verdict, state: str) -> dict[str, Any]:
    """What the event of this state says."""
    for kind, values in verdict.events:
        if _STATES.get(kind) == state:
            return {name: values[name] for name in ("result", "runtime", "exception", "traceback") if name in values}
    return {}

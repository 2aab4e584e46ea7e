"""What is known of each task before it runs, found once."""

from __future__ import annotations

import json
from typing import Any, Callable, NamedTuple, Optional

from kombu.serialization import registry
from kombu.utils import json as kombu_json
from kombu.utils.json import object_hook

from pool_template.celery import batches
from pool_template.celery.application import Application
from pool_template.celery.capture import Capture

_JSON = "application/json"
_STOCK_REQUEST = "celery.worker.request:Request"
_decode = json.JSONDecoder(object_hook=object_hook).decode


class Plan(NamedTuple):
    """How a task's messages are run."""

    task: Any
    #: Whether the fast way is good enough: nothing of the user's stands in it.
    is_plain: bool
    #: Whether its results, and its failures, may be kept back.
    captures: bool
    captures_failures: bool
    #: Seconds; None: no limit of its own.
    soft_limit_s: Optional[float]
    #: Whether one call takes the requests of many messages.
    takes_requests: bool = False


class Plans:
    """All of them, made when a task is first asked for."""

    def __init__(self, application: Application, capture: Capture) -> None:
        self._application = application
        self._tasks = application.app._tasks
        self._capture = capture
        self._known: dict[str, Plan] = {}

    def get(self, name: Any) -> Optional[Plan]:
        """That of the task with this name; None: there is no such task."""
        if not isinstance(name, str):
            return None
        known = self._known.get(name)
        task = self._tasks.get(name)
        if known is not None and known.task is task:
            return known
        return None if task is None else self.add(name, task)

    def add(self, name: str, task: Any) -> Plan:
        """Makes it."""
        application, capture = self._application, self._capture
        if task.__trace__ is None:  # registered by a worker
            application.build_tracer(name, task)
        captures = capture.allows(task)
        takes_requests = batches.takes_requests(task)
        plan = self._known[name] = Plan(
            task=task,
            is_plain=task.Request == _STOCK_REQUEST and not takes_requests,
            captures=captures,
            captures_failures=captures and capture.allows_failures(task),
            soft_limit_s=application.soft_limit_of(task),
            takes_requests=takes_requests,
        )
        return plan

    def limit(self, name: Any, hard_s: Optional[float], soft_s: Optional[float]) -> None:
        """The limits of a task that somebody changed while it runs. Source: `celery/worker/control.py`, `time_limit`."""
        task = self._tasks.get(name)
        if task is not None and (task.time_limit, task.soft_time_limit) != (hard_s, soft_s):
            task.time_limit, task.soft_time_limit = hard_s, soft_s
            self.forget(name)

    def forget(self, name: str) -> None:
        """It is made anew should it be asked for again."""
        self._known.pop(name, None)


def json_decoder(accepted: Optional[set[str]]) -> Optional[Callable[[str], Any]]:
    """What reads JSON bodies, the decoder made once; None: something of the user's does, or they are refused."""
    is_accepted = accepted is None or _JSON in accepted
    return _decode if is_accepted and registry._decoders.get(_JSON) is kombu_json.loads else None

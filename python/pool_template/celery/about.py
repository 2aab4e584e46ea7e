"""What the application says of itself to those who ask by remote control: as Celery's own commands answer it."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any, Callable

from celery.worker import control
from kombu.serialization import prepare_accept_content

from pool_template.celery.commands import own_commands


def about(app: Any, worker: Any, info: dict[str, Any]) -> dict[str, Any]:
    """Answers that stay the same while the application is loaded; `info`: of its connection.

    Source: `celery/worker/control.py`, `celery/worker/consumer/connection.py`.
    """
    state = SimpleNamespace(app=app)
    return {
        "report": _answer(lambda: control.report(state)),
        "conf": _answer(lambda: control.conf(state)),
        "conf_with_defaults": _answer(lambda: control.conf(state, with_defaults=True)),
        "registered": dict(zip(sorted(app.tasks), control.registered(state, builtins=True))),
        "queues": {(queue.alias or queue.name): queue.as_dict(recurse=True) for queue in app.amqp.queues.consume_from.values()},
        "broker": {**_without_password(info), "heartbeat": app.conf.broker_heartbeat},
        "commands": own_commands(),
        "serializer": app.conf.task_serializer,
        "refuses_json": app.conf.accept_content is not None
        and "application/json" not in prepare_accept_content(app.conf.accept_content),
        "timeouts": [worker.soft_time_limit or 0, worker.time_limit or 0],
    }


def _without_password(info: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in info.items() if name != "password"}


def _answer(command: Callable[[], Any]) -> Any:
    """What a command answers, or what Celery says of one that failed: that is no reason not to load."""
    connections = logging.getLogger("kombu.connection")
    was_disabled, connections.disabled = connections.disabled, True  # it warns of each setting that is no whole address
    try:
        return command()
    except Exception as error:
        return {"error": repr(error)}
    finally:
        connections.disabled = was_disabled

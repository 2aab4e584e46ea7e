"""What the supervisor must know of the application to speak to its broker: one JSON object, told once.

It holds addresses with their passwords, and goes over the control socket alone.
"""

from __future__ import annotations

import json
import math
from datetime import timedelta
from enum import Enum
from typing import Any, Optional

import celery

from pool_template.celery import batches
from pool_template.celery.about import about
from pool_template.celery.application import Application, closing_pollers
from pool_template.celery.capture import Capture
from pool_template.celery.state import remembered

_SETTINGS = (
    "accept_content", "broker_connection_timeout", "broker_heartbeat", "broker_native_delayed_delivery_queue_type",
    "broker_pool_limit", "control_exchange",
    "control_queue_durable", "control_queue_exclusive", "control_queue_expires", "control_queue_ttl", "enable_utc",
    "event_exchange", "event_exchange_type", "event_queue_expires", "event_queue_prefix", "event_queue_ttl",
    "event_serializer", "result_expires", "result_persistent", "result_serializer", "task_acks_late",
    "task_create_missing_queues", "task_default_delivery_mode", "task_default_exchange", "task_default_exchange_type",
    "task_default_queue", "task_default_queue_type", "task_default_routing_key", "task_queue_max_priority",
    "task_serializer", "worker_cancel_long_running_tasks_on_connection_loss", "worker_detect_quorum_queues",
    "worker_direct", "worker_disable_prefetch", "worker_disable_rate_limits", "worker_enable_remote_control",
    "worker_eta_task_limit", "worker_prefetch_multiplier", "worker_send_task_events", "worker_soft_shutdown_timeout",
)  # fmt: skip
_FLAGS_OF_A_TASK = (
    "acks_late", "ignore_result", "reject_on_worker_lost", "retry_on_worker_lost", "send_events",
    "store_errors_even_if_ignored", "track_started",
)  # fmt: skip
_CONNECTION = ("host", "port", "db", "username", "password", "path", "socket_timeout", "socket_connect_timeout")


def collect(application: Application, capture: Capture) -> str:
    """All of it; ASCII."""
    with closing_pollers():
        return json.dumps(_plain(_collected(application, capture)))


def _collected(application: Application, capture: Capture) -> dict[str, Any]:
    app, worker = application.app, application.worker
    connection = app.connection_for_read()
    info = connection.info()
    return {
        "celery": celery.__version__,
        "node": application.node,
        "broker": _broker(app, connection, info),
        "queues": [_queue(queue) for queue in app.amqp.queues.consume_from.values()],
        "results": _results(app.backend, capture),
        "settings": _settings(application),
        "tasks": {str(name): _task(application, capture, task) for name, task in app.tasks.items()},
        "pool_restarts": bool(worker.pool_restarts),
        "state": remembered(app, application.settings.state_db),
        "about": about(app, worker, info),
    }


def _broker(app: Any, connection: Any, info: dict[str, Any]) -> dict[str, Any]:
    """As kombu reads the address: it has rules of its own for what is left out."""
    return {
        "transport": info["transport"],
        "urls": _addresses(connection),
        "write_urls": _addresses(app.connection_for_write()),
        "host": info["hostname"],
        "port": info["port"],
        "user": info["userid"],
        "password": info["password"],
        "virtual_host": info["virtual_host"],
        "options": info["transport_options"] or {},
        "ssl": info["ssl"] or None,
        "heartbeat": app.conf.broker_heartbeat,
        "login_method": info["login_method"],
        "failover_strategy": info["failover_strategy"],
        "retries_at_start": _retries_at_start(app.conf),
    }


def _retries_at_start(conf: Any) -> Optional[int]:
    """Source: celery/worker/consumer/consumer.py, `ensure_connected`. None: for ever."""
    asked = conf.broker_connection_retry_on_startup
    if not (conf.broker_connection_retry if asked is None else asked):
        return 0
    most = conf.broker_connection_max_retries
    return most if most is None else min(max(0, int(most)), 2**31)


def _addresses(connection: Any) -> list[str]:
    return list(connection.alt) or [connection.as_uri(include_password=True)]


def _queue(queue: Any) -> dict[str, Any]:
    exchange = queue.exchange
    return {
        "name": queue.name,
        "exchange": exchange.name,
        "exchange_type": exchange.type,
        "exchange_durable": exchange.durable,
        "exchange_auto_delete": exchange.auto_delete,
        "exchange_arguments": exchange.arguments,
        "exchange_no_declare": exchange.no_declare,
        "routing_key": queue.routing_key,
        "alias": queue.alias,
        "durable": queue.durable,
        "exclusive": queue.exclusive,
        "auto_delete": queue.auto_delete,
        "no_ack": queue.no_ack,
        "no_declare": queue.no_declare,
        "arguments": queue.queue_arguments or {},
        "binding_arguments": queue.binding_arguments or {},
        "consumer_arguments": queue.consumer_arguments or {},
        "expires": queue.expires,
        "message_ttl": queue.message_ttl,
        "max_length": queue.max_length,
        "max_length_bytes": queue.max_length_bytes,
        "max_priority": queue.max_priority,
        "bindings": [
            {"exchange": each.exchange.name, "exchange_type": each.exchange.type, "routing_key": each.routing_key}
            for each in queue.bindings or ()
        ],
    }


def _results(backend: Any, capture: Capture) -> dict[str, Any]:
    kind = type(backend)
    parameters = getattr(backend, "connparams", None) or {}
    prefix = getattr(backend, "task_keyprefix", "")
    ssl = {name: value for name, value in parameters.items() if name.startswith("ssl_")}
    return {
        "class": f"{kind.__module__}.{kind.__qualname__}",
        "url": backend.url,
        "connection": {name: parameters[name] for name in _CONNECTION if parameters.get(name) is not None},
        "ssl": ssl or None,
        "prefix": prefix,
        "expires": getattr(backend, "expires", None),
        "failure_expires": getattr(backend, "failure_expires", None),
        "serializer": getattr(backend, "serializer", None),
        "extended": bool(backend.app.conf.find_value_for_key("extended", "result")),
        "capture": capture.is_possible and not capture.is_watched(),
    }


def _settings(application: Application) -> dict[str, Any]:
    app, worker = application.app, application.worker
    conf = app.conf
    found = {name: conf.get(name) for name in _SETTINGS}
    # What options of the command line changed.
    found["prefetch_multiplier"] = worker.prefetch_multiplier
    found["eta_task_limit"] = found["worker_eta_task_limit"]
    found["send_task_events"] = bool(worker.task_events)
    found["enable_remote_control"] = bool(found["worker_enable_remote_control"])
    found["disable_rate_limits"] = bool(worker.disable_rate_limits)
    found["timezone"] = str(app.timezone)
    found["concurrency"] = worker.concurrency
    settings = application.settings
    found["heartbeat_interval"] = None if settings.without_heartbeat else float(settings.heartbeat_interval or 2)
    found["mingle"] = not settings.without_mingle
    return found


def _task(application: Application, capture: Capture, task: Any) -> dict[str, Any]:
    facts: dict[str, Any] = {name: bool(getattr(task, name, False)) for name in _FLAGS_OF_A_TASK}
    facts["acks_on_failure"], facts["acks_on_timeout"] = application.late_acks_of(task)
    facts["max_retries"] = task.max_retries
    facts["rate_limit"] = None if task.rate_limit is None else str(task.rate_limit)
    facts["time_limit"] = application.hard_limit_of(task)
    facts["soft_time_limit"] = application.soft_limit_of(task)
    facts["capture"] = capture.allows(task) and task.Request == "celery.worker.request:Request"
    facts["queue"] = _queue_of(application.app, task)
    rule = batches.rule_of(task)
    facts["batches"] = rule and rule._asdict()
    if batches.takes_requests(task):
        facts["capture"] = False
        # One that is acknowledged late and whose worker died is never acknowledged.
        facts["reject_on_worker_lost"] = facts["acks_late"]
    return facts


def _queue_of(app: Any, task: Any) -> Optional[str]:
    """Where a producer that knows the application would send this task; None: where all go, or its route is a function
    that has to see the arguments. Source: `celery/app/task.py`, `Task.apply_async`; `celery/app/routes.py`."""
    named = getattr(task, "queue", None)
    if named or not app.conf.task_routes:
        return named and str(getattr(named, "name", named))
    try:
        queue = app.amqp.router.route({}, task.name, (), {}, task_type=task).get("queue")
    except Exception:
        return None
    name = getattr(queue, "name", queue)
    return None if name in (None, app.conf.task_default_queue) else str(name)


def _plain(value: Any) -> Any:
    """The value in the terms of JSON. Seconds for times; the name of a constant; texts for all else."""
    if value is None or isinstance(value, (bool, str)) and not isinstance(value, Enum):
        return value
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)  # JSON has no such number
    if isinstance(value, (int, float)):
        return value
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, dict):
        return {_plain(name) if isinstance(name, str) else str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(each) for each in value]
    return str(value)

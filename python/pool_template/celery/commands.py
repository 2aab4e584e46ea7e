"""Commands of remote control that need the application: its own, and what is no plain JSON."""

from __future__ import annotations

import base64
import logging
from typing import Any

from celery.utils.collections import AttributeDict
from celery.utils.functional import pass1
from celery.worker.control import Panel
from kombu import serialization
from kombu.message import Message

from pool_template.celery.application import Application

logger = logging.getLogger("kombu.pidbox")


class Commands:
    """Carries them out in a worker. Each returns what the supervisor is told."""

    def __init__(self, application: Application) -> None:
        self._app = application.app
        # Source: `celery/worker/pidbox.py`, `Pidbox`. The consumer never started.
        worker = application.worker
        self._state = AttributeDict(
            app=self._app,
            hostname=application.node,
            consumer=worker.consumer,
            tset=pass1 if worker.use_eventloop else set,
        )

    def decode(self, message: Message) -> Any:
        """The body of a request; None of one that is not accepted, as the log says then."""
        try:
            return message.decode()
        except Exception as error:
            logger.error("Cannot decode message: %r", error, exc_info=True)
            return None

    def command(self, message: Message, node: str) -> dict[str, Any]:
        """Carries out what a request asks for, and writes the answer. Source: `kombu/pidbox.py`, `Node.dispatch`."""
        body = message.decode()
        try:
            answer = Panel.data[body["method"]](self._state, **(body.get("arguments") or {}))
        except Exception as error:
            logger.error("pidbox command error: %r", error, exc_info=True)
            answer = {"error": repr(error)}
        return self.encode({node: answer})

    def encode(self, value: Any) -> dict[str, Any]:
        """An answer as kombu writes it."""
        content_type, encoding, body = serialization.dumps(value, serializer=self._app.conf.task_serializer)
        body = body.encode() if isinstance(body, str) else body
        return {"content_type": content_type, "encoding": encoding, "body": base64.b64encode(body).decode()}


def own_commands() -> list[str]:
    """Names of those that are not Celery's."""
    return sorted(
        name for name, handler in Panel.data.items() if not _module_of(handler).startswith("celery.worker.")
    )


def _module_of(handler: Any) -> str:
    return str(getattr(handler, "__module__", ""))

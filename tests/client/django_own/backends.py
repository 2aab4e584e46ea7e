"""Backends that stand in for Django's own in Django's own tests."""

import os
import time
from dataclasses import replace

from django.tasks import TaskResultStatus, signals

from poolhouse.connection import Connection
from poolhouse.django.backend import PoolBackend

PATIENCE_S = 60


class Kept(PoolBackend):
    """For `DummyBackend`: no worker serves its broker, and it can tell what it enqueued."""

    def __init__(self, alias, params):
        super().__init__(alias, params)
        self._kept = []

    @property
    def results(self):
        return self._kept

    def enqueue(self, task, args, kwargs):
        result = super().enqueue(task, args, kwargs)
        self._kept.append(result)
        return result

    def clear(self):
        self._kept.clear()
        for queue in ("default", "queue_1"):
            self._connection.broker().purge(queue, False, 1000)


class Waiting(PoolBackend):
    """For `ImmediateBackend`: returns when a worker has run the task. Its broker is another one.

    The worker sent the signals, in its own process. Here they are sent again, with the result as it was found.
    """

    def __init__(self, alias, params):
        super().__init__(alias, params)
        self._connection = Connection(os.environ["OWN_SERVED_BROKER"], None, None)

    def enqueue(self, task, args, kwargs):
        result = super().enqueue(task, args, kwargs)
        deadline = time.monotonic() + PATIENCE_S
        while not result.is_finished and time.monotonic() < deadline:
            time.sleep(0.005)
            result.refresh()
        signals.task_started.send(type(self), task_result=replace(result, status=TaskResultStatus.RUNNING))
        signals.task_finished.send(type(self), task_result=result)
        return result

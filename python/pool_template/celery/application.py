"""The user's app, and the worker object of Celery's that is made of it and never started.

Making it does all that Celery does ahead of its first task: it imports the tasks, sends `celeryd_init` and
`worker_init` with a true worker as sender, sets up logging, selects queues, and refuses root with pickle. It makes no
connection and starts no thread.
"""

from __future__ import annotations

import contextlib
import gc
import os
import sys
from typing import Any, Iterator, Optional

import celery
from celery import signals
from celery.app import trace
from celery.app.utils import find_app
from celery.utils.nodenames import default_nodename, host_format
from kombu.asynchronous import set_event_loop
from kombu.utils import eventio

from pool_template.celery import batches
from pool_template.celery.settings import CelerySettings
from pool_template.jobs.coroutines import complete_without_deadline

#: Worker pools whose tasks run in processes, one at a time.
_PROCESS_POOLS = ("prefork", "processes", "solo", "celery.concurrency.prefork:TaskPool")
#: The oldest version with which the tests pass.
_TRIED_SINCE = (5, 5)
_STOCK_CONSUMER = "celery.worker.consumer:Consumer"
_STOCK_STRATEGY = "celery.worker.strategy:default"


def prepare(settings: CelerySettings) -> None:
    """Does what `celery` does with its global options, ahead of the application. Source: `celery/bin/celery.py`."""
    if settings.workdir:
        os.chdir(settings.workdir)
        sys.path.insert(0, os.getcwd())
    for variable, value in (
        ("CELERY_LOADER", settings.loader),
        ("CELERY_BROKER_URL", settings.broker),
        ("CELERY_RESULT_BACKEND", settings.result_backend),
        ("CELERY_CONFIG_MODULE", settings.config),
    ):
        if value:
            os.environ[variable] = value


def find(name: str) -> Any:
    """The app of this name. What a module has not is said of it: Celery takes the whole name for that of a module then."""
    try:
        return find_app(name)
    except ModuleNotFoundError as error:
        if ":" in name and isinstance(error.__context__, AttributeError):
            raise error.__context__ from None
        raise


class Application:
    """The app, its worker object, and the name of its node."""

    def __init__(self, settings: CelerySettings) -> None:
        self.settings = settings
        self.app: Any = find(settings.app)
        self.node: str = host_format(default_nodename(settings.hostname))
        with closing_pollers():
            self.worker: Any = self.app.Worker(**self._options())
            self._close_hub()
        # What Celery's worker sends once it has started; its receivers may still change queues.
        signals.celeryd_after_setup.send(sender=self.node, instance=self.worker, conf=self.app.conf)
        signals.worker_ready.send(sender=self.worker.consumer)
        self.build_tracers()

    def _options(self) -> dict[str, Any]:
        """As the command line of Celery gives them. Source: `celery/bin/worker.py`."""
        settings, conf = self.settings, self.app.conf
        multiplier = settings.prefetch_multiplier
        return {
            "hostname": self.node,
            "pool_cls": "prefork",
            "loglevel": (settings.loglevel or "WARNING").upper(),
            "logfile": settings.logfile,
            "pidfile": None,
            "statedb": False,  # the supervisor keeps it: see `state`
            "quiet": True,
            "no_color": None,
            "concurrency": settings.concurrency,
            "queues": settings.queues,
            "exclude_queues": settings.exclude_queues,
            "include": settings.include or None,
            "task_events": settings.task_events or None,
            "time_limit": settings.time_limit,
            "soft_time_limit": settings.soft_time_limit,
            "optimization": settings.optimization or "default",
            "prefetch_multiplier": conf.worker_prefetch_multiplier if multiplier is None else multiplier,
            "without_gossip": settings.without_gossip,
            "without_mingle": settings.without_mingle,
            "without_heartbeat": settings.without_heartbeat,
            "heartbeat_interval": settings.heartbeat_interval,
        }

    def _close_hub(self) -> None:
        """The event loop of Celery's parent process: no worker may inherit it."""
        hub = getattr(self.worker, "hub", None)
        if hub is not None:
            hub.close()
        set_event_loop(None)

    def build_tracers(self) -> None:
        """Makes what runs each task, once for all workers."""
        for name, task in self.app.tasks.items():
            self.build_tracer(name, task)

    def build_tracers_of_this_process(self) -> None:
        """A task that says that it has started says where."""
        for name, task in self.app.tasks.items():
            if task.track_started:
                self.build_tracer(name, task)

    def build_tracer(self, name: str, task: Any) -> None:
        """That of one task."""
        batches.prepare(task, complete_without_deadline)
        # Looked up in its module: error trackers put a function of theirs in its place.
        task.__trace__ = trace.build_tracer(name, task, self.app.loader, self.node, app=self.app)

    def hard_limit_of(self, task: Any) -> Optional[float]:
        """Seconds; a message may say otherwise."""
        return task.time_limit or self._limit_of_all(task, self.worker.time_limit)

    def soft_limit_of(self, task: Any) -> Optional[float]:
        """Seconds; a message may say otherwise."""
        return task.soft_time_limit or self._limit_of_all(task, self.worker.soft_time_limit)

    @staticmethod
    def _limit_of_all(task: Any, limit: Optional[float]) -> Optional[float]:
        """One that is meant for a single message does not hold for a call that takes many: celery-batches has none."""
        return None if batches.takes_requests(task) else limit or None

    @staticmethod
    def late_acks_of(task: Any) -> tuple[bool, bool]:
        """Whether a late task's message is acknowledged though it failed, and though it took too long. Before Celery
        5.7 that is one setting."""
        both = getattr(task, "acks_on_failure_or_timeout", True)
        found = (getattr(task, name, None) for name in ("acks_on_failure", "acks_on_timeout"))
        on_failure, on_timeout = (bool(both if each is None else each) for each in found)
        return on_failure, on_timeout

    def warnings(self) -> list[str]:
        """What of the application can't run here, a sentence each."""
        conf = self.app.conf
        found = []
        if celery.VERSION < _TRIED_SINCE:
            least = ".".join(map(str, _TRIED_SINCE))
            found.append(f"Celery {celery.__version__} is older than {least}, and was never tried here: use a newer one")
        for blueprint in ("worker", "consumer"):
            steps = sorted(_name_of(step) for step in self.app.steps[blueprint])
            if steps:
                found.append(
                    f"bootsteps of the {blueprint} ({', '.join(steps)}) are not run: there is no such process; use an "
                    "`after_fork` hook or the signal `worker_process_init`"
                )
        if isinstance(conf.worker_pool, str) and conf.worker_pool not in _PROCESS_POOLS:
            found.append(f"`worker_pool` is {conf.worker_pool!r}: tasks run in processes all the same, one at a time")
        consumer = conf.worker_consumer
        if consumer and consumer != _STOCK_CONSUMER:
            found.append(f"`worker_consumer` ({_name_of(consumer)}) is not used: the supervisor takes the messages")
        for name, task in sorted(self.app.tasks.items()):
            if task.Strategy != _STOCK_STRATEGY and not batches.takes_requests(task):
                found.append(f"the strategy of the task `{name}` ({_name_of(task.Strategy)}) is not called")
        return found


@contextlib.contextmanager
def closing_pollers() -> Iterator[None]:
    """Closes what kombu opens meanwhile to listen to connections, though none was made: no worker may inherit it."""
    kinds = tuple(kind for kind in (eventio._epoll, eventio._poll) if kind is not None)
    before = {id(each) for each in gc.get_objects() if isinstance(each, kinds)}
    try:
        yield
    finally:
        for each in gc.get_objects():
            if isinstance(each, kinds) and id(each) not in before:
                each.close()


def _name_of(value: Any) -> str:
    if isinstance(value, str):
        return value
    kind = value if isinstance(value, type) else type(value)
    name = kind.__qualname__
    return name if name.startswith(f"{kind.__module__}.") else f"{kind.__module__}.{name}"

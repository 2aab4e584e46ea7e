"""What makes a process a child of Celery's pool. Source: `celery/concurrency/prefork.py`, `process_initializer`.

Its lines, not the call: it would tie the process to the one that forked it, and take the pool's answers to signals
away.
"""

from __future__ import annotations

import multiprocessing.process
import os
import signal
from typing import Any, Callable

from billiard import process as billiard_process
from billiard import util as billiard_util
from celery import signals
from celery._state import _set_task_join_will_block, set_default_app
from celery.worker import state as worker_state

from pool_template.celery.application import Application
from pool_template.process.signals import quick

#: What the application may have set for a program of its own.
_RESET = (signal.SIGHUP, signal.SIGTTIN, signal.SIGTTOU)


def leave_template(application: Application) -> None:
    """In a worker: drops what it inherited (connections of Celery's own pools), and whatever ends with the template."""
    billiard_util._finalizer_registry.clear()
    billiard_util._run_after_forkers()
    _set_task_join_will_block(True)
    app = application.app
    app.set_current()
    set_default_app(app)


def begin(application: Application) -> None:
    """In each process that runs tasks, ahead of the first one."""
    app, node = application.app, application.node
    app.loader.init_worker_process()
    if "%i" in (application.settings.logfile or "").lower():  # each process has a file of its own
        app.log.already_setup = False
        app.log.setup(application.worker.loglevel, application.settings.logfile, hostname=node)
    application.build_tracers_of_this_process()
    worker_state.reset_state()
    signals.worker_process_init.send(sender=node)


def end(application: Application) -> None:
    """When such a process leaves."""
    signals.worker_process_shutdown.send(sender=application.node, pid=os.getpid(), exitcode=0)


def set_up_signals(on_soft_limit: Callable[..., Any]) -> None:
    """Beside those of all workers."""
    for number in _RESET:
        quick.signal(number, quick.SIG_DFL)
    quick.signal(quick.SIGUSR1, on_soft_limit)


def take_seat(seat: int) -> None:
    """Gives the process the name that Celery's logs show; `seat` counts from 1."""
    for current in (billiard_process.current_process(), multiprocessing.process.current_process()):
        current._name = f"ForkPoolWorker-{seat}"
        current.index = seat - 1  # type: ignore[attr-defined]

"""A worker from its fork to its first job, and its exit."""

from __future__ import annotations

import atexit
import fcntl
import os
import select
import signal
import socket
import sys
import traceback
from dataclasses import dataclass
from typing import NoReturn, Optional

from pool_template import errors, lineage, shared_api, signals, streams
from pool_template.control import Load
from pool_template.frames import FrameError
from pool_template.job_loop import JobLoop, Runner
from pool_template.loader import App
from pool_template.tasks import JsonRunner
from pool_template.title import IDLE, Title

#: `fcntl` command: the signal that announces input. Source: Linux, include/uapi/asm-generic/fcntl.h.
_F_SETSIG = 10


@dataclass
class Descriptors:
    """What came with the `fork` message, in its order."""

    job_socket: int
    lifeline: int
    stdout: int
    stderr: int


@dataclass
class Birth:
    """All that a worker knows when it is forked."""

    number: int
    pool: str
    descriptors: Descriptors
    load: Load
    app: App
    title: Title
    #: See `shared_api`.
    shared_api: Optional[int]


def live(birth: Birth) -> NoReturn:
    """A worker's whole life, in the process that was just forked. Whatever happens, it ends here: the
    frames below belong to the template."""
    code = 1
    try:
        _set_up(birth)
        _serve(birth)
        _say_goodbye()
        code = 0
    except FrameError as error:
        print(f"pool: worker {birth.number}: job socket: {error}; leaving", file=sys.stderr)
    except OSError as error:
        print(f"pool: worker {birth.number}: {error}; leaving", file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    finally:
        streams.flush()
        os._exit(code)


def _set_up(birth: Birth) -> None:
    os.setpgid(0, 0)
    given = birth.descriptors
    _hang_on(given.lifeline)
    for descriptor, standard in ((given.stdout, 1), (given.stderr, 2)):
        os.dup2(descriptor, standard)
        os.close(descriptor)
    # What the preload registered is the template's to undo: a worker must not remove its temporary files.
    atexit._clear()
    text = f"pool: worker {birth.number} {birth.pool} gen {birth.load.generation}"
    birth.title.set(f"pool-worker-{birth.number}", text, IDLE)
    shared_api.put_on_path(birth.shared_api)
    _reseed()
    for name, hook in birth.app.after_fork:
        try:
            hook()
        except BaseException as error:
            detail = errors.traceback_of(error)
            print(f"{detail}pool: worker {birth.number}: the hook `{name}` (app.after_fork) failed", file=sys.stderr)
            streams.flush()
            os._exit(1)


def _serve(birth: Birth) -> None:
    runner = _runner(birth)
    with socket.socket(fileno=birth.descriptors.job_socket) as sock:
        loop = JobLoop(sock, runner, birth.title)
        # After the hooks, which may have set handlers for a program of their own.
        signals.set_up_worker(loop.leave_when_done)
        if birth.app.rq is not None:
            signals.set_up_rq_worker()
        lineage.watch()
        loop.serve()


def _runner(birth: Birth) -> Runner:
    load = birth.load
    if birth.app.rq is None:
        return JsonRunner(load.modules or load.preload, load.max_result)
    from pool_template.rq_runner import RqRunner  # under other runtimes there may be no `rq`

    if birth.app.after_fork:
        birth.app.rq.is_stock = birth.app.rq.looks_stock()
    return RqRunner(birth.app.rq, birth.pool, load.max_result)


def _hang_on(lifeline: int) -> None:
    """Ties the life of this process group to the supervisor's: see ARCHITECTURE.md."""
    fcntl.fcntl(lifeline, fcntl.F_SETOWN, -os.getpgrp())
    fcntl.fcntl(lifeline, _F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC)
    # Hung up before it was armed, it sends no signal any more.
    poll = select.poll()
    poll.register(lifeline, select.POLLIN)
    if poll.poll(0):
        os._exit(0)


def _reseed() -> None:
    """Random numbers differ between workers. Python's own `random` sees to itself; NumPy's does not."""
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed()


def _say_goodbye() -> None:
    """What jobs and hooks registered for the exit, and the log. Threads are not waited for."""
    try:
        atexit._run_exitfuncs()
    finally:
        logging = sys.modules.get("logging")
        if logging is not None:
            logging.shutdown()

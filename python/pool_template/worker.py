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


class Nest:
    """What the workers of a template have in common, made before the first of them.

    What is made here is made once. What a worker makes for itself it pays with every page that it
    writes to, since each of them is copied then; and a reference count is written to by looking at an object.
    """

    def __init__(self, load: Load, app: App, title: Title) -> None:
        self.load = load
        self.app = app
        self.title = title
        self.runner = _runner(load, app)
        self.loop = JobLoop(self.runner, title)
        #: See `shared_api`.
        self.shared_api: Optional[int] = None


def live(nest: Nest, number: int, pool: str, descriptors: list[int]) -> NoReturn:
    """A worker's whole life, in the process that was just forked, with the descriptors of the `fork` message. Whatever
    happens, it ends here: the frames below belong to the template."""
    code = 1
    try:
        job_socket, lifeline, stdout, stderr = descriptors
        os.setpgid(0, 0)
        _hang_on(lifeline)
        for descriptor, standard in ((stdout, 1), (stderr, 2)):
            os.dup2(descriptor, standard)
            os.close(descriptor)
        _set_up(nest, number, pool)
        _serve(nest, pool, job_socket)
        _say_goodbye()
        code = 0
    except FrameError as error:
        print(f"pool: worker {number}: job socket: {error}; leaving", file=sys.stderr)
    except OSError as error:
        print(f"pool: worker {number}: {error}; leaving", file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    finally:
        streams.flush()
        os._exit(code)


def _set_up(nest: Nest, number: int, pool: str) -> None:
    # What the preload registered is the template's to undo: a worker must not remove its temporary files.
    atexit._clear()
    nest.title.set(f"pool-worker-{number}", f"pool: worker {number} {pool} gen {nest.load.generation}", IDLE)
    shared_api.put_on_path(nest.shared_api)
    _reseed()
    for name, hook in nest.app.after_fork:
        try:
            hook()
        except BaseException as error:
            detail = errors.traceback_of(error)
            print(f"{detail}pool: worker {number}: the hook `{name}` (app.after_fork) failed", file=sys.stderr)
            streams.flush()
            os._exit(1)
    if nest.app.after_fork and nest.app.rq is not None:
        nest.app.rq.is_stock = nest.app.rq.looks_stock()


def _serve(nest: Nest, pool: str, job_socket: int) -> None:
    nest.runner.join(pool)
    # The plain type: its child `socket.socket` asks the kernel what it is, and none of the rest is needed.
    sock = socket.SocketType(socket.AF_UNIX, socket.SOCK_SEQPACKET, 0, job_socket)
    # After the hooks, which may have set handlers for a program of their own.
    if nest.app.rq is None:
        signals.set_up_worker(nest.loop.leave_when_done)
    else:
        signals.set_up_rq_worker()
    lineage.watch()
    nest.loop.serve(sock)
    sock.close()


def _runner(load: Load, app: App) -> Runner:
    if app.rq is None:
        return JsonRunner(load.modules or load.preload, load.max_result)
    from pool_template.rq_runner import RqRunner  # under other runtimes there may be no `rq`

    return RqRunner(app.rq, load.max_result)


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

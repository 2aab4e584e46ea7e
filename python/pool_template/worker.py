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
from typing import Callable, NoReturn, Optional

from pool_template.jobs import errors, lineage
from pool_template.process import fresh, shared_api, signals, streams
from pool_template.process.control import Load
from pool_template.jobs.frames import FrameError
from pool_template.jobs.loop import JobLoop, Runner
from pool_template.loader import App
from pool_template.jobs.functions import JsonRunner
from pool_template.process.title import FORKS, IDLE, Title

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
        #: What makes random numbers differ between workers. Python's own `random` sees to itself; NumPy's does not.
        self.reseed: Optional[Callable[[], None]] = getattr(sys.modules.get("numpy.random"), "seed", None)
        #: See `shared_api`.
        self.shared_api: Optional[int] = None


def live(nest: Nest, number: int, pool: str, descriptors: list[int]) -> NoReturn:
    """A worker's whole life, in the process that was just forked, with the descriptors of the `fork` message. Whatever
    happens, it ends here: the frames below belong to the template."""

    code = 1
    try:
        _set_up(nest, number, pool, descriptors)
        if nest.load.fresh:
            _keep(nest, number, pool)
        else:
            _work(nest, number, pool)
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


def _set_up(nest: Nest, number: int, pool: str, descriptors: list[int]) -> None:
    job_socket, lifeline, stdout, stderr = descriptors
    os.setpgid(0, 0)
    _hang_on(lifeline)
    for descriptor, standard in ((stdout, 1), (stderr, 2)):
        os.dup2(descriptor, standard)
        os.close(descriptor)
    # What the preload registered is the template's to undo: a worker must not remove its temporary files.
    atexit._clear()
    nest.title.set(f"pool-worker-{number}", f"pool: worker {number} {pool} gen {nest.load.generation}", IDLE)
    shared_api.put_on_path(nest.shared_api)
    nest.runner.join(pool)
    # The plain type: its child `socket.socket` asks the kernel what it is, and none of the rest is needed.
    nest.loop.attach(socket.SocketType(socket.AF_UNIX, socket.SOCK_SEQPACKET, 0, job_socket))


def _keep(nest: Nest, number: int, pool: str) -> None:
    """A process for each job: see `fresh`."""
    keeper = fresh.Keeper()
    _set_up_signals(nest, keeper.leave_when_done)
    nest.title.set_state(FORKS)
    needs_more = nest.reseed is not None or nest.app.after_fork or nest.app.rq is None
    # What a child looks up, it looks up for each job, on pages that are copied for it. So it finds what it needs here.
    watch, serve, has_more_to_say, flush, leave = lineage.watch, nest.loop.serve, has_last_words, streams.flush, os._exit
    turn = keeper.serve(nest.loop.set_ordinal)
    if turn is None:
        return
    if needs_more:
        _prepare(nest, number, pool, turn)
    watch()
    serve(turn)
    if has_more_to_say():
        _say_goodbye()
    flush()
    leave(0)  # without giving back what is gone with the process


def _work(nest: Nest, number: int, pool: str) -> None:
    _prepare(nest, number, pool)
    lineage.watch()
    nest.loop.serve()
    if has_last_words():
        _say_goodbye()


def _prepare(nest: Nest, number: int, pool: str, turn: Optional[fresh.Turn] = None) -> None:
    if nest.reseed is not None:
        nest.reseed()
    if nest.app.after_fork:
        _call_hooks(nest, number)
        nest.runner.join(pool)
    # After the hooks, which may have set handlers for a program of their own. Those of RQ are the same in a child.
    if turn is None or nest.app.rq is None or nest.app.after_fork:
        _set_up_signals(nest, nest.loop.leave_when_done)


def _call_hooks(nest: Nest, number: int) -> None:
    for name, hook in nest.app.after_fork:
        try:
            hook()
        except BaseException as error:
            detail = errors.traceback_of(error)
            print(f"{detail}pool: worker {number}: the hook `{name}` (app.after_fork) failed", file=sys.stderr)
            streams.flush()
            os._exit(1)
    if nest.app.rq is not None:
        nest.app.rq.is_stock = nest.app.rq.looks_stock()


def _set_up_signals(nest: Nest, on_terminate: Callable[..., None]) -> None:
    if nest.app.rq is None:
        signals.set_up_worker(on_terminate)
    else:
        signals.set_up_rq_worker()


def _runner(load: Load, app: App) -> Runner:
    if app.rq is None:
        return JsonRunner(load.modules or load.preload, load.max_result)
    from pool_template.rq.runner import RqRunner  # under other runtimes there may be no `rq`

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


def has_last_words() -> bool:
    """Whether `_say_goodbye` has anything to do."""
    logging = sys.modules.get("logging")
    # One handler is always there, and keeps nothing: that of last resort.
    return bool(atexit._ncallbacks()) or (
        logging is not None and len(getattr(logging, "_handlerList", "unknown")) > 1
    )


def _say_goodbye() -> None:
    """What jobs and hooks registered for the exit, and the log. Threads are not waited for."""
    try:
        atexit._run_exitfuncs()
    finally:
        logging = sys.modules.get("logging")
        if logging is not None:
            logging.shutdown()

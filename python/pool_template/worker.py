"""A worker from its fork to its first job, and its exit."""

from __future__ import annotations

import atexit
import contextlib
import os
import select
import socket
import sys
import traceback
from typing import Any, Callable, NoReturn, Optional

from pool_template.jobs import errors, lineage
from pool_template.jobs.frames import FrameError
from pool_template.jobs.loop import JobLoop
from pool_template.loader import App
from pool_template.process import fresh, lifeline, log_records, shared_api, streams
from pool_template.process.control import Load
from pool_template.process.signals import quick
from pool_template.process.title import FORKS, IDLE, Title

#: How long what was registered for the exit may take: less than the supervisor waits for a worker that is to leave, or
#: for a process that is to read its next job.
_EXIT_S, _EXIT_OF_CHILD_S = 8.0, 1.5


class Setup:
    """What the workers of a template have in common, made before the first of them.

    What is made here is made once. What a worker makes for itself it pays with every page that it
    writes to, since each of them is copied then; and a reference count is written to by looking at an object.
    """

    def __init__(self, load: Load, app: App, title: Title) -> None:
        self.load = load
        self.app = app
        self.title = title
        self.runner = app.dialect.runner()
        self.loop = JobLoop(self.runner, title)
        #: What makes random numbers differ between workers. Python's own `random` sees to itself; NumPy's does not.
        self.reseed: Optional[Callable[[], None]] = getattr(sys.modules.get("numpy.random"), "seed", None)
        #: See `shared_api`.
        self.shared_api: Optional[int] = None


def live(setup: Setup, number: int, pool: str, descriptors: list[int]) -> NoReturn:
    """A worker's whole life, in the process that was just forked, with the descriptors of the `fork` message. Whatever
    happens, it ends here: the frames below belong to the template."""

    code = 1
    try:
        _set_up(setup, number, pool, descriptors)
        if setup.load.fresh:
            _fork_for_each_job(setup, number, pool)
        else:
            _work(setup, number, pool)
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


def _set_up(setup: Setup, number: int, pool: str, descriptors: list[int]) -> None:
    job_socket, lifeline, stdout, stderr = descriptors
    os.setpgid(0, 0)
    _hang_on(lifeline)
    for descriptor, standard in ((stdout, 1), (stderr, 2)):
        os.dup2(descriptor, standard)
        os.close(descriptor)
    # What the preload registered is the template's to undo: a worker must not remove its temporary files.
    atexit._clear()
    setup.title.set(f"pool-worker-{number}", f"pool: worker {number} {pool} gen {setup.load.generation}", IDLE)
    shared_api.put_on_path(setup.shared_api)
    setup.runner.join(pool)
    # The plain type: its child `socket.socket` asks the kernel what it is, and none of the rest is needed.
    setup.loop.attach(socket.SocketType(socket.AF_UNIX, socket.SOCK_SEQPACKET, 0, job_socket))


def _fork_for_each_job(setup: Setup, number: int, pool: str) -> None:
    """A process for each job: see `fresh`."""
    children = fresh.Children()
    setup.app.dialect.set_up_signals(children.leave_when_done)
    children.pass_on(setup.app.dialect.signals_of_jobs)
    setup.title.set_state(FORKS)
    has_hooks = bool(setup.app.after_fork)
    needs_more = setup.reseed is not None or has_hooks or not setup.app.dialect.signals_are_inherited
    # What a child looks up, it looks up for each job, on pages that are copied for it. So it finds what it needs here.
    watch, serve, flush, leave = lineage.watch, setup.loop.serve, streams.flush, os._exit
    end, has_more_to_do, run_exit_functions = setup.app.dialect.end, has_exit_functions, _run_exit_functions
    child = children.serve(setup.loop.set_ordinal)
    if child is None:
        return
    if needs_more:
        _prepare(setup, number, pool, is_child=True)
    watch()
    serve(child)
    end()
    if has_more_to_do():
        run_exit_functions(number, _EXIT_OF_CHILD_S)
    flush()
    leave(0)  # without giving back what is gone with the process


def _work(setup: Setup, number: int, pool: str) -> None:
    _prepare(setup, number, pool)
    lineage.watch()
    setup.loop.serve()
    setup.app.dialect.end()
    if has_exit_functions():
        _run_exit_functions(number, _EXIT_S)


def _prepare(setup: Setup, number: int, pool: str, is_child: bool = False) -> None:
    dialect = setup.app.dialect
    if setup.reseed is not None:
        setup.reseed()
    if setup.app.after_fork:
        _call_hooks(setup, number)
        setup.runner.join(pool)
    dialect.begin()
    # After these, which may have set handlers for a program of their own.
    if not is_child or not dialect.signals_are_inherited or setup.app.after_fork:
        dialect.set_up_signals(setup.loop.leave_when_done)


def _call_hooks(setup: Setup, number: int) -> None:
    for name, hook in setup.app.after_fork:
        try:
            hook()
        except BaseException as error:
            detail = errors.traceback_of(error)
            print(f"{detail}pool: worker {number}: the hook `{name}` (app.after_fork) failed", file=sys.stderr)
            streams.flush()
            os._exit(1)
    setup.app.dialect.after_hooks()
    log_records.mark_records()


def _hang_on(descriptor: int) -> None:
    """Ties the life of this process group to the supervisor's."""
    lifeline.own(descriptor)
    lifeline.arm(descriptor)
    # Hung up before it was armed, it sends no signal any more.
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    if poll.poll(0):
        os._exit(0)


def has_exit_functions() -> bool:
    """Whether `_run_exit_functions` has anything to do."""
    logging = sys.modules.get("logging")
    # One handler is always there, and keeps nothing: that of last resort.
    return bool(atexit._ncallbacks()) or (
        logging is not None and len(getattr(logging, "_handlerList", "unknown")) > 1
    )


def _run_exit_functions(number: int, limit_s: float) -> None:
    """What jobs and hooks registered for the exit, and the log. Threads are not waited for, nor are processes."""

    def leave_without_them(*_signal: Any) -> None:
        print(
            f"pool: worker {number}: what was registered for the exit (atexit) takes longer than {limit_s:g} s; "
            "leaving without it",
            file=sys.stderr,
        )
        streams.flush()
        os._exit(0)

    quick.signal(quick.SIGALRM, leave_without_them)
    quick.setitimer(quick.ITIMER_REAL, limit_s)
    _end_processes()
    try:
        atexit._run_exitfuncs()
    finally:
        logging = sys.modules.get("logging")
        if logging is not None:
            logging.shutdown()
        quick.setitimer(quick.ITIMER_REAL, 0)


def _end_processes() -> None:
    """Ends the processes that jobs left running by `multiprocessing` and by executors. Its own function for the exit
    would wait for them, and nobody tells them to leave. They would not outlive this process in any case."""
    multiprocessing = sys.modules.get("multiprocessing")
    if multiprocessing is not None:
        for process in multiprocessing.active_children():
            with contextlib.suppress(Exception):
                process.kill()

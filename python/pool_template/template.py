"""Forks workers on request, and reaps them.

Single-threaded, blocked in poll; it runs no job. It outlives no supervisor (its lifeline sees to that), but
its workers outlive it.
"""

from __future__ import annotations

import os
import select
from typing import Any

from pool_template import worker
from pool_template.process import at_fork, shared_api, streams
from pool_template.process.control import FORK_DESCRIPTORS, ControlError, ControlSocket, close_all
from pool_template.process.signals import set_up_template


class Template:
    """The loaded application, the control socket, and the workers that were forked."""

    def __init__(self, control: ControlSocket, lifeline: int, setup: worker.Setup) -> None:
        self._control = control
        self._setup = setup
        #: Worker numbers by process id.
        self._workers: dict[int, int] = {}
        self._stopping = False
        setup.shared_api = shared_api.make()
        self._wake = set_up_template(self._stop)
        #: What no worker may keep.
        self._own = (control.fileno(), lifeline, self._wake)

    def serve(self) -> None:
        """Until the supervisor says stop or hangs up, or SIGTERM."""
        poll = select.poll()
        poll.register(self._control.fileno(), select.POLLIN)
        poll.register(self._wake, select.POLLIN)
        while not self._stopping:
            ready = {descriptor for descriptor, _ in poll.poll()}
            if self._wake in ready:
                os.read(self._wake, 4096)
                self._reap()
            if self._control.fileno() in ready:
                self._obey()

    def _stop(self, *_signal: Any) -> None:
        self._stopping = True

    def _obey(self) -> None:
        received = self._control.receive()
        if received is None:
            self._stop()
            return
        message, descriptors = received
        kind = message.get("type")
        if kind == "fork":
            self._fork(int(message["worker"]), str(message.get("pool", "")), descriptors)
        elif kind == "stop":
            self._stop()
        else:
            raise ControlError(f"the supervisor sent {kind!r} to a template that is loaded")

    def _fork(self, number: int, pool: str, descriptors: list[int]) -> None:
        if len(descriptors) != FORK_DESCRIPTORS:
            close_all(descriptors)
            error = f"{len(descriptors)} descriptors came with it, expected {FORK_DESCRIPTORS}"
            self._control.send("fork_failed", worker=number, error=error)
            return
        streams.flush()  # or the worker would print it a second time
        try:
            pid = at_fork.fork_own()
        except OSError as error:
            close_all(descriptors)
            self._control.send("fork_failed", worker=number, error=f"fork: {error.strerror}")
            return
        if pid == 0:
            self._become_worker(number, pool, descriptors)
        close_all(descriptors)
        self._workers[pid] = number
        self._control.send("forked", worker=number, pid=pid)

    def _become_worker(self, number: int, pool: str, descriptors: list[int]) -> None:
        for descriptor in self._own:
            os.close(descriptor)
        worker.live(self._setup, number, pool, descriptors)

    def _reap(self) -> None:
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            number = self._workers.pop(pid, None)
            if number is not None:  # else a process that the preload started
                peak = usage.ru_maxrss << 10  # in kibibytes: getrusage(2)
                self._control.send("exited", worker=number, status=status, peak_memory=peak)

"""One job after the other: read a frame, run it, answer.

This is the code between two jobs: a few microseconds, and every line of it counts.
"""

from __future__ import annotations

import os
import signal
import socket
import struct
import time
from typing import Any, Callable, Optional, Protocol, Tuple

import pool_job
from pool_template.jobs import frames, lineage, progress
from pool_template.process import fresh, streams
from pool_template.process.title import BUSY, IDLE, Title

#: Outcome code, milliseconds to wait before a retry, data.
Outcome = Tuple[int, int, bytes]

# A process for one job calls each of these once; looked up here, they are looked up once for all jobs.
_flush, _now = streams.flush, time.monotonic_ns
_unpack, _pack = frames.RUN.unpack_from, frames.DONE.pack
_NO_WAIT = int(socket.MSG_DONTWAIT)


class Runner(Protocol):
    """How one job is run."""

    def run(self, job: bytes, task: bytes, payload: bytes, timeout_ms: int, started_ns: int, kind: int) -> Outcome:
        """Runs the job with the id `job`, which began at `started_ns`. `kind`: which of the runner's kinds of job it is.

        Raises nothing: what the job raises is an outcome.
        """
        ...


    def join(self, pool: str) -> None:
        """Tells the worker's pool, before the first job, and again after `after_fork` hooks."""
        ...

    def set_ordinal(self, ordinal: int) -> None:
        """Tells the worker's ordinal in its supervisor, before the first job and should it change."""
        ...

    def rehearse(self, play: Callable[[bytes, bytes], None]) -> None:
        """Calls `play` with the task and payload of a job that does nothing; see `rehearsal`."""
        ...


class Leave(Exception):
    """SIGTERM came while there was no job."""


class JobLoop:
    """Serves one job socket until its other end is closed, or SIGTERM. Made by the template, for all of its workers."""

    def __init__(self, runner: Runner, title: Title) -> None:
        self._socket: socket.SocketType
        self._runner = runner
        self._run = runner.run
        self._title = title
        #: The frame of the running job.
        self._frame: Optional[bytes] = None
        #: The jobs of the running batch.
        self._batch: list[frames.RunFrame] = []
        self._waiting = False
        self._leaving = False
        #: The ordinal that the runner knows; below zero: none yet.
        self._ordinal = -1
        pool_job._read_current = self.current
        pool_job._read_batch = self.current_batch
        pool_job._tell_progress = self.tell_progress
        self._allowance = progress.Allowance()

    def attach(self, sock: socket.SocketType) -> None:
        """Gives the worker's job socket, once."""
        self._socket = sock
        self._ordinal = -1
        self._receive, self._send = sock.recv, sock.send

    def set_ordinal(self, ordinal: int) -> None:
        """See `Runner`. In a process for one job it is usually told before the fork."""
        self._ordinal = ordinal
        self._runner.set_ordinal(ordinal)

    def serve(self, child: Optional[fresh.Child] = None) -> None:
        """Says Ready, then runs jobs; in a process for one job, that one."""
        try:
            if child is None or child.number == 1:
                self._send(frames.READY_FRAME)
            self._run_jobs(child)
        except (Leave, ConnectionResetError, BrokenPipeError):
            pass  # each of them means: leave
        if child is not None:
            child.ended()
        else:
            self._socket.close()

    def leave_when_done(self, *_signal: Any) -> None:
        """Handles SIGTERM: ends with the running job. A second one ends it at once.

        Python runs this between two steps of its own. A signal in the instant between the last step and the sleep of a read
        waits for the next frame; the supervisor closes the socket instead, which a read always hears.
        """
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        self._leaving = True
        if self._waiting:
            # Nothing is raised here: the frame that has just been read would be lost with it.
            self._set_blocking(False)

    def _set_blocking(self, blocks: bool) -> None:
        """Whether a read waits, from now on and also if it has begun. The other end's do what they did."""
        os.set_blocking(self._socket.fileno(), blocks)

    def current(self) -> Optional[pool_job.Job]:
        """The running job; see `pool_job.current_job`."""
        if self._frame is None:
            return None
        return _described(frames.RunFrame.read(self._frame))

    def current_batch(self) -> list[pool_job.Job]:
        """The jobs of the running call; see `pool_job.current_jobs`."""
        job = self.current()
        return [_described(run) for run in self._batch] or ([job] if job is not None else [])

    def tell_progress(self, job: str, fraction: Optional[float], message: str) -> None:
        """Tells the supervisor how far a running job is; see `pool_job.Job.progress`."""
        frame, batch = self._frame, self._batch
        if frame is None or not self._allowance.takes_one():
            return
        told = progress.encoded(fraction, message)
        for run in batch or [frames.RunFrame.read(frame)]:
            if run.job == job.encode():
                self._send(frames.progress(run.execution, told))
                return

    def _run_jobs(self, child: Optional[fresh.Child]) -> None:
        receive, send, run, wait = self._receive, self._send, self._run, self._wait
        flush, now, unpack, pack = _flush, _now, _unpack, _pack
        room, no_wait = frames.PACKET_LEN_MAX, _NO_WAIT
        fixed_len, whole_run = frames.RUN.size, frames.RUN_HEADER
        done_header = frames.DONE_HEADER
        known_ordinal = self._ordinal
        ended = now() if child is None else child.since_ns
        self._title.set_state(BUSY)  # until it waits for the first time
        while not self._leaving:
            try:
                frame = receive(room, no_wait)
                # Back to back: the time between two jobs is the later one's, so that a worker
                # that never waits counts as busy all the time.
                started = ended
            except BlockingIOError:
                frame = None
            if frame is None:  # the exception is given back by now, which a job that comes need not wait for
                data = done = b""  # they may be long
                frame = wait()
                started = now()
            try:
                header, execution, timeout_ms, _, id_len, queue_len, task_len, ordinal, kind = unpack(frame)
            except struct.error:
                if not frame:
                    return
                answer = frames.pong(frame)
                if answer is not None:
                    send(answer)
                    continue
                raise frames.too_short(frame) from None
            if child is not None:
                self._leaving = True
                child.reached(fresh.TOOK_JOB)
            if ordinal != known_ordinal:
                known_ordinal = ordinal
                self.set_ordinal(ordinal)
                if child is not None:
                    child.ordinal_changed(ordinal)
            if header != whole_run:
                frame = frames.complete_run(self._socket, frame)
                if frames.another_follows(frame):
                    ended = self._run_batch(frame, started)
                    continue
            queue_at = fixed_len + id_len
            task_at = queue_at + queue_len
            payload_at = task_at + task_len
            if payload_at > len(frame):
                raise frames.FrameError("a length field points past the end of the frame")
            self._frame = frame
            job, task = frame[fixed_len:queue_at], frame[task_at:payload_at]
            code, after_ms, data = run(job, task, frame[payload_at:], timeout_ms, started, kind)
            self._frame = None
            if lineage.is_child:
                lineage.end_child(None)
            flush()
            ended = now()
            done = pack(done_header, execution, started, ended, code, after_ms) + data
            if len(done) <= room:
                send(done)
            else:
                frames.send_frame(self._socket, done)

    def _run_batch(self, first: bytes, started: int) -> int:
        """Runs a batch in one call and answers for each of its jobs. Returns when the last one ended."""
        whole = frames.rest_of_batch(self._socket, first)
        runs = [frames.RunFrame.read(frame) for frame in whole]
        run_batch = getattr(self._runner, "run_batch", None)
        self._frame, self._batch = first, runs
        outcomes = run_batch(runs, started) if run_batch is not None else None
        self._frame, self._batch = None, []
        if outcomes is None:  # the function takes no batches
            return self._run_one_by_one(whole, runs, started)
        if lineage.is_child:
            lineage.end_child(None)
        streams.flush()
        ended = time.monotonic_ns()
        took = ended - started
        for at, (run, outcome) in enumerate(zip(runs, outcomes)):
            # Each gets an equal share of the time, so that the worker counts as busy once, not once a job.
            share = (started + took * at // len(runs), started + took * (at + 1) // len(runs))
            self._answer(run, share, outcome)
        return ended

    def _run_one_by_one(self, whole: list[bytes], runs: list[frames.RunFrame], started: int) -> int:
        for frame, run in zip(whole, runs):
            self._frame = frame
            outcome = self._runner.run(run.job, run.task, run.payload, run.timeout_ms, started, run.kind)
            self._frame = None
            if lineage.is_child:
                lineage.end_child(None)
            streams.flush()
            ended = time.monotonic_ns()
            self._answer(run, (started, ended), outcome)
            started = ended
        return started

    def _answer(self, run: frames.RunFrame, times: Tuple[int, int], outcome: Outcome) -> None:
        code, after_ms, data = outcome
        done = frames.DONE.pack(frames.DONE_HEADER, run.execution, *times, code, after_ms) + data
        frames.send_frame(self._socket, done)

    def _wait(self) -> bytes:
        """The next frame, whenever it comes."""
        self._title.set_state(IDLE)
        self._waiting = True
        if self._leaving:
            raise Leave
        try:
            frame = self._receive(frames.PACKET_LEN_MAX)
        except BlockingIOError:
            raise Leave from None  # see `leave_when_done`
        self._waiting = False
        if self._leaving:
            self._set_blocking(True)  # there may be more packets to this frame
        self._title.set_state(BUSY)
        return frame


def _described(run: frames.RunFrame) -> pool_job.Job:
    names = (run.job.decode(), run.queue.decode(), run.task.decode())
    return pool_job.Job(*names, run.attempt, run.timeout_ms / 1000 if run.timeout_ms else None)

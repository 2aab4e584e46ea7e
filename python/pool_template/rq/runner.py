"""Runs RQ's jobs, as the broker hands them out, each of one of four kinds. The broker has started them in Redis.

Plain: the payload is the `data` of its hash. Only its function is run here, and the broker ends it.
With callbacks: the payload is its hash. RQ's job object runs it here, with its callbacks, and the broker ends it.
Whole: the payload is its hash. RQ's own code runs it and ends it.
After-work: the payload is `{"do": ...}`: what RQ's own code must do and no job asked for.
"""

from __future__ import annotations

import base64
import json
import sys
import zlib
from collections.abc import Coroutine
from types import CoroutineType
from typing import Any, Callable, Optional

from rq.exceptions import DeserializationError, NoSuchJobError
from rq.timeouts import JobTimeoutException
from rq.utils import import_attribute

from pool_template.jobs import errors, frames, lineage
from pool_template.jobs.batch import Batch
from pool_template.jobs.deadline import Deadline
from pool_template.jobs.coroutines import complete
from pool_template.jobs.loop import Outcome
from pool_template.rq import current, taken
from pool_template.rq.batch import Jobs, callable_alone
from pool_template.rq.code import RqCode
from pool_template.rq.django_tasks import DjangoTasks
from pool_template.rq.environment import Environment
from pool_template.rq.lifecycle import Lifecycle
from pool_template.rq.outcome import NO_RESULT, SETTLED, VALUES, failure, success
from pool_template.rq.performer import Performer, calls_callbacks, kept

_PLAIN, _WHOLE, _AFTER_WORK, _CALLBACKS = range(4)
#: The low half of the first byte of what zlib compressed. Source: RFC 1950.
_DEFLATE = 8


class _Finish(Exception):
    """What is left of this plain job is RQ's own code's."""


class RqRunner:
    """One worker's; see `job_loop.Runner`."""

    def __init__(self, code: RqCode, max_result: int) -> None:
        self._code = code
        #: The name under which this worker is registered; it ends with its ordinal.
        self._name = ""
        self._queues = ["default"]
        self._opened: Optional[Lifecycle] = None
        self._loads, self._dumps = code.serializer.loads, code.serializer.dumps
        self._max_result = max_result
        self._environment = Environment()
        self._deadline = Deadline(_timeout)
        self._job = b""
        self._pending = current.Pending(self._fetch_current)
        current.install(self._pending)
        self._performer = Performer(code, max_result)
        self._django = DjangoTasks(code.job_class)
        self._is_stock = code.is_stock
        self._performs = False
        self._fails_itself = code.has_handlers or code.settings.disable_default_exception_handler

    def join(self, pool: str) -> None:
        """See `jobs.loop.Runner`."""
        self._queues = self._code.settings.queues.get(pool) or ["default"]
        self._is_stock = self._code.is_stock
        self._performs = self._code.ends_stock and calls_callbacks
        self._deadline.prepare()

    def set_ordinal(self, ordinal: int) -> None:
        """See `jobs.loop.Runner`."""
        self._name = self._code.settings.worker_name.replace("{}", str(ordinal))
        self._environment.set_worker(self._name)
        self._opened = None

    def rehearse(self, play: Callable[[bytes, bytes], None]) -> None:
        """See `jobs.loop.Runner`. RQ's own code is not rehearsed, since it speaks to Redis."""
        if not self._is_stock:
            return
        try:
            data = self._dumps(("builtins.int", None, (), {}))
        except Exception:
            return  # a serializer of the user's that takes jobs alone
        play(b"", data)
        self._environment.set_worker("")

    @property
    def _lifecycle(self) -> Lifecycle:
        """RQ's own code, for the jobs that need it."""
        if self._opened is None:
            self._opened = Lifecycle(self._code, self._name, self._queues)
        return self._opened

    def run(self, job: bytes, task: bytes, payload: bytes, timeout_ms: int, started_ns: int, kind: int) -> Outcome:
        """See `jobs.loop.Runner`."""
        self._job = job
        if kind == _PLAIN and self._is_stock:
            self._environment.set_job(job)
            return self._run_plain(payload, timeout_ms, started_ns)
        try:
            self._deadline.set(0, started_ns)  # RQ's code sets its own
            if kind == _AFTER_WORK:
                self._keep_house(json.loads(payload))
                return NO_RESULT
            if kind not in (_PLAIN, _WHOLE, _CALLBACKS):
                message = f"a job of kind {kind}, expected {_PLAIN} to {_CALLBACKS}"
                return frames.REJECTED, frames.AFTER_BY_POLICY, errors.encode("bad kind", message)
            self._environment.set_job(job)
            return self._run_by_rq(job.decode(), payload, kind, started_ns)
        except BaseException as error:
            if lineage.is_child:
                lineage.end_child(error)
            return failure(error)

    def _run_by_rq(self, job_id: str, payload: bytes, kind: int, started_ns: int) -> Outcome:
        lifecycle = self._lifecycle
        if kind == _WHOLE or kind == _CALLBACKS and not self._performs:
            lifecycle.run_whole(job_id, taken.Taken(payload), started_ns)
            return SETTLED
        if kind == _CALLBACKS:
            taken_job = taken.Taken(payload)
            if self._django.has(taken_job.fields):
                answer = self._run_django_task(job_id, taken_job, started_ns)
                if answer is not None:
                    return answer
            job, execution = lifecycle.begin(job_id, taken_job, started_ns)
            return self._performer.run(lifecycle, job, lambda: execution)
        if not self._performs:
            lifecycle.run_started(job_id)
            return SETTLED
        try:
            job = lifecycle.fetch_started(job_id)
        except NoSuchJobError:
            return SETTLED
        return self._performer.run(lifecycle, job, lambda: lifecycle.execution_of(job))

    def _run_django_task(self, job_id: str, known: taken.Taken, started_ns: int) -> Optional[Outcome]:
        """Calls a task without its job class. None: the job class shall do it."""
        timeout = known.timeout()
        try:
            function, args, kwargs = self.read(known.fields[b"data"])
        except Exception:
            return None
        call = self._django.call(function)
        if call is None or timeout is None:
            return None
        lifecycle, pending, deadline = self._lifecycle, self._pending, self._deadline
        begun: Any = None

        def begin() -> Any:
            nonlocal begun
            begun = lifecycle.begin(job_id, known, started_ns)
            return begun[0]

        pending.is_running, pending.fetch = True, begin
        try:
            try:
                deadline.set(timeout * 1000, started_ns)
                self._django.log_start(job_id, function)
                value = call(*args, **kwargs)
            finally:
                deadline.clear()
            answer = self._success(value)
            self._django.log_end(job_id, function)
            return answer
        except BaseException as error:
            if lineage.is_child:
                lineage.end_child(error)
            job, execution = begun or lifecycle.begin(job_id, known, started_ns)
            if isinstance(error, _Finish):
                lifecycle.finalize_success(job, execution, value)
                return SETTLED
            if begun and pending.has_changed():
                lifecycle.finalize_failure(job, execution, sys.exc_info())
                return SETTLED
            return self._performer.failed(lifecycle, job, lambda: execution, kept(job))
        finally:
            pending.end()
            pending.fetch = self._fetch_current

    def run_batch(self, runs: list[frames.RunFrame], started_ns: int) -> Optional[list[Outcome]]:
        """Calls a batch task once: an outcome for each of its jobs, in order. None: they don't call one batch task."""
        if any(run.kind != _PLAIN for run in runs):
            return None
        self._environment.set_job(b"")
        jobs = Jobs(self, runs, started_ns)
        function = jobs.function()
        if function is None:
            return None
        return jobs.run(function, len(runs) > 1 and runs[0].task.decode() in self._code.settings.batch_split)

    def call_batch(self, batch: Batch, function: Callable[..., Any], timeout_ms: int, started_ns: int) -> None:
        """Calls the function of a batch under its deadline; what it raises passes."""
        try:
            self._deadline.set(timeout_ms, started_ns)
            batch.call(function, self._complete)
        finally:
            self._deadline.clear()

    def end_of_batch(self, job: bytes, answer: Any, started_ns: int) -> Outcome:
        """What becomes of one job of a batch that was given this answer."""
        self._job = job
        replay = _raiser(answer) if isinstance(answer, BaseException) else lambda: answer
        if not self._is_stock:
            return self._finish(started_ns, replay)
        try:
            if not isinstance(answer, BaseException):
                return self._success(answer)
            if not self._fails_itself:
                return failure(answer)
        except _Finish:
            pass
        except BaseException as error:
            return failure(error)
        return self._finish(started_ns, replay)

    def batch_failure(self, error: BaseException) -> Outcome:
        """A whole batch failed, and is to be run again in halves."""
        code, after_ms, data = failure(error)
        return frames.BATCH_FAILURE if code == frames.FAILURE else code, after_ms, data

    def _run_plain(self, payload: bytes, timeout_ms: int, started_ns: int) -> Outcome:
        pending, deadline = self._pending, self._deadline
        pending.is_running = True
        value = None
        try:
            try:
                deadline.set(timeout_ms, started_ns)
                value = self._call(payload)
            finally:
                deadline.clear()
            return self._success(value)
        except _Finish:
            return self._finish(started_ns, lambda: value)
        except BaseException as error:
            if lineage.is_child:
                lineage.end_child(error)
            if not self._fails_itself and not pending.has_changed():
                return failure(error)
            return self._finish(started_ns, _raiser(error))
        finally:
            pending.end()

    def _call(self, payload: bytes) -> Any:
        function, args, kwargs = self.read(payload)
        value = function(*args, **kwargs)
        if type(value) is CoroutineType or (
            value is not None and type(value) not in VALUES and isinstance(value, Coroutine)
        ):
            return self._complete(value)
        return value

    def read(self, payload: bytes) -> tuple[Callable[..., Any], Any, Any]:
        """The function of a plain job and its arguments."""
        try:
            data = payload
            if data and data[0] & 0x0F == _DEFLATE:
                try:
                    data = zlib.decompress(data)
                except zlib.error:
                    pass  # it was never compressed
            name, instance, args, kwargs = self._loads(data)
        except Exception as error:
            raise DeserializationError() from error
        if instance:
            return callable_alone(getattr(instance, name), self._complete), args, kwargs
        return self._find(name), args, kwargs

    def _complete(self, coroutine: Any) -> Any:
        try:
            return complete(coroutine, self._deadline)
        except BaseException as error:
            if self._deadline.struck and not isinstance(error, JobTimeoutException):
                raise self._deadline.exception() from error
            raise

    def _find(self, name: str) -> Callable[..., Any]:
        if name is None:
            raise ValueError("Cannot execute job: function is None")
        # The usual case of what `import_attribute` does. Asked for each job: one may replace what a module holds.
        module, _, attribute = name.rpartition(".")
        try:
            function = getattr(sys.modules.get(module), attribute, None) or import_attribute(name)
        except Exception as error:
            errors.mark_unknown(error)
            raise
        return callable_alone(function, self._complete)

    def _success(self, value: Any) -> Outcome:
        if lineage.is_child:
            lineage.end_child(None)
        if self._pending.job is not None and self._pending.has_changed():
            raise _Finish
        answer = success(value, self._dumps, self._max_result)
        if answer is None:
            raise _Finish
        return answer

    def _finish(self, started_ns: int, replay: Callable[[], Any]) -> Outcome:
        self._pending.is_running = False
        try:
            self._deadline.set(0, started_ns)
            self._lifecycle.finish(self._job.decode(), self._pending.job, started_ns, replay)
        except BaseException as error:
            return failure(error)
        return SETTLED

    def _fetch_current(self) -> Any:
        return self._lifecycle.fetch(self._job.decode())

    def _keep_house(self, order: dict[str, Any]) -> None:
        what = order.get("do")
        if what == "finish":
            order["result"] = base64.b64decode(order.get("result") or "")
            self._lifecycle.finish_elsewhere(order)
        elif what == "lost":
            self._lifecycle.lost(order)
        elif what == "stopped":
            self._lifecycle.stopped(order)
        elif what == "maintain":
            self._lifecycle.maintain(order["queues"])
        elif what == "enqueue":
            self._lifecycle.enqueue(order["queue"], order["job_ids"])
        else:
            raise ValueError(f"an order to do {what!r}; expected finish, lost, stopped, maintain or enqueue")


def _timeout(timeout_ms: int) -> JobTimeoutException:
    """As RQ's own death penalty says it."""
    seconds = timeout_ms / 1000
    return JobTimeoutException(f"Task exceeded maximum timeout value ({seconds:g} seconds)")


def _raiser(error: BaseException) -> Callable[[], Any]:
    trace = error.__traceback__

    def replay() -> Any:
        raise error.with_traceback(trace)

    return replay

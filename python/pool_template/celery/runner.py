"""Runs Celery's tasks, each by Celery's own tracer.

The supervisor says which of three kinds a frame is. Task: the final result may be kept back (`capture`). Whole: it may
not. Chore: nobody asked for it (`chores`).
The payload: the length of the message's envelope, four bytes; the envelope, as JSON; the body, as bytes.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import time
from typing import Any, Callable, Iterator, Optional

from billiard.einfo import ExceptionInfo, ExceptionWithTraceback
from billiard.exceptions import Terminated
from celery import signals
from celery.app import trace
from celery.app.task import Task
from celery.exceptions import (
    Ignore,
    Reject,
    Retry,
    SoftTimeLimitExceeded,
    TimeLimitExceeded,
    WorkerLostError,
)
from celery.worker import request as worker_request
from kombu.serialization import prepare_accept_content

from pool_template.celery import outcome, process
from pool_template.celery.application import Application
from pool_template.celery.capture import Capture, is_of_celery
from pool_template.celery.chores import Chores, info_of
from pool_template.celery.incoming import Incoming, Refused, Verdict, are_limits, log_received, parted
from pool_template.celery.gathered import Gathered
from pool_template.celery.plans import Plan, Plans, json_decoder
from pool_template.jobs import errors, frames, lineage
from pool_template.jobs.deadline import Deadline
from pool_template.jobs.loop import Outcome
from pool_template.process.signals import quick

_TASK, _WHOLE, _CHORE = 1, 2, 3
#: What the parent process does more with than to count it.
_SPECIAL = (Reject, WorkerLostError, TimeLimitExceeded, Terminated, MemoryError)
_REHEARSED = "pool.rehearsal"
_task_success, _task_postrun = signals.task_success, signals.task_postrun
_task_received = signals.task_received


class _Nothing(Task):
    """A task for the rehearsal; it is registered nowhere."""

    name = _REHEARSED

    def run(self) -> None:
        """Does nothing."""


class CeleryRunner:
    """One worker's; see `jobs.loop.Runner`."""

    def __init__(self, application: Application, max_result: int) -> None:
        self._application = application
        self._node = application.node
        self._deadline = Deadline(lambda timeout_ms: SoftTimeLimitExceeded())
        self._capture = Capture(application.app, max_result, self._task_ended)
        self._plans = Plans(application, self._capture)
        self._incoming = Incoming(application)
        self._chores = Chores(application, self._incoming)
        self._gathered = Gathered(self, self._incoming, application.settings.batch_split)
        self._decode_body = json_decoder(prepare_accept_content(application.app.conf.accept_content))
        self._logs_receipt = logging.getLogger("celery.worker.strategy").isEnabledFor(logging.INFO)
        #: Whether tasks may be run by their tracers, past the function that Celery's parent process calls for that.
        self._is_stock = is_of_celery(worker_request.fast_trace_task)
        self._is_running = False
        self._has_left_template = False
        self._rehearsal: Optional[Plan] = None

    @property
    def capture(self) -> Capture:
        """What keeps results back."""
        return self._capture

    def join(self, pool: str) -> None:
        """See `jobs.loop.Runner`; all pools run the same tasks."""
        if not self._has_left_template:
            self._has_left_template = True
            process.leave_template(self._application)
        if quick.getsignal(quick.SIGALRM) == quick.SIG_DFL:  # else the application waits for alarms of its own
            self._deadline.prepare()

    def set_ordinal(self, ordinal: int) -> None:
        """See `jobs.loop.Runner`."""
        process.take_seat(ordinal)

    def soft_limit(self, *_signal: Any) -> None:
        """Handles SIGUSR1, as a child of Celery's pool does."""
        if self._is_running:
            self._is_running = False
            raise SoftTimeLimitExceeded()

    def rehearse(self, play: Callable[[bytes, bytes], None]) -> None:
        """See `jobs.loop.Runner`. The task is none of the user's, and so nobody is told of it."""
        told = (signals.task_prerun, signals.task_postrun, signals.task_success)
        if any(signal.receivers for signal in told) or not is_of_celery(trace.build_tracer):
            return
        if self._rehearsal is None:
            self._rehearsal = self._rehearsed()
        self._plans._tasks, tasks = {_REHEARSED: self._rehearsal.task}, self._plans._tasks
        self._plans._known[_REHEARSED] = self._rehearsal
        logs, self._logs_receipt = self._logs_receipt, False
        envelope = {
            "headers": {"task": _REHEARSED, "id": _REHEARSED, "ignore_result": False, "timelimit": [None, None]},
            "properties": {"delivery_info": {"exchange": "", "routing_key": ""}},
            "content_type": "application/json",
            "content_encoding": "utf-8",
        }
        meta = json.dumps(envelope).encode()
        body = b'[[], {}, {"callbacks": null, "errbacks": null, "chain": null, "chord": null}]'
        try:
            play(b"", len(meta).to_bytes(4, "little") + meta + body)
        finally:
            self._logs_receipt = logs
            self._plans._tasks = tasks
            self._plans.forget(_REHEARSED)

    def _rehearsed(self) -> Plan:
        app = self._application.app
        _Nothing.bind(app)
        task = _Nothing()
        if not self._capture.is_possible:
            task.backend = _Backendless()
        trace.logger.disabled = True  # it asks once whether its tasks are logged
        try:
            task.__trace__ = trace.build_tracer(_REHEARSED, task, app.loader, self._node, app=app)
        finally:
            trace.logger.disabled = False
        return Plan(task, True, self._capture.is_possible, False, None)

    def run(self, job: bytes, task: bytes, payload: bytes, timeout_ms: int, started_ns: int, kind: int) -> Outcome:
        """See `jobs.loop.Runner`. The timeout is the hard limit, which is the supervisor's."""
        try:
            meta, body = parted(payload)
            if kind == _CHORE:
                self._deadline.set(0, started_ns)
                return self._chores.do(meta, body)
            if "limits" in meta:
                self._plans.limit((meta.get("headers") or {}).get("task"), *meta["limits"])
            return self.run_message(meta, body, started_ns, kind != _WHOLE)
        except BaseException as error:
            return self.unrun(error)
        finally:
            self._is_running = False

    def run_batch(self, runs: list[frames.RunFrame], started_ns: int) -> Optional[list[Outcome]]:
        """See `batches`. None: the messages are not those of one batch task."""
        plan = self._plans.get(runs[0].task.decode())
        if plan is None or any(run.kind == _CHORE for run in runs):
            return None
        try:
            return self._gathered.run(plan, runs, started_ns)
        finally:
            self._is_running = False

    def unrun(self, error: BaseException) -> Outcome:
        """What becomes of a message that was refused, or failed beside its task."""
        if isinstance(error, Refused):
            return error.answer
        self._task_ended(error)
        self._capture.take()
        return outcome.broken(error)

    def run_message(self, meta: dict[str, Any], body: bytes, started_ns: int, may_capture: bool) -> Outcome:
        headers = meta.get("headers") or {}
        plan = self._plans.get(headers.get("task"))
        parts = self.parts(meta, body) if plan is not None and plan.is_plain else None
        if plan is None or parts is None:
            request, verdict, early = self._incoming.received(meta, body)
            return early or self.run_request(request, verdict, started_ns, may_capture)
        args, kwargs, embed = parts
        properties = meta.get("properties") or {}
        info = properties.get("delivery_info") or {}
        task_id = headers["id"]
        request = {
            **headers,
            "properties": properties,
            "reply_to": properties.get("reply_to"),
            "correlation_id": properties.get("correlation_id"),
            "delivery_info": {
                "exchange": info.get("exchange"),
                "routing_key": info.get("routing_key"),
                "priority": properties.get("priority"),
                "redelivered": info.get("redelivered", False),
            },
            "args": args,
            "kwargs": kwargs,
            "hostname": self._node,
            "is_eager": False,
            **embed,
        }
        if self._logs_receipt:
            name = headers.get("shadow") or headers["task"]
            log_received(task_id, name, headers.get("argsrepr", ""), headers.get("kwargsrepr", ""), None)
        try:
            traced = self._trace(
                lambda: plan.task.__trace__(task_id, args, kwargs, request), plan, headers, started_ns, may_capture
            )
        except BaseException as error:
            if lineage.is_child:
                lineage.end_child(error)
            return self.after_process(error, *self._incoming.request(meta, body))
        result, failed, runtime, text = traced
        store = self._capture.take()
        if not failed:
            return outcome.succeeded(store, runtime, text)
        error = _unwrapped(result)
        if isinstance(error, _SPECIAL):
            request_object, verdict = self._incoming.request(meta, body)
            return self._after_failure(request_object, verdict, result, error)
        return self._failed(plan.task, result, error, runtime, store)

    def parts(self, meta: dict[str, Any], body: bytes) -> Any:
        """Arguments and what goes with them, of a message with nothing special; None of any other."""
        headers = meta.get("headers") or {}
        if (
            self._decode_body is None
            or not self._is_stock
            or meta.get("content_type") != "application/json"
            or headers.get("expires")
            or headers.get("eta")
            or headers.get("compression")
            or not headers.get("id")
            or not are_limits(headers.get("timelimit"))
            or _task_received.receivers
        ):
            return None
        try:
            args, kwargs, embed = parts = self._decode_body(body.decode())
        except Exception:
            return None
        return parts if type(kwargs) is dict and type(embed) is dict else None

    def _trace(
        self, call: Callable[[], Any], plan: Optional[Plan], headers: Any, started_ns: int, may_capture: bool
    ) -> Any:
        """Runs a task under its soft limit. What ends the process, in a child of Celery's pool, passes."""
        may_capture = may_capture and plan is not None and plan.captures
        if may_capture and (_task_success.receivers or _task_postrun.receivers):
            may_capture = not self._capture.is_watched()
        if may_capture:
            self._capture.arm(headers["id"], plan.captures_failures)  # type: ignore[union-attr]
        limits = headers.get("timelimit")
        soft_s = (limits and limits[1]) or (plan and plan.soft_limit_s)
        traced = None
        self._is_running = True
        try:
            self._deadline.set(round(soft_s * 1000) if soft_s else 0, started_ns)
            traced = call()
            self._is_running = False
            self._deadline.clear()
        except SoftTimeLimitExceeded:
            if traced is None:  # else it came when all was done
                raise
        finally:
            self._is_running = False
            self._deadline.clear()
        return traced

    def run_request(self, request: Any, verdict: Verdict, started_ns: int, may_capture: bool) -> Outcome:
        """As Celery's parent process and its child do it together, with a request object."""
        plan = self._plans.get(request._type)
        if plan is not None and plan.takes_requests:
            return self._gathered.run_requests(plan, [(request, verdict)], started_ns)[0]
        is_plain = plan is None or plan.is_plain
        if not is_plain:
            request.on_accepted(os.getpid(), time.monotonic())
        arguments = (request.request_dict, request.body, request.content_type, request.content_encoding)
        fast_trace_task = worker_request.fast_trace_task
        try:
            traced = self._trace(
                lambda: fast_trace_task(request._type, request.id, *arguments, hostname=self._node),
                plan,
                request.request_dict,
                started_ns,
                may_capture,
            )
        except BaseException as error:
            if lineage.is_child:
                lineage.end_child(error)
            return self.after_process(error, request, verdict)
        store = self._capture.take()
        failed, result, runtime = traced
        error = _unwrapped(result) if failed else None
        if is_plain and not isinstance(error, _SPECIAL):
            if not failed:
                return outcome.succeeded(store, runtime, result)
            return self._failed(request.task, result, error, runtime, store)
        if failed:
            return self._after_failure(request, verdict, result, error, store)
        request.on_success(traced)
        return self._incoming.answer(request, verdict, store=store and store._asdict())

    @contextlib.contextmanager
    def limited(self, plan: Plan, started_ns: int) -> Iterator[None]:
        """Lets the task's soft limit strike meanwhile."""
        self._is_running = True
        try:
            self._deadline.set(round(plan.soft_limit_s * 1000) if plan.soft_limit_s else 0, started_ns)
            yield
        finally:
            self._is_running = False
            self._deadline.clear()

    def _failed(self, task: Any, info: ExceptionInfo, error: Any, runtime: Optional[float], store: Any) -> Outcome:
        """The usual ends of a task that did not succeed. Source: `celery/worker/request.py`, `Request.on_failure`."""
        if isinstance(error, Retry):
            told = outcome.texts(error.exc, info.traceback)
            return outcome.told(outcome.RETRY, outcome.ACK, runtime=runtime, **told)
        if isinstance(error, Ignore):
            return outcome.told(outcome.IGNORED, outcome.ACK, runtime=runtime)
        is_acked = not task.acks_late or self._application.late_acks_of(task)[0]
        then = outcome.ACK if is_acked else outcome.REJECT
        return outcome.failed(error, info.traceback or "", then, store, runtime=runtime)

    def _after_failure(self, request: Any, verdict: Any, info: Any, error: Any, store: Any = None) -> Outcome:
        """A failure with which Celery's parent process does more than to count it."""
        if not request.task.acks_late:
            request.acknowledged = True
        if isinstance(error, MemoryError):
            return self._without_memory(request, verdict, error)
        request.on_failure(info, return_ok=True)
        verdict.show(error)
        return self._incoming.answer(request, verdict, error, **({} if store is None else {"store": store}))

    def after_process(self, error: BaseException, request: Any, verdict: Any) -> Outcome:
        """What was raised past the tracer: in Celery's pool it would end the process, or reach its parent."""
        self._capture.take()
        if not request.task.acks_late:
            request.acknowledged = True
        if isinstance(error, MemoryError):
            return self._without_memory(request, verdict, error)
        if isinstance(error, (SystemExit, KeyboardInterrupt)):
            error = WorkerLostError(f"Worker exited prematurely: {_exit_of(error)}.")
        request.on_failure(info_of(error))
        return self._incoming.answer(request, verdict, error)

    def _without_memory(self, request: Any, verdict: Any, error: MemoryError) -> Outcome:
        """Celery's parent process ends with it; its task has failed."""
        request.task.backend.mark_as_failure(
            request.id, error, request=request._context, store_result=request.store_errors
        )
        text = errors.whole_traceback_of(error)
        request.send_event("task-failed", exception=outcome.safe_repr(error), traceback=text)
        request.acknowledge()
        return self._incoming.answer(request, verdict, error)

    def _task_ended(self, error: Optional[BaseException]) -> None:
        """The task's own code has ended: no limit strikes it any more, and a process that it forked leaves."""
        self._is_running = False
        self._deadline.clear()
        if lineage.is_child:
            lineage.end_child(error)


class _Backendless:
    """Stands for a backend that the rehearsal must not touch."""

    persistent = False

    def mark_as_done(self, *_: Any, **__: Any) -> None:
        """Keeps nothing."""

    def process_cleanup(self) -> None:
        """Has nothing to clean up."""


def _unwrapped(info: Any) -> Any:
    error = info.exception
    return error.exc if isinstance(error, ExceptionWithTraceback) else error


def _exit_of(error: BaseException) -> str:
    """Source: `celery/worker/request.py`, `_worker_lost_info`."""
    if not isinstance(error, SystemExit):
        return type(error).__name__
    code = error.code
    return f"exitcode {0 if code is None else code if isinstance(code, int) else 1}"

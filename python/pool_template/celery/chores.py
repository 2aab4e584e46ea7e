"""What Celery's parent process does with the application's objects and no task asked for: its hooks and marks."""

from __future__ import annotations

import contextlib
from typing import Any, Iterator

from billiard.common import human_status
from billiard.einfo import ExceptionInfo
from celery import signals, states
from celery.exceptions import NotRegistered, TimeLimitExceeded, WorkerLostError

from pool_template.celery import outcome
from pool_template.celery.application import Application
from pool_template.celery.commands import Commands
from pool_template.celery.incoming import Incoming, Refused, Verdict
from pool_template.jobs.loop import Outcome

#: States that a revocation may replace. Source: `celery/worker/control.py`, `_revoke`.
_REVOCABLE = (states.PENDING, states.RECEIVED, states.RETRY, states.REJECTED)
_DONE = outcome.told(outcome.IGNORED, None)


@contextlib.contextmanager
def _never_requeued(task: Any) -> Iterator[None]:
    """A task whose workers died too often is given up, whatever it says of itself."""
    wants = task.reject_on_worker_lost
    task.reject_on_worker_lost = False
    try:
        yield
    finally:
        task.reject_on_worker_lost = wants


class UnknownChore(ValueError):
    """The supervisor asks for what is not known here."""


class Chores:
    """Does them. What Celery's own code raises passes, and the chore runs again."""

    def __init__(self, application: Application, incoming: Incoming) -> None:
        self._application = application
        self._app = application.app
        self._incoming = incoming
        self._commands = Commands(application)

    def do(self, meta: dict[str, Any], body: bytes) -> Outcome:
        """One of them; the message is that of the task it concerns."""
        chore = meta["chore"]
        what = chore.get("do")
        if what == "encode":
            return outcome.told(outcome.IGNORED, None, answer=self._commands.encode(chore["value"]))
        if what in ("mark_revoked", "shutdown"):
            getattr(self, f"_{what}")(chore)
            return _DONE
        try:
            if what in ("worker_lost", "timeout", "revoked"):
                return self._end_task(chore, meta, body)
            message = self._incoming.message(meta, body)
            if what == "decode":
                return outcome.told(outcome.IGNORED, None, answer=self._commands.decode(message))
            if what == "command":
                return outcome.told(outcome.IGNORED, None, answer=self._commands.command(message, chore["node"]))
            if what == "unknown":
                raise self._incoming.unknown(message, None, NotRegistered(message.headers.get("task")))
            if what == "rejected":
                raise self._incoming.rejected(message, None)
        except Refused as refused:
            return _unfailed(refused.answer)
        known = "worker_lost, timeout, revoked, unknown, rejected, mark_revoked, shutdown, decode, encode or command"
        raise UnknownChore(f"an order to do {what!r}; expected {known}")

    def _end_task(self, chore: dict[str, Any], meta: dict[str, Any], body: bytes) -> Outcome:
        request, verdict = self._incoming.request(meta, body)
        what = chore["do"]
        has_begun = what != "revoked" or bool(chore.get("terminated"))
        request.acknowledged = chore.get("acked", has_begun and not request.task.acks_late)
        if what == "worker_lost":
            error = _lost(chore)
            with _never_requeued(request.task) if chore.get("final") else contextlib.nullcontext():
                request.on_failure(info_of(error))
        elif what == "timeout":
            seconds = request.time_limits[0] or chore.get("seconds")  # as the message writes it
            error = TimeLimitExceeded(seconds)
            request.on_timeout(False, seconds)
            _complete(request, verdict, error)
        else:
            is_expired, is_terminated = bool(chore.get("expired")), bool(chore.get("terminated"))
            reason = "expired" if is_expired else "terminated" if is_terminated else "revoked"
            request._announce_revoked(reason, is_terminated, chore.get("signum"), is_expired)
            return self._incoming.answer(request, verdict)
        verdict.show(error)
        return self._incoming.answer(request, verdict)

    def _mark_revoked(self, chore: dict[str, Any]) -> None:
        """Source: `celery/worker/control.py`, `_revoke`."""
        backend = self._app.backend
        for task_id in chore.get("ids") or ():
            if backend.get_state(task_id) in _REVOCABLE:
                backend.mark_as_revoked(task_id, reason="revoked", store_result=True)

    def _shutdown(self, chore: dict[str, Any]) -> None:
        """Source: `celery/apps/worker.py`, `_shutdown_handler`, and `celery/worker/worker.py`."""
        worker = self._application.worker
        signals.worker_shutting_down.send(
            sender=self._application.node,
            sig=chore.get("sig", "SIGTERM"),
            how=chore.get("how", "Warm"),
            exitcode=chore.get("exitcode", 0),
        )
        self._app.loader.shutdown_worker()
        signals.worker_shutdown.send(sender=worker)


def _complete(request: Any, verdict: Verdict, error: TimeLimitExceeded) -> None:
    """What Celery does with a hard limit elsewhere before 5.7, and in one place since."""
    if all(kind != "task-failed" for kind, _ in verdict.events):
        request.send_event("task-failed", exception=repr(error), traceback=None)
    if verdict.then is None and not request.acknowledged:
        request.reject(requeue=True)


def lost_with(status: int, job: int = 0) -> WorkerLostError:
    """As Celery's pool says it. `status`: minus the signal, or the exit code."""
    return WorkerLostError(f"Worker exited prematurely: {human_status(status)} Job: {job}.")


def _lost(chore: dict[str, Any]) -> WorkerLostError:
    return lost_with(int(chore.get("status", -9)), int(chore.get("job", 0)))


def info_of(error: BaseException) -> ExceptionInfo:
    """With the exception itself: wrapped, as a process sends it to another, events would show the wrapper."""
    try:
        raise error
    except type(error):
        info = ExceptionInfo()
    info.exception = error
    return info


def _unfailed(answer: Outcome) -> Outcome:
    """The same told of a chore that has done its work: a failure is the task's, not the chore's."""
    code, after_ms, data = answer
    return outcome.unwrapped(data) if code != _DONE[0] else (code, after_ms, data)

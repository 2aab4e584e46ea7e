"""Runs functions of the application with JSON arguments: one call is one job."""

from __future__ import annotations

import json
from types import CoroutineType
from typing import Any, Callable, NamedTuple, Optional

import pool_job
from pool_template.jobs import errors, frames, lineage, retries
from pool_template.jobs.batch import Batch, is_batch_task
from pool_template.jobs.coroutines import complete
from pool_template.jobs.deadline import Deadline
from pool_template.jobs.loop import Outcome
from pool_template.jobs.names import Found, Names, UnknownTask

_NO_ARGUMENTS = (b"", b"{}", b"[]", b"null")
_NO_RESULT: Outcome = (frames.SUCCESS, frames.AFTER_BY_POLICY, b"null")

_decode = json.JSONDecoder().raw_decode
_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
_encode_ascii = json.JSONEncoder(allow_nan=False, separators=(",", ":")).encode


class WrongArguments(Exception):
    """The arguments are no JSON, or none that the function takes."""


class TakesBatches(Exception):
    """The function is a batch task: it is called with a list of jobs, be it of one."""


class BadResult(Exception):
    """The result can't be kept."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class _Known(NamedTuple):
    """A task that was asked for before."""

    found: Found
    takes_batches: bool


def arguments_of(payload: bytes) -> Any:
    """A job's arguments from its JSON."""
    try:
        text = payload.decode()
        try:
            arguments, end = _decode(text)
        except ValueError:
            end = -1
        if end != len(text):  # white space around it, or no JSON
            arguments = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise WrongArguments(f"the arguments are not JSON: {error}") from None
    return arguments


class JsonRunner:
    """Finds functions by name, calls them, makes outcomes of what they do.

    Arguments: an object holds keyword arguments, an array positional ones, null or nothing none; any other
    value is the one positional argument. The result is what `json` makes of it.
    """

    def __init__(self, modules: list[str], max_result: int) -> None:
        self._names = Names(modules)
        self._max_result = max_result
        self._known: dict[bytes, _Known] = {}
        self._deadline = Deadline(_timeout)

    def run(self, job: bytes, task: bytes, payload: bytes, timeout_ms: int, started_ns: int, kind: int) -> Outcome:
        """See `loop.Runner`."""
        deadline = self._deadline
        try:
            try:
                deadline.set(timeout_ms, started_ns)
                function, takes_batches = self._find(task)
                if takes_batches:
                    raise TakesBatches
                result = function() if payload in _NO_ARGUMENTS else self._call(function, payload)
                if result is None:
                    return _NO_RESULT
                if type(result) is CoroutineType:
                    result = complete(result, deadline)
                return frames.SUCCESS, frames.AFTER_BY_POLICY, self.encode(result)
            finally:
                deadline.clear()
        except TakesBatches:
            outcomes = self.run_batch([frames.RunFrame(0, timeout_ms, 0, job, b"", task, payload, kind)], started_ns)
            return outcomes[0] if outcomes else _NO_RESULT
        except BaseException as error:
            if lineage.is_child:
                lineage.end_child(error)
            return self.outcome_of(error)

    def run_batch(self, runs: list[frames.RunFrame], started_ns: int) -> Optional[list[Outcome]]:
        """Calls a batch task once: an outcome for each of its jobs, in order. None: the task takes no batches."""
        first = runs[0]
        try:
            function, takes_batches = self._find(first.task)
        except BaseException:
            return None  # each job will say the same of itself
        if not takes_batches:
            return None
        batch = Batch(self, runs)
        try:
            self._deadline.set(first.timeout_ms, started_ns)
            try:
                batch.call(function, lambda coroutine: complete(coroutine, self._deadline))
            finally:
                self._deadline.clear()
        except BaseException as error:
            if lineage.is_child:
                lineage.end_child(error)
            code, after_ms, data = self.outcome_of(error)
            if code in (frames.FAILURE, frames.REJECTED):
                # Rejected: the function itself does not take the list, which another version of it may.
                code = frames.BATCH_FAILURE
            return batch.outcomes(lambda run: (code, after_ms, data))
        return batch.outcomes()

    def arguments(self, run: frames.RunFrame) -> Any:
        """See `batch.Jobs`."""
        return arguments_of(run.payload) if run.payload else None

    def answered(self, run: frames.RunFrame, answer: Any) -> Outcome:
        """See `batch.Jobs`."""
        if isinstance(answer, TypeError):  # raised, it could mean that the function was called wrongly
            told = errors.encode(errors.type_name(answer), errors.message_of(answer), errors.traceback_of(answer))
            return frames.FAILURE, frames.AFTER_BY_POLICY, told
        if isinstance(answer, BaseException):
            return self.outcome_of(answer)
        try:
            return frames.SUCCESS, frames.AFTER_BY_POLICY, self.encode(answer)
        except Exception as error:
            return self.outcome_of(error)

    def join(self, pool: str) -> None:
        """See `loop.Runner`; all pools run the same tasks."""
        self._deadline.prepare()

    def set_ordinal(self, ordinal: int) -> None:
        """See `loop.Runner`; nobody is told of this worker."""

    def rehearse(self, play: Callable[[bytes, bytes], None]) -> None:
        """See `loop.Runner`."""
        self._known[b""] = _Known(Found("builtins", ["int"], int, int), False)
        play(b"", b"[]")
        play(b"", b"[1]")
        del self._known[b""]

    def _find(self, task: bytes) -> tuple[Callable[..., Any], bool]:
        """The function that a task names now, and whether it takes batches."""
        known = self._known.get(task)
        # A job may have replaced the function, or reloaded its module: the name alone is remembered.
        if known is None or not known.found.is_still_there():
            found = self._names.find(task.decode())
            known = self._known[task] = _Known(found, is_batch_task(found.function))
        return known.found.function, known.takes_batches

    def _call(self, function: Callable[..., Any], payload: bytes) -> Any:
        arguments = arguments_of(payload)
        if type(arguments) is dict:
            return function(**arguments)
        if type(arguments) is list:
            return function(*arguments)
        return function() if arguments is None else function(arguments)

    def encode(self, result: Any) -> bytes:
        """A result as JSON, within its limit."""
        try:
            text = _encode(result)
            try:
                data = text.encode()
            except UnicodeEncodeError:  # a lone surrogate
                data = _encode_ascii(result).encode()
        except (TypeError, ValueError, RecursionError) as error:
            kind = errors.type_name(result)
            message = f"the result (of type {kind}) is not JSON: {errors.message_of(error)}"
            raise BadResult("result not JSON", message) from None
        if len(data) > self._max_result:
            message = f"the result of {len(data)} bytes is above the limit of {self._max_result} (`broker.max_result`)"
            raise BadResult("result too large", message)
        return data

    def outcome_of(self, error: BaseException) -> Outcome:
        """What becomes of a job that raised this."""
        if isinstance(error, pool_job.Retry):
            return retries.asked(error)
        code, kind, detail = frames.FAILURE, errors.type_name(error), errors.traceback_of(error)
        message = errors.message_of(error)
        if self._deadline.struck:
            # Also when the job, or a library below it, made another exception of the interruption.
            code, kind, message = frames.TIMED_OUT, "timeout", str(self._deadline.exception())
        elif isinstance(error, UnknownTask):
            code, kind, detail = frames.REJECTED, errors.UNKNOWN_TASK, ""
        elif isinstance(error, WrongArguments):
            code, kind, detail = frames.REJECTED, "wrong arguments", ""
        elif isinstance(error, BadResult):
            # Another run would do all that the job does again, and its result would be of the same kind.
            code, kind, detail = frames.REJECTED, error.kind, ""
        elif isinstance(error, TypeError) and not errors.has_user_frames(error.__traceback__):
            code, kind, detail = frames.REJECTED, "wrong arguments", ""
        return code, frames.AFTER_BY_POLICY, errors.encode(kind, message, detail)


def _timeout(timeout_ms: int) -> pool_job.JobTimeout:
    return pool_job.JobTimeout(f"ran longer than its timeout of {timeout_ms / 1000:g}s")

"""Runs what the supervisor gathered of a batch task: one call, and an outcome for each message; see `batches`."""

from __future__ import annotations

import time
from typing import Any, Callable, ContextManager, NamedTuple, Optional, Protocol

import pool_job
from pool_template.celery import batches, outcome
from pool_template.celery.incoming import Incoming, Verdict, parted
from pool_template.celery.plans import Plan
from pool_template.jobs import errors, frames, lineage
from pool_template.jobs.loop import Outcome

#: The request of a message, and what its code says of it.
Received = tuple[Any, Verdict]
_WHOLE = 2


class _Ready(NamedTuple):
    """A message that takes part in the call."""

    place: int
    call: pool_job.Call
    #: Runs it by its tracer, as it began at this time.
    trace: Callable[[int], Outcome]


class Caller(Protocol):
    """The runner, as far as batches need it."""

    def limited(self, plan: Plan, started_ns: int) -> ContextManager[None]:
        """Lets the task's soft limit strike meanwhile."""
        ...

    def parts(self, meta: dict[str, Any], body: bytes) -> Any:
        """Arguments and what goes with them, of a message with nothing special; None of any other."""
        ...

    def run_message(self, meta: dict[str, Any], body: bytes, started_ns: int, may_capture: bool) -> Outcome:
        """Runs a message."""
        ...

    def run_request(self, request: Any, verdict: Verdict, started_ns: int, may_capture: bool) -> Outcome:
        """Runs a message that was received."""
        ...

    def after_process(self, error: BaseException, request: Any, verdict: Verdict) -> Outcome:
        """What was raised past Celery's code."""
        ...

    def unrun(self, error: BaseException) -> Outcome:
        """What becomes of a message that was refused, or failed beside its task."""
        ...


class Gathered:
    """One worker's."""

    def __init__(self, runner: Caller, incoming: Incoming, batch_split: list[str]) -> None:
        self._runner = runner
        self._incoming = incoming
        self._splits = frozenset(batch_split)

    def run(self, plan: Plan, runs: list[frames.RunFrame], started_ns: int) -> Optional[list[Outcome]]:
        """An outcome for each, in order. None: it is no batch task."""
        if plan.takes_requests:
            return self._run_with_requests(plan, runs, started_ns)
        answers = batches.answers_of_task(plan.task)
        return None if answers is None else self._run_with_calls(plan, answers, runs, started_ns)

    def run_requests(self, plan: Plan, received: list[Received], started_ns: int) -> list[Outcome]:
        """Calls a task of celery-batches with these."""
        requests, has_ended, error = [request for request, _ in received], False, None
        try:
            with self._runner.limited(plan, started_ns):
                error = batches.call_with_requests(plan.task, requests)
                has_ended = True
        except BaseException as ended:
            if lineage.is_child:
                lineage.end_child(ended)
            if not has_ended:  # else a limit struck when all was done
                return [self._runner.after_process(ended, *each) for each in received]
        if lineage.is_child:
            lineage.end_child(error)
        if error is None:
            return [outcome.told(outcome.IGNORED, outcome.ACK, events=[])] * len(received)
        # The package logs it, and acknowledges the messages.
        told = outcome.failed(error, errors.traceback_of(error), outcome.ACK, events=[])
        return [told] * len(received)

    def _run_with_requests(self, plan: Plan, runs: list[frames.RunFrame], started_ns: int) -> list[Outcome]:
        outcomes: dict[int, Outcome] = {}
        ready: list[Received] = []
        places = []
        for place, run in enumerate(runs):
            try:
                request, verdict, early = self._incoming.received(*parted(run.payload))
            except Exception as error:
                outcomes[place] = self._runner.unrun(error)
                continue
            if early is not None:
                outcomes[place] = early
                continue
            ready.append((request, verdict))
            places.append(place)
        if ready:
            outcomes.update(zip(places, self.run_requests(plan, ready, started_ns)))
        return [outcomes[place] for place in range(len(runs))]

    def _run_with_calls(
        self, plan: Plan, answers: batches.Answers, runs: list[frames.RunFrame], started_ns: int
    ) -> list[Outcome]:
        outcomes: dict[int, Outcome] = {}
        ready: list[_Ready] = []
        for place, run in enumerate(runs):
            try:
                found = self._ready(place, run)
            except Exception as error:
                found = self._runner.unrun(error)
            if isinstance(found, _Ready):
                ready.append(found)
            else:
                outcomes[place] = found
        if ready:
            splits = len(runs) > 1 and plan.task.name in self._splits
            outcomes.update(self._call(plan, answers, ready, started_ns, splits))
        return [outcomes[place] for place in range(len(runs))]

    def _ready(self, place: int, run: frames.RunFrame) -> Any:
        """The message, or an outcome if its task is not to run."""
        runner, may_capture = self._runner, run.kind != _WHOLE
        meta, body = parted(run.payload)
        parts = runner.parts(meta, body)
        if parts is not None:
            call = pool_job.Call(tuple(parts[0]), parts[1])
            return _Ready(place, call, lambda since: runner.run_message(meta, body, since, may_capture))
        request, verdict, early = self._incoming.received(meta, body)
        if early is not None:
            return early
        args, kwargs, _ = request._payload
        call = pool_job.Call(tuple(args), kwargs)
        return _Ready(place, call, lambda since: runner.run_request(request, verdict, since, may_capture))

    def _call(
        self, plan: Plan, answers: batches.Answers, ready: list[_Ready], started_ns: int, splits: bool
    ) -> dict[int, Outcome]:
        found: Any = None
        try:
            with self._runner.limited(plan, started_ns):
                found = answers.of_calls([each.call for each in ready])
        except BaseException as error:
            if lineage.is_child:
                lineage.end_child(error)
            if found is None and splits:
                return dict.fromkeys((each.place for each in ready), _split(error))
            if found is None:  # else a limit struck when all was done
                found = [error] * len(ready)
        if lineage.is_child:
            lineage.end_child(None)
        return {each.place: self._trace(answers, each, answer) for each, answer in zip(ready, found)}

    def _trace(self, answers: batches.Answers, each: _Ready, answer: Any) -> Outcome:
        try:
            return answers.give(answer, lambda: each.trace(time.monotonic_ns()))
        except BaseException as error:
            return self._runner.unrun(error)


def _split(error: BaseException) -> Outcome:
    """A whole batch failed, and is to be run again in halves."""
    data = errors.encode(errors.type_name(error), errors.message_of(error), errors.traceback_of(error))
    return frames.BATCH_FAILURE, frames.AFTER_BY_POLICY, data

"""One call of a batch task: the arguments of all jobs in, an outcome for each out."""

from __future__ import annotations

from types import CoroutineType
from typing import TYPE_CHECKING, Any, Callable, Optional

from pool_template import errors, frames

if TYPE_CHECKING:
    from pool_template.job_loop import Outcome
    from pool_template.tasks import JsonRunner


class WrongAnswers(Exception):
    """The function did not give one answer for each job."""


class Batch:
    """The jobs of one call and what became of each."""

    def __init__(self, runner: JsonRunner, read: Callable[[bytes], Any], runs: list[frames.RunFrame]) -> None:
        self._runner = runner
        #: Makes arguments of a payload; what it raises rejects the job.
        self._read = read
        self._runs = runs
        #: None until the job is answered.
        self._outcomes: list[Optional[Outcome]] = [None] * len(runs)

    def call(self, function: Callable[..., Any], complete: Callable[[Any], Any]) -> None:
        """Calls the function with the jobs whose arguments can be read; the others are rejected. What it raises passes.

        `complete` runs the coroutine that a coroutine function returns."""
        arguments, places = self._arguments()
        if not arguments:
            return
        answers = function(arguments)
        if type(answers) is CoroutineType:
            answers = complete(answers)
        if not isinstance(answers, (list, tuple)):
            kind = errors.type_name(answers)
            raise WrongAnswers(f"the batch task returned {kind} for {len(places)} jobs; {_EXPECTED}")
        if len(answers) != len(places):
            raise WrongAnswers(f"the batch task gave {len(answers)} answers for {len(places)} jobs; {_EXPECTED}")
        for place, answer in zip(places, answers):
            self._outcomes[place] = self._outcome(answer)

    def fail(self, outcome: Outcome) -> None:
        """The call failed: this is the outcome of all that it did not answer."""
        code, after_ms, data = outcome
        if code in (frames.FAILURE, frames.REJECTED):
            # Rejected: the function itself does not take the list, which another version of it may.
            code = frames.BATCH_FAILURE
        for place, known in enumerate(self._outcomes):
            if known is None:
                self._outcomes[place] = code, after_ms, data

    def outcomes(self) -> list[Outcome]:
        """One for each job, in order."""
        return [outcome for outcome in self._outcomes if outcome is not None]

    def _arguments(self) -> tuple[list[Any], list[int]]:
        arguments, places = [], []
        for place, run in enumerate(self._runs):
            try:
                arguments.append(self._read(run.payload) if run.payload else None)
                places.append(place)
            except Exception as error:
                self._outcomes[place] = self._runner.outcome_of(error)
        return arguments, places

    def _outcome(self, answer: Any) -> Outcome:
        if isinstance(answer, TypeError):  # raised, it could mean that the function was called wrongly
            told = errors.encode(errors.type_name(answer), errors.message_of(answer), errors.traceback_of(answer))
            return frames.FAILURE, frames.AFTER_BY_POLICY, told
        if isinstance(answer, BaseException):
            return self._runner.outcome_of(answer)
        try:
            return frames.SUCCESS, frames.AFTER_BY_POLICY, self._runner.encode(answer)
        except Exception as error:
            return self._runner.outcome_of(error)


_EXPECTED = "expected a list with one for each, in their order"

"""One call of a batch task: the arguments of all jobs in, an outcome for each out."""

from __future__ import annotations

from types import CoroutineType
from typing import TYPE_CHECKING, Any, Callable, Optional, Protocol

import pool_job
from pool_template.jobs import errors, frames

if TYPE_CHECKING:
    from pool_template.jobs.loop import Outcome


class WrongAnswers(Exception):
    """The function did not give one answer for each job."""


def is_batch_task(function: Any) -> bool:
    """Whether `pool_job.batch` marked it. There are callables that answer to every attribute, such as mocks."""
    try:
        return type(getattr(function, "__pool_batch__", None)) is pool_job._Batch
    except Exception:
        return False


def marked() -> dict[str, dict[str, int]]:
    """How the functions that `pool_job.batch` marked want their jobs gathered, by dotted names."""
    return {name: how._asdict() for name, how in pool_job._batches.items()}


class Jobs(Protocol):
    """What a runtime knows of jobs that are given to a batch task."""

    def arguments(self, run: frames.RunFrame) -> Any:
        """What the function gets for a job; what it raises ends the job."""
        ...

    def answered(self, run: frames.RunFrame, answer: Any) -> Outcome:
        """What becomes of a job with this answer; exceptions are answers, too."""
        ...


class Batch:
    """The jobs of one call and what became of each."""

    def __init__(self, jobs: Jobs, runs: list[frames.RunFrame]) -> None:
        self._jobs = jobs
        self._runs = runs
        #: None until the job is answered.
        self._outcomes: list[Optional[Outcome]] = [None] * len(runs)
        #: What the call, or reading the arguments, said of each; with its place.
        self._answers: list[tuple[int, Any]] = []

    def call(self, function: Callable[..., Any], complete: Callable[[Any], Any]) -> None:
        """Calls the function with the jobs whose arguments can be read. What it raises passes.

        `complete` runs the coroutine that a coroutine function returns."""
        arguments, places = [], []
        for place, run in enumerate(self._runs):
            try:
                arguments.append(self._jobs.arguments(run))
                places.append(place)
            except Exception as error:
                self._answers.append((place, error))
        if arguments:
            self._answers += zip(places, answers_of(function, arguments, complete))

    def outcomes(self, failed: Optional[Callable[[frames.RunFrame], Outcome]] = None) -> list[Outcome]:
        """One for each job, in order. `failed` makes those of the jobs that a failed call did not answer."""
        for place, answer in self._answers:
            self._outcomes[place] = self._jobs.answered(self._runs[place], answer)
        if failed is not None:
            missing = (place for place, outcome in enumerate(self._outcomes) if outcome is None)
            for place in missing:
                self._outcomes[place] = failed(self._runs[place])
        return [outcome for outcome in self._outcomes if outcome is not None]


def answers_of(function: Callable[..., Any], arguments: list[Any], complete: Callable[[Any], Any]) -> Any:
    """Calls a batch task; its answers, as many as there are arguments."""
    answers = function(arguments)
    if type(answers) is CoroutineType:
        answers = complete(answers)
    if not isinstance(answers, (list, tuple)):
        kind = errors.type_name(answers)
        raise WrongAnswers(f"the batch task returned {kind} for {len(arguments)} jobs; {_EXPECTED}")
    if len(answers) != len(arguments):
        raise WrongAnswers(f"the batch task gave {len(answers)} answers for {len(arguments)} jobs; {_EXPECTED}")
    return answers


_EXPECTED = "expected a list with one for each, in their order"

"""Tasks: functions that jobs may call, and calls of them that are to be enqueued."""

from __future__ import annotations

import functools
import os
import sys
from typing import (
    TYPE_CHECKING,
    Any,
    Callable,
    Dict,
    Generic,
    Iterable,
    List,
    Mapping,
    Optional,
    Sequence,
    TypeVar,
    Union,
)

from poolhouse import payload
from poolhouse.connection import Connection
from poolhouse.errors import Refused
from poolhouse.ids import new_ids
from poolhouse.job import Job
from poolhouse.model import NewJob
from poolhouse.options import OptionArguments, Options
from poolhouse.parameters import Parameters
from poolhouse.threads import in_thread

if TYPE_CHECKING:
    from typing_extensions import Unpack

if sys.version_info >= (3, 10):
    from typing import ParamSpec

    P = ParamSpec("P")
else:
    P = TypeVar("P")  # only annotations need more, and nobody evaluates those
#: What the function returns when it is called.
R = TypeVar("R")
#: The result of a job: the same, or what a coroutine comes to in the end.
J = TypeVar("J")

#: The arguments of a job: keyword arguments, or positional ones.
Arguments = Union[Mapping[str, Any], Sequence[Any], None]


class Task(Generic[P, R, J]):
    """A function of the application that jobs may call. Called itself, it is that function."""

    def __init__(self, connection: Connection, function: Callable[P, R], options: Options) -> None:
        if not callable(function):
            raise TypeError(f"{function!r} can't be a task: it is no function")
        if "<locals>" in function.__qualname__:
            raise ValueError(f"`{function.__qualname__}` is defined inside a function; a task is found by its module and name")
        if "<lambda>" in function.__qualname__:
            raise ValueError("a lambda can't be a task, since a task is found by its module and name: use `def`")
        functools.update_wrapper(self, function)
        #: The function.
        self.function = function
        #: The name by which workers find it: `module.function`.
        self.name = f"{_module_of(function)}.{function.__qualname__}"
        self._connection, self._options = connection, options.checked(self.name)
        self._parameters = Parameters(function, self.name)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<task {self.name}>"

    def __pool_task__(self) -> Callable[P, R]:
        """What a worker calls: see `jobs/names.py` of the template."""
        return self.function

    def options(self, **options: Unpack[OptionArguments]) -> Task[P, R, J]:
        """The same task with other options; see `Options` for their names. Raises `ValueError` for one that can't be."""
        other: Task[P, R, J] = Task.__new__(Task)
        other.__dict__.update(self.__dict__)
        other._options = self._options.having(options).checked(self.name)
        return other

    def enqueue(self, *args: P.args, **kwargs: P.kwargs) -> Job[J]:
        """Enqueues one job with these arguments. Raises `TypeError` if the function does not take them."""
        self._parameters.check(args, kwargs)
        job = self._options.job(self.name, self._encoded(args, kwargs))
        (done,) = self._connection.broker().enqueue([job])
        return Job(self._connection, done.id, done.is_new)

    async def aenqueue(self, *args: P.args, **kwargs: P.kwargs) -> Job[J]:
        """See `enqueue`."""
        return await in_thread(self.enqueue, *args, **kwargs)

    def enqueue_many(self, arguments: Iterable[Arguments]) -> List[Job[J]]:
        """Enqueues a job for each of these arguments, all or none: mappings of keyword arguments, or sequences of
        positional ones. Raises `TypeError` if the function does not take some of them."""
        encoded = [self._encoded_one(each, at) for at, each in enumerate(arguments)]
        if self._options.id is not None:
            raise Refused("many jobs can't have one id")
        job = self._options.job(self.name, b"")._replace
        ids = new_ids(len(encoded))
        jobs = [job(id=id, arguments=each) for id, each in zip(ids, encoded)]
        connection = self._connection
        return [Job(connection, each.id, each.is_new) for each in connection.broker().enqueue(jobs)]

    async def aenqueue_many(self, arguments: Iterable[Arguments]) -> List[Job[J]]:
        """See `enqueue_many`."""
        return await in_thread(self.enqueue_many, list(arguments))

    def signature(self, *args: Any, **kwargs: Any) -> Signature[J]:
        """A call that is not enqueued yet: for `Pool.enqueue_many`, `Pool.group`, and chains. One that gets more from other
        jobs may lack arguments. Raises `TypeError` for those that the function can't take."""
        missing = self._parameters.missing(args, kwargs)
        return Signature(self._connection, self.name, self._encoded(args, kwargs), self._options, missing)

    def _encoded(self, args: Sequence[Any], kwargs: Dict[str, Any]) -> bytes:
        return payload.arguments(*self._parameters.of_one_kind(args, kwargs), self.name)

    def _encoded_one(self, arguments: Arguments, at: int) -> bytes:
        """One of many arguments."""
        if not isinstance(arguments, (dict, list, tuple, type(None))):
            if not isinstance(arguments, Mapping):
                what = f"the arguments of `{self.name}` are {arguments!r}"
                raise Refused(f"{what}; expected a mapping, or a list of positional ones")
            arguments = dict(arguments)
        try:
            if isinstance(arguments, dict):
                self._parameters.check((), arguments)
            else:
                self._parameters.check(arguments or (), {})
        except TypeError as error:
            raise TypeError(f"{error} (arguments {at + 1} of many)") from None
        return payload.encode(arguments, f"the arguments of `{self.name}`") if arguments else b""


class Signature(Generic[J]):
    """A call of a task that is not enqueued yet."""

    def __init__(
        self, connection: Connection, task: str, arguments: bytes, options: Options, missing: Optional[str] = None
    ) -> None:
        self._connection, self._options = connection, options
        #: What it lacks unless it gets more from other jobs.
        self._missing = missing
        #: The task's name.
        self.task = task
        #: JSON.
        self.arguments = arguments

    def __repr__(self) -> str:
        return f"<signature {self.task} {self.arguments.decode(errors='replace')}>"

    def then(self, follower: Signature[Any]) -> Chain:
        """A chain: the follower runs when this has ended well, and gets its result."""
        return Chain([self, follower])

    def job(self, id: Optional[str] = None) -> NewJob:
        """The job that it stands for; `id`: one that was made for it. Raises `TypeError` if arguments are missing."""
        if self._missing is not None:
            raise TypeError(self._missing)
        return self._options.job(self.task, self.arguments, id)

    def follower(self) -> NewJob:
        """The same job where it gets more arguments from others."""
        return self._options.job(self.task, self.arguments)

    def enqueue(self) -> Job[J]:
        """Enqueues it."""
        job = self.job()
        (done,) = self._connection.broker().enqueue([job])
        return Job(self._connection, done.id, done.is_new)

    async def aenqueue(self) -> Job[J]:
        """See `enqueue`."""
        return await in_thread(self.enqueue)


class Chain:
    """Calls of which each gets the result of the one before it."""

    def __init__(self, calls: Sequence[Signature[Any]]) -> None:
        self._calls = [signature_of(call) for call in calls]

    def then(self, follower: Signature[Any]) -> Chain:
        """The same chain with one more."""
        return Chain([*self._calls, follower])

    def enqueue(self) -> List[Job[Any]]:
        """Enqueues all of it; its jobs in their order. The last one has the result of the chain."""
        first, *others = self._calls
        jobs = [first.job(), *(call.follower() for call in others)]
        connection = first._connection
        connection.broker().enqueue_chain(jobs)
        return [Job(connection, job.id) for job in jobs]

    async def aenqueue(self) -> List[Job[Any]]:
        """See `enqueue`."""
        return await in_thread(self.enqueue)


def signature_of(call: Any) -> Signature[Any]:
    """A call that an application gave. Raises `TypeError` for anything else."""
    if isinstance(call, Signature):
        return call
    what = f"the task `{call.name}` itself" if isinstance(call, Task) else repr(call)
    raise TypeError(f"expected a call that is not enqueued yet, such as `resize.signature(\"a.png\")`, not {what}")


def _module_of(function: Callable[..., Any]) -> str:
    """The module's name as workers import it: a program that is run itself has another one while it runs."""
    if function.__module__ != "__main__":
        return function.__module__
    main = sys.modules["__main__"]
    spec, file = getattr(main, "__spec__", None), getattr(main, "__file__", None)
    if spec is not None:
        return str(spec.name).removesuffix(".__main__")
    return os.path.splitext(os.path.basename(file))[0] if file else "__main__"

"""Tasks: functions that jobs may call, and calls of them that are to be enqueued."""

from __future__ import annotations

import functools
import inspect
import os
import sys
from dataclasses import replace
from typing import Any, Callable, Dict, Generic, Iterable, List, Mapping, Optional, Sequence, TypeVar, Union

from poolhouse import payload
from poolhouse.connection import Connection
from poolhouse.errors import Refused
from poolhouse.ids import new_ids
from poolhouse.job import Job
from poolhouse.model import NewJob
from poolhouse.options import Options
from poolhouse.threads import in_thread

if sys.version_info >= (3, 10):
    from typing import ParamSpec

    P = ParamSpec("P")
else:
    P = TypeVar("P")  # only annotations need more, and nobody evaluates those
R = TypeVar("R")

#: The arguments of a job: keyword arguments, or positional ones.
Arguments = Union[Mapping[str, Any], Sequence[Any], None]


class Task(Generic[P, R]):
    """A function of the application that jobs may call. Called itself, it is that function."""

    def __init__(self, connection: Connection, function: Callable[P, R], options: Options) -> None:
        if "<locals>" in function.__qualname__:
            raise ValueError(f"`{function.__qualname__}` is defined inside a function; a task is found by its module and name")
        functools.update_wrapper(self, function)
        self._connection, self._options = connection, options
        #: The function.
        self.function = function
        #: The name by which workers find it: `module.function`.
        self.name = f"{_module_of(function)}.{function.__qualname__}"
        self._signature: Optional[inspect.Signature] = None

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<task {self.name}>"

    def __pool_task__(self) -> Callable[P, R]:
        """What a worker calls: see `jobs/names.py` of the template."""
        return self.function

    def options(self, **options: Any) -> Task[P, R]:
        """The same task with other options; see `Options` for their names."""
        other: Task[P, R] = Task.__new__(Task)
        other.__dict__.update(self.__dict__)
        other._options = replace(self._options, **options)
        return other

    def enqueue(self, *args: P.args, **kwargs: P.kwargs) -> Job[R]:
        """Enqueues one job with these arguments. Raises `TypeError` if the function does not take them."""
        job = self._options.job(self.name, self._arguments(args, kwargs))
        (done,) = self._connection.broker().enqueue([job])
        return Job(self._connection, done.id, done.is_new)

    async def aenqueue(self, *args: P.args, **kwargs: P.kwargs) -> Job[R]:
        """See `enqueue`."""
        return await in_thread(self.enqueue, *args, **kwargs)

    def enqueue_many(self, arguments: Iterable[Arguments]) -> List[Job[R]]:
        """Enqueues a job for each of these arguments, all or none: mappings of keyword arguments, or sequences of
        positional ones. Whether the function takes them is seen when they run."""
        encoded = [_encoded(each, self.name) for each in arguments]
        if self._options.id is not None:
            raise Refused("many jobs can't have one id")
        job = self._options.job(self.name, b"")._replace
        ids = new_ids(len(encoded))
        jobs = [job(id=id, arguments=each) for id, each in zip(ids, encoded)]
        connection = self._connection
        return [Job(connection, each.id, each.is_new) for each in connection.broker().enqueue(jobs)]

    async def aenqueue_many(self, arguments: Iterable[Arguments]) -> List[Job[R]]:
        """See `enqueue_many`."""
        return await in_thread(self.enqueue_many, list(arguments))

    def signature(self, *args: P.args, **kwargs: P.kwargs) -> Signature[R]:
        """A call that is not enqueued yet: for `Pool.enqueue_many`, `Pool.group`, and chains."""
        return Signature(self._connection, self.name, payload.arguments(args, kwargs, self.name), self._options)

    def _arguments(self, args: Sequence[Any], kwargs: Dict[str, Any]) -> bytes:
        if hasattr(self.function, "__pool_batch__"):  # called with a list of the arguments of its jobs
            return payload.arguments(args, kwargs, self.name)
        if self._signature is None:
            self._signature = inspect.signature(self.function)
        try:
            bound = self._signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{self.function.__name__}() {error}") from None
        if args and kwargs:
            args, kwargs = self._by_name(bound)
        return payload.arguments(args, kwargs, self.name)

    def _by_name(self, bound: inspect.BoundArguments) -> Any:
        """JSON holds positional or keyword arguments: those of both kinds are all given by name."""
        if bound.args:
            names: Dict[str, Any] = {}
            for name, value in bound.arguments.items():
                kind = bound.signature.parameters[name].kind
                if kind in (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.VAR_POSITIONAL):
                    raise Refused(f"the arguments of `{self.name}` can't all be given by name; use one kind of arguments")
                names.update(value if kind is inspect.Parameter.VAR_KEYWORD else {name: value})
            return (), names
        return (), bound.kwargs


class Signature(Generic[R]):
    """A call of a task that is not enqueued yet."""

    def __init__(self, connection: Connection, task: str, arguments: bytes, options: Options) -> None:
        self._connection, self._options = connection, options
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
        """The job that it stands for; `id`: one that was made for it."""
        return self._options.job(self.task, self.arguments, id)

    def enqueue(self) -> Job[R]:
        """Enqueues it."""
        (done,) = self._connection.broker().enqueue([self.job()])
        return Job(self._connection, done.id, done.is_new)

    async def aenqueue(self) -> Job[R]:
        """See `enqueue`."""
        return await in_thread(self.enqueue)


class Chain:
    """Calls of which each gets the result of the one before it."""

    def __init__(self, calls: Sequence[Signature[Any]]) -> None:
        self._calls = list(calls)

    def then(self, follower: Signature[Any]) -> Chain:
        """The same chain with one more."""
        return Chain([*self._calls, follower])

    def enqueue(self) -> List[Job[Any]]:
        """Enqueues all of it; its jobs in their order. The last one has the result of the chain."""
        jobs = [call.job() for call in self._calls]
        connection = self._calls[0]._connection
        connection.broker().enqueue_chain(jobs)
        return [Job(connection, job.id) for job in jobs]

    async def aenqueue(self) -> List[Job[Any]]:
        """See `enqueue`."""
        return await in_thread(self.enqueue)


def _encoded(arguments: Arguments, task: str) -> bytes:
    if not arguments:
        return b""
    if isinstance(arguments, (dict, list, tuple)):
        return payload.encode(arguments, f"the arguments of `{task}`")
    if isinstance(arguments, Mapping):
        return payload.encode(dict(arguments), f"the arguments of `{task}`")
    raise Refused(f"the arguments of `{task}` are {arguments!r}; expected a mapping, or a list of positional ones")


def _module_of(function: Callable[..., Any]) -> str:
    """The module's name as workers import it: a program that is run itself has another one while it runs."""
    if function.__module__ != "__main__":
        return function.__module__
    main = sys.modules["__main__"]
    spec, file = getattr(main, "__spec__", None), getattr(main, "__file__", None)
    if spec is not None:
        return str(spec.name).removesuffix(".__main__")
    return os.path.splitext(os.path.basename(file))[0] if file else "__main__"

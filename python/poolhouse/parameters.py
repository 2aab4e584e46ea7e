"""What a function takes: arguments are checked before a job with them is kept."""

from __future__ import annotations

import inspect
from typing import Any, Callable, Dict, FrozenSet, Optional, Sequence, Tuple

from poolhouse.errors import Refused

_BY_PLACE = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


class Parameters:
    """Those of one function."""

    def __init__(self, function: Callable[..., Any], task: str) -> None:
        self._name, self._task = getattr(function, "__name__", task), task
        #: None: nobody knows what it takes, as of some functions that are not written in Python.
        self._signature: Optional[inspect.Signature] = None
        if hasattr(function, "__pool_batch__"):  # called with a list of the arguments of its jobs
            return
        try:
            self._signature = inspect.signature(function)
        except (TypeError, ValueError):
            return
        all = self._signature.parameters.values()
        variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        needed = [each for each in all if each.default is each.empty and each.kind not in variadic]
        kinds, needs = {each.kind for each in all}, {each.kind for each in needed}
        self._needs_places = sum(each.kind in _BY_PLACE for each in needed)
        self._places = sum(each.kind in _BY_PLACE for each in all)
        self._takes_any_place = inspect.Parameter.VAR_POSITIONAL in kinds
        self._needs_names: FrozenSet[str] = frozenset(each.name for each in needed if each.kind in _BY_NAME)
        self._names: FrozenSet[str] = frozenset(each.name for each in all if each.kind in _BY_NAME)
        self._takes_any_name = inspect.Parameter.VAR_KEYWORD in kinds
        self._needs_some_by_name = inspect.Parameter.KEYWORD_ONLY in needs
        self._needs_some_by_place = inspect.Parameter.POSITIONAL_ONLY in needs

    def check(self, args: Sequence[Any], kwargs: Dict[str, Any]) -> None:
        """Raises `TypeError`, as the call would."""
        if self._signature is not None and not self._surely_takes(args, kwargs):
            self._bind(self._signature.bind, args, kwargs)

    def missing(self, args: Sequence[Any], kwargs: Dict[str, Any]) -> Optional[str]:
        """What a call lacks that may get more later; None: nothing. Raises `TypeError` if more could not help."""
        try:
            self.check(args, kwargs)
        except TypeError as error:
            assert self._signature is not None, "it was just checked"
            self._bind(self._signature.bind_partial, args, kwargs)
            return str(error)
        return None

    def of_one_kind(self, args: Sequence[Any], kwargs: Dict[str, Any]) -> Tuple[Sequence[Any], Dict[str, Any]]:
        """JSON holds positional or keyword arguments: those of both kinds are all given by name. Raises `Refused` where
        that can't be."""
        if not args or not kwargs or self._signature is None:
            return args, kwargs
        names: Dict[str, Any] = {}
        for name, value in self._signature.bind_partial(*args, **kwargs).arguments.items():
            kind = self._signature.parameters[name].kind
            if kind in (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.VAR_POSITIONAL):
                raise Refused(f"the arguments of `{self._task}` can't all be given by name; use one kind of arguments")
            names.update(value if kind is inspect.Parameter.VAR_KEYWORD else {name: value})
        return (), names

    def _bind(self, bind: Callable[..., Any], args: Sequence[Any], kwargs: Dict[str, Any]) -> None:
        try:
            bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{self._name}() {error}") from None

    def _surely_takes(self, args: Sequence[Any], kwargs: Dict[str, Any]) -> bool:
        """The usual cases, in a tenth of the time that `Signature.bind` takes."""
        if not kwargs:
            count = len(args)
            return (
                not self._needs_some_by_name
                and self._needs_places <= count
                and (count <= self._places or self._takes_any_place)
            )
        names = kwargs.keys()
        return (
            not args
            and not self._needs_some_by_place
            and self._needs_names <= names
            and (self._takes_any_name or names <= self._names)
        )

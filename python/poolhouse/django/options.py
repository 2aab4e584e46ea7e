"""What a backend's entry of `TASKS` says, and what is wrong with it."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any, Callable, Dict, Iterable, List, NamedTuple, Optional, Set, Tuple

from django.core import checks
from django.db import connections

from poolhouse import place
from poolhouse.brokers import open_broker
from poolhouse.errors import PoolhouseError
from poolhouse.model import DEFAULT_QUEUE, check_name
from poolhouse.options import Options

#: Ids of what is wrong, as docs/django.md lists them.
NO_DATABASE, WRONG_VALUE, UNKNOWN_KEY, NO_BROKER = (f"poolhouse.E00{number}" for number in range(1, 5))


class Option(NamedTuple):
    """One key of `OPTIONS`."""

    default: Any
    #: What a value may be.
    expected: str
    #: False, or `ValueError`, for what it may not be.
    allows: Callable[[Any], Any]


def _job(name: str) -> Callable[[Any], Any]:
    """An option of the client's jobs, which checks it there."""
    return lambda value: Options(**{name: value}).job("checked", b"")


def _flag(value: Any) -> bool:
    return value in (True, False)


_TIME = 'a time such as "500ms", "5s", "1m30s" or "2h", seconds, or a timedelta'
_BROKER = '"sqlite:/PATH/pool.db", "redis://HOST:6379/0", "rediss://HOST:6379/0" or "unix:///PATH/redis.sock?db=0"'

#: All keys of `OPTIONS`.
OPTIONS: Dict[str, Option] = {
    "BROKER": Option(None, _BROKER, lambda value: value is None or isinstance(value, str)),
    "FSYNC": Option(None, "True or False", lambda value: value is None or _flag(value)),
    "TIMEOUT": Option(None, _TIME, _job("timeout")),
    "RETRIES": Option(None, "a whole number, 0 or more", _job("retries")),
    "RESULT_TTL": Option(None, f"{_TIME}; 0 keeps none", _job("result_ttl")),
    "EXPIRES": Option(None, _TIME, _job("expires")),
    "LIMIT": Option(None, 'a key and a number, such as ("database", 3)', _job("limit")),
    "ENQUEUE_ON_COMMIT": Option(True, "True or False", _flag),
    "DATABASE": Option("default", "one of DATABASES", lambda value: isinstance(value, str)),
}


class Entry:
    """An entry of `TASKS`: what it says, as far as that is right, and what is not."""

    def __init__(self, alias: str, params: Dict[str, Any]) -> None:
        self._alias = alias
        #: What is wrong, whatever there is beside it.
        self.errors: List[checks.CheckMessage] = []
        #: The names of its queues; empty: any.
        self.queues = self._queues(params.get("QUEUES", [DEFAULT_QUEUE]))
        #: All `OPTIONS`, with their defaults.
        self.options = {name: option.default for name, option in OPTIONS.items()}
        self.options.update(self._options(params.get("OPTIONS", {})))
        for name in params:
            if name in OPTIONS:
                self._add(UNKNOWN_KEY, f"{name} is beside OPTIONS.", "Put it into OPTIONS.")

    def check(self) -> List[checks.CheckMessage]:
        """All that is wrong, also with what it names. Nothing is opened: whoever checks may be another user."""
        found = list(self.errors)
        database = self.options["DATABASE"]
        if self.options["ENQUEUE_ON_COMMIT"] and database not in connections.settings:
            hint = "Name one of DATABASES in OPTIONS['DATABASE'], or set OPTIONS['ENQUEUE_ON_COMMIT'] to False."
            found.append(self._error(NO_DATABASE, f"no database {database!r}.", hint))
        problem = _broker_problem(self.options["BROKER"])
        if problem is not None:
            found.append(self._error(NO_BROKER, *problem))
        return sorted(found, key=lambda error: str(error.id))

    def _queues(self, queues: Any) -> Set[str]:
        try:
            if isinstance(queues, str):
                raise ValueError("its letters are no queues")
            return {check_name(queue, "the queue's name") for queue in queues}
        except (TypeError, ValueError):
            self._add(WRONG_VALUE, f"QUEUES is {queues!r}.", 'Set it to a list of names: ["default", "mail"].')
            return set()

    def _options(self, given: Any) -> Dict[str, Any]:
        """Those that are right."""
        if not isinstance(given, dict):
            self._add(WRONG_VALUE, f"OPTIONS is a {type(given).__name__}.", 'Set it to a dictionary: {"RETRIES": 3}.')
            return {}
        unknown = [str(name) for name in given if name not in OPTIONS]
        for name in unknown:
            near = get_close_matches(name.upper(), OPTIONS, 1)
            hint = f"Did you mean {near[0]}?" if near else "Remove it."
            self._add(UNKNOWN_KEY, f"unknown OPTIONS {name}; there are {', '.join(OPTIONS)}.", hint)
        right = {}
        for name, option in OPTIONS.items():
            if name not in given:
                continue
            if _is_allowed(option, given[name]):
                right[name] = given[name]
            else:
                # A broker's URL may hold a password, also as a part of something else.
                value = f"a {type(given[name]).__name__}" if name == "BROKER" else repr(given[name])
                self._add(WRONG_VALUE, f"OPTIONS[{name!r}] is {value}.", f"Set it to {option.expected}.")
        return right

    def _add(self, id: str, what: str, hint: str) -> None:
        self.errors.append(self._error(id, what, hint))

    def _error(self, id: str, what: str, hint: str) -> checks.CheckMessage:
        return checks.Error(f"TASKS[{self._alias!r}]: {what}", hint=hint, id=id)


def in_lines(errors: Iterable[checks.CheckMessage]) -> str:
    """A line for each of them, with its hint."""
    return "\n".join(f"{error.msg} {error.hint}" for error in errors)


def _is_allowed(option: Option, value: Any) -> bool:
    try:
        return option.allows(value) is not False
    except (ValueError, PoolhouseError):
        return False


def _broker_problem(url: Optional[str]) -> Optional[Tuple[str, str]]:
    """Why there is no broker at a URL, or, without one, where the configuration says; and what can be done."""
    hint = f"Set OPTIONS['BROKER'] to {_BROKER}."
    try:
        if url is None:
            url = place.find().url
        if not url.startswith("sqlite:"):
            open_broker(url, None, None).close()  # it does not connect before the first job
        elif not place.path_of(url):
            return f"`{url}` names no file.", hint
    except (ValueError, PoolhouseError) as error:
        if isinstance(error.__cause__, ImportError):
            hint = "Install it for the web processes and for the workers."
        return f"{_without_secrets(str(error), url or '')}.", hint
    return None


def _without_secrets(text: str, url: str) -> str:
    """A text that may hold this URL, without its user and its query."""
    user, at, host = url.rpartition("@")
    query = host.partition("?")[2]
    if at:
        text = text.replace(user + at, f"{user.partition(':')[0]}://***@")
    return text.replace(f"?{query}", "?***") if query else text

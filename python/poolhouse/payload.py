"""Arguments and results as JSON, by the rules of the Python runtime.

An object holds keyword arguments, an array positional ones, nothing none; any other value is the one positional argument.
"""

from __future__ import annotations

import json
from typing import Any, Dict, Mapping, Sequence, Tuple

from poolhouse.errors import Refused

_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
_encode_ascii = json.JSONEncoder(allow_nan=False, separators=(",", ":")).encode


def encode(value: Any, what: str) -> bytes:
    """A value as JSON. Raises `Refused`, which names it by `what`."""
    try:
        text = _encode(value)
        try:
            return text.encode()
        except UnicodeEncodeError:  # a lone surrogate
            return _encode_ascii(value).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise Refused(f"{what} can't be written as JSON: {error}") from None


def arguments(args: Sequence[Any], kwargs: Mapping[str, Any], task: str) -> bytes:
    """The arguments of a call; not both kinds."""
    if args and kwargs:
        raise Refused(f"a job of `{task}` takes positional or keyword arguments, not both")
    if not args and not kwargs:
        return b""
    return encode(kwargs or args, f"the arguments of `{task}`")


def call_of(payload: bytes) -> Tuple[Sequence[Any], Dict[str, Any]]:
    """The positional and the keyword arguments that JSON stands for."""
    value = json.loads(payload) if payload.strip() else None
    if value is None:
        return (), {}
    if isinstance(value, dict):
        return (), value
    return (value if isinstance(value, list) else [value]), {}


def decode(result: bytes) -> Any:
    """The value of a result; what is no JSON is text."""
    text = result.decode(errors="replace")
    try:
        return json.loads(text) if text.strip() else None
    except ValueError:
        return text


def hand_on(payload: bytes, key: str, value: bytes) -> bytes:
    """The arguments of a job that gets a value from others: alone if it has none of its own, as the first of an array, or
    under `key` in an object."""
    value = value.strip() or b"null"
    try:
        json.loads(value)
    except ValueError:
        value = encode(value.decode(errors="replace"), "the result")
    payload = payload.strip()
    if payload[:1] == b"[":
        opening, inner = b"[", payload[1:-1]
    elif payload[:1] == b"{":
        opening, inner = b"{" + encode(key, "a key") + b":", payload[1:-1]
    else:
        return value
    comma = b"," if inner.strip() else b""
    return opening + value + comma + inner + payload[-1:]


def check_follower(payload: bytes, key: str, who: str) -> None:
    """Refuses arguments into which a value of others could not go."""
    payload = payload.strip()
    if payload in (b"", b"null"):
        return
    value = json.loads(payload)
    if not isinstance(value, (dict, list)):
        raise Refused(f"{who}: the arguments of a job that gets a value from others are an array, an object or nothing")
    if isinstance(value, dict) and key in value:
        raise Refused(f"{who}: its arguments have the key `{key}`, under which it is to get another value")

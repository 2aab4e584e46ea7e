"""The list of brokers: which one a URL names."""

from __future__ import annotations

from typing import Optional, Tuple

from poolhouse import place
from poolhouse.broker import Broker
from poolhouse.errors import PoolhouseError

#: Largest arguments of a job where nothing else is said, in bytes.
_PAYLOAD_LEN_MAX = 1 << 20
_REDIS = ("redis:", "rediss:", "unix:", "redis+unix:")


def open_broker(url: Optional[str], fsync: Optional[bool], max_payload: Optional[int]) -> Broker:
    """Opens the broker at a URL; without one, that of the configuration."""
    where = place.Place(url) if url is not None else place.find()
    payload_len_max = max_payload or where.max_payload or _PAYLOAD_LEN_MAX
    if where.url.startswith("sqlite:"):
        from poolhouse.sqlite import SqliteBroker

        return SqliteBroker(
            place.path_of(where.url),
            fsync=bool(where.fsync if fsync is None else fsync),
            payload_len_max=payload_len_max,
            result_ttl_ms=where.result_ttl_ms,
        )
    if where.url.startswith(_REDIS):
        from poolhouse.rq import RqBroker

        return RqBroker(where.url, payload_len_max=payload_len_max)
    raise PoolhouseError(
        f"`{place.shown(where.url)}` is no broker of this package; expected `sqlite:PATH`, or `redis://HOST` and its kin"
    )


def runtime_of(url: Optional[str]) -> Tuple[str, Tuple[str, ...]]:
    """The runtime of a pool that runs the jobs at a URL, and the flags that it needs for all of them to run."""
    where = place.Place(url) if url is not None else place.find()
    return ("rq", ("--with-scheduler",)) if where.url.startswith(_REDIS) else ("python", ())

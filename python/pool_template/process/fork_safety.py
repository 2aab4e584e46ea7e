"""The fork-safety report: what workers would share or miss, each with culprit and remedy.

A fork copies memory and descriptors, and one thread. So a thread that the preload started is missing in
the workers, locks that it held stay locked, and a connection that it opened is shared by all of them.
"""

from __future__ import annotations

import gc
import os
import socket
import threading
from typing import Any, Iterator, Optional

from pool_template.memory import areas

_REMEDY = "open it in an `after_fork` hook, or when a job first needs it"
_SERVICES = {
    3306: "MySQL",
    5432: "PostgreSQL",
    5672: "RabbitMQ",
    6379: "Redis",
    9092: "Kafka",
    11211: "memcached",
    27017: "MongoDB",
}
#: Libraries that start threads of their own: a part of the file name, who it is, what keeps it from it.
_THREAD_STARTERS = (
    ("openblas", "OpenBLAS (NumPy, SciPy)", "set OPENBLAS_NUM_THREADS=1 in `app.environment`"),
    ("libmkl", "Intel MKL", "set MKL_NUM_THREADS=1 in `app.environment`"),
    ("libgomp", "OpenMP", "set OMP_NUM_THREADS=1 in `app.environment`"),
    ("libiomp", "OpenMP", "set OMP_NUM_THREADS=1 in `app.environment`"),
    ("grpc", "gRPC", "set GRPC_ENABLE_FORK_SUPPORT=1 in `app.environment`, or make channels in `after_fork`"),
    ("polars", "Polars", "import it in the jobs that use it instead of the preload"),
    ("libtorch", "PyTorch", "call torch.set_num_threads(1) in a `before_fork` hook"),
)


def open_descriptors() -> dict[int, str]:
    """What is open, by number: taken before the load, for `report` to leave out."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            pass  # the descriptor of the listing itself
    return found


def report(before: dict[int, str]) -> list[str]:
    """One sentence or two for each thing that the load left behind; `before` was open before it."""
    return [*_python_threads(), *_other_threads(), *_shared_descriptors(before)]


def _python_threads() -> Iterator[str]:
    for thread in threading.enumerate():
        if thread is threading.main_thread():
            continue
        yield (
            f"thread `{thread.name}` is running {_work_of(thread)}: workers won't have it, and a lock that it holds "
            "at a fork stays locked in them; start it in an `after_fork` hook, or stop it in `before_fork`"
        )


def _work_of(thread: threading.Thread) -> str:
    target = getattr(thread, "_target", None) or getattr(thread, "function", None)
    if target is None:
        kind = type(thread)
        return f"`{kind.__module__}.{kind.__qualname__}`"
    name = getattr(target, "__qualname__", type(target).__qualname__)
    return f"`{getattr(target, '__module__', '?')}.{name}`"


def _other_threads() -> Iterator[str]:
    known = {thread.native_id for thread in threading.enumerate()}
    names: list[str] = []
    for task in os.listdir("/proc/self/task"):
        if int(task) in known:
            continue
        try:
            with open(f"/proc/self/task/{task}/comm") as file:
                names.append(file.read().strip())
        except OSError:
            continue  # it has ended meanwhile
    if not names:
        return
    number = f"{len(names)} threads" if len(names) > 1 else "a thread"
    suspects = list(_thread_starters())
    if suspects:
        culprit = "probably by " + " or ".join(who for who, _ in suspects)
        remedy = "; ".join(remedy for _, remedy in suspects)
    else:
        culprit = "by a library outside Python"
        remedy = "import it in the jobs that use it, or in an `after_fork` hook"
    yield (
        f"{number} named {', '.join(f'`{name}`' for name in sorted(set(names)))} started {culprit}: "
        f"workers won't have them and may wait for them for ever; {remedy}"
    )


def _thread_starters() -> Iterator[tuple[str, str]]:
    files = {area.name.rpartition("/")[2].lower() for area in areas.of_this_process() if area.inode}
    for part, who, remedy in _THREAD_STARTERS:
        if any(part in file for file in files):
            yield who, remedy


def _shared_descriptors(before: dict[int, str]) -> Iterator[str]:
    owners: Optional[dict[int, str]] = None
    for descriptor, target in sorted(open_descriptors().items()):
        if before.get(descriptor) == target:
            continue
        if target == "anon_inode:[eventpoll]":
            yield (
                f"an event loop (epoll, descriptor {descriptor}) is open: workers would take each other's events; "
                + _REMEDY
            )
        elif target.startswith("socket:"):
            if owners is None:
                owners = _socket_owners()
            holder = owners.get(descriptor)
            held = f", held by `{holder}`," if holder else ""
            yield (
                f"socket {descriptor} {_ends_of(descriptor)}{held} is open: all workers would talk over it at once; "
                + _REMEDY
            )


def _ends_of(descriptor: int) -> str:
    """Where a socket leads, as far as it can be told."""
    with socket.socket(fileno=os.dup(descriptor)) as copy:
        try:
            peer = copy.getpeername()
        except OSError:
            return f"bound to {_address(copy.getsockname())}"
        return f"to {_address(peer)}"


def _address(address: Any) -> str:
    if isinstance(address, tuple) and len(address) >= 2:
        host, port = address[0], address[1]
        service = f" ({_SERVICES[port]}?)" if port in _SERVICES else ""
        return f"[{host}]:{port}{service}" if ":" in str(host) else f"{host}:{port}{service}"
    if isinstance(address, bytes):
        return "@" + address[1:].decode(errors="replace")
    return str(address) or "an unnamed peer"


def _socket_owners() -> dict[int, str]:
    """The class of the object that holds each Python socket, where there is one."""
    owners: dict[int, str] = {}
    for each in gc.get_objects():
        if isinstance(each, socket.socket) and each.fileno() >= 0:
            owner = _owner_of(each)
            if owner is not None:
                owners[each.fileno()] = owner
    return owners


def _owner_of(held: Any) -> Optional[str]:
    for referrer in gc.get_referrers(held):
        # Before Python 3.11 an instance refers to its attributes through its `__dict__`.
        for owner in gc.get_referrers(referrer) if type(referrer) is dict else [referrer]:
            kind = type(owner)
            if kind.__module__ not in ("builtins", __name__):
                return f"{kind.__module__}.{kind.__qualname__}"
    return None

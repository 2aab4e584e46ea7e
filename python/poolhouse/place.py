"""Where the broker is when the program does not say: the same place as for the command `pool`.

`POOL_BROKER`; `broker.url` of the file that `POOL_CONFIG` names, or of `pool.toml` in the current directory or above it, or of
`/etc/pool/pool.toml`; else `pool.db` in a state directory, as docs/configuration.md says.
"""

from __future__ import annotations

import importlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Optional

from poolhouse.duration import milliseconds
from poolhouse.errors import PoolhouseError

_PROJECT_FILE = "pool.toml"
_SERVICE_DIRECTORY = "/etc/pool"
_SERVICE_STATE = "/var/lib/pool"
#: Those whose jobs are in the embedded broker if nothing else is said.
_OWN_RUNTIMES = ("python", "command", "native")


@dataclass(frozen=True)
class Place:
    """A broker's URL, and what the configuration says of it."""

    url: str
    fsync: Optional[bool] = None
    result_ttl_ms: Optional[int] = None
    max_payload: Optional[int] = None


def find() -> Place:
    """Looks for it. Raises `PoolhouseError` with what can be done."""
    file = _config_file()
    settings = _settings(file) if file is not None else {}
    broker = settings.get("broker", {})
    url = os.environ.get("POOL_BROKER") or broker.get("url")
    if not url:
        runtime = os.environ.get("POOL_RUNTIME") or settings.get("app", {}).get("runtime", "python")
        if runtime not in _OWN_RUNTIMES:
            raise PoolhouseError(f"the runtime is `{runtime}`, which has a default broker of its own: name the broker")
        url = f"sqlite:{_state_directory(file) / 'pool.db'}"
    elif not os.environ.get("POOL_BROKER") and file is not None:
        url = _relative_to(file.parent, str(url))
    fsync, ttl, payload = broker.get("fsync"), broker.get("result_ttl"), broker.get("max_payload")
    return Place(
        str(url),
        fsync if isinstance(fsync, bool) else None,
        None if ttl is None else milliseconds(ttl, f"`broker.result_ttl` in `{file}`"),
        None if payload is None else _size(payload),
    )


def path_of(url: str) -> str:
    """The file that a URL `sqlite:PATH` names."""
    path = url[len("sqlite:") :]
    return os.path.expanduser(path[2:] if path.startswith("//") else path)


def shown(url: str) -> str:
    """A URL for messages: without user, password and options."""
    scheme, mark, rest = url.partition("://")
    return f"{scheme}{mark}{rest.rpartition('@')[2].partition('?')[0]}"


def _config_file() -> Optional[Path]:
    named = os.environ.get("POOL_CONFIG")
    if named:
        return Path(os.path.abspath(os.path.expanduser(named))) if named != os.devnull else None
    here = Path.cwd()
    places = [directory / _PROJECT_FILE for directory in (here, *here.parents)]
    return next((file for file in [*places, Path(_SERVICE_DIRECTORY, _PROJECT_FILE)] if file.is_file()), None)


def _settings(file: Path) -> Dict[str, Dict[str, Any]]:
    """The tables of the file; none where it says nothing of brokers, so that no reader of TOML is needed."""
    try:
        text = file.read_text(encoding="utf-8")
        says_nothing = "broker" not in text and "runtime" not in text
        settings = {} if says_nothing else _toml_reader(file).loads(text)
    except (OSError, ValueError) as error:
        raise PoolhouseError(f"cannot read `{file}`: {error}") from None
    return {name: table for name, table in settings.items() if isinstance(table, dict)}


def _toml_reader(file: Path) -> Any:
    for name in ("tomllib", "tomli"):  # the first one since Python 3.11
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError:
            pass
    raise PoolhouseError(
        f"`{file}` may say where the broker is, and this Python can't read TOML; name the broker, as "
        'Pool("sqlite:PATH"), or install `tomli`'
    )


def _relative_to(directory: Path, url: str) -> str:
    """A path in the file is relative to the file."""
    if not url.startswith("sqlite:"):
        return url
    return f"sqlite:{directory / path_of(url)}"


def _state_directory(file: Optional[Path]) -> Path:
    """Source: `src/config/load/places.rs`."""
    given = _directory("STATE_DIRECTORY")
    if given is not None:
        return given
    if file is not None and str(file.parent) == _SERVICE_DIRECTORY and file.suffix == ".toml":
        return Path(_SERVICE_STATE) if file.name == _PROJECT_FILE else Path(_SERVICE_STATE, file.stem)
    home = _directory("XDG_STATE_HOME")
    if home is None:
        user = _directory("HOME")
        home = user / ".local/state" if user is not None else None
    if home is None:
        raise PoolhouseError("no place for the broker's file: name one, as Pool(\"sqlite:PATH\") or in POOL_BROKER")
    return home / "pool" / (_project(file) if file is not None else "")


def _project(file: Path) -> str:
    """A name for the directory of a project: two of the same name are two."""
    if file.name != _PROJECT_FILE:
        return ""
    total = 0x811C9DC5  # FNV-1a, 32 bits
    for byte in str(file.parent).encode(errors="replace"):
        total = (total ^ byte) * 0x01000193 & 0xFFFFFFFF
    return f"{file.parent.name}-{total:08x}"


def _size(size: Any) -> Optional[int]:
    """A number of bytes, also as "512K", "4MiB" (powers of 1024) or "4MB" (powers of 1000)."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(i?b?)", str(size).strip().lower())
    if match is None:
        return None
    power = "kmgt".index(match[2]) + 1 if match[2] else 0
    return int(float(match[1]) * (1000 if match[3] == "b" else 1024) ** power)


def _directory(variable: str) -> Optional[Path]:
    """The absolute directory that a variable names; of several, the first."""
    first = os.environ.get(variable, "").split(":")[0]
    return Path(first) if os.path.isabs(first) else None

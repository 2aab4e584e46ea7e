"""Packages that a dialect needs and the user's interpreter may lack."""

from __future__ import annotations

import importlib
import importlib.util
import sys


class PackageMissing(Exception):
    """The interpreter lacks the package whose jobs it is to run; the message is for the user."""


def set_up(package: str, module: str) -> None:
    """Imports a module of a dialect, which needs this package. Raises `PackageMissing`."""
    if importlib.util.find_spec(package) is None:
        raise PackageMissing(
            f"`{sys.executable}` has no package `{package}`; name the interpreter of the virtual environment that has "
            "it (`--python`, `app.python`)"
        )
    importlib.import_module(module)

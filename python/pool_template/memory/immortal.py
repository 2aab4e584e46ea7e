"""Makes the preloaded objects immortal, so that looking at one writes nothing.

A worker that reads a shared object writes its reference count, and the kernel copies the page. Since CPython 3.12
(PEP 683) an object whose count is at least 2**31 is immortal: its count stays as it is, and it is never freed.
Sources, in CPython 3.12 to 3.14: Include/object.h (since 3.14 Include/refcount.h), `_Py_IsImmortal`, `Py_INCREF` and
`Py_DECREF`: a decrement leaves counts alone whose low 32 bits are 2**31 or more, an increment those that are exactly
2**32 - 1 (3.12, 3.13), or 3 * 2**30 or more (3.14). They are never changed in place, since Py_REFCNT(x) == 1 is false.
Since 3.14 bit 48 says the same to the interpreter's loop (Include/internal/pycore_stackref.h, Objects/object.c).
Python/gc.c (3.12: Modules/gcmodule.c), `update_refs`: the collector puts them aside.
"""

from __future__ import annotations

import gc
import sys
import sysconfig
import time
import types
import weakref
from sys import getrefcount
from typing import Any, Iterable, Iterator, NamedTuple, Optional

from pool_template.memory.areas import PAGE
from pool_template.memory.huge_pages import ctypes  # None where there is none

#: The count of an immortal object, and the lowest that makes one. Since 3.14 with room below: a function that runs now
#: counts down what it refers to without a look (`PyStackRef_CLOSE`).
_COUNT, _LOWEST = 0xFFFF_FFFF if sys.version_info < (3, 14) else 1 << 48 | 0xD000_0000, 0x8000_0000
#: No address lies above it. Source: Linux, Documentation/arch/x86/x86_64/mm.rst (47 bits), arm64/memory.rst (48 bits).
_ADDRESS_SPACE = 1 << 48
#: So many objects are looked at together, and longer ones alone, so that the lists of them are small.
_TOGETHER = 1000
#: What is done with objects of a type. None is marked; none that has weak references; what is in them is marked, too.
_LEAVE, _ASK, _LOOK, _ARRAY = 1, 2, 4, 8
_HAVE_GC = 1 << 14  # `Py_TPFLAGS_HAVE_GC`
#: Seldom deleted, and often looked at: weak references to them are no reason to leave them alone.
_CODE = (type, types.FunctionType, types.BuiltinFunctionType, types.ModuleType, types.CodeType)
#: Left alone. Weak references since 3.14: a collection takes what is immortal out of its lists (`update_refs`), and
#: crashes when it looks there for that of an object which ends (`handle_weakrefs`).
_WEAK = (weakref.ref, weakref.ProxyType, weakref.CallableProxyType) if sys.version_info >= (3, 14) else ()
_ENDING = (types.FrameType, memoryview, *_WEAK)
#: Read past metaclasses, which are the application's code.
_mro, _dict, _name, _module, _flags, _weak_offset = (
    type.__dict__[f"__{name}__"].__get__ for name in ("mro", "dict", "name", "module", "flags", "weakrefoffset")
)


class Report(NamedTuple):
    """What was done, or why nothing was."""

    immortal_objects: int = 0
    #: Of the pages with their counts: what a worker would copy that looks at all of them.
    immortal_bytes: int = 0
    immortal_s: float = 0.0
    immortal_skipped: Optional[str] = None


def make(is_wanted: bool) -> Report:
    """Marks what the collector tracks, and what can be reached from there. To be called after a collection."""
    if reason := _why_not() if is_wanted else "app.immortal is off":
        return Report(immortal_skipped=reason)
    began, was_enabled = time.monotonic(), gc.isenabled()
    gc.unfreeze()  # what the application froze by itself
    gc.disable()
    tracked, marking = gc.get_objects(), _Marking()  # in this order: it is not among what is marked
    marking.mark_all(tracked)
    for array in marking.arrays:  # which grows meanwhile
        if array.dtype.kind == "O":  # the collector knows nothing of the objects in it
            marking.mark_all(array.ravel("K"))
    if was_enabled:
        gc.enable()
    return Report(marking.count, len(marking.pages) * PAGE, time.monotonic() - began)


def _why_not() -> Optional[str]:
    if sys.implementation.name != "cpython" or sys.version_info < (3, 12):
        return "CPython has immortal objects since 3.12"
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        return "this is a free-threaded build of Python"
    if hasattr(sys, "gettotalrefcount") or hasattr(sys, "getobjects"):
        return "this is a debug build of Python"
    if ctypes is None:
        return "this Python has no ctypes module"
    is_known = sys.maxsize == 2**63 - 1 and sys.byteorder == "little" and object.__basicsize__ == 16
    probe, read = object(), ctypes.c_uint64.from_address
    before, more, none = read(id(probe)).value, [probe] * 10, read(id(None)).value
    counts = read(id(probe)).value - before == len(more) and none & 0xFFFF_FFFF >= _LOWEST
    if not is_known or not counts or none >> 48 & 1 != _COUNT >> 48:
        return "this build of Python lays out objects in a way that is not known here"
    return None


class _Marking:
    def __init__(self) -> None:
        self.count, self.pages, self.arrays, self._array_ids = 0, set(), [], set()  # type: ignore[var-annotated]
        self._memory = memoryview((ctypes.c_ubyte * _ADDRESS_SPACE).from_address(0)).cast("B").cast("Q")
        self._verdicts: dict[int, int] = {}  # by the type's id: a metaclass may forbid hashes

    def mark_all(self, roots: Any) -> None:
        """Marks these, and what can be reached from them: a list or an array."""
        for begin in range(0, len(roots), _TOGETHER):
            found = list(roots[begin : begin + _TOGETHER])
            self._mark(found)
            # A frame that runs may be our own, and hold these very lists.
            found = [each for each in found if type(each) is not types.FrameType]
            while found:
                found = [inner for some in _referents(found) for inner in self._mark(some)]

    def _mark(self, found: Iterable[Any]) -> list[Any]:
        """Makes these immortal. Returns those that were not, and hold others, and have no turn of their own."""
        memory, verdicts, pages, inner = self._memory, self._verdicts, self.pages, []
        for each in found:
            if getrefcount(each) >= _LOWEST:
                continue
            if (verdict := verdicts.get(id(type(each)))) is None:
                verdict = verdicts[id(type(each))] = _verdict(type(each))
            if not verdict & _LEAVE and not (verdict & _ASK and weakref.getweakrefcount(each)):
                memory[id(each) >> 3] = _COUNT
                pages.add(id(each) // PAGE)
                self.count += 1
                if verdict & _LOOK and not gc.is_tracked(each):
                    inner.append(each)
            elif verdict & _ARRAY and id(each) not in self._array_ids:
                self._array_ids.add(id(each))
                self.arrays.append(each)
        return inner


def _referents(found: list[Any]) -> Iterator[Iterable[Any]]:
    """What these refer to, without a copy of what is long."""
    long = {id(each): each for each in found if (type(each) is list or type(each) is tuple) and len(each) > _TOGETHER}
    yield from long.values()
    yield gc.get_referents(*[each for each in found if id(each) not in long])


def _verdict(kind: type) -> int:
    """What is done with objects of this type.

    Left alone is what somebody expects to end. Frames. What has a finalizer (`tp_finalize`, in Python `__del__`: files,
    sockets, generators). What has weak references, since that is how its end is watched. A memoryview, or its bytearray
    could not grow (`_canresize`). NumPy's arrays, or they could not be resized (`PyArray_Resize_int`).
    """
    for base in (bases := _mro(kind)):
        if any(base is each for each in _ENDING) or "__del__" in _dict(base):
            return _LEAVE
        if _name(base) == "ndarray" and _module(base) == "numpy":
            return _LEAVE | _ARRAY if base is kind else _LEAVE
    is_code = any(base is code for base in bases for code in _CODE)
    ask = 0 if is_code or not _weak_offset(kind) else _ASK
    return ask | _LOOK if _flags(kind) & _HAVE_GC else ask

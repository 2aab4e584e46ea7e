"""Calls C functions one after the other, with no Python in between.

Between two calls by `ctypes` Python runs, and writes to its objects. What has to find memory as it was left, such as
the copy of it and what is done with the copy, is one chain: each function has a context of its own, and each context
goes on to the next one. Source: `makecontext(3)`.
"""

from __future__ import annotations

import mmap
import platform
import signal

from pool_template.huge_pages import ctypes

#: A context takes less than 1 KiB on x86-64; of a stack, a function that copies memory and a system call take little.
_CONTEXT, _STACK = 4096, 65_536
#: Where it has its successor, its stack and that stack's size. Source: glibc, sysdeps/unix/sysv/linux/x86/sys/ucontext.h.
_SUCCESSOR, _STACK_AT, _STACK_SIZE = 8, 16, 32

#: One call: the function's name, and what it is given, whole numbers and addresses.
Call = tuple[str, tuple[int, ...]]


class Unsupported(Exception):
    """There are no chains here; the text says why."""


class Chain:
    """Room for chains of up to `length` functions of the C library."""

    def __init__(self, length: int) -> None:
        if ctypes is None:
            raise Unsupported("this Python has no ctypes module")
        if platform.machine() != "x86_64":
            raise Unsupported(f"not known for this kind of processor ({platform.machine()})")
        # Not `CDLL`, which gives the interpreter's lock up and takes it again: that is Python, too.
        self._libc = ctypes.PyDLL(None)
        if not all(hasattr(self._libc, name) for name in ("getcontext", "makecontext", "swapcontext")):
            raise Unsupported("the C library has no contexts")
        self._length = length
        #: Shared memory, so that no chain ever moves it.
        self._room = mmap.mmap(-1, _CONTEXT + length * (_CONTEXT + _STACK))

    def run(self, *calls: Call) -> None:
        """Makes the calls. What they return is lost. No signal is handled meanwhile."""
        first = ctypes.c_char.from_buffer(self._room)
        back = ctypes.addressof(first)
        contexts = [back + _CONTEXT * (at + 1) for at in range(len(calls))]
        stacks = back + _CONTEXT * (self._length + 1)
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            for at, (context, (name, arguments)) in enumerate(zip(contexts, calls)):
                self._libc.getcontext(ctypes.c_void_p(context))
                successor = contexts[at + 1] if at + 1 < len(calls) else back
                for where, value in ((_SUCCESSOR, successor), (_STACK_AT, stacks + at * _STACK), (_STACK_SIZE, _STACK)):
                    ctypes.c_size_t.from_address(context + where).value = value
                function = ctypes.cast(getattr(self._libc, name), ctypes.c_void_p)
                passed = [ctypes.c_size_t(argument) for argument in arguments]
                self._libc.makecontext(ctypes.c_void_p(context), function, len(passed), *passed)
            self._libc.swapcontext(ctypes.c_void_p(back), ctypes.c_void_p(contexts[0]))
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)

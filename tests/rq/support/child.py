"""Child processes that don't outlive the suite, however it ends."""

import ctypes
import signal
import subprocess

PR_SET_PDEATHSIG = 1
libc = ctypes.CDLL(None)


def start(command, on_death=signal.SIGKILL, **options):
    """As `subprocess.Popen`; the kernel sends the process this signal when this one dies."""
    return subprocess.Popen(command, preexec_fn=lambda: libc.prctl(PR_SET_PDEATHSIG, on_death), **options)

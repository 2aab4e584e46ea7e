"""Child processes that don't outlive the suite, however it ends."""

import ctypes
import signal
import subprocess

PR_SET_PDEATHSIG = 1
libc = ctypes.CDLL(None)


def start(command, **options):
    """As `subprocess.Popen`; the kernel kills the process when this one dies."""
    return subprocess.Popen(command, preexec_fn=lambda: libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL), **options)

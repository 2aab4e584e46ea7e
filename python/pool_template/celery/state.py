"""What a node remembers from one start to the next: `celery worker --statedb`."""

from __future__ import annotations

import os
import sys
from types import SimpleNamespace
from typing import Any, Optional

from celery.worker import state
from celery.worker.state import Persistent
from kombu.clocks import LamportClock

#: What the supervisor writes stands beside what Celery's own worker wrote.
_OWN = ".pool"
#: What databases of Python add to the name of a file. Source: `dbm` of the standard library.
_SUFFIXES = ("", ".db", ".dat")


def remembered(app: Any, path: Optional[str]) -> Optional[dict[str, Any]]:
    """Where the supervisor keeps it; and what Celery's worker left, if the supervisor has kept nothing yet."""
    path = path or app.conf.worker_state_db
    if not path:
        return None
    path = os.path.abspath(path)
    found = {"file": path + _OWN, "revoked": [], "clock": 0}
    if os.path.exists(path + _OWN) or not any(os.path.exists(path + suffix) for suffix in _SUFFIXES):
        return found
    clock = LamportClock()
    revoked = state.LimitedSet(maxlen=state.REVOKES_MAX, expires=state.REVOKE_EXPIRES)
    kept = SimpleNamespace(revoked=revoked, merge_revoked=revoked.update)
    try:
        Persistent(kept, path, clock).close()
    except Exception as error:
        print(f"pool: {path}: what was revoked can't be read: {error!r}", file=sys.stderr)
        return found
    return {**found, "revoked": [str(each) for each in revoked], "clock": clock.value}

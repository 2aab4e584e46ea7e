"""Where the program `pool` is."""

from __future__ import annotations

import os
import shutil
import sysconfig
from typing import Optional


def find_program() -> Optional[str]:
    """Its path: beside this Python, where a wheel puts it, else on `PATH`; None: it is not installed."""
    return shutil.which(os.path.join(sysconfig.get_path("scripts"), "pool")) or shutil.which("pool")

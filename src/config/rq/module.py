"""Prints what a module of RQ's settings says, as JSON. Run by `python -c`, in the application's directory.

Arguments: the directory, the module, the directories of `--path`. What the module prints goes to standard error.
"""

import importlib
import json
import os
import signal
import sys

signal.alarm(90)  # who started this waits for less, unless it was killed
out = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
directory, module, *path = sys.argv[1:]
sys.path[:] = [directory, *sys.path, *path]
settings = vars(importlib.import_module(module))
json.dump({name: value for name, value in settings.items() if name == name.upper()}, out, default=str)
out.close()

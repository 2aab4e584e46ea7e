"""Starts the template: `python -c BOOT`, with its modules as one JSON object {name: source} on descriptor 5.

Nothing is unpacked to disk and no path of the user's is touched. The sources stay known to the loader,
so tracebacks show their lines.
"""

import json
import os
import sys
from importlib.machinery import ModuleSpec

CONTROL_FD, SOURCES_FD = 3, 5


class Carried(object):
    """Finds and loads the modules that the program carries."""

    def __init__(self, sources):
        self.sources = sources

    def find_spec(self, name, path=None, target=None):
        if name not in self.sources:
            return None
        package = any(other.startswith(name + ".") for other in self.sources)
        spec = ModuleSpec(name, self, is_package=package)
        spec.origin = "<pool>/" + name.replace(".", "/") + ("/__init__.py" if package else ".py")
        return spec

    def create_module(self, spec):
        return None

    def exec_module(self, module):
        origin = module.__spec__.origin
        module.__file__ = origin
        code = compile(self.sources[module.__name__], origin, "exec", dont_inherit=True)
        exec(code, module.__dict__)

    def get_source(self, name):
        return self.sources[name]


if sys.version_info < (3, 9):
    error = "%s is Python %d.%d; 3.9 or newer is needed" % ((sys.executable,) + sys.version_info[:2])
    os.write(CONTROL_FD, json.dumps({"type": "failed", "error": error}).encode())
    sys.exit(1)

if os.environ.get("LD_BIND_NOW") == "pool":  # asked for this process, not for the programs that jobs start
    del os.environ["LD_BIND_NOW"]

with os.fdopen(SOURCES_FD, "rb") as file:
    sys.meta_path.insert(0, Carried(json.loads(file.read().decode("utf-8"))))

from pool_template.process import at_fork  # noqa: E402, F401, I001 (before anything that it looks after)
from pool_template.memory import arenas  # noqa: E402

arenas.reserve()
from pool_template.main import main  # noqa: E402

main()

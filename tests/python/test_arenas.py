"""Where Python's small objects come to lie."""

from __future__ import annotations

import os
import subprocess
import unittest

from supervisor import CARRIED, PYTHON

PRELUDE = """
import ctypes, mmap, sys
sys.path.insert(0, sys.argv[1])
from pool_template.memory import arenas, huge_pages
def resident():
    with open('/proc/self/statm') as file:
        return int(file.read().split()[1]) * 4096
def load():
    made, libraries = [None] * 60_000, []
    for at in range(len(made)):
        made[at] = bytes(200)
        if at % 3000 == 0:
            libraries.append(mmap.mmap(-1, 300 << 10, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, mmap.PROT_READ))
    return made, libraries
"""


def outcome(script: str, **environment: str) -> list[str]:
    """The words that a Python prints which runs this script."""
    command = [PYTHON, "-I", "-c", PRELUDE + script, str(CARRIED)]
    if environment:
        command.remove("-I")
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env={**os.environ, **environment})
    if done.returncode:
        raise AssertionError(done.stderr)
    return done.stdout.split()


class Arenas(unittest.TestCase):
    def test_what_is_loaded_between_libraries_can_be_in_huge_pages(self) -> None:
        script = "loaded = load()\narenas.release()\nprint(len(list(huge_pages._blocks())))\n"
        self.assertGreater(int(*outcome("arenas.reserve()\n" + script)), int(*outcome(script)) + 3)

    def test_what_is_not_used_is_given_back(self) -> None:
        script = """
before = resident()
arenas.reserve()
reserved = resident()
arenas.release()
print(reserved - before, resident() - before)
"""
        taken, kept = map(int, outcome(script))
        self.assertGreater(taken, 60 << 20)
        self.assertLess(kept, 8 << 20)

    def test_an_interpreter_without_arenas_does_without(self) -> None:
        script = "arenas.reserve()\nprint(len(arenas._held))\n"
        self.assertNotEqual(outcome(script), ["0"])
        self.assertEqual(outcome(script, PYTHONMALLOC="malloc"), ["0"])


if __name__ == "__main__":
    unittest.main()

"""The client is typed, and an application sees the types that it expects."""

import os
import subprocess
import sys
import unittest

from kit import ROOT


class Types(unittest.TestCase):
    """Checked by mypy as `pyproject.toml` says."""

    def test_the_client_and_an_application_of_it_are_typed(self):
        command = [sys.executable, "-m", "mypy", "--cache-dir", os.devnull, "python/poolhouse", "tests/client/typed.py"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)


if __name__ == "__main__":
    unittest.main()

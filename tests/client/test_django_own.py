"""Django's own tests of its task backends, with the pool's in place of Django's, over each broker.

They are Django's, of the version that is installed: `DJANGO=… scripts/client-venv` puts them beside it.
"""

import os
import re
import shutil
import subprocess
import sys
import unittest
from pathlib import Path

from kit import POOL, ROOT, RedisKit, SqliteKit

OWN = Path(__file__).resolve().parent / "django_own"
#: `tests/tasks` of Django's source.
DJANGOS = Path(sys.prefix) / "django-tests"

_IN_PLACE = {
    "django.tasks.backends.dummy import DummyBackend": "backends import Kept as DummyBackend",
    "django.tasks.backends.dummy.DummyBackend": "backends.Kept",
    "django.tasks.backends.immediate import ImmediateBackend": "backends import Waiting as ImmediateBackend",
    "django.tasks.backends.immediate.ImmediateBackend": "backends.Waiting",
}
#: The exception is logged in the worker.
_LOGGED = r"assertIn\(message, captured_logs"


@unittest.skipUnless(DJANGOS.is_dir(), "Django's tests are not there")
class Rules:
    """Run over each broker."""

    def setUp(self):
        kept, served = self.make_kit(), self.make_kit()
        self.addCleanup(kept.stop)
        self.addCleanup(served.stop)
        tests = served.directory / "site"
        shutil.copytree(DJANGOS, tests / "tasks")
        for file in (tests / "tasks").glob("test_*.py"):
            text = file.read_text()
            for theirs, ours in _IN_PLACE.items():
                text = text.replace(theirs, ours)
            for line in self.lines_not_ours:
                text = re.sub(rf"^ +self\.{line}.*\n", "", text, flags=re.MULTILINE)
            file.write_text(text)
        environment = {
            "DJANGO_SETTINGS_MODULE": "own_settings",
            "PYTHONPATH": f"{ROOT / 'python'}:{OWN}:{tests}",
            "PATH": f"{Path(POOL).parent}:{os.environ['PATH']}",
        }
        served.environment.update(environment)
        served.run([sys.executable, "-m", "django", "pool", "--max-workers", "1", "--min-workers", "1"], tests)
        self.environment = {**kept.environment, **environment, "OWN_SERVED_BROKER": served.url}

    def test_django_s_own_tests_pass(self):
        done = subprocess.run(
            [sys.executable, OWN / "run.py"], env=self.environment, capture_output=True, text=True, timeout=120
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertGreater(int(re.search(r"^Ran (\d+) tests", done.stderr, re.MULTILINE)[1]), 70)
        self.assertGreater(int(re.search(r"^Ran (\d+) tests", done.stderr, re.MULTILINE)[1]), 70)


class OnSqlite(Rules, unittest.TestCase):
    make_kit = SqliteKit
    lines_not_ours = (_LOGGED,)


class OnRedis(Rules, unittest.TestCase):
    make_kit = RedisKit
    lines_not_ours = (_LOGGED,)


if __name__ == "__main__":
    unittest.main()

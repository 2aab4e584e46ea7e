"""What the README and the pages of the client print works as it is printed.

Each block of Python that begins with a file's name in a comment is that file. Of the blocks of shell, what is for the first
shell is started there, and what is for the second one prints what stands behind its comment.

POOL_TEST_INSTALLED names a virtual environment with the wheel; without it, this tree is as if it were installed.
"""

import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
INSTALLED = os.environ.get("POOL_TEST_INSTALLED")
PATIENCE_S = 60

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"# ([\w./]+\.(?:py|toml))\b")


def blocks(page, heading):
    """The blocks of a section: language and text."""
    lines = (ROOT / page).read_text().splitlines(keepends=True)
    section = lines[lines.index(f"{heading}\n") + 1 :]
    in_block = False
    for at, line in enumerate(section):
        in_block ^= line.startswith("```")
        if not in_block and re.match("#{1,3} ", line):
            section = section[:at]
            break
    return _BLOCK.findall("".join(section))


class Readme(unittest.TestCase):
    def setUp(self):
        directory = tempfile.mkdtemp(prefix="pool-readme-")
        self.addCleanup(shutil.rmtree, directory, ignore_errors=True)
        self.before = ("", "")
        self.home, self.directory = Path(directory), Path(directory, "shop")
        self.directory.mkdir()
        (self.home / "log").touch()
        commands = self.home / "bin"
        commands.mkdir()
        self.environment = {"HOME": directory, "PATH": f"{commands}:{os.environ['PATH']}"}
        if INSTALLED:
            self.environment["PATH"] = f"{INSTALLED}/bin:{self.environment['PATH']}"
        else:
            program = os.environ.get("POOL_BIN") or Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"), "debug", "pool")
            (commands / "pool").symlink_to(program)
            for name in ("python", "python3"):
                (commands / name).symlink_to(sys.executable)
            self.environment.update(PYTHONPATH=f"{ROOT / 'python'}:{':'.join(_site_packages())}")

    def write(self, text):
        """Makes the file that a block shows, or adds to it if the comment says so."""
        name = _FILE.match(text)
        path = self.directory / name[1]
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "a" if ": add\n" in text else "w") as file:
            file.write(text)

    def start(self, command):
        """What is typed in the first shell; waits until it serves."""
        log = open(self.home / "log", "w+")
        self.addCleanup(log.close)
        process = subprocess.Popen(
            command, shell=True, executable="/bin/bash", cwd=self.directory, env=self.environment,
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
        self.addCleanup(self.stop, process)
        deadline = time.monotonic() + PATIENCE_S
        while "app loaded" not in (said := (self.home / "log").read_text()):
            if process.poll() is not None or time.monotonic() > deadline:
                self.fail(f"`{command}` does not serve: {said}")
            time.sleep(0.01)

    def stop(self, process):
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def typed(self, command):
        """What a command of the second shell prints."""
        done = subprocess.run(
            command, shell=True, executable="/bin/bash", cwd=self.directory, env=self.environment,
            capture_output=True, text=True, timeout=PATIENCE_S,
        )  # fmt: skip
        self.assertEqual(done.returncode, 0, f"{command}: {done.stderr}{(self.home / 'log').read_text()}")
        return done.stdout.strip()

    def follow(self, page, heading):
        """Does what a section says; how many commands printed what they should."""
        printed = 0
        for language, text in blocks(page, heading):
            if language != "sh":
                self.write(text.replace(*self.before))
                continue
            for line in text.splitlines():
                command, _, remark = line.partition("  #")
                if "first shell" in remark:
                    self.start(f"exec {command.strip()}")
                elif "second shell" in remark:
                    self.assertEqual(self.typed(command), remark.partition("second shell: ")[2])
                    printed += 1
        return printed

    def test_python_functions(self):
        self.assertEqual(self.follow("README.md", "### Python functions"), 2)

    def test_any_program(self):
        self.assertEqual(self.follow("README.md", "### Any program"), 1)

    def start_django_project(self):
        """A new project, `shop`, with tasks."""
        version = self.typed("python -c 'import django; print(django.VERSION[0])' || true")
        if not version:
            self.skipTest("there is no Django")
        self.typed("python -m django startproject shop .")
        if int(version) < 6:  # which has tasks in another package
            self.before = ("django.tasks", "django_tasks")
            with open(self.directory / "shop/settings.py", "a") as file:
                file.write("\nINSTALLED_APPS += ['django_tasks']\n")

    def test_django_tasks(self):
        self.start_django_project()
        self.assertEqual(self.follow("README.md", "### Django tasks"), 1)
        self.wait_for_a_result()

    def wait_for_a_result(self):
        finished = "SELECT count(*) FROM finished"
        (file,) = self.home.glob(".local/state/pool/**/pool.db")
        deadline = time.monotonic() + PATIENCE_S
        while sqlite3.connect(file).execute(finished).fetchone() != (1,):
            self.assertLess(time.monotonic(), deadline, "the task has run")
            time.sleep(0.01)

    def write_django_tasks(self):
        """What the README shows of them."""
        self.start_django_project()
        for language, text in blocks("README.md", "### Django tasks"):
            if language == "python":
                self.write(text.replace(*self.before))

    def test_django_tasks_without_the_command(self):
        self.write_django_tasks()
        ((_, command),) = blocks("docs/django.md", "## The workers")
        self.start(f"export {command.replace(' pool ', '; exec pool ', 1)}")
        self.typed("python manage.py shell -v 0 -c 'from shop.tasks import resize; resize.enqueue(\"a.png\")'")
        self.wait_for_a_result()

    def test_tests_of_django_tasks(self):
        self.write_django_tasks()
        commands = []
        for language, text in blocks("docs/django.md", "## Tests"):
            if language == "python":
                self.write(text.replace(*self.before))
            else:
                commands += text.splitlines()
        self.assertEqual(len(commands), 2)
        for command in commands:
            self.assertIn("Found 1 test(s).", self.typed(command))
        self.assertEqual(list(self.home.glob(".local/state/pool")), [], "no broker is opened")


def _site_packages():
    return [entry for entry in sys.path if entry.endswith("site-packages")]


if __name__ == "__main__":
    unittest.main()

"""A broker and a real pool on it, with the application of `app/`."""

import atexit
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
APP = Path(__file__).resolve().parent / "app"
POOL = os.environ.get("POOL_BIN") or str(Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"), "debug", "pool"))
#: How long anything may take before a test fails: far longer than it ever does.
PATIENCE_S = 60

sys.path[:0] = [str(ROOT / "python"), str(ROOT / "tests/rq")]


def until(condition, what):
    """Waits for something that nobody tells of."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        answer = condition()
        if answer:
            return answer
        time.sleep(0.01)
    raise AssertionError(f"not within {PATIENCE_S} s: {what}")


class Kit:
    """A broker in a directory of its own. `start` runs a pool on it."""

    runtime = "python"
    more = ()

    def __init__(self):
        self.directory = Path(tempfile.mkdtemp(prefix="pool-client-"))
        self.url = self.make_broker()
        self.traces = self.directory / "traces-of-jobs"
        self.traces.mkdir()
        self.environment = {
            **os.environ,
            "POOL_BROKER": self.url,
            "POOL_SOCKET": str(self.directory / "socket"),
            "POOL_CONFIG": os.devnull,
            "PYTHONPATH": f"{ROOT / 'python'}:{APP}",
            "SHOP_TRACES": str(self.traces),
        }
        self._process = None
        self._log = open(self.directory / "log", "ab")
        atexit.register(self.stop)

    def make_broker(self):
        raise NotImplementedError

    def start(self, *flags):
        """Starts the pool and waits until it has loaded the application."""
        command = [POOL, "run", "--runtime", self.runtime, "--python", sys.executable, "--preload", "shop", *self.more]
        self.run([*command, "--min-workers", "2", "--max-workers", "2", *flags], APP)

    def run(self, command, directory):
        """Starts a command that becomes a pool, and waits until that has loaded the application."""
        self._process = subprocess.Popen(
            command, cwd=directory, env=self.environment, stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log
        )
        until(lambda: self._process.poll() is not None or "app loaded" in self.log(), "the pool loads")
        if self._process.poll() is not None:
            raise AssertionError(self.log())

    def log(self):
        return (self.directory / "log").read_text()

    def cli(self, *arguments, check=True):
        """What the command `pool` prints."""
        done = subprocess.run(
            [POOL, *arguments], env=self.environment, capture_output=True, text=True, timeout=PATIENCE_S
        )
        if check and done.returncode:
            raise AssertionError(f"pool {arguments}: {done.returncode}: {done.stderr}")
        return done.stdout.strip()

    def python(self, text, check=True):
        """What a program of Python prints that has the application at hand."""
        done = subprocess.run(
            [sys.executable, "-c", text], env=self.environment, cwd=APP, capture_output=True, text=True, timeout=PATIENCE_S
        )
        if check and done.returncode:
            raise AssertionError(f"{done.returncode}: {done.stderr}")
        return done.stdout.strip()

    def serve(self, queue):
        """Runs all jobs of a queue, in their order, by a pool of one worker."""
        command = [POOL, "run", "--burst", "--runtime", self.runtime, "--python", sys.executable, "--preload", "shop"]
        command += ["--queue", queue, "--max-workers", "1"]
        environment = {**self.environment, "POOL_SOCKET": str(self.directory / f"socket-{queue}")}
        subprocess.run(
            command,
            cwd=APP,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            check=True,
            timeout=PATIENCE_S,
        )

    def noted(self):
        """What jobs have noted so far."""
        file = self.traces / "traces"
        return file.read_text().split("\n")[:-1] if file.exists() else []

    def release(self, name):
        (self.traces / f"release-{name}").touch()

    def status(self):
        return json.loads(self.cli("status", "--json"))

    def stop(self):
        atexit.unregister(self.stop)
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._log.close()
        shutil.rmtree(self.directory, ignore_errors=True)


class SqliteKit(Kit):
    """The embedded broker."""

    name = "sqlite"

    def make_broker(self):
        return f"sqlite:{self.directory / 'pool.db'}"

    def limit_of(self, id):
        """The limit of a job: its key and its number."""
        return self.rows("SELECT limit_key, limit_max FROM jobs WHERE id = ?", id)[0]

    def is_expired(self, id):
        """Whether the time of a job that nobody has taken is over."""
        return ("1",) in self.rows(
            "SELECT CAST(begin_by < ? AS TEXT) FROM jobs WHERE id = ?", time.time_ns() // 1_000_000, id
        )

    def has_begun(self, id):
        """Whether the supervisor has noted that a job runs."""
        return ("1",) in self.rows("SELECT CAST(begun AS TEXT) FROM running JOIN jobs USING (handle) WHERE id = ?", id)

    def rows(self, query, *values):
        """Reads the file as another tool does."""
        connection = sqlite3.connect(f"file:{self.directory / 'pool.db'}?mode=ro", uri=True)
        try:
            return connection.execute(query, values).fetchall()
        finally:
            connection.close()


class RedisKit(Kit):
    """Redis, with jobs as RQ writes them."""

    name = "redis"
    runtime = "rq"
    more = ("--with-scheduler",)

    def make_broker(self):
        from support.server import RedisServer

        self._server = RedisServer()
        return self._server.url

    def limit_of(self, id):
        """The limit of a job: its key and its number."""
        with self._server.client() as client:
            key, number = client.hmget(f"rq:job:{id}", "rate_limit_key", "rate_limit_concurrency")
        return key.decode(), int(number)

    def is_expired(self, id):
        """Whether the time of a job that nobody has taken is over: Redis forgets it."""
        with self._server.client() as client:
            return not client.exists(f"rq:job:{id}")

    def has_begun(self, id):
        """Whether the supervisor has noted that a job runs: the score of its execution is whole then."""
        with self._server.client() as client:
            executions = client.zrange(f"rq:executions:{id}", 0, -1)
            scores = [client.zscore("rq:wip:default", f"{id}:{execution.decode()}") for execution in executions]
        return any(score is not None and score % 1 == 0 for score in scores)

    def stop(self):
        super().stop()
        self._server.stop()

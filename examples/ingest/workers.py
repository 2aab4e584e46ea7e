"""Who takes the jobs: a pool, Celery's workers, or a pool in their place. Both are up and wait before the clock starts."""

import json
import os
import signal
import socket
import subprocess
import sys

import probe
import events
from servers import until

HERE = os.path.dirname(os.path.abspath(__file__))

_CONFIG = """
socket = {socket}
[broker]
url = {broker}
[app]
runtime = "python"
python = {python}
directory = {here}
preload = ["tasks"]
after_fork = ["sink.connect"]
environment = {{ INGEST_DSN = {dsn} }}
[pools.default]
min_workers = {workers}
max_workers = {workers}
[tasks.{task}]
batch_size = {batch}
"""


_CELERY_CONFIG = """
socket = {socket}
[app]
runtime = "celery"
python = {python}
directory = {here}
[celery]
app = "celery_tasks"
[pools.default]
min_workers = {workers}
max_workers = {workers}
[tasks.insert]
batch_size = {batch}
"""


class Pool:
    """A supervisor with so many workers, each of which gets up to `batch` jobs in one call."""

    def __init__(self, directory, dsn, workers, batch, task="tasks.insert"):
        self._workers = workers
        self._task = task
        self._directory = directory
        self._socket = os.path.join(directory, "pool.sock")
        self._config = os.path.join(directory, "pool.toml")
        values = {
            "socket": self._socket,
            "broker": "sqlite:" + os.path.join(directory, "jobs.db"),
            "python": sys.executable,
            "here": HERE,
            "dsn": dsn,
            "workers": workers,
            "task": task,
            "batch": batch,
        }
        with open(self._config, "w", encoding="utf-8") as file:
            # A JSON string is a TOML string.
            file.write(_CONFIG.format(**{name: json.dumps(value) for name, value in values.items()}))

    def __enter__(self):
        self._log = open(os.path.join(self._directory, "pool.log"), "wb")  # noqa: SIM115 - closed on exit
        self._process = subprocess.Popen([_pool(), "run", "--config", self._config], stderr=self._log)
        try:
            until(self._is_up, "the pool has its workers")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(60)
        finally:
            self._log.close()

    def hold(self, rows):
        """Enqueues a job a row, as any producer would do it, but lets no worker have one yet."""
        self._call("pause")
        self._call("enqueue", self._task, "--jsonl", "-", given=events.lines(rows))

    def start(self):
        """Lets the workers have the jobs."""
        self._call("resume")

    def busy_workers(self):
        """The process ids of those that run jobs at this moment, by what `ps` shows: `status` is renewed 5 times a second."""
        return [pid for pid in probe.below(self._process.pid) if probe.title(pid).endswith(" busy")]

    def has_ended(self, count):
        status = self.status()
        if status["failed"]:
            raise SystemExit(f"error: {status['failed']} jobs failed:\n{self.log()[-5000:]}")
        return status["done"] >= count

    def status(self):
        """What `pool status --json` says of the one pool, asked on the control socket."""
        with socket.socket(socket.AF_UNIX) as control:
            control.connect(self._socket)
            control.sendall(b'{"request":"status"}\n')
            reply = json.loads(control.makefile().readline())
        return reply["snapshot"]["pools"]["default"]

    def processes(self):
        """The supervisor, and its workers with their template."""
        return [self._process.pid], probe.below(self._process.pid)

    def log(self):
        with open(self._log.name, encoding="utf-8", errors="replace") as log:
            return log.read()

    def _is_up(self):
        if self._process.poll() is not None:
            raise SystemExit(f"error: the pool did not start:\n{self.log()}")
        if not os.path.exists(self._socket):
            return False
        states = [process["state"] for process in self.status()["processes"]]
        return states.count("idle") == self._workers

    def _call(self, *arguments, given=None):
        command = [_pool(), *arguments, "--config", self._config]
        subprocess.run(command, check=True, input=given, stdout=subprocess.DEVNULL, text=True)


class Celery:
    """Celery's prefork pool with so many processes and its defaults, on a Redis of ours."""

    def __init__(self, redis, dsn, workers, count_rows):
        self._redis = redis
        self._workers = workers
        self._count_rows = count_rows
        self._environment = dict(os.environ, INGEST_DSN=dsn, INGEST_REDIS=redis.url)

    def __enter__(self):
        os.environ.update(self._environment)
        import celery_tasks

        self._tasks = celery_tasks
        self._process = subprocess.Popen(
            self._command(),
            cwd=HERE,
            env=dict(self._environment, C_FORCE_ROOT="1"),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        until(lambda: self._tasks.app.control.ping(timeout=0.5), "Celery's workers answer")
        return self

    def __exit__(self, *_):
        self._process.terminate()
        self._process.wait(60)

    def _command(self):
        line = [sys.executable, "-m", "celery", "-A", "celery_tasks", "worker", "-P", "prefork", "-c", str(self._workers)]
        return [*line, "--loglevel", "ERROR"]

    def hold(self, rows):
        """Sends a message a row to a queue that nobody reads yet."""
        with self._tasks.app.producer_pool.acquire(block=True) as producer:
            for row in rows:
                self._tasks.insert.apply_async((row,), queue=self._tasks.HELD, producer=producer)

    def start(self):
        """Lets the workers have the messages."""
        with self._redis.client() as client:
            client.rename(self._tasks.HELD, "celery")

    def has_ended(self, count):
        return self._count_rows() >= count

    def processes(self):
        """The main process, and its workers."""
        return [self._process.pid], probe.below(self._process.pid)


class CeleryOnPool(Celery):
    """The same messages of the same producer, run by a pool whose workers get up to `batch` of them in one call."""

    def __init__(self, directory, redis, dsn, workers, batch, count_rows):
        super().__init__(redis, dsn, workers, count_rows)
        self._config = os.path.join(directory, "pool.toml")
        values = {"socket": os.path.join(directory, "pool.sock"), "python": sys.executable, "here": HERE}
        with open(self._config, "w", encoding="utf-8") as file:
            written = {name: json.dumps(value) for name, value in values.items()}
            file.write(_CELERY_CONFIG.format(**written, workers=workers, batch=batch))

    def _command(self):
        return [_pool(), "run", "--config", self._config]


def _pool():
    return os.environ["POOL_BIN"]

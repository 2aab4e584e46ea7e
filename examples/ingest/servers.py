"""A PostgreSQL and a Redis of our own: in a directory that goes with them, stopped by their process ids."""

import contextlib
import glob
import os
import pwd
import signal
import subprocess
import time

import psycopg

import sink

#: What is set besides the defaults. The first three are defaults, too: what a commit promises is what is measured.
SETTINGS = {
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    # A socket in a directory that only its owner and root can enter: no port, and nobody else gets in.
    "listen_addresses": "",
}
_PATIENCE_S = 60


def _binaries():
    places = sorted(glob.glob("/usr/lib/postgresql/*/bin"), key=lambda place: float(place.split("/")[4]))
    return places[-1]


def _owner():
    """PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    user = pwd.getpwnam("postgres")
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


class Postgres:
    """A fresh cluster below `directory`, with its table."""

    def __init__(self, directory):
        self._home = os.path.join(directory, "postgres")
        os.mkdir(self._home, 0o700)
        self._owner = _owner()
        if self._owner:
            os.chmod(directory, 0o711)
            os.chown(self._home, self._owner["user"], self._owner["group"])
        self.dsn = f"host={self._home} user=postgres dbname=postgres"

    def __enter__(self):
        data, binaries = os.path.join(self._home, "data"), _binaries()
        how = dict(self._owner, cwd=self._home, stdout=subprocess.DEVNULL)
        init = [f"{binaries}/initdb", "--pgdata", data, "--username=postgres", "--auth=trust", "--encoding=UTF8", "--no-locale"]
        # The new files may reach the disk when they like; what the server commits later may not.
        subprocess.run([*init, "--no-sync"], check=True, **how)
        settings = dict(SETTINGS, unix_socket_directories=self._home)
        flags = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        with open(os.path.join(self._home, "log"), "wb") as log:
            self._process = subprocess.Popen([f"{binaries}/postgres", "-D", data, *flags], stderr=log, **how)
        try:
            until(self._answers, "PostgreSQL answers")
            with self.connect() as db:
                db.execute(sink.SCHEMA)
                self.version = db.execute("SHOW server_version").fetchone()[0]
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self._process.send_signal(signal.SIGINT)  # "fast": ends its sessions
        self._process.wait(_PATIENCE_S)

    @property
    def pid(self):
        return self._process.pid

    def connect(self):
        return psycopg.connect(self.dsn, autocommit=True)

    def empty(self):
        """An empty table, its counters at the start, and nothing left to write for earlier rows."""
        with self.connect() as db:
            db.execute("TRUNCATE events RESTART IDENTITY")
            db.execute("VACUUM events")
            db.execute("CHECKPOINT")

    def _answers(self):
        if self._process.poll() is not None:
            with open(os.path.join(self._home, "log"), encoding="utf-8", errors="replace") as log:
                raise SystemExit(f"error: PostgreSQL did not start:\n{log.read()}")
        with contextlib.suppress(psycopg.OperationalError), self.connect():
            return True
        return False


class Redis:
    """A server without persistence, below `directory`."""

    def __init__(self, directory):
        self._socket = os.path.join(directory, "redis.sock")
        self.url = f"redis+socket://{self._socket}"  # as Celery writes it

    def __enter__(self):
        flags = ["--port", "0", "--unixsocket", self._socket, "--save", "", "--appendonly", "no"]
        self._process = subprocess.Popen(["redis-server", *flags], stdout=subprocess.DEVNULL)
        until(lambda: os.path.exists(self._socket), "Redis listens")
        return self

    def __exit__(self, *_):
        self._process.terminate()
        self._process.wait(_PATIENCE_S)

    def client(self):
        import redis

        return redis.Redis(unix_socket_path=self._socket)


def until(check, what, seconds=_PATIENCE_S, pause=0.01):
    """Waits for something that can only be asked for, and returns the answer."""
    end = time.monotonic() + seconds
    while not (answer := check()):
        if time.monotonic() > end:
            raise SystemExit(f"error: waited {seconds} s in vain until {what}")
        time.sleep(pause)
    return answer

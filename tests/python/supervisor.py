"""Plays the supervisor for one Python template: the other ends of both sockets, as `docs/protocol.md` says.

Standard library only. `POOL_TEST_PYTHON` names the interpreter under test; the default is the one that runs
the tests.
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import shutil
import signal
import socket
import struct
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Callable, NamedTuple, Optional

CARRIED = Path(__file__).resolve().parents[2] / "python"
PYTHON = os.environ.get("POOL_TEST_PYTHON", sys.executable)
#: How long anything may take before a test fails: far longer than it ever does.
PATIENCE_S = float(os.environ.get("POOL_TEST_PATIENCE_S", 60))

SUCCESS, FAILURE, REJECTED, TIMED_OUT, RETRY, GIVEN_BACK, SETTLED, BATCH_FAILURE = range(8)
AFTER_BY_POLICY = 0xFFFF_FFFF
PACKET_LEN_MAX = 65_536
#: Functions of an application that leave processes running.
EXECUTOR = """
executor = None
def use_executor():
    global executor
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context
    executor = executor or ProcessPoolExecutor(1, mp_context=get_context('fork'))
    return executor.submit(pow, 3, 2).result()
def leave_process():
    import multiprocessing
    multiprocessing.get_context('fork').Process(target=time.sleep, args=(1000,)).start()
"""


class Done(NamedTuple):
    """A Done frame."""

    execution: int
    started_ns: int
    ended_ns: int
    code: int
    after_ms: int
    data: bytes

    @property
    def value(self) -> Any:
        """What a success returned."""
        assert self.code == SUCCESS, self
        return json.loads(self.data)

    @property
    def error(self) -> dict[str, str]:
        """What a failure says."""
        assert self.code in (FAILURE, REJECTED, TIMED_OUT, BATCH_FAILURE), self
        return json.loads(self.data)


class Pipe:
    """A pipe whose writer is a process under test, and what was read from it so far."""

    def __init__(self) -> None:
        self._read, self.write = os.pipe2(os.O_CLOEXEC)
        self._text = b""

    def close_write(self) -> None:
        """Once the process has its copy."""
        os.close(self.write)

    def wait_for(self, text: str) -> str:
        """All that was written, as soon as `text` is in it."""
        deadline = time.monotonic() + PATIENCE_S
        while text.encode() not in self._text:
            if not select.select([self._read], [], [], max(0, deadline - time.monotonic()))[0]:
                raise AssertionError(f"no {text!r} in {self._text!r}")
            chunk = os.read(self._read, 65_536)
            if not chunk:
                raise AssertionError(f"no {text!r} in {self._text!r}, and no more will come")
            self._text += chunk
        return self._text.decode()

    def all(self) -> str:
        """All that is there, without waiting."""
        while select.select([self._read], [], [], 0)[0]:
            chunk = os.read(self._read, 65_536)
            if not chunk:
                break
            self._text += chunk
        return self._text.decode()

    def close(self) -> None:
        """Closes our end."""
        os.close(self._read)


class Worker:
    """One worker: our end of its job socket, the write end of its lifeline, what it prints."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.pid = 0
        self.socket, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.settimeout(PATIENCE_S)
        self.lifeline_read, self.lifeline = os.pipe2(os.O_CLOEXEC)
        self.stdout, self.stderr = Pipe(), Pipe()
        self.pidfd = -1
        self._executions = 0

    def given(self) -> list[int]:
        """The descriptors of a `fork` message."""
        return [self.theirs.fileno(), self.lifeline_read, self.stdout.write, self.stderr.write]

    def born(self, pid: int) -> None:
        """The template has forked it."""
        self.pid = pid
        try:
            self.pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            pass  # it has ended, and the template has reaped it
        self.theirs.close()
        os.close(self.lifeline_read)
        self.stdout.close_write()
        self.stderr.close_write()

    def wait_ready(self) -> Worker:
        """Takes its Ready frame."""
        packet = self.socket.recv(PACKET_LEN_MAX)
        assert packet == b"\x02\x10\x00\x00", (packet, self.stderr.all())
        return self

    def send(
        self,
        task: str,
        args: Any = None,
        *,
        payload: Optional[bytes] = None,
        timeout_ms: int = 0,
        attempt: int = 1,
        job: str = "job-1",
        queue: str = "default",
        ordinal: int = 1,
        kind: int = 0,
        another_follows: bool = False,
    ) -> int:
        """Sends a Run frame; returns its execution number."""
        self._executions += 1
        if payload is None:
            payload = b"" if args is None else json.dumps(args).encode()
        names = [name.encode() for name in (job, queue, task)]
        body = struct.pack("<QQIHHHHB3x", self._executions, timeout_ms, attempt, *map(len, names), ordinal, kind)
        self.send_body(body + b"".join(names) + payload, 2 if another_follows else 0)
        return self._executions

    def send_body(self, body: bytes, flags: int = 0) -> None:
        """Sends a Run frame's body in as many packets as it takes, all with these flags."""
        room = PACKET_LEN_MAX - 4
        parts = [body[at : at + room] for at in range(0, len(body), room)]
        for number, part in enumerate(parts):
            more = number + 1 < len(parts)
            self.socket.send(bytes((2, 1, flags | more, number and (number - 1) % 255 + 1)) + part)

    def done(self) -> Done:
        """Takes one Done frame."""
        parts, more = [], 1
        while more:
            try:
                packet = self.socket.recv(PACKET_LEN_MAX)
            except ConnectionResetError:
                packet = b""
            assert packet, f"the worker hung up; it said: {self.stderr.all()}"
            assert packet[:2] == b"\x02\x11", packet[:40]
            more = packet[2]
            parts.append(packet[4:])
        body = b"".join(parts)
        return Done(*struct.unpack_from("<QQQB3xI", body), body[32:])

    def call(self, task: str, args: Any = None, **options: Any) -> Done:
        """Runs one job."""
        execution = self.send(task, args, **options)
        done = self.done()
        assert done.execution == execution, done
        return done

    def hang_up(self) -> None:
        """End of file on the job socket: leave."""
        self.socket.close()

    def wait_gone(self) -> None:
        """Until the process has ended."""
        assert self.pidfd < 0 or wait_end(self.pidfd), f"worker {self.pid} does not end; it said: {self.stderr.all()}"

    def terminate_waiting(self) -> None:
        """Sends SIGTERM once it waits for a job. Of one that comes just before that, Python hears with the next job."""
        eventually(self._waits, True)
        self.kill(signal.SIGTERM)

    def _waits(self) -> bool:
        state = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0]
        return state == "S" and b" busy" not in Path(f"/proc/{self.pid}/cmdline").read_bytes()

    def kill(self, number: int) -> None:
        """Sends it a signal."""
        signal.pidfd_send_signal(self.pidfd, number)

    def close(self) -> None:
        """Ends it by closing its lifeline, and waits for that."""
        os.close(self.lifeline)
        if self.pidfd >= 0:
            self.wait_gone()
            os.close(self.pidfd)
        self.socket.close()
        self.stdout.close()
        self.stderr.close()


def eventually(what: Callable[[], Any], wanted: Any) -> None:
    """Until `what()` is `wanted`: for what the kernel shows and nobody announces."""
    deadline = time.monotonic() + PATIENCE_S
    while (found := what()) != wanted:
        assert time.monotonic() < deadline, f"{found!r} does not become {wanted!r}"
        select.select([], [], [], 0.002)


def wait_end(pidfd: int, patience_s: float = PATIENCE_S) -> bool:
    """Whether the process has ended within that time."""
    return bool(select.select([pidfd], [], [], patience_s)[0])


class Template:
    """A template process, and the workers that it forked. Use it with `with`."""

    def __init__(self, files: dict[str, str], *, python: str = PYTHON, environment: Any = None) -> None:
        self.directory = tempfile.mkdtemp(prefix="pool-python-test-")
        for name, text in files.items():
            path = Path(self.directory, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.control.settimeout(PATIENCE_S)
        lifeline_read, self.lifeline = os.pipe2(os.O_CLOEXEC)
        self.stdout, self.stderr = Pipe(), Pipe()
        self.workers: dict[int, Worker] = {}
        self.exited: dict[int, int] = {}
        self.pid = self._spawn(python, theirs, lifeline_read, environment or {})
        self.pidfd = os.pidfd_open(self.pid)
        theirs.close()
        os.close(lifeline_read)
        self.stdout.close_write()
        self.stderr.close_write()

    def _spawn(self, python: str, control: socket.socket, lifeline: int, environment: dict[str, str]) -> int:
        sources = {
            ".".join(path.relative_to(CARRIED).with_suffix("").parts).replace(".__init__", ""): path.read_text()
            for path in CARRIED.rglob("*.py")
        }
        with tempfile.TemporaryFile() as file:
            file.write(json.dumps(sources).encode())
            file.flush()
            file.seek(0)
            given = [control.fileno(), lifeline, file.fileno(), self.stdout.write, self.stderr.write]
            moved = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 20) for fd in given]
            actions = [(os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0)]
            actions += [(os.POSIX_SPAWN_DUP2, fd, target) for fd, target in zip(moved, (3, 4, 5, 1, 2))]
            boot = (CARRIED / "boot.py").read_text()
            back = os.getcwd()
            os.chdir(self.directory)
            try:
                pid = os.posix_spawnp(
                    python,
                    [python, "-c", boot],
                    {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **environment},
                    file_actions=actions,
                    setpgroup=0,
                )
            finally:
                os.chdir(back)
                for fd in moved:
                    os.close(fd)
        # The read end is one object in both processes: it can be armed from here.
        fcntl.fcntl(lifeline, fcntl.F_SETOWN, -pid)
        fcntl.fcntl(lifeline, 10, signal.SIGKILL)
        fcntl.fcntl(lifeline, fcntl.F_SETFL, os.O_ASYNC)
        return pid

    def send(self, kind: str, **values: Any) -> None:
        """Sends a control message."""
        self.control.send(json.dumps({"type": kind, **values}).encode())

    def receive(self) -> dict[str, Any]:
        """The next control message that is no `exited`; those are kept in `exited`."""
        while True:
            packet = self.control.recv(PACKET_LEN_MAX)
            assert packet, f"the template hung up; it said: {self.stderr.all()}"
            message = json.loads(packet)
            if message["type"] != "exited":
                return message
            self.exited[message["worker"]] = message["status"]

    def load(self, *preload: str, **values: Any) -> dict[str, Any]:
        """Sends `load` and returns the answer. What a broker must know of the application is in `facts` then."""
        values.setdefault("huge_pages", False)
        values.setdefault("max_result", 1 << 20)
        self.send("load", **{"generation": 1, "preload": preload, **values})
        self.facts = ""
        while (answer := self.receive())["type"] == "facts":
            self.facts += answer["part"]
        return answer

    def ready(self, *preload: str, **values: Any) -> Template:
        """Loads; the app must be one that does."""
        answer = self.load(*preload, **values)
        assert answer["type"] == "ready", answer
        return self

    def ask_for_fork(self, pool: str = "default") -> Worker:
        """Sends `fork`."""
        worker = Worker(len(self.workers) + 1)
        self.workers[worker.number] = worker
        message = json.dumps({"type": "fork", "worker": worker.number, "pool": pool}).encode()
        socket.send_fds(self.control, [message], worker.given())
        return worker

    def fork(self, pool: str = "default") -> Worker:
        """Forks a worker that may not be ready yet."""
        worker = self.ask_for_fork(pool)
        answer = self.receive()
        assert answer["type"] == "forked" and answer["worker"] == worker.number, answer
        worker.born(answer["pid"])
        return worker

    def worker(self, pool: str = "default") -> Worker:
        """A worker that takes jobs."""
        return self.fork(pool).wait_ready()

    def status_of(self, worker: Worker) -> int:
        """The wait status that the template reports for a worker, once it does."""
        while worker.number not in self.exited:
            packet = self.control.recv(PACKET_LEN_MAX)
            assert packet, f"the template hung up; it said: {self.stderr.all()}"
            message = json.loads(packet)
            assert message["type"] == "exited", message
            self.exited[message["worker"]] = message["status"]
        return self.exited[worker.number]

    def wait_gone(self) -> int:
        """Until it has ended; its wait status."""
        assert wait_end(self.pidfd), f"the template does not end; it said: {self.stderr.all()}"
        return self._reap()

    def _reap(self) -> int:
        pid, self.pid, status = self.pid, 0, 0
        if pid:
            status = os.waitpid(pid, 0)[1]
        return status

    def __enter__(self) -> Template:
        return self

    def __exit__(self, *_error: Any) -> None:
        for worker in self.workers.values():
            worker.close()
        os.close(self.lifeline)
        self._reap()
        os.close(self.pidfd)
        self.control.close()
        self.stdout.close()
        self.stderr.close()
        shutil.rmtree(self.directory)

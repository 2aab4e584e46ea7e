"""The application of the black-box tests."""

import fcntl
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time

from pool_job import Retry, batch, current_jobs

LEDGER = os.environ.get("LEDGER")
VERSION = 1


def write(line):
    with open(LEDGER, "a") as ledger:
        ledger.write(line + "\n")


def flood(count):
    """Prints so many blank lines."""
    while count > 0:
        count -= os.write(1, b"\n" * min(count, 65536))


if os.environ.get("FLOOD"):
    flood(int(os.environ["FLOOD"]))


def add(a, b):
    return a + b


def version():
    return VERSION


def after_fork():
    pass


def pid():
    return os.getpid()


kept = []


def keep(mib):
    """Keeps so many MiB of memory from now on."""
    kept.append(b"x" * (mib << 20))


def mark(name):
    """Leaves a line in the ledger."""
    write(name)
    return name


def locked(seconds):
    """Sleeps with a lock that all workers share."""
    with open(LEDGER + ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        time.sleep(seconds)


def nap(seconds, name=None, gate=None):
    """Sleeps, and until there is a file named `gate`; leaves a line with its start and end, by the wall clock."""
    started = time.time()
    time.sleep(seconds)
    while gate is not None and not os.path.exists(gate):
        time.sleep(0.01)
    if name is not None:
        write(json.dumps({"name": name, "started": started, "ended": time.time()}))
    return seconds


def wait_for(gate):
    """Runs until there is a file of this name, then leaves a line."""
    while not os.path.exists(gate):
        time.sleep(0.01)
    write(gate)


def steal(frames):
    """Reads so many frames from its worker's job socket: the worker's next jobs."""
    for name in os.listdir("/proc/self/fd"):
        try:
            found = socket.socket(fileno=os.dup(int(name)))
        except OSError:
            continue
        with found:
            if found.type == socket.SOCK_SEQPACKET:
                return sum(len(found.recv(1 << 16)) for _ in range(frames))


def start_then_nap(name, seconds):
    write(name)
    time.sleep(seconds)
    return name


def nap_at_first(name, seconds):
    """Sleeps in its first run."""
    write(name)
    with open(LEDGER) as ledger:
        if ledger.read().split().count(name) == 1:
            time.sleep(seconds)


def fail(message):
    raise ValueError(message)


def fail_until(name, attempts):
    """Fails until it was called so many times."""
    write(name)
    with open(LEDGER) as ledger:
        calls = ledger.read().split("\n").count(name)
    if calls < attempts:
        raise ValueError("call %d" % calls)
    return calls


def die():
    os.kill(os.getpid(), 9)


def stubborn(seconds):
    """Swallows the interruption at its timeout."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            time.sleep(seconds)
        except BaseException:
            pass


def with_child(seconds):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(%r)" % seconds])
    write("child %d" % child.pid)
    child.wait()


def garbage():
    """Writes nonsense to the worker's own job socket."""
    for fd in range(3, 64):
        try:
            sock = socket.socket(fileno=os.dup(fd))
            if sock.type == socket.SOCK_SEQPACKET:
                sock.send(b"this is not a frame")
        except OSError:
            pass
    time.sleep(60)


def say(text):
    print(text)
    return text


def log(text):
    shop = logging.getLogger("shop.mail")
    shop.warning("%s sent", text)
    try:
        raise LookupError(text)
    except LookupError:
        shop.exception("%s lost", text)


@batch(size=10, linger="5s")
def insert(rows):
    """Leaves a line for each call, with its rows; a row can be a wish."""
    write(json.dumps({"rows": rows, "jobs": [job.id for job in current_jobs()], "pid": os.getpid()}))
    answers = []
    for row in rows:
        if row == "rotten":
            raise ValueError("a rotten row spoils the statement")
        if row == "deadly":
            os.kill(os.getpid(), 9)
        if row == "slow":
            time.sleep(600)
        if row == "fail":
            answers.append(ValueError("no such user"))
        elif row == "again" and current_jobs()[len(answers)].attempt == 1:
            answers.append(Retry(after=0))
        else:
            answers.append(row)
    return answers


@batch(size=5, linger=0.05)
def forgetful(rows):
    return rows[1:]


def summary(**named):
    """Leaves what it was given in the ledger."""
    write(json.dumps(named, sort_keys=True))


def stop_amid_a_batch():
    """A hook: the first worker stops when it has read the first job of its batch, and not the others."""
    try:
        os.close(os.open(LEDGER + ".stopped", os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return
    from pool_template.jobs import frames

    read_the_rest = frames.rest_of_batch

    def stop_then_read(sock, first):
        os.kill(os.getpid(), signal.SIGSTOP)
        return read_the_rest(sock, first)

    frames.rest_of_batch = stop_then_read

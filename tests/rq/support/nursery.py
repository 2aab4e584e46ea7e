"""`rq worker` without its start: processes forked from one that has imported RQ's command already.

Starting Python and importing RQ costs ten times what most tests let a worker do. The nursery is a process of its own,
with one thread; it reads a line of JSON for each thing that it is to do, and answers with one.
"""

import ctypes
import json
import os
import signal
import subprocess
import sys

from support import child


class Nursery:
    """One of them, started when it is first needed, that ends with this process."""

    def __init__(self):
        self.process = None

    def start(self, command, env, log):
        """Runs the arguments of an `rq` command line; its output goes to the open file `log`."""
        pid = self.ask(do='start', command=command, env=env, log=f'/proc/{os.getpid()}/fd/{log.fileno()}')
        return Reared(self, command, pid)

    def ask(self, **what):
        if self.process is None:
            run = [sys.executable, '-m', 'support.nursery']
            path = os.pathsep.join(sys.path)
            pipes = {'stdin': subprocess.PIPE, 'stdout': subprocess.PIPE}
            self.process = child.start(run, env={**os.environ, 'PYTHONPATH': path}, **pipes)
        self.process.stdin.write(json.dumps(what).encode() + b'\n')
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())


class Reared:
    """A process of the nursery, as `subprocess.Popen` has it."""

    def __init__(self, nursery, args, pid):
        self.nursery, self.args, self.pid = nursery, args, pid
        self.returncode = None

    def poll(self):
        return self.end(os.WNOHANG)

    def wait(self):
        return self.end(0)

    def end(self, flags):
        if self.returncode is None:
            self.returncode = self.nursery.ask(do='reap', pid=self.pid, flags=flags)
        return self.returncode

    def send_signal(self, number):
        if self.poll() is None:
            os.kill(self.pid, number)


def serve():
    """Answers until its input ends. Returns a command in a process that is to run it, and None in the nursery."""
    for line in iter(sys.stdin.buffer.readline, b''):
        order = json.loads(line)
        if order['do'] == 'reap':
            pid, status = os.waitpid(order['pid'], order['flags'])
            answer = os.waitstatus_to_exitcode(status) if pid else None
        else:
            answer = os.fork()
            if answer == 0:
                become(order)
                return order['command']
        os.write(sys.stdout.fileno(), json.dumps(answer).encode() + b'\n')
    return None


def become(order):
    """Takes on environment and files, in the child."""
    ctypes.CDLL(None).prctl(child.PR_SET_PDEATHSIG, signal.SIGKILL)
    os.environ.clear()
    os.environ.update(order['env'])
    log = os.open(order['log'], os.O_WRONLY | os.O_APPEND)
    for number, target in ((os.open(os.devnull, os.O_RDONLY), 0), (log, 1), (log, 2)):
        os.dup2(number, target)
    os.closerange(3, log + 1)


if __name__ == '__main__':
    from rq.cli import main

    command = serve()
    if command is not None:
        sys.argv = command
        sys.exit(main())

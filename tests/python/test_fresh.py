"""A process for each job: what one leaves behind, how one dies, and who leaves with whom."""

from __future__ import annotations

import contextlib
import os
import signal
import unittest
from pathlib import Path

from supervisor import EXECUTOR, Template, Worker, eventually, wait_end

APP = """
import os, random, signal, subprocess, threading, time
calls = 0
def count():
    global calls
    calls += 1
    return calls
def pid(): return os.getpid()
def group(): return os.getpgrp()
def parent(): return os.getppid()
def chance(): return random.random()
def leave(code): os._exit(code)
def crash(): os.kill(os.getpid(), signal.SIGSEGV)
def start_sleeper(): return subprocess.Popen(['sleep', '1000']).pid
def start_daemon(): return subprocess.Popen(['sleep', '1000'], start_new_session=True).pid
def forever(): time.sleep(1000)
def wait_for(path):
    while not os.path.exists(path): time.sleep(0.002)
def leads():
    return os.getsid(0) == os.getpgrp() == os.getpid()
def leaves(how):
    try: getattr(os, how)()
    except PermissionError: return 'refused'
def run_on(path):
    program = subprocess.Popen(['sleep', '1000'])
    with open(path + '.new', 'w') as file: file.write(str(program.pid))
    os.rename(path + '.new', path)
    while True:
        try: time.sleep(1000)
        except BaseException: pass
def threads_in_a_child():
    threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(write, bytes([threading.active_count()]))
        os._exit(0)
    os.waitpid(pid, 0)
    return threading.active_count(), os.read(read, 1)[0]
"""
HOOK = "\nhooked = 0\ndef hook():\n    global hooked\n    hooked = os.getpid()\ndef hooked_in(): return hooked == os.getpid()\n"

class Fresh(unittest.TestCase):
    def start(self, app: str = APP, **values: object) -> tuple[Template, Worker]:
        template = Template({"app.py": app})
        self.addCleanup(template.__exit__)
        return template, template.ready("app", fresh=True, **values).worker()

    def test_each_job_has_a_process_of_its_own_below_the_worker(self) -> None:
        _, worker = self.start()
        pids = {worker.call("app.pid").value for _ in range(5)}
        self.assertEqual(len(pids | {worker.pid}), 6)
        self.assertEqual(worker.call("app.parent").value, worker.pid)

    def test_what_a_job_changes_is_gone_with_it(self) -> None:
        _, worker = self.start()
        self.assertEqual([worker.call("app.count").value for _ in range(3)], [1, 1, 1])

    def test_jobs_that_wait_in_the_socket_are_run_one_after_the_other(self) -> None:
        _, worker = self.start()
        sent = [worker.send("app.pid") for _ in range(5)]
        done = [worker.done() for _ in sent]
        self.assertEqual([each.execution for each in done], sent)
        self.assertEqual(len({each.value for each in done}), 5)
        for before, after in zip(done, done[1:]):
            self.assertGreaterEqual(after.started_ns, before.ended_ns)

    def test_random_numbers_differ_between_jobs(self) -> None:
        _, worker = self.start()
        self.assertEqual(len({worker.call("app.chance").value for _ in range(5)}), 5)

    def test_after_fork_hooks_are_called_in_the_process_of_each_job(self) -> None:
        _, worker = self.start(APP + HOOK, after_fork=["app.hook"])
        self.assertEqual([worker.call("app.hooked_in").value for _ in range(2)], [True, True])

    def test_a_hook_that_fails_ends_the_worker_before_it_is_ready(self) -> None:
        with Template({"app.py": "def hook(): raise ValueError('no')\n"}) as template:
            worker = template.ready("app", fresh=True, after_fork=["app.hook"]).fork()
            self.assertEqual(template.status_of(worker), 1 << 8)
            self.assertEqual(worker.socket.recv(100), b"")

    def test_a_job_that_exits_takes_the_worker_with_it_in_the_same_way(self) -> None:
        for code in (0, 7):
            template, worker = self.start()
            worker.send("app.leave", [code])
            self.assertEqual(template.status_of(worker), code << 8)

    def test_a_job_that_crashes_takes_the_worker_with_it_in_the_same_way(self) -> None:
        template, worker = self.start()
        worker.send("app.crash")
        self.assertEqual(os.WTERMSIG(template.status_of(worker)), signal.SIGSEGV)

    def test_what_a_job_leaves_running_ends_with_it_but_not_a_daemon(self) -> None:
        _, worker = self.start()
        pid = worker.call("app.start_sleeper").value
        with contextlib.suppress(ProcessLookupError):  # it may have ended by now
            sleeper = os.pidfd_open(pid)
            self.assertTrue(wait_end(sleeper), "the job's program lives on")
            os.close(sleeper)
        daemon = worker.call("app.start_daemon").value
        worker.call("app.count")
        worker.call("app.count")
        os.kill(daemon, signal.SIGKILL)
        worker.call("app.count")
        eventually(lambda: Path(f"/proc/{daemon}").exists(), False)  # it was reaped, too

    def test_a_worker_whose_supervisor_hung_up_leaves(self) -> None:
        template, worker = self.start()
        worker.call("app.count")
        worker.hang_up()
        self.assertEqual(template.status_of(worker), 0)

    def test_a_worker_leaves_on_sigterm_when_its_job_is_done(self) -> None:
        template, idle = self.start()
        busy = template.worker()
        idle.terminate_waiting()
        self.assertEqual(template.status_of(idle), 0)
        path = f"{template.directory}/go"
        busy.send("app.wait_for", [path])
        children = Path(f"/proc/{busy.pid}/task/{busy.pid}/children")
        child = int(children.read_text())
        eventually(lambda: b"busy" in Path(f"/proc/{child}/cmdline").read_bytes(), True)
        busy.kill(signal.SIGTERM)
        Path(path).touch()
        self.assertIsNone(busy.done().value)
        self.assertEqual(template.status_of(busy), 0)

    def test_worker_and_job_die_with_the_supervisor(self) -> None:
        template, worker = self.start()
        job = os.pidfd_open(int(Path(f"/proc/{worker.pid}/task/{worker.pid}/children").read_text()))
        worker.send("app.forever")
        os.close(worker.lifeline)
        worker.lifeline = os.open("/dev/null", os.O_RDONLY)
        self.assertEqual(template.status_of(worker), signal.SIGKILL)
        self.assertTrue(wait_end(job), "the job lives on")
        os.close(job)

    def test_threads_of_a_job_are_not_counted_in_a_process_that_it_forks(self) -> None:
        _, worker = self.start()
        self.assertEqual(worker.call("app.threads_in_a_child").value, [2, 1])

    def test_a_job_leads_its_session_and_can_not_leave_it(self) -> None:
        _, worker = self.start()
        self.assertIs(worker.call("app.leads").value, True)
        for how in ("setsid", "setpgrp"):
            self.assertEqual(worker.call("app.leaves", [how]).value, "refused")

    def test_a_job_that_does_not_end_is_killed_with_its_worker_and_all_that_it_started(self) -> None:
        template, worker = self.start()
        path = f"{template.directory}/program"
        child = os.pidfd_open(int(Path(f"/proc/{worker.pid}/task/{worker.pid}/children").read_text()))
        worker.send("app.run_on", [path])
        eventually(lambda: os.path.exists(path), True)
        program = os.pidfd_open(int(Path(path).read_text()))
        os.killpg(worker.pid, signal.SIGKILL)  # as the supervisor does, `kill_grace` after the timeout
        for process in (child, program):
            self.assertTrue(wait_end(process), "it lives on")
            os.close(process)

    def test_processes_that_a_job_left_to_an_executor_delay_nothing(self) -> None:
        app = APP + EXECUTOR
        _, worker = self.start(app)
        for _ in range(3):  # the exit of the first would wait for ever
            self.assertEqual(worker.call("app.use_executor").value, 9)
        self.assertEqual(worker.call("app.count").value, 1)

    def test_what_takes_long_at_the_exit_is_given_up(self) -> None:
        _, worker = self.start(APP + "import atexit\ndef register(): atexit.register(time.sleep, 1000)\n")
        worker.call("app.register")
        self.assertEqual(worker.call("app.count").value, 1)
        worker.stderr.wait_for("what was registered for the exit (atexit) takes longer than 1.5 s; leaving without it")


if __name__ == "__main__":
    unittest.main()

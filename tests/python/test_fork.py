"""What a worker has, shares and lacks when it begins, and whose life hangs on whose."""

from __future__ import annotations

import os
import signal
import subprocess
import unittest
from pathlib import Path

from supervisor import EXECUTOR, PYTHON, Template, Worker, eventually, wait_end

APP = """
import os, random, subprocess, sys, time, gc
def noop(): pass
def pid(): return os.getpid()
def group(): return os.getpgrp()
def standard_input(): return os.readlink('/proc/self/fd/0')
def speak(): print('to out'); print('to err', file=sys.stderr)
def mutter(): sys.stdout.write('half a line')
def chance(): return random.random()
def leave(code): os._exit(code)
def start_sleeper():
    return subprocess.Popen(['sleep', '1000']).pid
def forever(): time.sleep(1000)
def frozen(): return gc.get_freeze_count()
"""



def inherited_descriptors() -> set[int]:
    """What whoever runs the tests left open for every program below."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            if int(name) > 2 and os.get_inheritable(int(name)):
                found.add(int(name))
        except OSError:
            pass  # the descriptor of the listing itself
    return found


INHERITED = inherited_descriptors()


def title_of(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text().rstrip("\0")


def open_descriptors(pid: int) -> dict[int, str]:
    """Descriptors and what they are, less the inherited ones, and less the file of libffi (below ctypes), which a newer
    one keeps open."""
    links = {int(fd): os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")}
    return {fd: link for fd, link in links.items() if fd not in INHERITED and "/libffi.so" not in link}


class Fork(unittest.TestCase):
    def start(self, app: str = APP, **values: object) -> Template:
        template = Template({"app.py": app})
        self.addCleanup(template.__exit__)
        return template.ready("app", **values)

    def test_the_pid_that_the_template_reports_is_the_workers(self) -> None:
        worker = self.start().worker()
        self.assertEqual(worker.call("app.pid").value, worker.pid)

    def test_a_worker_leads_a_process_group_of_its_own(self) -> None:
        worker = self.start().worker()
        self.assertEqual(worker.call("app.group").value, worker.pid)

    def test_a_worker_prints_to_the_descriptors_that_it_was_given(self) -> None:
        worker = self.start().worker()
        worker.call("app.speak")
        self.assertEqual(worker.stdout.all(), "to out\n")
        self.assertEqual(worker.stderr.all(), "to err\n")
        self.assertEqual(worker.call("app.standard_input").value, "/dev/null")

    def test_what_a_job_prints_is_out_before_its_outcome(self) -> None:
        worker = self.start().worker()
        worker.call("app.mutter")
        self.assertEqual(worker.stdout.all(), "half a line")

    def test_a_worker_holds_no_descriptor_of_template_or_other_workers(self) -> None:
        template = self.start()
        workers = [template.worker() for _ in range(3)]
        for worker in workers:
            links = open_descriptors(worker.pid)
            beyond = sorted(link.split(":")[0] for fd, link in links.items() if fd > 2)
            # What `multiprocessing` needs, its lifeline, its job socket.
            self.assertEqual(beyond, ["/memfd", "pipe", "socket"], links)
        links = open_descriptors(template.pid)
        beyond = sorted(link.split(":")[0] for fd, link in links.items() if fd > 2)
        # The same, its lifeline, both ends of its waker, control.
        self.assertEqual(beyond, ["/memfd", "pipe", "pipe", "pipe", "socket"], links)

    def test_programs_that_a_job_starts_inherit_standard_streams_alone(self) -> None:
        app = (
            "import subprocess\n"
            "def descriptors(): return subprocess.run(['ls', '/proc/self/fd'], close_fds=False,\n"
            "    stdout=subprocess.PIPE).stdout.decode().split()\n"
        )
        worker = self.start(app).worker()
        open_there = set(map(int, worker.call("app.descriptors").value)) - INHERITED
        self.assertEqual(len(open_there), 4, open_there)  # three, and the listing itself

    def test_a_fork_without_descriptors_is_refused(self) -> None:
        template = self.start()
        template.send("fork", worker=7, pool="default")
        answer = template.receive()
        self.assertEqual((answer["type"], answer["worker"]), ("fork_failed", 7))
        self.assertEqual(answer["error"], "0 descriptors came with it, expected 4")

    def test_the_wait_status_of_a_worker_is_reported_as_it_is(self) -> None:
        template = self.start()
        left, killed, retired = template.worker(), template.worker(), template.worker()
        left.send("app.leave", 3)
        killed.kill(signal.SIGKILL)
        retired.hang_up()
        self.assertEqual(template.status_of(left), 3 << 8)
        self.assertEqual(template.status_of(killed), signal.SIGKILL)
        self.assertEqual(template.status_of(retired), 0)

    def test_many_workers_that_end_at_once_are_all_reported(self) -> None:
        template = self.start()
        workers = [template.worker() for _ in range(8)]
        for worker in workers:
            worker.kill(signal.SIGKILL)
        self.assertEqual({template.status_of(worker) for worker in workers}, {signal.SIGKILL})

    def test_titles_say_role_pool_generation_and_state(self) -> None:
        template = self.start(generation=4)
        self.assertEqual(title_of(template.pid), "pool: template python gen 4")
        worker = template.worker("mail")
        worker.call("app.noop")
        eventually(lambda: title_of(worker.pid), "pool: worker 1 mail gen 4 idle")
        worker.send("app.forever")
        eventually(lambda: title_of(worker.pid), "pool: worker 1 mail gen 4 busy")
        self.assertEqual(Path(f"/proc/{worker.pid}/comm").read_text(), "pool-worker-1\n")

    def test_random_numbers_differ_between_workers(self) -> None:
        template = self.start()
        numbers = {template.worker().call("app.chance").value for _ in range(3)}
        self.assertEqual(len(numbers), 3)

    def test_numpys_global_generator_is_seeded_anew(self) -> None:
        app = (
            "import sys, types\nseeds = []\n"
            "sys.modules['numpy.random'] = types.SimpleNamespace(seed=lambda: seeds.append('seeded'))\n"
            "def seen(): return seeds\n"
        )
        self.assertEqual(self.start(app).worker().call("app.seen").value, ["seeded"])

    def test_an_after_fork_hook_that_fails_ends_the_worker_before_it_is_ready(self) -> None:
        template = self.start("def after(): raise OSError('no database')\n", after_fork=["app.after"])
        worker = template.fork()
        self.assertEqual(template.status_of(worker), 1 << 8)
        self.assertEqual(worker.socket.recv(100), b"")
        said = worker.stderr.all()
        self.assertIn("OSError: no database", said)
        self.assertIn("pool: worker 1: the hook `app.after` (app.after_fork) failed", said)

    def test_what_the_preload_printed_is_not_printed_again_by_workers(self) -> None:
        template = self.start("import sys\nsys.stdout.write('loading, ')\ndef noop(): pass\n")
        worker = template.worker()
        worker.call("app.noop")
        self.assertEqual(worker.stdout.all(), "")
        template.stdout.wait_for("loading, ")


class Lifeline(unittest.TestCase):
    def test_a_worker_and_the_processes_of_its_job_die_with_the_supervisor(self) -> None:
        with Template({"app.py": APP}) as template:
            worker = template.ready("app").worker()
            sleeper = os.pidfd_open(worker.call("app.start_sleeper").value)
            worker.send("app.forever")
            os.close(worker.lifeline)  # as the kernel does when the supervisor dies
            worker.lifeline = os.open("/dev/null", os.O_RDONLY)
            self.assertEqual(template.status_of(worker), signal.SIGKILL)
            self.assertTrue(wait_end(sleeper), "the job's process lives on")
            os.close(sleeper)

    def test_a_stopped_worker_dies_with_the_supervisor_too(self) -> None:
        with Template({"app.py": APP}) as template:
            worker = template.ready("app").worker()
            worker.kill(signal.SIGSTOP)
            os.close(worker.lifeline)
            worker.lifeline = os.open("/dev/null", os.O_RDONLY)
            self.assertEqual(template.status_of(worker), signal.SIGKILL)

    def test_the_end_of_one_worker_leaves_the_others_alone(self) -> None:
        with Template({"app.py": APP}) as template:
            first, second = template.ready("app").worker(), template.worker()
            first.kill(signal.SIGKILL)
            template.status_of(first)
            self.assertIsNone(second.call("app.noop").value)

    def test_a_worker_forked_when_the_supervisor_is_gone_leaves_at_once(self) -> None:
        with Template({"app.py": APP}) as template:
            template.ready("app")
            worker = template.ask_for_fork()
            os.close(worker.lifeline)  # most likely before the worker arms it; after, it is killed
            worker.lifeline = os.open("/dev/null", os.O_RDONLY)
            worker.born(template.receive()["pid"])
            self.assertIn(template.status_of(worker), (0, signal.SIGKILL))

    def test_template_and_its_workers_die_with_the_supervisor(self) -> None:
        with Template({"app.py": APP}) as template:
            worker = template.ready("app").worker()
            os.close(template.lifeline)
            template.lifeline = os.open("/dev/null", os.O_RDONLY)
            self.assertEqual(template.wait_gone(), signal.SIGKILL)
            self.assertIsNone(worker.call("app.noop").value)  # it hangs on a lifeline of its own


class Sharing(unittest.TestCase):
    def test_what_was_loaded_is_out_of_the_garbage_collectors_sight(self) -> None:
        with Template({"app.py": APP}) as template:
            worker = template.ready("app").worker()
            self.assertGreater(worker.call("app.frozen").value, 1000)

    def test_a_garbage_collection_in_a_worker_copies_little_of_what_it_shares(self) -> None:
        app = (
            "import gc\n"
            "held = [{'number': i, 'text': str(i)} for i in range(100_000)]\n"
            "def private():\n"
            "    lines = open('/proc/self/smaps_rollup').read().splitlines()\n"
            "    return 1024 * sum(int(l.split()[1]) for l in lines if l.startswith('Private_'))\n"
            "def grow_by_collecting():\n"
            "    before = private(); gc.collect(); return private() - before\n"
        )
        with Template({"app.py": app}) as template:
            worker = template.ready("app").worker()
            # Unfrozen, a collection writes to each of the 100,000 dicts: all of their pages, some 20 MiB.
            self.assertLess(worker.call("app.grow_by_collecting").value, 4 << 20)

    def test_the_heap_is_collapsed_or_the_report_says_why_not(self) -> None:
        app = "held = [bytes([i % 256]) * 400 for i in range(100_000)]\ndef count(): return len(set(held))\n"
        with Template({"app.py": app}) as template:
            answer = template.load("app", huge_pages=True)
            self.assertEqual(answer["type"], "ready")
            if answer["collapse_skipped"] is None:
                self.assertGreaterEqual(answer["collapsed_bytes"], 2 << 20)
                self.assertEqual(answer["collapsed_bytes"] % (2 << 20), 0)
            else:
                self.assertEqual(answer["collapsed_bytes"], 0)
            self.assertEqual(template.worker().call("app.count").value, 256)


class Exit(unittest.TestCase):
    def test_what_the_preload_registered_for_the_exit_is_not_the_workers_to_do(self) -> None:
        app = (
            "import atexit\n"
            "atexit.register(print, 'of the preload')\n"
            "def register(): atexit.register(print, 'of the job')\n"
        )
        with Template({"app.py": app}) as template:
            worker = template.ready("app").worker()
            worker.call("app.register")
            worker.hang_up()
            self.assertEqual(template.status_of(worker), 0)
            self.assertEqual(worker.stdout.all(), "of the job\n")

    def test_the_log_is_flushed_at_the_exit(self) -> None:
        app = (
            "import logging, logging.handlers, sys\n"
            "target = logging.StreamHandler()\n"
            "logging.getLogger().addHandler(logging.handlers.MemoryHandler(100, target=target))\n"
            "def log(): logging.warning('kept in memory')\n"
        )
        with Template({"app.py": app}) as template:
            worker = template.ready("app").worker()
            worker.call("app.log")
            self.assertEqual(worker.stderr.all(), "")
            worker.hang_up()
            template.status_of(worker)
            self.assertEqual(worker.stderr.all(), "kept in memory\n")

    def test_a_thread_of_a_job_does_not_hold_the_worker_back(self) -> None:
        app = "import threading\ndef start(): threading.Thread(target=threading.Event().wait).start()\n"
        with Template({"app.py": app}) as template:
            worker = template.ready("app").worker()
            worker.call("app.start")
            worker.hang_up()
            self.assertEqual(template.status_of(worker), 0)

    def test_a_worker_leaves_without_waiting_for_processes_that_its_jobs_left(self) -> None:
        template = Template({"app.py": APP + EXECUTOR})
        self.addCleanup(template.__exit__)
        worker = template.ready("app").worker()
        self.assertEqual(worker.call("app.use_executor").value, 9)
        worker.call("app.leave_process")
        worker.hang_up()
        self.assertEqual(template.status_of(worker), 0)


LOCK = """
import threading
lock = threading._active_limbo_lock
def was_reset(): return threading._active_limbo_lock is not lock
def was_reset_in_child():
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(write, bytes([was_reset()]))
        os._exit(0)
    os.waitpid(pid, 0)
    return bool(os.read(read, 1)[0])
"""


class LeftOut(unittest.TestCase):
    """What a fork of a worker leaves out: `process/at_fork.py`."""

    def worker(self, app: str, **values: object) -> Worker:
        template = Template({"app.py": APP + app})
        self.addCleanup(template.__exit__)
        return template.ready("app", **values).worker()

    def test_a_worker_need_not_reset_locks_and_its_jobs_forks_do(self) -> None:
        early = subprocess.run([PYTHON, "-c", "import sys; sys.exit('threading' in sys.modules)"], timeout=60)
        if early.returncode:
            self.skipTest("this interpreter imports threading before the template can look")
        for fresh in (False, True):
            worker = self.worker(LOCK, fresh=fresh)
            self.assertIs(worker.call("app.was_reset").value, False)
            self.assertIs(worker.call("app.was_reset_in_child").value, True)

    def test_nothing_is_left_out_if_the_setting_says_so(self) -> None:
        for fresh in (False, True):
            self.assertIs(self.worker(LOCK, fresh=fresh, all_fork_hooks=True).call("app.was_reset").value, True)

    def test_nothing_is_left_out_where_something_stands_in_the_place_of_fork(self) -> None:
        replaced = "fork = os.fork\nos.fork = lambda: fork()\n"
        self.assertIs(self.worker(LOCK + replaced).call("app.was_reset").value, True)

    def test_what_others_register_under_a_known_name_is_called_in_each_worker(self) -> None:
        names = ["random", "threading", "logging"]
        app = (
            "calls = []\n"
            "code = 'import os; os.register_at_fork(after_in_child=lambda: calls.append(__name__))'\n"
            f"for name in {names}: exec(code, {{'__name__': name, 'calls': calls}})\n"
            "def called(): return calls\n"
        )
        self.assertEqual(self.worker(app).call("app.called").value, names)
        self.assertEqual(self.worker(app, fresh=True).call("app.called").value, 2 * names)

    def test_a_hook_that_raises_keeps_no_other_from_its_turn(self) -> None:
        app = "import threading\ndef fail(): raise ValueError('a bad hook')\nos.register_at_fork(after_in_child=fail)\n"
        worker = self.worker(app + LOCK, all_fork_hooks=True)
        self.assertIs(worker.call("app.was_reset").value, True)

    def test_signals_are_answered_where_a_library_replaces_what_sets_them(self) -> None:
        # As gevent does, which would go on writing to a descriptor that the workers close.
        app = (
            "import signal\n"
            "def refuse(*_, **__): raise AssertionError('not for the pool')\n"
            "signal.set_wakeup_fd = refuse\n"
            "def program(): return subprocess.check_output(['echo', 'done'], text=True)\n"
        )
        for fresh in (False, True):
            worker = self.worker(app, fresh=fresh)
            self.assertEqual(worker.call("app.program").value, "done\n")
            self.assertEqual(worker.stderr.all(), "")


if __name__ == "__main__":
    unittest.main()

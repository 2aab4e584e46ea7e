"""What is done ahead of the first fork leaves no trace, and what a fork is spared is done where it is needed."""

from __future__ import annotations

import signal
import unittest

from supervisor import REJECTED, Template

APP = """
import os, random, signal
def noop(): pass
def timer(): return signal.getitimer(signal.ITIMER_REAL)
def bound_now(): return os.environ.get('LD_BIND_NOW'), 'LD_BIND_NOW' in os.popen('env').read()
def draw_in_two():
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(write, random.random().hex().encode())
        os._exit(0)
    os.waitpid(pid, 0)
    return random.random().hex(), os.read(read, 100).decode()
"""
ALARM = """
import signal
signal.signal(signal.SIGALRM, lambda *_: None)
"""


class Rehearsal(unittest.TestCase):
    def start(self, app: str = APP, environment: object = None, **values: object) -> Template:
        template = Template({"app.py": app}, environment=environment)
        self.addCleanup(template.__exit__)
        return template.ready("app", **values)

    def test_no_timer_runs_in_the_first_job(self) -> None:
        for fresh in (False, True):
            self.assertEqual(self.start(fresh=fresh).worker().call("app.timer").value, [0.0, 0.0])

    def test_the_job_that_was_rehearsed_is_no_task(self) -> None:
        self.assertEqual(self.start().worker().call("", []).code, REJECTED)

    def test_an_alarm_of_the_applications_does_not_keep_it_from_loading(self) -> None:
        worker = self.start(APP + ALARM).worker()
        self.assertEqual(worker.call("app.timer").value, [0.0, 0.0])

    def test_the_template_alone_binds_its_symbols_at_the_start(self) -> None:
        for ours, theirs in (("pool", [None, False]), ("1", ["1", True])):
            worker = self.start(environment={"LD_BIND_NOW": ours}).worker()
            self.assertEqual(worker.call("app.bound_now").value, theirs)

    def test_random_numbers_differ_between_a_job_and_the_process_that_it_forks(self) -> None:
        for fresh in (False, True):
            job, child = self.start(fresh=fresh).worker().call("app.draw_in_two").value
            self.assertNotEqual(job, child)

    def test_a_timeout_still_strikes_after_the_rehearsal(self) -> None:
        worker = self.start("import time\ndef forever(): time.sleep(1000)\n").worker()
        self.assertEqual(worker.call("app.forever", timeout_ms=50).error["kind"], "timeout")
        worker.kill(signal.SIGTERM)


if __name__ == "__main__":
    unittest.main()

"""Batch tasks: one call for many jobs, an outcome for each."""

from __future__ import annotations

import json
import unittest
from typing import Any

from supervisor import BATCH_FAILURE, FAILURE, REJECTED, RETRY, SUCCESS, TIMED_OUT, Done, Template, Worker

APP = r"""
import time
from pool_job import Retry, batch, current_jobs

@batch(size=10, linger="20ms")
def double(numbers):
    if 13 in numbers: raise ValueError("unlucky")
    answers = {7: Retry(after=2), 8: ValueError("eight"), 9: TypeError("nine"), 10: {1}}
    return [answers.get(number, None if number is None else 2 * number) for number in numbers if number != 99]

@batch(size=3, linger=0.5)
async def later(numbers): return numbers

@batch(2)
def who(jobs): return [[job.id, job.attempt] for job in current_jobs()]

@batch(2)
def forgets(jobs): pass

@batch(2)
def sleeps(jobs): time.sleep(60)

def plain(number): return number + 1
"""


class Batches(unittest.TestCase):
    template: Template

    @classmethod
    def setUpClass(cls) -> None:
        cls.template = Template({"app.py": APP})
        cls.report = cls.template.load("app")
        cls.worker: Worker = cls.template.worker()

    @classmethod
    def tearDownClass(cls) -> None:
        cls.template.__exit__()

    def run_batch(self, task: str, *jobs: Any, **options: Any) -> list[Done]:
        """Sends a batch with these arguments (bytes: payloads as they are); its outcomes."""
        for number, job in enumerate(jobs, 1):
            given = {"payload": job} if isinstance(job, bytes) else {"args": job}
            self.worker.send(task, another_follows=number < len(jobs), job=f"job-{number}", **given, **options)
        return [self.worker.done() for _ in jobs]

    def test_the_report_says_what_the_code_declares(self) -> None:
        self.assertEqual(self.report["batches"]["app.double"], {"size": 10, "linger_ms": 20})
        self.assertEqual(self.report["batches"]["app.later"], {"size": 3, "linger_ms": 500})
        self.assertNotIn("app.plain", self.report["batches"])

    def test_each_job_has_an_outcome_of_its_own(self) -> None:
        ended = self.run_batch("app.double", 1, 7, 8, 9, 10, b"{", b"", 6)
        codes = [SUCCESS, RETRY, FAILURE, FAILURE, REJECTED, REJECTED, SUCCESS, SUCCESS]
        self.assertEqual([done.code for done in ended], codes)
        self.assertEqual([ended[0].value, ended[6].value, ended[7].value], [2, None, 12])
        self.assertEqual((ended[1].after_ms, ended[2].error["message"]), (2000, "eight"))
        self.assertEqual(ended[3].error["kind"], "TypeError")
        self.assertEqual(ended[4].error["kind"], "result not JSON")

    def test_their_times_add_up_to_the_call(self) -> None:
        ended = self.run_batch("app.double", *range(3))
        for before, after in zip(ended, ended[1:]):
            self.assertEqual(before.ended_ns, after.started_ns)

    def test_what_the_call_raises_fails_the_batch(self) -> None:
        for done in self.run_batch("app.double", 1, 13):
            self.assertEqual((done.code, done.error["message"]), (BATCH_FAILURE, "unlucky"))

    def test_a_wrong_number_of_answers_fails_the_batch(self) -> None:
        for done in self.run_batch("app.double", 1, 99):
            self.assertEqual(done.code, BATCH_FAILURE)
            self.assertIn("1 answers for 2 jobs", done.error["message"])
        for done in self.run_batch("app.forgets", 1, 2):
            self.assertIn("returned NoneType for 2 jobs", done.error["message"])

    def test_a_single_job_is_a_batch_of_one(self) -> None:
        self.assertEqual(self.worker.call("app.double", 4).value, 8)
        self.assertEqual(self.worker.call("app.double", 4).value, 8)

    def test_a_task_knows_the_jobs_of_its_call(self) -> None:
        ended = self.run_batch("app.who", 1, 2, attempt=2)
        self.assertEqual([done.value for done in ended], [["job-1", 2], ["job-2", 2]])

    def test_coroutine_functions_take_batches_too(self) -> None:
        self.assertEqual([done.value for done in self.run_batch("app.later", 1, 2)], [1, 2])

    def test_a_call_is_interrupted_at_its_timeout(self) -> None:
        ended = self.run_batch("app.sleeps", 1, 2, timeout_ms=50)
        self.assertEqual([done.code for done in ended], [TIMED_OUT, TIMED_OUT])

    def test_a_batch_of_a_plain_function_runs_one_by_one(self) -> None:
        ended = self.run_batch("app.plain", 1, "x", 3)
        self.assertEqual([done.code for done in ended], [SUCCESS, FAILURE, SUCCESS])
        self.assertEqual(ended[2].value, 4)

    def test_a_long_job_in_a_batch_comes_whole(self) -> None:
        payload = json.dumps([0] * 50_000).encode()
        self.assertEqual([len(done.value) for done in self.run_batch("app.later", payload, payload)], [50_000] * 2)


if __name__ == "__main__":
    unittest.main()

"""`poolhouse.testing`: jobs that run where they are enqueued."""

import asyncio
import os
import subprocess
import sys
import tempfile
import unittest

from kit import APP, ROOT

from poolhouse import IdTaken, JobFailed, Refused, Retry, batch
from poolhouse.testing import inline


class Inline(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        directory = tempfile.TemporaryDirectory()
        cls.addClassCleanup(directory.cleanup)
        sys.path.insert(0, str(APP))
        sys.modules.pop("shop", None)
        os.environ["SHOP_TRACES"] = directory.name
        import shop

        cls.shop = shop

    def setUp(self):
        opened = inline(self.shop.pool)
        self.ran = opened.__enter__()
        self.addCleanup(opened.__exit__, None, None, None)

    def test_a_job_runs_at_once_and_is_listed(self):
        self.assertEqual(self.shop.add.options(delay="1h").enqueue(1, b=2).result(), 3)
        (job,) = self.ran.jobs
        self.assertEqual((job.task, job.arguments, job.result), ("shop.add", b'{"a":1,"b":2}', 3))

    def test_arguments_and_results_go_through_json(self):
        self.assertEqual(self.shop.add.enqueue((1,), [2]).result(), [1, 2])
        with self.assertRaises(Refused):
            self.shop.add.enqueue(object())
        with self.assertRaisesRegex(JobFailed, "JSON"):
            self.shop.pool.send("builtins.object").result()

    def test_retries_run_at_once(self):
        self.assertEqual(self.shop.flaky.enqueue("inline", failures=2).result(), "at last")
        with self.assertRaisesRegex(JobFailed, "not yet"):
            self.shop.later.options(retries=3).enqueue("not yet").result()
        self.assertEqual([job.failures for job in self.ran.jobs], [2, 4])
        self.assertEqual([len(job.attempts) for job in self.ran.jobs], [2, 4])
        (found,) = self.shop.pool.jobs(state="failed", error="NOT yet", since="1h")
        self.assertEqual((found.task, found.attempts[0].error.message), ("shop.later", "not yet"))
        self.assertEqual(list(self.shop.pool.jobs(state="waiting")), [])

    def test_a_failure_is_raised_where_its_result_is_asked_for(self):
        job = self.shop.fail.enqueue("no")
        with self.assertRaises(JobFailed) as raised:
            job.result()
        self.assertEqual(raised.exception.kind, "LookupError")

    def test_errors_are_of_the_kinds_that_they_are_of_in_a_pool(self):
        send, runs = self.shop.pool.send, []
        for task, arguments, kind, text, failures in (
            ("shop.nothing_there", None, "unknown task", "no function `nothing_there`", 1),
            ("nowhere.task", None, "unknown task", "no module", 1),
            ("shop._private", None, "unknown task", "no function `_private`", 1),
            ("shop.TRACES", None, "unknown task", "no function `TRACES`", 1),
            ("shop.add", {"c": 1}, "wrong arguments", "'c'", 1),
            ("builtins.set", None, "result not JSON", "set", 1),
            ("shop.later", ["busy"], "retry", r"busy \(asked to run again, but all 2 retries are used\)", 3),
            ("shop.fail", ["no"], "LookupError", "no", 3),
        ):
            with self.subTest(task=task), self.assertRaisesRegex(JobFailed, text) as raised:
                send(task, arguments, retries=2).result()
            self.assertEqual((raised.exception.kind, self.ran.jobs[-1].failures), (kind, failures))
            runs.append(raised.exception.detail)
        self.assertNotIn("poolhouse", runs[-1])
        self.assertIn("in fail", runs[-1])
        with self.assertRaisesRegex(JobFailed, "give it some with `retries`"):
            send("shop.later", ["busy"]).result()

    def test_coroutines_run_also_within_an_event_loop(self):
        async def main():
            return await (await self.shop.twice.aenqueue(2)), self.shop.twice.enqueue(3).result()

        self.assertEqual(asyncio.run(main()), (4, 6))

    def test_groups_and_chains_hand_on_what_they_hand_on_in_a_pool(self):
        shop = self.shop
        *_, last = shop.add.signature(1, 2).then(shop.pool.signature("shop.add", [10])).enqueue()
        self.assertEqual(last.result(), 13)
        *_, last = shop.fail.signature("no").then(shop.twice.signature()).enqueue()
        with self.assertRaisesRegex(JobFailed, "earlier job failed"):
            last.result()
        group = shop.pool.group([shop.add.signature(1), shop.fail.signature("x")], on_done=shop.summary.signature())
        told = self.ran.jobs[-1].result
        self.assertEqual(told, {"group": group.id, "total": 2, "finished": 1, "failed": 1})

    def test_the_current_job_is_known(self):
        self.assertEqual(self.shop.me.options(queue="q").enqueue().result(), ["shop.me", "q"])
        self.assertIsNone(self.shop.me())

    def test_an_id_is_used_once(self):
        self.shop.add.options(id="one").enqueue(1)
        with self.assertRaises(IdTaken):
            self.shop.add.options(id="one").enqueue(1)

    def test_a_batch_task_gets_a_list(self):
        self.assertEqual(self.shop.pool.send("test_inline.sums", [1, 2]).result(), 3)
        with self.assertRaises(JobFailed):
            self.shop.pool.send("test_inline.sums", []).result()


class Import(unittest.TestCase):
    def test_a_preloaded_application_pays_for_no_more_than_it_uses(self):
        text = "import sys, poolhouse\nprint([name for name in ('asyncio', 'sqlite3', 'ctypes', 'logging') if name in sys.modules])"
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "python")}
        done = subprocess.run([sys.executable, "-c", text], env=environment, capture_output=True, text=True, check=True)
        self.assertEqual(done.stdout.strip(), "[]")


@batch(size=10)
def sums(jobs):
    return [sum(job) if job else Retry(reason="empty") for job in jobs]


if __name__ == "__main__":
    unittest.main()

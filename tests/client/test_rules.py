"""The rules over each broker."""

import unittest

from kit import PATIENCE_S, RedisKit, SqliteKit
from rules import Rules, fresh

from poolhouse import Canceled, JobCanceled, JobFailed, JobUnknown, Refused, State


class OnSqlite(Rules, unittest.TestCase):
    """The embedded broker."""

    make_kit = SqliteKit

    def test_a_traceback_is_the_applications_own(self):
        with self.assertRaises(JobFailed) as raised:
            self.shop.fail.enqueue("no").result(PATIENCE_S)
        self.assertNotIn("poolhouse", raised.exception.detail)

    def test_a_chain_hands_each_result_on(self):
        shop = self.shop
        chain = shop.add.signature(1, 2).then(shop.pool.signature("shop.add", [10])).then(shop.twice.signature())
        first, second, last = chain.enqueue()
        self.assertEqual([job.result(PATIENCE_S) for job in (last, second, first)], [26, 13, 3])

    def test_a_failure_ends_the_chain(self):
        shop = self.shop
        first, second = shop.fail.signature("no").then(shop.twice.signature()).enqueue()
        with self.assertRaises(JobFailed) as raised:
            second.result(PATIENCE_S)
        self.assertEqual(raised.exception.kind, "earlier job failed")
        self.assertIn(first.id, raised.exception.message)

    def test_jobs_that_cannot_wait_for_others_are_refused(self):
        shop = self.shop
        for follower in (
            shop.twice.options(delay="1s").signature(),
            shop.twice.options(front=True).signature(),
            shop.twice.options(key="k").signature(),
            shop.summary.signature(previous=1),
            shop.pool.signature("shop.twice", "text"),
        ):
            with self.assertRaises(Refused):
                shop.add.signature(1).then(follower).enqueue()

    def test_a_job_that_is_canceled_ends_its_chain_and_is_counted_in_its_group(self):
        shop, queue, callback = self.shop, fresh("queue"), fresh("id")
        add = shop.add.options(queue=queue)
        first, second, third = add.signature(1).then(add.signature()).then(add.signature()).enqueue()
        self.assertEqual(first.cancel(), Canceled.DONE)
        for job in (second, third):
            with self.assertRaisesRegex(JobFailed, "earlier job failed"):
                job.result(PATIENCE_S)
        # What another tool makes of it: the program says the same of such a chain.
        self.assertIn("earlier job failed", self.kit.cli("wait", second.id, check=False))
        failed = shop.summary.options(id=callback).signature()
        group = shop.pool.group([add.signature(1), add.signature(2)], on_failure=failed, on_done=shop.summary.signature())
        one, two = group.members()
        one.cancel()
        told = shop.pool.get_job(callback).result(PATIENCE_S)
        self.assertEqual((told["total"], told["finished"], told["failed"]), (2, 0, 1))
        self.assertFalse(group.view().is_ended)
        two.cancel()
        self.assertTrue(group.wait(PATIENCE_S).is_ended)

    def test_an_empty_group_has_ended(self):
        group = self.shop.pool.group([], on_done=self.shop.summary.signature())
        self.assertEqual((group.wait(PATIENCE_S).total, group.results(PATIENCE_S)), (0, []))

    def test_a_wait_ends_when_its_job_is_canceled(self):
        import threading

        job = self.shop.add.options(delay="1h").enqueue(1)
        raised = []

        def wait():
            try:
                job.result(PATIENCE_S)
            except JobCanceled as error:
                raised.append(error)

        thread = threading.Thread(target=wait)
        thread.start()
        job.cancel()
        thread.join(PATIENCE_S)
        self.assertEqual(len(raised), 1)

    def test_a_job_that_keeps_no_result_is_unknown_when_it_has_ended(self):
        with self.assertRaises(JobUnknown):
            self.shop.add.options(result_ttl=0).enqueue(1).result(PATIENCE_S)

    def test_a_deferred_job_is_in_no_queue(self):
        first, second = self.shop.add.options(delay=None, queue=fresh("queue")).signature(1).then(
            self.shop.add.signature()
        ).enqueue()
        self.assertEqual((first.state, second.state), (State.WAITING, State.DEFERRED))


class OnRedis(Rules, unittest.TestCase):
    """RQ's jobs in Redis. RQ hands no results on, and can't run something at the first failure."""

    make_kit = RedisKit

    def test_what_rq_has_no_notion_of_is_refused(self):
        add, pool = self.shop.add, self.shop.pool
        with self.assertRaisesRegex(Refused, "depends_on"):
            add.signature(1).then(add.signature()).enqueue()
        with self.assertRaisesRegex(Refused, "pool enqueue --group --on-failure"):
            pool.group([add.signature(1)], on_failure=add.signature())
        with self.assertRaisesRegex(Refused, "one job at least"):
            pool.group([])


if __name__ == "__main__":
    unittest.main()

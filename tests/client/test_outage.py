"""A server of Redis that goes away while the client waits."""

import asyncio
import logging
import threading
import unittest
from unittest import mock

from kit import PATIENCE_S, RedisKit, until

from redis.exceptions import ConnectionError as RedisConnectionError

from poolhouse import BrokerError, BrokerUnreachable, Pool


class LastingRedisKit(RedisKit):
    """What it holds is there again after a restart."""

    def make_broker(self):
        from support.server import RedisServer

        self.server = self._server = RedisServer("--appendonly", "yes", "--appendfsync", "always")
        return self._server.url

    def waiting_clients(self):
        """How many clients wait in a blocking read."""
        with self.server.client() as client:
            return sum(each["cmd"] == "xread" and "b" in each["flags"] for each in client.client_list())


class Outage(unittest.TestCase):
    def setUp(self):
        self.kit = LastingRedisKit()
        self.addCleanup(self.kit.stop)
        self.pool = Pool(self.kit.url)
        self.addCleanup(self.pool.close)

    def test_a_wait_goes_on_when_the_server_is_back(self):
        jobs = [self.pool.send("shop.add", [number], queue="later") for number in range(2)]
        results = [None, None]

        def wait():
            results[0] = jobs[0].result(PATIENCE_S)

        async def wait_async():
            results[1] = await jobs[1].aresult(PATIENCE_S)

        threads = [threading.Thread(target=wait), threading.Thread(target=lambda: asyncio.run(wait_async()))]
        for thread in threads:
            thread.start()
        until(lambda: self.kit.waiting_clients() == 2, "both wait")
        self.kit.server.kill()
        self.kit.server.launch()
        self.kit.serve("later")
        for thread in threads:
            thread.join(PATIENCE_S)
        self.assertEqual(results, [0, 1])

    def test_the_time_of_a_wait_is_up_also_while_the_server_is_away(self):
        job = self.pool.send("shop.add", [1])
        outcome = []

        def wait():
            try:
                job.result("3s")
            except Exception as error:
                outcome.append(error)

        thread = threading.Thread(target=wait)
        thread.start()
        until(self.kit.waiting_clients, "it waits")
        self.kit.server.kill()
        thread.join(PATIENCE_S)
        self.assertIsInstance(outcome[0], TimeoutError)

    def test_a_wait_may_begin_while_the_server_is_away(self):
        job = self.pool.send("shop.add", [2], queue="later")
        self.kit.server.kill()
        results = []
        thread = threading.Thread(target=lambda: results.append(job.result(PATIENCE_S)))
        thread.start()
        self.kit.server.launch()
        self.kit.serve("later")
        thread.join(PATIENCE_S)
        self.assertEqual(results, [2])

    def test_a_url_that_can_not_be_meant_is_refused(self):
        for url, said in (("/x", "its database is 'x'"), ("?foo=1", "foo")):
            with self.assertRaisesRegex(BrokerError, said):
                Pool(f"redis://:secret@127.0.0.1:1{url}").send("shop.add", [1])

    def test_a_server_that_never_answered_is_told_at_once(self):
        job = self.pool.send("shop.add", [1])
        self.pool.close()
        self.kit.server.kill()
        for ask in (lambda: job.result(PATIENCE_S), lambda: job.state, lambda: self.pool.send("shop.add", [1])):
            with self.assertRaises(BrokerUnreachable):
                ask()

    def test_the_log_says_once_that_nobody_moves_delayed_jobs(self):
        with self.assertLogs("poolhouse", logging.WARNING) as logs:
            for _ in range(2):
                self.pool.send("shop.add", [1], delay="1h", queue="slow")
            self.pool.send("shop.add", [1])
        self.assertEqual(len(logs.output), 1)
        self.assertIn("no scheduler moves jobs that come due into the queue `slow`", logs.output[0])

    def test_a_job_is_enqueued_also_where_nobody_can_look_for_schedulers(self):
        redis = self.pool._connection.broker()._redis
        with mock.patch.object(redis, "exists", side_effect=RedisConnectionError("lost")):
            job = self.pool.send("shop.add", [1], delay="1h")
        self.assertEqual(job.state, "scheduled")


if __name__ == "__main__":
    unittest.main()

"""What the client promises, on every broker. What one has no notion of stands in its class, with the reason."""

import asyncio
import importlib
import os
import threading
import uuid

from kit import APP, PATIENCE_S, until
from poolhouse import (
    Canceled,
    IdTaken,
    JobCanceled,
    JobFailed,
    JobUnknown,
    Pool,
    PoolhouseError,
    Progress,
    Refused,
    State,
)


def fresh(word="x"):
    return f"{word}-{uuid.uuid4().hex[:8]}"


class Rules:
    """Run over each broker by a class with a `kit`."""

    kit = None

    @classmethod
    def setUpClass(cls):
        cls.kit = cls.make_kit()
        cls.addClassCleanup(cls.kit.stop)
        cls.kit.start()
        os.environ.update({key: cls.kit.environment[key] for key in ("POOL_BROKER", "POOL_CONFIG", "SHOP_TRACES")})
        cls.shop = _imported("shop")
        cls.addClassCleanup(cls.shop.pool.close)

    # What runs, and what comes of it.

    def test_a_job_runs_and_its_result_comes(self):
        self.assertEqual(self.shop.add.enqueue(a=1, b=2).result(timeout=PATIENCE_S), 3)

    def test_a_task_can_still_be_called(self):
        self.assertEqual(self.shop.add(1, 2), 3)
        self.assertEqual(self.shop.Stock.count("abc"), 3)

    def test_arguments_of_all_kinds_arrive(self):
        shop = self.shop
        jobs = {
            shop.add.enqueue(1): 1,
            shop.add.enqueue(1, 2): 3,
            shop.add.enqueue(1, b=4): 5,
            shop.add.enqueue("ä", "ö\ud83d\ude00".encode("utf-16", "surrogatepass").decode("utf-16")): "äö😀",
            shop.spread.enqueue(): 0,
            shop.spread.enqueue(1, 2, 3): 6,
            shop.twice.enqueue(number=4): 8,
            shop.Stock.count.enqueue("abcd"): 4,
            shop.Stock.count.enqueue(os.fsdecode(b"caf\xe9")): 4,  # the name of a file that is no UTF-8
        }
        for job, expected in jobs.items():
            self.assertEqual(job.result(PATIENCE_S), expected, job)

    def test_arguments_that_the_function_does_not_take_are_refused_at_once(self):
        with self.assertRaisesRegex(TypeError, r"add\(\) missing a required argument: 'a'"):
            self.shop.add.enqueue()
        with self.assertRaisesRegex(TypeError, "unexpected keyword argument 'c'"):
            self.shop.add.enqueue(1, c=2)

    def test_what_json_can_not_say_is_refused(self):
        for value in (object(), float("nan"), {1, 2}):
            with self.assertRaisesRegex(Refused, "JSON"):
                self.shop.add.enqueue(value)

    def test_a_task_is_sent_by_its_name(self):
        for arguments in ({"text": "a"}, ["a"], "a"):
            job = self.shop.pool.send("shop.undecorated", arguments)
            self.assertEqual(job.result(PATIENCE_S), "A")

    def test_a_failure_is_raised_with_kind_message_and_traceback(self):
        with self.assertRaises(JobFailed) as raised:
            self.shop.fail.enqueue("no shoes").result(PATIENCE_S)
        error = raised.exception
        self.assertEqual((error.kind, error.message.strip("'")), ("LookupError", "no shoes"))
        self.assertIn("in fail", error.detail)

    def test_retries_are_used_up_and_no_more(self):
        flaky = self.shop.flaky
        self.assertEqual(flaky.enqueue(fresh(), failures=2).result(PATIENCE_S), "at last")
        with self.assertRaisesRegex(JobFailed, "run 2"):
            flaky.options(retries=1).enqueue(fresh(), failures=2).result(PATIENCE_S)

    def test_a_timeout_is_a_failure(self):
        with self.assertRaises(JobFailed) as raised:
            self.shop.overrun.enqueue().result(PATIENCE_S)
        self.assertRegex(f"{raised.exception.kind} {raised.exception.message}".lower(), "time")
        self.assertIn("caught a timeout", self.kit.noted())

    def test_a_job_that_asks_is_run_again_and_knows_which_run_it_is(self):
        self.assertEqual(self.shop.counts_its_runs.enqueue(3).result(PATIENCE_S), 3)
        with self.assertRaisesRegex(JobFailed, "run 2.*only retry is used"):
            self.shop.counts_its_runs.options(retries=1).enqueue(4).result(PATIENCE_S)
        runs = [f"run {run} of {runs}" for runs, most in ((3, 3), (4, 2)) for run in range(1, most + 1)]
        self.assertEqual([noted for noted in self.kit.noted() if noted.startswith("run ")], runs)

    def test_a_job_enqueues_another(self):
        id = self.shop.enqueues.enqueue(4).result(PATIENCE_S)
        self.assertEqual(self.shop.pool.get_job(id).result(PATIENCE_S), 5)

    def test_a_running_job_tells_how_far_it_is(self):
        name = fresh()
        job = self.shop.advance.enqueue(name)
        until(lambda: job.view().progress == Progress(0.5, "half of the rows"), "the last word")
        self.kit.release(name)
        self.assertEqual(job.result(PATIENCE_S), name)
        self.assertIsNone(job.view().progress, "it has ended")

    # Queues, keys, ids.

    def test_jobs_of_a_queue_come_in_order_and_one_at_the_front_goes_ahead(self):
        queue = fresh("queue")
        words = [fresh() for _ in range(4)]
        note = self.shop.note.options(queue=queue)
        note.enqueue_many([[word] for word in words[1:3]])
        note.enqueue(words[3])
        note.options(front=True).enqueue(words[0])
        self.kit.serve(queue)
        self.assertEqual([word for word in self.kit.noted() if word in words], words)

    def test_a_queue_that_nobody_serves_keeps_its_jobs(self):
        job = self.shop.add.options(queue=fresh("queue")).enqueue(1)
        view = job.view()
        self.assertEqual((view.state, view.task, view.arguments), (State.WAITING, "shop.add", b"[1]"))
        self.assertIsNotNone(view.enqueued)
        self.assertEqual(job.cancel(), Canceled.DONE)

    def test_a_delayed_job_is_scheduled_and_runs_when_it_is_due(self):
        far = self.shop.add.options(delay="1h").enqueue(1)
        view = far.view()
        self.assertEqual(view.state, State.SCHEDULED)
        self.assertAlmostEqual((view.due - view.enqueued).total_seconds(), 3600, delta=2)  # RQ counts whole seconds
        soon = self.shop.add.options(delay="1s").enqueue(1, 1)
        self.assertEqual(soon.result(PATIENCE_S), 2)
        self.assertEqual(far.cancel(), Canceled.DONE)

    def test_a_key_is_held_until_the_job_ends(self):
        key, name = fresh("key"), fresh()
        hold = self.shop.hold.options(key=key)
        first = hold.enqueue(name)
        again = hold.enqueue(name)
        self.assertEqual((again.id, first.is_new, again.is_new), (first.id, True, False))
        self.kit.release(name)
        first.result(PATIENCE_S)
        self.assertTrue(hold.enqueue(name).is_new)

    def test_a_key_holds_within_one_call(self):
        add = self.shop.add.options(key=fresh("key"), queue=fresh("queue"))
        first, second = self.shop.pool.enqueue_many([add.signature(1), add.signature(2)])
        self.assertEqual((first.id, first.is_new, second.is_new), (second.id, True, False))

    def test_an_id_that_is_taken_is_refused_and_nothing_is_enqueued(self):
        id, other = fresh("id"), fresh("id")
        add = self.shop.add
        self.assertEqual(add.options(id=id).enqueue(1).result(PATIENCE_S), 1)
        with self.assertRaises(IdTaken) as raised:
            self.shop.pool.enqueue_many([add.options(id=other).signature(1), add.options(id=id).signature(1)])
        self.assertEqual(raised.exception.id, id)
        with self.assertRaises(JobUnknown):
            self.shop.pool.get_job(other).view()
        with self.assertRaises(IdTaken):
            self.shop.pool.enqueue_many([add.options(id=other).signature(1)] * 2)

    def test_what_is_too_long_is_refused_with_the_figures(self):
        with self.assertRaisesRegex(Refused, r"2000003 bytes long, above the limit of 1048576"):
            self.shop.note.enqueue("x" * 1_999_999)

    def test_bad_names_and_options_are_refused(self):
        pool = self.shop.pool
        for task, options in (
            ("", {}),
            ("a\nb", {}),
            ("x" * 256, {}),
            ("shop.add", {"queue": "\x00"}),
            ("shop.add", {"key": ""}),
            ("shop.add", {"id": "\x1b"}),
            ("shop.add", {"retries": -1}),
            ("shop.add", {"timeout": 0}),
        ):
            with self.subTest(task=task, **options), self.assertRaises(Refused):
                pool.send(task, [1], **options)
        with self.assertRaisesRegex(ValueError, "delay"):
            pool.send("shop.add", [1], delay="soon")
        with self.assertRaises(TypeError):
            pool.send("shop.add", [1], dely="5m")

    def test_many_jobs_are_enqueued_in_one_call(self):
        jobs = self.shop.add.enqueue_many({"a": number} for number in range(100))
        self.assertEqual([job.result(PATIENCE_S) for job in jobs], list(range(100)))
        self.assertEqual(self.shop.add.enqueue_many([]), [])
        self.assertEqual(self.shop.pool.enqueue_many([]), [])

    # Waiting.

    def test_a_wait_ends_when_its_time_is_up_and_the_job_goes_on(self):
        name = fresh()
        job = self.shop.hold.enqueue(name)
        with self.assertRaisesRegex(TimeoutError, "0.05 s; it goes on"):
            job.result(timeout="50ms")
        self.kit.release(name)
        self.assertEqual(job.result(PATIENCE_S), name)

    def test_a_result_can_be_read_again(self):
        job = self.shop.add.enqueue(1)
        self.assertEqual([job.result(PATIENCE_S) for _ in range(3)], [1, 1, 1])
        self.assertEqual((job.state, job.view().result), (State.FINISHED, 1))

    def test_an_unknown_job_is_unknown(self):
        job = self.shop.pool.get_job(fresh("never"))
        for ask in (job.result, job.view):
            with self.assertRaises(JobUnknown):
                ask()
        self.assertEqual(job.cancel(), Canceled.UNKNOWN)

    def test_many_threads_wait_at_once(self):
        names = [fresh() for _ in range(8)]
        jobs = [self.shop.add.options(delay="1s").enqueue(name, "!") for name in names]
        results = {}
        threads = [threading.Thread(target=lambda job=job: results.update({job.id: job.result(PATIENCE_S)})) for job in jobs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE_S)
        self.assertEqual([results.get(job.id) for job in jobs], [f"{name}!" for name in names])

    def test_coroutines_enqueue_and_wait(self):
        shop = self.shop

        async def main():
            job = await shop.twice.aenqueue(21)
            many = await shop.add.aenqueue_many([[number] for number in range(20)])
            results = await asyncio.gather(*many)
            with self.assertRaises(JobFailed):
                await shop.fail.enqueue("x")
            name = fresh()
            held = await shop.pool.asend("shop.hold", [name])
            with self.assertRaises(TimeoutError):
                await held.aresult(timeout="50ms")
            self.kit.release(name)
            return await job, results, await held, (await job.aview()).state

        result, results, held, state = asyncio.run(main())
        self.assertEqual((result, results, state), (42, list(range(20)), State.FINISHED))

    def test_coroutines_that_wait_keep_no_others_from_enqueueing(self):
        names = [fresh() for _ in range(40)]  # more than the event loop has threads

        async def main():
            held = [await self.shop.pool.asend("shop.add", [name, "!"], delay="1s") for name in names]
            waits = [asyncio.ensure_future(job.aresult(PATIENCE_S)) for job in held]
            await asyncio.sleep(0)
            first = await (await self.shop.add.aenqueue(1))
            return first, await asyncio.gather(*waits)

        self.assertEqual(asyncio.run(main()), (1, [f"{name}!" for name in names]))

    def test_threads_enqueue_at_once(self):
        ids = []
        add = self.shop.add.options(queue=fresh("queue"))

        def enqueue():
            ids.extend([add.enqueue(1).id for _ in range(25)])

        threads = [threading.Thread(target=enqueue) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE_S)
        self.assertEqual(len(set(ids)), 100)

    def test_a_forked_process_enqueues_on_its_own(self):
        self.shop.add.enqueue(1).result(PATIENCE_S)  # the connection is open, and a thread may wait
        reads, writes = os.pipe()
        child = os.fork()
        if not child:
            try:
                os.write(writes, str(self.shop.add.enqueue(2, 3).result(PATIENCE_S)).encode())
            finally:
                os._exit(0)
        os.close(writes)
        with os.fdopen(reads) as pipe:
            self.assertEqual(pipe.read(), "5")
        os.waitpid(child, 0)
        self.assertEqual(self.shop.add.enqueue(1).result(PATIENCE_S), 1)

    def test_program_and_client_see_each_others_jobs(self):
        id = self.kit.cli("enqueue", "shop.add", "[1, 2]")
        self.assertEqual(self.shop.pool.get_job(id).result(PATIENCE_S), 3)
        job = self.shop.add.enqueue(3, 4)
        self.assertIn('"result":7', self.kit.cli("wait", job.id, "--timeout", f"{PATIENCE_S}s"))

    # Canceling.

    def test_what_waits_is_canceled_and_never_runs(self):
        queue, word = fresh("queue"), fresh()
        job = self.shop.note.options(queue=queue).enqueue(word)
        self.assertEqual(job.cancel(), Canceled.DONE)
        self.assertEqual(job.cancel(), Canceled.ENDED)
        with self.assertRaises(JobCanceled):
            job.result(PATIENCE_S)
        self.kit.serve(queue)
        self.assertNotIn(word, self.kit.noted())

    def test_what_runs_is_stopped_only_if_that_is_asked_for(self):
        name = fresh()
        job = self.shop.hold.enqueue(name)
        until(lambda: f"holds {name}" in self.kit.noted(), "the job runs")
        until(lambda: self.kit.has_begun(job.id), "the supervisor notes that it runs")
        self.assertEqual((job.cancel(), job.state), (Canceled.RUNS, State.RUNNING))
        self.assertEqual(job.cancel(running=True), Canceled.ASKED)
        with self.assertRaises(JobCanceled):
            job.result(PATIENCE_S)

    def test_all_of_a_queue_or_a_task_is_canceled(self):
        queue, other = fresh("queue"), fresh("queue")
        note, add, pool = self.shop.note.options(queue=queue), self.shop.add.options(queue=queue), self.shop.pool
        noted = note.enqueue_many([[fresh()] for _ in range(1_200)])  # more than two steps
        late = note.options(delay="1h").enqueue(fresh())
        added, elsewhere = add.enqueue(1), self.shop.note.options(queue=other).enqueue(fresh())
        self.assertEqual(pool.cancel(queue=queue, task="shop.note"), 1_201)
        self.assertEqual({job.state for job in (*noted[::300], late)}, {State.CANCELED})
        self.assertEqual((added.state, elsewhere.state), (State.WAITING, State.WAITING))
        self.assertEqual(asyncio.run(pool.acancel(queue=queue)), 1)
        self.assertEqual(pool.cancel(queue=queue), 0)
        self.assertEqual(pool.cancel(queue=other), 1)
        with self.assertRaises(Refused):
            pool.cancel()

    def test_a_queue_is_emptied_without_a_record(self):
        queue, pool = fresh("queue"), self.shop.pool
        add = self.shop.add.options(queue=queue)
        jobs = add.enqueue_many([[1]] * 1_001)
        late = add.options(delay="1h").enqueue(1)
        self.assertEqual(pool.purge(queue), 1_001)
        with self.assertRaises(JobUnknown):
            jobs[0].view()
        self.assertEqual(late.state, State.SCHEDULED)
        self.assertEqual(asyncio.run(pool.apurge(queue, scheduled=True)), 1)
        self.assertEqual(pool.purge(fresh("never")), 0)
        blocked = add.options(limit=(fresh("limit"), 2)).enqueue_many([[1]] * 8)
        self.assertEqual(pool.purge(queue), 8)
        with self.assertRaises(JobUnknown):
            blocked[-1].view()

    def test_a_job_that_has_not_begun_in_time_never_runs(self):
        queue, word = fresh("queue"), fresh()
        late = self.shop.note.options(queue=queue, expires="1s").enqueue(word)
        kept = self.shop.note.options(queue=queue, expires="1h").enqueue(f"kept {word}")
        until(lambda: self.kit.is_expired(late.id), "its time passes")
        self.kit.serve(queue)
        kept.result(PATIENCE_S)
        self.assertEqual([each for each in self.kit.noted() if word in each], [f"kept {word}"])

    def test_so_many_jobs_of_a_key_run_at_once(self):
        hold, names = self.shop.hold.options(limit=(fresh("limit"), 1)), [fresh(), fresh()]
        jobs = [hold.enqueue(name) for name in names]
        until(lambda: f"holds {names[0]}" in self.kit.noted(), "the first one runs")
        other = self.shop.add.enqueue(1)
        self.assertEqual(other.result(PATIENCE_S), 1, "the others go on")
        until(lambda: jobs[1].state is State.BLOCKED, "the second one is blocked")
        self.assertIn(jobs[1].id, [view.id for view in self.shop.pool.jobs(state="blocked", queue="default")])
        self.assertNotIn(f"holds {names[1]}", self.kit.noted())
        for name in names:
            self.kit.release(name)
        self.assertEqual([job.result(PATIENCE_S) for job in jobs], names)
        for wrong in (("k", 0), ("", 1), "k"):
            with self.assertRaises(Refused):
                hold.options(limit=wrong).enqueue("never")

    # Finding.

    def test_jobs_are_found_by_what_is_known_of_them(self):
        shop, pool, queue = self.shop, self.shop.pool, fresh("queue")
        waiting = shop.add.options(queue=queue).enqueue_many([[number] for number in range(1_100)])
        late = shop.note.options(queue=queue, delay="1h").enqueue("x")
        canceled = shop.add.options(queue=queue).enqueue(1)
        canceled.cancel()
        found = [view.id for view in pool.jobs(queue=queue, state="waiting")]
        self.assertEqual(found, [job.id for job in reversed(waiting)], "the newest first, over some pages")
        ids = lambda **conditions: {view.id for view in pool.jobs(queue=queue, **conditions)}
        self.assertEqual(ids(), {canceled.id, late.id, *found})
        self.assertEqual(ids(task="shop.note"), {late.id})
        self.assertEqual(ids(state=[State.SCHEDULED, "canceled"]), {late.id, canceled.id})
        self.assertEqual([view.state for view in pool.jobs(queue=queue, state=State.CANCELED)], [canceled.state])
        self.assertEqual((ids(state="dead"), ids(since="0s"), ids(task="never")), (set(), set(), set()))
        self.assertEqual(len(ids(since="1h")), 1_102)
        self.assertEqual([view.id for view in pool.jobs(queue=queue, limit=2)], found[:2])
        self.assertEqual(list(pool.jobs(queue=queue, limit=0)), [])
        for wrong in ({"state": "lost"}, {"limit": -1}):
            with self.assertRaises(Refused):
                list(pool.jobs(**wrong))
        with self.assertRaises(ValueError):
            list(pool.jobs(since="soon"))
        pool.cancel(queue=queue)

    def test_jobs_are_found_by_their_error(self):
        word = fresh("Shoes")
        jobs = [self.shop.fail.enqueue(f"no {word} here"), self.shop.fail.enqueue("nothing else")]
        for job in jobs:
            with self.assertRaises(JobFailed):
                job.result(PATIENCE_S)

        async def found():
            return [view async for view in self.shop.pool.ajobs(state="failed", error=word.upper(), since="1h")]

        (view,) = asyncio.run(found())
        self.assertEqual((view.id, view.state, view.error.kind), (jobs[0].id, State.DEAD, "LookupError"))

    def test_jobs_are_found_by_their_arguments(self):
        queue = fresh("queue")
        told = [{"to": "ada", "order": {"id": number, "items": ["a", "b"], "paid": number == 1}} for number in range(3)]
        jobs = [self.shop.pool.send("shop.summary", each, queue=queue, delay="1h") for each in told]
        positional = self.shop.add.options(queue=queue, delay="1h").enqueue("ada", 1)
        for wanted, expected in (
            ({"order.id": 1}, [1]),
            ({"order.id": 1, "to": "ada"}, [1]),
            ({"to": "ada"}, [0, 1, 2]),
            ({"order.items.1": "b", "order.id": 2}, [2]),
            ({"order.paid": True}, [1]),
            ({"order.id": "1"}, []),
            ({"order.paid": 1}, []),
            ({"order.none": None}, []),
        ):
            found = [view.id for view in self.shop.pool.jobs(queue=queue, arguments=wanted)]
            self.assertCountEqual(found, [jobs[number].id for number in expected], wanted)
        found = [view.id for view in self.shop.pool.jobs(queue=queue, arguments={"0": "ada"})]
        self.assertEqual(found, [positional.id])
        with self.assertRaisesRegex(Refused, "no path"):
            next(self.shop.pool.jobs(arguments={"": 1}))
        self.shop.pool.cancel(queue=queue)

    def test_a_search_goes_on_while_jobs_leave(self):
        queue = fresh("queue")
        jobs = self.shop.add.options(queue=queue).enqueue_many([[number] for number in range(1_200)])
        found = self.shop.pool.jobs(queue=queue, state="waiting")
        first = [next(found).id for _ in range(10)]
        for job in [*jobs[:50], *jobs[-400:-100]]:  # at both ends
            job.cancel()
        rest = [view.id for view in found]
        self.assertLessEqual({job.id for job in jobs[50:800]}, set(rest))
        self.assertEqual(len(first + rest), len({*first, *rest}), "none comes twice")
        self.shop.pool.cancel(queue=queue)

    def test_a_failed_run_is_shown_with_its_worker_and_its_time(self):
        job = self.shop.fail.enqueue("no shoes")
        with self.assertRaises(JobFailed):
            job.result(PATIENCE_S)
        (attempt,) = job.view().attempts
        self.assertEqual((attempt.error.kind, attempt.error.message.strip("'")), ("LookupError", "no shoes"))
        self.assertTrue(attempt.worker)
        self.assertGreaterEqual(attempt.duration.total_seconds(), 0)
        self.assertEqual(self.shop.add.enqueue(1).view().attempts, ())

    def test_what_has_ended_is_not_canceled(self):
        job = self.shop.add.enqueue(1)
        job.result(PATIENCE_S)
        self.assertEqual((job.cancel(), job.cancel(running=True)), (Canceled.ENDED, Canceled.ENDED))

    # Groups.

    def test_a_group_has_its_results_in_order(self):
        add = self.shop.add
        group = self.shop.pool.group([add.signature(number) for number in range(10)])
        self.assertEqual(group.results(PATIENCE_S), list(range(10)))
        view = group.view()
        self.assertEqual((view.total, view.finished, view.failed, view.is_ended), (10, 10, 0, True))

    def test_a_group_calls_back_when_all_have_ended_well_or_not(self):
        shop = self.shop
        calls = [shop.add.signature(1), shop.fail.signature("no"), shop.add.signature(2)]
        callback = fresh("id")
        group = shop.pool.group(calls, on_done=shop.summary.options(id=callback).signature())
        with self.assertRaisesRegex(JobFailed, "no"):
            group.results(PATIENCE_S)
        self.assertEqual(asyncio.run(group.aresults(PATIENCE_S, return_exceptions=True))[::2], [1, 2])
        told = shop.pool.get_job(callback).result(PATIENCE_S)
        self.assertEqual((told["group"], told["total"]), (group.id, 3))

    def test_a_group_is_added_as_a_whole_or_not_at_all(self):
        add, pool, id, job = self.shop.add, self.shop.pool, fresh("group"), fresh("id")
        pool.group([add.signature(1)], id=id)
        with self.assertRaises(IdTaken):
            pool.group([add.options(id=job).signature(1)], id=id)
        with self.assertRaises(JobUnknown):
            pool.get_job(job).view()
        with self.assertRaisesRegex(Refused, "key"):
            pool.group([add.options(key="k").signature(1)])
        with self.assertRaises(PoolhouseError):
            pool.get_group(fresh("never")).view()

    def test_a_pool_that_is_closed_opens_again(self):
        pool = Pool(self.kit.url)
        first = pool.send("shop.add", [1])
        pool.close()
        self.assertEqual(pool.get_job(first.id).result(PATIENCE_S), 1)
        pool.close()


def _imported(name):
    import sys

    sys.path[:] = [str(APP), *(entry for entry in sys.path if entry != str(APP))]
    sys.modules.pop(name, None)
    return importlib.import_module(name)



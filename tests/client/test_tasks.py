"""Tasks and calls before any broker hears of them: what is refused, and in which words."""

import dataclasses
import sys
import unittest
from datetime import date, timedelta

from kit import ROOT

sys.path.insert(0, str(ROOT / "python"))

from poolhouse import Pool, PoolhouseError, Refused, batch  # noqa: E402
from poolhouse.options import OptionArguments, Options  # noqa: E402
from poolhouse.parameters import Parameters  # noqa: E402
from poolhouse.testing import inline  # noqa: E402

#: No test opens its broker, or it fails.
pool = Pool("sqlite:/nonexistent/pool.db")


@pool.task
def add(a, b=0):
    return a + b


@pool.task
def nothing():
    return None


@pool.task
def report(group, total, finished, failed):
    return [total, finished, failed]


@pool.task
@batch(size=10)
def insert(rows):
    return [None for _ in rows]


class Options_(unittest.TestCase):
    def test_a_wrong_option_is_refused_where_it_is_written(self):
        wrong = {
            "timeout": ["soon", 0, -1, "1x"],
            "retries": [-1, "3", 1.5, True, 1 << 40],
            "result_ttl": ["later", -1],
            "expires": ["never", 0],
            "limit": [3, ("database", 0), ("", 3), ("database",), ("database", True)],
            "queue": ["", 3, "a\nb", "x" * 256],
        }
        for name, values in wrong.items():
            for value in values:
                with self.subTest(name=name, value=value):
                    with self.assertRaises(ValueError):
                        pool.task(**{name: value})(sys.intern)
                    with self.assertRaises(ValueError):
                        add.options(**{name: value})
                    with self.assertRaises(ValueError):
                        pool.signature("shop.add", [1], **{name: value})
        for name, value in {"at": "2027-01-01", "delay": "soon", "key": "", "id": ""}.items():
            with self.subTest(name=name), self.assertRaisesRegex(ValueError, name):
                add.options(**{name: value})
        with self.assertRaisesRegex(Refused, "expected a datetime"):
            add.options(at=date.today())

    def test_an_option_that_there_is_not_is_named(self):
        for use in (
            lambda: add.options(dely="5m"),
            lambda: pool.send("shop.add", dely=1),
            lambda: pool.signature("shop.add", dely=1),
        ):
            with self.assertRaisesRegex(TypeError, "no option 'dely'; there are queue, delay, .*arguments of a job are never"):
                use()

    def test_type_checkers_know_all_options(self):
        self.assertEqual([*OptionArguments.__annotations__], [field.name for field in dataclasses.fields(Options)])

    def test_a_pool_takes_a_url(self):
        for wrong in (3, ["sqlite:a.db"]):
            with self.assertRaisesRegex(TypeError, "expected a URL"):
                Pool(wrong)
        with self.assertRaises(PoolhouseError) as refused:
            Pool("amqp://user:secret@host/?password=secret").send("shop.add")
        self.assertEqual(str(refused.exception).split(" ")[0], "`amqp://host/`")
        with self.assertRaisesRegex(ValueError, "max_payload"):
            Pool("sqlite:a.db", max_payload=0)


class Searches(unittest.TestCase):
    def test_what_no_job_could_have_is_refused(self):
        for conditions in (
            {"task": add},
            {"queue": 3},
            {"error": ValueError},
            {"arguments": "x"},
            {"arguments": {"0": {1}}},
            {"arguments": {"0": float("nan")}},
            {"arguments": {0: "a"}},
            {"state": "lost"},
            {"limit": -1},
        ):
            with self.subTest(conditions), self.assertRaises(Refused):
                next(pool.jobs(**conditions))


class Functions(unittest.TestCase):
    def test_what_no_worker_could_find_is_no_task(self):
        with self.assertRaisesRegex(ValueError, "inside a function"):

            @pool.task
            def inner():
                pass

        with self.assertRaisesRegex(ValueError, "lambda"):
            pool.task(lambda: 1)
        with self.assertRaisesRegex(TypeError, "no function"):
            pool.task("shop.add")

    def test_arguments_are_refused_as_python_refuses_them(self):
        """Each function is called with each of these: the same are refused."""

        def by_place(a, b, /, c=0):
            pass

        def by_name(a, *, b, c=0):
            pass

        def all_of_them(*args, **kwargs):
            pass

        def mixed(a, b=0, *args, c, **kwargs):
            pass

        calls = [
            ((), {}),
            ((1,), {}),
            ((1, 2), {}),
            ((1, 2, 3), {}),
            ((1, 2, 3, 4), {}),
            ((), {"a": 1}),
            ((), {"a": 1, "b": 2}),
            ((), {"a": 1, "b": 2, "c": 3}),
            ((), {"a": 1, "c": 3}),
            ((), {"a": 1, "b": 2, "d": 4}),
            ((1,), {"b": 2}),
            ((1,), {"c": 2}),
            ((1, 2), {"b": 2}),
            ((1, 2), {"c": 2}),
        ]
        for function in (by_place, by_name, all_of_them, mixed, add.function, nothing.function):
            parameters = Parameters(function, "shop.task")
            for args, kwargs in calls:
                with self.subTest(function=function.__name__, args=args, kwargs=kwargs):
                    try:
                        parameters.check(args, kwargs)
                        refused = False
                    except TypeError:
                        refused = True
                    try:
                        function(*args, **kwargs)
                        is_wrong = False
                    except TypeError:
                        is_wrong = True
                    self.assertEqual(refused, is_wrong)

    def test_many_arguments_are_checked_one_by_one(self):
        with inline(pool) as ran:
            self.assertEqual([job.result() for job in add.enqueue_many([[1], {"a": 2, "b": 3}, (4, 5)])], [1, 5, 9])
            with self.assertRaisesRegex(TypeError, r"add\(\) got an unexpected keyword argument 'c' \(arguments 2 of many\)"):
                add.enqueue_many([[1], {"a": 1, "c": 2}])
            with self.assertRaisesRegex(TypeError, "missing a required argument: 'a'"):
                add.enqueue_many([{}])
            with self.assertRaisesRegex(Refused, "expected a mapping"):
                add.enqueue_many(["a"])
            self.assertEqual(len(nothing.enqueue_many([None, [], {}])), 3)
            self.assertEqual(len(insert.enqueue_many([{"any": 1}, [2]])), 2)
        self.assertEqual(len(ran.jobs), 8)


class Calls(unittest.TestCase):
    def test_a_call_is_checked_when_it_is_made(self):
        with self.assertRaisesRegex(TypeError, "too many"):
            add.signature(1, 2, 3)
        with self.assertRaisesRegex(TypeError, "'c'"):
            add.signature(c=1)

    def test_what_a_call_lacks_may_come_from_others_and_from_nowhere_else(self):
        with inline(pool):
            self.assertEqual(add.signature(1).then(add.signature()).then(add.signature(4)).enqueue()[-1].result(), 5)
            group = pool.group([add.signature(1)], on_done=report.signature())
            self.assertEqual(group.results(), [1])
            for enqueue in (
                add.signature().enqueue,
                add.signature().then(add.signature()).enqueue,
                lambda: pool.enqueue_many([add.signature()]),
                lambda: pool.group([add.signature()]),
            ):
                with self.assertRaisesRegex(TypeError, "missing a required argument: 'a'"):
                    enqueue()

    def test_what_is_no_call_is_named(self):
        for use in (
            lambda: pool.enqueue_many([add]),
            lambda: pool.group([add]),
            lambda: pool.group([], on_done=add),
            lambda: pool.group([], on_failure=add),
            lambda: add.signature(1).then(add),
            lambda: add.signature(1).then(add.signature()).then(add),
        ):
            with self.assertRaisesRegex(TypeError, r"such as .*signature.*not the task `.*add` itself"):
                use()
        with self.assertRaisesRegex(TypeError, "not 'a'"):
            pool.group(["a"])

    def test_a_time_may_be_a_timedelta(self):
        self.assertEqual(add.options(timeout=timedelta(seconds=1.5)).signature(1).job().timeout_ms, 1500)


if __name__ == "__main__":
    unittest.main()

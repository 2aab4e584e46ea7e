"""Runs Django's own tests of task backends, but for those that do not apply, and says how many there were."""

import sys
import unittest

import django
from django.test.runner import DiscoverRunner

_CAN = "the pool can do it"
_COMMITS = "enqueued when the transaction commits, which is a rule of ours"
_NO_PRIORITIES = "the backend takes no priorities"
#: Those that do not apply, and why. docs/django.md names them.
NOT_OURS = {
    "ImmediateBackendTestCase.test_cannot_get_result": _CAN,
    "ImmediateBackendTestCase.test_cannot_refresh_result": _CAN,
    "ImmediateBackendTestCase.test_cannot_pass_run_after": _CAN,
    "ImmediateBackendTestCase.test_throws_keyboard_interrupt": "the task runs in another process",
    "ImmediateBackendTransactionTestCase.test_doesnt_wait_until_transaction_commit_by_default": _COMMITS,
    "DummyBackendTransactionTestCase.test_doesnt_wait_until_transaction_commit_by_default": _COMMITS,
    "DummyBackendTestCase.test_refresh_result": "it writes to a list of the backend",
    "DummyBackendTestCase.test_refresh_result_async": "it writes to a list of the backend",
    "TaskTestCase.test_using_priority": _NO_PRIORITIES,
    "TaskTestCase.test_chained_using": _NO_PRIORITIES,
    "TaskTestCase.test_invalid_priority": _NO_PRIORITIES,
}


class Runner(DiscoverRunner):
    def build_suite(self, *args, **kwargs):
        suite = super().build_suite(*args, **kwargs)
        tests = list(suite)
        names = {name_of(test) for test in tests}
        gone = sorted(set(NOT_OURS) - names)
        assert not gone, f"Django has no such tests: {gone}"
        return unittest.TestSuite(test for test in tests if name_of(test) not in NOT_OURS)


def name_of(test):
    return ".".join(test.id().split(".")[-2:])


if __name__ == "__main__":
    django.setup()
    sys.exit(min(1, Runner(verbosity=1, interactive=False).run_tests(["tasks"])))

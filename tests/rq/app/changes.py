"""Jobs that change what the next job of their worker finds, and jobs that look."""

import asyncio
import os
import subprocess
import sys
import warnings
from unittest import mock


def seen_id():
    """This job's id, as it and the programs that it starts see it."""
    return [os.environ['RQ_JOB_ID'], subprocess.check_output(['printenv', 'RQ_JOB_ID'], text=True).strip()]


def patches():
    with mock.patch.dict(os.environ, {'REGION': 'eu'}):
        return seen_id()


def empties():
    os.environ.clear()


async def later():
    return 1


def old_style():
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        return asyncio.get_event_loop().run_until_complete(later())


def version():
    return 1


def upgrade():
    sys.modules[__name__].version = lambda: 2


class Proxy:
    def __getattr__(self, name):
        return lambda *args: name

    def __call__(self, *args):
        return repr(args)


proxy = Proxy()


def fail_with_a_file_name():
    raise ValueError('cannot read ' + b'caf\xe9.csv'.decode('utf-8', 'surrogateescape'))

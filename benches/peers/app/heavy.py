"""An application of 150 MB: SQLAlchemy, numpy, and a cache of Python objects that its jobs read."""

import numpy
import sqlalchemy.orm
from rq import SimpleWorker, Worker
from rq_tasks import noop  # noqa: F401 (a task of this application as well)

ENTRIES = 145_000
PARTS = 100
READ_PARTS = 10  # a tenth of the cache is asked for, as caches are

libraries = [numpy, sqlalchemy.orm]
cache = {
    number: {'id': number, 'name': f'entry {number}', 'weight': number / 7, 'tags': [f'a{number}', f'b{number}']}
    for number in range(ENTRIES)
}


def read_part(number):
    """Reads one part of the cache: its objects' reference counts change, their values do not."""
    length = ENTRIES // PARTS
    start = number % READ_PARTS * length
    return sum(len(cache[key]['name']) + len(cache[key]['tags']) for key in range(start, start + length))


class Forking(Worker):
    """An `rq worker` that has loaded the application before it forks."""


class Simple(SimpleWorker):
    """One that runs its jobs itself."""

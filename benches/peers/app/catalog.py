"""An application of 190 MiB: pandas, SQLAlchemy, and 200,000 rows of Python objects that its jobs read."""

import pandas
import sqlalchemy.orm
from rq import SimpleWorker, Worker

ROWS = 200_000
PARTS = 100
READ_PARTS = 30  # not all rows are asked for, as in a cache

libraries = [pandas, sqlalchemy.orm]
rows = {
    number: {'id': number, 'name': f'entry {number}', 'price': number / 7, 'tags': [f'a{number}', f'b{number}']}
    for number in range(ROWS)
}


def read_part(number):
    """Reads one part of the rows; changes nothing."""
    length = ROWS // PARTS
    start = number % READ_PARTS * length
    return sum(len(rows[key]['name']) + len(rows[key]['tags']) for key in range(start, start + length))


class Forking(Worker):
    """An `rq worker` that has loaded the application before it forks."""


class Simple(SimpleWorker):
    """One that runs its jobs itself."""

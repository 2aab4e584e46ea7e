"""Where what tests start keeps its files."""

import itertools
import tempfile

_directory = tempfile.TemporaryDirectory(prefix='pool-')
_numbers = itertools.count()


def control_socket():
    """A path for a supervisor's control socket. What the supervisor keeps beside it is deleted when this process ends."""
    return f'{_directory.name}/{next(_numbers)}.sock'

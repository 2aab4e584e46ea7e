"""What each kind of RQ's jobs does: as little as it may. Stock and pool run the same."""


def told(job, connection, *_):
    """A callback of success or failure."""


def fail():
    raise ValueError('no luck')

"""What the jobs of `app/jobs.py` tell of themselves."""

from support.wait import DEADLINE, until


def entered(redis):
    """Waits until a job of `jobs.hold` runs and its worker says so; returns its process id.

    RQ says so before the job begins, a pool within a tenth of a second after.
    """
    found = redis.blpop(['entered'], timeout=DEADLINE)
    assert found, f'no job began within {DEADLINE:g} s'
    until(lambda: any_is_busy(redis), 'a worker is shown as busy')
    return int(found[1])


def any_is_busy(redis):
    return any(redis.hget(key, 'state') == b'busy' for key in redis.smembers('rq:workers'))


def notes(redis):
    """What `jobs.note` and the callbacks noted, in order."""
    return [note.decode() for note in redis.lrange('notes', 0, -1)]

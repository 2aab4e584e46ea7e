"""What every broker asks of jobs before it takes them."""

from __future__ import annotations

from typing import Iterable, Sequence

from poolhouse.errors import IdTaken, Refused
from poolhouse.model import CHAIN_LEN_MAX, GROUP, GROUP_LEN_MAX, PREVIOUS, NewGroup, NewJob, check_name
from poolhouse.payload import check_follower


def jobs(new: Iterable[NewJob], payload_len_max: int) -> None:
    """Checks names, sizes, and ids given twice."""
    chosen = set()
    for job in new:
        check_name(job.task, "the task's name")
        check_name(job.queue, "the queue's name")
        if job.id_is_chosen:
            if check_name(job.id, "the job's id") in chosen:
                raise IdTaken(job.id)
            chosen.add(job.id)
        if job.unique_key is not None:
            check_name(job.unique_key, "the unique key")
        if job.due_ms is not None and job.begin_by_ms is not None and job.begin_by_ms <= job.due_ms:
            raise Refused(f"a job of `{job.task}` would have expired when it is due")
        if len(job.arguments) > payload_len_max:
            raise Refused(
                f"the arguments of a job of `{job.task}` are {len(job.arguments)} bytes long, above the limit of "
                f"{payload_len_max} (store the data elsewhere and pass its name, or raise `max_payload`)"
            )


def group(new: NewGroup, payload_len_max: int) -> None:
    """Checks a group and its callbacks."""
    check_name(new.id, "the group's id")
    _at_most("group", len(new.jobs), GROUP_LEN_MAX)
    callbacks = new.callbacks()
    for job in callbacks:
        _follower(job, GROUP)
    _plain([*new.jobs, *callbacks], payload_len_max)


def chain(new: Sequence[NewJob], payload_len_max: int) -> None:
    """Checks the jobs of a chain."""
    _at_most("chain", len(new), CHAIN_LEN_MAX)
    for job in new[1:]:
        _follower(job, PREVIOUS)
    _plain(new, payload_len_max)


def _plain(new: Sequence[NewJob], payload_len_max: int) -> None:
    for job in new:
        if job.unique_key is not None:  # one that stands for another would be counted for nobody
            raise Refused(f"a job of `{job.task}`: a job of a group or a chain can't have a key")
    jobs(new, payload_len_max)


def _follower(job: NewJob, key: str) -> None:
    who = f"a job of `{job.task}`"
    if job.due_ms is not None or job.at_front:
        raise Refused(f"{who}: it waits for others, and can't be delayed or go to the front")
    check_follower(job.arguments, key, who)


def _at_most(what: str, length: int, limit: int) -> None:
    if length > limit:
        raise Refused(f"a {what} has {limit} jobs at the most, not {length}")

"""What a type checker sees of an application: `test_types.py` has it checked, and nobody runs it.

A line with `type: ignore` must be an error: the checker complains of those that are not needed.
"""

from datetime import datetime, timedelta
from typing import Any, Coroutine, Dict, List, Optional, Tuple

from typing_extensions import assert_type

from poolhouse import Attempt, Canceled, Chain, Group, Job, JobView, Pool, Signature, State
from poolhouse.testing import inline

pool = Pool("sqlite:jobs.db", fsync=True)


@pool.task
def resize(path: str, width: int = 640) -> Dict[str, int]:
    return {path: width}


@pool.task(queue="images", timeout="30s", retries=3)
def count(words: List[str]) -> int:
    return len(words)


@pool.task
async def fetch(url: str) -> bytes:
    return url.encode()


@pool.task(expires="5m", limit=("smtp", 1))
async def send(address: str) -> int:
    return len(address)


def the_result_of_a_coroutine_is_what_it_comes_to() -> None:
    assert_type(fetch.enqueue("a").result(), bytes)
    assert_type(send.options(delay="5m").enqueue("a").result(), int)
    assert_type(send.signature("a"), Signature[int])
    called: Coroutine[Any, Any, bytes] = fetch("a")
    called.close()
    fetch.enqueue(1)  # type: ignore[arg-type]


def options_have_names() -> None:
    fetch.options(dely="5m")  # type: ignore[call-arg]
    fetch.options(retries="3")  # type: ignore[arg-type]
    pool.send("mail.send", dely="5m")  # type: ignore[call-arg]


def a_task_is_its_function_and_takes_its_arguments() -> None:
    assert_type(resize("a.png"), Dict[str, int])
    assert_type(resize.enqueue("a.png", width=3), Job[Dict[str, int]])
    assert_type(count.options(expires="5m", limit=("database", 3)).enqueue(["a"]).result(timeout="1m"), int)
    assert_type(count.signature([]), Signature[int])
    assert_type(resize.signature(64), Signature[Dict[str, int]])  # gets more from others
    assert_type(resize.signature("a").then(count.signature([])), Chain)
    assert_type(pool.group([count.signature([])]), Group)
    resize.enqueue(1)  # type: ignore[arg-type]
    resize.enqueue("a", height=3)  # type: ignore[call-arg]
    count.enqueue()  # type: ignore[call-arg]


def jobs_are_found() -> None:
    for job in pool.jobs(state="dead", queue="mail", task="mail.send", error="timeout", since=timedelta(hours=1), limit=10):
        assert_type(job, JobView)
        assert_type(job.state, State)
        assert_type(job.attempts, Tuple[Attempt, ...])
        assert_type(job.attempts[0].duration, Optional[timedelta])
    pool.jobs(arguments={"order.id": 42, "0": "a"})
    pool.jobs(state=[State.DEAD, "canceled"], since=datetime.now())
    pool.jobs(state=1)  # type: ignore[arg-type]
    pool.jobs(limit="10")  # type: ignore[arg-type]
    assert_type(pool.cancel(queue="mail"), int)
    assert_type(pool.purge("mail", scheduled=True), int)
    assert_type(pool.get_job("a").cancel(), Canceled)


async def coroutines_see_the_same() -> None:
    assert_type(await count.enqueue([]), int)
    assert_type(await count.aenqueue([]), Job[int])
    assert_type(await pool.asend("mail.send", {"to": "ada"}, expires=3, limit=("smtp", 1)), Job[Any])
    async for job in pool.ajobs(state="running"):
        assert_type(job, JobView)
    assert_type(await pool.acancel(task="mail.send"), int)
    assert_type(await pool.apurge("mail"), int)


def jobs_run_inline() -> None:
    with inline(pool) as ran:
        assert_type(ran.jobs, List[JobView])

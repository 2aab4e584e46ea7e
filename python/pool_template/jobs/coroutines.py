"""Runs what a coroutine function returned, in an event loop of its own.

Not by `asyncio.run`: that leaves the thread's current loop set to none, and a later job's `asyncio.get_event_loop()`
would fail.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

    from pool_template.jobs.deadline import Deadline


def complete(coroutine: Any, deadline: Deadline) -> Any:
    """Runs a coroutine to its end. At its deadline it is canceled."""
    return _complete(coroutine, deadline.cancel_by)


def complete_without_deadline(coroutine: Any) -> Any:
    """Runs a coroutine to its end."""
    return _complete(coroutine, lambda _cancel: None)


def _complete(coroutine: Any, cancel_by: Callable[[Any], None]) -> Any:
    import asyncio  # 50 ms and 4 MB that an application without coroutines need not spend

    async def job() -> Any:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        cancel_by(lambda: loop.call_soon_threadsafe(task.cancel))
        try:
            return await coroutine
        finally:
            cancel_by(None)

    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(job())
    finally:
        _close(loop)


def _close(loop: AbstractEventLoop) -> None:
    """Ends what the coroutine left running, as `asyncio.run` does."""
    import asyncio

    try:
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        if left:
            loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        for task in left:
            error = None if task.cancelled() else task.exception()
            if error is not None:
                message = "a task that the job left running failed when it was canceled"
                loop.call_exception_handler({"message": message, "exception": error, "task": task})
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        loop.close()

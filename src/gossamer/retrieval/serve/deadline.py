"""A deadline for what a coroutine awaits, without a task of its own for each."""

from __future__ import annotations

import asyncio
from types import TracebackType


class Deadline:
    """Ends the block that it surrounds with a TimeoutError after some seconds.

    What `asyncio.timeout` does from Python 3.11 on.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds, self._late = seconds, False

    def __enter__(self) -> Deadline:
        self._task = asyncio.current_task()
        loop = asyncio.get_running_loop()
        self._handle = loop.call_later(self._seconds, self._expire)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._handle.cancel()
        if self._late and kind is asyncio.CancelledError:
            uncancel = getattr(self._task, "uncancel", None)
            if uncancel is not None:
                uncancel()
            raise TimeoutError from error

    def _expire(self) -> None:
        self._late = True
        if self._task is not None:
            self._task.cancel()

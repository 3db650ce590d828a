"""A stop that reaches what waits: the answer of a model that stalls, the pause before a retry."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

T = TypeVar("T")


class Stopped(Exception):
    """What was waited for is not wanted any more."""


class Stop:
    """Asked for by whoever has put it into the log; one driver waits under it, for one thing at a time.

    No task watches, and `asyncio.timeout` would cost several times as much for every delta: asking cancels the wait,
    and what waits takes that back, by the same rules.
    """

    def __init__(self) -> None:
        self.asked = False
        self._waits: asyncio.Task[Any] | None = None
        self._cut = False

    def ask(self) -> None:
        """End what is waited for, at once, and let nothing more be waited for."""
        if self._waits and not self.asked:
            self._cut = self._waits.cancel()
        self.asked = True

    def heard(self) -> None:
        """Forget it: the log has been read, and says what comes of it."""
        self.asked = False

    async def lets(self, work: Callable[[], Awaitable[T]]) -> T:
        """Wait for work, unless or until a stop is asked for.

        Raises:
            Stopped: the work was not begun, or it was cancelled.
        """
        if self.asked:
            raise Stopped
        task = self._waits = asyncio.current_task()
        before = task.cancelling() if task else 0
        try:
            return await work()
        except asyncio.CancelledError as error:
            if self._cut and task and task.cancelling() == before + 1:  # and nobody else has cancelled it
                raise Stopped from error
            raise
        finally:
            if self._cut and task:
                task.uncancel()
            self._waits, self._cut = None, False

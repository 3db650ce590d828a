"""An event loop whose time passes only while nobody has anything to do: an hour takes no time, and nothing is raced."""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class Stuck(Exception):
    """Everybody waits for somebody, and no time will help."""


class _Still(selectors.SelectSelector):
    """Never waits for a socket: whoever asks for so many seconds gets them at once."""

    passed = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise Stuck
        self.passed += max(0.0, timeout)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """asyncio's own loop on virtual time; it begins at 0."""

    def __init__(self) -> None:
        self._still = _Still()
        super().__init__(self._still)

    def time(self) -> float:
        return self._still.passed


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run to the end of `main`, and stop what it has left."""
    loop = VirtualLoop()
    try:
        return loop.run_until_complete(main)
    finally:
        loop.run_until_complete(_stop())
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


async def _stop() -> None:
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)

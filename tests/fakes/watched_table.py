"""A table whose reads a test counts, precedes with something, or lets fail."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from parley.core.errors import Unavailable
from parley.ports import Item, Key, Page

from tests.fakes.flaky_table import FlakyTable


@dataclass(frozen=True)
class Read:
    """One read: the first sort key that it asked for, and of a query the last."""

    first: str
    last: str = ""


class WatchedTable(FlakyTable):
    """Wraps a table; keeps every read, in order."""

    def __init__(self, table: Any) -> None:
        super().__init__(table)
        self.reads: list[Read] = []
        self.down = False
        """Whether reads fail."""
        self.before_read: Callable[[Read], Awaitable[object]] | None = None

    async def get(self, key: Key) -> Item | None:
        await self._note(Read(key.sk))
        return await super().get(key)

    async def query(self, pk: str, *, first: str = "", last: str = "\U0010ffff", **more: Any) -> Page:
        await self._note(Read(first, last))
        return await super().query(pk, first=first, last=last, **more)

    async def _note(self, read: Read) -> None:
        self.reads.append(read)
        if self.down:
            raise Unavailable("The table is away.")
        if self.before_read:
            await self.before_read(read)

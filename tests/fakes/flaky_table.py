"""A table whose n-th write goes wrong in a way that the test chooses."""

from collections.abc import Awaitable, Callable
from typing import Literal

from parley.core.errors import Unavailable
from parley.ports import ConditionFailed, Index, Item, Key, Op, Page, Table, WriteUncertain

Fault = Literal["conflict", "lost", "unconfirmed", "crash", "crash_after"]
"""Refused for no reason; not applied or applied, and nobody says which; the process dies before it or after it."""

Hook = Callable[[], Awaitable[object]]


class Crash(Exception):
    """The process is gone."""


class FlakyTable:
    """Wraps a table; writes are counted from 1, and a fault is used once."""

    def __init__(self, table: Table) -> None:
        self.table = table
        self.writes: list[tuple[Op, ...]] = []
        self.faults: dict[int, Fault] = {}
        self.hooks: dict[int, Hook] = {}
        self.page_limit: int | None = None
        """At most so many items are looked at for one page, as when they are large."""
        self.away = False
        """Whether reads are not answered."""

    def fail_next(self, *faults: Fault, times: int = 1) -> None:
        """Let the next writes go wrong, one after the other."""
        for n, fault in enumerate(faults * times, len(self.writes) + 1):
            self.faults[n] = fault

    def before_next(self, hook: Hook, *, skip: int = 0) -> None:
        """Do something just before the next write is applied, or one of those behind it."""
        self.hooks[len(self.writes) + 1 + skip] = hook

    async def write(self, *ops: Op) -> None:
        self.writes.append(ops)
        turn = len(self.writes)
        if hook := self.hooks.pop(turn, None):
            await hook()
        match self.faults.pop(turn, None):
            case None:
                await self.table.write(*ops)
            case "conflict":
                raise ConditionFailed({0: None})
            case "lost":
                raise WriteUncertain("no answer")
            case "unconfirmed":
                await self.table.write(*ops)
                raise WriteUncertain("no answer")
            case "crash":
                raise Crash
            case "crash_after":
                await self.table.write(*ops)
                raise Crash

    async def close(self) -> None:
        await self.table.close()

    async def get(self, key: Key) -> Item | None:
        if self.away:
            raise Unavailable("The table does not answer.")
        return await self.table.get(key)

    async def query(
        self,
        pk: str,
        *,
        first: str = "",
        last: str = "\U0010ffff",
        limit: int | None = None,
        newest_first: bool = False,
        cursor: Item | None = None,
        index: Index | None = None,
    ) -> Page:
        if self.away:
            raise Unavailable("The table does not answer.")
        limits = [each for each in (limit, self.page_limit) if each is not None]
        return await self.table.query(
            pk,
            first=first,
            last=last,
            limit=min(limits) if limits else None,
            newest_first=newest_first,
            cursor=cursor,
            index=index,
        )

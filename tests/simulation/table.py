"""The `Table` port: SQLite's rules, which are DynamoDB's, in memory and at once; and what can go wrong on the way."""

import sqlite3
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

from parley.adapters.sqlite import SqliteTable
from parley.adapters.sqlite.rows import SCHEMA, to_item
from parley.core.errors import Unavailable
from parley.ports import Clock, ConditionFailed, Delete, Index, Item, Key, Op, Page, WriteUncertain

from tests.simulation.faults import AWAY_SECONDS
from tests.simulation.process import Process

T = TypeVar("T")


class _AtOnce:
    """Runs jobs inside transactions, here and now."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    async def run(self, job: Callable[[sqlite3.Connection], T]) -> T:
        return job(self._connection)

    async def close(self) -> None:
        pass


class Storage(SqliteTable):
    """What is stored, for all processes; `witness` sees every write that was applied."""

    def __init__(self, clock: Clock, witness: Callable[[tuple[Op, ...]], None]) -> None:
        self._clock = clock
        self._reader = sqlite3.connect(":memory:", isolation_level=None)
        self._reader.executescript(SCHEMA)
        self._reading = threading.Lock()
        self._writer = _AtOnce(self._reader)  # type: ignore[assignment]
        self._witness = witness

    async def write(self, *ops: Op) -> None:
        await super().write(*ops)
        self._witness(ops)

    def items(self) -> list[Item]:
        """Read everything, lapsed or not."""
        rows, _ = self._select("SELECT pk, sk, attributes, chunks, 0, ttl FROM items", [], -1)
        return [to_item(*row[:4]) for row in rows]


class SimulatedTable:
    """One process's way to the storage."""

    def __init__(self, process: Process, storage: Storage) -> None:
        self.process = process
        self.storage = storage
        self._looks: dict[tuple[Any, ...], Page] = {}
        self._under_way: list[tuple[Op, ...]] = []
        """Transactions that may still arrive: sent again, they are the same one (DynamoDB knows them by a token)."""

    async def get(self, key: Key) -> Item | None:
        await self._reach("read", kind(key.sk))
        item = await self.storage.get(key)
        await self.process.leave(None)
        return item

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
        asked = (pk, first, last, limit, newest_first, str(cursor), index)
        fault = await self._reach("index" if index else "read", index or f"{kind(first)}…")
        if fault == "stale":
            page = self._looks.get(asked, Page([]))
        else:
            page = await self.storage.query(
                pk, first=first, last=last, limit=limit, newest_first=newest_first, cursor=cursor, index=index
            )
        if index:
            self._looks[asked] = page
        await self.process.leave(None)
        return page

    async def write(self, *ops: Op) -> None:
        fault = await self.process.reach("write", " ".join(map(_named, ops)))
        if fault == "crash, applied late":
            self.process.crash()
        if fault in ("applied late", "crash, applied late"):
            self._apply_late(ops)
            await self.process.gate()
        if fault == "away":
            self.process.away_until = self.process.nature.seconds + AWAY_SECONDS
            self.process.nature.troubled_for(AWAY_SECONDS)
        if self._is_away() or fault in ("lost", "applied late"):
            raise WriteUncertain("no answer")
        if fault == "refused":
            raise Unavailable("The table refuses to write.")
        try:
            await self.storage.write(*ops)
            self._under_way = [each for each in self._under_way if each != ops]
        except ConditionFailed:
            await self.process.leave(fault)
            if fault == "answer lost":
                raise WriteUncertain("no answer") from None
            raise
        await self.process.leave(fault)
        if fault == "answer lost":
            raise WriteUncertain("no answer")

    async def close(self) -> None:
        pass

    def _apply_late(self, ops: tuple[Op, ...]) -> None:
        if len(ops) > 1:
            self._under_way.append(ops)

        def arrive() -> None:
            if len(ops) > 1 and ops not in self._under_way:
                return
            with suppress(ConditionFailed, StopIteration):
                self.storage.write(*ops).send(None)

        self.process.later(arrive)

    async def _reach(self, port: str, place: str) -> str | None:
        fault = await self.process.reach(port, place)
        if self._is_away() or fault == "unavailable":
            raise Unavailable("The table does not answer.")
        return fault

    def _is_away(self) -> bool:
        return self.process.nature.seconds < self.process.away_until


def _named(op: Op) -> str:
    return f"-{kind(op.key.sk)}" if isinstance(op, Delete) else kind(op.key.sk)


def kind(sk: str) -> str:
    """Name what an item is by its sort key."""
    return sk.partition("#")[0].partition("~")[0] or "all"

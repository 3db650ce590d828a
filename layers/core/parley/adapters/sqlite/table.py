"""The port on one SQLite file: reads here and now, writes through the writer."""

import sqlite3
import threading
import time
from contextlib import closing
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from parley.adapters.sqlite.rows import SCHEMA, check_key, to_item
from parley.adapters.sqlite.writer import Writer
from parley.adapters.sqlite.writes import Sweep, Write
from parley.core.errors import Unavailable
from parley.ports import Clock, Index, Item, Key, Op, Page

PAGE_BYTES: Final = 1024 * 1024

_SELECT: Final = "SELECT pk, sk, attributes, chunks, size, ttl"

_Found = tuple[Any, ...]
"""The columns of `_SELECT`, and in a query the sort key."""

_OPENING_TRIES: Final = 100
_OPENING_PAUSE_SECONDS: Final = 0.02
"""Whoever turns a new file to WAL needs it alone, and SQLite does not wait for that by itself."""


class SqliteTable:
    """A table in a file that threads, event loops and processes may share.

    A read runs on the caller's thread, on a connection of its own: a get takes about 10 µs and a tail of 20
    entries 100, while the hop to a thread and back alone takes 70 and more. In WAL mode no writer makes a
    reader wait, and each read sees every commit before it, of other processes as well.
    """

    def __init__(self, path: Path, clock: Clock, *, busy_timeout_seconds: float = 5.0) -> None:
        """Open the file, or make it; its folder must be there.

        Raises:
            Unavailable: it cannot be opened.
        """
        connect = partial(_connect, path, busy_timeout_seconds)
        self._clock = clock
        self._reader = connect()
        self._reading = threading.Lock()
        self._writer = Writer(connect)

    async def __aenter__(self) -> Self:
        """Return itself."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file."""
        await self.close()

    async def close(self) -> None:
        """Finish the writes that wait, end the thread and close the file; doing it twice is fine."""
        await self._writer.close()
        self._reader.close()

    async def get(self, key: Key) -> Item | None:
        """Read one item, consistently."""
        check_key(key.pk, key.sk)
        rows, _ = self._select(f"{_SELECT} FROM items WHERE pk = ? AND sk = ?", [key.pk, key.sk], 1)
        items = self._shown(rows)
        return items[0] if items else None

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
        """Read one page of a partition of the table or of an index."""
        if limit is not None and limit < 1:
            raise ValueError("a page looks at one item at least")
        check_key(pk, "-")
        prefix = f"{index}_" if index else ""
        order = [f"{prefix}sk", "pk", "sk"] if index else ["sk"]
        bounds = [pk, first, last]
        beyond = ""
        if cursor:
            place = cursor[f"{prefix}sk" if index else "SK"]
            bounds = [pk, first, min(last, place)] if newest_first else [pk, max(first, place), last]
            bounds += [place, cursor["PK"], cursor["SK"]] if index else [place]
            marks = ", ".join("?" * len(order))
            beyond = f"AND ({', '.join(order)}) {'<' if newest_first else '>'} ({marks})"
        rows, more = self._select(
            f"{_SELECT}, {prefix}sk FROM items"
            f" WHERE {prefix}pk = ? AND {prefix}sk BETWEEN ? AND ? {beyond}"
            f" ORDER BY {', '.join(f'{column} DESC' if newest_first else column for column in order)}",
            bounds,
            limit,
        )
        return Page(self._shown(rows), _cursor(rows[-1], pk, index) if more else None)

    async def write(self, *ops: Op) -> None:
        """Do all ops or none; durable when it returns."""
        if ops:
            await self._writer.run(Write.of(ops))

    async def sweep_expired(self, limit: int = 100, *, spared: str | None = None) -> list[Key]:
        """Remove up to `limit` items past their `ttl` for good, oldest first; return their keys.

        Items with the sort key `spared` are returned, last, and stay: their end is for the caller to bring about, and
        what is still there cannot be forgotten over a crash. DynamoDB does all this by itself, and tells of it in its
        stream; here whoever owns the file calls it now and then.
        """
        return await self._writer.run(Sweep(self._clock.now().timestamp(), limit, spared))

    def _select(self, sql: str, parameters: list[str], limit: int | None) -> tuple[list[_Found], bool]:
        """Read up to `limit` rows or 1 MB; say whether there may be more (at the limit always)."""
        rows: list[_Found] = []
        size = 0
        try:
            with self._reading, closing(self._reader.execute(sql, parameters)) as found:
                for row in found:
                    size += row[4]
                    if rows and size > PAGE_BYTES:
                        return rows, True
                    rows.append(row)
                    if len(rows) == limit:
                        return rows, True
        except sqlite3.Error as error:
            raise Unavailable(f"The store's file cannot be read: {error}") from error
        return rows, False

    def _shown(self, rows: list[_Found]) -> list[Item]:
        now = self._clock.now().timestamp()
        return [to_item(*row[:4]) for row in rows if row[5] is None or row[5] > now]


def _cursor(row: _Found, pk: str, index: Index | None) -> Item:
    place = {"PK": row[0], "SK": row[1]}
    return place | {f"{index}_pk": pk, f"{index}_sk": row[6]} if index else place


def _connect(path: Path, busy_timeout_seconds: float) -> sqlite3.Connection:
    tries_left = _OPENING_TRIES
    while True:
        try:
            return _open(path, busy_timeout_seconds)
        except sqlite3.Error as error:
            tries_left -= 1
            busy = getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY
            if not busy or not tries_left:
                raise Unavailable(f"The store's file {path} cannot be opened: {error}") from error
        time.sleep(_OPENING_PAUSE_SECONDS)


def _open(path: Path, busy_timeout_seconds: float) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=busy_timeout_seconds, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        if connection.execute("PRAGMA user_version").fetchone() == (0,):
            connection.executescript(SCHEMA)
    except sqlite3.Error:
        connection.close()
        raise
    return connection

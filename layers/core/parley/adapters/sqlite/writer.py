"""The one thread of this process that writes: whatever waits shares one transaction, so one fsync.

A write that is alone starts at once; those that come while a commit is under way are the next group. A job is
refused before it changes anything, so a refusal needs no rollback and does not touch its neighbours. Other
processes may write to the same file: SQLite's lock keeps the groups apart.
"""

import asyncio
import contextlib
import queue
import sqlite3
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from parley.core.errors import ParleyError, Unavailable
from parley.ports import ConditionFailed, WriteUncertain

_MAX_GROUP = 256
"""Bounds how long the first of a group waits for the last."""

_UNCERTAIN = "The store's file did not confirm a commit."

T = TypeVar("T")
Job = Callable[[sqlite3.Connection], T]


@dataclass(frozen=True, slots=True)
class _Waiting:
    job: Job[Any]
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]


@dataclass(frozen=True, slots=True)
class _Outcome:
    waiting: _Waiting
    value: Any = None
    error: Exception | None = None


class Writer:
    """Runs jobs inside transactions, in the order they came, for any number of event loops."""

    def __init__(self, connect: Callable[[], sqlite3.Connection]) -> None:
        self._connect = connect
        self._connection: sqlite3.Connection | None = None
        self._queue: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._door = threading.Lock()
        self._closed = False
        self._thread = threading.Thread(target=self._main, name="parley-sqlite-writer", daemon=True)
        self._thread.start()

    async def run(self, job: Job[T]) -> T:
        """Run a job and return its result when it is on disk.

        Raises:
            Unavailable: nothing was written; the file is locked, full or closed.
            WriteUncertain: the commit failed.
            Exception: whatever the job refused with; nothing was written.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        with self._door:
            if self._closed:
                raise Unavailable("The store is closed.")
            self._queue.put(_Waiting(job, loop, future))
        return await future

    async def close(self) -> None:
        """Finish what waits, then end the thread."""
        with self._door:
            if not self._closed:
                self._closed = True
                self._queue.put(None)
        await asyncio.to_thread(self._thread.join)

    def _main(self) -> None:
        group: list[_Waiting] = []
        try:
            while group := self._next_group():
                _settle(self._commit(group))
        finally:
            # Empty after a close. After a bug nobody may wait for ever, and nobody may queue any more.
            with self._door:
                self._closed = True
            self._disconnect()
            left = [*group, *self._waiting()]
            _settle(_Outcome(waiting, error=WriteUncertain(_UNCERTAIN)) for waiting in left)

    def _next_group(self) -> list[_Waiting]:
        first = self._queue.get()
        if first is None:
            return []
        return [first, *self._waiting(_MAX_GROUP - 1)]

    def _waiting(self, limit: int | None = None) -> Iterable[_Waiting]:
        """Take what is in the queue now; the mark of the end is left in it."""
        while limit is None or limit > 0:
            try:
                waiting = self._queue.get_nowait()
            except queue.Empty:
                return
            if waiting is None:
                self._queue.put(None)
                return
            yield waiting
            limit = None if limit is None else limit - 1

    def _commit(self, group: list[_Waiting]) -> list[_Outcome]:
        try:
            self._connection = connection = self._connection or self._connect()
            connection.execute("BEGIN IMMEDIATE")
            outcomes = [_attempt(waiting, connection) for waiting in group]
        except (sqlite3.Error, Unavailable) as error:
            self._disconnect()
            message = f"The store's file cannot be written: {error}"
            return [_failed(waiting, Unavailable(message), error) for waiting in group]
        try:
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            # A refusal is uncertain, too: what it saw may be an earlier write of this group.
            self._disconnect()
            return [_failed(waiting, WriteUncertain(_UNCERTAIN), error) for waiting in group]
        return outcomes

    def _disconnect(self) -> None:
        """Drop the connection, and with it an open transaction; the next group begins with a fresh one."""
        if self._connection is not None:
            with contextlib.suppress(sqlite3.Error):
                self._connection.close()
        self._connection = None


def _attempt(waiting: _Waiting, connection: sqlite3.Connection) -> _Outcome:
    try:
        return _Outcome(waiting, waiting.job(connection))
    except (ConditionFailed, ParleyError, ValueError) as refusal:
        return _Outcome(waiting, error=refusal)


def _failed(waiting: _Waiting, error: Exception, cause: Exception) -> _Outcome:
    error.__cause__ = cause
    return _Outcome(waiting, error=error)


def _settle(outcomes: Iterable[_Outcome]) -> None:
    """Wake each event loop once for all of its outcomes."""
    loops: dict[asyncio.AbstractEventLoop, list[_Outcome]] = {}
    for outcome in outcomes:
        loops.setdefault(outcome.waiting.loop, []).append(outcome)
    for loop, settled in loops.items():
        with contextlib.suppress(RuntimeError):  # that loop is closed: nobody waits there any more
            loop.call_soon_threadsafe(_resolve, settled)


def _resolve(outcomes: list[_Outcome]) -> None:
    for outcome in outcomes:
        future = outcome.waiting.future
        if future.done():  # whoever waited was cancelled
            continue
        if outcome.error is not None:
            future.set_exception(outcome.error)
        else:
            future.set_result(outcome.value)

"""The log of a session: append at the next `seq`, read from any `seq`.

The sort key is the lock. Everybody who writes aims at the one next slot; the put that finds it taken stored nothing and
is told what is there.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

from parley.core.errors import Unavailable
from parley.core.event import Event, RunStarted
from parley.core.fold import fold
from parley.core.session import Session
from parley.ports import (
    Absent,
    Blobs,
    Clock,
    ConditionFailed,
    Ids,
    Item,
    Match,
    Op,
    Put,
    Table,
    WriteUncertain,
)
from parley.store import drafts, snapshot
from parley.store import entry as entries
from parley.store.drafts import Draft
from parley.store.entry import MAX_EVENTS, Entry
from parley.store.keys import AFTER, DRAFT, ENTRY, Ref, entry_sk
from parley.store.recent import Recent

UNCERTAIN_RETRIES = 8
"""Same bytes, same key, growing pauses of 50 ms and up: about 13 s, then the store counts as unavailable."""

CONTENTION_RETRIES = 20
"""How often who lost a slot reads again and tries the next, before it says so."""


class SlotTaken(Exception):
    """Somebody else wrote the slot first; nothing was stored. Read the tail, fold it and decide again."""


@dataclass(frozen=True, slots=True)
class Log:
    """Appends and reads entries; knows nothing of who may."""

    table: Table
    blobs: Blobs
    clock: Clock
    ids: Ids
    recent: Recent = field(default_factory=Recent)

    async def append(
        self, ref: Ref, after: int, events: Sequence[Event], *, epoch: int | None = None
    ) -> tuple[Event, ...]:
        """Store events as one entry behind `after` and return them with their `seq`; one put, no transaction.

        Raises:
            SlotTaken: the slot is another writer's.
            Unavailable: the outcome stayed unknown; whoever reads next will see it.
        """
        put = await self.entry(ref, after, events, epoch=epoch)
        await self.write(put)
        return entries.place(events, after)

    async def entry(self, ref: Ref, after: int, events: Sequence[Event], *, epoch: int | None = None) -> Put:
        """Make the conditional put of an entry, for a transaction or for `append`."""
        append_id = self.ids.new("appe")
        item = await entries.encode(ref, self.blobs, append_id, after, events, epoch)
        return Put(item, Absent())

    async def write(self, *ops: Op) -> None:
        """Do ops; an unknown outcome is asked again, with the same bytes, until it is known.

        Raises:
            SlotTaken: the entry's slot is another writer's.
            ConditionFailed: another condition did not hold.
            Unavailable: the outcome stayed unknown.
        """
        for attempt in range(UNCERTAIN_RETRIES):
            try:
                return await self.table.write(*ops)
            except ConditionFailed as error:
                if _is_ours(ops, error):
                    return None
                over = _over_expired(ops, error, self.clock.now().timestamp())
                if over is None:
                    raise _translate(ops, error) from error
                ops = over
            except WriteUncertain:
                await self.clock.sleep(0.05 * 2**attempt)
        raise Unavailable("The store did not confirm a write. Try again; what was stored will be seen.")

    async def read(self, ref: Ref, after: int = 0) -> AsyncIterator[Entry]:
        """Yield every entry behind `after`, which is the last `seq` of an entry."""
        cursor: Item | None = None
        while True:
            page = await self.table.query(ref.pk, first=entry_sk(after + 1), last=ENTRY + AFTER, cursor=cursor)
            for item in page.items:
                yield await entries.decode(item, self.blobs)
            cursor = page.cursor
            if cursor is None:
                return

    async def events(
        self,
        ref: Ref,
        *,
        after: int = 0,
        before: int | None = None,
        newest_first: bool = False,
        expect: int = 1000,
    ) -> AsyncGenerator[Event, None]:
        """Yield the events between `after` and `before`, neither included; `expect` sizes the reads."""
        first = entry_sk(max(1, after + 2 - MAX_EVENTS))
        last = ENTRY + AFTER if before is None else entry_sk(before - 1)
        cursor: Item | None = None
        while True:
            page = await self.table.query(
                ref.pk,
                first=first,
                last=last,
                limit=min(expect, 1000),
                newest_first=newest_first,
                cursor=cursor,
            )
            for item in page.items:
                found = await entries.decode(item, self.blobs)
                for event in reversed(found.events) if newest_first else found.events:
                    if event.seq > after and (before is None or event.seq < before):
                        yield event
            cursor = page.cursor
            if cursor is None:
                return

    async def tail(self, ref: Ref, after: int) -> tuple[Event, ...]:
        """Return every event behind `after`, which may lie inside an entry."""
        return tuple([event async for event in self.events(ref, after=after)])

    async def of_last_run(self, ref: Ref, before: int) -> list[Event]:
        """Return the events before `before` back to the start of the run that they belong to, in order."""
        found: list[Event] = []
        async with aclosing(self.events(ref, before=before, newest_first=True, expect=16)) as events:
            async for event in events:
                found.append(event)
                if isinstance(event, RunStarted):
                    break
        return found[::-1]

    async def watch(self, ref: Ref, after: int) -> tuple[list[Event], list[Draft]]:
        """Return the events behind `after`, which is the last `seq` of an entry, and the drafts, in one read."""
        events: list[Event] = []
        passing: list[Item] = []
        cursor: Item | None = None
        while True:
            page = await self.table.query(ref.pk, first=entry_sk(after + 1), last=DRAFT + AFTER, cursor=cursor)
            for item in page.items:
                if item["SK"].startswith(DRAFT):
                    passing.append(item)
                else:
                    events += (await entries.decode(item, self.blobs)).events
            cursor = page.cursor
            if cursor is None:
                return events, drafts.read(passing)

    async def around(self, ref: Ref, seq: int) -> tuple[Event, ...]:
        """Return the events of the entry that holds event `seq`; none when there is none any more."""
        first, last = entry_sk(max(1, seq + 1 - MAX_EVENTS)), entry_sk(seq)
        page = await self.table.query(ref.pk, first=first, last=last, limit=1, newest_first=True)
        for item in page.items:
            return (await entries.decode(item, self.blobs)).events
        return ()

    async def last_seq(self, ref: Ref, sealed: int = 0) -> int:
        """Return the newest event's `seq`; 0 when there is none. `sealed` is known to be in the log."""
        page = await self.table.query(ref.pk, first=ENTRY, last=ENTRY + AFTER, limit=1, newest_first=True)
        for item in page.items:
            return int(item["SK"].removeprefix(ENTRY)) + int(item["count"]) - 1
        return sealed

    async def load(self, ref: Ref, sealed: int) -> tuple[Session, int]:
        """Fold the session; return the bytes of the entries behind its snapshot at `sealed`, too.

        What this process folded before, or the snapshot, is where it begins: the log only grows.
        """
        session, size = self.recent.get(ref, sealed)
        if session is None and sealed:
            session = await snapshot.read(self.blobs, ref, sealed)
        session = session or Session(id=ref.id)
        async for found in self.read(ref, session.seq):
            size += found.size
            session = fold(session, found.events)
        self.recent.put(ref, sealed, session, size)
        return session, size


def _is_ours(ops: tuple[Op, ...], error: ConditionFailed) -> bool:
    """Say whether an earlier attempt had worked: then what is found is what was sent, to the byte."""
    puts = [(op, error.found[position]) for position in error.found if isinstance(op := ops[position], Put)]
    return bool(puts) and all(found == op.item for op, found in puts)


def _over_expired(ops: tuple[Op, ...], error: ConditionFailed, now: float) -> tuple[Op, ...] | None:
    """Aim the puts at what stands in their way only because nobody has swept it yet; `None` when more is in the way."""
    replaced = list(ops)
    for position, item in error.found.items():
        op = ops[position]
        lapsed = item is not None and item.get("ttl", now + 1) <= now
        if item is None or not lapsed or not isinstance(op, Put) or not isinstance(op.condition, Absent):
            return None
        replaced[position] = Put(op.item, Match({"ttl": item["ttl"]}))
    return tuple(replaced)


def _translate(ops: tuple[Op, ...], error: ConditionFailed) -> Exception:
    slots = {n for n, op in enumerate(ops) if isinstance(op, Put) and "append_id" in op.item}
    return SlotTaken() if set(error.found) == slots else error

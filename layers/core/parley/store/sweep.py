"""Removing what deleted and expired sessions have left, in two passes; every write may be the last before a crash.

    first pass      contents go at once. Slots that an older driver may still aim at say `session.deleted` instead: were
                    they free, a driver that was frozen for long could store an intent there, and act on it
    second pass     when no driver of that time can be alive: what strayed in between, the slots, the lock, and the row

The row's tombstone goes last, for it leads here. An id is never given again, so a removal can be repeated at any time.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from parley.core.errors import Unavailable
from parley.ports import Absent, ConditionFailed, Delete, Item, Match, Op, Update
from parley.store.head import milliseconds
from parley.store.keys import ENTRY, LOCK, SHOWN, Ref
from parley.store.log import CONTENTION_RETRIES, Log, SlotTaken
from parley.store.sessions import Sessions

SECOND_PASS_MS = 16 * 60 * 1000
"""After the first. A function lives for 15 minutes at most, frozen or not (template.yaml); one more is for clocks."""

_AT_ONCE = 8
"""Removals under way; one by one, for in a transaction each costs twice."""


@dataclass(frozen=True, slots=True)
class Sweep:
    """Ends sessions for good."""

    sessions: Sessions
    log: Log

    async def sweep(self, ref: Ref) -> bool:
        """Do the pass that is due for a deleted session; say whether nothing of it is left.

        Raises:
            Unavailable: the table or the blobs do not answer; the next sweep goes on from there.
        """
        shown, lock = await self.sessions.read(ref)
        if not lock.deleted or (shown is not None and not shown.get("deleted")):
            return False
        if shown is None:
            return True
        if shown.get("swept_ms") is None:
            await self._clear(ref, barred=True)
            unmarked = Match({"id": ref.id, "deleted": True, "swept_ms": None})
            with suppress(ConditionFailed):  # another sweeper was here
                await self.log.write(Update(ref.shown(), set={"swept_ms": self._now_ms()}, condition=unmarked))
            return False
        if self._now_ms() - shown["swept_ms"] < SECOND_PASS_MS:
            return False
        await self._clear(ref, barred=False)
        await self.log.write(Delete(ref.lock()))
        await self.log.write(Delete(ref.shown()))
        return True

    async def expired(self, ref: Ref) -> bool:
        """Make a session whose row has lapsed, or is gone with its `ttl`, a deleted one; say whether it has.

        Raises:
            Unavailable: writers kept taking the slot, or it is unknown what was stored; the next look will tell.
        """
        for _ in range(CONTENTION_RETRIES):
            shown, lock = await self.sessions.read(ref)
            if shown is not None or lock.deleted:  # used again, or on its way out
                return False
            if await self.sessions.bury(ref, lock, Absent()):  # the log's writes see a lapsed row as absent
                return True
        raise Unavailable("The session is being written to all the time. Try again.")

    async def _clear(self, ref: Ref, *, barred: bool) -> None:
        """Remove blobs and items, but for row and lock; if `barred`, no slot is free that a driver may aim at."""
        await self.log.blobs.delete_all(ref.blob(""))
        newest, cursor = 0, None
        while True:
            page = await self.log.table.query(ref.pk, cursor=cursor)
            ops: list[Op] = []
            for item in page.items:
                if item["SK"] in (SHOWN, LOCK) or (barred and item.get("barrier")):
                    continue
                fence = barred and _may_be_aimed_at(item, newest)
                ops.append(await self._barred(ref, item) if fence else Delete(ref.at(item["SK"])))
                newest = max(newest, item.get("driver_epoch") or 0)
            await self._write_each(ops)
            cursor = page.cursor
            if cursor is None:
                return

    async def _barred(self, ref: Ref, item: Item) -> Op:
        """Make the write that leaves nothing in a slot but a barrier, if it has not been removed meanwhile."""
        barrier = await self.sessions.barrier(ref, int(item["SK"].removeprefix(ENTRY)))
        return replace(barrier, condition=Match({"append_id": item["append_id"]}))

    async def _write_each(self, ops: Sequence[Op]) -> None:
        """Do ops a few at a time; those that began are finished before one's error is raised."""
        for start in range(0, len(ops), _AT_ONCE):
            writes = [self._write(op) for op in ops[start : start + _AT_ONCE]]
            for outcome in await asyncio.gather(*writes, return_exceptions=True):
                if isinstance(outcome, BaseException):
                    raise outcome

    async def _write(self, op: Op) -> None:
        with suppress(SlotTaken, ConditionFailed):  # another sweeper was here
            await self.log.write(op)

    def _now_ms(self) -> int:
        return milliseconds(self.log.clock.now())


def _may_be_aimed_at(item: Item, newest: int) -> bool:
    """Say whether an older driver's next append may be for this item's slot; `newest` is the newest epoch before it.

    A driver goes on behind the last entry that it wrote or read, so it aims at an entry of its own (and repeats it), at
    the claim that ended it, or at one that no driver wrote; what a newer driver wrote behind its claim is out of reach.
    """
    if not item["SK"].startswith(ENTRY):
        return False
    epoch = item.get("driver_epoch")
    return epoch is None or epoch > newest

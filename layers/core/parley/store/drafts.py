"""Deltas for watchers in other processes: passing rows that sort behind every entry, so that one query reads both.

Nothing depends on them: a draft that is lost, late or left over is replaced by the stored event. They are written only
while somebody watches, because a delta that nobody reads costs as much as one that is read.
"""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from parley.core.delta import DraftGrew, Kind
from parley.ports import Clock, Delete, Item, Put, Table
from parley.store.keys import Ref

MARK_SECONDS = 60
"""A watcher's mark is good for so long; a watcher renews it every third of it."""

_AT_ONCE = 8

KEPT_SECONDS = 3600
"""Of drafts whose driver died before it could remove them."""


@dataclass(frozen=True, slots=True)
class Draft:
    """All that a driver has said so far of an event to come; the log ended with `after` when it said so."""

    event_id: str
    kind: Kind
    text: str
    after: int


@dataclass(frozen=True, slots=True)
class Drafts:
    """Writes and marks; reading is the log's (`Log.watch`)."""

    table: Table
    clock: Clock

    async def mark(self, ref: Ref) -> None:
        """Say that somebody watches the session."""
        key = ref.watched()
        await self.table.write(Put({"PK": key.pk, "SK": key.sk, "ttl": self._now() + MARK_SECONDS}))

    async def watched(self, ref: Ref) -> bool:
        """Say whether somebody watches the session."""
        return await self.table.get(ref.watched()) is not None

    async def write(self, ref: Ref, epoch: int, n: int, pieces: Sequence[DraftGrew], after: int) -> None:
        """Store pieces of drafts as the `n`-th of their driver, whose log ends with `after`."""
        key = ref.draft(epoch, n)
        texts = [[piece.event_id, piece.kind, piece.text] for piece in pieces]
        item: Item = {"PK": key.pk, "SK": key.sk, "pieces": texts, "after": after}
        await self.table.write(Put(item | {"ttl": self._now() + KEPT_SECONDS}))

    async def remove(self, ref: Ref, epoch: int, numbers: Iterable[int]) -> None:
        """Remove pieces whose events are in the log, a few at a time."""
        keys = [ref.draft(epoch, n) for n in numbers]
        for start in range(0, len(keys), _AT_ONCE):
            await asyncio.gather(*(self.table.write(Delete(key)) for key in keys[start : start + _AT_ONCE]))

    def _now(self) -> int:
        return int(self.clock.now().timestamp())


def read(items: Iterable[Item]) -> list[Draft]:
    """Join the pieces, which come in the order of their keys: one whole text for each draft."""
    drafts: dict[str, Draft] = {}
    for item in items:
        for event_id, kind, text in item["pieces"]:
            before = drafts[event_id].text if event_id in drafts else ""
            drafts[event_id] = Draft(event_id, kind, before + text, item["after"])
    return list(drafts.values())

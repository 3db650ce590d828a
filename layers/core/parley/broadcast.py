"""What one drive says in passing, for watchers in other processes.

Decides when deltas are written down: at once while somebody watches, not at all while nobody does. Whether somebody
does is asked every second, and only while a model is answering. What goes wrong here is logged and ends nothing.
"""

import asyncio
import logging
from collections.abc import Awaitable
from dataclasses import dataclass, field
from datetime import datetime

from parley.core.delta import Delta, DraftDiscarded, DraftGrew, DraftStarted, Rotated
from parley.core.errors import ParleyError
from parley.core.event import Event, EventBase
from parley.ports import Clock, WriteUncertain
from parley.store import Claim
from parley.store.drafts import Drafts

log = logging.getLogger("parley")

FLUSH_SECONDS = 0.2
"""Between two writes of deltas; a watcher looks as often."""

LOOK_SECONDS = 1.0
"""Between two looks for a watcher."""


@dataclass(slots=True)
class Broadcast:
    """The deltas of one drive; `watched` is what the claim found."""

    claim: Claim
    drafts: Drafts
    clock: Clock
    watched: bool
    looked: datetime = field(init=False)
    after: int = 0
    """The newest event that the drive has told of."""
    open: set[str] = field(default_factory=set)
    """Ids of the drafts that are neither events nor discarded yet."""
    pending: list[DraftGrew] = field(default_factory=list)
    """What they have said and no row holds for certain."""
    written: list[int] = field(default_factory=list)
    """Numbers of the rows that are in the table."""
    count: int = 0
    task: "asyncio.Task[None] | None" = None

    def __post_init__(self) -> None:
        """Begin with what the claim found."""
        self.looked = self.clock.now()

    def take(self, output: Event | Delta) -> None:
        """Take what the drive says next."""
        match output:
            case DraftStarted():
                self._add(DraftGrew(output.event_id, output.kind, ""))
            case DraftGrew():
                self._add(output)
            case DraftDiscarded():
                self._settle(output.event_id)
            case EventBase():
                self.after = output.seq
                self._settle(output.id)
                if self.written and not self.open:
                    self._soon()
            case Rotated():
                pass

    async def close(self) -> None:
        """Remove what is left."""
        if self.task:
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)
        await self._safely(self._remove())

    def _add(self, piece: DraftGrew) -> None:
        self.open.add(piece.event_id)
        self.pending.append(piece)
        self._soon()

    def _soon(self) -> None:
        """Write, or look for a watcher, in a moment; what comes until then goes along."""
        if self.task is None or self.task.done():
            self.task = asyncio.create_task(self._write_or_look(), name=f"broadcast {self.claim.run_id}")

    async def _write_or_look(self) -> None:
        while True:
            await self.clock.sleep(FLUSH_SECONDS if self.watched else LOOK_SECONDS)
            if self.open and (self.clock.now() - self.looked).total_seconds() >= LOOK_SECONDS:
                await self._safely(self._look())
            if self.watched:
                await self._safely(self._flush())
            over = self.written and not self.open
            if not self.watched or not (self.pending or over):  # what came during the write is written, too
                return

    async def _look(self) -> None:
        self.looked = self.clock.now()
        self.watched = await self.drafts.watched(self.claim.ref)

    async def _flush(self) -> None:
        """Write what no row holds; a row whose write failed is written again, with what came since."""
        if not self.open:
            await self._remove()
        if pieces := self.pending[:]:
            if self.count + 1 not in self.written:
                self.written.append(self.count + 1)
            await self.drafts.write(self.claim.ref, self.claim.epoch, self.count + 1, _joined(pieces), self.after)
            self.count += 1
            written = set(map(id, pieces))
            self.pending = [piece for piece in self.pending if id(piece) not in written]

    def _settle(self, event_id: str) -> None:
        self.open.discard(event_id)
        self.pending = [piece for piece in self.pending if piece.event_id != event_id]

    async def _remove(self) -> None:
        await self.drafts.remove(self.claim.ref, self.claim.epoch, self.written)
        self.written = []

    async def _safely(self, work: Awaitable[None]) -> None:
        """Do it; if that fails, begin anew with the next look: without one piece the rest would be garbled."""
        try:
            await work
        except (ParleyError, WriteUncertain) as error:
            self.watched = False
            log.warning("drafts_not_written", extra={"session_id": self.claim.ref.id, "error": type(error).__name__})


def _joined(pieces: list[DraftGrew]) -> list[DraftGrew]:
    """Put the pieces of a draft into one."""
    texts: dict[str, DraftGrew] = {}
    for piece in pieces:
        before = texts[piece.event_id].text if piece.event_id in texts else ""
        texts[piece.event_id] = DraftGrew(piece.event_id, piece.kind, before + piece.text)
    return list(texts.values())

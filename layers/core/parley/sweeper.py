"""What faults leave behind, found and mended: drivers that died, hints that were lost, sessions that ended.

Decides nothing about a run but that nobody has decided in time: it gives a hint, and whoever takes it decides from the
log. So two sweepers, or one too many, do no harm.
"""

import logging
from dataclasses import dataclass

from parley.core import approval
from parley.core.errors import ParleyError
from parley.ports import Queue
from parley.store import Ref, Store
from parley.store.head import milliseconds
from parley.store.keys import APPROVAL, QUEUED, RUN, SHOWN
from parley.store.work import work

log = logging.getLogger("parley")


PATIENCE_MS = 30_000
"""So long a hint may take; a message that has waited for longer gets another."""


@dataclass(frozen=True, slots=True)
class Swept:
    """What one round did."""

    hints: int = 0
    """Sessions whose driver was gone, whose message nobody had taken, or that waited for a decision too long."""
    removed: int = 0
    """Sessions of which nothing is left now."""
    expired: int = 0
    """Sessions that the table's stream said have ended by themselves."""
    failed: int = 0
    """Sessions that could not be looked at; the next round tries again."""


@dataclass(frozen=True, slots=True)
class Sweeper:
    """Walks through all that somebody must still look at."""

    store: Store
    queue: Queue

    async def sweep(self) -> Swept:
        """Do one round.

        Raises:
            Unavailable: the index could not be read.
        """
        hinted: set[Ref] = set()
        removed = failed = 0
        now = milliseconds(self.store.log.clock.now())
        async for ref, sk in work(self.store.table, created_before_ms=now - PATIENCE_MS, due_ms=now):
            try:
                if sk == SHOWN:
                    removed += await self.store.sweep.sweep(ref)
                elif ref not in hinted and await self._needs_driver(ref, sk):
                    hinted.add(ref)
                    await self.queue.send(ref.tenant, ref.id)
            except ParleyError as error:
                failed += 1
                log.warning("session_not_swept", extra={"session_id": ref.id, "code": error.code})
        return _told(Swept(hints=len(hinted), removed=removed, failed=failed))

    async def expire(self, ref: Ref) -> Swept:
        """End a session whose row has lapsed; its bytes go with the next rounds."""
        return _told(Swept(expired=await self.store.sweep.expired(ref)))

    async def _needs_driver(self, ref: Ref, sk: str) -> bool:
        """Read the lock before anything is said: the index may lag, and waiting for a person is no fault."""
        shown, lock = await self.store.sessions.read(ref)
        if shown is None and not lock.deleted:  # it has lapsed, and nobody was told
            await self.store.sweep.expired(ref)
            return False
        if sk.startswith(APPROVAL):
            return not lock.deleted and bool((await self.store.words.say(ref, approval.expire)).events)
        if sk.startswith(RUN):
            return self.store.claims.lapsed(lock)
        return sk.startswith(QUEUED) and lock.run is None and not lock.deleted and not lock.held


def _told(swept: Swept) -> Swept:
    if swept != Swept():
        log.info("swept", extra={name: getattr(swept, name) for name in Swept.__slots__})
    return swept

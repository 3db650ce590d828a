"""What a claim allows: append, keep the lease, settle; and how a person's word wakes a run that waits."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from parley.core.errors import Fenced, Unavailable
from parley.core.event import Event
from parley.core.fold import fold
from parley.core.session import Run, Session
from parley.ports import ConditionFailed, Match, Op, Update
from parley.store import entry as entries
from parley.store import rows, snapshot
from parley.store.claims import Claim
from parley.store.head import Lock, milliseconds
from parley.store.keys import Ref
from parley.store.log import Log
from parley.store.sessions import Sessions

LAPSED = 0
"""Of a lease: the run needs a driver now."""


@dataclass(frozen=True, slots=True)
class Drives:
    """The writes of a driver."""

    sessions: Sessions
    log: Log
    lease_seconds: float

    async def append(self, claim: Claim, session: Session, events: Sequence[Event]) -> tuple[Event, ...]:
        """Store events of the run behind `session`; return them placed.

        Raises:
            SlotTaken: read the tail and decide again.
        """
        return await self.log.append(claim.ref, session.seq, events, epoch=claim.epoch)

    async def renew(self, claim: Claim) -> None:
        """Extend the lease.

        Raises:
            Fenced: the run is no longer this driver's.
        """
        try:
            await self._lease(claim, self._now_ms() + round(self.lease_seconds * 1000))
        except Fenced:
            _, lock = await self.sessions.read(claim.ref)
            if lock.epoch != claim.epoch:  # else this driver itself has just closed or parked the run
                raise

    async def release(self, claim: Claim) -> None:
        """End the lease of a driver that has stopped in the middle, so that another need not wait for it.

        Raises:
            Fenced: the run is no longer this driver's.
        """
        await self._lease(claim, LAPSED)

    async def settle(self, claim: Claim, session: Session, events: Sequence[Event], unsealed: int) -> tuple[Event, ...]:
        """Store the events that close, park or hand over the run, and release the lock, in one transaction.

        Raises:
            SlotTaken: read the tail and decide again.
            Fenced: the run is no longer this driver's.
        """
        placed = entries.place(events, session.seq)
        after = fold(session, placed)
        sealed = await self._seal(claim, session, unsealed)
        entry = await self.log.entry(claim.ref, session.seq, events, epoch=claim.epoch)
        try:
            await self.log.write(entry, *self._settle_ops(claim, after, placed, sealed))
        except ConditionFailed as error:
            raise Fenced("Another driver has taken the run over.") from error
        return placed

    async def wake(
        self, ref: Ref, lock: Lock, session: Session, events: Sequence[Event], *also: Op
    ) -> tuple[Event, ...]:
        """Store a person's word behind `session`; a run that waited for it needs a driver now.

        Raises:
            SlotTaken, ConditionFailed: read again and decide again.
        """
        entry = await self.log.entry(ref, session.seq, events)
        parked = session.run is not None and session.run.parked
        held = Match({"epoch": lock.epoch, "run": lock.run, "deleted": None})
        woken = [Update(ref.lock(), set={"lease_until": LAPSED}, condition=held)] if parked else []
        await self.log.write(entry, *also, *woken)
        return entries.place(events, session.seq)

    async def _lease(self, claim: Claim, until_ms: int) -> None:
        try:
            await self.log.write(Update(claim.ref.lock(), set={"lease_until": until_ms}, condition=_driven(claim)))
        except ConditionFailed as error:
            raise Fenced("Another driver has taken the run over.") from error

    def _settle_ops(self, claim: Claim, after: Session, placed: tuple[Event, ...], sealed: int | None) -> list[Op]:
        ref, now, run = claim.ref, self._now_ms(), after.run
        assert run is not None, "only a run settles"  # noqa: S101 - narrows a type
        head = replace(claim.head, phase=after.phase, updated_ms=max(now, claim.head.updated_ms))
        shown = head.activity(ref, self.sessions.ttl()) | {"usage": after.usage.model_dump(exclude_defaults=True)}
        active = 0 if run.open else max(0, now - milliseconds(run.started_at))
        alive = Match({"id": ref.id, "deleted": None})
        return [
            _released(claim, run, {} if sealed is None else {"sealed": sealed}),
            Update(ref.shown(), set=shown, add={"active_ms": active}, condition=alive),
            rows.settled(ref, after, placed, now),
        ]

    async def _seal(self, claim: Claim, session: Session, unsealed: int) -> int | None:
        """Keep a snapshot when it is worth one; without it the next turn reads more, and that is all."""
        if unsealed > snapshot.SEAL_BYTES:
            with suppress(Unavailable):
                return await snapshot.write(self.log.blobs, claim.ref, session, claim.sealed)
        return None

    def _now_ms(self) -> int:
        return milliseconds(self.log.clock.now())


def _held(claim: Claim) -> Match:
    return Match({"epoch": claim.epoch, "run": claim.run_id})


def _driven(claim: Claim) -> Match:
    return Match({**_held(claim).attributes, "left": None})


def _released(claim: Claim, run: Run, changes: dict[str, int | bool]) -> Update:
    """Give the lock back: free when the run is closed, without a lease while it waits, lapsed when handed over."""
    remove: tuple[str, ...] = ("lease_until",)
    if not run.open:
        remove = ("lease_until", "run")
    else:
        changes = changes | {"left": True}  # a renewal under way must not give it a lease again
        if not run.parked:
            changes, remove = changes | {"lease_until": LAPSED}, ()
    return Update(claim.ref.lock(), set=changes, remove=remove, condition=_held(claim))

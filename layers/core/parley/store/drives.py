"""What a claim allows: append, keep the lease, settle."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from parley.core.errors import Fenced, Unavailable
from parley.core.event import Event
from parley.core.fold import fold
from parley.core.session import Run, Session
from parley.ports import ConditionFailed, Match, Op, Update
from parley.store import allowance, approvals, rows, snapshot
from parley.store import entry as entries
from parley.store.claim import Claim
from parley.store.head import Lock, milliseconds
from parley.store.log import Log, SlotTaken
from parley.store.sessions import Sessions
from parley.store.words import LAPSED


@dataclass(frozen=True, slots=True)
class Drives:
    """The writes of a driver."""

    sessions: Sessions
    log: Log
    lease_seconds: float

    async def append(self, claim: Claim, session: Session, events: Sequence[Event]) -> tuple[Event, ...]:
        """Store events of the run behind `session`; return them placed.

        Raises:
            SlotTaken: read the tail and decide again. Also when the agent's day has no money left: the log says so.
        """
        counters = allowance.counted(claim.ref, claim.head.agent_id, session, events)
        if not counters:
            return await self.log.append(claim.ref, session.seq, events, epoch=claim.epoch)
        entry = await self.log.entry(claim.ref, session.seq, events, epoch=claim.epoch)
        try:
            await self.log.write(entry, *counters)
        except ConditionFailed as error:
            reserved = allowance.reservation(events)
            assert reserved, "only a reservation has a condition"  # noqa: S101 - narrows a type
            full = allowance.full(reserved, error.found.get(1))
            await self.log.append(claim.ref, session.seq, [full], epoch=claim.epoch)
            raise SlotTaken from error
        return entries.place(events, session.seq)

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

    async def stopped(self, claim: Claim) -> bool:
        """Say whether a person has stopped the run since this driver claimed it; one small read."""
        item = await self.log.table.get(claim.ref.lock())
        lock = Lock.of(item) if item else Lock()
        return lock.interrupt and lock.epoch == claim.epoch

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
        counters = allowance.counted(claim.ref, claim.head.agent_id, session, events)
        try:
            await self.log.write(entry, *self._settle_ops(claim, session, after, placed, sealed), *counters)
        except ConditionFailed as error:
            raise Fenced("Another driver has taken the run over.") from error
        return placed

    async def _lease(self, claim: Claim, until_ms: int) -> None:
        try:
            await self.log.write(Update(claim.ref.lock(), set={"lease_until": until_ms}, condition=_driven(claim)))
        except ConditionFailed as error:
            raise Fenced("Another driver has taken the run over.") from error

    def _settle_ops(
        self, claim: Claim, before: Session, after: Session, placed: tuple[Event, ...], sealed: int | None
    ) -> list[Op]:
        ref, now, run = claim.ref, self._now_ms(), after.run
        assert run is not None, "only a run settles"  # noqa: S101 - narrows a type
        head = replace(claim.head, phase=after.shows, updated_ms=max(now, claim.head.updated_ms))
        shown = head.activity(ref, self.sessions.ttl())
        shown |= {"usage": after.usage.model_dump(exclude_defaults=True), "cost": after.spent.cost}
        active = 0 if run.open else max(0, now - milliseconds(run.started_at))
        alive = Match({"id": ref.id, "deleted": None})
        return [
            _released(claim, run, {} if sealed is None else {"sealed": sealed}),
            Update(ref.shown(), set=shown, add={"active_ms": active}, condition=alive),
            rows.settled(ref, after, placed, now),
            *approvals.changes(ref, before, after, placed),
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
    """Give the lock back: free when closed, lapsed when handed over, without a lease while it waits for a person.

    A run that goes on by itself, later, has a lease until then: the sweeper finds it as if its driver had died.
    """
    remove: tuple[str, ...] = ("lease_until",)
    if not run.open:
        remove = ("lease_until", "run")
    else:
        changes = changes | {"left": True}  # a renewal under way must not give it a lease again
        if not run.asks:
            until = run.full.resets_at if run.parked and run.full else None
            changes, remove = changes | {"lease_until": milliseconds(until) if until else LAPSED}, ()
    return Update(claim.ref.lock(), set=changes, remove=remove, condition=_held(claim))

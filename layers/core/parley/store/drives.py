"""Who drives a session's run: begin, take over, renew, settle.

A claim is an entry in the same log as everything else, written in one transaction with the lock. That makes it the
barrier: an older driver's next append aims at a slot that is taken, finds the claim there, and stops.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from parley.core import compose
from parley.core.agent import Agent
from parley.core.compose import Scribe
from parley.core.errors import Conflict, Fenced, NotFound, SessionBusy, Unavailable
from parley.core.event import Event
from parley.core.fold import fold
from parley.core.session import Session
from parley.ports import Absent, ConditionFailed, Match, Op, Put, Update
from parley.store import entry as entries
from parley.store import rows, snapshot
from parley.store.head import Head, Lock, milliseconds
from parley.store.idempotency import Once
from parley.store.keys import Ref
from parley.store.log import CONTENTION_RETRIES, Log, SlotTaken
from parley.store.sessions import Sessions

CLOCK_MARGIN_MS = 2000
"""Two machines' clocks may differ by this before a lease is taken early; harmless, but wasteful."""


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to drive one run until a newer claim. `session` is folded up to and including `events`."""

    ref: Ref
    head: Head
    epoch: int
    run_id: str
    session: Session
    events: tuple[Event, ...]
    unsealed_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Free:
    """A session that nobody drives, as it was read."""

    head: Head
    lock: Lock
    session: Session
    unsealed_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Drives:
    """Claims and what they allow."""

    sessions: Sessions
    log: Log
    lease_seconds: float

    async def begin(
        self,
        ref: Ref,
        agent: Agent,
        text: str,
        *,
        new: Head | None = None,
        once: Once | None = None,
        owner: str | None = None,
        task_id: str | None = None,
    ) -> Claim:
        """Store a message and the start of its run, and claim it; with `new`, create the session as well.

        Raises:
            NotFound: unknown, deleted, expired or somebody else's session.
            SessionBusy: a run is open.
            Conflict: the session is another agent's.
            ConditionFailed: `once` was used a moment ago.
            Unavailable: writers kept taking the slot, or it is unknown what was stored; a read will tell.
        """
        for _ in range(CONTENTION_RETRIES):
            found = await self._free(ref, agent, owner) if new is None else Free(new, Lock(), Session(id=ref.id))
            run_id, epoch = self.log.ids.new("run"), found.lock.epoch + 1
            scribe = Scribe(self.log.ids.new, self.log.clock.now, run_id, task_id or found.head.task_id)
            opening = compose.opening(scribe, agent, text, epoch)
            before = Claim(ref, found.head, epoch, run_id, found.session, (), found.unsealed_bytes)
            claim = _with(before, opening)
            entry = await self.log.entry(ref, found.session.seq, opening, epoch=epoch)
            ops = self._begin_ops(claim, found.lock, agent, text, created=new is not None)
            guard = [once.put(self._now_ms() // 1000, ref.id, run_id)] if once else []
            try:
                await self.log.write(entry, *ops, *guard)
            except SlotTaken:
                continue
            except ConditionFailed as error:
                if guard and 1 + len(ops) in error.found:
                    raise
                continue
            return claim
        raise Unavailable("The session is being written to all the time. Try again.")

    async def _free(self, ref: Ref, agent: Agent, owner: str | None) -> "Free":
        head, lock = await self.sessions.open(ref, owner)
        if head.agent_id != agent.id:
            raise Conflict(f"This session belongs to agent '{head.agent_id}'.", code="other_agent")
        if lock.run:
            raise SessionBusy(ref.id, lock.run, waits_for_person=lock.lease_until_ms is None)
        return Free(head, lock, *await self.log.load(ref, lock.sealed))

    def _begin_ops(self, claim: Claim, lock: Lock, agent: Agent, text: str, *, created: bool) -> list[Op]:
        ref, now = claim.ref, self._now_ms()
        taken = replace(lock, epoch=claim.epoch, run=claim.run_id, lease_until_ms=self._lease_end())
        head = replace(claim.head, phase="planning", updated_ms=now, runs=claim.head.runs + 1)
        row = rows.RunRow.begun(claim.session, agent, text, now, claim.events[0].seq)
        if created:
            shown: Op = Put(head.item(ref, self.sessions.ttl()), Absent())
            locked: Op = Put(taken.item(ref), Absent())
        else:
            activity = head.activity(ref, self.sessions.ttl()) | {"runs": head.runs}
            shown = Update(ref.shown(), set=activity, condition=Match({"id": ref.id, "deleted": None}))
            locked = self._lock(ref, lock, claim.epoch, claim.run_id)
        return [locked, shown, Put(row.item(ref))]

    async def take_over(self, ref: Ref, *, void_lease: bool = False) -> Claim | None:
        """Claim an open run whose driver is gone, or whose person has decided; `None` when there is nothing to do.

        `void_lease` is for who knows that no other driver can be alive.
        """
        for _ in range(CONTENTION_RETRIES):
            try:
                head, lock = await self.sessions.open(ref)
            except NotFound:
                return None
            if lock.run is None or lock.lease_until_ms is None:
                return None
            if not void_lease and lock.lease_until_ms + CLOCK_MARGIN_MS >= self._now_ms():
                return None
            session, size = await self.log.load(ref, lock.sealed)
            if session.run is None or session.run.parked:
                return None
            epoch = lock.epoch + 1
            task_id = session.run.task_id
            events = compose.taking_over(Scribe(self.log.ids.new, self.log.clock.now, lock.run, task_id), epoch)
            entry = await self.log.entry(ref, session.seq, events, epoch=epoch)
            try:
                await self.log.write(entry, self._lock(ref, lock, epoch, lock.run))
            except (SlotTaken, ConditionFailed):
                continue
            return _with(Claim(ref, head, epoch, lock.run, session, (), size), events)
        return None

    async def wake(
        self, ref: Ref, lock: Lock, session: Session, events: Sequence[Event], *also: Op
    ) -> tuple[Event, ...]:
        """Store a person's word behind `session`; a parked lock gets a lease that has lapsed: it needs a driver now.

        Raises:
            SlotTaken, ConditionFailed: read again and decide again.
        """
        entry = await self.log.entry(ref, session.seq, events)
        parked = session.run is not None and session.run.parked
        held = Match({"epoch": lock.epoch, "run": lock.run, "deleted": None})
        woken = [Update(ref.lock(), set={"lease_until": 0}, condition=held)] if parked else []
        await self.log.write(entry, *also, *woken)
        return entries.place(events, session.seq)

    async def renew(self, claim: Claim) -> None:
        """Extend the lease.

        Raises:
            Fenced: the run is no longer this driver's.
        """
        held = Match({"epoch": claim.epoch, "run": claim.run_id})
        try:
            await self.log.write(Update(claim.ref.lock(), set={"lease_until": self._lease_end()}, condition=held))
        except ConditionFailed as error:
            raise Fenced("Another driver has taken the run over.") from error

    async def append(self, claim: Claim, session: Session, events: Sequence[Event]) -> tuple[Event, ...]:
        """Store events of the run behind `session`; return them placed.

        Raises:
            SlotTaken: read the tail and decide again.
        """
        return await self.log.append(claim.ref, session.seq, events, epoch=claim.epoch)

    async def settle(self, claim: Claim, session: Session, events: Sequence[Event], unsealed: int) -> tuple[Event, ...]:
        """Store the events that close or park the run, and release the lock, in one transaction.

        Raises:
            SlotTaken: read the tail and decide again.
            Fenced: the run is no longer this driver's.
        """
        placed = entries.place(events, session.seq)
        after = fold(session, placed)
        sealed = await self._seal(claim.ref, session, unsealed)
        entry = await self.log.entry(claim.ref, session.seq, events, epoch=claim.epoch)
        try:
            await self.log.write(entry, *self._settle_ops(claim, after, placed, sealed))
        except ConditionFailed as error:
            raise Fenced("Another driver has taken the run over.") from error
        return placed

    def _settle_ops(self, claim: Claim, after: Session, placed: tuple[Event, ...], sealed: int | None) -> list[Op]:
        ref, now = claim.ref, self._now_ms()
        open_ = after.run is not None and after.run.open
        head = replace(claim.head, phase=after.phase, updated_ms=max(now, claim.head.updated_ms))
        shown = head.activity(ref, self.sessions.ttl()) | {"usage": after.usage.model_dump(exclude_defaults=True)}
        active = 0 if open_ or after.run is None else max(0, now - milliseconds(after.run.started_at))
        return [
            Update(
                ref.lock(),
                set={} if sealed is None else {"sealed": sealed},
                remove=("lease_until",) if open_ else ("lease_until", "run"),
                condition=Match({"epoch": claim.epoch, "run": claim.run_id}),
            ),
            Update(
                ref.shown(),
                set=shown,
                add={"active_ms": active},
                condition=Match({"id": ref.id, "deleted": None}),
            ),
            rows.settled(ref, after, placed, now),
        ]

    async def _seal(self, ref: Ref, session: Session, unsealed: int) -> int | None:
        """Keep a snapshot when it is worth one; without it the next turn reads more, and that is all."""
        if unsealed > snapshot.SEAL_BYTES:
            with suppress(Unavailable):
                return await snapshot.write(self.log.blobs, ref, session)
        return None

    def _lock(self, ref: Ref, seen: Lock, epoch: int, run_id: str) -> Update:
        unchanged = {"epoch": seen.epoch, "run": seen.run, "lease_until": seen.lease_until_ms, "deleted": None}
        taken = {"epoch": epoch, "run": run_id, "lease_until": self._lease_end()}
        return Update(ref.lock(), set=taken, condition=Match(unchanged))

    def _lease_end(self) -> int:
        return self._now_ms() + round(self.lease_seconds * 1000)

    def _now_ms(self) -> int:
        return milliseconds(self.log.clock.now())


def _with(claim: Claim, events: Sequence[Event]) -> Claim:
    """Add the events that the claim stores."""
    placed = entries.place(events, claim.session.seq)
    return replace(claim, events=placed, session=fold(claim.session, placed))

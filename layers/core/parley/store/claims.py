"""Who drives a session's run: begin one, or take one over.

A claim is an entry in the same log as everything else, written in one transaction with the lock. That makes it the
barrier: an older driver's next append aims at a slot that is taken, finds the claim there, and stops.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from parley.core import compose
from parley.core.agent import Agent
from parley.core.errors import (
    Conflict,
    NotFound,
    ParleyError,
    SessionArchived,
    SessionBusy,
    SessionSuspended,
    Unavailable,
)
from parley.core.event import Event, UserMessage
from parley.core.fold import fold
from parley.core.run import Fail
from parley.core.scribe import Scribe
from parley.core.session import Session
from parley.core.value import Content
from parley.ports import Absent, ConditionFailed, Match, Op, Put, Update
from parley.store import entry as entries
from parley.store import rows
from parley.store.claim import Claim, Free
from parley.store.head import Head, Lock, milliseconds
from parley.store.idempotency import Done, Once, find
from parley.store.inputs import Inputs
from parley.store.keys import Ref
from parley.store.log import CONTENTION_RETRIES, Log, SlotTaken
from parley.store.sessions import Sessions

CLOCK_MARGIN_MS = 2000
"""Two machines' clocks may differ by this before a lease is taken early; harmless, but wasteful."""


@dataclass(frozen=True, slots=True)
class Claims:
    """Gives the right to drive."""

    sessions: Sessions
    inputs: Inputs
    log: Log
    lease_seconds: float

    async def begin(
        self,
        ref: Ref,
        agent: Agent,
        content: Content,
        *,
        new: Head | None = None,
        once: Once | None = None,
        owner: str | None = None,
        task_id: str | None = None,
        refusal: Fail | None = None,
    ) -> Claim:
        """Store a message and the start of its run, and claim it; with `new`, create the session as well.

        With `refusal` the run can only fail: whoever drives it finds the reason beside its beginning.

        Raises:
            NotFound: unknown, deleted, expired or somebody else's session.
            SessionBusy: a run is open, or a person holds the session.
            Conflict: the session is archived, or another agent's.
            ConditionFailed: `once` was used a moment ago.
            Unavailable: writers kept taking the slot, or it is unknown what was stored; a read will tell.
        """
        message = compose.user_message(Scribe(self.log.ids.new, self.log.clock.now, None, task_id), content)
        for _ in range(CONTENTION_RETRIES):
            found = await self._free(ref, agent, owner) if new is None else Free(new, Lock(), Session(id=ref.id))
            claim = self._beginning(ref, found, agent, message, refusal)
            guards = [once.put(self._now_ms() // 1000, ref.id, claim.run_id)] if once else []
            if await self._begun(claim, found.lock, agent, guards, created=new is not None):
                return claim
        raise Unavailable("The session is being written to all the time. Try again.")

    async def begin_once(
        self,
        ref: Ref,
        agent: Agent,
        content: Content,
        *,
        new: Head | None = None,
        once: Once | None = None,
        owner: str | None = None,
        task_id: str | None = None,
        refusal: Fail | None = None,
    ) -> Claim | Done:
        """Begin, unless an earlier request with the same key did; raises what `begin` raises, but `ConditionFailed`."""
        try:
            return await self.begin(
                ref, agent, content, new=new, once=once, owner=owner, task_id=task_id, refusal=refusal
            )
        except (ParleyError, ConditionFailed) as error:  # perhaps because the same request came before
            if done := await find(self.log.table, once):
                return done
            if isinstance(error, ConditionFailed):
                raise Unavailable("The request could not be stored. Try again.") from error
            raise

    async def begin_queued(self, ref: Ref, agent_of: Callable[[str], Agent]) -> Claim | None:
        """Take the message that has waited longest into the log, and claim its run; `None` when there is no need."""
        for _ in range(CONTENTION_RETRIES):
            queued = await self.inputs.first(ref)
            if queued is None:
                return None
            try:
                head, lock = await self.sessions.open(ref)
            except NotFound:
                return None
            if lock.run or lock.held:
                return None
            found, agent = Free(head, lock, *await self.log.load(ref, lock.sealed)), agent_of(head.agent_id)
            if found.session.held:
                return None
            claim = self._beginning(ref, found, agent, queued.message)
            try:
                begun = await self._begun(claim, lock, agent, [queued.taken()], created=False)
            except ConditionFailed:  # another driver took it
                continue
            if begun:
                await self.inputs.forget(queued)
                return claim
        return None

    async def take_over(self, ref: Ref, *, void_lease: bool = False) -> Claim | None:
        """Claim an open run whose driver is gone, or whose person has decided; `None` when there is nothing to do.

        `void_lease` is for who knows that no other driver can be alive.
        """
        for _ in range(CONTENTION_RETRIES):
            try:
                head, lock = await self.sessions.open(ref)
            except NotFound:
                return None
            if lock.run is None or not (self.lapsed(lock) or (void_lease and lock.lease_until_ms is not None)):
                return None
            session, size = await self.log.load(ref, lock.sealed)
            if session.run is None or session.run.asks:
                return None
            epoch = lock.epoch + 1
            task_id = session.run.task_id
            events = compose.taking_over(Scribe(self.log.ids.new, self.log.clock.now, lock.run, task_id), epoch)
            entry = await self.log.entry(ref, session.seq, events, epoch=epoch)
            try:
                await self.log.write(entry, self._lock(ref, lock, epoch, lock.run))
            except (SlotTaken, ConditionFailed):
                continue
            claim = Claim(ref, head, epoch, lock.run, session, (), size, lock.watched, lock.sealed)
            return _with(claim, events)
        return None

    def lapsed(self, lock: Lock) -> bool:
        """Say whether a run is open and its driver's lease is over; a run that waits for a person has no lease."""
        ends = lock.lease_until_ms
        return lock.run is not None and ends is not None and ends + CLOCK_MARGIN_MS < self._now_ms()

    async def _free(self, ref: Ref, agent: Agent, owner: str | None) -> Free:
        head, lock = await self.sessions.open(ref, owner)
        if head.agent_id != agent.id:
            raise Conflict(f"This session belongs to agent '{head.agent_id}'.", code="other_agent")
        if lock.run and not lock.held:
            raise SessionBusy(ref.id, lock.run, waits_for_person=lock.lease_until_ms is None)
        free = Free(head, lock, *await self.log.load(ref, lock.sealed))
        if free.session.archived:
            raise SessionArchived(ref.id)
        if free.session.suspended:
            raise SessionSuspended(ref.id)
        if lock.run:
            raise SessionBusy(ref.id, lock.run)
        return free

    def _beginning(
        self, ref: Ref, found: Free, agent: Agent, message: UserMessage, refusal: Fail | None = None
    ) -> Claim:
        """Write a run's first events behind what was found."""
        run_id, epoch = self.log.ids.new("run"), found.lock.epoch + 1
        scribe = Scribe(self.log.ids.new, self.log.clock.now, run_id, message.task_id or found.head.task_id)
        opening = compose.opening(scribe, agent, message, epoch)
        opening += [compose.refused(scribe, refusal)] if refusal else []
        size, lock = found.unsealed_bytes, found.lock
        claim = Claim(ref, found.head, epoch, run_id, found.session, (), size, lock.watched, lock.sealed)
        return _with(claim, opening)

    async def _begun(self, claim: Claim, lock: Lock, agent: Agent, guards: Sequence[Op], *, created: bool) -> bool:
        """Store the beginning; `False` when somebody else wrote first.

        Raises:
            ConditionFailed: one of the guards did not hold.
        """
        entry = await self.log.entry(claim.ref, claim.events[0].seq - 1, claim.events, epoch=claim.epoch)
        ops = self._begin_ops(claim, lock, agent, created=created)
        try:
            await self.log.write(entry, *ops, *guards)
        except SlotTaken:
            return False
        except ConditionFailed as error:
            if any(position > len(ops) for position in error.found):
                raise
            return False
        return True

    def _begin_ops(self, claim: Claim, lock: Lock, agent: Agent, *, created: bool) -> list[Op]:
        ref, now = claim.ref, self._now_ms()
        taken = replace(lock, epoch=claim.epoch, run=claim.run_id, lease_until_ms=self._lease_end())
        head = replace(claim.head, phase="planning", updated_ms=now, runs=claim.head.runs + 1)
        row = rows.RunRow.begun(claim.session, agent, claim.events, now)
        if created:
            shown: Op = Put(head.item(ref, self.sessions.ttl()), Absent())
            locked: Op = Put(taken.item(ref), Absent())
        else:
            activity = head.activity(ref, self.sessions.ttl()) | {"runs": head.runs}
            shown = Update(ref.shown(), set=activity, condition=Match({"id": ref.id, "deleted": None}))
            locked = self._lock(ref, lock, claim.epoch, claim.run_id)
        return [locked, shown, Put(row.item(ref))]

    def _lock(self, ref: Ref, seen: Lock, epoch: int, run_id: str) -> Update:
        unchanged = {"epoch": seen.epoch, "run": seen.run, "lease_until": seen.lease_until_ms, "deleted": None}
        taken = {"epoch": epoch, "run": run_id, "lease_until": self._lease_end()}
        return Update(ref.lock(), set=taken, remove=("left", "interrupt"), condition=Match(unchanged))

    def _lease_end(self) -> int:
        return self._now_ms() + round(self.lease_seconds * 1000)

    def _now_ms(self) -> int:
        return milliseconds(self.log.clock.now())


def _with(claim: Claim, events: Sequence[Event]) -> Claim:
    """Add the events that the claim stores."""
    placed = entries.place(events, claim.session.seq)
    return replace(claim, events=placed, session=fold(claim.session, placed))

"""What people say into a session's log: decided on what is folded, and stored behind exactly that, or not at all.

A run that waited for it needs a driver then: its lease has lapsed, and whoever sees that takes it over.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from parley.core.errors import SessionArchived, Unavailable
from parley.core.event import Event
from parley.core.fold import fold
from parley.core.scribe import Scribe
from parley.core.session import Session
from parley.ports import ConditionFailed, Match, Op, Update
from parley.store import approvals, audit
from parley.store import entry as entries
from parley.store.audit import By
from parley.store.head import Head, Lock, milliseconds
from parley.store.idempotency import Done, Once, find
from parley.store.inputs import Arrived
from parley.store.keys import Ref
from parley.store.log import CONTENTION_RETRIES, Log, SlotTaken
from parley.store.sessions import Sessions

LAPSED = 0
"""Of a lease: the run needs a driver now."""

Decide = Callable[[Scribe, Session], Sequence[Event]]
"""Writes events behind a folded session, or raises what is wrong with that; none: there is nothing to say."""


@dataclass(frozen=True, slots=True)
class Word:
    """Events that are about to be stored, and what they change."""

    ref: Ref
    head: Head
    before: Session
    after: Session
    events: tuple[Event, ...]

    @classmethod
    def of(cls, ref: Ref, head: Head, before: Session, events: Sequence[Event]) -> "Word":
        """Put events behind a session."""
        placed = entries.place(events, before.seq)
        return cls(ref, head, before, fold(before, placed), placed)

    @property
    def hint(self) -> dict[str, bool]:
        """Say what the lock is given for the driver that is there: that its run is to stop."""
        stops = self.before.run is not None and not self.before.run.cancel and self.after.run and self.after.run.cancel
        return {"interrupt": True} if stops else {}

    @property
    def wakes(self) -> bool:
        """Whether the run has waited for it, and needs a driver now; one may still be at work."""
        return self.before.rests and not self.after.rests


@dataclass(frozen=True, slots=True)
class Spoken:
    """What stands in the log now; `done` is the earlier request with the same key that has put it there."""

    events: tuple[Event, ...]
    done: Done | None = None

    @property
    def replayed(self) -> bool:
        """Whether an earlier request said it."""
        return self.done is not None


@dataclass(frozen=True, slots=True)
class Words:
    """Appends what people say."""

    sessions: Sessions
    log: Log

    async def say(
        self,
        ref: Ref,
        decide: Decide,
        by: By | None = None,
        *,
        lock: Mapping[str, Any] | None = None,
        beside: Callable[[Word], Sequence[Op]] = lambda _: (),
        arrived: Arrived | None = None,
    ) -> Spoken:
        """Store what `decide` writes, deciding again while others write first.

        What a person does is audited with it. `lock` are attributes that the lock is given, `beside` makes the other
        writes of the transaction, `arrived` are messages that wait from then on.

        Raises:
            NotFound: unknown, deleted, expired or somebody else's session.
            SessionArchived: nothing is added to it any more.
            Unavailable: writers kept taking the slot, or it is unknown what was stored.
            Also what `decide` raises.
        """
        once = by.once if by else None
        for _ in range(CONTENTION_RETRIES):
            head, seen = await self.sessions.open(ref, by.sees if by else None)
            if done := await find(self.log.table, once):
                return Spoken(await self.at(ref, done.seq) if done.seq else (), done)
            before, _ = await self.log.load(ref, seen.sealed)
            if before.archived:
                raise SessionArchived(ref.id)
            events = decide(self._scribe(head, before), before)
            if not events:
                return Spoken(())
            word = Word.of(ref, head, before, events)
            acts = audit.acts(by.actor, ref, head.owner, word.events) if by else []
            try:
                await self.put(word, seen, *beside(word), *acts, *self._rows(word, once, arrived), lock=lock or {})
            except (SlotTaken, ConditionFailed):
                continue
            return Spoken(word.events)
        raise Unavailable("The session is being written to all the time. Try again.")

    async def put(self, word: Word, seen: Lock, *also: Op, lock: Mapping[str, Any]) -> None:
        """Store a word behind the session that it was decided on, whose lock was `seen` before.

        Raises:
            SlotTaken, ConditionFailed: read again and decide again.
        """
        entry = await self.log.entry(word.ref, word.before.seq, word.events)
        unchanged: dict[str, Any] = {"epoch": seen.epoch, "run": seen.run, "deleted": None}
        changes = {**lock, **word.hint}
        if word.wakes:
            leased = seen.lease_until_ms  # if the run is not parked, by a driver that goes on, or has just come to rest
            unchanged["lease_until"] = leased
            changes["lease_until"] = leased if leased is not None and not word.before.parked else LAPSED
        held = Match(unchanged)
        locked = [Update(word.ref.lock(), set=changes, condition=held)] if changes else []
        asked = approvals.changes(word.ref, word.before, word.after, word.events)
        await self.log.write(entry, *locked, *asked, *also)

    async def at(self, ref: Ref, seq: int) -> tuple[Event, ...]:
        """Return the events of the entry that begins at `seq`."""
        async for entry in self.log.read(ref, seq - 1):
            return entry.events
        raise Unavailable("What was stored cannot be read. Try again.")

    def _scribe(self, head: Head, session: Session) -> Scribe:
        new_id, now, run = self.log.ids.new, self.log.clock.now, session.run
        if run is None or not run.open:
            return Scribe(new_id, now, None, head.task_id)
        return Scribe(new_id, now, run.id, run.task_id)

    def _rows(self, word: Word, once: Once | None, arrived: Arrived | None) -> list[Op]:
        now, seq = milliseconds(self.log.clock.now()), word.events[0].seq
        if arrived is None:
            return [once.put(now // 1000, word.ref.id, seq=seq)] if once else []
        stands = [arrived.stands(once, now, word.ref.id, seq)] if once else []
        return [*stands, self.sessions.active(word.ref, word.head, len(arrived.rows)), *arrived.rows]

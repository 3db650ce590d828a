"""How a session is held, changed, set back, copied and ended by a person: words in its log, and what its rows say then.

Each is one transaction: the event, the row that lists read, the lock where a driver must heed it, and the audit.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from parley.core import control as c
from parley.core.changes import Changes, changed, settings
from parley.core.errors import Conflict, NotFound, SessionArchived, SessionBusy
from parley.core.event import Event
from parley.core.fold import fold
from parley.core.restore import may_name, place_of, restored
from parley.core.scribe import Scribe
from parley.core.session import Checkpoint, Session
from parley.ports import Match, Op, Update
from parley.store import audit
from parley.store.audit import By
from parley.store.head import Head, budget_item, milliseconds
from parley.store.inputs import Inputs
from parley.store.keys import Ref
from parley.store.log import Log
from parley.store.sessions import Sessions
from parley.store.words import Decide, Spoken, Word, Words


@dataclass(frozen=True, slots=True)
class Lives:
    """Writes what people decide on whole sessions."""

    sessions: Sessions
    inputs: Inputs
    words: Words
    log: Log

    async def suspend(self, ref: Ref, by: By) -> Spoken:
        """Let nothing start any more; what is suspended stays so.

        Raises:
            As `Words.say`; so do the others.
        """

        def says(scribe: Scribe, session: Session) -> Sequence[Event]:
            return [] if session.suspended else [scribe.write(c.SessionSuspended, by=by.actor.id)]

        return await self._say(ref, by, says, lock={"held": True})

    async def resume(self, ref: Ref, by: By) -> Spoken:
        """Let go on what was suspended; what is not stays so."""

        def says(scribe: Scribe, session: Session) -> Sequence[Event]:
            return [scribe.write(c.SessionResumed, by=by.actor.id)] if session.suspended else []

        return await self._say(ref, by, says, lock={"held": False})

    async def archive(self, ref: Ref, by: By) -> Spoken:
        """Let nothing be added any more; what is archived stays so.

        Raises:
            SessionBusy: a run is open.
            Conflict: messages wait.
        """
        before = await self.sessions.head(ref, by.sees)
        if await self.inputs.wait(ref):
            raise _messages_wait(ref)

        def says(scribe: Scribe, session: Session) -> Sequence[Event]:
            _at_rest(session)
            return [scribe.write(c.SessionTerminated, by=by.actor.id)]

        try:
            return await self._say(ref, by, says, lock={"held": True}, sent=before.sent)
        except SessionArchived:
            return Spoken(())

    async def update(self, ref: Ref, by: By, changes: Changes) -> Spoken:
        """Change settings; what is as it was is not stored."""
        shown = await self.sessions.head(ref, by.sees)  # what it was made with, unless its log says more

        def says(scribe: Scribe, session: Session) -> Sequence[Event]:
            return settings(scribe, by.actor.id, **changed(changes, session, shown.title, shown.metadata))

        return await self._say(ref, by, says)

    async def checkpoint(self, ref: Ref, by: By, name: str) -> Spoken:
        """Give the present place of the log a name; it keeps one that it has.

        Raises:
            Conflict: another place has the name, or there are too many.
        """

        def says(scribe: Scribe, session: Session) -> Sequence[Event]:
            named = may_name(session, name)
            return [scribe.write(c.CheckpointCreated, name=name, by=by.actor.id)] if named else []

        return await self._say(ref, by, says)

    async def checkpoints(self, ref: Ref, owner: str | None) -> tuple[Checkpoint, ...]:
        """Return all checkpoints, the first first.

        Raises:
            NotFound: unknown, deleted, expired or somebody else's session.
        """
        _, lock = await self.sessions.open(ref, owner)
        session, _ = await self.log.load(ref, lock.sealed)
        return session.checkpoints

    async def restore(self, ref: Ref, by: By, checkpoint: str | None, seq: int | None) -> Spoken:
        """Set back what the model reads to what it was behind a checkpoint or an event.

        Raises:
            SessionBusy: a run is open.
            NotFound: there is no such place.
        """
        past = await self._past(ref, by, checkpoint, seq)

        def says(scribe: Scribe, session: Session) -> Sequence[Event]:
            _at_rest(session)
            return [restored(scribe, session, past, checkpoint=checkpoint, by=by.actor.id)]

        return await self._say(ref, by, says)

    async def fork(self, ref: Ref, by: By, new: Head, checkpoint: str | None, seq: int | None) -> Head:
        """Make a session that begins with what this one's model has read; it keeps this one's autonomy and budget.

        Raises:
            NotFound: there is no such place.
            ConditionFailed: `once` was used a moment ago.
        """
        head, lock = await self.sessions.open(ref, by.sees)
        source, _ = await self.log.load(ref, lock.sealed)
        past = await self._past(ref, by, checkpoint, seq if seq or checkpoint else source.seq)
        fork, scribe = Ref(ref.tenant, new.id), Scribe(self.log.ids.new, self.log.clock.now, None, new.task_id)
        empty, actor = Session(id=new.id), by.actor
        said: list[Event] = [restored(scribe, empty, past, fork_of=source, checkpoint=checkpoint, by=actor.id)]
        said += settings(scribe, actor.id, autonomy=source.autonomy, budget=source.budget)
        new = replace(new, autonomy=source.autonomy, budget=source.budget)
        told = audit.entry(
            actor,
            "session.forked",
            ref,
            head.owner,
            id=said[0].id,
            at_ms=milliseconds(said[0].created_at),
            target=new.id,
            detail={"to_seq": past.seq},
        )
        await self.sessions.create(fork, new, by.once, told, said=said)
        return new

    async def _past(self, ref: Ref, by: By, checkpoint: str | None, seq: int | None) -> Session:
        """Fold the session as it was behind a checkpoint, or behind event `seq`."""
        _, lock = await self.sessions.open(ref, by.sees)
        present, _ = await self.log.load(ref, lock.sealed)
        seq = place_of(present, checkpoint) if checkpoint else seq or 0
        if seq > present.seq:
            raise NotFound("event", str(seq), f"The last one is {present.seq}.")
        if seq == present.seq:
            return present
        return fold(Session(id=ref.id), [event async for event in self.log.events(ref, before=seq + 1)])

    async def _say(
        self,
        ref: Ref,
        by: By,
        says: Decide,
        *,
        lock: Mapping[str, Any] | None = None,
        sent: int | None = None,
    ) -> Spoken:
        """Say it, with the row that lists read beside it; if `sent` messages were all that ever came."""

        def beside(word: Word) -> list[Op]:
            if sent is not None and word.head.sent != sent:
                raise _messages_wait(ref)
            return [self._shown(word, sent)]

        return await self.words.say(ref, says, by, lock=lock, beside=beside)

    def _shown(self, word: Word, sent: int | None) -> Update:
        now, after = milliseconds(word.events[0].created_at), word.after
        head = replace(word.head, phase=after.shows, updated_ms=max(now, word.head.updated_ms))
        settings: dict[str, Any] = {"autonomy": after.autonomy} if after.autonomy else {}
        if after.title is not None:
            settings["title"] = after.title or None
        if after.metadata is not None:
            settings["metadata"] = dict(after.metadata)
        if after.budget is not None:
            settings["budget"] = budget_item(after.budget)
        if after.archived:
            settings["archived_ms"] = now
        alive: dict[str, Any] = {"id": word.ref.id, "deleted": None}
        if sent is not None:
            alive["sent"] = sent or None
        shown = head.activity(word.ref, self.sessions.ttl()) | settings
        return Update(word.ref.shown(), set=shown, condition=Match(alive))


def _messages_wait(ref: Ref) -> Conflict:
    then = "Archive it when they are answered."
    return Conflict(f"Messages wait for their turn in session '{ref.id}'. {then}", code="messages_wait")


def _at_rest(session: Session) -> None:
    if session.run and session.run.open:
        raise SessionBusy(session.id, session.run.id, waits_for_person=session.rests)

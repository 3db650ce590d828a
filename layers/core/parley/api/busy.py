"""What a request says to a session that may be busy: it stops the run, joins it, waits behind it, or is refused.

Of one request everything is stored, or nothing, and the same request again finds what the first has stored.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from parley.api.words import tell
from parley.core import busy
from parley.core.busy import OnBusy
from parley.core.errors import Conflict, SessionArchived, SessionBusy, SessionSuspended, Unavailable
from parley.core.event import Event, UserMessage
from parley.core.scribe import Scribe
from parley.core.session import Session
from parley.ports import ConditionFailed
from parley.state import State
from parley.store import Ref
from parley.store.audit import By
from parley.store.idempotency import Done, find
from parley.store.inputs import Arrived
from parley.store.words import Decide


@dataclass(frozen=True, slots=True)
class Sent:
    """What stands: events in the log, and messages that wait; `done` is an earlier request that has said the same."""

    events: tuple[Event, ...] = ()
    waiting: Sequence[UserMessage] = ()
    done: Done | None = None


@dataclass(frozen=True, slots=True)
class Speech:
    """One request's words for a session."""

    state: State
    session: Ref
    by: By

    async def say(self, messages: Sequence[UserMessage], interrupts: int, on_busy: OnBusy) -> Sent:
        """Store interrupts and messages, as whoever drives the session then hears.

        Raises:
            NotFound: unknown, deleted or somebody else's session.
            Conflict: `reject`, and the session is busy; too many messages wait; or it is archived.
            Unavailable: try again.
        """
        done = await find(self.state.store.table, self.by.once)
        sent = await self.again(done) if done else await self._say(messages, interrupts, on_busy)
        await tell(self.state, self.session, sent.events)
        return sent

    async def again(self, done: Done) -> Sent:
        """Find what the first request with this key has put into the log."""
        store = self.state.store
        await store.sessions.head(self.session, self.by.sees)
        return Sent(await store.words.at(self.session, done.seq) if done.seq else (), done=done)

    async def _say(self, messages: Sequence[UserMessage], interrupts: int, on_busy: OnBusy) -> Sent:
        sent = Sent()
        if interrupts or on_busy == "interrupt":
            sent = await self._interrupt(messages, interrupts)
        elif on_busy == "steer":
            sent = await self._append(lambda scribe, session: busy.steer(scribe, session, messages))
        elif on_busy == "reject":
            await self._refuse_if_busy()
        return sent if sent.events or sent.done else await self._queue(messages)

    async def _interrupt(self, messages: Sequence[UserMessage], interrupts: int) -> Sent:
        """Stop the open run and let the messages wait for its end, in one transaction.

        A stop that is spelt out is stored whatever the session does.
        """

        def decide(scribe: Scribe, session: Session) -> Sequence[Event]:
            by = self.by.actor.id
            return [busy.interrupt(scribe, by) for _ in range(interrupts)] or busy.stop(scribe, session, by)

        arrived = await self.state.store.inputs.arrive(self.session, messages) if messages else None
        return await self._append(decide, arrived)

    async def _append(self, decide: Decide, arrived: Arrived | None = None) -> Sent:
        said = await self.state.store.words.say(self.session, decide, self.by, arrived=arrived)
        waiting = arrived.messages if arrived and said.events and not said.done else ()
        return Sent(said.events, waiting, said.done)

    async def _refuse_if_busy(self) -> None:
        store, session = self.state.store, self.session
        head, lock = await store.sessions.open(session, self.by.sees)
        if lock.held and head.archived_ms is None:
            raise SessionSuspended(session.id)
        if lock.run:
            raise SessionBusy(session.id, lock.run, waits_for_person=lock.lease_until_ms is None)
        if await store.inputs.wait(session):
            message = f"Messages wait for their turn in session '{session.id}'. Send with `on_busy=queue`, or later."
            raise Conflict(message, code=SessionBusy.code)

    async def _queue(self, messages: Sequence[UserMessage]) -> Sent:
        store = self.state.store
        try:
            await store.inputs.put(self.session, messages, owner=self.by.sees, once=self.by.once)
        except ConditionFailed as error:
            if done := await find(store.table, self.by.once):
                return await self.again(done)
            head = await store.sessions.head(self.session, self.by.sees)
            if head.archived_ms is not None:
                raise SessionArchived(self.session.id) from error
            raise Unavailable("The session was changed at this moment. Try again.") from error
        return Sent(waiting=messages)

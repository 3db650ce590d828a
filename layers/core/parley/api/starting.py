"""How a message that is executed comes to a run: to one of its own now or later, or to the one that is open."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from parley.api.busy import Speech
from parley.api.words import tell
from parley.core.agent import Agent
from parley.core.busy import OnBusy
from parley.core.compose import user_message
from parley.core.delta import Output
from parley.core.errors import Conflict, Gone, SessionBusy
from parley.core.event import Event
from parley.core.scribe import Scribe
from parley.core.value import Content
from parley.follow import follow, tail, turn
from parley.runner import Runner
from parley.state import State
from parley.store import Head, Ref
from parley.store.audit import By
from parley.store.idempotency import Done
from parley.store.rows import run_row


@dataclass(frozen=True, slots=True)
class Started:
    """What can be followed; `replayed` when an earlier request with the same key began it."""

    ref: Ref
    run_id: str | None
    """None while the message waits for its turn."""
    batches: AsyncIterator[Sequence[Output]]
    replayed: bool = False
    behind: Sequence[Event] = ()
    """Of the run, from before the message joined it: they count for its `complete`."""
    rests: bool = False
    """Whether the run that the message joined waits for a person."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A message for an agent, in a session that is there or in a `new` one."""

    state: State
    runner: Runner
    by: By
    agent: Agent
    content: Content
    session: Ref
    new: Head | None
    task_id: str | None
    on_busy: OnBusy

    async def start(self) -> Started:
        """Begin a run, or do what is to be done in a session that is busy.

        Raises:
            SessionBusy: `reject`, and a run is open.
            Also what `Claims.begin` and `Speech.say` raise.
        """
        if not await self._others_wait():
            try:
                return await self._begin()
            except SessionBusy:
                if self.on_busy == "reject":
                    await tell(self.state, self.session)  # in case its driver is gone
                    raise
        return await self._say()

    async def _others_wait(self) -> bool:
        """Say whether messages have come before this one; who is refused when busy does not ask."""
        return self.on_busy != "reject" and self.new is None and await self.state.store.inputs.wait(self.session)

    async def _begin(self) -> Started:
        begun = await self.state.store.claims.begin_once(
            self.session,
            self.agent,
            self.content,
            new=self.new,
            once=self.by.once,
            owner=self.by.sees,
            task_id=self.task_id,
        )
        if isinstance(begun, Done):
            return await self._again(begun)
        return Started(self.session, begun.run_id, follow(self.runner, begun, self.runner.start(begun, self.agent)))

    async def _say(self) -> Started:
        """Let the message join the open run, or wait for its turn."""
        store, session = self.state.store, self.session
        head = await store.sessions.head(session, self.by.sees)
        if head.agent_id != self.agent.id:
            raise Conflict(f"This session belongs to agent '{head.agent_id}'.", code="other_agent")
        after = await store.log.last_seq(session)
        message = user_message(Scribe(store.log.ids.new, store.log.clock.now, None, self.task_id), self.content)
        sent = await Speech(self.state, session, self.by).say([message], 0, self.on_busy)
        if sent.done:
            return await self._again(sent.done)
        if sent.waiting:
            return Started(session, None, turn(self.runner, session, message.id, after))
        return await self._joined(session, sent.events[0])

    async def _joined(self, session: Ref, message: Event, *, replayed: bool = False) -> Started:
        run_id = message.run_id or ""
        behind = await self.state.store.log.of_last_run(session, before=message.seq)
        _, lock = await self.state.store.sessions.open(session)
        rests = lock.run == run_id and lock.lease_until_ms is None
        batches = tail(self.runner, session, run_id, message.seq - 1)
        return Started(session, run_id, batches, replayed, behind, rests)

    async def _again(self, done: Done) -> Started:
        """Stream what came of the first request, from the log, for as long as it lives."""
        store, session = self.state.store, Ref(self.session.tenant, done.session_id)
        await store.sessions.head(session, self.by.sees)
        if done.run_id:
            row = await run_row(store.table, session, done.run_id)
            return Started(session, row.id, tail(self.runner, session, row.id, row.first_seq - 1), replayed=True)
        if not done.inputs:
            [message, *_] = await store.words.at(session, done.seq or 1)
            return await self._joined(session, message, replayed=True)
        [message_id], after = done.inputs, done.seq or 0
        if await store.inputs.find(session, message_id):
            return Started(session, None, turn(self.runner, session, message_id, after), replayed=True)
        if placed := await store.inputs.placed(session, message_id, after):
            run_id = placed.run_id or ""
            return Started(session, run_id, tail(self.runner, session, run_id, placed.seq - 1), replayed=True)
        raise Gone(f"The message '{message_id}' was removed before its turn.", code="message_removed")

"""Runs as tasks: a run outlives its listener.

Decides how a run is started, resumed, handed over and closed in this process. What a run does next is the engine's and
the log's to decide.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass, field

from parley.broadcast import Broadcast
from parley.core.agent import Agent
from parley.core.delta import DraftStarted, Output
from parley.core.errors import Fenced, ParleyError, Unavailable
from parley.core.event import Event, EventBase, StatusIdle, StatusRescheduled
from parley.core.run import Fail
from parley.deadline import Deadline
from parley.engine import Engine
from parley.ports import Queue
from parley.stop import Stop
from parley.store import Claim, Ref, Store

log = logging.getLogger("parley")

Listener = asyncio.Queue[Output | None]


@dataclass(slots=True)
class Live:
    """A run that this process drives, and who listens to it."""

    claim: Claim
    stop: Stop = field(default_factory=Stop)
    listeners: list[Listener] = field(default_factory=list)
    task: "asyncio.Task[None] | None" = None

    def publish(self, output: Output | None) -> None:
        """Hand something to every listener; `None` ends them."""
        for listener in self.listeners:
            listener.put_nowait(output)

    def listen(self) -> Listener:
        """Begin to listen, from here on."""
        listener: Listener = asyncio.Queue()
        self.listeners.append(listener)
        return listener


@dataclass(slots=True)
class Runner:
    """Hosts the runs of one process."""

    engine: Engine
    agents: Mapping[str, Agent]
    queue: Queue
    on_event: Callable[[Event], None] = lambda _: None
    """Is told of every event that a driver here has stored."""
    deadline: Deadline = field(default_factory=Deadline)
    """A run whose next step may not fit before it is handed over."""
    live: dict[str, Live] = field(default_factory=dict)
    """By run id."""
    tasks: "set[asyncio.Task[None]]" = field(default_factory=set)
    """Drivers at work, and those that have still to give their hint."""
    closing: bool = False
    """Hints are for others then."""
    look_seconds: float = 1.0
    """Between two looks for a stop that another process was asked for."""

    @property
    def store(self) -> Store:
        """The engine's store."""
        return self.engine.store

    def start(self, claim: Claim, agent: Agent) -> Listener:
        """Drive a claimed run in a task of its own; return what it will say, from its first event."""
        live = Live(claim)
        return self._host(live, self.engine.drive(claim, agent, self.deadline, live.stop))

    def fail(self, claim: Claim, agent: Agent, why: Fail) -> Listener:
        """Close a claimed run that cannot be driven, in a task of its own; return what it will say."""
        return self._host(Live(claim), self.engine.give_up(claim, agent, why))

    def _host(self, live: Live, outputs: AsyncGenerator[Output, None]) -> Listener:
        listener = live.listen()
        live.task = asyncio.create_task(self._drive(live, outputs), name=live.claim.run_id)
        live.task.add_done_callback(_report)
        live.task.add_done_callback(self.tasks.discard)
        self.tasks.add(live.task)
        self.live[live.claim.run_id] = live
        return listener

    def stop(self, run_id: str) -> None:
        """Let a driver here know at once of a stop that is in the log; one elsewhere looks for itself."""
        if live := self.live.get(run_id):
            live.stop.ask()

    async def resume(self, ref: Ref, *, void_lease: bool = False) -> "asyncio.Task[None] | None":
        """Drive what the session needs driven: its open run, or the message that waits; return the task.

        `void_lease` is for who knows that no other driver can be alive.
        """
        claim = await self.store.claims.take_over(ref, void_lease=void_lease)
        if claim is not None:
            log.info("run_taken_over", extra=_keys(claim))
        else:
            claim = await self.store.claims.begin_queued(ref, self._agent)
        run = claim.session.run if claim else None
        if claim is None or run is None:
            return None
        agent = self._agent(run.agent_id)
        if run.agent_id in self.agents or run.cancel:  # to stop takes no agent
            self.start(claim, agent)
        else:
            self.fail(claim, agent, Fail("agent_not_found", f"Agent '{run.agent_id}' is not deployed any more."))
        return self.live[claim.run_id].task

    def drives(self, ref: Ref) -> bool:
        """Say whether the session's run is at work here, even if its lease has lapsed while this machine slept."""
        return any(live.claim.ref == ref for live in self.live.values())

    async def nudge(self, ref: Ref, *, void_lease: bool = False) -> "asyncio.Task[None] | None":
        """Resume if need be, as a hint asks for: what goes wrong is logged, and the next hint tries again."""
        if self.closing or self.drives(ref):
            return None
        try:
            return await self.resume(ref, void_lease=void_lease)
        except ParleyError as error:
            log.warning("run_not_resumed", extra={"session_id": ref.id, "code": error.code})
            return None

    async def close(self, grace_seconds: float = 5.0) -> None:
        """Let runs end for a moment, then stop them where they are and hand them over."""
        if self.tasks:
            await asyncio.wait(self.tasks, timeout=grace_seconds)
        self.closing = True
        late = [live.claim for live in self.live.values()]
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        await asyncio.gather(*map(self._release, late))
        self.closing = False

    async def _release(self, claim: Claim) -> None:
        """Let another driver begin at once; without it, it begins when the lease lapses."""
        try:
            await self.store.drives.release(claim)
        except (Fenced, Unavailable):
            return
        log.info("run_cut_short", extra=_keys(claim))
        await self.queue.send(claim.ref.tenant, claim.ref.id)

    async def _drive(self, live: Live, outputs: AsyncGenerator[Output, None]) -> None:
        claim = live.claim
        beside = [self._renew(claim, asyncio.current_task()), self._look(live)]
        tasks = [asyncio.create_task(each) for each in beside]
        broadcast = Broadcast(claim, self.store.drafts, self.engine.clock, claim.watched)
        last: Output | None = None
        try:
            async with aclosing(outputs):
                async for output in outputs:
                    broadcast.take(output)
                    if isinstance(output, EventBase):
                        self.on_event(output)
                    live.publish(output)
                    if isinstance(last, DraftStarted):  # a burst may follow: let its first piece out
                        await asyncio.sleep(0)
                    last = output
        except Fenced:
            log.info("run_fenced", extra=_keys(claim))
        finally:
            for task in tasks:
                task.cancel()
            if self.live.get(claim.run_id) is live:  # and not a later driver of the same run
                del self.live[claim.run_id]
            live.publish(None)
            await broadcast.close()
        await self._hint(claim, last)

    async def _hint(self, claim: Claim, last: Output | None) -> None:
        """Ask for a driver when the run was handed over, or when messages have waited for its end."""
        match last:
            case StatusRescheduled(reason="handed_over"):
                log.info("run_handed_over", extra=_keys(claim))
            case StatusIdle() if not last.stop_reason.parks:
                if not await self._messages_wait(claim.ref):
                    return
            case _:
                return
        await self.queue.send(claim.ref.tenant, claim.ref.id)

    async def _messages_wait(self, ref: Ref) -> bool:
        try:
            return await self.store.inputs.wait(ref)
        except ParleyError as error:
            log.warning("queue_not_looked_at", extra={"session_id": ref.id, "code": error.code})
            return False

    async def _renew(self, claim: Claim, driver: "asyncio.Task[None] | None") -> None:
        """Keep the lease; a driver that lost it is stopped."""
        while True:
            await self.engine.clock.sleep(self.store.drives.lease_seconds / 3)
            try:
                await self.store.drives.renew(claim)
            except Fenced:
                if driver:
                    driver.cancel()
                return
            except Unavailable:
                log.warning("lease_not_renewed", extra=_keys(claim))

    async def _look(self, live: Live) -> None:
        """Look for a stop that another process has put into the log: one small read at a time."""
        while not live.stop.asked:
            await asyncio.sleep(self.look_seconds)
            with suppress(Unavailable):
                if await self.store.drives.stopped(live.claim):
                    live.stop.ask()

    def _agent(self, agent_id: str) -> Agent:
        """Return the deployed agent, or a stand-in for one that is not deployed any more."""
        return self.agents.get(agent_id) or Agent(id=agent_id or "gone", prompt="-")


def _keys(claim: Claim) -> dict[str, str | int]:
    return {"session_id": claim.ref.id, "run_id": claim.run_id, "seq": claim.session.seq}


def _report(task: "asyncio.Task[None]") -> None:
    """Log what ended a driver unexpectedly; its run is taken over when the lease lapses."""
    if not task.cancelled() and (error := task.exception()):
        log.error("driver_failed", exc_info=error, extra={"run_id": task.get_name()})

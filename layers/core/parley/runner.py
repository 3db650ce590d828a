"""Runs as tasks: a run outlives its listener.

Decides how a run is started, resumed and listened to in this process. What a run does next is the engine's and the
log's to decide.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

from parley.core.agent import Agent
from parley.core.delta import DraftDiscarded, DraftStarted
from parley.core.errors import Fenced, NotFound, ParleyError, Unavailable
from parley.core.event import Event, EventBase, StatusIdle
from parley.engine import Engine, Output
from parley.store import Claim, Ref, Store
from parley.store.rows import open_runs

log = logging.getLogger("parley")

TAIL_SECONDS = 0.2
"""How often a listener of a run that is driven elsewhere looks at the log."""

HEARTBEAT_SECONDS = 10.0
"""After so long without a word a listener gets an empty batch."""

Listener = asyncio.Queue[Output | None]


@dataclass(slots=True)
class Live:
    """A run that this process drives, and who listens to it."""

    claim: Claim
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
    live: dict[str, Live] = field(default_factory=dict)
    """By run id."""

    @property
    def store(self) -> Store:
        """The engine's store."""
        return self.engine.store

    def start(self, claim: Claim, agent: Agent) -> Listener:
        """Drive a claimed run in a task of its own; return what it will say, from its first event."""
        live = Live(claim)
        listener = live.listen()
        live.task = asyncio.create_task(self._drive(live, agent), name=claim.run_id)
        live.task.add_done_callback(_report)
        self.live[claim.run_id] = live
        return listener

    async def resume(self, ref: Ref, *, void_lease: bool = False) -> "asyncio.Task[None] | None":
        """Take over the session's open run if it needs a driver; return the task that drives it."""
        claim = await self.store.drives.take_over(ref, void_lease=void_lease)
        if claim is None:
            return None
        run = claim.session.run
        log.info("run_taken_over", extra={"session_id": ref.id, "run_id": claim.run_id, "seq": claim.session.seq})
        agent = self.agents.get(run.agent_id) if run else None
        if agent is None:
            await self.engine.give_up(claim, run.agent_id if run else "")
            return None
        self.start(claim, agent)
        return self.live[claim.run_id].task

    def drives(self, ref: Ref) -> bool:
        """Say whether the session's run is at work here, even if its lease has lapsed while this machine slept."""
        return any(live.claim.ref == ref for live in self.live.values())

    async def nudge(self, ref: Ref, *, void_lease: bool = False) -> None:
        """Resume if need be, as a hint asks for: what goes wrong is logged, and the next hint tries again."""
        try:
            await self.resume(ref, void_lease=void_lease)
        except ParleyError as error:
            log.warning("run_not_resumed", extra={"session_id": ref.id, "code": error.code})

    async def recover(self, *, void_leases: bool = False) -> int:
        """Take over every open run whose driver is gone; return how many were looked at.

        `void_leases` is for the start of a process, when no other driver can be alive.
        """
        looked = 0
        async for ref in open_runs(self.store.table):
            looked += 1
            if not self.drives(ref):
                await self.nudge(ref, void_lease=void_leases)
        return looked

    async def recover_for_ever(self, every_seconds: float) -> None:
        """Recover again and again."""
        while True:
            await self.engine.clock.sleep(every_seconds)
            try:
                await self.recover()
            except Unavailable:
                log.warning("recovery_postponed")

    async def follow(self, claim: Claim, listener: Listener) -> AsyncIterator[Sequence[Output]]:
        """Yield what the run says, in batches of what is waiting, until it is idle; an empty batch is a sign of life.

        When its driver here ends early, the log tells the rest.
        """
        seq = claim.events[0].seq - 1
        drafts: set[str] = set()
        live = self.live.get(claim.run_id)
        try:
            while True:
                batch = await _drain(listener)
                said = [output for output in batch if output is not None]
                yield said
                drafts = _open_drafts(drafts, said)
                seq = max([seq, *(output.seq for output in said if isinstance(output, EventBase))])
                if said and isinstance(said[-1], StatusIdle):
                    return
                if len(said) < len(batch):
                    break
        finally:
            if live and listener in live.listeners:
                live.listeners.remove(listener)
        yield [DraftDiscarded(event_id) for event_id in sorted(drafts)]
        async for events in self.tail(claim.ref, claim.run_id, seq):
            yield events

    async def tail(self, ref: Ref, run_id: str, after: int) -> AsyncIterator[Sequence[Event]]:
        """Yield the events of a run behind `after` from the log, until the run is idle or the session is gone."""
        clock, spoke = self.engine.clock, self.engine.clock.now()
        while True:
            tail = await self.store.log.tail(ref, after)
            events = [event for event in tail if event.run_id == run_id]
            if events or (clock.now() - spoke).total_seconds() >= HEARTBEAT_SECONDS:
                spoke = clock.now()
                yield events
                if not events and not self.drives(ref):
                    await self.nudge(ref)  # its driver may be gone, and nobody else looking
            after = tail[-1].seq if tail else after
            if events and isinstance(events[-1], StatusIdle):
                return
            try:
                await self.store.sessions.head(ref)
            except NotFound:
                return
            await clock.sleep(TAIL_SECONDS)

    async def close(self, grace_seconds: float = 5.0) -> None:
        """Let runs end for a moment, then stop them where they are; the log lets any process go on."""
        tasks = [live.task for live in self.live.values() if live.task]
        if not tasks:
            return
        _, late = await asyncio.wait(tasks, timeout=grace_seconds)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)

    async def _drive(self, live: Live, agent: Agent) -> None:
        driver = asyncio.current_task()
        renewal = asyncio.create_task(self._renew(live.claim, driver))
        try:
            async with aclosing(self.engine.drive(live.claim, agent)) as outputs:
                before: Output | None = None
                async for output in outputs:
                    live.publish(output)
                    if isinstance(before, DraftStarted):  # a burst may follow: let its first piece out
                        await asyncio.sleep(0)
                    before = output
        except Fenced:
            log.info("run_fenced", extra={"session_id": live.claim.ref.id, "run_id": live.claim.run_id})
        finally:
            renewal.cancel()
            if self.live.get(live.claim.run_id) is live:  # and not a later driver of the same run
                del self.live[live.claim.run_id]
            live.publish(None)

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
                log.warning("lease_not_renewed", extra={"session_id": claim.ref.id, "run_id": claim.run_id})


def _report(task: "asyncio.Task[None]") -> None:
    """Log what ended a driver unexpectedly; its run is taken over when the lease lapses."""
    if not task.cancelled() and (error := task.exception()):
        log.error("driver_failed", exc_info=error, extra={"run_id": task.get_name()})


def _open_drafts(drafts: set[str], said: Sequence[Output]) -> set[str]:
    """Follow which drafts have neither become an event nor been discarded."""
    begun = {output.event_id for output in said if isinstance(output, DraftStarted)}
    gone = {output.event_id for output in said if isinstance(output, DraftDiscarded)}
    return (drafts | begun) - gone - {output.id for output in said if isinstance(output, EventBase)}


async def _drain(listener: Listener) -> list[Output | None]:
    """Wait for something, then take all that is there; nothing after `HEARTBEAT_SECONDS`."""
    try:
        async with asyncio.timeout(HEARTBEAT_SECONDS):
            batch = [await listener.get()]
    except TimeoutError:
        return []
    while not listener.empty():
        batch.append(listener.get_nowait())
    return batch

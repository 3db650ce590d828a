"""The only loop: decide, store, act.

    step = next_step(session)         pure; from any log
    append(facts + announcement)      what came of the last step, and what must be stored before the next one
    yield                             what a listener sees as an event is in the table
    act(step)                         deltas pass by; facts wait for the next append

A slot that somebody else took changes the log: the facts stay, the step is decided again. A newer claim or a delete in
the log ends the driver. The loop does not learn features: a new behaviour is a Step, an event, or a row of a table.
"""

import asyncio
import math
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

from parley import model_call
from parley.core.agent import Agent
from parley.core.compose import announcement, closing_events, idempotency_key, result_event
from parley.core.delta import Delta, Output
from parley.core.errors import Fenced
from parley.core.event import Event
from parley.core.fold import fold
from parley.core.run import (
    AskBudget,
    AskPerson,
    CallModel,
    CallTools,
    Cancel,
    Compact,
    Fail,
    Finish,
    HandOver,
    Pause,
    Step,
    Wait,
    next_step,
)
from parley.core.scribe import Scribe
from parley.core.session import Call, Run, Session
from parley.core.tool import ToolContext
from parley.deadline import Deadline
from parley.model_call import Facts
from parley.ports import Clock, Ids, Model, Toolbox
from parley.stop import Stop
from parley.store import Claim, SlotTaken, Store


@dataclass(slots=True)
class Drive:
    """One driver at work: its claim, and the session as far as it has read."""

    claim: Claim
    agent: Agent
    scribe: Scribe
    session: Session
    unsealed: int
    stop: Stop = field(default_factory=Stop)
    facts: list[Event] = field(default_factory=list)

    @property
    def run(self) -> Run:
        """The run that is driven."""
        if self.session.run is None:
            raise Fenced("The run is gone from the log.")
        return self.session.run


@dataclass(frozen=True, slots=True)
class Engine:
    """Drives claimed runs."""

    store: Store
    model: Model
    toolbox: Toolbox
    clock: Clock
    ids: Ids

    async def drive(
        self, claim: Claim, agent: Agent, deadline: Deadline | None = None, stop: Stop | None = None
    ) -> AsyncGenerator[Output, None]:
        """Drive a run until it closes, waits for a person or is handed over; yield what the claim stored and all after.

        Raises:
            Fenced: another driver has the run, or the session is gone.
            Unavailable: the store does not answer; the run is taken over when its lease lapses.
        """
        scribe = self._scribe(claim)
        drive = Drive(claim, agent, scribe, claim.session, claim.unsealed_bytes, stop or Stop())
        for event in claim.events:
            yield event
        while True:
            decided = fold(drive.session, drive.facts)
            step = next_step(decided, agent, deadline.seconds_left() if deadline else math.inf)
            announced = announcement(scribe, step, decided, agent)
            said, stands = await self._store(drive, step, [*drive.facts, *announced])
            for event in said:
                yield event
            if not stands:
                continue
            drive.facts = []
            if step.ends_drive:
                return
            async with aclosing(self._act(drive, step)) as outputs:
                async for output in outputs:
                    if not isinstance(output, Facts):
                        yield output
                    elif output.last:
                        drive.facts = output.events
                    else:
                        for event in await self._keep(drive, output.events):
                            yield event

    def _scribe(self, claim: Claim) -> Scribe:
        run = claim.session.run
        return Scribe(self.ids.new, self.clock.now, claim.run_id, run.task_id if run else None)

    async def give_up(self, claim: Claim, agent: Agent, why: Fail) -> AsyncGenerator[Event, None]:
        """Close a claimed run that cannot be driven, yielding what the claim stored and its end."""
        drive = Drive(claim, agent, self._scribe(claim), claim.session, claim.unsealed_bytes)
        for event in claim.events:
            yield event
        stands = False
        while not stands and drive.run.open:
            said, stands = await self._store(drive, why, closing_events(drive.scribe, why, drive.run))
            for event in said:
                yield event

    async def _store(self, drive: Drive, step: Step, events: Sequence[Event]) -> tuple[Sequence[Event], bool]:
        """Append, or settle the run with its last events; when others wrote first, return theirs: decide again."""
        if not events:
            return await self._heard(drive)
        drives = self.store.drives
        try:
            if step.ends_drive and not isinstance(step, Wait):
                stored = await drives.settle(drive.claim, drive.session, events, drive.unsealed)
            else:
                stored = await drives.append(drive.claim, drive.session, events)
        except SlotTaken:
            return await self._catch_up(drive), False
        drive.session = fold(drive.session, stored)
        return stored, True

    async def _heard(self, drive: Drive) -> tuple[Sequence[Event], bool]:
        """Decide again if a stop was asked for before there was anything to store: the log says of what."""
        if not drive.stop.asked:
            return (), True
        drive.stop.heard()
        return await self._catch_up(drive), False

    async def _keep(self, drive: Drive, facts: Sequence[Event]) -> Sequence[Event]:
        """Append facts while their step is still at work, at whatever slot is free; return all that is new."""
        said: list[Event] = []
        while True:
            try:
                stored = await self.store.drives.append(drive.claim, drive.session, facts)
            except SlotTaken:
                said += await self._catch_up(drive)
                continue
            drive.session = fold(drive.session, stored)
            return [*said, *stored]

    async def _catch_up(self, drive: Drive) -> Sequence[Event]:
        """Fold and return what others have appended.

        Raises:
            Fenced: it ends this driver.
        """
        tail = await self.store.log.tail(drive.claim.ref, drive.session.seq)
        drive.session = fold(drive.session, tail)
        if drive.session.epoch > drive.claim.epoch or drive.session.phase == "deleted":
            raise Fenced("Another driver has taken the run over, or the session was deleted.")
        return tail

    async def _act(self, drive: Drive, step: Step) -> AsyncGenerator[Delta | Facts, None]:
        match step:
            case CallModel() | Compact():
                asking = model_call.Asking(self.model, self.clock, drive.stop)
                async with aclosing(asking.call(step, drive.session, drive.agent, drive.scribe)) as said:
                    async for output in said:
                        yield output
            case CallTools():
                async with aclosing(self._call_tools(drive, step.calls)) as results:
                    async for facts in results:
                        yield facts
            case AskPerson() | AskBudget() | Pause() | Wait() | HandOver() | Finish() | Fail() | Cancel():
                return

    async def _call_tools(self, drive: Drive, calls: Sequence[Call]) -> AsyncGenerator[Facts, None]:
        """Make the calls at the same time; results that come together are stored at once, in the order of the calls."""
        tasks = [asyncio.create_task(self._call_tool(drive, call)) for call in calls]
        try:
            while tasks:
                done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                results = [task.result() for task in tasks if task in done]
                tasks = [task for task in tasks if task not in done]
                yield Facts(results, last=not tasks)
        finally:
            for task in tasks:
                task.cancel()

    async def _call_tool(self, drive: Drive, call: Call) -> Event:
        claim, began = drive.claim, self.clock.now()
        context = ToolContext(
            tenant=claim.ref.tenant,
            owner=claim.head.owner,
            session_id=claim.ref.id,
            run_id=claim.run_id,
            tool_use_id=call.id,
            idempotency_key=idempotency_key(claim.ref.id, call.id),
            task_id=drive.run.task_id,
            metadata=claim.head.metadata,
        )
        outcome = await self.toolbox.call(drive.agent, call.name, call.input, context)
        duration = (self.clock.now() - began).total_seconds()
        return result_event(drive.scribe, call, outcome, max(0, round(duration * 1000)))

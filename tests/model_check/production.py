"""The production store and engine, stepped by the same moves as the model: two processes on a real SQLite table.

A process stands still before every write, model call and tool call until a move lets it go on; what it reads, it reads
at once. So a walk of the model in which nobody waits between a read and what follows is replayed here, move by move.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from parley.adapters.sqlite import SqliteTable
from parley.core import control as c
from parley.core.agent import Agent
from parley.core.errors import Fenced, NotFound, SessionBusy
from parley.core.tool import ToolContext, ToolOutcome
from parley.deadline import Deadline
from parley.engine import Engine
from parley.ports import ConditionFailed, ModelRequest, Op
from parley.store import Claim, Lock, Store
from parley.store.keys import LOCK

from tests.build import REF, Stage, answer, asked, fails, types
from tests.fakes.flaky_table import Fault, FlakyTable
from tests.model_check.decisions import AGENT
from tests.model_check.world import FIRST, SECOND, Act

FAULTS: dict[str, Fault | None] = {"answered": None, "applied": "unconfirmed", "not applied": "lost", "late": "lost"}


class Seen(NamedTuple):
    """What the model and production must have alike."""

    log: list[tuple[int | None, list[str]]]
    """Of every entry: its driver's epoch, and the types of its events."""
    lock: tuple[int, bool, str, bool]
    """Epoch, whether a run has it, its lease, whether it is deleted."""
    stands: list[list[str]]
    """Before what each process stands."""


class Stops:
    """Where a process stands still; it is told how to go on."""

    def __init__(self) -> None:
        self.waiting: dict[str, asyncio.Future[str]] = {}

    async def stop(self, at: str) -> str:
        self.waiting[at] = asyncio.get_running_loop().create_future()
        try:
            return await self.waiting[at]
        finally:
            self.waiting.pop(at, None)

    def go(self, at: str, how: str) -> None:
        self.waiting.pop(at).set_result(how)


class SteppedTable(FlakyTable):
    """A table whose every write waits to be let through, and goes wrong as it is told."""

    def __init__(self, table: SqliteTable, stops: Stops) -> None:
        super().__init__(table)
        self.stops = stops
        self.air: tuple[Op, ...] = ()

    async def write(self, *ops: Op) -> None:
        how = await self.stops.stop("write")
        if fault := FAULTS[how]:
            self.fail_next(fault)
        if how == "late":
            self.air = ops
        await super().write(*ops)


@dataclass
class SteppedWorld:
    """A model and tools that answer when they are told to."""

    stops: Stops

    async def stream(self, request: ModelRequest) -> AsyncGenerator[dict[str, Any], None]:
        if await self.stops.stop("ask") == "busy":
            raise fails()
        begins = len(request.messages) == 1
        for event in answer(*[asked(tool.name) for tool in AGENT.tools]) if begins else answer():
            yield event

    async def call(self, agent: Agent, name: str, arguments: dict[str, Any], context: ToolContext) -> ToolOutcome:
        how = await self.stops.stop(f"call {name}")
        return ToolOutcome("ok" if how == "ok" else "unknown", "Done.")


@dataclass
class Process:
    """One process: it looks for a run, and drives what it has claimed."""

    stage: Stage
    stops: Stops = field(default_factory=Stops)
    task: "asyncio.Task[None] | None" = None
    short: bool = False
    """Whether its time is up."""

    def __post_init__(self) -> None:
        stage, world = self.stage, SteppedWorld(self.stops)
        self.table = SteppedTable(stage.sqlite, self.stops)
        self.store = Store.over(self.table, stage.blobs, stage.clock, stage.ids)
        self.engine = Engine(self.store, world, world, stage.clock, stage.ids)

    @property
    def stands(self) -> list[str]:
        """Before what it stands; or that it is idle."""
        return sorted(self.stops.waiting) if self.task and not self.task.done() else ["idle"]

    def look(self) -> None:
        self.task = asyncio.create_task(self._look())

    def begin(self) -> None:
        self.task = asyncio.create_task(self._begin())

    async def stand(self) -> None:
        """Wait until it stands somewhere."""
        while True:
            if self.stands:
                return
            await asyncio.sleep(0.001)

    async def end(self) -> None:
        if self.task:
            self.task.cancel()
            with suppress(asyncio.CancelledError):
                await self.task
            while True:
                if not self.stops.waiting:  # tools are cancelled a little later
                    break
                await asyncio.sleep(0.001)
        self.task = None

    async def _begin(self) -> None:
        with suppress(NotFound, SessionBusy):  # what the client is told then
            await self._drive(await self.store.claims.begin(REF, AGENT, FIRST))

    async def _look(self) -> None:
        claim = await self.store.claims.take_over(REF, void_lease=True)
        claim = claim or await self.store.claims.begin_queued(REF, lambda _: AGENT)
        if claim:
            await self._drive(claim)

    async def _drive(self, claim: Claim) -> None:
        deadline = Deadline(lambda: 0.0 if self.short else 1e9)
        with suppress(Fenced):
            async for _ in self.engine.drive(claim, AGENT, deadline):
                pass


@dataclass
class Production:
    """Both processes, and everybody else."""

    stage: Stage
    processes: list[Process]

    @classmethod
    async def begun(cls, stage: Stage) -> "Production":
        """Begin as the model does: an empty session, and a message that has just reached process A."""
        stage.agent = AGENT
        await stage.create()
        production = cls(stage, [Process(stage), Process(stage)])
        production.processes[0].begin()
        await production.processes[0].stand()
        return production

    async def do(self, act: Act, short: bool) -> None:
        """Make a move; `short` when it ends with a driver that hands over."""
        match act:
            case ("look", int(n)):
                self.processes[n].look()
            case ("write" | "ask" as at, int(n), str(how)):
                self.processes[n].short = short
                self.processes[n].stops.go(str(at), how)
            case ("call", int(n), str(tool), str(how)):
                self.processes[n].short = short
                self.processes[n].stops.go(f"call {tool}", how)
            case ("crash", int(n)):
                await self.processes[n].end()
            case ("plan" | "read" | "take", _):
                pass  # has happened: nobody waits between a read and what follows
            case _:
                await self._others(act)

    async def _others(self, act: Act) -> None:
        stage = self.stage
        match act:
            case ("land",):
                air = next(process.table.air for process in self.processes if process.table.air)
                with suppress(ConditionFailed):
                    await stage.sqlite.write(*air)
            case ("renew",):
                stage.clock.advance(1)
                _, lock = await stage.store.sessions.read(REF)
                head = await stage.store.sessions.head(REF)
                claim = Claim(REF, head, lock.epoch, lock.run or "", await stage.session(), ())
                await stage.store.drives.renew(claim)
            case ("say", str(call), word):
                unknown = await self._call_named(call.split("_")[0])
                await stage.decide(unknown[0], word, attempt=unknown[1])  # type: ignore[arg-type]  # one of the words
            case ("interrupt",):
                await stage.store.words.say(REF, lambda scribe, _: [scribe.write(c.UserInterrupt)])
            case ("send",):
                await stage.send(SECOND)
            case ("delete",):
                await stage.store.sessions.delete(REF)
            case ("sweep",):
                await stage.store.sweep.sweep(REF)
            case _:
                raise ValueError(f"nobody knows how to {act}")

    async def _call_named(self, tool: str) -> tuple[str, int]:
        run = (await self.stage.session()).run
        assert run is not None
        return next((call.id, call.attempt) for call in run.calls if call.name == tool)

    async def seen(self) -> Seen:
        """Look at the table and at the processes."""
        log = [(entry.driver_epoch, sorted(types(entry.events))) async for entry in self.stage.store.log.read(REF)]
        page = await self.stage.sqlite.query(REF.pk, first=LOCK, last=LOCK)
        lock = Lock.of(page.items[0])
        lease = "none" if lock.lease_until_ms is None else "given" if lock.lease_until_ms else "lapsed"
        known = (lock.epoch, lock.run is not None, lease, lock.deleted)
        return Seen(log, known, [process.stands for process in self.processes])

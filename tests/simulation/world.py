"""A world: processes of the production code around one table, and what has happened in it.

cloud     two servers, two queue workers and a sweeper, as a deployment has them
laptop    one process that does everything, as `make dev` has it; who starts again voids the leases of the one before
"""

import asyncio
import logging
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal, TypeVar

from fastapi import FastAPI
from parley.adapters.inline import InlineQueue
from parley.adapters.python_tools import PythonTools
from parley.api.app import create_app
from parley.api.routers import ROUTERS
from parley.core import event as e
from parley.core.agent import Agent
from parley.core.errors import ParleyError
from parley.core.limits import Limits
from parley.core.policy import Policy
from parley.core.tool import ToolContext
from parley.deadline import MARGIN_SECONDS
from parley.dev import recover
from parley.engine import Engine
from parley.ports import Queue
from parley.runner import Runner
from parley.state import Principal, State
from parley.store import Ref, Store
from parley.store.keys import SHOWN
from parley.sweeper import Sweeper
from parley.worker import Worker

from tests.fakes.blobs import MemoryBlobs
from tests.fakes.ids import CountingIds
from tests.simulation.blobs import SimulatedBlobs
from tests.simulation.client import Client, Record
from tests.simulation.connection import Server
from tests.simulation.faults import Faults
from tests.simulation.model import Answers, Provider, SimulatedModel
from tests.simulation.process import Nature, Process, ProcessClock
from tests.simulation.queue import MAX_RECEIVES, SimulatedHints, SimulatedQueue, work
from tests.simulation.table import SimulatedTable, Storage
from tests.simulation.tools import HANDS, Hands, Ledger, Trouble, dig, file, look, pay
from tests.simulation.watcher import Watcher
from tests.simulation.witness import Witness

T = TypeVar("T")

TENANT = "acme"
RESTART_SECONDS = 2.0
GRACE_SECONDS = 1.0
LEASE_SECONDS = 30.0
PRINCIPAL = Principal(TENANT, "ann", admin=True)

Arrangement = Literal["cloud", "laptop"]


@dataclass(frozen=True, slots=True)
class Setting:
    """What a scenario's world is like."""

    answers: Answers = field(default_factory=dict)
    arrangement: Arrangement = "cloud"
    model_seconds: float = 0.0
    tool_seconds: float = 0.0
    life_seconds: float | None = None
    """After which every process is ended, as Lambda does; before, it hands over what it drives."""
    sweep_seconds: float = 60.0
    ttl_days: int = 30
    trouble: Trouble = "none"
    limits: Limits = field(default_factory=Limits)
    policy: Policy = field(default_factory=Policy)
    daily_budget: int | None = None
    """Micro-dollars, of all sessions together."""
    nap_seconds: float = 1.0
    """For which a process sleeps at least."""
    look_seconds: float = 60.0
    """How often a driver looks whether its run is to stop."""
    prompts: tuple[str, ...] = ("Be brief.",)
    """Of the agent, by the generation of processes: the last stays."""


@dataclass(slots=True)
class World:
    """Everything that there is."""

    setting: Setting
    nature: Nature
    ids: CountingIds = field(default_factory=CountingIds)
    kept: MemoryBlobs = field(default_factory=MemoryBlobs)
    ledger: Ledger = field(default_factory=list)
    record: Record = field(default_factory=Record)
    watchers: list[Watcher] = field(default_factory=list)
    processes: dict[str, Process] = field(default_factory=dict)
    runners: dict[str, Runner] = field(default_factory=dict)
    servers: dict[str, Server] = field(default_factory=dict)
    graves: list[Process] = field(default_factory=list)
    lapsed: list[Ref] = field(default_factory=list)
    """Sessions whose rows the table has removed, and the sweeper has not been told of."""
    surprises: list[str] = field(default_factory=list)
    """What production code logged as an error that nobody has foreseen."""
    tasks: list[asyncio.Task[Any]] = field(default_factory=list)
    storage: Storage = field(init=False)
    queue: SimulatedQueue = field(init=False)
    provider: Provider = field(init=False)
    witness: Witness = field(init=False)

    def __post_init__(self) -> None:
        self.witness = Witness()
        self.nature.nap_seconds = self.setting.nap_seconds
        self.storage = Storage(self.nature, self.witness.see)
        self.queue = SimulatedQueue(self.nature)
        self.provider = Provider(self.setting.answers, self.setting.model_seconds)

    # Processes.

    def open(self) -> None:
        """Start everything."""
        names = (
            ("laptop",)
            if self.setting.arrangement == "laptop"
            else ("web-1", "web-2", "worker-1", "worker-2", "sweeper")
        )
        for name in names:
            self.tasks.append(asyncio.create_task(self._live(name)))

    async def _live(self, name: str) -> None:
        """Run a process, and when it has died another in its place."""
        while True:
            process = self.processes[name] = Process(self.nature, name)
            hands = Hands(process, self.ledger, self._begins, self.setting.tool_seconds, self.setting.trouble)
            process.context.run(HANDS.set, hands)
            process.spawn(self._run(process))
            if self.setting.life_seconds and name != "sweeper":  # whose rounds are short
                process.spawn(self._age(process, self.setting.life_seconds))
            await process.dead.wait()
            self.graves.append(process)
            self.servers.pop(name, None)
            self.runners.pop(name, None)
            await asyncio.sleep(RESTART_SECONDS)

    async def _age(self, process: Process, seconds: float) -> None:
        await asyncio.sleep(seconds - MARGIN_SECONDS)
        await self._close(process, 0)

    async def end(self, name: str) -> None:
        """Tell a process to end, as a signal does."""
        process = self.processes[name]
        process.spawn(self._close(process, GRACE_SECONDS))
        await process.dead.wait()

    async def _close(self, process: Process, grace_seconds: float) -> None:
        """End a process, which first hands over what it drives."""
        if runner := self.runners.get(process.name):
            await runner.close(grace_seconds)
        process.crash()

    async def _run(self, process: Process) -> None:
        """Run a process to the end of its life; one that cannot even start ends, and is started again."""
        try:
            await self._main(process)
        except ParleyError:
            process.crash()

    async def _main(self, process: Process) -> None:
        clock = ProcessClock(process)
        table, blobs = SimulatedTable(process, self.storage), SimulatedBlobs(process, self.kept)
        store = Store.over(table, blobs, clock, self.ids, lease_seconds=LEASE_SECONDS, ttl_days=self.setting.ttl_days)
        queue: Queue = SimulatedHints(process, self.queue)
        if process.name == "sweeper":
            return await self._sweep_for_ever(process, Sweeper(store, queue))
        deployed = self._agent()
        engine = Engine(store, SimulatedModel(process, self.provider), PythonTools(workers=1), clock, self.ids)
        if process.name == "laptop":
            queue = InlineQueue(lambda tenant, session_id: runner.nudge(Ref(tenant, session_id)))
        runner = Runner(engine, {deployed.id: deployed}, queue, look_seconds=self.setting.look_seconds)
        if self.setting.life_seconds:
            ends = self.nature.seconds + self.setting.life_seconds
            runner.deadline.is_in(lambda: round((ends - self.nature.seconds) * 1000))
        self.runners[process.name] = runner
        if process.name.startswith("worker"):
            return await work(process, self.queue, Worker(runner, PRINCIPAL, MAX_RECEIVES).take)
        if process.name == "laptop":
            await recover(runner, void_leases=True)
        state = State(store, runner.agents, PRINCIPAL, runner, queue, runner.deadline)
        self.servers[process.name] = Server(process, _app(process.name, state))
        if process.name == "laptop":
            await self._sweep_for_ever(process, Sweeper(store, queue))
        return None

    async def _sweep_for_ever(self, process: Process, sweeper: Sweeper) -> None:
        """Do the sweeper's rounds, and bring it what the table's stream says of lapsed rows until it has taken it."""
        while True:
            await asyncio.sleep(self.setting.sweep_seconds)
            await process.gate()
            try:
                await sweeper.sweep()
                self.lapsed += [Ref.of(key.pk) for key in await self.storage.sweep_expired() if key.sk == SHOWN]
                while self.lapsed:
                    await sweeper.expire(self.lapsed[0])
                    self.lapsed.pop(0)
            except ParleyError:
                continue

    def _agent(self) -> Agent:
        """Return what is deployed when a process starts."""
        prompts = self.setting.prompts
        prompt = prompts[min(len(self.graves), len(prompts) - 1)]
        return agent(prompt, self.setting.limits, self.setting.policy, self.setting.daily_budget)

    def _begins(self, name: str, context: ToolContext, amount: int) -> int:
        """Hold a call that begins against the log as it is at this moment."""
        log, whole, retries = self.log(context.session_id), self.provider.whole, self.record.retries_said
        return self.witness.begins(name, context, amount, log, whole, retries)

    # People.

    @property
    def client(self) -> Client:
        """A client of all servers; each asks in its own order."""
        return Client(self.nature, lambda: list(self.servers.values()), self.record)

    def meanwhile(self, work: Coroutine[Any, Any, Any]) -> "asyncio.Task[Any]":
        """Do something beside the scenario."""
        self.tasks.append(asyncio.create_task(work))
        return self.tasks[-1]

    def watch(self, session_id: str, after: int = 0) -> Watcher:
        """Watch a session from outside until the end."""
        watcher = Watcher(self.client, session_id, after)
        self.watchers.append(watcher)
        watcher.task = self.meanwhile(watcher.watch())
        return watcher

    def happened(self, call_id: str) -> bool:
        """Look into the ledger, as a person does before giving a word."""
        return any(entry.call_id == call_id for entry in self.ledger)

    def expects(self, text: str) -> None:
        """Hold a message that was put into the queue to be in a log, as one that was accepted."""
        self.record.accepted[text] = "anywhere"

    # What is there, looked at from outside of all processes.

    def store(self) -> Store:
        """A store of nobody's, at which no fault strikes."""
        return Store.over(self.storage, self.kept, self.nature, self.ids)

    def log(self, session_id: str) -> tuple[e.Event, ...]:
        """Read a session's log."""
        return at_once(self.store().log.tail(Ref(TENANT, session_id), 0))

    def sessions(self) -> list[str]:
        """Name every session of which there is anything, in the order they began."""
        return sorted({Ref.of(item["PK"]).id for item in self.storage.items() if item["PK"].startswith("S#")})


@cache
def agent(prompt: str, limits: Limits, policy: Policy, daily_budget: int | None) -> Agent:
    """Make an agent with a tool of each effect, and one that takes long."""
    tools = (pay, file, look, dig)
    return Agent(id="bank", prompt=prompt, tools=tools, limits=limits, policy=policy, daily_budget=daily_budget)


def at_once(work: Coroutine[Any, Any, T]) -> T:
    """Run what never waits."""
    try:
        work.send(None)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
    raise AssertionError("it waits")


@cache
def _bare(name: str) -> FastAPI:
    return create_app(State(None, {}, PRINCIPAL), ROUTERS, keyless=True)  # type: ignore[arg-type]


def _app(name: str, state: State) -> FastAPI:
    """Give an app the parts of a new process: to make one takes longer than to simulate a run."""
    app = _bare(name)
    app.state.parley = state
    app.middleware_stack = None  # its edge has an id port of the process before
    return app


class Errors(logging.Handler):
    """Keeps what production code logs as an error."""

    def __init__(self, surprises: list[str]) -> None:
        super().__init__(logging.ERROR)
        self._surprises = surprises

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        if not isinstance(error, ParleyError):  # `Unavailable` ends a driver, and the sweeper finds its run
            self._surprises.append(f"{record.getMessage()}: {error!r}")


def new(setting: Setting, plan: Mapping[int, str | int], seed: int) -> World:
    """Make a world."""
    return World(setting, Nature(Faults(plan), seed))

"""Two processes on one table, the API in front, and a model that does what a message says. All of it synchronous."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncGenerator, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import httpx
from fastapi import FastAPI
from parley.adapters.sqlite import SqliteTable
from parley.api.app import create_app
from parley.api.routers import ROUTERS
from parley.core.agent import Agent
from parley.core.tool import ToolContext, ToolOutcome
from parley.ports import ModelRequest
from parley.state import Principal, State
from parley.store import Ref
from parley.store.keys import SHOWN
from parley.sweeper import Sweeper

from tests.build import Stage, answer, asked, fails, said
from tests.fakes.clock import VirtualClock
from tests.fakes.model import Answers, Raw, refusal_of
from tests.fakes.toolbox import PlayedTools

T = TypeVar("T")

APPS: dict[tuple[str, str], FastAPI | None] = {("acme", "ann"): None, ("other", "ann"): None, ("acme", "bob"): None}
"""By tenant and owner: whose the sessions are, and strangers. Each is made once, for that takes long."""


class Gates:
    """Where drivers are held, by the text of their message; each text holds once."""

    def __init__(self) -> None:
        self.gates: dict[str, asyncio.Event] = {}
        self.held: set[str] = set()

    async def hold(self, text: str) -> None:
        """Hold whoever comes first."""
        if text not in self.gates:
            gate = self.gates[text] = asyncio.Event()
            self.held.add(text)
            try:
                await gate.wait()
            finally:
                self.held.discard(text)

    def release(self, text: str) -> None:
        """Let whoever is held go on."""
        self.held.discard(text)
        self.gates[text].set()


class ByWord(Answers):
    """A model that reads the first word of the message."""

    def __init__(self, gates: Gates) -> None:
        super().__init__()
        self.gates = gates
        self.stumbled: set[str] = set()

    async def stream(self, request: ModelRequest) -> AsyncGenerator[Raw, None]:
        if problem := refusal_of(request):
            self.problems.append(problem)
        block = json.loads(request.messages[-1])["content"][-1]
        text = block.get("text", "say")
        word = text.split()[0]
        if word == "hold":
            await self.gates.hold(text)
        if word == "break":
            raise fails("refused_request")
        if word == "stumble" and text not in self.stumbled:
            self.stumbled.add(text)
            raise fails("overloaded")
        for event in _answer(text):
            yield event


def _answer(text: str) -> list[Raw]:
    match text.split()[0]:
        case "pay" | "lose" | "doubt" | "hold-pay":
            return answer(asked("pay", {"text": text}))
        case "refuse":
            return answer(said("said"), stop_reason="refusal")
        case _:
            return answer(said("sa", "id"))


class Payments(PlayedTools):
    """The tool of every call; counts what has been paid."""

    def __init__(self, gates: Gates) -> None:
        super().__init__()
        self.gates = gates
        self.made: Counter[str] = Counter()

    async def call(self, agent: Agent, name: str, arguments: dict[str, Any], context: ToolContext) -> ToolOutcome:
        self.made[context.tool_use_id] += 1
        word = arguments["text"].split()[0]
        if word == "hold-pay":
            await self.gates.hold(arguments["text"])
        lost = word == "doubt" or (word == "lose" and self.made[context.tool_use_id] == 1)
        return ToolOutcome("unknown", "?") if lost else ToolOutcome("ok", "paid")


class World:
    """Everything there is, for one example."""

    def __init__(self, folder: Path) -> None:
        self.loop = asyncio.Runner()
        self.gates = Gates()
        self.model, self.tools = ByWord(self.gates), Payments(self.gates)
        self.clock = VirtualClock()
        self.table = SqliteTable(folder / "world.db", self.clock)
        self.here = Stage(folder, self.table, self.clock, model=self.model, tools=self.tools)
        shared = (self.clock, self.here.ids, self.here.blobs, self.here.agent, self.model, self.tools)
        self.there = Stage(folder, self.table, *shared)
        self.queue = self.there.runner.queue = self.here.runner.queue = self.here.queue
        self.http, *self.strangers = [self.client(*who) for who in APPS]
        self.clients: dict[str, asyncio.Task[httpx.Response]] = {}
        """Who listens to a run that is held, by session."""

    def client(self, tenant: str, owner: str) -> httpx.AsyncClient:
        """Connect as somebody."""
        agents = {self.here.agent.id: self.here.agent}
        state = State(self.here.store, agents, Principal(tenant, owner), self.here.runner, self.queue)
        if (app := APPS[tenant, owner]) is None:
            app = APPS[tenant, owner] = create_app(state, ROUTERS, keyless=True)
        app.state.parley = state
        return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://parley.test")

    @property
    def now(self) -> float:
        """Epoch seconds."""
        return self.clock.now().timestamp()

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        """Run until this is done; what else is under way goes on meanwhile."""
        return self.loop.run(work)

    def close(self) -> None:
        """Stop everything."""
        self.do(self._close())
        self.loop.close()

    async def _close(self) -> None:
        for client in self.clients.values():
            client.cancel()
        await asyncio.gather(*self.clients.values(), return_exceptions=True)
        for stage in (self.here, self.there):
            await stage.runner.close(grace_seconds=0)
        for http in (self.http, *self.strangers):
            await http.aclose()
        await self.table.close()

    # Requests.

    def get(self, path: str, *, as_: httpx.AsyncClient | None = None, **params: Any) -> httpx.Response:
        """Ask."""
        return self.do((as_ or self.http).get(path, params=params))

    def post(
        self, path: str, body: dict[str, Any], key: str | None = None, *, lost: bool = False
    ) -> httpx.Response | None:
        """Send, and let everything happen that can; `None` when the answer waits for a driver that is held.

        `lost` is what becomes of every hint that is given meanwhile.
        """
        headers = {"idempotency-key": key} if key else {}
        return self.do(self._post(self.http.post(path, json=body, headers=headers), lost))

    async def _post(self, sending: Coroutine[Any, Any, httpx.Response], lost: bool) -> httpx.Response | None:
        held = set(self.gates.held)
        task = asyncio.create_task(sending)
        while not task.done() and self.gates.held <= held:
            await asyncio.wait([task], timeout=0.001)
        await self._settle(lost)
        if task.done():
            return task.result()
        [text] = self.gates.held - held
        self.clients[self.session_of(text)] = task
        return None

    def session_of(self, text: str) -> str:
        """Find the session whose driver is held with this text."""
        for stage in (self.here, self.there):
            for live in stage.runner.live.values():
                if live.claim.session.context[-1].find(json.dumps(text).encode()) >= 0:
                    return live.claim.ref.id
        raise AssertionError(f"nobody is held with {text}")

    def rows(self, session_id: str) -> list[Any]:
        """Read all that the table and the blobs hold of a session."""
        ref = Ref("acme", session_id)
        blobs = [key for key in self.here.blobs.kept if key.startswith(ref.blob(""))]
        return [*self.do(self.table.query(ref.pk)).items, *blobs]

    # What happens to drivers.

    def settle(self, *, lost: bool = False) -> None:
        """Let everything happen that can: only drivers that are held are left."""
        self.do(self._settle(lost))

    async def _settle(self, lost: bool = False) -> None:
        while True:
            drivers = self.drivers
            if len(drivers) > len(self.gates.held):
                await asyncio.wait(drivers, timeout=0.001, return_when=asyncio.FIRST_COMPLETED)
            elif self.queue.hints and not lost:
                ref = self.queue.hints.pop(0)
                taker = self.here if self.there.runner.drives(ref) else self.there
                await taker.runner.nudge(ref)
            else:
                self.queue.hints.clear()
                return

    @property
    def drivers(self) -> set[asyncio.Task[None]]:
        """Drivers at work."""
        return self.here.runner.tasks | self.there.runner.tasks

    def release(self, session_id: str, text: str) -> httpx.Response | None:
        """Let a driver go on; return what its client was told, if there is one."""
        return self.do(self._release(session_id, text))

    async def _release(self, session_id: str, text: str) -> httpx.Response | None:
        self.gates.release(text)
        await self._settle()
        client = self.clients.pop(session_id, None)
        return await client if client else None

    def kill(self, session_id: str) -> None:
        """End a process in the middle of a run: its driver, and who listened to it."""
        self.do(self._kill(session_id))

    async def _kill(self, session_id: str) -> None:
        await self._leave(session_id)
        for stage in (self.here, self.there):
            for live in list(stage.runner.live.values()):
                if live.claim.ref.id == session_id and live.task:
                    live.task.cancel()
                    await asyncio.gather(live.task, return_exceptions=True)

    def leave(self, session_id: str) -> None:
        """Let the client go that listens to a run."""
        self.do(self._leave(session_id))

    async def _leave(self, session_id: str) -> None:
        if client := self.clients.pop(session_id, None):
            client.cancel()
            await asyncio.gather(client, return_exceptions=True)

    # Time.

    def advance(self, seconds: float) -> None:
        """Let time pass; drivers at work renew their leases."""
        self.do(self._advance(seconds))

    async def _advance(self, seconds: float) -> None:
        self.clock.advance(seconds)
        while self.clock.asleep < len(self.drivers):  # noqa: ASYNC110 - each renews its lease, then sleeps on
            await asyncio.sleep(0.0005)

    def freeze(self, seconds: float) -> None:
        """Let time pass for everybody but the drivers at work."""
        self.clock.freeze()
        self.clock.advance(seconds)

    def sweep(self) -> None:
        """Do a round of the sweeper, and let everything happen that can."""
        self.do(self._sweep())

    async def _sweep(self) -> None:
        sweeper = Sweeper(self.here.store, self.queue)
        await sweeper.sweep()
        for lapsed in await self.table.sweep_expired(spared=SHOWN):
            if lapsed.sk == SHOWN:
                await sweeper.expire(Ref.of(lapsed.pk))
        await self._settle()

"""What is fuzzed: every production router over SQLite, behind a key, with the scripted model and time that skips.

Nothing here depends on the time of day or on chance: a request is answered when all that it set going has ended, ids
count, and a stream that nobody ends is over as soon as its minute of virtual time is.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI
from parley.adapters.scripted import ScriptedModel
from parley.adapters.sqlite import SqliteTable
from parley.api.app import create_app
from parley.api.routers import ROUTERS
from parley.core.tool import ToolOutcome
from parley.engine import Engine
from parley.runner import Runner
from parley.state import Principal, State
from starlette.types import Receive, Scope, Send

from tests.build import Stage
from tests.fakes.clock import VirtualClock
from tests.fakes.toolbox import PlayedTools

KEY = "k3y-of-this-deployment"


@dataclass
class Subject:
    """The app; quiet again before a request counts as answered."""

    stage: Stage
    app: FastAPI

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, and let the runs that it began come to their end."""
        await self.app(scope, receive, send)
        while self.stage.runner.tasks:
            await asyncio.gather(*self.stage.runner.tasks)


@dataclass(frozen=True)
class Known:
    """What is there before the first case, for operations that need something to be there."""

    agent: str
    session: str
    run: str
    parked: str
    """A session whose payment has an unknown outcome."""
    call: str
    """That payment."""


@asynccontextmanager
async def subject(folder: Path) -> AsyncIterator[tuple[Subject, Known]]:
    """Open an app over an empty table, and put something into it."""
    clock, path = VirtualClock(), folder / "fuzz.db"
    async with SqliteTable(path, clock) as sqlite:
        stage = Stage(path, sqlite, clock)
        tools = PlayedTools(pay=ToolOutcome("unknown", "Nobody knows."))
        engine = Engine(stage.store, ScriptedModel(clock, 0), tools, clock, stage.ids)
        stage.runner = Runner(engine, {stage.agent.id: stage.agent}, stage.inline)
        caller = Principal("acme", "ann", admin=True)
        state = State(stage.store, stage.runner.agents, caller, stage.runner, stage.inline, admin_key=_key)
        opened = Subject(stage, create_app(state, ROUTERS))
        yield opened, await _settle(opened, stage.agent.id)


async def _key() -> str:
    return KEY


async def _settle(opened: Subject, agent: str) -> Known:
    transport = httpx.ASGITransport(opened)
    async with httpx.AsyncClient(
        transport=transport, base_url="http://parley.test", headers={"x-api-key": KEY}
    ) as http:

        async def told(text: str) -> dict[str, Any]:
            response = await http.post(f"/v1/agents/{agent}/execute", json={"input": text, "stream": False})
            found: dict[str, Any] = response.json()
            return found

        talk, parked = await told("Look"), await told("Pay 5")
    return Known(agent, talk["session_id"], talk["run_id"], parked["session_id"], parked["pending_tool_call_ids"][0])

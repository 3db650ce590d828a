"""What is fuzzed: every production router over SQLite, behind a key, with the scripted model and time that skips.

Nothing here depends on the time of day or on chance: a request is answered when all that it set going has ended, ids
count, and a stream that nobody ends is over as soon as its minute of virtual time is.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
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

from tests.build import FILE, LOOK, PAY, Stage, a_tool, agent
from tests.fakes.clock import VirtualClock
from tests.fakes.toolbox import PlayedTools

KEY = "k3y-of-this-deployment"


@dataclass
class Subject:
    """The app; quiet again before a request counts as answered."""

    stage: Stage
    app: FastAPI
    stopped: dict[str, str] = field(default_factory=dict)
    """Path of a run that a person has stopped."""
    kept: frozenset[str] = frozenset()
    """Sessions that operations need to be there."""

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
    approval: str
    """A donation that waits for a decision."""
    planned: str
    """A session that waits for a decision on a plan."""
    plan: str
    """That plan."""
    stopped: str
    stopped_run: str
    """Of that session, and stopped by a person."""
    held: str
    """A session that waits for a person, and messages behind that."""
    waiting: str
    unwanted: str
    """Two of those messages."""


@asynccontextmanager
async def subject(folder: Path) -> AsyncIterator[tuple[Subject, Known]]:
    """Open an app over an empty table, and put something into it."""
    clock, path = VirtualClock(), folder / "fuzz.db"
    async with SqliteTable(path, clock) as sqlite:
        stage = Stage(path, sqlite, clock).deploy(agent(PAY, FILE, LOOK, a_tool("donate", permission="always_ask")))
        tools = PlayedTools(pay=ToolOutcome("unknown", "Nobody knows."))
        engine = Engine(stage.store, ScriptedModel(clock, 0), tools, clock, stage.ids)
        stage.runner = Runner(engine, {stage.agent.id: stage.agent}, stage.inline)
        caller = Principal("acme", "ann", admin=True)
        state = State(stage.store, stage.runner.agents, caller, stage.runner, stage.inline, admin_key=_key)
        opened = Subject(stage, create_app(state, ROUTERS))
        known = await _settle(opened, stage.agent.id)
        opened.stopped = {"session_id": known.stopped, "run_id": known.stopped_run}
        opened.kept = frozenset({known.session, known.parked, known.planned, known.stopped, known.held})
        yield opened, known


async def _key() -> str:
    return KEY


async def _settle(opened: Subject, agent_id: str) -> Known:
    transport = httpx.ASGITransport(opened)
    async with httpx.AsyncClient(
        transport=transport, base_url="http://parley.test", headers={"x-api-key": KEY}
    ) as http:

        async def told(text: str) -> dict[str, Any]:
            response = await http.post(f"/v1/agents/{agent_id}/execute", json={"input": text, "stream": False})
            found: dict[str, Any] = response.json()
            return found

        talk, parked, asked = await told("Look"), await told("Pay 5"), await told("Donate")
        stopped, held = await told("Pay 6"), await told("Pay 7")
        planned = await told('donate {"amount": 1} donate {"amount": 2} donate {"amount": 3}')
        plan = await http.get(f"/v1/approvals/{planned['pending_approval_ids'][0]}")
        await http.post(f"/v1/sessions/{stopped['session_id']}/runs/{stopped['run_id']}/cancel")
        text = {"type": "user.message", "content": [{"type": "text", "text": "Look"}]}
        sent = await http.post(f"/v1/sessions/{held['session_id']}/events", json={"events": [text, text]})
        waiting, unwanted = [message["id"] for message in sent.json()["data"]]
    return Known(
        agent=agent_id,
        session=talk["session_id"],
        run=talk["run_id"],
        parked=parked["session_id"],
        call=parked["pending_tool_call_ids"][0],
        approval=asked["pending_approval_ids"][0],
        planned=planned["session_id"],
        plan=plan.json()["plan_id"],
        stopped=stopped["session_id"],
        stopped_run=stopped["run_id"],
        held=held["session_id"],
        waiting=waiting,
        unwanted=unwanted,
    )

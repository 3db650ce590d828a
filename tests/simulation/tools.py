"""The tools of the simulated agents, run by the production toolbox. What they did stands in a ledger of its own."""

import asyncio
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Literal

from parley.core.tool import Effect, ToolContext, tool

from tests.simulation.process import Process

HANG_SECONDS = 3600.0

Trouble = Literal["none", "filing kills", "paying hangs before", "paying hangs after", "paying hangs twice"]
"""What a tool does by itself: kill its process, each time; hang before its effect or after it, the first time, or the
first two times before it."""
_HANGS = {"paying hangs before": 1, "paying hangs after": 1, "paying hangs twice": 2}
SLOW_SECONDS = 12.0


@dataclass(frozen=True, slots=True)
class Entry:
    """One effect on the world outside."""

    name: str
    effect: Effect
    call_id: str
    key: str


Ledger = list[Entry]


@dataclass(frozen=True, slots=True)
class Hands:
    """What the tools of one process act with."""

    process: Process
    ledger: Ledger
    begins: Callable[[str, ToolContext, int], int]
    """Is told of every call that begins, and its amount; says how often this one has."""
    seconds: float = 0.0
    trouble: Trouble = "none"

    async def act(self, name: str, effect: Effect, context: ToolContext, amount: int) -> str:
        process = self.process
        await process.gate()
        times = self.begins(name, context, amount)
        fault = await process.reach("tool", effect)
        if name == "file" and self.trouble == "filing kills":
            process.crash()
        if name == "pay" and fault is None and times <= _HANGS.get(self.trouble, 0):
            fault = "hangs after" if self.trouble == "paying hangs after" else "hangs before"
        if fault == "raises":
            raise ValueError("not today")
        if fault == "hangs before":
            await asyncio.sleep(HANG_SECONDS)
        await asyncio.sleep(self.seconds)
        await process.gate()
        self.ledger.append(Entry(name, effect, context.tool_use_id, context.idempotency_key))
        if fault in ("hangs after", "slow"):
            await asyncio.sleep(HANG_SECONDS if fault == "hangs after" else SLOW_SECONDS)
        await process.leave(fault)
        return f"{context.tool_use_id} is done"


HANDS: ContextVar[Hands] = ContextVar("hands")
"""Of the process that a task belongs to: tools are made once, for it takes longer than to simulate a run."""


@tool
async def pay(context: ToolContext, amount: int = 0) -> str:
    """Pay: twice is twice the money."""
    return await HANDS.get().act("pay", "non_idempotent", context, amount)


@tool(effect="idempotent")
async def file(context: ToolContext, amount: int = 0) -> str:
    """File: twice is once."""
    return await HANDS.get().act("file", "idempotent", context, amount)


@tool(timeout_seconds=60)
async def dig(context: ToolContext, amount: int = 0) -> str:
    """Dig: as paying, and may take longer."""
    return await HANDS.get().act("dig", "non_idempotent", context, amount)


@tool(effect="read")
async def look(context: ToolContext, amount: int = 0) -> str:
    """Look."""
    return await HANDS.get().act("look", "read", context, amount)

"""The agent under siege: a tool of every kind, each of which writes its effect down, in the middle of its time."""

import asyncio
import time

from parley import Agent, ToolContext, tool
from parley.core.limits import Limits

from tests.soak import ledger


@tool
async def charge(seconds: float, context: ToolContext) -> str:
    """Charge a card; twice would be twice the money."""
    await asyncio.sleep(seconds / 2)
    ledger.write("charge", context)
    await asyncio.sleep(seconds / 2)
    return "charged"


@tool(effect="idempotent")
async def book(seconds: float, context: ToolContext) -> str:
    """Book a seat; the same key again is the same seat."""
    await asyncio.sleep(seconds / 2)
    ledger.write("book", context)
    await asyncio.sleep(seconds / 2)
    return "booked"


@tool(effect="read")
def look(seconds: float, context: ToolContext) -> str:
    """Look something up, in a thread."""
    time.sleep(seconds / 2)
    ledger.write("look", context)
    time.sleep(seconds / 2)
    return "seen"


# A driver near its deadline hands over, and the workers' deadline is near: see worker.py.
agent = Agent(
    id="clerk",
    prompt="You are a clerk.",
    tools=(charge, book, look),
    limits=Limits(model_reserve_seconds=1, tool_timeout_seconds=2),
)

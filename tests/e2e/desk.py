"""An agent for the end-to-end tests: its tools write down every attempt, and take as long as they are told."""

import asyncio
import json
import os
from pathlib import Path

from parley import Agent, ToolContext, tool


def _note(name: str, context: ToolContext) -> None:
    with Path(os.environ["PARLEY_DATA"], "attempts.jsonl").open("a") as ledger:
        ledger.write(json.dumps({"tool": name, "key": context.idempotency_key, "owner": context.owner}) + "\n")


@tool(effect="read")
async def look(seconds: float, context: ToolContext) -> str:
    """Look for some seconds."""
    _note("look", context)
    await asyncio.sleep(seconds)
    return "seen"


@tool(effect="idempotent")
async def book(seconds: float, context: ToolContext) -> str:
    """Book, taking some seconds."""
    _note("book", context)
    await asyncio.sleep(seconds)
    return "booked"


@tool
async def send(seconds: float, context: ToolContext) -> str:
    """Send, and take some seconds to say so."""
    _note("send", context)
    await asyncio.sleep(seconds)
    return "sent"


agent = Agent(id="desk", prompt="You are a desk.", tools=(look, book, send))

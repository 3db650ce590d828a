"""An agent for the tests of built functions: its tools write down every call, and take as long as they are told."""

import json
import os
import time
from pathlib import Path

from parley import Agent, Limits, Policy, ToolContext, tool


@tool
def note(number: int, context: ToolContext, seconds: float = 0) -> str:
    """Write a number down, once and never twice."""
    with Path(os.environ["NIGHT_LEDGER"]).open("a") as ledger:
        ledger.write(json.dumps({"session_id": context.session_id, "number": number}) + "\n")
    time.sleep(seconds)
    return f"noted {number}"


@tool(permission="always_ask")
def forget() -> str:
    """Forget all numbers, if a person says so within a second."""
    return "forgotten"


agent = Agent(
    id="night",
    prompt="You write numbers down.",
    tools=(note, forget),
    policy=Policy(approval_seconds=1),
    limits=Limits(model_reserve_seconds=1, tool_timeout_seconds=1.5),
)

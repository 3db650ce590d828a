"""`python -m parley.cli`: what an operator runs by hand."""

import argparse
import asyncio
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from parley import wiring
from parley.api.app import bare_app
from parley.api.routers import ROUTERS
from parley.api.summary import Summary
from parley.core.errors import ParleyError
from parley.core.event import AgentToolResult, AgentToolUse, EventBase, RunFailed
from parley.follow import follow
from parley.settings import Settings, SettingsError, load
from parley.store import Head, Ref
from parley.store.head import milliseconds

QUESTION = "What is my balance? Use your tool, then answer in one sentence."


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return what the shell should know."""
    parser = argparse.ArgumentParser(prog="python -m parley.cli", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    smoke = commands.add_parser("smoke-live", help="one tool turn with the real model; costs about a cent")
    smoke.add_argument("--input", default=QUESTION, help="what to say to the agent (default: %(default)r)")
    commands.add_parser("openapi", help="print the OpenAPI description of the whole API")
    asked = parser.parse_args(arguments)
    if asked.command == "openapi":
        print(json.dumps(bare_app(ROUTERS).openapi(), indent=2))
        return 0
    try:
        settings = load()
        if settings.provider == "scripted":
            raise SettingsError("smoke-live talks to a real model: set ANTHROPIC_API_KEY, or choose bedrock.")
        wiring.check(settings)
        return asyncio.run(smoke_live(settings, asked.input))
    except (SettingsError, ParleyError) as error:
        print(f"parley: {error}", file=sys.stderr)
        return 2


async def smoke_live(settings: Settings, text: str) -> int:
    """Run one turn on the real model, in a store that is thrown away, and tell what happened; 0: a tool was used."""
    with tempfile.TemporaryDirectory() as folder:
        state = wiring.running(settings.model_copy(update={"data": Path(folder), "store": "sqlite"}))
        store, agent = state.store, next(iter(state.agents.values()))
        if state.runner is None:
            raise SettingsError("Nothing here can run an agent.")
        now = milliseconds(store.log.clock.now())
        ref = Ref(state.principal.tenant, store.log.ids.new("sesn"))
        claim = await store.claims.begin(ref, agent, text, new=Head(ref.id, agent.id, "smoke", now, now))
        summary = Summary(ref.id, claim.run_id)
        used = 0
        async for batch in follow(state.runner, claim, state.runner.start(claim, agent)):
            for event in batch:
                if isinstance(event, EventBase):
                    summary.take(event)
                if isinstance(event, AgentToolUse | AgentToolResult | RunFailed):
                    print(f"  {event.type}")
                used += isinstance(event, AgentToolResult) and not event.is_error
        told = summary.complete()
        print(f"{told['status']}: {told['output']}\n{told['usage']}")
        await store.table.close()
        return 0 if told["status"] == "completed" and used else 1


if __name__ == "__main__":
    sys.exit(main())

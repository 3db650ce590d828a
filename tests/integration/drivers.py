"""Drivers that die: what a function that was killed leaves in the table for others to find."""

import random
import string
from contextlib import aclosing

from parley import wiring
from parley.core.event import ToolIntended
from parley.core.policy import Policy
from parley.settings import Settings
from parley.store import Claim, Head, Ref
from parley.store.head import milliseconds

LARGE = "".join(random.Random(7).choices(string.ascii_letters, k=80_000))
"""Still over 32 KB when compressed, so that its entry is a blob."""


async def begin_and_die(settings: Settings, text: str) -> Claim:
    """Store a message and the start of its run, and die before the first model call."""
    state = wiring.running(settings)
    agent = state.agents["wallet"]
    ref = Ref(state.principal.tenant, state.store.log.ids.new("sesn"))
    now = milliseconds(state.store.log.clock.now())
    head = Head(ref.id, agent.id, state.principal.owner, now, now)
    return await state.store.claims.begin(ref, agent, text, new=head)


async def ask_for_a_second(settings: Settings) -> str:
    """Leave a run that waits for a decision for one second; return its session's id."""
    claim = await begin_and_die(settings, f"Donate 5 to alice. {LARGE}")
    state = wiring.running(settings)
    runner = state.runner
    assert runner is not None
    hasty = state.agents["wallet"].model_copy(update={"policy": Policy(approval_seconds=1)})
    async for _ in runner.engine.drive(claim, hasty):
        pass
    return claim.ref.id


async def die_while_paying(settings: Settings) -> dict[str, str]:
    """Drive a payment up to its stored intent and die; a second driver asks a person. Return the ids."""
    claim = await begin_and_die(settings, "Pay 5 to alice")
    state = wiring.running(settings)
    runner = state.runner
    assert runner is not None
    async with aclosing(runner.engine.drive(claim, state.agents["wallet"])) as outputs:
        intents = (output async for output in outputs if isinstance(output, ToolIntended))
        intent = await anext(intent async for intent in intents if intent.effect == "non_idempotent")
    task = await runner.resume(claim.ref, void_lease=True)
    assert task is not None
    await task
    return {"session_id": claim.ref.id, "run_id": claim.run_id, "event_id": intent.tool_use_id}

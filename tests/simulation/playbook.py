"""What every scenario is made of: a name, a setting, and the answers that people get to what they say."""

import asyncio
from collections.abc import Callable
from typing import Any

from parley.core import event as e

from tests.build import asked, said, thought
from tests.simulation.explore import Play, Scenario
from tests.simulation.promises import PROBE, settled
from tests.simulation.world import Setting, World

SCENARIOS: dict[str, Scenario] = {}

_PROBES = {f"{PROBE} {n}": [[said("Yes.")]] for n in range(8)}
_PAY = [[said("I pay."), asked("pay", {"amount": 5})], [said("Paid.")]]


_HI = [[thought("Hm."), said("Hel", "lo.")]]


def scenario(name: str, **setting: Any) -> Callable[[Play], Play]:
    """Name what follows, and set it up; every session can be asked whether it is there."""
    answers = {"Hi": _HI, "Pay": _PAY} | setting.pop("answers", {})

    def keep(play: Play) -> Play:
        SCENARIOS[name] = Scenario(name, Setting(answers=answers | _PROBES, **setting), play)
        return play

    return keep


async def answered(world: World, text: str, session_id: str | None = None, **message: Any) -> str:
    """Send a message and wait for its run's end, or until it waits for a person."""
    told = await world.client.execute(text, session_id, **message)
    assert told is not None
    _, stream = world.record.streams[-1]
    idle = bool(stream.events) and isinstance(stream.events[-1], e.StatusIdle)
    if not idle:  # else it is known, and to ask would be a point
        await world.client.until(told.session_id)
    return told.session_id


async def over(world: World, text: str, session_id: str | None = None, **message: Any) -> str:
    """Send a message and wait for its run's end, with a person's word if it needs one."""
    session_id = await answered(world, text, session_id, **message)
    await settled(world)
    await world.client.until(session_id)
    return session_id


async def comes_to_rest(world: World, session_id: str) -> str:
    """Wait until nothing goes on; nobody looks for a moment, for each look would be a point."""
    await asyncio.sleep(3)
    return await world.client.until(session_id)


async def all_quiet(world: World) -> None:
    """Wait until no message is to be given out in the next minutes, and nobody drives."""
    await asyncio.sleep(1)
    while world.queue.busy or any(runner.tasks for runner in world.runners.values()):
        await world.nature.sleep(1)


def unknown(world: World, session_id: str) -> list[tuple[str, int]]:
    """List the calls that wait for a person's word, with the attempt it is about."""
    log = world.log(session_id)
    return [(each.tool_use_id, each.attempt) for each in log if isinstance(each, e.ToolOutcomeUnknown)]

"""What happens when a person is in control: approvals, stop, messages that do not wait. The next one goes here, too."""

import asyncio
from typing import Any

from parley.core import control as c
from parley.core.policy import Policy

from tests.build import asked, said
from tests.simulation.playbook import answered, comes_to_rest, scenario
from tests.simulation.world import World

# Approvals.

_HI = [[said("Hello.")]]
_ASKS = Policy(autonomy="L2", approval_seconds=600)


@scenario(
    "two approvals, one edited and one denied",
    policy=_ASKS,
    answers={"Both": [[asked("pay", {"amount": 1}), asked("pay", {"amount": 2})], [said("Done.")]]},
)
async def edited(world: World) -> None:
    told = await answered(world, "Both")
    decisions: tuple[dict[str, Any], ...] = ({"decision": "deny"}, {"decision": "edit", "input": {"amount": 9}})
    for call_id, decision in zip(reversed(_asked(world, told)), decisions, strict=False):
        await world.client.approve(told, call_id, **decision)
    await comes_to_rest(world, told)


@scenario("two people decide at once", policy=_ASKS)
async def two_decide(world: World) -> None:
    told = await answered(world, "Pay")
    for call_id in _asked(world, told):
        words = ("approve", "deny")
        statuses = await asyncio.gather(*(world.client.approve(told, call_id, word) for word in words))
        if sorted(statuses) != [200, 409]:
            world.record.wrong.append(f"P7 two decisions on {call_id} were answered {statuses}")
    await comes_to_rest(world, told)


@scenario("an approval that nobody gives", policy=Policy(autonomy="L2", approval_seconds=30))
async def never_decided(world: World) -> None:
    told = await answered(world, "Pay")
    await asyncio.sleep(30 + 2 * world.setting.sweep_seconds)
    await world.client.until(told, "completed", "completed_with_errors", "error")
    for call_id in _asked(world, told):
        late = await world.client.approve(told, call_id)
        if late != 410:
            world.record.wrong.append(f"P7 a decision on {call_id} that came too late was answered {late}")


@scenario("an approval, and an interrupt at once behind it", policy=_ASKS)
async def approved_and_stopped(world: World) -> None:
    told = await answered(world, "Pay")
    for call_id in _asked(world, told):
        await world.client.approve(told, call_id)
    await world.client.interrupt(told)
    await comes_to_rest(world, told)


# Stop, and messages that do not wait.


@scenario("stopped while the model answers", model_seconds=5.0, look_seconds=1.0)
async def stopped_answering(world: World) -> None:
    await _stopped(world, "Hi", 2.0)


@scenario("stopped while a tool is at work", tool_seconds=5.0, look_seconds=1.0)
async def stopped_paying(world: World) -> None:
    await _stopped(world, "Pay", 2.0)


async def _stopped(world: World, text: str, after_seconds: float) -> None:
    session_id = await world.client.create()
    await world.client.send(session_id, text)
    await asyncio.sleep(after_seconds)
    await world.client.interrupt(session_id)
    await comes_to_rest(world, session_id)


@scenario("a message that steers", tool_seconds=2.0, answers={"Two": [[said("2")]]})
async def steered(world: World) -> None:
    session_id = await world.client.create()
    await world.client.send(session_id, "Pay")
    await asyncio.sleep(1)
    await world.client.send(session_id, "Two", on_busy="steer")
    await comes_to_rest(world, session_id)


@scenario("a message that stops the run", model_seconds=3.0, look_seconds=1.0, answers={"Two": [[said("2")]]})
async def stopped_by_message(world: World) -> None:
    session_id = await world.client.create()
    await world.client.send(session_id, "Hi")
    await asyncio.sleep(1)
    await world.client.send(session_id, "Two", on_busy="interrupt")
    await comes_to_rest(world, session_id)


# Suspend, budgets.


@scenario("suspended while a person is asked, and resumed", policy=_ASKS)
async def suspended(world: World) -> None:
    told = await answered(world, "Pay")
    await world.client.change(told, "suspend")
    for call_id in _asked(world, told):
        await world.client.approve(told, call_id)
    await asyncio.sleep(2)
    if world.ledger:
        world.record.wrong.append(f"P11 {told} is suspended, and pays")
    await world.client.change(told, "resume")
    await comes_to_rest(world, told)


@scenario("a budget that is reached and raised")
async def budget(world: World) -> None:
    session_id = await world.client.create(budget={"max_steps": 1})
    await world.client.send(session_id, "Pay")
    await comes_to_rest(world, session_id)
    await world.client.change(session_id, budget={"max_steps": 9})
    if await comes_to_rest(world, session_id) == "waiting_approval" and not world.nature.faults.fired:
        world.record.wrong.append(f"P10 {session_id} has a larger budget, and waits on")


@scenario("a day's budget that two sessions share", daily_budget=1, sweep_seconds=6 * 3600.0, answers={"Two": _HI})
async def shared_day(world: World) -> None:
    await asyncio.gather(world.client.execute("Hi"), world.client.execute("Two"))
    await asyncio.sleep(86_400)


def _asked(world: World, session_id: str) -> list[str]:
    """List the calls that a person was asked about."""
    return [each.tool_use_id for each in world.log(session_id) if isinstance(each, c.ApprovalRequested)]

"""What happens: each scenario is a setting, and what people do in it, in a few lines. Add the next one here.

Those in which a person is in control are in `control.py`.
"""

import asyncio
import json
from base64 import b64encode
from random import Random

from parley.core import event as e
from parley.core.limits import Limits

from tests.build import asked, said
from tests.simulation import control, playbook
from tests.simulation.faults import LATE_SECONDS
from tests.simulation.playbook import all_quiet, answered, comes_to_rest, over, scenario, unknown
from tests.simulation.promises import healed
from tests.simulation.world import World

SCENARIOS = playbook.SCENARIOS
__all__ = ["SCENARIOS", "control"]

_LONG = b64encode(Random(1).randbytes(36_000)).decode()
"""More than an item holds inline, even compressed."""
_PNGS = [b64encode(b"\x89PNG\r\n\x1a\n" + Random(n).randbytes(30_000)).decode() for n in range(3)]

# One run.


@scenario("plain")
async def plain(world: World) -> None:
    await answered(world, "Hi")


@scenario("a read", answers={"Look": [[asked("look")], [said("Seen.")]]})
async def read(world: World) -> None:
    await answered(world, "Look")


@scenario("an idempotent tool", answers={"File": [[asked("file")], [said("Filed.")]]})
async def idempotent(world: World) -> None:
    await answered(world, "File")


@scenario("a tool that is not idempotent")
async def not_idempotent(world: World) -> None:
    await answered(world, "Pay")


@scenario(
    "three tools at once",
    tool_seconds=0.5,
    answers={"All": [[asked("pay"), asked("file"), asked("look")], [said("Done.")]]},
)
async def three_tools(world: World) -> None:
    await answered(world, "All")


@scenario("large payloads", answers={_LONG: [[said(_LONG), asked("file", {"amount": 1})], [said(_LONG)]]})
async def large(world: World) -> None:
    await answered(world, _LONG)


@scenario("images", answers={"What is this?": [[said("A picture.")]]})
async def images(world: World) -> None:
    await over(world, "What is this?", await over(world, "Hi"), images=_PNGS)


@scenario(
    "a context that becomes too long",
    limits=Limits(compact_at_tokens=2_000),
    answers={
        "Far": [[said("Long. " * 800), asked("pay", {"amount": n}), asked("look")] for n in range(3)]
        + [[said("Done.")]]
    },
)
async def compacted(world: World) -> None:
    await answered(world, "Far")


@scenario("a log that is sealed", answers={_LONG: [[said(_LONG)]], "Two": [[said("2")]]})
async def sealed(world: World) -> None:
    session_id = await over(world, _LONG)
    for text in ("Hi", "Two"):
        await over(world, text, session_id)


@scenario(
    "on a laptop that is told to end",
    arrangement="laptop",
    tool_seconds=1.5,
    answers={"All": [[asked("pay"), asked("look")], [said("Done.")]]},
)
async def laptop(world: World) -> None:
    session_id = await world.client.create()
    await world.client.send(session_id, "All")
    await asyncio.sleep(0.2)
    await world.end("laptop")
    world.watch(session_id)
    await world.client.until(session_id)


# A person's word.


@scenario("an outcome that nobody knows: it did not happen", trouble="paying hangs before")
async def did_not_happen(world: World) -> None:
    await _truth(world)


async def _truth(world: World) -> None:
    told = await answered(world, "Pay")
    await asyncio.sleep(2 * LATE_SECONDS)
    world.record.wrong += await healed(world)  # while it waits, too
    for call_id, attempt in unknown(world, told):
        outcome = "happened" if world.happened(call_id) else "did_not_happen"
        await world.client.decide(told, call_id, {"outcome": outcome, "attempt": attempt})
    await comes_to_rest(world, told)


@scenario("an outcome that nobody knows: try again", trouble="paying hangs twice")
async def again(world: World) -> None:
    told = await answered(world, "Pay")
    for call_id, attempt in unknown(world, told):
        await world.client.decide(told, call_id, {"outcome": "retry", "attempt": attempt})
        await asyncio.sleep(1)
        await world.client.until(told)
        late = await world.client.decide(told, call_id, {"outcome": "did_not_happen", "attempt": attempt})
        if late != 409:
            world.record.wrong.append(f"P6 a second word about attempt {attempt} of {call_id} was answered {late}")


@scenario(
    "a word while another call is at work",
    trouble="paying hangs before",
    tool_seconds=30.0,
    answers={"Both": [[asked("pay"), asked("dig")], [said("Done.")]]},
)
async def word_meanwhile(world: World) -> None:
    session_id = await world.client.create()
    await world.client.send(session_id, "Both")
    await asyncio.sleep(25)
    for call_id, attempt in unknown(world, session_id):
        await world.client.decide(session_id, call_id, {"outcome": "did_not_happen", "attempt": attempt})
    if await world.client.until(session_id) == "waiting_approval" and not world.nature.faults.fired:
        world.record.wrong.append("P6 a person is asked about a call that has told how it ended")


@scenario("two people have a word at once", trouble="paying hangs before")
async def two_words(world: World) -> None:
    told = await answered(world, "Pay")
    for call_id, attempt in unknown(world, told):
        words = [{"outcome": outcome, "attempt": attempt} for outcome in ("did_not_happen", "retry")]
        statuses = await asyncio.gather(*(world.client.decide(told, call_id, word) for word in words))
        if sorted(statuses) != [200, 409]:
            world.record.wrong.append(f"P6 two words about {call_id} were answered {statuses}")
    await comes_to_rest(world, told)


# Several messages.


@scenario("three messages at once", answers={"One": [[said("1")]], "Two": [[said("2")]], "Three": [[said("3")]]})
async def three_messages(world: World) -> None:
    session_id = await world.client.create()
    await asyncio.gather(world.client.send(session_id, "One", "Two"), world.client.send(session_id, "Three"))
    await comes_to_rest(world, session_id)


@scenario("two executes on one session", model_seconds=0.5, answers={"Two": [[said("2")]]})
async def two_executes(world: World) -> None:
    session_id = await world.client.create()
    await asyncio.gather(world.client.execute("Hi", session_id), world.client.execute("Two", session_id))
    await world.client.until(session_id)


@scenario("the same request twice at once")
async def twice(world: World) -> None:
    first, second = await asyncio.gather(world.client.execute("Pay"), world.client.execute("Pay"))
    if first != second:
        world.record.wrong.append(f"P2 one key, two answers: {first} and {second}")
    assert first
    await world.client.until(first.session_id)


# Jobs.


@scenario("a job")
async def job(world: World) -> None:
    world.queue.put(json.dumps({"agent_id": "bank", "input": "Pay"}))
    await all_quiet(world)
    world.expects("Pay")


@scenario("a job for a session that is busy", model_seconds=1.0, answers={"Two": [[said("2")]]})
async def busy_job(world: World) -> None:
    session_id = await world.client.create()
    first = world.meanwhile(world.client.execute("Hi", session_id))
    await asyncio.sleep(0.5)
    world.queue.put(json.dumps({"agent_id": "bank", "input": "Two", "session_id": session_id}))
    await first
    await all_quiet(world)
    world.expects("Two")


@scenario("a job that cannot be done")
async def poison_job(world: World) -> None:
    world.queue.put(json.dumps({"agent_id": "nobody", "input": "Hi"}))
    await all_quiet(world)
    world.expects("Hi")
    world.record.doomed.add("Hi")


# The end of a session.


@scenario("deleted while it runs", model_seconds=1.0)
async def deleted(world: World) -> None:
    session_id = await world.client.create()
    running = world.meanwhile(world.client.execute("Pay", session_id, patient=False))
    await asyncio.sleep(0.5)
    await world.client.delete(session_id)
    await running


@scenario("deleted while a message waits", model_seconds=1.0, answers={_LONG: [[said("It is.")]]})
async def deleted_waiting(world: World) -> None:
    session_id = await world.client.create()
    running = world.meanwhile(world.client.execute("Hi", session_id, patient=False))
    await asyncio.sleep(0.5)
    await world.client.send(session_id, _LONG)
    await asyncio.gather(world.client.delete(session_id), world.client.delete(session_id))
    await running
    if await world.client.execute("Hi", session_id):
        world.record.wrong.append(f"P14 {session_id} is deleted, and what began there is told again")


@scenario("expired", ttl_days=1, sweep_seconds=4 * 3600.0, answers={"One": [[said("1")]]})
async def expired(world: World) -> None:
    told = await answered(world, "Hi")
    await asyncio.sleep(20 * 3600)
    await world.client.send(told, "One")
    await asyncio.sleep(8 * 3600)
    if await world.client.until(told) == "gone":
        world.record.wrong.append(f"P14 {told} is gone, and was used within its time")
    await asyncio.sleep(86_400 + 8 * 3600)
    world.record.deleted.add(told)


# Drivers.


@scenario("handed over", life_seconds=60.0, model_seconds=20.0, limits=Limits(model_reserve_seconds=30.0))
async def handedover(world: World) -> None:
    await answered(world, "Pay")


@scenario("an answer that takes minutes", model_seconds=70.0)
async def long_answer(world: World) -> None:
    log = world.log(await answered(world, "Hi"))
    if not world.nature.faults.fired and any(isinstance(each, e.StatusRescheduled) for each in log):
        world.record.wrong.append("P10 a run was taken from a driver that was well")


@scenario(
    "a run that kills every driver",
    trouble="filing kills",
    limits=Limits(max_claims=2),
    answers={"File": [[asked("file")]]},
)
async def poison(world: World) -> None:
    session_id = await world.client.create()
    await world.client.send(session_id, "File")
    await asyncio.sleep(200)  # nobody looks meanwhile: each look would be a point
    await world.client.until(session_id)


@scenario("a new version in the middle", prompts=("Be brief.", "Be long."))
async def upgraded(world: World) -> None:
    session_id = await over(world, "Pay")
    world.processes["web-1"].crash()
    world.processes["web-2"].crash()
    await asyncio.sleep(5)
    await over(world, "Hi", session_id)


# Watching.


@scenario(
    "watched",
    model_seconds=0.5,
    nap_seconds=0.0,
    answers={"Tell": [[asked("look")], [said("It ", "is ", "dark, ", "and ", "late.")]]},
)
async def watched(world: World) -> None:
    session_id = await world.client.create()
    world.watch(session_id)
    await asyncio.sleep(0.2)
    await world.client.send(session_id, "Tell")
    await world.client.until(session_id)
    world.watch(session_id, after=2)
    await asyncio.sleep(2)

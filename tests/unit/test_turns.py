"""Messages that wait get their turns: one run each, one after the other, whoever drives."""

import asyncio
import logging
from typing import Any

import pytest
from parley.core import event as e
from parley.core.tool import ToolContext, ToolOutcome
from parley.core.value import text_of
from parley.ports import Update

from tests.build import REF, Stage, agent, answer, asked, only, said
from tests.fakes.flaky_table import Crash
from tests.fakes.gate import Gate

pytestmark = pytest.mark.anyio


async def started(stage: Stage) -> asyncio.Task[None] | None:
    """Begin a turn as a driver does that has been given a hint."""
    return await stage.runner.resume(REF)


def conversation(log: list[e.Event]) -> list[str]:
    """Tell who said what, in the order of the log."""
    return [text_of(said.content) for said in log if isinstance(said, e.UserMessage | e.AgentMessage)]


async def test_several_messages_are_answered_one_by_one_in_their_order(stage: Stage) -> None:
    await stage.create()
    await stage.send("One?", "Two?")
    await stage.send("Three?")
    stage.plays(*(answer(said(f"{number}.")) for number in ("One", "Two", "Three")))

    await started(stage)
    await stage.follow_hints()

    log = await stage.log()
    assert conversation(log) == ["One?", "One.", "Two?", "Two.", "Three?", "Three."]
    assert len({started.run_id for started in only(e.RunStarted, log)}) == 3
    assert (await stage.store.sessions.head(REF)).runs == 3
    assert await stage.store.inputs.all(REF) == []


async def test_the_end_of_a_run_gives_a_hint_while_messages_wait_and_none_when_they_do_not(stage: Stage) -> None:
    await stage.create()
    await stage.send("One", "Two")
    stage.plays(answer(said()), answer(said()))

    hints = []
    for _ in range(2):
        task = await started(stage)
        assert task is not None
        await task
        hints.append(list(stage.queue.hints))
        stage.queue.hints.clear()

    assert hints == [[REF], []]


async def test_a_run_that_fails_gives_the_next_message_its_turn_too(stage: Stage) -> None:
    await stage.create()
    await stage.send("One", "Two")
    stage.plays(answer(said(), stop_reason="refusal"), answer(said("Two.")))

    await started(stage)
    await stage.follow_hints()

    log = await stage.log()
    assert [failed.code for failed in only(e.RunFailed, log)] == ["model_refused"]
    assert len(only(e.RunFinished, log)) == 1


async def test_a_message_waits_for_the_end_of_the_run(stage: Stage) -> None:
    gate = Gate()
    stage.plays([gate, *answer(said("One."))], answer(said("Two.")))
    stage.runner.start(await stage.begin("One?"), stage.agent)
    await gate.reached.wait()
    await stage.send("Two?")

    early = await stage.another().runner.resume(REF)
    gate.opened.set()
    await stage.follow_hints()

    assert early is None
    assert conversation(await stage.log()) == ["One?", "One.", "Two?", "Two."]


async def test_a_message_that_comes_as_the_run_ends_is_not_forgotten(stage: Stage) -> None:
    stage.plays(answer(said("One.")), answer(said("Two.")))
    claim = await stage.begin("One?")
    stage.table.before_next(lambda: stage.another().send("Two?"))
    stage.runner.start(claim, stage.agent)

    await stage.follow_hints()

    assert conversation(await stage.log()) == ["One?", "One.", "Two?", "Two."]


async def test_a_message_waits_for_a_persons_word(stage: Stage) -> None:
    async def pay(_: dict[str, Any], __: ToolContext) -> ToolOutcome:
        await stage.send("Two?")
        return ToolOutcome("unknown", "?")

    stage.plays(answer(asked("pay")), answer(said("Paid.")), answer(said("Two.")), pay=pay)
    stage.runner.start(await stage.begin("Pay"), stage.agent)
    await asyncio.gather(*stage.runner.tasks)
    before = stage.rows()
    assert await started(stage) is None
    assert stage.queue.hints == [], "nobody can help it now"
    assert stage.rows() == before

    [use] = only(e.AgentToolUse, await stage.log())
    await stage.decide(use.id, "happened")
    await started(stage)
    await stage.follow_hints()

    assert conversation(await stage.log()) == ["Pay", "Paid.", "Two?", "Two."]


@pytest.mark.parametrize("state", ["nothing there", "nothing waits", "deleted", "expired"])
async def test_without_a_message_nothing_begins(stage: Stage, state: str) -> None:
    if state != "nothing there":
        await stage.create()
    if state in ("deleted", "expired"):
        await stage.send("Hi")
    if state == "deleted":
        await stage.store.sessions.delete(REF)
    if state == "expired":
        stage.clock.advance(31 * 86_400)
    before = stage.rows()

    assert await started(stage) is None

    assert stage.rows() == before


async def test_without_its_agent_a_message_ends_visibly_and_the_next_gets_its_turn(stage: Stage) -> None:
    await stage.create()
    await stage.send("One", "Two")
    deployed, stage.runner.agents = stage.runner.agents, {}
    stage.plays(answer(said("Two.")))

    await started(stage)
    await asyncio.gather(*stage.runner.tasks)
    stage.runner.agents = deployed
    await stage.follow_hints()

    log = await stage.log()
    [failed] = only(e.RunFailed, log)
    assert failed.code == "agent_not_found"
    assert conversation(log) == ["One", "Two", "Two."]
    assert isinstance(log[-1], e.StatusIdle)


async def test_a_message_whose_driver_died_is_answered_by_the_next(stage: Stage) -> None:
    await stage.create()
    await stage.send("One?")
    stage.table.fail_next("crash_after")
    with pytest.raises(Crash):
        await started(stage)
    other = stage.another().plays(answer(said("One.")))
    stage.clock.advance(33)

    await other.runner.resume(REF)
    await other.follow_hints()

    assert conversation(await stage.log()) == ["One?", "One."]


async def test_the_message_is_answered_by_the_agent_that_is_deployed_now(stage: Stage) -> None:
    await stage.create()
    await stage.send("One?")
    newer = agent(prompt="Be long.")
    stage.runner.agents = {newer.id: newer}
    stage.plays(answer(said("One.")))

    await started(stage)
    await stage.follow_hints()

    [begun] = only(e.RunStarted, await stage.log())
    assert begun.agent_version == newer.version


async def test_a_queue_that_cannot_be_read_does_no_harm_to_the_run_that_has_ended(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, logger="parley")
    await stage.create()
    await stage.send("One?", "Two?")
    stage.plays(answer(said("One.")))

    def goes_away(event: e.Event) -> None:
        stage.table.away = isinstance(event, e.StatusIdle)

    stage.runner.on_event = goes_away
    await started(stage)
    await asyncio.gather(*stage.runner.tasks)
    stage.table.away = False

    assert len(only(e.RunFinished, await stage.log())) == 1
    assert [record.message for record in caplog.records] == ["queue_not_looked_at"]
    assert stage.queue.hints == []


async def test_who_was_fenced_gives_no_hint(stage: Stage) -> None:
    gate = Gate()
    stage.plays([gate, *answer(said())])
    stage.runner.start(await stage.begin(), stage.agent)
    await gate.reached.wait()
    await stage.send("Two")
    await stage.sqlite.write(Update(REF.lock(), set={"lease_until": 0}))
    await stage.another().take_over()

    gate.opened.set()
    await asyncio.gather(*stage.runner.tasks)

    assert stage.queue.hints == []

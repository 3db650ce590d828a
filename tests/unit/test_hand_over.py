"""A run that is longer than its driver's time: handed over, and driven on by the next as if nothing had been."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from inline_snapshot import snapshot
from parley.core import event as e
from parley.core.delta import Output
from parley.core.errors import Fenced, SessionBusy
from parley.core.status import STATUS
from parley.deadline import Deadline
from parley.follow import follow
from parley.store import Claim, Lock
from parley.store.rows import run_row
from parley.store.work import work

from tests.build import Stage, answer, asked, event, fails, only, said, types

pytestmark = pytest.mark.anyio

LONG = [answer(said("I look."), asked("look")), answer(asked("pay"), asked("file")), answer(said("Done."))]
"""A run of three model calls and three calls of tools."""


async def lock(stage: Stage) -> Lock:
    return (await stage.store.sessions.open(stage.ref))[1]


async def drive(stage: Stage, claim: Claim, seconds_left: float = 0.0) -> list[Output]:
    """Drive for a time that is too short for anything but the first step."""
    deadline = Deadline(lambda: seconds_left)
    return [output async for output in stage.engine.drive(claim, stage.agent, deadline)]


async def handed_over(stage: Stage) -> Claim:
    """Leave a run behind its first model call."""
    stage.plays(*LONG)
    claim = await stage.begin(task_id="ticket-7")
    await drive(stage, claim)
    return claim


async def test_what_came_of_the_last_step_and_the_hand_over_are_one_write(stage: Stage) -> None:
    await handed_over(stage)

    log = await stage.log()
    assert len(stage.table.writes) == 2
    assert types(log)[4:] == snapshot(
        [
            "span.model_request_start",
            "agent.message",
            "agent.tool_use",
            "span.model_request_end",
            "session.status_rescheduled",
        ]
    )
    assert isinstance(log[-1], e.StatusRescheduled)
    assert (log[-1].reason, log[-1].task_id) == ("handed_over", "ticket-7")
    assert stage.tools.names == []


async def test_a_run_handed_over_keeps_its_session_and_needs_a_driver_at_once(stage: Stage) -> None:
    claim = await handed_over(stage)

    assert await lock(stage) == Lock(claim.epoch, claim.run_id, 0)
    assert stage.store.claims.lapsed(await lock(stage))
    assert [sk async for _, sk in work(stage.sqlite)] == [f"R#{claim.run_id}"]
    with pytest.raises(SessionBusy):
        await stage.begin("Meanwhile")


async def test_a_session_whose_run_was_handed_over_is_rescheduling(stage: Stage) -> None:
    claim = await handed_over(stage)

    shown = await stage.store.sessions.head(stage.ref)
    row = await run_row(stage.sqlite, stage.ref, claim.run_id)
    assert STATUS[shown.phase].session == "rescheduling"
    assert STATUS[row.phase].run == "executing"
    assert (row.ended_ms, row.last_seq) == (None, 9)
    assert shown.active_ms == 0


async def test_a_run_of_many_drivers_has_no_gap_and_makes_no_call_twice(stage: Stage) -> None:
    stage.plays(*LONG)
    drivers, outputs = 1, await drive(stage, await stage.begin())

    while not only(e.RunFinished, outputs):
        claim = await stage.store.claims.take_over(stage.ref)
        assert claim is not None
        drivers += 1
        outputs += await drive(stage, claim)

    log = await stage.log()
    assert drivers == 5
    assert [each.seq for each in log] == list(range(1, len(log) + 1))
    assert only(e.EventBase, outputs) == log
    assert stage.tools.names == ["look", "pay", "file"]
    assert len(stage.model.requests) == 3
    assert [each.reason for each in only(e.StatusRescheduled, log)] == ["handed_over", "taken_over"] * 4
    assert await lock(stage) == Lock(drivers)


async def test_a_driver_with_time_enough_hands_nothing_over(stage: Stage) -> None:
    stage.plays(*LONG)

    outputs = await drive(stage, await stage.begin(), seconds_left=60)

    assert only(e.RunFinished, outputs)
    assert not only(e.StatusRescheduled, outputs)


async def test_the_time_is_looked_at_before_every_step(stage: Stage) -> None:
    stage.plays(*LONG)
    left = iter([100.0, 100.0, 30.0])

    outputs = [
        each async for each in stage.engine.drive(await stage.begin(), stage.agent, Deadline(lambda: next(left)))
    ]

    assert len(only(e.AgentToolResult, outputs)) == 1
    assert types(outputs)[-1] == "session.status_rescheduled"


async def test_a_pause_before_a_model_call_is_not_waited_for_when_the_time_is_too_short(stage: Stage) -> None:
    stage.plays(fails("overloaded", retry_after_seconds=30), answer(said()))

    outputs = await drive(stage, await stage.begin(), seconds_left=60 + 29)

    assert [each.reason for each in only(e.StatusRescheduled, outputs)] == ["model_retry", "handed_over"]
    assert 30 not in stage.clock.slept


async def test_of_a_taken_slot_the_facts_are_kept_and_the_hand_over_is_decided_again(stage: Stage) -> None:
    async def word() -> None:
        tail = await stage.log()
        await stage.store.log.append(stage.ref, tail[-1].seq, [event(e.ToolOutcomeDecided, tool_use_id="none")])

    stage.plays([*answer(said("Precious"), asked("look")), lambda: word()])

    await drive(stage, await stage.begin())

    log = await stage.log()
    assert [message.content[0].text for message in only(e.AgentMessage, log)] == ["Precious"]
    assert len(only(e.StatusRescheduled, log)) == 1
    assert types(log)[-1] == "session.status_rescheduled"


async def test_an_older_driver_hands_nothing_over(stage: Stage) -> None:
    stage.plays(*LONG)
    old = await stage.begin()
    new = await stage.take_over()

    with pytest.raises(Fenced):
        await drive(stage, replace(old, session=await stage.session()))

    assert (await lock(stage)).epoch == new.epoch
    assert (await lock(stage)).lease_until_ms != 0
    assert not [each for each in only(e.StatusRescheduled, await stage.log()) if each.reason == "handed_over"]


@pytest.mark.parametrize("faults", [["unconfirmed"], ["lost"], ["lost", "unconfirmed"]])
async def test_a_hand_over_that_was_not_confirmed_stands_once(stage: Stage, faults: list[Any]) -> None:
    stage.plays(*LONG)
    claim = await stage.begin()
    stage.table.fail_next(*faults)

    await drive(stage, claim)

    assert len(only(e.StatusRescheduled, await stage.log())) == 1
    assert (await lock(stage)).lease_until_ms == 0


# The runner.


async def test_a_run_that_was_handed_over_is_announced_on_the_queue(stage: Stage) -> None:
    stage.plays(*LONG)
    stage.runner.deadline.seconds_left = lambda: 0.0
    stage.runner.start(await stage.begin(), stage.agent)

    await asyncio.gather(*stage.runner.tasks)

    assert stage.queue.hints == [stage.ref]
    assert stage.runner.live == {}


async def test_hints_drive_a_run_to_its_end_however_short_each_time_is(stage: Stage) -> None:
    stage.plays(*LONG)
    stage.runner.deadline.seconds_left = lambda: 0.0
    stage.runner.start(await stage.begin(), stage.agent)

    await stage.follow_hints()

    assert only(e.RunFinished, await stage.log())
    assert stage.queue.hints == []


async def test_who_listens_hears_the_run_to_its_end_though_another_process_drives_it_on(stage: Stage) -> None:
    stage.plays(LONG[0])
    stage.runner.deadline.seconds_left = lambda: 30.0
    claim = await stage.begin()
    listening = follow(stage.runner, claim, stage.runner.start(claim, stage.agent))
    other = stage.another().plays(*LONG[1:])
    outputs: list[Output] = []

    async for batch in listening:
        outputs += batch
        if stage.queue.hints:
            stage.queue.hints.clear()
            await other.runner.resume(stage.ref)

    assert only(e.EventBase, outputs) == await stage.log()
    assert only(e.RunFinished, outputs)

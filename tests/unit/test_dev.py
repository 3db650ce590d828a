"""The dev server as a driver: what it goes on with when it starts, and its rounds while it runs."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from parley import dev
from parley.core import event as e
from parley.state import Principal, State
from parley.store import Ref

from tests.build import REF, Stage, answer, only, said, settled, types

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def rounds(stage: Stage, every_seconds: float = 10) -> AsyncIterator[None]:
    """Let a process do its rounds."""
    state = State(stage.store, {}, Principal("acme", "ann"), stage.runner, stage.inline)
    task = asyncio.create_task(dev.sweep_for_ever(state, every_seconds))
    await settled()
    try:
        yield
        assert not task.done()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


# At the start.


async def test_a_process_that_holds_the_data_alone_does_not_wait_for_leases(stage: Stage) -> None:
    await stage.begin()
    other = stage.another().plays(answer(said()))

    await dev.recover(other.runner, void_leases=True)

    assert only(e.RunFinished, await stage.ended())


async def test_a_process_that_does_not_leaves_held_leases_alone(stage: Stage) -> None:
    await stage.begin()
    other = stage.another()

    await dev.recover(other.runner, void_leases=False)

    assert types(await stage.log()).count("run.claimed") == 1


async def test_messages_that_waited_when_a_process_ended_get_their_turns(stage: Stage) -> None:
    refs = [Ref("acme", "sesn_1"), Ref("acme", "sesn_2")]
    for ref in refs:
        await stage.create(ref)
        await stage.send("One", "Two", ref=ref)
    other = stage.another().plays(*(answer(said()) for _ in range(4)))
    other.runner.queue = other.inline

    await dev.recover(other.runner, void_leases=True)

    for ref in refs:
        assert len(only(e.RunFinished, await stage.ended(ref, runs=2))) == 2


async def test_a_run_that_waits_for_a_person_goes_on_waiting_after_a_restart(stage: Stage) -> None:
    await stage.park()
    before = stage.rows()

    await dev.recover(stage.another().runner, void_leases=True)

    assert stage.rows() == before


async def test_a_deleted_session_is_nothing_to_go_on_with(stage: Stage) -> None:
    await stage.begin()
    await stage.store.sessions.delete(REF)
    before = stage.rows()

    await dev.recover(stage.another().runner, void_leases=True)

    assert stage.rows() == before


# Rounds.


async def test_a_run_whose_driver_is_gone_is_driven_on_with_the_next_round(stage: Stage) -> None:
    await stage.begin()
    other = stage.another().plays(answer(said()))
    stage.clock.advance(60)

    async with rounds(other):
        stage.clock.advance(11)

        assert only(e.RunFinished, await stage.ended())


async def test_rounds_go_on_after_the_store_was_away(stage: Stage) -> None:
    await stage.begin()
    other = stage.another().plays(answer(said()))
    other.table.fail_next("lost", times=8)
    stage.clock.advance(60)

    async with rounds(other):
        stage.clock.advance(11)
        await settled()
        assert types(await stage.log()).count("run.claimed") == 1
        stage.clock.advance(60)

        assert only(e.RunFinished, await stage.ended())


async def test_rounds_go_on_when_the_index_cannot_be_read(stage: Stage) -> None:
    await stage.begin()
    other = stage.another().plays(answer(said()))
    stage.clock.advance(60)
    other.table.away = True

    async with rounds(other):
        stage.clock.advance(11)
        await settled()
        other.table.away = False
        stage.clock.advance(11)

        assert only(e.RunFinished, await stage.ended())


def test_a_log_line_for_people_has_the_events_name_and_its_keys() -> None:
    record = logging.makeLogRecord({"msg": "tool_failed", "levelname": "WARNING", "tool": "pay", "at": "agent.py:7"})

    assert dev.Lines("%(levelname)s %(message)s").format(record) == "WARNING tool_failed tool=pay at=agent.py:7"

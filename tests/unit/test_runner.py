"""Runs as tasks: listeners come and go, drivers die, and the log is what counts."""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence

import pytest
from inline_snapshot import snapshot
from parley.core import event as e
from parley.core.busy import interrupt
from parley.core.delta import DraftDiscarded, DraftStarted, Output
from parley.core.errors import SessionBusy
from parley.core.tool import ToolOutcome
from parley.follow import follow, tail
from parley.ports import Update
from parley.store import Ref

from tests.build import Stage, answer, asked, only, said, settled, types
from tests.fakes.gate import Gate
from tests.fakes.hints import KeptHints

pytestmark = pytest.mark.anyio


async def heard(batches: AsyncIterator[Sequence[Output]]) -> list[Output]:
    """Listen to the end."""
    return [output async for batch in batches for output in batch]


async def run(stage: Stage, text: str = "Hi") -> list[Output]:
    """Start a run and listen to its end."""
    claim = await stage.begin(text)
    return await heard(follow(stage.runner, claim, stage.runner.start(claim, stage.agent)))


# Listening.


async def test_a_listener_hears_the_run_from_its_first_event_to_idle(stage: Stage) -> None:
    stage.plays(answer(said()))

    outputs = await run(stage)

    assert types(outputs) == snapshot(
        [
            "user.message",
            "run.started",
            "session.status_running",
            "run.claimed",
            "draft started",
            "draft grew",
            "span.model_request_start",
            "agent.message",
            "span.model_request_end",
            "run.finished",
            "session.status_idle",
        ]
    )
    assert only(e.EventBase, outputs) == await stage.log()


async def test_a_run_goes_on_when_its_listener_has_gone(stage: Stage) -> None:
    gate = Gate()
    stage.plays([gate, *answer(said("Still here"))])
    claim = await stage.begin()
    listening = follow(stage.runner, claim, stage.runner.start(claim, stage.agent))
    await anext(aiter(listening))

    await listening.aclose()  # type: ignore[attr-defined]
    gate.opened.set()
    log = await stage.ended()

    assert only(e.RunFinished, log)


async def test_a_listener_of_a_driver_that_was_taken_over_hears_the_rest_from_the_log(stage: Stage) -> None:
    gate, other = Gate(), stage.another().plays(answer(said("From the new one")))
    stage.plays([gate, *answer(said("From the old one"))])
    claim = await stage.begin()
    listening = asyncio.create_task(heard(follow(stage.runner, claim, stage.runner.start(claim, stage.agent))))
    await gate.reached.wait()

    await other.runner.resume(stage.ref, void_lease=True)
    gate.opened.set()
    outputs = await listening

    assert only(e.EventBase, outputs) == await stage.log()
    assert [message.content[0].text for message in only(e.AgentMessage, outputs)] == ["From the new one"]


async def test_a_listener_of_a_driver_that_died_hears_the_rest_when_another_takes_over(stage: Stage) -> None:
    stage.plays(answer(asked("look")), answer(said("Alive")))
    claim = await stage.begin()
    stage.table.fail_next("crash_after")
    listening = asyncio.create_task(heard(follow(stage.runner, claim, stage.runner.start(claim, stage.agent))))
    await settled()

    stage.clock.advance(60)
    await stage.sweeper.sweep()
    outputs = await listening

    assert only(e.EventBase, outputs) == await stage.log()
    assert only(e.RunFinished, outputs)


async def test_drafts_of_a_driver_that_was_taken_over_are_discarded(stage: Stage) -> None:
    gate, other = Gate(), stage.another().plays(answer(said("Whole")))
    begun, grown, *rest = answer(said("Half", "way"))[1:]
    stage.plays([begun, grown, gate, *rest])
    claim = await stage.begin()
    listening = asyncio.create_task(heard(follow(stage.runner, claim, stage.runner.start(claim, stage.agent))))
    await gate.reached.wait()

    await other.runner.resume(stage.ref, void_lease=True)
    gate.opened.set()
    outputs = await listening

    [draft] = [output for output in outputs if isinstance(output, DraftStarted)]
    assert DraftDiscarded(draft.event_id) in outputs


async def test_a_machine_that_slept_past_its_lease_does_not_take_its_own_run_over(stage: Stage) -> None:
    gate = Gate()
    stage.plays([gate, *answer(said("Still here"))])
    claim = await stage.begin()
    listening = asyncio.create_task(heard(follow(stage.runner, claim, stage.runner.start(claim, stage.agent))))
    await gate.reached.wait()
    lapsed = {"lease_until": 0}
    await stage.sqlite.write(Update(stage.ref.lock(), set=lapsed))

    await stage.sweeper.sweep()
    gate.opened.set()
    outputs = await listening

    assert types(await stage.log()).count("run.claimed") == 1
    assert only(e.RunFinished, outputs)


async def test_who_waits_for_a_run_that_nobody_drives_gets_it_driven(stage: Stage) -> None:
    claim = await stage.begin()
    other = stage.another().plays(answer(said("Taken over")))

    async with asyncio.timeout(10):
        outputs = await heard(tail(other.runner, stage.ref, claim.run_id, claim.events[0].seq - 1))

    assert only(e.RunFinished, outputs)
    assert types(await stage.log()).count("run.claimed") == 2


async def test_a_replay_that_waits_gives_a_sign_of_life_every_ten_seconds(stage: Stage) -> None:
    claim = await stage.begin()
    began, quiet = stage.clock.now(), 0

    async for batch in tail(stage.runner, stage.ref, claim.run_id, claim.session.seq):
        quiet += not batch
        if (stage.clock.now() - began).total_seconds() > 35:
            break

    assert 3 <= quiet <= 4


async def test_a_replay_tells_one_run_and_no_other(stage: Stage) -> None:
    stage.plays(answer(said("One")), answer(said("Two")), answer(said("Three")))
    for text in ("First", "Second", "Third"):
        await run(stage, text)
    _, second, _ = only(e.RunStarted, await stage.log())
    assert second.run_id is not None

    outputs = await heard(tail(stage.runner, stage.ref, second.run_id, second.seq - 2))

    assert {event.run_id for event in only(e.EventBase, outputs)} == {second.run_id}
    assert [message.content[0].text for message in only(e.AgentMessage, outputs)] == ["Two"]
    assert isinstance(outputs[-1], e.StatusIdle)


async def test_a_replay_follows_a_run_that_is_still_at_work(stage: Stage) -> None:
    gate = Gate()
    stage.plays([gate, *answer(said())])
    claim = await stage.begin()
    stage.runner.start(claim, stage.agent)

    listening = asyncio.create_task(heard(tail(stage.another().runner, stage.ref, claim.run_id, 0)))
    await gate.reached.wait()
    gate.opened.set()
    outputs = await listening

    assert only(e.RunFinished, outputs)


async def test_a_replay_ends_when_the_session_is_deleted(stage: Stage) -> None:
    gate = Gate()
    stage.plays([gate, *answer(said())])
    claim = await stage.begin()
    stage.runner.start(claim, stage.agent)
    listening = asyncio.create_task(heard(tail(stage.runner, stage.ref, claim.run_id, 0)))

    await stage.store.sessions.delete(stage.ref)

    async with asyncio.timeout(5):
        assert not only(e.StatusIdle, await listening)


async def test_a_listener_hears_the_end_when_the_session_is_deleted(stage: Stage) -> None:
    gate = Gate()
    stage.plays(answer(asked("look")), look=gate.tool)
    claim = await stage.begin()
    listening = asyncio.create_task(heard(follow(stage.runner, claim, stage.runner.start(claim, stage.agent))))
    await gate.reached.wait()

    await stage.store.sessions.delete(stage.ref)
    gate.opened.set()

    async with asyncio.timeout(5):
        assert types(await listening)[-1] == "session.deleted"
    assert len(stage.model.requests) == 1


# Leases.


async def test_a_run_at_work_keeps_its_lease(stage: Stage) -> None:
    gate = Gate()
    stage.plays(answer(asked("pay")), answer(said()), pay=gate.tool)
    claim = await stage.begin()
    stage.runner.start(claim, stage.agent)
    await gate.reached.wait()

    for _ in range(10):
        stage.clock.advance(10.5)
        await settled()
        assert await stage.another().runner.resume(stage.ref) is None
    gate.opened.set()

    assert only(e.RunFinished, await stage.ended())


async def test_a_renewal_that_the_store_does_not_answer_is_tried_again_later(stage: Stage) -> None:
    gate = Gate()
    stage.plays(answer(asked("pay")), answer(said()), pay=gate.tool)
    claim = await stage.begin()
    stage.runner.start(claim, stage.agent)
    await gate.reached.wait()

    stage.table.fail_next("lost", times=8)
    stage.clock.advance(10.5)
    await settled()
    stage.clock.advance(10.5)
    await settled()
    gate.opened.set()

    _, lock = await stage.store.sessions.open(stage.ref)
    assert lock.lease_until_ms == stage.clock.milliseconds() + 30_000
    assert only(e.RunFinished, await stage.ended())


async def test_a_driver_that_hangs_is_stopped_once_another_has_its_run(stage: Stage) -> None:
    gate, other = Gate(), stage.another().plays(answer(said("From the new one")))
    stage.plays([gate, *answer(said("From the old one"))])
    claim = await stage.begin()
    stage.runner.start(claim, stage.agent)
    hanging = stage.runner.live[claim.run_id].task
    assert hanging is not None
    await gate.reached.wait()
    await other.runner.resume(stage.ref, void_lease=True)

    stage.clock.advance(10.5)

    await asyncio.wait([hanging], timeout=2)
    assert hanging.cancelled()
    assert stage.runner.live == {}


# Taking over.


async def test_a_run_whose_lease_holds_is_left_alone(stage: Stage) -> None:
    await stage.begin()

    stage.clock.advance(31)

    assert await stage.another().runner.resume(stage.ref) is None


async def test_a_run_whose_lease_has_lapsed_is_driven_on(stage: Stage) -> None:
    await stage.begin()
    other = stage.another().plays(answer(said()))
    stage.clock.advance(33)

    task = await other.runner.resume(stage.ref)

    assert task is not None
    await task
    assert types(await stage.log())[3:6] == ["run.claimed", "run.claimed", "session.status_rescheduled"]
    assert only(e.RunFinished, await stage.log())


async def test_a_session_that_waits_for_a_person_is_never_taken_over(stage: Stage) -> None:
    stage.plays(answer(asked("pay")), pay=ToolOutcome("unknown", "?"))
    await run(stage)
    before = stage.rows()
    stage.clock.advance(10_000)

    assert await stage.runner.resume(stage.ref) is None
    assert await stage.runner.resume(stage.ref, void_lease=True) is None

    assert stage.rows() == before


async def test_an_idle_session_is_never_taken_over(stage: Stage) -> None:
    stage.plays(answer(said()))
    await run(stage)
    before = stage.rows()

    assert await stage.runner.resume(stage.ref, void_lease=True) is None

    assert stage.rows() == before


async def test_of_two_processes_that_take_over_one_drives(stage: Stage) -> None:
    await stage.begin()
    stage.clock.advance(60)
    one, two = (stage.another().plays(answer(said())) for _ in range(2))

    tasks = await asyncio.gather(one.runner.resume(stage.ref), two.runner.resume(stage.ref))
    await asyncio.gather(*filter(None, tasks))

    assert sorted(task is None for task in tasks) == [False, True]
    assert len(one.model.requests) + len(two.model.requests) == 1


async def test_a_run_whose_agent_is_gone_ends_visibly_and_frees_the_session(stage: Stage) -> None:
    claim = await stage.begin()
    other = stage.another()
    other.runner.agents = {}

    task = await other.runner.resume(stage.ref, void_lease=True)
    assert task is not None
    await task

    log = await stage.log()
    [failed] = only(e.RunFailed, log)
    assert (failed.code, failed.run_id) == ("agent_not_found", claim.run_id)
    assert types(log)[-1] == "session.status_idle"
    assert (await stage.store.sessions.open(stage.ref))[1].run is None


async def test_a_run_that_was_stopped_ends_as_stopped_though_its_agent_is_gone(stage: Stage) -> None:
    await stage.begin()
    await stage.store.words.say(stage.ref, lambda scribe, _: [interrupt(scribe, "ann")])
    other = stage.another()
    other.runner.agents = {}

    task = await other.runner.resume(stage.ref, void_lease=True)
    assert task is not None
    await task

    assert types(await stage.log())[-2:] == ["run.cancelled", "session.status_idle"]


async def test_a_run_taken_over_here_does_not_lose_its_place_to_the_end_of_the_old_driver(stage: Stage) -> None:
    old, new = Gate(), Gate()
    stage.plays([old, *answer(said("Old"))], [new, *answer(said("New"))])
    claim = await stage.begin()
    stage.runner.start(claim, stage.agent)
    await old.reached.wait()

    task = await stage.runner.resume(stage.ref, void_lease=True)
    await new.reached.wait()
    old.opened.set()
    await settled()

    assert task is not None
    assert [live.task for live in stage.runner.live.values()] == [task]
    new.opened.set()
    await task


# Stopping.


async def test_closing_lets_a_run_end_first(stage: Stage) -> None:
    gate = Gate()
    stage.plays([gate, *answer(said())])
    claim = await stage.begin()
    stage.runner.start(claim, stage.agent)
    await gate.reached.wait()

    closing = asyncio.create_task(stage.runner.close())
    await settled()
    gate.opened.set()
    await closing

    assert only(e.RunFinished, await stage.log())


async def test_closing_stops_what_takes_too_long_and_another_process_goes_on(stage: Stage) -> None:
    gate = Gate()
    stage.plays([gate, *answer(said())])
    claim = await stage.begin()
    stage.runner.start(claim, stage.agent)
    await gate.reached.wait()

    await stage.runner.close(grace_seconds=0.01)
    await stage.another().plays(answer(said())).runner.resume(stage.ref, void_lease=True)

    assert stage.runner.live == {}
    assert only(e.RunFinished, await stage.ended())


async def test_what_was_stopped_can_be_taken_over_at_once_and_somebody_is_asked_to(stage: Stage) -> None:
    gate = Gate()
    stage.plays([gate, *answer(said())])
    claim = await stage.begin()
    stage.runner.start(claim, stage.agent)
    await gate.reached.wait()

    await stage.runner.close(grace_seconds=0)

    _, lock = await stage.store.sessions.open(stage.ref)
    assert (lock.run, lock.lease_until_ms) == (claim.run_id, 0)
    assert stage.queue.hints == [stage.ref]
    other = stage.another().plays(answer(said("I go on.")))
    assert await other.runner.resume(stage.ref)
    assert only(e.RunFinished, await stage.ended())


async def test_what_was_stopped_and_is_anothers_already_is_left_to_them(stage: Stage) -> None:
    gate = Gate()
    stage.plays([gate, *answer(said())])
    stage.runner.start(await stage.begin(), stage.agent)
    await gate.reached.wait()
    await stage.another().take_over()
    before = stage.rows()

    await stage.runner.close(grace_seconds=0)

    assert stage.rows() == before
    assert stage.queue.hints == []


async def test_a_store_that_is_away_does_not_keep_a_process_from_closing(stage: Stage) -> None:
    gate = Gate()
    stage.plays([gate, *answer(said())])
    stage.runner.start(await stage.begin(), stage.agent)
    await gate.reached.wait()
    stage.table.fail_next("lost", times=8)

    await stage.runner.close(grace_seconds=0)

    assert stage.runner.live == {}
    assert stage.runner.tasks == set()
    stage.clock.advance(60)
    assert await stage.store.claims.take_over(stage.ref) is not None


async def test_a_process_that_closes_does_not_take_its_own_run_up_again(stage: Stage) -> None:
    gate = Gate()
    stage.plays([gate, *answer(said())])
    stage.runner.queue = stage.inline
    stage.runner.start(await stage.begin(), stage.agent)
    await gate.reached.wait()

    await stage.runner.close(grace_seconds=0)

    assert types(await stage.log()).count("run.claimed") == 1
    assert stage.runner.tasks == set()


async def test_a_turn_that_begins_while_a_process_closes_is_stopped_with_it(stage: Stage) -> None:
    first, second = Gate(), Gate()
    stage.plays([first, *answer(said("One."))], [second, *answer(said("Two."))])
    stage.runner.queue = stage.inline
    stage.runner.start(await stage.begin("One?"), stage.agent)
    await first.reached.wait()
    await stage.send("Two?")

    closing = asyncio.create_task(stage.runner.close(grace_seconds=5))
    await settled()
    first.opened.set()
    await closing

    assert stage.runner.tasks == set()
    _, lock = await stage.store.sessions.open(stage.ref)
    assert lock.run is not None
    assert lock.lease_until_ms == 0


async def test_a_process_has_not_closed_before_the_hint_of_a_run_that_has_ended_is_given(stage: Stage) -> None:
    gate = Gate()

    class Slow(KeptHints):
        async def send(self, tenant: str, session_id: str) -> None:
            await gate()
            await super().send(tenant, session_id)

    stage.plays(answer(said()))
    stage.runner.queue = queue = Slow()
    claim = await stage.begin()
    await stage.send("Next")
    stage.runner.start(claim, stage.agent)
    await gate.reached.wait()

    closing = asyncio.create_task(stage.runner.close())
    await settled()
    gate.opened.set()
    await closing

    assert queue.hints == [stage.ref]


async def test_a_process_that_has_closed_takes_hints_again(stage: Stage) -> None:
    """A Lambda closes its runner at the end of every invocation, and is used for the next."""
    await stage.begin()
    stage.plays(answer(said()))
    await stage.runner.close()

    await stage.runner.nudge(stage.ref, void_lease=True)

    assert only(e.RunFinished, await stage.ended())


async def test_a_driver_that_fails_is_reported_and_its_run_stays_open_for_another(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, logger="parley")
    stage.plays(answer(said("secret words")))
    claim = await stage.begin()
    stage.table.fail_next("crash")
    stage.runner.start(claim, stage.agent)
    await settled()

    assert [record.message for record in caplog.records] == ["driver_failed"]
    assert "secret words" not in caplog.text
    assert (await stage.store.sessions.open(stage.ref))[1].run == claim.run_id


async def test_two_sessions_run_side_by_side(stage: Stage) -> None:
    gate = Gate()
    stage.plays([gate, *answer(said("Slow"))], answer(said("Quick")))
    slow = await stage.begin(ref=Ref("acme", "sesn_slow"))
    stage.runner.start(slow, stage.agent)
    await gate.reached.wait()

    quick = await stage.begin(ref=Ref("acme", "sesn_quick"))
    outputs = await heard(follow(stage.runner, quick, stage.runner.start(quick, stage.agent)))

    assert [message.content[0].text for message in only(e.AgentMessage, outputs)] == ["Quick"]
    gate.opened.set()
    await stage.ended(Ref("acme", "sesn_slow"))


async def test_with_a_second_message_the_session_is_busy_until_the_first_has_ended(stage: Stage) -> None:
    gate = Gate()
    stage.plays([gate, *answer(said())], answer(said()))
    claim = await stage.begin()
    stage.runner.start(claim, stage.agent)

    with pytest.raises(SessionBusy):
        await stage.begin("Too early")
    gate.opened.set()
    await stage.ended()

    assert only(e.RunFinished, await run(stage, "Now"))

"""A stop in the middle of whatever a driver does: it is heard at once, and nothing new starts."""

import asyncio
import itertools
from collections.abc import Callable
from contextlib import aclosing, suppress

import pytest
from parley.core import busy
from parley.core import control as c
from parley.core import event as e
from parley.core.delta import DraftDiscarded, DraftStarted, Output
from parley.core.event import Event
from parley.core.tool import ToolOutcome
from parley.core.value import text_of
from parley.stop import Stop, Stopped
from parley.store import Claim, Lock

from tests.build import Stage, answer, asked, fails, only, said, settled, thought, types
from tests.fakes.gate import Gate

pytestmark = pytest.mark.anyio


# What waits under a stop.


async def test_what_nobody_stops_is_waited_for() -> None:
    async def work() -> str:
        await asyncio.sleep(0)
        return "done"

    told = await Stop().lets(work)

    assert told == "done"


async def test_a_stop_ends_what_is_waited_for_at_once() -> None:
    stop, gate = Stop(), Gate()
    waiting = asyncio.create_task(stop.lets(gate))
    await gate.reached.wait()

    stop.ask()
    stop.ask()

    with pytest.raises(Stopped):
        await waiting
    assert waiting.cancelling() == 0


async def test_behind_a_stop_nothing_is_begun_until_it_has_been_heard() -> None:
    stop, gate = Stop(), Gate()
    stop.ask()

    with pytest.raises(Stopped):
        await stop.lets(gate)
    assert not gate.reached.is_set()

    stop.heard()
    gate.opened.set()
    await stop.lets(gate)
    assert gate.reached.is_set()


async def test_a_wait_that_times_out_by_itself_is_not_stopped() -> None:
    async def late() -> None:
        raise TimeoutError

    with pytest.raises(TimeoutError):
        await Stop().lets(late)


async def test_who_is_cancelled_while_waiting_is_cancelled() -> None:
    stop, gate = Stop(), Gate()
    waiting = asyncio.create_task(stop.lets(gate))
    await gate.reached.wait()

    waiting.cancel()

    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_who_is_cancelled_and_stopped_at_once_is_cancelled() -> None:
    stop, gate = Stop(), Gate()
    waiting = asyncio.create_task(stop.lets(gate))
    await gate.reached.wait()

    waiting.cancel()
    stop.ask()

    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_work_that_ends_in_spite_of_a_stop_leaves_nobody_cancelled() -> None:
    stop, gate = Stop(), Gate()

    async def stubborn() -> str:
        with suppress(asyncio.CancelledError):
            await gate()
        return "done"

    async def wait() -> tuple[str, int]:
        done = await stop.lets(stubborn)
        await asyncio.sleep(0)
        task = asyncio.current_task()
        return done, task.cancelling() if task else -1

    waiting = asyncio.create_task(wait())
    await gate.reached.wait()

    stop.ask()

    assert await waiting == ("done", 0)


# A driver.


async def interrupt(stage: Stage) -> None:
    """Put a stop into the log, as another process does."""
    await stage.store.words.say(stage.ref, lambda scribe, session: busy.stop(scribe, session, "ann"))


async def until(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        for _ in itertools.repeat(None):
            if holds():
                return
            await asyncio.sleep(0)


async def stopped(stage: Stage, claim: Claim, ready: Callable[[], object]) -> list[Output]:
    """Drive a run and stop it as soon as it is ready for that; return what it said."""
    stop, heard = Stop(), list[Output]()

    async def drive() -> None:
        async with aclosing(stage.engine.drive(claim, stage.agent, stop=stop)) as outputs:
            async for output in outputs:
                heard.append(output)

    driving = asyncio.create_task(drive())
    await until(ready)
    await interrupt(stage)
    stop.ask()
    async with asyncio.timeout(5):
        await driving
    return heard


def behind_the_stop(log: list[Event]) -> list[str]:
    [place] = [n for n, event in enumerate(log) if isinstance(event, c.UserInterrupt)]
    return types(log[place + 1 :])


async def test_a_model_that_stalls_is_left_at_once_and_its_words_so_far_are_kept(stage: Stage) -> None:
    gate, (begun, *deltas) = Gate(), answer(thought("Hm"), said("Half ", "an"), asked("pay"))
    stage.plays([begun, *deltas[:7], gate, *deltas[7:]])

    outputs = await stopped(stage, await stage.begin(), gate.reached.is_set)

    log = await stage.log()
    [message] = only(e.AgentMessage, log)
    assert text_of(message.content) == "Half an"
    assert [end.stop_reason for end in only(e.ModelRequestEnd, log)] == ["interrupted"]
    assert only(e.ModelRequestEnd, log)[0].model_usage.input_tokens == 10
    assert behind_the_stop(log) == [
        "span.model_request_start",
        "agent.thinking",
        "agent.message",
        "span.model_request_end",
        "run.cancelled",
        "session.status_idle",
    ]
    assert [each.event_id for each in outputs if isinstance(each, DraftStarted)] == [
        each.id for each in only(e.AgentThinking, log) + only(e.AgentMessage, log)
    ]


@pytest.mark.parametrize("events", [0, 1, 2], ids=["before a word", "before a block", "in thinking"])
async def test_of_an_answer_that_has_said_nothing_whole_nothing_is_kept(stage: Stage, events: int) -> None:
    gate, stream = Gate(), answer(thought("Hm"), said("Never."))
    stage.plays([*stream[:events], gate, *stream[events:]])

    outputs = await stopped(stage, await stage.begin(), gate.reached.is_set)

    assert behind_the_stop(await stage.log()) == [
        "span.model_request_start",
        "span.model_request_end",
        "run.cancelled",
        "session.status_idle",
    ]
    drafts = {output.event_id for output in outputs if isinstance(output, DraftStarted)}
    assert {output.event_id for output in outputs if isinstance(output, DraftDiscarded)} == drafts


async def test_half_a_call_is_not_kept_nor_is_a_whole_one_of_an_answer_without_an_end(stage: Stage) -> None:
    gate, stream = Gate(), answer(said("I pay."), asked("pay", {"amount": 5}), asked("pay"))
    stage.plays([*stream[:-4], gate, *stream[-4:]])

    await stopped(stage, await stage.begin(), gate.reached.is_set)

    log = await stage.log()
    assert not only(e.AgentToolUse, log)
    assert [text_of(message.content) for message in only(e.AgentMessage, log)] == ["I pay."]
    assert stage.tools.called == []


async def test_the_pause_before_a_retry_is_not_waited_for_and_the_model_not_asked(stage: Stage) -> None:
    stage.plays(fails(retry_after_seconds=60))

    await stopped(stage, await stage.begin(), lambda: stage.clock.asleep)

    log = await stage.log()
    assert len(stage.model.requests) == 1
    assert behind_the_stop(log) == ["run.cancelled", "session.status_idle"]


async def test_a_tool_that_is_at_work_ends_its_result_is_kept_and_nothing_new_starts(stage: Stage) -> None:
    gate = Gate()
    stage.plays(answer(asked("pay", {"amount": 5}), asked("look")), pay=gate.tool)
    claim = await stage.begin()
    stage.runner.start(claim, stage.agent)
    await gate.reached.wait()

    await interrupt(stage)
    stage.runner.stop(claim.run_id)
    await settled()
    gate.opened.set()
    await stage.ended()

    log = await stage.log()
    [paid] = [result for result in only(e.AgentToolResult, log) if result.name == "pay"]
    assert (text_of(paid.content), paid.is_error) == ("done", False)
    assert behind_the_stop(log)[-2:] == ["run.cancelled", "session.status_idle"]
    assert "tool.intended" not in behind_the_stop(log)
    assert len(stage.model.requests) == 1


async def test_a_stop_that_comes_before_a_calls_intent_lets_it_not_be_made_and_the_model_learns_so(
    stage: Stage,
) -> None:
    stage.plays(answer(asked("pay", {"amount": 5})), answer(said("Good.")))
    claim, first = await stage.begin(), stage.engine.drive
    await interrupt(stage)

    heard = [output async for output in first(claim, stage.agent)]
    await stage.drive(await stage.begin("And now?"))

    assert stage.tools.called == []
    assert only(c.RunCancelled, heard)
    assert text_of(only(e.AgentToolResult, heard)[0].content).endswith("It was not made.")


async def test_a_stop_that_is_in_no_log_stops_nothing(stage: Stage) -> None:
    stage.plays(answer(said("Whole.")))
    claim, stop = await stage.begin(), Stop()
    stop.ask()

    heard = [output async for output in stage.engine.drive(claim, stage.agent, stop=stop)]

    assert only(e.RunFinished, heard)


async def test_the_session_goes_on_behind_a_stop_with_what_was_kept(stage: Stage) -> None:
    gate, stream = Gate(), answer(said("Half"))
    stage.plays([*stream[:3], gate, *stream[3:]], answer(said("Whole.")))
    await stopped(stage, await stage.begin("First"), gate.reached.is_set)

    await stage.drive(await stage.begin("Second"))

    assert [(each["role"], each["content"][0]["text"]) for each in stage.model.messages] == [
        ("user", "First"),
        ("assistant", "Half"),
        ("user", "Second"),
    ]


# Processes.


async def test_a_driver_in_the_same_process_hears_of_a_stop_at_once(stage: Stage) -> None:
    gate = Gate()
    stage.plays([gate, *answer()])
    stage.runner.look_seconds = 60
    claim = await stage.begin()
    stage.runner.start(claim, stage.agent)
    await gate.reached.wait()

    await interrupt(stage)
    stage.runner.stop(claim.run_id)

    assert only(c.RunCancelled, await stage.ended())


async def test_a_driver_in_another_process_hears_of_it_over_the_table(stage: Stage) -> None:
    gate, other = Gate(), stage.another()
    stage.plays([gate, *answer()])
    stage.runner.look_seconds = 0.01
    claim = await stage.begin()
    stage.runner.start(claim, stage.agent)
    await gate.reached.wait()

    await interrupt(other)
    other.runner.stop(claim.run_id)

    assert only(c.RunCancelled, await stage.ended())


async def test_a_look_that_fails_is_followed_by_another(stage: Stage) -> None:
    gate = Gate()
    stage.plays([gate, *answer()])
    stage.runner.look_seconds = 0.01
    claim = await stage.begin()
    stage.runner.start(claim, stage.agent)
    await gate.reached.wait()

    stage.table.away = True
    await asyncio.sleep(0.03)
    await interrupt(stage.another())
    stage.table.away = False

    assert only(c.RunCancelled, await stage.ended())


async def test_the_hint_is_for_the_driver_of_its_time_and_gone_with_the_next(stage: Stage) -> None:
    claim = await stage.begin()
    await interrupt(stage)
    hinted = await stage.store.drives.stopped(claim)

    later = await stage.take_over()
    left = await stage.store.drives.stopped(later), await stage.store.drives.stopped(claim)
    await stage.drive(later)
    stage.plays(answer())
    again = await stage.begin("Again")

    assert (hinted, left) == (True, (False, False))
    assert not await stage.store.drives.stopped(again)


async def test_a_stop_of_a_session_where_nothing_runs_is_kept_and_leaves_no_hint(stage: Stage) -> None:
    await stage.finish()
    before = await stage.session()

    await stage.store.words.say(stage.ref, lambda scribe, _: [busy.interrupt(scribe, "ann")])

    after, lock = await stage.session(), Lock.of(await stage.sqlite.get(stage.ref.lock()) or {})
    assert after == before.but(seq=before.seq + 1)
    assert not lock.interrupt


async def test_a_run_that_waits_for_a_person_is_woken_by_a_stop_and_closes(stage: Stage) -> None:
    call_id = await stage.park()

    await interrupt(stage)
    task = await stage.runner.resume(stage.ref)
    assert task is not None
    await task

    log = await stage.log()
    assert behind_the_stop(log)[-3:] == ["agent.tool_result", "run.cancelled", "session.status_idle"]
    [left] = [result for result in only(e.AgentToolResult, log) if result.tool_use_id == call_id]
    assert "not known" in text_of(left.content)


async def test_behind_a_stop_the_message_that_waits_begins_by_itself(stage: Stage) -> None:
    gate = Gate()
    stage.plays([gate, *answer()], answer(said("Next.")))
    claim = await stage.begin()
    stage.runner.start(claim, stage.agent)
    await gate.reached.wait()
    await stage.send("Do this instead")

    await interrupt(stage)
    stage.runner.stop(claim.run_id)
    await stage.follow_hints()

    assert types(await stage.log())[-1] == "session.status_idle"
    assert [text_of(each.content) for each in only(e.AgentMessage, await stage.log())] == ["Next."]


async def test_a_result_of_a_tool_whose_outcome_nobody_knows_is_said_to_be_unknown(stage: Stage) -> None:
    gate = Gate()

    async def hangs(arguments: object, context: object) -> ToolOutcome:
        await gate()
        return ToolOutcome("unknown", "timed out")

    stage.plays(answer(asked("pay")), pay=hangs)
    claim = await stage.begin()
    stage.runner.start(claim, stage.agent)
    await gate.reached.wait()

    await interrupt(stage)
    stage.runner.stop(claim.run_id)
    await settled()
    gate.opened.set()

    log = await stage.ended()
    assert behind_the_stop(log)[0] == "tool.outcome_unknown"
    assert "not known" in text_of(only(e.AgentToolResult, log)[0].content)

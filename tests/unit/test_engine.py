"""Whole runs: the production engine and store on SQLite, with a model and tools that play."""

import asyncio
import json
from typing import Any

import pytest
from inline_snapshot import snapshot
from parley.core import event as e
from parley.core.delta import DraftDiscarded, DraftGrew, DraftStarted
from parley.core.errors import Fenced
from parley.core.fold import fold
from parley.core.limits import MAX_BLOCKS_PER_ANSWER
from parley.core.run import Fail
from parley.core.tool import ToolContext, ToolOutcome

from tests import build
from tests.build import Stage, answer, asked, only, said, thought, types
from tests.fakes.flaky_table import Crash, Fault
from tests.fakes.gate import Gate
from tests.fakes.model import problem_of

pytestmark = pytest.mark.anyio

OPENING = ["user.message", "run.started", "session.status_running", "run.claimed"]


async def interrupted(stage: Stage, tool: str) -> str:
    """Play a run up to the middle of a call, where its process dies; return the call's id."""
    stage.plays(answer(asked(tool, {"amount": 5})), **{tool: Crash()})
    with pytest.raises(Crash):
        await stage.drive()
    [asked_for] = only(e.AgentToolUse, await stage.log())
    return asked_for.id


# A plain answer.


async def test_an_answer_streams_as_drafts_and_then_stands_in_the_log(stage: Stage) -> None:
    stage.plays(answer(thought("Hm"), said("Hel", "lo")))

    outputs = await stage.drive()

    assert types(outputs) == snapshot(
        [
            "user.message",
            "run.started",
            "session.status_running",
            "run.claimed",
            "draft started",
            "draft grew",
            "draft started",
            "draft grew",
            "span.model_request_start",
            "agent.thinking",
            "agent.message",
            "span.model_request_end",
            "run.finished",
            "session.status_idle",
        ]
    )
    assert [output for output in outputs if isinstance(output, e.EventBase)] == await stage.log()


async def test_a_stored_message_has_the_id_that_its_draft_had(stage: Stage) -> None:
    stage.plays(answer(said("Hel", "lo")))

    outputs = await stage.drive()

    [started] = [output for output in outputs if isinstance(output, DraftStarted)]
    grown = [output for output in outputs if isinstance(output, DraftGrew)]
    [message] = only(e.AgentMessage, outputs)
    assert {started.event_id, *(piece.event_id for piece in grown)} == {message.id}
    assert "".join(piece.text for piece in grown) == message.content[0].text


async def test_what_a_listener_saw_as_an_event_is_in_the_table_by_then(stage: Stage) -> None:
    stage.plays(answer(asked("pay")), answer(said()))
    claim = await stage.begin()

    async for output in stage.engine.drive(claim, stage.agent):
        if isinstance(output, e.EventBase):
            stored = [event.id for event in await stage.log()]
            assert output.id in stored


async def test_every_event_of_a_run_carries_its_run_and_the_callers_task(stage: Stage) -> None:
    stage.plays(answer(asked("pay")), answer(said()))
    claim = await stage.begin(task_id="ticket-7")

    await stage.drive(claim)

    assert {(event.run_id, event.task_id) for event in await stage.log()} == {(claim.run_id, "ticket-7")}


async def test_a_run_releases_the_session_when_it_ends(stage: Stage) -> None:
    stage.plays(answer(said()))

    await stage.drive()

    head, lock = await stage.store.sessions.open(stage.ref)
    assert (lock.run, lock.lease_until_ms) == (None, None)
    assert (head.phase, head.runs) == ("completed", 1)
    assert head.usage.input_tokens == 10


async def test_the_model_reads_the_whole_conversation_as_the_same_bytes_each_time(stage: Stage) -> None:
    stage.plays(answer(said("One")), answer(said("Two")))

    await stage.drive(await stage.begin("First"))
    await stage.drive(await stage.begin("Second"))

    first, second = stage.model.requests
    assert second.messages[: len(first.messages)] == first.messages
    assert [(message["role"], message["content"][0]["text"]) for message in stage.model.messages] == [
        ("user", "First"),
        ("assistant", "One"),
        ("user", "Second"),
    ]


# Tools.


async def test_a_call_is_stored_before_it_runs_and_its_result_before_the_next_model_call(stage: Stage) -> None:
    seen: list[list[str]] = []

    async def look_at_the_log(arguments: dict[str, Any], context: ToolContext) -> ToolOutcome:
        seen.append(types(await stage.log()))
        return ToolOutcome("ok", "paid")

    async def look_again() -> None:
        seen.append(types(await stage.log()))

    stage.plays(answer(asked("pay", {"amount": 5})), [look_again, *answer(said("Paid."))], pay=look_at_the_log)

    outputs = await stage.drive()

    before_the_call, before_the_model = seen
    assert before_the_call[-3:] == ["agent.tool_use", "span.model_request_end", "tool.intended"]
    assert before_the_model[-1] == "agent.tool_result"
    assert types(outputs) == snapshot(
        [
            "user.message",
            "run.started",
            "session.status_running",
            "run.claimed",
            "span.model_request_start",
            "agent.tool_use",
            "span.model_request_end",
            "tool.intended",
            "agent.tool_result",
            "draft started",
            "draft grew",
            "span.model_request_start",
            "agent.message",
            "span.model_request_end",
            "run.finished",
            "session.status_idle",
        ]
    )


async def test_a_tool_gets_its_arguments_and_who_is_asking(stage: Stage) -> None:
    stage.plays(answer(asked("pay", {"amount": 5})), answer(said()))
    claim = await stage.begin(new=build.head(metadata={"colour": "red"}), task_id="ticket-7")

    outputs = await stage.drive(claim)

    [called] = stage.tools.called
    [use], [intent] = only(e.AgentToolUse, outputs), only(e.ToolIntended, outputs)
    assert (called.name, called.arguments) == ("pay", {"amount": 5})
    assert called.context == ToolContext(
        tenant="acme",
        owner="ann",
        session_id="sesn_1",
        run_id=claim.run_id,
        tool_use_id=use.id,
        idempotency_key=intent.idempotency_key,
        task_id="ticket-7",
        metadata={"colour": "red"},
    )


async def test_the_model_reads_a_result_under_its_own_name_for_the_call(stage: Stage) -> None:
    stage.plays(answer(asked("pay", id="toolu_abc")), answer(said()), pay=ToolOutcome("error", "No money."))

    await stage.drive()

    assert stage.model.messages[-1] == {
        "role": "user",
        "content": [
            {
                "type": "tool_result",
                "tool_use_id": "toolu_abc",
                "content": [{"type": "text", "text": "No money."}],
                "is_error": True,
            }
        ],
    }


async def test_a_failed_tool_is_data_and_the_run_ends_completed_with_errors(stage: Stage) -> None:
    stage.plays(answer(asked("pay")), answer(said("Sorry.")), pay=ToolOutcome("error", "No money."))

    outputs = await stage.drive()

    [finished] = only(e.RunFinished, outputs)
    assert finished.status == "completed_with_errors"


async def test_a_read_has_no_intent_because_repeating_it_costs_nothing(stage: Stage) -> None:
    stage.plays(answer(asked("look")), answer(said()))

    outputs = await stage.drive()

    assert "tool.intended" not in types(outputs)
    assert stage.tools.names == ["look"]


async def test_parallel_calls_run_at_the_same_time_and_are_stored_as_they_finish(stage: Stage) -> None:
    fast_is_stored = asyncio.Event()

    async def slow(arguments: dict[str, Any], context: ToolContext) -> ToolOutcome:
        await fast_is_stored.wait()
        return ToolOutcome("ok", "slow")

    stage.plays(answer(asked("pay"), asked("look")), answer(said()), pay=slow, look=ToolOutcome("ok", "fast"))
    claim = await stage.begin()

    texts: list[str] = []
    async with asyncio.timeout(5):
        async for output in stage.engine.drive(claim, stage.agent):
            if isinstance(output, e.AgentToolResult):
                texts.append(output.content[0].text)
                fast_is_stored.set()

    assert texts == ["fast", "slow"]
    results = stage.model.messages[-1]["content"]
    assert [block["content"][0]["text"] for block in results] == ["slow", "fast"]


async def test_results_that_come_together_are_one_write(stage: Stage) -> None:
    stage.plays(answer(asked("look"), asked("look"), asked("look")), answer(said()))

    await stage.drive()

    writes = len(stage.table.writes)
    assert writes == len(["begin", "answer", "results", "end"])


async def test_results_that_come_together_are_stored_in_the_order_of_the_calls(stage: Stage) -> None:
    stage.plays(answer(*(asked("look") for _ in range(MAX_BLOCKS_PER_ANSWER))), answer(said()))

    outputs = await stage.drive()

    calls = [call.id for call in outputs if isinstance(call, e.AgentToolUse)]
    assert [result.tool_use_id for result in outputs if isinstance(result, e.AgentToolResult)] == calls


@pytest.mark.parametrize("tool", ["pay", "file", "look"])
async def test_as_many_parallel_calls_as_an_answer_may_have_all_run(stage: Stage, tool: str) -> None:
    stage.plays(answer(*(asked(tool) for _ in range(MAX_BLOCKS_PER_ANSWER))), answer(said()))

    outputs = await stage.drive()

    assert len(stage.tools.called) == MAX_BLOCKS_PER_ANSWER
    assert len(only(e.RunFinished, outputs)) == 1


@pytest.mark.parametrize(
    ("name", "json_text"),
    [
        ("nested 250 deep", '{"a":' * 250 + "1" + "}" * 250),
        ("nested 900 deep", '{"a":' * 900 + "1" + "}" * 900),
        ("a lone surrogate", '{"a": "\\ud800"}'),
        ("a number beyond all bounds", '{"a": 1e999}'),
    ],
)
async def test_arguments_that_cannot_be_kept_are_never_acted_on_and_leave_the_session_usable(
    stage: Stage, name: str, json_text: str
) -> None:
    bad = answer(asked("pay", json_text=json_text))
    stage.plays(bad, answer(said("Never mind.")), answer(said("Still here.")))

    await stage.drive()
    await stage.drive(await stage.begin("And now?"))

    assert stage.tools.called == []
    assert only(e.AgentMessage, await stage.log())[-1].content[0].text == "Still here."


# Failures of the model.


async def test_a_failed_model_call_is_told_and_tried_again(stage: Stage) -> None:
    stage.plays(build.fails("overloaded"), answer(said()))

    outputs = await stage.drive()

    assert types(outputs)[4:] == snapshot(
        [
            "span.model_request_start",
            "span.model_request_end",
            "session.error",
            "session.status_rescheduled",
            "draft started",
            "draft grew",
            "span.model_request_start",
            "agent.message",
            "span.model_request_end",
            "run.finished",
            "session.status_idle",
        ]
    )
    [error] = only(e.SessionError, outputs)
    assert (error.error.type, error.error.retry_status.type) == ("model_overloaded_error", "retrying")


async def test_retries_wait_longer_each_time(stage: Stage) -> None:
    stage.plays(*(build.fails() for _ in range(4)), answer(said()))

    await stage.drive()

    assert [seconds for seconds in stage.clock.slept if seconds] == [0.5, 1.0, 2.0, 4.0]


async def test_a_retry_waits_as_long_as_the_provider_asks(stage: Stage) -> None:
    stage.plays(build.fails("rate_limited", retry_after_seconds=7), answer(said()))

    outputs = await stage.drive()

    [rescheduled] = only(e.StatusRescheduled, outputs)
    assert (rescheduled.reason, rescheduled.after_seconds) == ("model_retry", 7)
    assert 7 in stage.clock.slept


async def test_when_retries_are_used_up_the_run_fails_and_the_session_stays_usable(stage: Stage) -> None:
    stage.plays(*(build.fails() for _ in range(5)), answer(said("Back again.")))

    outputs = await stage.drive()
    later = await stage.drive(await stage.begin("Hello?"))

    assert [error.error.retry_status.type for error in only(e.SessionError, outputs)] == [
        *["retrying"] * 4,
        "exhausted",
    ]
    [failed] = only(e.RunFailed, outputs)
    assert (failed.code, failed.retryable) == ("model_overloaded", True)
    assert only(e.StatusIdle, outputs)[-1].stop_reason.type == "retries_exhausted"
    assert only(e.AgentMessage, later)


async def test_a_request_that_will_be_refused_again_is_not_sent_again(stage: Stage) -> None:
    stage.plays(build.fails("refused_request"))

    outputs = await stage.drive()

    [error], [failed] = only(e.SessionError, outputs), only(e.RunFailed, outputs)
    assert error.error.retry_status.type == "terminal"
    assert (failed.code, failed.retryable) == ("model_refused_request", False)


async def test_drafts_of_a_broken_stream_are_discarded_and_nothing_of_them_is_stored(stage: Stage) -> None:
    broken = build.cut(answer(said("Half")), -3)
    stage.plays(broken, answer(said("Whole")))

    outputs = await stage.drive()

    first = next(output for output in outputs if isinstance(output, DraftStarted))
    assert DraftDiscarded(first.event_id) in outputs
    assert [message.content[0].text for message in only(e.AgentMessage, await stage.log())] == ["Whole"]


async def test_calls_of_a_stream_that_was_cut_are_never_made(stage: Stage) -> None:
    stage.plays(build.cut(answer(asked("pay", {"amount": 5}))), answer(said("Never mind.")))

    await stage.drive()

    assert stage.tools.called == []


async def test_a_refusal_fails_the_run_and_the_session_stays_usable(stage: Stage) -> None:
    stage.plays(answer(said("I"), stop_reason="refusal"), answer(said("Gladly.")))

    outputs = await stage.drive()
    later = await stage.drive(await stage.begin("Something else, then."))

    [failed] = only(e.RunFailed, outputs)
    assert failed.code == "model_refused"
    assert only(e.StatusIdle, outputs)[-1].stop_reason.type == "refusal"
    assert only(e.RunFinished, later)


@pytest.mark.parametrize("reason", ["max_tokens", "refusal", "model_context_window_exceeded"])
async def test_an_answer_that_stopped_while_thinking_leaves_a_session_that_can_go_on(stage: Stage, reason: str) -> None:
    stage.plays(answer(thought("Hm"), stop_reason=reason), answer(said("Here.")))

    await stage.drive()
    later = await stage.drive(await stage.begin("Go on."))

    assert only(e.RunFinished, later)


async def test_thinking_that_was_cut_before_its_signature_is_not_sent_back(stage: Stage) -> None:
    stream = answer(thought("Hm"), stop_reason="max_tokens")
    without_signature = [event for event in stream if event.get("delta", {}).get("type") != "signature_delta"]
    stage.plays([event for event in without_signature if event["type"] != "content_block_stop"], answer(said("Here.")))

    await stage.drive()
    later = await stage.drive(await stage.begin("Go on."))

    assert only(e.RunFinished, later)


async def test_a_call_that_max_tokens_cut_off_is_not_made_and_the_session_can_go_on(stage: Stage) -> None:
    stage.plays(
        answer(thought(), said("I pay"), asked("pay", json_text='{"amo'), stop_reason="max_tokens"),
        answer(said("Here.")),
    )

    outputs = await stage.drive()
    await stage.drive(await stage.begin("Go on."))

    assert stage.tools.called == []
    [finished] = only(e.RunFinished, outputs)
    assert (finished.status, finished.stop_reason) == ("completed_with_errors", "max_tokens")


async def test_thinking_before_a_call_that_max_tokens_cut_off_leaves_a_session_that_can_go_on(stage: Stage) -> None:
    stage.plays(
        answer(thought(), asked("pay", json_text='{"amo'), stop_reason="max_tokens"),
        answer(said("Here.")),
    )

    await stage.drive()
    later = await stage.drive(await stage.begin("Go on."))

    assert only(e.RunFinished, later)


async def test_an_empty_answer_ends_the_run_and_the_session_can_go_on(stage: Stage) -> None:
    empty = answer(said(""), stop_reason="end_turn")
    stage.plays(empty, answer(said("Here.")))

    outputs = await stage.drive()
    await stage.drive(await stage.begin("Go on."))

    assert only(e.RunFinished, outputs)
    assert [output for output in outputs if isinstance(output, DraftDiscarded)]


async def test_an_answer_that_is_paused_is_asked_for_again_from_its_start(stage: Stage) -> None:
    stage.plays(answer(said("I lo"), stop_reason="pause_turn"), answer(said("Done.")))

    outputs = await stage.drive()

    first, second = stage.model.requests
    assert first == second
    assert only(e.RunFinished, outputs)


async def test_after_a_deploy_thinking_of_the_older_agent_is_left_out(stage: Stage) -> None:
    stage.plays(answer(thought("Hm"), said("One")), answer(said("Two")))
    await stage.drive()
    newer = build.agent(build.PAY)

    claim = await stage.store.claims.begin(stage.ref, newer, "Again")
    _ = [output async for output in stage.engine.drive(claim, newer)]

    kinds = [block["type"] for message in stage.model.messages for block in message["content"]]
    assert kinds == ["text", "text", "text"]


# Limits.


async def test_a_run_that_goes_round_in_circles_ends_at_its_step_limit(stage: Stage) -> None:
    stage.agent = build.agent(max_steps=3)
    stage.plays(*(answer(asked("look")) for _ in range(3)))

    outputs = await stage.drive()

    [failed] = only(e.RunFailed, outputs)
    assert failed.code == "step_limit"
    assert len(stage.model.requests) == 3
    assert problem_of(fold(await stage.session(), [build.message()]).context) is None


async def test_the_last_step_may_be_the_answer(stage: Stage) -> None:
    stage.agent = build.agent(max_steps=2)
    stage.plays(answer(asked("look")), answer(said()))

    outputs = await stage.drive()

    assert only(e.RunFinished, outputs)


async def test_a_run_that_kills_every_driver_is_given_up(stage: Stage) -> None:
    stage.plays(answer(asked("look")), look=Crash())
    with pytest.raises(Crash):
        await stage.drive()

    crashes = 0
    while True:
        claim = await stage.take_over()
        try:
            outputs = await stage.drive(claim)
            break
        except Crash:
            crashes += 1

    [failed] = only(e.RunFailed, outputs)
    assert failed.code == "poisoned"
    assert crashes == stage.agent.limits.max_claims
    assert problem_of(fold(await stage.session(), [build.message()]).context) is None


async def test_progress_forgives_earlier_drivers_that_died(stage: Stage) -> None:
    stage.plays(*(answer(asked("look")) for _ in range(9)), look=Crash())
    with pytest.raises(Crash):
        await stage.drive()

    for _ in range(8):
        stage.tools.plays["look"] = ToolOutcome("ok", "seen")
        claim = await stage.take_over()
        driving = stage.engine.drive(claim, stage.agent)
        async for output in driving:
            if isinstance(output, e.AgentToolResult):
                break
        await driving.aclose()

    assert not only(e.RunFailed, await stage.log())


# Somebody else wrote first.


async def word_of_another(stage: Stage) -> None:
    """Append something to the log that changes nothing, as an API writer does."""
    log = stage.store.log
    events = await log.tail(stage.ref, 0)
    item = build.event(e.ToolOutcomeDecided, tool_use_id="none")
    await log.append(stage.ref, events[-1].seq, [item])


async def test_facts_are_kept_when_the_slot_was_taken(stage: Stage) -> None:
    async def intrude() -> None:
        stage.table.before_next(lambda: word_of_another(stage))

    stage.plays([*answer(said("Precious")), intrude])

    outputs = await stage.drive()

    assert only(e.ToolOutcomeDecided, outputs), "a listener hears what others append, too"
    assert len(stage.model.requests) == 1
    assert [message.content[0].text for message in only(e.AgentMessage, outputs)] == ["Precious"]
    log = await stage.log()
    assert [event.seq for event in log] == list(range(1, len(log) + 1))
    assert types(log)[4:6] == ["tool.outcome_decided", "span.model_request_start"]


async def test_results_are_kept_when_the_slot_was_taken(stage: Stage) -> None:
    hold = asyncio.Event()

    async def slow(arguments: dict[str, Any], context: ToolContext) -> ToolOutcome:
        await hold.wait()
        return ToolOutcome("ok", "slow")

    async def fast(arguments: dict[str, Any], context: ToolContext) -> ToolOutcome:
        async def intrude() -> None:
            await word_of_another(stage)
            hold.set()

        stage.table.before_next(intrude)
        return ToolOutcome("ok", "fast")

    stage.plays(answer(asked("pay"), asked("file")), answer(said()), pay=slow, file=fast)

    outputs = await stage.drive()

    assert stage.tools.names == ["pay", "file"]
    assert sorted(each.content[0].text for each in only(e.AgentToolResult, outputs)) == ["fast", "slow"]
    assert only(e.RunFinished, outputs)


async def test_an_intent_that_lost_its_slot_is_decided_again(stage: Stage) -> None:
    """A person's word comes while another call is under way; the calls decided after it follow from the new log."""
    call_id = await interrupted(stage, "pay")
    await stage.drive(await stage.take_over())
    await stage.decide(call_id, "retry")
    stage.plays(answer(said("Done.")), pay=ToolOutcome("ok", "paid"))
    claim = await stage.take_over()

    async def decided_elsewhere() -> None:
        session = await stage.session()
        await stage.store.log.append(stage.ref, session.seq, [build.result(call_id, "It happened after all.")])

    stage.table.before_next(decided_elsewhere)
    await stage.drive(claim)

    assert stage.tools.names == ["pay"]
    assert stage.model.messages[-1]["content"][0]["content"][0]["text"] == "It happened after all."


async def test_a_write_whose_answer_was_lost_is_adopted(stage: Stage) -> None:
    stage.plays(answer(asked("pay")), answer(said()))
    claim = await stage.begin()
    stage.table.fail_next("unconfirmed")

    outputs = await stage.drive(claim)

    assert only(e.RunFinished, outputs)
    assert stage.tools.names == ["pay"]
    assert types(await stage.log()).count("agent.tool_use") == 1


async def test_a_write_that_never_arrived_is_repeated(stage: Stage) -> None:
    stage.plays(answer(said()))
    claim = await stage.begin()
    stage.table.fail_next("lost", "lost", "unconfirmed")

    outputs = await stage.drive(claim)

    assert only(e.RunFinished, outputs)
    assert types(await stage.log()).count("agent.message") == 1


async def test_an_end_whose_answer_was_lost_is_said_once(stage: Stage) -> None:
    stage.plays(answer(said()))
    claim = await stage.begin()
    stage.table.before_next(lambda: asyncio.sleep(0))
    stage.table.fail_next("unconfirmed")

    outputs = await stage.drive(claim)

    assert len(only(e.RunFinished, outputs)) == len(only(e.RunFinished, await stage.log())) == 1
    assert (await stage.store.sessions.open(stage.ref))[1].run is None


# Drivers that lost their run.


async def test_a_driver_that_was_taken_over_stores_nothing_more(stage: Stage) -> None:
    other = stage.another().plays(answer(said("From the new one")))

    async def taken_over() -> None:
        await other.drive(await other.take_over())

    stage.plays([taken_over, *answer(said("From the old one"))])

    with pytest.raises(Fenced):
        await stage.drive()

    assert [message.content[0].text for message in only(e.AgentMessage, await stage.log())] == ["From the new one"]


async def test_a_driver_that_was_taken_over_starts_no_further_call(stage: Stage) -> None:
    other = stage.another().plays(answer(said("No payment.")))

    async def taken_over() -> None:
        await other.drive(await other.take_over())

    stage.plays([taken_over, *answer(asked("pay"))])

    with pytest.raises(Fenced):
        await stage.drive()

    assert stage.tools.called == []


async def test_a_driver_that_was_taken_over_during_a_call_drops_the_late_result(stage: Stage) -> None:
    other = stage.another()

    async def taken_over(arguments: dict[str, Any], context: ToolContext) -> ToolOutcome:
        await other.drive(await other.take_over())
        return ToolOutcome("ok", "too late")

    stage.plays(answer(asked("pay")), pay=taken_over)

    with pytest.raises(Fenced):
        await stage.drive()

    log = await stage.log()
    assert only(e.AgentToolResult, log) == []
    assert types(log)[-2:] == ["tool.outcome_unknown", "session.status_idle"]
    assert other.tools.called == []


async def test_a_driver_that_was_taken_over_has_called_off_its_other_calls_when_it_ends(stage: Stage) -> None:
    looking = Gate()
    calls: list[asyncio.Task[object] | None] = []

    async def look(arguments: dict[str, Any], context: ToolContext) -> ToolOutcome:
        calls.append(asyncio.current_task())
        return await looking.tool(arguments, context)

    async def taken_over() -> None:
        await looking.reached.wait()
        await stage.another().take_over()

    stage.plays(answer(asked("pay"), asked("look")), look=look)
    claim = await stage.begin()

    stage.table.before_next(taken_over, skip=1)
    with pytest.raises(Fenced):
        await stage.drive(claim)

    [call] = calls
    assert call is not None
    assert call.cancelling()


async def test_a_driver_that_was_taken_over_cannot_end_the_run(stage: Stage) -> None:
    other = stage.another()
    stage.plays(answer(asked("look")), answer(said()))
    claim = await stage.begin()

    async def taken_over() -> None:
        await other.take_over()

    stage.table.before_next(taken_over, skip=2)
    with pytest.raises(Fenced):
        await stage.drive(claim)

    assert only(e.RunFinished, await stage.log()) == []
    assert (await stage.store.sessions.open(stage.ref))[1].run == claim.run_id


async def test_deleting_a_session_stops_its_run_at_the_next_step(stage: Stage) -> None:
    async def delete(arguments: dict[str, Any], context: ToolContext) -> ToolOutcome:
        await stage.store.sessions.delete(stage.ref)
        return ToolOutcome("ok", "seen")

    stage.plays(answer(asked("look")), look=delete)

    with pytest.raises(Fenced):
        await stage.drive()

    assert types(await stage.log())[-1] == "session.deleted"
    assert len(stage.model.requests) == 1


# Interrupted calls.


@pytest.mark.parametrize("tool", ["file", "look"])
async def test_an_interrupted_call_that_is_safe_to_repeat_is_made_again_with_the_same_key(
    stage: Stage, tool: str
) -> None:
    call_id = await interrupted(stage, tool)
    stage.plays(answer(said("Done.")), **{tool: ToolOutcome("ok", "done")})

    outputs = await stage.drive(await stage.take_over())

    first, second = stage.tools.called
    assert first == second
    assert first.context.idempotency_key == f"{stage.ref.id}.{call_id}"
    assert only(e.RunFinished, outputs)


async def test_an_interrupted_payment_is_never_repeated_and_the_session_waits_for_a_person(stage: Stage) -> None:
    call_id = await interrupted(stage, "pay")

    outputs = await stage.drive(await stage.take_over())

    assert types(outputs) == snapshot(
        ["run.claimed", "session.status_rescheduled", "tool.outcome_unknown", "session.status_idle"]
    )
    [idle] = only(e.StatusIdle, outputs)
    assert (idle.stop_reason.type, idle.stop_reason.event_ids) == ("requires_action", (call_id,))
    assert stage.tools.names == ["pay"]
    head, lock = await stage.store.sessions.open(stage.ref)
    assert (head.phase, lock.lease_until_ms) == ("waiting", None)
    assert lock.run is not None


async def test_the_effect_stored_with_an_intent_counts_after_a_deploy_that_calls_it_safe(stage: Stage) -> None:
    await interrupted(stage, "pay")
    stage.agent = build.agent(build.a_tool("pay", "idempotent"))

    outputs = await stage.drive(await stage.take_over())

    assert stage.tools.names == ["pay"]
    assert only(e.ToolOutcomeUnknown, outputs)


async def test_a_call_whose_intent_was_not_stored_was_never_made_and_is_made_now(stage: Stage) -> None:
    stage.plays(answer(asked("pay")), answer(asked("pay")), answer(said()))
    claim = await stage.begin()
    stage.table.fail_next("crash")
    with pytest.raises(Crash):
        await stage.drive(claim)
    assert stage.tools.called == []

    outputs = await stage.drive(await stage.take_over())

    assert stage.tools.names == ["pay"]
    assert only(e.RunFinished, outputs)


async def test_a_call_whose_intent_was_stored_as_the_process_died_waits_for_a_person(stage: Stage) -> None:
    stage.plays(answer(asked("pay")))
    claim = await stage.begin()
    stage.table.fail_next("crash_after")
    with pytest.raises(Crash):
        await stage.drive(claim)

    outputs = await stage.drive(await stage.take_over())

    assert stage.tools.called == []
    assert only(e.ToolOutcomeUnknown, outputs)


async def test_a_call_that_timed_out_waits_for_a_person(stage: Stage) -> None:
    stage.plays(answer(asked("pay")), pay=ToolOutcome("unknown", "timed out"))

    outputs = await stage.drive()

    assert types(outputs)[-3:] == ["tool.intended", "tool.outcome_unknown", "session.status_idle"]
    assert types(outputs).count("tool.outcome_unknown") == 1


@pytest.mark.parametrize(
    ("outcome", "result", "read", "is_error", "calls"),
    [
        ("happened", "Receipt 7", "Receipt 7", False, 1),
        ("happened", None, "It happened.", False, 1),
        (
            "did_not_happen",
            None,
            "This call was interrupted. A person has checked: it did not happen.",
            True,
            1,
        ),
        ("retry", None, "paid", False, 2),
    ],
)
async def test_a_persons_word_on_an_unknown_outcome_lets_the_run_end(
    stage: Stage, outcome: e.OutcomeWord, result: str | None, read: str, is_error: bool, calls: int
) -> None:
    call_id = await interrupted(stage, "pay")
    await stage.drive(await stage.take_over())
    stage.plays(answer(said("Done.")), pay=ToolOutcome("ok", "paid"))

    await stage.decide(call_id, outcome, result)
    outputs = await stage.drive(await stage.take_over())

    assert only(e.RunFinished, outputs)
    assert len(stage.tools.called) == calls
    [block] = stage.model.messages[-1]["content"]
    assert (block["content"][0]["text"], block["is_error"]) == (read, is_error)


async def test_a_call_that_a_person_lets_run_again_is_a_second_attempt_with_the_same_key(stage: Stage) -> None:
    call_id = await interrupted(stage, "pay")
    await stage.drive(await stage.take_over())
    stage.plays(answer(said("Done.")), pay=ToolOutcome("ok", "paid"))

    await stage.decide(call_id, "retry")
    await stage.drive(await stage.take_over())

    first, second = only(e.ToolIntended, await stage.log())
    assert (first.attempt, second.attempt) == (1, 2)
    assert first.idempotency_key == second.idempotency_key


async def test_with_two_unknown_outcomes_the_first_word_asks_for_the_rest(stage: Stage) -> None:
    stage.plays(answer(asked("pay"), asked("pay")), pay=ToolOutcome("unknown", "?"))
    await stage.drive()
    one, two = (each.id for each in only(e.AgentToolUse, await stage.log()))

    await stage.decide(one, "happened")
    outputs = await stage.drive(await stage.take_over())

    [idle] = only(e.StatusIdle, outputs)
    assert idle.stop_reason.event_ids == (two,)


async def test_an_unknown_outcome_does_not_hold_up_its_neighbours(stage: Stage) -> None:
    stage.plays(answer(asked("pay"), asked("look")), pay=ToolOutcome("unknown", "?"), look=ToolOutcome("ok", "seen"))

    outputs = await stage.drive()

    assert [each.content[0].text for each in only(e.AgentToolResult, outputs)] == ["seen"]
    assert only(e.StatusIdle, outputs)[-1].stop_reason.type == "requires_action"


GONE = Fail("agent_not_found", "It is gone.")


async def test_a_run_that_is_given_up_says_so_and_keeps_the_callers_task(stage: Stage) -> None:
    await stage.begin(task_id="ticket-7")
    claim = await stage.take_over()

    outputs = [event async for event in stage.engine.give_up(claim, stage.agent, GONE)]

    [failed] = only(e.RunFailed, outputs)
    assert (failed.code, failed.run_id, failed.task_id) == ("agent_not_found", claim.run_id, "ticket-7")
    assert [*claim.events, *(await stage.log())[-2:]] == outputs


async def test_a_run_is_given_up_even_when_somebody_else_writes_at_the_same_time(stage: Stage) -> None:
    await stage.begin()
    claim = await stage.take_over()
    stage.table.before_next(lambda: word_of_another(stage))

    outputs = [event async for event in stage.engine.give_up(claim, stage.agent, GONE)]

    assert outputs == (await stage.log())[-len(outputs) :]
    assert types(await stage.log())[-2:] == ["run.failed", "session.status_idle"]


# Crashes everywhere.


@pytest.mark.parametrize("fault", ["crash", "crash_after"])
@pytest.mark.parametrize("turn", [1, 2, 3, 4])
async def test_a_crash_at_any_write_is_followed_by_a_run_that_ends_visibly_and_pays_at_most_once(
    stage: Stage, fault: Fault, turn: int
) -> None:
    stage.plays(answer(said("I pay."), asked("pay"), asked("file")), answer(said("Paid.")))
    stage.table.faults[turn] = fault
    with pytest.raises(Crash):
        await stage.drive()
    healer = stage.another().plays(answer(said("I go on.")), answer(said("I go on.")))

    claim = await stage.store.claims.take_over(stage.ref, void_lease=True)
    if claim:
        await healer.drive(claim)

    log = await stage.log()
    assert types(log)[-1:] == ([] if (fault, turn) == ("crash", 1) else ["session.status_idle"])
    assert (stage.tools.names + healer.tools.names).count("pay") <= 1
    assert problem_of(fold(await stage.session(), [build.message()]).context) is None


def test_the_fake_model_refuses_what_the_api_refuses() -> None:
    orphan = json.dumps({"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_x"}]}).encode()

    problem = problem_of([orphan])

    assert problem is not None
    assert "tool_use_id" in problem
